"""The adaptive loss of several seeds at once; the oracle is `method.loss.AdaptiveLoss`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hypernas.method.loss import LOSS_MIN, U_MIN


def bounded_square(u: Tensor) -> Tensor:
    """Return u^2 including its lower bound; the weight of a task is 1 / (2 u^2)."""
    return u**2 + U_MIN**2


def adaptive_sum(
    losses: Sequence[Tensor],
    u: Tensor,
    p: float | Tensor,
) -> Tensor:
    """Losses (..., B) of T tasks and u (..., T) -> (...,): the sum over tasks of mean(L^p) / (2 u^2) + ln(1 + u^2).

    p is a number or (..., 1), because seeds that train together may differ in q.
    """
    total = torch.zeros_like(u[..., 0])
    for t, loss in enumerate(losses):
        u_squared = bounded_square(u[..., t])
        power = loss.clamp(min=LOSS_MIN) ** p
        total = total + power.mean(-1) / (2 * u_squared) + torch.log1p(u_squared)
    return total
