"""Claims about the adaptive loss, its closed form, its two readings, and the ranking loss."""

import math

import pytest
import torch
from scipy.optimize import minimize_scalar

from hypernas.errors import UserError
from hypernas.fast.loss import adaptive_sum
from hypernas.method.loss import (
    LOSS_MIN,
    AdaptiveLoss,
    check_preference,
    optimal_u_squared,
)
from hypernas.predictors.shared.ranking_losses import pairwise_logistic


def textbook(losses, u):
    """Liebel and Koerner (2018): sum of L / (2 u^2) + ln(1 + u^2)."""
    return sum(loss / (2 * x**2) + math.log(1 + x**2) for loss, x in zip(losses, u, strict=True))


@pytest.mark.parametrize(("reading", "q"), [("printed", 1), ("text", 2)])
def test_the_loss_is_the_textbook_form_at_the_stated_q(reading, q, double):
    loss = AdaptiveLoss(q=q, reading=reading)
    loss.u.data = torch.tensor([0.7, 1.6])
    value = loss({"pred": torch.tensor([0.3]), "hyper": torch.tensor([2.1])})
    assert value.item() == pytest.approx(textbook([0.3, 2.1], loss.u_squared().sqrt().tolist()), abs=1e-12)


def test_the_readings_differ_by_one_power_of_the_loss(double):
    losses = {"pred": torch.tensor([0.3]), "hyper": torch.tensor([2.1])}
    printed = AdaptiveLoss(q=1.25, reading="printed")(losses)
    assert torch.isclose(AdaptiveLoss(q=2.25, reading="text")(losses), printed)
    assert not torch.isclose(AdaptiveLoss(q=1.25, reading="text")(losses), printed)


@pytest.mark.parametrize("p", [0.25, 0.5, 1.0, 1.5, 3.0])
@pytest.mark.parametrize("loss", [0.01, 0.4, 1.0, 2.3])
def test_the_closed_form_is_where_numeric_minimisation_ends(loss, p):
    """Over ln u^2, where the loss has one minimum."""
    numeric = minimize_scalar(lambda x: loss**p / (2 * math.exp(x)) + math.log1p(math.exp(x)), bounds=(-25, 10))
    assert math.exp(numeric.x) == pytest.approx(optimal_u_squared(loss, p), rel=1e-3)


def test_the_gradient_of_u_vanishes_at_the_closed_form(double):
    losses = [torch.tensor([0.4, 1.1]), torch.tensor([2.3, 0.9])]
    power = [float((loss**1.5).mean()) for loss in losses]
    u_squared = torch.tensor([optimal_u_squared(x, 1.0) for x in power])
    u = (u_squared - 1e-4).sqrt().requires_grad_()
    adaptive_sum(losses, u, 1.5).backward()
    assert torch.allclose(u.grad, torch.zeros(2), atol=1e-12)


def test_the_loss_of_a_batch_is_the_mean_over_its_architectures(double):
    """So gradients accumulated over single architectures, as the paper does, are those of one batch."""
    loss = AdaptiveLoss()
    pred, hyper = torch.rand(5), torch.rand(5)
    together = loss({"pred": pred, "hyper": hyper})
    alone = [loss({"pred": pred[i : i + 1], "hyper": hyper[i : i + 1]}) for i in range(5)]
    assert torch.isclose(together, torch.stack(alone).mean())


def test_several_seeds_have_their_own_weights(double):
    losses, u = [torch.rand(3, 4), torch.rand(3, 4)], torch.rand(3, 2)
    together = adaptive_sum(losses, u, 1.5)
    for s in range(3):
        alone = AdaptiveLoss(q=1.5)
        alone.u.data = u[s]
        assert torch.isclose(together[s], alone({"pred": losses[0][s], "hyper": losses[1][s]}))


def test_a_larger_q_gives_the_harder_task_a_larger_share_of_the_gradient(double):
    shares = []
    for q in (1.25, 1.5, 2, 3):
        easy, hard = torch.tensor([0.2], requires_grad=True), torch.tensor([2.0], requires_grad=True)
        AdaptiveLoss(q=q)({"pred": easy, "hyper": hard}).backward()
        shares.append((hard.grad / (easy.grad + hard.grad)).item())
    assert shares == sorted(shares)
    assert shares[0] < 0.7 < 0.95 < shares[-1]


@pytest.mark.parametrize("p", [-0.5, 0.25, 1.5])
def test_a_solved_task_and_a_vanished_u_give_finite_numbers(p, double):
    loss, u = torch.zeros(3, requires_grad=True), torch.zeros(1, requires_grad=True)
    value = adaptive_sum([loss], u, p)
    value.backward()
    assert torch.isfinite(torch.stack([value, loss.grad.sum(), u.grad.sum()])).all()
    assert value.item() == pytest.approx(LOSS_MIN**p / 2e-4 + math.log1p(1e-4))


@pytest.mark.parametrize("q", [0, -1, float("nan"), float("inf"), "1.5", None])
def test_a_preference_that_is_no_number_above_0_is_a_user_error(q):
    with pytest.raises(UserError, match="q must be a finite number above 0, got"):
        check_preference(q, "printed")


def test_an_unknown_reading_is_a_user_error():
    with pytest.raises(UserError, match="reading must be one of printed, text, got 'both'"):
        AdaptiveLoss(reading="both")


def test_the_ranking_loss_is_the_mean_over_pairs_of_unequal_labels(double):
    predicted, label = torch.tensor([0.5, -1.0, 2.0, 0.1]), torch.tensor([1.0, 3.0, 3.0, 0.0])
    pairs = [(i, j) for i in range(4) for j in range(4) if label[i] > label[j]]
    slow = sum(math.log1p(math.exp(-(predicted[i] - predicted[j]))) for i, j in pairs) / len(pairs)
    assert pairwise_logistic(predicted, label).item() == pytest.approx(slow)
    assert pairwise_logistic(predicted, torch.ones(4)).item() == 0


def test_the_ranking_loss_falls_as_the_order_improves():
    label = torch.arange(5.0)
    losses = [pairwise_logistic(direction * label, label).item() for direction in (-1, 0, 1)]
    assert losses == sorted(losses, reverse=True)
