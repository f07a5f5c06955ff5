"""Predictors: `fit(graphs, accuracy) -> self`, `predict(graphs) -> (B,)`; a file lists its methods in `METHODS`."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from hypernas.errors import UserError
from hypernas.graph import GraphBatch
from hypernas.training.labels import LabelScale
from hypernas.training.predictor import TrainedPredictor, fit_together


@cache
def _files() -> dict[str, str]:
    """Method name -> module name, read from the literal keys of each file's METHODS without importing it."""
    found = {}
    for folder in __path__:
        files = [module for module in pkgutil.iter_modules([folder]) if not module.ispkg]
        for module in files:
            for node in ast.parse((Path(folder) / f"{module.name}.py").read_text()).body:
                if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "METHODS":
                    assert isinstance(node.value, ast.Dict)
                    found.update({ast.literal_eval(key): module.name for key in node.value.keys if key})
    return found


def names() -> list[str]:
    return sorted(_files())


def get(name: str) -> Callable[..., Any]:
    """The predictor called `name`, to be called with its keyword hyperparameters. UserError for an unknown one."""
    if name not in _files():
        raise UserError(f"method must be one of {', '.join(names())}, got {name!r}")
    return importlib.import_module(f"{__name__}.{_files()[name]}").METHODS[name]


def can_fit_many(name: str) -> bool:
    """Whether several seeds of this predictor can train at once."""
    return _trained(name) is not None


def settings_of_each(name: str) -> tuple[str, ...]:
    """The settings in which those that train at once may differ."""
    method = _trained(name)
    return method.of_each if method else ()


def _trained(name: str) -> type[TrainedPredictor] | None:
    method = get(name)
    method = method.func if isinstance(method, partial) else method
    return method if isinstance(method, type) and issubclass(method, TrainedPredictor) else None


def fit_many(
    name: str,
    settings: dict[str, Any],
    graphs: Sequence[GraphBatch],
    accuracies: Sequence[Tensor],
    seeds: Sequence[int],
    scale: LabelScale | None = None,
    of_each: Sequence[dict[str, Any]] | None = None,
) -> list[Any]:
    """Fit one predictor a seed, each on its own graphs and accuracies, together where the predictor can.

    `scale` is that of all labels, by default each training set has its own; `of_each` are further settings of each.
    """
    own = of_each or [{}] * len(seeds)
    methods = [get(name)(**settings | extra, seed=seed) for seed, extra in zip(seeds, own, strict=True)]
    if can_fit_many(name):
        return list(fit_together(methods, graphs, accuracies, scale))
    return [m.fit(g, a, scale) for m, g, a in zip(methods, graphs, accuracies, strict=True)]
