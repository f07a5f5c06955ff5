"""Several models at once, where nothing but a map over their parameters is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hypernas.fast.model import Stack


class MappedPass:
    """S models of equal shape, each on its own architectures, mapped over their stacked parameters.

    `sets` has for each model what it reads of its n architectures, each field (n, ...).
    """

    recordable = True

    def __init__(self, models: Sequence[Any], sets: Sequence[Sequence[Tensor]], device: str) -> None:
        self.model, self.stack = models[0], Stack(models, device)
        self.trained = list(self.stack.parameters.values())
        self.fields = [torch.stack(field).to(device) for field in zip(*sets, strict=True)]
        self.seeds = torch.arange(len(models), device=device)[:, None]

    def __call__(self, index: Tensor, drawn: Tensor) -> Tensor:
        """index (S, b), what is drawn for each model (S, ...) -> standardised accuracy (S, b)."""
        index = index.to(self.seeds.device)
        picked = tuple(field[self.seeds, index] for field in self.fields)
        return torch.vmap(self._one)(self.stack.parameters, picked, drawn)

    def _one(self, parameters: dict[str, Tensor], picked: tuple[Tensor, ...], drawn: Tensor) -> Tensor:
        return torch.func.functional_call(self.model, parameters, (*picked, drawn))

    def write_back(self) -> None:
        self.stack.write_back()
