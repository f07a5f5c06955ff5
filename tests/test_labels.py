"""Claims about the scale of labels and the one rule for diverged runs."""

import pytest
import torch

from hypernas.errors import UserError
from hypernas.training.labels import FENCE, LabelScale

GOOD = torch.tensor([90.0, 91.5, 92.0, 92.5, 93.0, 93.5, 94.0], dtype=torch.float64)


def test_ordinary_labels_get_mean_0_and_deviation_1(double):
    scores = LabelScale.of(GOOD).standardise(GOOD)
    assert scores.mean().item() == pytest.approx(0, abs=1e-12)
    assert scores.std().item() == pytest.approx(1)


def test_percent_undoes_standardise(double):
    scale = LabelScale.of(GOOD)
    assert torch.allclose(scale.percent(scale.standardise(GOOD)), GOOD)


def test_a_diverged_run_counts_as_the_fence(double):
    diverged = torch.cat([GOOD, torch.tensor([10.0])])
    low, high = torch.quantile(diverged, torch.tensor([0.25, 0.75])).tolist()
    scale = LabelScale.of(diverged)
    assert scale.floor == pytest.approx(low - FENCE * (high - low))
    assert scale.standardise(torch.tensor([10.0, 50.0, scale.floor])).unique().numel() == 1
    assert scale.std < 0.1 * diverged.std().item()


def test_how_badly_a_run_diverged_does_not_matter():
    scales = [LabelScale.of(torch.cat([GOOD, torch.tensor([x], dtype=torch.float64)])) for x in (10.0, 0.0)]
    assert scales[0] == scales[1]


def test_order_is_kept_above_the_fence(double):
    scores = LabelScale.of(GOOD).standardise(GOOD)
    assert (scores.diff() > 0).all()


def test_equal_labels_give_zeros(double):
    assert LabelScale.of(torch.full((4,), 91.0)).standardise(torch.full((4,), 91.0)).tolist() == [0.0] * 4


@pytest.mark.parametrize(
    ("accuracy", "words"),
    [
        (torch.tensor([91.0]), "at least 2 architectures"),
        (torch.ones(3, 1), "at least 2 architectures as a vector"),
        (torch.tensor([91.0, float("nan")]), "finite"),
        (torch.tensor([91.0, float("inf"), 90.0]), "finite"),
    ],
)
def test_labels_that_cannot_be_scaled_are_a_user_error(accuracy, words):
    with pytest.raises(UserError, match=words):
        LabelScale.of(accuracy)
