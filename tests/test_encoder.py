"""Claims about the encoder: the layer of Eq. 1, what the context does, and the fused twin for many seeds."""

import weakref

import pytest
import torch
from torch import nn
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import add_self_loops

from hypernas.errors import UserError
from hypernas.fast.fused_encoder import EncodeSequence
from hypernas.fast.model import ArchitecturePredictor, Cells, Stack, encode, regress, score
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


@pytest.mark.parametrize("context", CONTEXTS)
def test_the_fused_encoder_has_the_values_and_gradients_of_the_plain_one(context, double, architecture):
    """Three seeds, each with its own architectures and steps, in one pass."""
    models = []
    for seed in range(3):
        torch.manual_seed(seed)
        models.append(ArchitecturePredictor(**SIZE, context=context))
    sets = [collate([architecture((0, 0, 1, 0, 1, 0), (n, 5)) for n in (4, 7, 6, 5)]) for _ in range(3)]
    index = torch.tensor([[0, 2], [3, 1], [1, 1]])
    stack, cells = Stack(models), Cells(sets, torch.float64)
    h, nodes = encode(stack.parameters, context, 3, cells, index, want_nodes=True)
    pull_h, pull_nodes = torch.randn_like(h), torch.randn_like(nodes)
    (
        regress(stack.parameters, h).square().sum() + (h * pull_h).sum() + _real(nodes * pull_nodes, sets, index)
    ).backward()
    for s, model in enumerate(models):
        part = sets[s][index[s]]
        plain_h, plain_nodes = model.encoder(part)
        plain_nodes = plain_nodes.transpose(0, 1)
        assert torch.allclose(h[s], plain_h, atol=1e-10)
        real = part.mask[:, part.sequence[0]].transpose(0, 1)
        assert torch.allclose(nodes[s][real], plain_nodes[real], atol=1e-10)
        loss = model.regressor(plain_h).square().sum() + (plain_h * pull_h[s]).sum()
        (loss + (plain_nodes * pull_nodes[s])[real].sum()).backward()
        for name, parameter in model.named_parameters():
            assert torch.allclose(stack.parameters[name].grad[s], parameter.grad, atol=1e-9), name


def _real(values, sets, index):
    """The sum over real nodes of values (S, C, b, N, D)."""
    total = 0
    for s, batch in enumerate(sets):
        part = batch[index[s]]
        total = total + values[s][part.mask[:, part.sequence[0]].transpose(0, 1)].sum()
    return total


@pytest.mark.parametrize("n_seeds", [1, 2])
def test_a_step_of_the_fused_encoder_leaves_nothing_in_memory(n_seeds, architecture):
    """A view of an output that the way back keeps would hold itself, where Python's collector does not look."""
    sets = [collate([architecture(), architecture()]) for _ in range(n_seeds)]
    stack = Stack([GlobalEncoder(**SIZE, context="sum") for _ in sets])
    cells, index = Cells(sets, torch.float32), torch.tensor([[0, 1]] * n_seeds)
    ops, propagate, pool = cells[index]
    weight = torch.stack([stack.parameters["gcn.0.0.weight"]] * 2)[:, None].transpose(2, 3)
    v = torch.randn(*ops.shape, 6, requires_grad=True)
    held = weakref.ref(v)
    z = EncodeSequence.apply(v, weight, None, None, propagate, pool, cells.layout(index).groups, True, False)[0]
    z.sum().backward()
    del z, v
    assert held() is None


@pytest.mark.parametrize("context", CONTEXTS)
def test_scores_are_the_plain_models_for_any_mix_of_sequences_and_sizes(context, double, architecture):
    model = ArchitecturePredictor(**SIZE, context=context)
    sequences = [(0, 1, 0), (0, 0), (1, 0, 0, 1)]
    batch = collate([architecture(sequences[i % 3], (3 + i % 5, 3 + i % 2)) for i in range(12)])
    (scores,) = score([model], [batch], chunk=2)
    assert torch.allclose(scores, model(batch)[0], atol=1e-10)


def test_equal_functions_have_the_same_bits_of_score(architecture, twin):
    model = ArchitecturePredictor(**SIZE, context="sum")
    made = [architecture(n_nodes=(6, 4)) for _ in range(4)]
    (scores,) = score([model], [collate(made + [twin(a) for a in made])])
    assert torch.equal(scores[:4], scores[4:])


def test_a_stack_trains_only_what_its_models_train():
    models = [ArchitecturePredictor(**SIZE, context="sum") for _ in range(2)]
    for model in models:
        model.regressor.out.bias.requires_grad_(False)
    frozen = [name for name, p in Stack(models).parameters.items() if not p.requires_grad]
    assert frozen == ["regressor.out.bias"]


def test_an_unknown_context_or_operation_is_a_user_error(architecture):
    with pytest.raises(UserError, match="context must be one of sum, concat, position, none, got 'mean'"):
        GlobalEncoder(**SIZE, context="mean")
    with pytest.raises(UserError, match="operations must be below 3"):
        score([ArchitecturePredictor(3, 1, 4, "sum")], [collate([architecture(n_nodes=(9, 9))])])
