"""Claims about the graph networks beside the directed GCN, in its place and over whole networks."""

import numpy as np
import pytest
import torch

from hypernas import predictors, spaces
from hypernas.errors import UserError
from hypernas.fast.encoder import encoder_pass
from hypernas.fast.scoring import score
from hypernas.fast.stacked_models import StackedModels
from hypernas.graph import Architecture, Cell, collate
from hypernas.method.encoder import GlobalEncoder
from hypernas.method.hypernas import ArchitecturePredictor
from hypernas.predictors.shared.node_encoders import (
    ENCODERS,
    POOLINGS,
    GatedGNN,
    NetworkEncoder,
    PrintedGCN,
    edges_of_union,
    encoder_class,
    shortest_paths,
    unrolled,
    virtual_edges,
)

pytestmark = pytest.mark.usefixtures("double")
OTHERS = sorted({*ENCODERS} - {"gcn"})


@pytest.fixture(params=[*OTHERS, "whole", "whole, virtual edges"])
def encoder(request):
    torch.manual_seed(0)
    if request.param.startswith("whole"):
        return NetworkEncoder(5, 8, "virtual" in request.param)
    return encoder_class(request.param)(5, 2, 8, "sum")


@pytest.fixture
def several(architecture):
    """Networks of different depths and cells of different sizes."""
    shapes = [((0, 0, 1, 0), (6, 4)), ((0, 1), (3, 5)), ((0,), (4, 4)), ((0, 1, 0, 1, 0), (5, 7))]
    return [architecture(*shape) for shape in shapes]


def test_padding_and_batch_mates_change_nothing(encoder, several):
    h, nodes = encoder(collate(several))
    for i, architecture in enumerate(several):
        alone_h, alone = encoder(collate([architecture]))
        assert torch.allclose(h[i], alone_h[0], atol=1e-12)
        c, n = alone.shape[1:3]
        assert torch.allclose(nodes[i, :c, :n], alone[0], atol=1e-12)


def test_isomorphic_networks_have_the_same_embedding(encoder, several, twin):
    h, _ = encoder(collate(several))
    mixed = [twin(each) for each in several]
    assert mixed[3] != several[3]
    assert torch.allclose(encoder(collate(mixed))[0], h, atol=1e-12)


def test_an_edge_and_its_count_matter_and_so_does_the_order_of_cells(encoder, architecture):
    once = architecture((0, 0, 1), (5, 5))
    cell = once.cells[0]
    rows = [list(row) for row in cell.adjacency]
    rows[0][2] += 1
    twice = Architecture((Cell(cell.ops, tuple(map(tuple, rows)), cell.kind), once.cells[1]), once.sequence)
    turned = Architecture(once.cells, (1, 0, 0))
    h, _ = encoder(collate([once, twice, turned]))
    assert not torch.allclose(h[0], h[1], atol=1e-9)
    assert not torch.allclose(h[0], h[2], atol=1e-9)


def test_graphs_without_an_edge_are_encoded(encoder):
    h, nodes = encoder(collate([Architecture((Cell((0, 1), ((0, 0), (0, 0))),), (0, 0))]))
    assert h.isfinite().all()
    assert nodes.shape == (1, 2, 2, 8)


def node_by_node(network, x, adjacency):
    """GHN's update in plain loops over one graph x (N, D): predecessors in order, then successors in reverse."""
    n, h = len(x), list(x)
    plain = [[[adjacency[i][j] for j in range(n)] for i in range(n)]]
    if len(network.messages) > 1:
        paths = floyd(adjacency)
        plain.append([[1 / paths[i][j] if 2 <= paths[i][j] <= 50 else 0 for j in range(n)] for i in range(n)])
    for order in (range(n), reversed(range(n))):
        forward = isinstance(order, range)
        for v in order:
            total = torch.zeros_like(x[0])
            for message, weight in zip(network.messages, plain, strict=True):
                for u in range(n):
                    total = total + (weight[u][v] if forward else weight[v][u]) * message(h[u])
            h[v] = network.update(total[None], h[v][None])[0]
    return torch.stack(h)


def floyd(adjacency):
    """Lengths of shortest paths by Floyd and Warshall."""
    n = len(adjacency)
    paths = [[0 if i == j else 1 if adjacency[i][j] else float("inf") for j in range(n)] for i in range(n)]
    for k in range(n):
        for i in range(n):
            for j in range(n):
                paths[i][j] = min(paths[i][j], paths[i][k] + paths[k][j])
    return paths


@pytest.mark.parametrize("virtual", [False, True])
def test_the_gated_network_and_its_gradient_are_the_node_by_node_ones(virtual, rng):
    torch.manual_seed(1)
    network, adjacency = (
        GatedGNN(6, virtual),
        np.triu(rng.integers(3, size=(3, 7, 7)), 1) * rng.integers(2, size=(3, 7, 7)),
    )
    x = torch.randn(3, 7, 6, requires_grad=True)
    together = network(x, torch.from_numpy(adjacency), torch.ones(3, 7, dtype=torch.bool))
    plain = torch.stack([node_by_node(network, x[i], adjacency[i].tolist()) for i in range(3)])
    assert torch.allclose(together, plain, atol=1e-12)
    pull, leaves = torch.randn(3, 7, 6), [x, *network.parameters()]
    for ours, theirs in zip(*(torch.autograd.grad((y * pull).sum(), leaves) for y in (together, plain)), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-10)


def test_virtual_edges_weigh_one_over_the_shortest_path_from_two_to_fifty(rng):
    adjacency = np.triu(rng.random((2, 60, 60)) < 0.05, 1)
    adjacency[1] = np.eye(60, k=1)
    paths, weights = shortest_paths(torch.from_numpy(adjacency)), virtual_edges(torch.from_numpy(adjacency))
    for b in (0, 1):
        expected = np.array(floyd(adjacency[b].tolist()))
        assert (paths[b].numpy() == expected).all()
        near = (expected >= 2) & (expected <= 50)
        assert np.allclose(weights[b].numpy()[near], 1 / expected[near])
        assert (weights[b].numpy()[~near] == 0).all()
    assert weights[1, 0, 50] == pytest.approx(1 / 50)
    assert weights[1, 0, 51] == 0


def test_a_union_holds_every_edge_as_often_as_it_counts_in_both_directions():
    adjacency = torch.zeros(2, 3, 3, dtype=torch.uint8)
    adjacency[0, 0, 1], adjacency[1, 0, 2] = 2, 1
    mask = torch.tensor([[True, True, False], [True, True, True]])
    edges = edges_of_union(adjacency, mask).T.tolist()
    assert sorted(map(tuple, edges)) == [
        (0, 1),
        (0, 1),
        (1, 0),
        (1, 0),
        (2, 4),
        (4, 2),
    ]


def test_cells_of_a_whole_network_are_joined_from_output_to_input(several):
    batch = collate(several)
    ops, adjacency, mask = unrolled(batch)
    c, n = batch.sequence.shape[1], batch.ops.shape[2]
    for b, network in enumerate(several):
        expected, real = np.zeros((c * n, c * n), int), np.zeros(c * n, bool)
        for i, u in enumerate(network.sequence):
            cell = network.cells[u]
            size = len(cell.ops)
            expected[i * n : i * n + size, i * n : i * n + size] = cell.adjacency
            real[i * n : i * n + size] = True
            assert ops[b, i * n : i * n + size].tolist() == list(cell.ops)
            if i:
                output = (i - 1) * n + len(network.cells[network.sequence[i - 1]].ops) - 1
                expected[output, i * n] = 1
        assert (adjacency[b].numpy() == expected).all()
        assert (mask[b].numpy() == real).all()


def test_only_a_whole_network_is_read_back_from_its_end(architecture):
    """The first cell of GHN's encoder knows the last one; a cell of the global encoding knows those before it."""
    first, second = architecture((0, 0), (5, 5)), architecture((0, 1), (5, 5))
    second = Architecture((first.cells[0], second.cells[1]), (0, 1))
    for whole in (True, False):
        torch.manual_seed(0)
        encoder = NetworkEncoder(5, 8) if whole else encoder_class("gatedgnn")(5, 2, 8, "sum")
        _, nodes = encoder(collate([first, second]))
        assert torch.allclose(nodes[0, 0], nodes[1, 0]) is not whole


@pytest.mark.parametrize("name", [*OTHERS, "whole, virtual edges"])
def test_seeds_in_one_pass_and_their_gradients_are_those_of_the_encoders_alone(name, several):
    """Three seeds, each on two architectures of its own."""
    if name.startswith("whole"):
        encoders = [NetworkEncoder(5, 8, virtual_edges=True) for _ in range(3)]
    else:
        encoders = [encoder_class(name)(5, 2, 8, "sum") for _ in range(3)]
    parameters = StackedModels(encoders).parameters
    sets = [collate(several)[order] for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2])]
    index = torch.tensor([[0, 2], [1, 3], [0, 1]])
    h, nodes = encoder_pass(encoders[0], sets, "cpu", torch.float64)(parameters, index)
    h.sum().backward()
    for s, encoder in enumerate(encoders):
        own_h, own_nodes = encoder(sets[s][index[s]])
        assert torch.allclose(h[s], own_h, atol=1e-12)
        assert torch.allclose(nodes[s], own_nodes.transpose(0, 1), atol=1e-12)
        own_h.sum().backward()
        for own_name, parameter in encoder.named_parameters():
            if parameter.grad is not None:
                assert torch.allclose(parameters[own_name].grad[s], parameter.grad, atol=1e-10)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("context", ["sum", "concat", "position", "none"])
def test_scores_are_those_of_the_plain_model(name, context, several):
    model = ArchitecturePredictor(5, 2, 8, context, encoder_class(name))
    batch = collate([*several, several[0]])
    assert torch.allclose(score(model, batch), model(batch)[0])


def test_the_printed_layers_sum_over_the_edges_of_a_node_and_not_over_itself():
    torch.manual_seed(0)
    network = PrintedGCN(2, 1)
    x = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [2.0, 3.0]]])
    adjacency = torch.tensor([[[0, 1, 2], [0, 0, 0], [0, 0, 0]]])
    along, against = network.layers[0].weight
    fed = torch.stack([x[0, 1] + 2 * x[0, 2], 0 * x[0, 1], 0 * x[0, 2]])
    feeding = torch.stack([0 * x[0, 0], x[0, 0], 2 * x[0, 0]])
    expected = 0.5 * (fed @ along).relu() + 0.5 * (feeding @ against).relu()
    assert torch.allclose(network(x, adjacency, torch.ones(1, 3, dtype=torch.bool))[0], expected)


def test_other_poolings_take_the_largest_value_or_the_output_node():
    x = torch.tensor([[[1.0, 5.0], [3.0, 2.0], [0.0, 0.0]]])
    mask = torch.tensor([[True, True, False]])
    pooled = {name: encoder_class(name)(5, 2, 2, "sum").pool(x, mask)[0].tolist() for name in POOLINGS}
    assert pooled == {"gcn-max": [3, 5], "gcn-output": [3, 2]}


@pytest.mark.parametrize(("name", "value"), [("regressor_width", 3), ("head_bias", 0.0)])
def test_a_width_and_a_spread_reach_the_model_of_both_engines(name, value):
    space = spaces.get("nasbench201")
    graphs = collate([space.sample(np.random.default_rng(0))], space)
    for engine in ("fast", "plain"):
        predictor = predictors.get("hypernas")(engine=engine, n_layers=1, width=8, channels=2, **{name: value})
        model = predictor.new_model(graphs)
        found = {
            "regressor_width": model.predictor.regressor.hidden.out_features,
            "head_bias": model.hypernetwork.heads["3"].bias.abs().max().item(),
        }
        assert found[name] == value


def test_the_default_encoder_is_the_directed_gcn_and_the_rule_names_all():
    assert encoder_class("gcn") is GlobalEncoder
    with pytest.raises(UserError, match=f"^encoder must be one of {', '.join(ENCODERS)}, got 'mlp'$"):
        predictors.get("hypernas")(encoder="mlp")
