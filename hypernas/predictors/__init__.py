"""Predictors: `fit(graphs, accuracy) -> self`, `predict(graphs) -> (B,)`. Each file lists its methods in `METHODS`.

Files in this folder, in `$HYPERNAS_PLUGINS` or given by their path are found in the same way, as are the entry points
of other packages.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache, partial
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


# Arguments of a predictor that are no settings of an experiment.
NOT_SETTINGS = ("seed", "progress", "device", "checkpoint")
# Files of ours and of users are found by the same door.
REGISTRY = Registry("method", __name__, "METHODS", _accept)


def names() -> list[str]:
    """Return the names of all predictors."""
    return REGISTRY.names()


def get(name: str | Path) -> Callable[..., Any]:
    """Return the predictor class with this name, or from the Python file at this path.

    Its settings are keyword arguments. Raise UserError if the name is unknown, or if the file cannot be imported or
    provides no predictor.
    """
    return REGISTRY.get(name)


def can_fit_many(name: str) -> bool:
    """Return whether several seeds of this predictor can train at once."""
    return _trained(name) is not None


def settings_of_each(name: str) -> tuple[str, ...]:
    """Return the settings in which predictors that train at once may differ."""
    method = _trained(name)
    return method.may_differ if method else ()


def _trained(name: str) -> type[TrainedPredictor] | None:
    method = class_of(name)
    if not isinstance(method, type) or not issubclass(method, TrainedPredictor):
        return None
    # A method with a fit of its own does more than one training, and does it alone.
    return method if method.fit is TrainedPredictor.fit else None


def class_of(name: str) -> Any:
    """Return the class of a predictor; several names may be variants of one class with some settings fixed."""
    method = get(name)
    return method.func if isinstance(method, partial) else method


def runs_networks(name: str) -> bool:
    """Return whether a predictor runs target networks, so that their size matters to it."""
    return getattr(class_of(name), "runs_networks", False)


def settings_of(name: str) -> dict[str, Any]:
    """Return a predictor's keyword arguments and their defaults, without those that `functools.partial` fixes.

    Raise UserError if the name is unknown.
    """
    return dict(_keywords_of(get(name)))


@cache
def _keywords_of(method: Callable[..., Any]) -> dict[str, Any]:
    taken = {*NOT_SETTINGS, *getattr(method, "keywords", ())}
    parameters = inspect.signature(method).parameters.values()
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return {p.name: p.default for p in parameters if p.kind in kinds and p.name not in taken}


def fit_many(
    name: str,
    settings: dict[str, Any],
    graphs: Sequence[GraphBatch],
    accuracies: Sequence[Tensor],
    seeds: Sequence[int],
    scale: LabelScale | None = None,
    of_each: Sequence[dict[str, Any]] | None = None,
) -> list[Any]:
    """Fit one predictor for each seed, each on its own graphs and accuracies, all at once if the predictor supports it.

    `scale` is that of all labels; by default each training set has its own. `of_each` holds further settings for each
    one.
    """
    own = of_each or [{}] * len(seeds)
    methods = [get(name)(**settings | extra, seed=seed) for seed, extra in zip(seeds, own, strict=True)]
    if can_fit_many(name):
        return list(fit_together(methods, graphs, accuracies, scale))
    return [m.fit(g, a, scale) for m, g, a in zip(methods, graphs, accuracies, strict=True)]
