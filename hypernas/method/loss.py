"""The dynamic adaptive multi-task loss (main text): a learned weight for each task, and a preference q."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hypernas.errors import UserError

# How much less than q the exponent of each loss is, under either reading of the paper.
READINGS = {"printed": 0.0, "text": 1.0}
# The smallest |u|, so that no task weighs more than 1 / (2 U_MIN^2) = 5,000.
U_MIN = 1e-2
# The smallest loss that is raised to a power: with p < 1 the slope of L^p is infinite at 0.
LOSS_MIN = 1e-8


def check_preference(q: float, reading: str) -> float:
    """Return the exponent p of each loss for the preference q. Raise UserError if q is not a finite number above 0."""
    if not (isinstance(q, int | float) and math.isfinite(q) and q > 0):
        raise UserError(f"the preference coefficient q must be a finite number above 0, got {q}; the paper uses 1.5")
    if reading not in READINGS:
        raise UserError(f"reading must be one of {', '.join(READINGS)}, got {reading!r}")
    return q - READINGS[reading]


def optimal_u_squared(loss: float, p: float) -> float:
    """Return the u^2 that minimises L^p / (2 u^2) + ln(1 + u^2) for a fixed L: (L^p + sqrt(L^2p + 8 L^p)) / 4."""
    power = loss**p
    return (power + math.sqrt(power * power + 8 * power)) / 4


class AdaptiveLoss(nn.Module):
    """Sum of L^p / (2 u^2) + ln(1 + u^2) over the tasks, with one learnable u for each.

    The paper prints a formula and describes it in a sentence, and the two disagree. `reading="printed"` takes the
    formula: p = q, and q = 1 gives the loss of Liebel & Koerner (2018). `reading="text"` takes the sentence, by which
    q = 2 gives that loss: p = q - 1. With p < 0, training increases a task's loss instead of decreasing it.

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
        # All tasks weigh 1/2 at the start, so that the first step follows neither.
        self.u = nn.Parameter(torch.ones(len(tasks)), requires_grad=learn_u)

    def u_squared(self) -> Tensor:
        """Return u^2 (T,) including its lower bound; the weight of a task is 1 / (2 u^2)."""
        return self.u**2 + U_MIN**2

    def forward(self, losses: dict[str, Tensor]) -> Tensor:
        """Return the joint loss, a scalar averaged over architectures, from the losses (B,) of each task."""
        total = torch.zeros_like(self.u[0])
        for task, u_squared in zip(self.tasks, self.u_squared(), strict=True):
            # Each architecture's loss is raised before the mean is taken, as the formula is written for one.
            power = losses[task].clamp(min=LOSS_MIN) ** self.p
            total = total + power.mean() / (2 * u_squared) + torch.log1p(u_squared)
        return total
