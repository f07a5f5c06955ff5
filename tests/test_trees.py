"""Claims about one-hot features."""

import numpy as np
import pytest
import torch

from hypernas import predictors, spaces
from hypernas.graph import collate
from hypernas.predictors.graph_features import GraphStatistics
from hypernas.predictors.shared.features import OneHot, ordered, varying


def sampled(name, rng, n=20, form="raw"):
    space = spaces.get(name)
    return collate([space.canonical(space.sample(rng), form) for _ in range(n)], space)


def test_a_raw_nasbench201_cell_is_its_six_operations_in_one_place_each(rng):
    """Places in a fixed graph come before operations, so that an edge of the cell is one column."""
    graphs = sampled("nasbench201", rng)
    ops, adjacency, _ = ordered(graphs, (0,))
    assert (adjacency == adjacency[:1]).all()
    raw = graphs.ops[:, 0].numpy()
    place_of = [[j for j in range(8) if np.array_equal(raw[:, j], ops[:, 0, i])] for i in range(8)]
    assert sorted(place_of) == [[j] for j in range(8)]


def test_one_hot_rows_are_equal_for_isomorphic_cells_and_for_no_others(architecture, twin):
    architectures = [architecture() for _ in range(30)]
    graphs, mixed = collate(architectures), collate([twin(each) for each in architectures])
    one_hot = OneHot(graphs)
    assert np.array_equal(one_hot(graphs), one_hot(mixed))
    assert len(np.unique(one_hot(graphs), axis=0)) == len(set(graphs.function_ids()))


def test_canonical_order_is_topological_and_puts_padding_last(architecture, twin):
    graphs = collate([twin(architecture(n_nodes=(n, 4))) for n in (4, 6, 7)])
    _, adjacency, mask = ordered(graphs, varying(graphs))
    assert not np.tril(adjacency).any()
    assert np.array_equal(mask.sum(2)[:, 0], [4, 6, 7])
    assert not adjacency[~mask].any()


def test_parameters_are_a_feature_where_the_space_counts_those_of_a_batch(rng):
    graphs = sampled("nasbench101", rng, form="contracted")
    features = OneHot(graphs)(graphs)
    assert np.allclose(features[:, -1], np.log(graphs.space.trainable_parameters(graphs)))
    other = sampled("nasbench201", rng)
    assert other.space.trainable_parameters(other) is None
    assert OneHot(other)(other).shape[1] == 8 * 7 + 28 + 7 + 1


def test_a_cell_larger_than_those_of_the_training_set_is_predicted_as_with_room_for_it(architecture):
    """Places that no training graph fills are columns of zeros, of which ridge regression learns nothing."""
    small = collate([architecture(n_nodes=(5, 4)) for _ in range(6)])
    large = collate([architecture(n_nodes=(7, 4)) for _ in range(3)])
    room = collate([small.architecture(i) for i in range(6)] + [large.architecture(0)])[:6]
    cramped, roomy = (predictors.get("ridge")().fit(graphs, torch.arange(6.0)) for graphs in (small, room))
    assert roomy.features.n_nodes == 7 > cramped.features.n_nodes
    assert torch.allclose(cramped.predict(large), roomy.predict(large), atol=1e-4)


@pytest.mark.parametrize("features", [OneHot, GraphStatistics])
def test_architectures_with_fewer_cells_than_the_training_set_have_the_features_of_their_rows(features, architecture):
    graphs = collate([architecture(), architecture((0,), (6,)), architecture((0, 0), (5,)), architecture((0, 1))])
    describe, few = features(graphs), graphs[1:3].trimmed()
    assert few.ops.shape[1] == 1
    assert np.array_equal(describe(few), describe(graphs)[1:3])
