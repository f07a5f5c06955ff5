"""Settings of an experiment: profiles, types and ranges."""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from operator import attrgetter
from typing import Any

import numpy as np

from hypernas.canonical import GRAPH_FORMS
from hypernas.errors import UserError

# `quick` shows that a notebook runs, rows of `standard` are compared, `paper` has the paper's sizes.
PROFILES: dict[str, dict[str, Any]] = {
    "quick": {"epochs": 20, "images": "digits"},
    "standard": {"epochs": 200, "images": "digits"},
    "paper": {"epochs": 200, "images": "cifar10", "channels": 16, "cells_per_stage": 5, "stem_stride": 1},
}
MAX_SEED = 2**32 - 1  # that of NumPy's older generators, which scikit-learn draws from
# Settings that a row names even where they are defaults: tables of the book are grouped by them.
RECORDED = ("context", "loss", "q", "reading", "epochs", "images")


def _one_of(*names: str) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value in names, f"one of {', '.join(names)}"


def _at_least(least: int) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value >= least, f"at least {least}"


def _positive(value: float) -> bool:
    return math.isfinite(value) and value > 0


# For a setting: what a value must obey, and the same in words.
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "n_train": _at_least(2),
    "seed": (lambda value: 0 <= value <= MAX_SEED, f"from 0 to {MAX_SEED}"),
    "epochs": _at_least(1),
    "q": (_positive, "a finite number above 0"),
    "learning_rate": (_positive, "a finite number above 0"),
    "weight_decay": _at_least(0),
    "subsample": (lambda value: 0 < value <= 1, "above 0 and at most 1"),
    "image_batch": _at_least(2),
    "batch": _at_least(2),
    "channels": _at_least(1),
    "stem_stride": _at_least(1),
    "cells_per_stage": _at_least(1),
    "seeds": _at_least(1),
    "n": _at_least(2),
    "n_validation": _at_least(2),
    "drop_path": (lambda value: 0 <= value < 1, "at least 0 and below 1"),
    "auxiliary": _at_least(0),
    "cutout": _at_least(0),
    # Smaller ones cannot be halved at the reductions of any space.
    "side": _at_least(8),
    "profile": _one_of(*PROFILES),
    "protocol": _one_of("clean", "pinat"),
    "graph_form": _one_of(*GRAPH_FORMS),
    "n_images": _at_least(0),
    "regressor_width": _at_least(0),
    "head_bias": _at_least(0),
    "unlabelled": (lambda value: value == 0 or value >= 2, "at least 2, or 0 for none"),
    "n_test": (lambda value: value == 0 or value >= 2, "at least 2, or 0 for all"),
    "max_flops": _at_least(0),
    "max_params": _at_least(0),
    "oracle": _one_of("table", "surrogate"),
    "reading": _one_of("printed", "text"),
}


# More than anyone has computed: a slip of the keyboard, which would fill the memory or never end.
MOST: dict[str, int] = {
    "n": 1_000_000,
    "n_train": 10_000_000,
    "epochs": 1_000_000,
    "generation_epochs": 1_000_000,
    "unlabelled": 1_000_000,
    "seeds": 1_000,
    "batch": 1_000_000,
    "image_batch": 1_000_000,
    "n_validation": 10_000_000,
    "n_images": 100_000_000,
    "channels": 4_096,
    "width": 65_536,
    "hyper_width": 65_536,
    "regressor_width": 65_536,
    "n_layers": 1_000,
    "n_blocks": 1_000,
    "n_trees": 100_000,
    "cutout": 4_096,
    "side": 4_096,
}


def not_too_large(name: str, value: Any) -> Any:
    """Return `value`. Raise UserError if it exceeds the maximum for the setting `name`."""
    if isinstance(value, int) and value > MOST.get(name, value):
        raise UserError(f"{name} must be at most {MOST[name]:,}, got {value}")
    return value


def checked(name: str, value: Any) -> Any:
    """Return `value`. Raise UserError if it breaks the rule for the setting `name`.

    >>> checked("q", 1.5)
    1.5
    """
    holds, rule = RULES.get(name, (lambda _: True, ""))
    if not holds(value):
        raise UserError(f"{name} must be {rule}, got {value}")
    not_too_large(name, value)
    # Settings without a rule of their own must be finite, too.
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{name} must be a finite number, got {value}")
    return value


def typed(
    name: str,
    value: Any,
    kind: type | None,
) -> Any:
    """Return `value`, which may be text or a NumPy scalar, as a `kind`. If `kind` is None, any literal is accepted.

    Raise UserError if the value has another type.

    >>> typed("q", "2", float), typed("epochs", "20", int), typed("sizes", "[39, 78]", list)
    (2.0, 20, [39, 78])
    """
    # NumPy scalars come from tables and random generators; rows and file names hold plain numbers.
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, str) and kind is not str:
        try:
            literal = ast.literal_eval({"true": "True", "false": "False"}.get(value, value))
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            literal = value
        # No literal of Python, but numbers that a rule then refuses by name.
        no_number = value.strip().lstrip("+-") in ("nan", "inf")
        value = float(value) if kind is float and no_number else literal
    # True is an int to Python; as a learning rate it is a mistake.
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError as error:
            raise UserError(f"{name} must be a finite number, got {value}") from error
    if kind is None or type(value) is kind:
        return value
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    raise UserError(f"{name} must be {names.get(kind, f'a {kind.__name__}')}, got {value!r}")


def present_device(device: Any) -> str:
    """Return the name of a device of this machine; `gpu` means the first GPU. Raise UserError if it has no such device.

    >>> import torch
    >>> present_device(torch.device("cpu"))
    'cpu'
    """
    # Parameters of notebooks are checked by this module too, in processes that need no torch.
    import torch

    name = str(device) if isinstance(device, torch.device) else device
    if name == "gpu":
        name = "cuda"
    # `meta` computes shapes and no values: tests let it stand in for a GPU.
    if name != "meta":
        check_device(name)
    return name


def check_device(device: Any) -> None:
    """Raise UserError if this machine does not have the device."""
    import torch

    present = ["cpu"]
    if torch.cuda.is_available():
        present += ["cuda", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    if device not in present:
        raise UserError(f"device must be one that this machine has ({', '.join(present)}), got {device!r}")


def resolve(
    method: str,
    profile: str,
    accepted: Mapping[str, Any],
    defaults: Mapping[str, Any],
    chosen: Mapping[str, Any],
) -> dict[str, Any]:
    """Return all settings of one experiment, merged from the method, the profile, the space's `defaults` and `chosen`.

    `accepted` maps each setting of the method to its default. Settings of the profile or the space that the method does
    not have are ignored. Raise UserError if `chosen` has a setting that the method lacks, or for a wrong type or range.
    """
    known = {"graph_form": "contracted", **accepted}
    for name in chosen:
        if name not in known:
            raise UserError(f"a setting of {method} must be one of {', '.join(sorted(known))}, got {name!r}")
    settings = {name: known[name] for name in ("graph_form", *RECORDED) if name in known}
    # Later ones win: what a user chose over the space's, and the space's over the profile's.
    for layer in (PROFILES[checked("profile", profile)], defaults):
        settings.update({name: value for name, value in layer.items() if name in known})
    for name, value in chosen.items():
        kind = None if known[name] is None else type(known[name])
        settings[name] = typed(name, value, kind)
    return {name: checked(name, value) for name, value in settings.items()}


def flat_keywords(kind: Any) -> Any:
    """Class decorator for a dataclass of small dataclasses: their fields become keywords and attributes of the whole.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Size:
    ...     width: int = 72
    >>> @flat_keywords
    ... @dataclass(kw_only=True)
    ... class Model:
    ...     size: Size = Size()
    ...     seed: int = 0
    >>> Model(width=8), Model(width=8).width
    (Model(size=Size(width=8), seed=0), 8)
    """
    # Fields that are small dataclasses, with their defaults.
    groups = {setting.name: setting.default for setting in fields(kind) if is_dataclass(setting.default)}
    by_group = kind.__init__

    def __init__(self: Any, **keywords: Any) -> None:
        for name, default in groups.items():
            # Flat keywords go to the group that has a field of this name.
            own = {one.name: keywords.pop(one.name) for one in fields(default) if one.name in keywords}
            keywords[name] = replace(keywords.get(name, default), **own)
        by_group(self, **keywords)

    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)]
    for name, default in defaults(kind).items():
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default))
    # What help() and `settings_of` see.
    vars(__init__)["__signature__"] = inspect.Signature(parameters)
    kind.__init__ = __init__
    for name, default in groups.items():
        for one in fields(default):
            setattr(kind, one.name, property(attrgetter(f"{name}.{one.name}")))
    return kind


def defaults(kind: Any) -> dict[str, Any]:
    """Return every keyword of a dataclass with its default, including those of its small dataclasses."""
    flat: dict[str, Any] = {}
    for setting in fields(kind):
        if setting.init and is_dataclass(setting.default):
            flat |= {one.name: getattr(setting.default, one.name) for one in fields(setting.default)}
        elif setting.init:
            flat[setting.name] = setting.default
    return flat
