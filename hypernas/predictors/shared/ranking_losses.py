"""Losses of the order of a step's architectures, in place of the squared error of each."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


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
