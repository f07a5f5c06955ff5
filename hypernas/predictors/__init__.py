"""Predictors: `fit(graphs, accuracy) -> self`, `predict(graphs) -> (B,)`; a file lists its methods in `METHODS`.

Files of this folder, of `$HYPERNAS_PLUGINS` and of a path are found the same way, and so are entry points of others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from hypernas.data.plugins import Registry
from hypernas.errors import UserError
from hypernas.graph import GraphBatch
from hypernas.training.labels import LabelScale
from hypernas.training.predictor import TrainedPredictor, fit_together


def _accept(name: str, thing: Any) -> Callable[..., Any]:
    if not callable(thing):
        raise UserError(f"METHODS of {name} must hold classes of predictors, got {type(thing).__name__}")
    return thing


# Files of ours and of users are found by the same door.
REGISTRY = Registry("method", __name__, "METHODS", _accept)


def names() -> list[str]:
    return REGISTRY.names()


def get(name: str | Path) -> Callable[..., Any]:
    """The predictor of a name, or of a path to its Python file, to be called with its keyword hyperparameters.

    Raises UserError for an unknown name and for a file that cannot be imported or provides no predictor.
    """
    return REGISTRY.get(name)


def can_fit_many(name: str) -> bool:
    """Whether several seeds of this predictor can train at once."""
    return _trained(name) is not None


def settings_of_each(name: str) -> tuple[str, ...]:
    """The settings in which those that train at once may differ."""
    method = _trained(name)
    return method.may_differ if method else ()


def _trained(name: str) -> type[TrainedPredictor] | None:
    method = get(name)
    # Variants of one class are partials with some settings fixed.
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
