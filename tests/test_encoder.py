"""Claims about the encoder: the layer of Eq. 1, and what the context does."""

import pytest
import torch
from torch import nn
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import add_self_loops

from hypernas.errors import UserError
from hypernas.graph import Architecture, collate
from hypernas.method.encoder import CONTEXTS, DirectedGCNLayer, GlobalEncoder, propagation

SIZE = {"n_ops": 5, "n_layers": 3, "width": 6}


class OneDirection(MessagePassing):
    """ReLU of the mean over a node and its neighbours of v W, an edge as often as it is counted."""

    def __init__(self, weight, flow):
        super().__init__(aggr="mean", flow=flow)
        self.weight = weight

    def forward(self, x, edge_index):
        return self.propagate(add_self_loops(edge_index, num_nodes=len(x))[0], x=x @ self.weight).relu()


def test_the_dense_layer_is_eq_1_as_torch_geometric_passes_messages(double, architecture):
    layer = DirectedGCNLayer(6)
    against = OneDirection(layer.weight[0], flow="target_to_source")  # the first averages over the nodes it feeds
    along = OneDirection(layer.weight[1], flow="source_to_target")
    batch = collate([architecture(n_nodes=(n, 4)) for n in (3, 5, 8)])
    batch.adjacency[:, 0, 0, 1] = 3
    x = torch.randn(3, 8, 6)
    dense = layer(x, propagation(batch.adjacency[:, 0], batch.mask[:, 0], x.dtype))
    for i in range(3):
        graph = batch.architecture(i).to_pyg()[0]
        edges = graph.edge_index.repeat_interleave(graph.count, dim=1)
        v = x[i, : graph.num_nodes]
        assert torch.allclose(dense[i, : len(v)], 0.5 * against(v, edges) + 0.5 * along(v, edges), atol=1e-12)


@pytest.mark.parametrize("context", CONTEXTS)
def test_order_of_cells_matters_only_with_context(context, double, architecture):
    torch.manual_seed(0)
    encoder = GlobalEncoder(**SIZE, context=context)
    cells = architecture(n_nodes=(7, 5)).cells
    orders = [(0, 0, 1), (0, 1, 0), (1, 0, 0)]
    h, _ = encoder(collate([Architecture(cells, order) for order in orders]))
    equal = [torch.allclose(h[0], h[i], atol=1e-9) for i in (1, 2)]
    assert equal == [context == "none"] * 2


def test_each_kind_of_cell_has_a_gcn_of_its_own(double, architecture):
    encoder = GlobalEncoder(**SIZE)
    (cell, _), index = architecture(n_nodes=(6, 6)).cells, (0, 0)
    batches = [collate([Architecture((type(cell)(cell.ops, cell.adjacency, kind),), index)]) for kind in (0, 1)]
    before = [encoder(batch)[0] for batch in batches]
    assert not torch.allclose(*before)
    nn.init.zeros_(encoder.gcn[1][0].weight)
    assert torch.equal(encoder(batches[0])[0], before[0])
    assert not torch.equal(encoder(batches[1])[0], before[1])


@pytest.mark.parametrize("context", CONTEXTS)
def test_padding_and_batch_mates_change_nothing(context, double, architecture):
    encoder = GlobalEncoder(**SIZE, context=context)
    alone = [architecture((0, 1, 0), (5, 4)), architecture((0, 0), (4, 3))]
    mates = [architecture((1, 0, 0, 1, 0, 1), (9, 11)), architecture((0,), (3, 3))]
    together, nodes = encoder(collate(alone + mates))
    for i, one in enumerate(alone):
        h, one_nodes = encoder(collate([one]))
        assert torch.allclose(together[i], h[0], atol=1e-12)
        batch = collate([one])
        real = batch.mask[0, batch.sequence[0]]
        c, n = real.shape
        assert torch.allclose(nodes[i, :c, :n][real], one_nodes[0][real], atol=1e-12)


def test_isomorphic_cells_have_equal_embeddings(double, architecture, twin):
    made = architecture(n_nodes=(8, 6))
    h, _ = GlobalEncoder(**SIZE)(collate([made, twin(made)]))
    assert torch.allclose(h[0], h[1], atol=1e-12)


def test_an_unknown_context_is_a_user_error():
    with pytest.raises(UserError, match="context must be one of sum, concat, position, none, got 'mean'"):
        GlobalEncoder(**SIZE, context="mean")
