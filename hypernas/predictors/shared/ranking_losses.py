"""Losses on the order of a step's architectures, as alternatives to the squared error."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def pairwise_logistic(
    predicted: Tensor,
    target: Tensor,
) -> Tensor:
    """Return the logistic loss (...,) over ordered pairs of predicted, target (..., B), labelled by the better one."""
    # i along the last axis but one, j along the last.
    difference = predicted.unsqueeze(-1) - predicted.unsqueeze(-2)
    better = target.unsqueeze(-1) > target.unsqueeze(-2)
    better = better.to(predicted.dtype)
    losses = F.softplus(-difference)
    losses = losses * better
    total = losses.sum((-1, -2))
    n_pairs = better.sum((-1, -2))
    # Equal targets make no pair, and no loss.
    return total / n_pairs.clamp(min=1)


def soft_kendall(
    predicted: Tensor,
    target: Tensor,
    alpha: float,
) -> Tensor:
    """Return 1 minus a differentiable Kendall tau (...,) of predicted, target (..., B), with steepness `alpha`.

    The tau is the mean of tanh(alpha * (p_i - p_j) * (t_i - t_j)) over all pairs; DiffKendall (Zheng et al. 2023).

    >>> both = torch.tensor([1.0, 2.0, 4.0])
    >>> soft_kendall(both, both, 100.0).item(), soft_kendall(both, -both, 100.0).item()
    (0.0, 2.0)
    """
    b = predicted.shape[-1]
    i, j = torch.triu_indices(b, b, 1)
    predicted_gap = predicted[..., i] - predicted[..., j]
    target_gap = target[..., i] - target[..., j]
    product = predicted_gap * target_gap
    agreement = torch.tanh(alpha * product)
    # A single architecture has no pair, and a tau of 0.
    n_pairs = max(1, len(i))
    tau = agreement.sum(-1) / n_pairs
    return 1 - tau
