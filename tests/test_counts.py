"""Claims about parameters and multiply-adds as features of a predictor."""

import numpy as np
import pytest
import torch

from hypernas import predictors, spaces
from hypernas.errors import UserError
from hypernas.graph import collate
from hypernas.predictors.shared.features import counts


@pytest.fixture(params=["darts", "mobilenetv3", "vit"])
def batch(request, rng):
    space = spaces.get(request.param)
    return [space.sample(rng) for _ in range(6)], space


@pytest.mark.parametrize("graph_form", ["raw", "contracted"])
def test_counts_are_those_of_the_space_in_every_graph_form(batch, graph_form):
    architectures, space = batch
    graphs = collate([space.canonical(each, graph_form) for each in architectures], space)
    assert counts(graphs).tolist() == [list(space.count(each)) for each in architectures]


def test_with_counts_trees_also_read_the_size_of_a_network(batch):
    architectures, space = batch
    graphs = collate([space.canonical(each) for each in architectures], space)
    size = torch.from_numpy(np.log(counts(graphs)[:, 0]))
    predictor = predictors.get("trees")(n_trees=20, counts=True).fit(graphs, size)
    assert np.allclose(predictor.inputs(graphs), np.c_[predictor.features(graphs), np.log(counts(graphs))])
    assert predictor.predict(graphs).isfinite().all()


def test_graph_features_take_counts_too():
    space = spaces.get("nasbench201")
    graphs = collate([space.sample(np.random.default_rng(seed)) for seed in range(6)], space)
    method = predictors.get("graph-features")
    with_counts, without = (
        method(n_trees=2, counts=counts).fit(graphs, torch.arange(6.0)).inputs(graphs) for counts in (True, False)
    )
    assert with_counts.shape[1] == without.shape[1] + 2


def test_counting_without_a_space_is_a_user_error(architecture):
    graphs = collate([architecture() for _ in range(6)])
    with pytest.raises(UserError, match="counting needs to know the search space; pass it to collate"):
        predictors.get("trees")(counts=True).fit(graphs, torch.arange(6.0))
