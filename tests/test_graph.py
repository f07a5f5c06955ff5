"""Claims about hypernas.graph: what goes in comes out, equal functions have equal ids, cleaning keeps the function."""

import networkx
import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from hypernas import spaces
from hypernas.canonical import GRAPH_FORMS, simplify
from hypernas.errors import UserError
from hypernas.graph import Architecture, Cell, collate
from hypernas.method.target_network import TargetHead, run

TWO = ((0, 1), (0, 0))


def same(a, b):
    return all(torch.equal(getattr(a, f), getattr(b, f)) for f in ("ops", "adjacency", "mask", "kind", "sequence"))


def test_architecture_is_the_inverse_of_collate(architecture):
    made = [architecture((0, 1, 0), (n, 4)) for n in (3, 6, 5)] + [architecture((0,), (4,))]
    batch = collate(made)
    assert [batch.architecture(i) for i in range(4)] == made
    assert same(collate([batch.architecture(i) for i in range(4)]), batch)


def test_indexing_takes_architectures(architecture):
    made = [architecture() for _ in range(5)]
    batch = collate(made)
    assert same(batch[torch.tensor([3, 1])], collate([made[3], made[1]]))
    assert same(batch[1:4], collate(made[1:4]))


def test_trimming_drops_the_padding_and_nothing_else(architecture):
    long = architecture((0, 1, 1, 0), n_nodes=(7, 4))
    batch = collate([architecture((0, 0), n_nodes=(4, 4)), long, architecture((0, 1, 0, 0, 1), n_nodes=(5, 9))])
    small = batch[:1].trimmed()
    assert small.ops.shape == (1, 1, 4)
    assert small.sequence.shape == (1, 2)
    assert same(batch[1:2].trimmed(), collate([long]))
    assert small.architecture(0) == batch.architecture(0)


def test_from_pyg_is_the_inverse_of_to_pyg(architecture):
    space = spaces.get("nasbench201")
    some = [architecture(), space.sample(np.random.default_rng(0))]
    some += [space.canonical(some[1], form) for form in GRAPH_FORMS]
    for a in some:
        assert Architecture.from_pyg(a.to_pyg()) == a


def test_pyg_graphs_have_the_edges_of_the_cell():
    (graph,) = Architecture((Cell((0, 2, 1), ((0, 2, 1), (0, 0, 1), (0, 0, 0))),), (0,)).to_pyg()
    assert isinstance(graph, Data)
    assert graph.edge_index.tolist() == [[0, 0, 1], [1, 2, 2]]
    assert graph.count.tolist() == [2, 1, 1]


def test_a_pyg_graph_without_counts_has_single_edges():
    graph = Data(x=torch.tensor([0, 1]), edge_index=torch.tensor([[0], [1]]), kind=1)
    graph.sequence, graph.notation = torch.tensor([0, 0]), ""
    assert Architecture.from_pyg([graph]) == Architecture((Cell((0, 1), TWO, 1),), (0, 0))


def test_isomorphic_architectures_have_equal_function_ids(architecture, twin):
    made = [architecture(n_nodes=(7, 5)) for _ in range(30)]
    ids = collate(made).function_ids()
    assert (ids == collate([twin(a) for a in made]).function_ids()).all()
    assert len(set(ids)) == 30


def test_padding_does_not_change_function_ids(architecture):
    made = [architecture(n_nodes=(n, 4)) for n in (4, 5, 6)]
    padded = collate([*made, architecture(n_nodes=(12, 9), sequence=(0, 1) * 9)])
    assert (padded.function_ids()[:3] == collate(made).function_ids()).all()
    assert (padded[:3].trimmed().function_ids() == collate(made).function_ids()).all()


@pytest.mark.parametrize("change", ["operation", "edge", "count", "kind", "order", "length"])
def test_every_part_of_an_architecture_is_in_its_function_id(change):
    cells = [Cell((0, 2, 3, 1), ((0, 1, 1, 0), (0, 0, 1, 1), (0, 0, 0, 1), (0, 0, 0, 0)), kind) for kind in (0, 1)]
    sequence = (0, 1, 0)
    if change == "operation":
        other = Cell((0, 3, 2, 1), cells[0].adjacency)
    elif change == "edge":
        other = Cell(cells[0].ops, ((0, 1, 1, 0), (0, 0, 0, 1), (0, 0, 0, 1), (0, 0, 0, 0)))
    elif change == "count":
        other = Cell(cells[0].ops, ((0, 2, 1, 0), (0, 0, 1, 1), (0, 0, 0, 1), (0, 0, 0, 0)))
    elif change == "kind":
        other = cells[1]
    else:
        other, sequence = cells[0], (0, 0, 1) if change == "order" else (0, 1, 0, 0)
    a, b = Architecture(tuple(cells), (0, 1, 0)), Architecture((other, cells[1]), sequence)
    assert collate([a]).function_ids() != collate([b]).function_ids()


def _networkx(batch):
    graph = networkx.DiGraph()
    n = int(batch.mask[0, 0].sum())
    graph.add_nodes_from((i, {"is": op}) for i, op in enumerate(batch.ops[0, 0, :n].tolist()))
    adjacency = batch.adjacency[0, 0]
    graph.add_edges_from((i, j, {"is": int(adjacency[i, j])}) for i, j in adjacency.nonzero().tolist())
    return graph


@pytest.mark.parametrize(
    ("graph_form", "n_arrays", "n_functions"), [("pruned", 9365, 8765), ("contracted", 6812, 5425)]
)
def test_function_ids_count_the_functions_of_nasbench201(nasbench201, graph_form, n_arrays, n_functions, rng):
    """An oracle (networkx) agrees on a sample of pairs; over all pairs, once, it gave the same counts."""
    batch = nasbench201.graphs(graph_form)
    ops, adjacency = batch.ops[:, 0].numpy().astype(np.uint8), batch.adjacency[:, 0].flatten(1).numpy()
    arrays = np.concatenate([ops, adjacency, batch.mask[:, 0].numpy()], 1)
    ids = batch.function_ids()
    assert (len({row.tobytes() for row in arrays}), len(np.unique(ids))) == (n_arrays, n_functions)
    order = np.argsort(ids, kind="stable")
    pairs = [order[k : k + 2] for k in rng.choice(len(ids) - 1, 200, replace=False)]
    equal = [ids[i] == ids[j] for i, j in pairs]
    graphs = [(_networkx(batch[i : i + 1]), _networkx(batch[j : j + 1])) for i, j in pairs]
    assert equal == [networkx.is_isomorphic(a, b, dict.__eq__, dict.__eq__) for a, b in graphs]
    assert 50 < sum(equal) < 150


def test_cleaning_keeps_the_function(double, rng):
    """With equal weights per operation, the raw, pruned and contracted network of a cell give the same logits."""
    space = spaces.get("nasbench201")
    images = torch.randn(6, 3, 8, 8)
    torch.manual_seed(0)
    head = TargetHead(3, 4, 16, 5, 1)
    for _ in range(12):
        sampled, logits = space.sample(rng), []
        for form in GRAPH_FORMS:
            architecture = space.canonical(sampled, form)
            program = space.build(architecture, channels=4, cells_per_stage=1, stem_stride=1)
            logits.append(
                run(program, {layer.weight: _weight(architecture, layer) for layer in program.convs}, head, images)
            )
        assert torch.allclose(logits[0], logits[1], atol=1e-9)
        assert torch.allclose(logits[0], logits[2], atol=1e-9)


def _weight(architecture, layer):
    """A kernel that depends on the cell's position and the operation, not on the node's number."""
    position, node = layer.weight
    op = architecture.cells[architecture.sequence[position]].ops[node]
    generator = torch.Generator().manual_seed(100 * position + op)
    return torch.randn(layer.weight_shape, generator=generator)


def test_pruning_drops_dead_ends_and_contracting_keeps_the_sum():
    """0 -> 2 -> 4 with a skip at 2 and a direct edge makes two edges 0 -> 4; node 1 goes nowhere, 3 reads nothing."""
    ops = np.array([[0, 7, 9, 7, 1]])
    adjacency = np.zeros((1, 5, 5), int)
    for i, j in ((0, 1), (0, 2), (2, 4), (3, 4), (0, 4)):
        adjacency[0, i, j] = 1
    pruned_ops, pruned, mask = simplify(ops, adjacency, zero=8, skip=9, graph_form="pruned")
    assert pruned_ops[0, mask[0]].tolist() == [0, 9, 1]
    assert pruned[0, :3, :3].tolist() == [[0, 1, 1], [0, 0, 1], [0, 0, 0]]
    short_ops, short, mask = simplify(ops, adjacency, zero=8, skip=9, graph_form="contracted")
    assert short_ops[0, mask[0]].tolist() == [0, 1]
    assert short[0, :2, :2].tolist() == [[0, 2], [0, 0]]


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Cell((0, 1), ((0, 0), (1, 0))), "upper triangular"),
        (lambda: Cell((0, 1), ((1, 1), (0, 0))), "upper triangular"),
        (lambda: Cell((0, 1), ((0, -1), (0, 0))), "upper triangular"),
        (lambda: Cell((0, 1), ((0, 300), (0, 0))), "counts from 0 to 255"),
        (lambda: Cell((0, 1), ((0, 1),)), "adjacency must be 2 x 2"),
        (lambda: Cell((0, 1), ((0, 1, 0), (0, 0, 0))), "adjacency must be 2 x 2"),
        (lambda: Cell((0, -1), TWO), "operations must be"),
        (lambda: Cell((), ()), "operations must be"),
        (lambda: Cell((0, 1), TWO, kind=2), "kind must be 0"),
        (lambda: Architecture((Cell((0, 1), TWO),), (0, 1)), "sequence must index the 1 cells"),
        (lambda: Architecture((Cell((0, 1), TWO),), ()), "sequence must index the 1 cells"),
        (lambda: collate([]), "at least one architecture"),
        (lambda: collate("0:3"), "needs a list of architectures, got '0:3'"),
        (lambda: collate([None]), "needs a list of architectures, got None"),
        (
            lambda: collate([Architecture((Cell((0, 9), TWO),), (0,))], spaces.get("nasbench201")),
            "from 0 to 6 .* got 9",
        ),
        (
            lambda: simplify(np.zeros((1, 2), int), np.zeros((1, 2, 2), int), 2, 3, "clean"),
            "graph_form must be one of raw",
        ),
    ],
)
def test_a_wrong_architecture_is_met_with_one_clear_sentence(build, words):
    with pytest.raises(UserError, match=words):
        build()
