"""Claims about the features that GRAF counts in a graph, and the regressors on them."""

from itertools import product

import numpy as np
import pytest
import torch

from hypernas import predictors, spaces
from hypernas.graph import collate
from hypernas.lab.metrics import kendall_tau
from hypernas.predictors.graph_features import GraphStatistics, subsets


def paths(adjacency, source, sink):
    """Lengths of all paths, the long way round."""
    if source == sink:
        return [0]
    after = [j for j in range(len(adjacency)) if adjacency[source][j]]
    return [1 + length for node in after for length in paths(adjacency, node, sink)]


def by_hand(cell, inner, chosen):
    """The six features of one set of operations, from the definition; the first node is input, the last output."""
    last = len(cell.ops) - 1
    kept = [i for i, op in enumerate(cell.ops) if op not in inner or op in chosen]
    edges = [[cell.adjacency[i][j] * (i in kept and j in kept) for j in range(last + 1)] for i in range(last + 1)]
    lengths = paths(edges, 0, last)
    total = sum(map(sum, edges))
    into = sum(row[last] for row in edges)
    return [min(lengths, default=None), max(lengths, default=-1), sum(edges[0]), into, total, total / len(kept)]


OF_A_SET = ("shortest path", "longest path", "input degree", "output degree", "edges", "mean degree")


def names(statistics):
    """Of the features, in their order: for each cell its repeats, nodes of an operation, and what sets of them have."""
    for u, inner, outer in zip(statistics.columns, statistics.inner, statistics.outer, strict=True):
        yield f"cell {u}: repeats"
        yield from (f"cell {u}: nodes of {op}" for op in [*inner, *outer])
        for chosen in subsets(inner):
            yield from (f"cell {u}: {feature} over {','.join(map(str, chosen))}" for feature in OF_A_SET)


def features(statistics, graphs, i):
    return dict(zip(names(statistics), statistics(graphs)[i].tolist(), strict=True))


@pytest.mark.parametrize("name", ["nasbench101", "nasbench201"])
@pytest.mark.parametrize("form", ["raw", "contracted"])
def test_features_are_those_of_a_count_by_hand(name, form, rng):
    space = spaces.get(name)
    architectures = [space.canonical(space.sample(rng), form) for _ in range(5)]
    graphs = collate(architectures, space)
    statistics = GraphStatistics(graphs)
    (inner,) = statistics.inner
    n = graphs.ops.shape[2]
    for i, architecture in enumerate(architectures):
        found, cell = features(statistics, graphs, i), architecture.cells[0]
        for op in inner:
            assert found[f"cell 0: nodes of {op}"] == cell.ops.count(op)
        for chosen in subsets(inner):
            over = f"over {','.join(map(str, chosen))}"
            shortest, *others = by_hand(cell, inner, chosen)
            expected = [n if shortest is None else shortest, *others]
            assert [found[f"cell 0: {each} {over}"] for each in OF_A_SET] == pytest.approx(expected)


def test_inputs_and_outputs_are_no_operations_and_a_cell_that_all_share_is_left_out(rng):
    space = spaces.get("nasbench201")
    graphs = collate([space.sample(rng) for _ in range(20)], space)
    statistics = GraphStatistics(graphs)
    assert statistics.columns == (0,)
    assert [space.ops[op] for op in statistics.inner[0]] == list(space.ops[2:])
    assert len(list(names(statistics))) == 1 + 5 + 31 * 6 == statistics(graphs).shape[1]


def test_every_cell_that_differs_is_described(architecture):
    graphs = collate([architecture() for _ in range(8)])
    statistics = GraphStatistics(graphs)
    assert statistics.columns == (0, 1)
    assert {name.split(":")[0] for name in names(statistics)} == {"cell 0", "cell 1"}


def test_an_input_that_differs_from_graph_to_graph_is_counted(rng):
    """In AutoFormer's space the input of a layer is the embedding dimension, and nothing else says it."""
    space = spaces.get("vit")
    layers = [(3, 3.5)] * 12
    graphs = collate([space.architecture(dim, layers) for dim in (192, 240, 192)], space)
    statistics = GraphStatistics(graphs)
    told = statistics(graphs)
    assert (told[0] == told[2]).all()
    assert (told[0] != told[1]).any()
    assert features(statistics, graphs, 1)[f"cell 0: nodes of {space.ops.index('embed_240')}"] == 1


def test_how_often_a_cell_repeats_is_a_feature(architecture):
    base = architecture((0, 1, 0))
    longer = type(base)(base.cells, (0, 1, 0, 0, 1))
    statistics = GraphStatistics(collate([base, longer]))
    found = [features(statistics, collate([base, longer]), i) for i in range(2)]
    assert [row["cell 0: repeats"] for row in found] == [2, 3]
    assert [row["cell 1: repeats"] for row in found] == [1, 2]


def test_the_order_of_the_nodes_changes_no_feature(architecture, twin):
    architectures = [architecture() for _ in range(8)]
    graphs, mixed = collate(architectures), collate([twin(each) for each in architectures])
    assert not torch.equal(graphs.ops, mixed.ops)
    statistics = GraphStatistics(graphs)
    assert np.array_equal(statistics(graphs), statistics(mixed))


def test_of_many_operations_only_small_sets_and_the_whole_are_taken():
    assert len(subsets(range(8))) == 255
    assert sorted({len(chosen) for chosen in subsets(range(9))}) == [1, 2, 9]
    assert len(subsets(range(9))) == 9 + 36 + 1


def test_cells_are_ranked_by_their_convolutions():
    space = spaces.get("nasbench201")
    edge_ops = np.array(list(product(range(2, 7), repeat=3)))
    graphs = space.encode(np.concatenate([edge_ops, edge_ops[:, ::-1]], 1), "raw")
    accuracy = torch.from_numpy(80 + 3.0 * (graphs.ops[:, 0] == 5).sum(1).numpy())
    few = torch.from_numpy(np.random.default_rng(0).permutation(len(edge_ops))[:30])
    predictor = predictors.get("graph-features")(n_trees=20)
    predictor.fit(graphs[few], accuracy[few])
    assert kendall_tau(predictor.predict(graphs), accuracy) > 0.75
    assert predictor.n_parameters > 30


@pytest.mark.parametrize("space", spaces.names())
@pytest.mark.parametrize("method", ["graph-features", "trees", "pinat-mse", "nn-former"])
def test_peers_take_the_architectures_of_every_space(space, method, rng):
    space = spaces.get(space)
    graphs = collate([space.canonical(space.sample(rng)) for _ in range(10)], space)
    small = {"n_trees": 5} if method in ("graph-features", "trees") else {"epochs": 1, "n_blocks": 1, "d_inner": 16}
    predictor = predictors.get(method)(**small).fit(graphs[:8], torch.arange(8.0))
    assert predictor.predict(graphs).isfinite().all()
