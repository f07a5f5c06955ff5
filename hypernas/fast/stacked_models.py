"""The parameters of S models side by side, and passes over all S at once; the oracle is a loop over the models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class StackedModels:
    """S models of equal shape whose parameters are trained together: `parameters[name] (S, ...)`."""

    def __init__(self, models: Sequence[nn.Module], device: str = "cpu") -> None:
        self.models = models
        self.parameters: dict[str, Tensor] = {}
        for name, first in models[0].named_parameters():
            rows = [model.get_parameter(name).detach() for model in models]
            stacked = torch.stack(rows).to(device)
            # A new leaf: the models keep their own values until `write_back`.
            self.parameters[name] = stacked.requires_grad_(first.requires_grad)

    @torch.no_grad()
    def write_back(self) -> None:
        """Copy the stacked parameters into the models."""
        for s, model in enumerate(self.models):
            for name, parameter in model.named_parameters():
                parameter.copy_(self.parameters[name][s])


class VmapPass:
    """S models of equal shape, each on its own architectures, run by `torch.vmap` over their stacked parameters.

    For each model, `sets` has what it reads of its n architectures, each field (n, ...).
    """

    # No step looks at a value on the host, so a GPU can record it.
    recordable = True

    def __init__(
        self,
        models: Sequence[Any],
        sets: Sequence[Sequence[Tensor]],
        device: str,
    ) -> None:
        self.model = models[0]
        self.stack = StackedModels(models, device)
        self.trained = list(self.stack.parameters.values())
        self.fields = []
        for field in zip(*sets, strict=True):
            self.fields.append(torch.stack(field).to(device))
        self.seeds = torch.arange(len(models), device=device)[:, None]

    def __call__(self, index: Tensor, noise: Tensor) -> Tensor:
        """index (S, b), random numbers for each model (S, ...) -> standardised accuracy (S, b)."""
        index = index.to(self.seeds.device)
        inputs = tuple(field[self.seeds, index] for field in self.fields)
        # One batched operation for all models in place of S small ones.
        return torch.vmap(self._one_model)(self.stack.parameters, inputs, noise)

    def _one_model(
        self,
        parameters: dict[str, Tensor],
        inputs: tuple[Tensor, ...],
        noise: Tensor,
    ) -> Tensor:
        """The pass of one model, which `torch.vmap` lifts to S."""
        arguments = (*inputs, noise)
        return torch.func.functional_call(self.model, parameters, arguments)

    def write_back(self) -> None:
        self.stack.write_back()


def below(parameters: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the parameters whose names begin with `prefix`, without the prefix."""
    return {name.removeprefix(prefix): p for name, p in parameters.items() if name.startswith(prefix)}


def linear(
    parameters: Mapping[str, Tensor],
    name: str,
    x: Tensor,
) -> Tensor:
    """Apply the linear layers called `name` of S models: x (S, R, D) -> (S, R, E)."""
    weight = parameters[f"{name}.weight"]
    bias = parameters[f"{name}.bias"]
    return torch.baddbmm(bias[:, None], x, weight.mT)


def regress(
    parameters: Mapping[str, Tensor],
    h: Tensor,
    prefix: str = "regressor.",
) -> Tensor:
    """Apply the regressors of S models: embeddings h (S, b, D) -> standardised accuracy (S, b)."""
    hidden = linear(parameters, f"{prefix}hidden", h)
    hidden = F.relu(hidden)
    out = linear(parameters, f"{prefix}out", hidden)
    return out[..., 0]


def rows_by_model(tables: Tensor, index: Tensor) -> Tensor:
    """Return the rows index (S, ...) of S tables (S, R, D), each model from its own table -> (S, ..., D).

    This is not `tables[seeds, index]`, whose gradient is summed in the order in which threads arrive, so that two runs
    of one seed would differ in their last bits. `index_select` always sums in the same order.
    """
    s, r, d = tables.shape
    first_row = r * torch.arange(s, device=index.device)
    rows = index.flatten(1) + first_row[:, None]
    rows = rows.flatten().to(tables.device)
    # All tables as one, so that a row of model s lies s * R rows further down.
    picked = tables.reshape(-1, d).index_select(0, rows)
    return picked.view(*index.shape, d)
