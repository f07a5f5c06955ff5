"""Claims about Bayesian optimisation: the process behind it, and what it asks for."""

import numpy as np
import pytest

from hypernas.predictors.shared.gaussian_process import GroupDistances, GroupProcess
from hypernas.predictors.shared.graph_kernel_features import features_of
from hypernas.search.ask_tell import Search
from hypernas.search.bayesian import Quantity, given

SPACE = "nasbench201"


def accuracy(architecture):
    text = architecture.notation
    return 50.0 + 5 * text.count("nor_conv_3x3") + 3 * text.count("nor_conv_1x1")


@pytest.fixture(scope="module")
def process():
    """A process on 30 cells, and the features of 20 others."""
    search = Search(SPACE, method="random", queries=50, seed=100)
    architectures = search.ask(50)
    groups = features_of(search.domain.space, "contracted")(search.domain.graphs(architectures, "contracted"))
    known, others = ({name: values[part] for name, values in groups.items()} for part in (slice(30), slice(30, None)))
    labels = np.array([accuracy(one) for one in architectures[:30]])
    standard = (labels - labels.mean()) / labels.std()
    return GroupProcess(GroupDistances(known, ["paths"]), standard), others


def test_the_diagonal_of_a_covariance_is_the_variance_and_no_direction_is_negative(process):
    fitted, others = process
    covariance = fitted.covariance(others)
    assert np.allclose(covariance.diagonal(), fitted.predict(others)[1], atol=1e-5)
    assert np.linalg.eigvalsh((covariance + covariance.T) / 2).min() > -1e-6


def test_what_is_taken_for_granted_leaves_noise_alone_and_spares_what_is_independent():
    covariance = np.array([[2.0, 1.0, 0.0], [1.0, 3.0, 0.0], [0.0, 0.0, 1.0]])
    after = given(covariance, 0, noise=0.5)
    assert after[0, 0] == pytest.approx(2 * 0.5 / 2.5)
    assert after[1, 1] == pytest.approx(3 - 1 / 2.5)
    assert after[2, 2] == 1.0


def test_scores_go_back_to_labels_and_rise_beyond_them(process):
    fitted, _ = process
    labels = np.tile([10.0, 90.0, 91.0, 92.0, 92.0], 6)
    quantity = Quantity(fitted.distances, labels)
    scores = np.interp(labels, quantity.labels, quantity.scores)
    assert np.allclose(quantity.on_the_scale_of_labels(scores), labels)
    rising = quantity.on_the_scale_of_labels(np.linspace(-5, 5, 50))
    assert (np.diff(rising) > 0).all()
    assert rising[-1] > 92


def test_equal_labels_are_no_error_and_leave_something_to_ask_for():
    search = Search(SPACE, method="bayesian", queries=12, seed=100, first=6, fresh=20, parents=2)
    search.run(lambda architecture: 90.0, batch=6)
    assert len(search.trials) == 12


def test_it_finds_the_cell_of_convolutions_sooner_than_random_search():
    best = {}
    for method, settings in {"random": {}, "bayesian": {"first": 8, "fresh": 60, "parents": 4}}.items():
        runs = [Search(SPACE, method=method, queries=28, seed=seed, **settings).run(accuracy) for seed in (100, 101)]
        best[method] = np.mean([run.best.values["accuracy"] for run in runs])
    assert best["bayesian"] >= best["random"] + 3
