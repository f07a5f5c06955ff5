"""Training labels on a common scale, with one robust rule for diverged runs that all predictors share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hypernas.errors import UserError

# Interquartile ranges below the lower quartile: Tukey's fence for "far out". Honest labels pass his usual 1.5.
FENCE = 3.0
# Larger ones, and their spread, do not fit into the float32 of a model.
LARGEST = 1e30


@dataclass(frozen=True)
class LabelScale:
    """Convert accuracy in percent to standard scores and back, using statistics of the training labels alone.

    A diverged run would inflate the spread. Labels below Tukey's outer fence, the lower quartile minus 3 interquartile
    ranges, are therefore raised to the fence.

    >>> scale = LabelScale.of(torch.tensor([90.0, 91.0, 92.0, 93.0, 10.0]))
    >>> [round(x, 2) for x in scale.standardise(torch.tensor([10.0, 92.0])).tolist()]
    [-1.7, 0.57]
    """

    floor: float
    mean: float
    std: float

    def __post_init__(self) -> None:
        numbers = math.isfinite(self.mean) and math.isfinite(self.std) and not math.isnan(self.floor)
        if not numbers or self.std <= 0:
            rule = "a label scale must have a finite mean and a spread above 0"
            raise UserError(f"{rule}, got {self.mean} and {self.std}; check the accuracies")

    @staticmethod
    def of(accuracy: Tensor) -> LabelScale:
        """Return the scale of accuracy (n,) in percent. Raise UserError if n < 2 or if a value is not finite."""
        if accuracy.ndim != 1 or len(accuracy) < 2:
            rule = "fit needs the accuracy of at least 2 architectures as a vector"
            raise UserError(f"{rule}, got one of shape {tuple(accuracy.shape)}")
        if not bool(torch.isfinite(accuracy).all()):
            raise UserError("accuracies must be finite, got nan or inf; drop those architectures before fit")
        values = accuracy.double()
        largest = values.abs().max()
        if largest > LARGEST:
            raise UserError(f"accuracies must be at most {LARGEST:g} in size, got {largest:g}; give them in percent")
        # In double precision: the fence decides which labels are clipped, and float32 would move it.
        low, high = torch.quantile(values, torch.tensor([0.25, 0.75], dtype=torch.double)).tolist()
        floor = low - FENCE * (high - low)
        clipped = values.clamp(min=floor)
        # Equal labels have no spread; any scale does, and 1 percent keeps them readable.
        return LabelScale(floor, clipped.mean().item(), clipped.std().item() or 1.0)

    @staticmethod
    def whole(accuracy: Tensor) -> LabelScale:
        """Return the mean and spread of all labels of a table (B,), ignoring NaN. Nothing is clipped."""
        values = accuracy[torch.isfinite(accuracy)].double()
        return LabelScale(-math.inf, values.mean().item(), values.std().item() or 1.0)

    def standardise(self, accuracy: Tensor) -> Tensor:
        """Convert accuracy in percent to standard scores."""
        return ((accuracy.double().clamp(min=self.floor) - self.mean) / self.std).to(torch.get_default_dtype())

    def percent(self, score: Tensor) -> Tensor:
        """Convert standard scores to accuracy in percent."""
        return score * self.std + self.mean
