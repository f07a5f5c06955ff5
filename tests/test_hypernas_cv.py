"""The preference q chosen by cross-validation: from training labels alone, by the ranking of those held out."""

import numpy as np
import pytest
import torch

from hypernas import load, predictors, save, spaces
from hypernas.graph import collate
from hypernas.lab.metrics import kendall_tau
from hypernas.predictors import hypernas_cv
from hypernas.predictors.hypernas_cv import FOLDS, PREFERENCES

SMALL = {"n_layers": 1, "width": 8, "hyper_layers": 1, "hyper_width": 8, "image_batch": 4, "epochs": 3, "seed": 4}
N = 16  # one more than the folds hold


@pytest.fixture(scope="module")
def graphs():
    space = spaces.get("nasbench201")
    rng = np.random.default_rng(0)
    return collate([space.sample(rng) for _ in range(N)], space, "contracted")


@pytest.fixture(scope="module")
def accuracy():
    return torch.from_numpy(np.random.default_rng(1).normal(90, 2, N))


@pytest.fixture
def folds(monkeypatch):
    """Which labels each training saw, by q: filled while a predictor is fitted."""
    seen = []
    together = hypernas_cv.fit_together

    def watched(methods, sets, labels, *rest):
        seen.extend((method.q, sorted(known.tolist())) for method, known in zip(methods, labels, strict=True))
        return together(methods, sets, labels, *rest)

    monkeypatch.setattr(hypernas_cv, "fit_together", watched)
    return seen


def test_each_q_is_tried_on_five_folds_that_share_no_label(graphs, accuracy, folds):
    predictors.get("hypernas-cv")(**SMALL).fit(graphs, accuracy)
    assert [q for q, _ in folds] == [q for q in PREFERENCES for _ in range(FOLDS)]
    everything = set(accuracy.tolist())
    held_out = [everything - set(known) for _, known in folds]
    assert all(len(fold) == N // FOLDS for fold in held_out)
    for start in range(0, len(folds), FOLDS):
        of_one_q = held_out[start : start + FOLDS]
        assert len(set.union(*of_one_q)) == FOLDS * (N // FOLDS)
        assert of_one_q == held_out[:FOLDS]


def test_the_q_that_ranks_the_held_out_labels_best_trains_on_all_of_them(graphs, accuracy, folds):
    fitted = predictors.get("hypernas-cv")(**SMALL).fit(graphs, accuracy)
    taus = dict.fromkeys(PREFERENCES, 0.0)
    for q, known in folds:
        inside = torch.from_numpy(np.isin(accuracy, known))
        one = predictors.get("hypernas")(**SMALL, q=q).fit(graphs[inside.nonzero()[:, 0]], accuracy[inside])
        taus[q] += kendall_tau(one.predict(graphs[(~inside).nonzero()[:, 0]]), accuracy[~inside])
    assert fitted.chosen_q == max(taus, key=taus.get)
    assert fitted.q == fitted.chosen_q
    plain = predictors.get("hypernas")(**SMALL, q=fitted.chosen_q).fit(graphs, accuracy)
    assert torch.equal(fitted.predict(graphs), plain.predict(graphs))


def test_it_is_saved_with_its_q_and_loaded_without_a_training(graphs, accuracy, folds, tmp_path):
    fitted = predictors.get("hypernas-cv")(**SMALL).fit(graphs, accuracy)
    save(fitted, tmp_path / "predictor.hypernas")
    n_trainings = len(folds)
    loaded = load(tmp_path / "predictor.hypernas")
    assert len(folds) == n_trainings
    assert loaded.q == fitted.q
    assert torch.equal(loaded.predict(graphs), fitted.predict(graphs))


def test_several_seeds_are_fitted_one_by_one_each_with_its_own_choice(graphs, accuracy):
    assert not predictors.can_fit_many("hypernas-cv")
    assert predictors.can_fit_many("hypernas")


def test_few_labels_make_fewer_folds_and_three_make_none(graphs, accuracy, folds):
    method = predictors.get("hypernas-cv")
    method(**SMALL).fit(graphs[:7], accuracy[:7])
    assert len(folds) == 3 * len(PREFERENCES)
    fitted = method(**SMALL, q=1.75).fit(graphs[:3], accuracy[:3])
    assert (len(folds), fitted.chosen_q, fitted.q) == (3 * len(PREFERENCES), 0, 1.75)
