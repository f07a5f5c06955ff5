"""The dynamic adaptive multi-task loss (main text), and pairwise ranking losses."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hypernas.errors import UserError

READINGS = {"printed": 0.0, "text": 1.0}
U_MIN = 1e-2
LOSS_MIN = 1e-8


def check_preference(q: float, reading: str) -> float:
    """The exponent p of each loss for the preference coefficient q. UserError for a q that is no number above 0."""
    if not (isinstance(q, int | float) and math.isfinite(q) and q > 0):
        raise UserError(f"the preference coefficient q must be a finite number above 0, got {q}; the paper uses 1.5")
    if reading not in READINGS:
        raise UserError(f"reading must be one of {', '.join(READINGS)}, got {reading!r}")
    return q - READINGS[reading]


def optimal_u_squared(loss: float, p: float) -> float:
    """The u^2 that minimises L^p / (2 u^2) + ln(1 + u^2) for a fixed L: (L^p + sqrt(L^2p + 8 L^p)) / 4."""
    power = loss**p
    return (power + math.sqrt(power * power + 8 * power)) / 4


class AdaptiveLoss(nn.Module):
    """Sum over the tasks of L^p / (2 u^2) + ln(1 + u^2), one learnable u a task.

    `reading="printed"` takes the formula as printed, p = q, and is Liebel & Koerner's (2018) at q = 1;
    `reading="text"` takes the sentence that this is so at q = 2, p = q - 1. With p < 0 a task is driven up, not down.

    NOTE[PAPER]: paper says both, the formula and the sentence; we build both and take the printed one as default;
    because a formula is the more deliberate statement, and the preference notebook compares them.

    NOTE[PAPER]: paper says nothing of a bound on u; we use u^2 + 1e-4 in its place; because the optimal u goes to 0
    with the loss and the weight of a solved task would grow without limit.

    >>> loss = AdaptiveLoss(q=1, reading="printed")
    >>> one = torch.ones(1)
    >>> round(loss({"pred": one, "hyper": one}).item(), 3)  # 2 (1 / 2 + ln 2), u starts at 1
    2.386
    """

    def __init__(
        self,
        q: float = 1.5,
        reading: str = "printed",
        tasks: tuple[str, ...] = ("pred", "hyper"),
        learn_u: bool = True,
    ) -> None:
        super().__init__()
        self.p = check_preference(q, reading)
        self.tasks = tasks
        self.u = nn.Parameter(torch.ones(len(tasks)), requires_grad=learn_u)

    def u_squared(self) -> Tensor:
        return bounded_square(self.u)

    def forward(self, losses: dict[str, Tensor]) -> Tensor:
        """Losses (B,) of each task, one an architecture -> their joint loss, a scalar, the mean over architectures."""
        return adaptive_sum([losses[task] for task in self.tasks], self.u, self.p)


def bounded_square(u: Tensor) -> Tensor:
    """u^2 with its bound; the weight of a task is 1 / (2 u^2)."""
    return u**2 + U_MIN**2


def adaptive_sum(losses: Sequence[Tensor], u: Tensor, p: float | Tensor) -> Tensor:
    """Losses (..., B) of T tasks and u (..., T) -> (...,): the sum over tasks of mean(L^p) / (2 u^2) + ln(1 + u^2).

    p is a number or (..., 1).
    """
    total = torch.zeros_like(u[..., 0])
    for t, loss in enumerate(losses):
        u_squared = bounded_square(u[..., t])
        total = total + (loss.clamp(min=LOSS_MIN) ** p).mean(-1) / (2 * u_squared) + torch.log1p(u_squared)
    return total


def pairwise_logistic(predicted: Tensor, target: Tensor) -> Tensor:
    """predicted, target (..., B) -> (...,): the logistic loss of every ordered pair, its label which one is better."""
    difference = predicted[..., :, None] - predicted[..., None, :]
    better = (target[..., :, None] > target[..., None, :]).to(predicted.dtype)
    return (F.softplus(-difference) * better).sum((-1, -2)) / better.sum((-1, -2)).clamp(min=1)


def soft_kendall(predicted: Tensor, target: Tensor, alpha: float) -> Tensor:
    """predicted, target (..., B) -> (...,): 1 less a Kendall tau that can be differentiated, the mean over all pairs of
    tanh(alpha * (p_i - p_j) * (t_i - t_j)); DiffKendall (Zheng et al. 2023).

    >>> both = torch.tensor([1.0, 2.0, 4.0])
    >>> soft_kendall(both, both, 100.0).item(), soft_kendall(both, -both, 100.0).item()
    (0.0, 2.0)
    """
    i, j = torch.triu_indices(predicted.shape[-1], predicted.shape[-1], 1)
    agree = (predicted[..., i] - predicted[..., j]) * (target[..., i] - target[..., j])
    return 1 - torch.tanh(alpha * agree).sum(-1) / max(1, len(i))
