"""Rows of experiments over q -> the runs of the q explorer: averaged over seeds, with curves thinned to fit a page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hypernas.view.widgets.view import DATA_LIMIT, WrongInput, compact_json

if TYPE_CHECKING:
    import pandas as pd

NEEDED = ("q", "reading", "n_train", "kendall_tau")
DEFAULTS = {"space": "nasbench201", "dataset": "cifar10", "images": "digits", "learn_u": True, "profile": "live",
            "method": "hypernas", "epochs": None, "history": None, "seconds": None,
            "target_accuracy": None}  # fmt: skip
GROUP = ("space", "dataset", "n_train", "images", "reading", "learn_u", "q", "profile", "method", "epochs")
CURVES = ("loss_pred", "loss_hyper", "weight_pred", "weight_hyper")
POINTS_OF_A_CURVE = (50, 30, 20, 14, 10, 7, 5)


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | tuple[None, None]:
    """Student's interval for the mean of at least two values.

    >>> interval([0.7])
    (None, None)
    """
    from scipy import stats

    if len(values) < 2:
        return None, None
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    mean = float(np.mean(values))
    return mean - half, mean + half


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or str(value) in ("<NA>", "nan")


def plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with all fields the explorer reads. Raises WrongInput for a missing or wrong one.

    Of the target networks it is the accuracy on held-out images, where the row has it.
    """
    absent = [name for name in NEEDED if name not in row]
    if absent:
        raise WrongInput(f"a row must have {', '.join(NEEDED)}, {', '.join(absent)} is missing")
    given = {name: row.get(name) for name in DEFAULTS}
    if not _missing(row.get("target_test_accuracy")):
        given["target_accuracy"] = row["target_test_accuracy"]
    plain: dict[str, Any] = {name: DEFAULTS[name] if _missing(value) else value for name, value in given.items()}
    for name in ("q", "kendall_tau"):
        try:
            plain[name] = float(row[name])
        except (TypeError, ValueError):
            raise WrongInput(f"{name} must be a number, got {row[name]!r}") from None
        if not math.isfinite(plain[name]):
            raise WrongInput(f"{name} must be a finite number, got {plain[name]}")
    plain |= {"reading": str(row["reading"]), "n_train": int(row["n_train"]), "learn_u": bool(plain["learn_u"])}
    history = plain["history"]
    plain["history"] = json.loads(history) if isinstance(history, str) else history
    return plain


def rows_of(frame: pd.DataFrame | Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a frame or a list. Raises WrongInput where there are none."""
    records: list[Any] = frame.to_dict("records") if hasattr(frame, "to_dict") else list(frame)
    if not records:
        raise WrongInput("no recorded grid over q exists yet; train here, or record one with hypernas experiment")
    return [plain_row(row) for row in records]


def _mean(values: Sequence[Any]) -> float | None:
    known = [float(v) for v in values if not _missing(v) and math.isfinite(float(v))]
    return float(f"{np.mean(known):.5g}") if known else None


def _curves(histories: Sequence[Any], n: int) -> dict[str, list[float | None]] | None:
    """Mean curves at no more than n epochs, the first and the last among them."""
    known = [history for history in histories if history]
    if not known:
        return None
    length = min(len(history) for history in known)
    at = np.unique(np.linspace(0, length - 1, min(n, length)).round().astype(int))
    curves: dict[str, list[Any]] = {"epoch": [int(known[0][k].get("epoch", k)) for k in at]}
    for name in CURVES:
        values = [_mean([history[k].get(name) for history in known]) for k in at]
        if any(value is not None for value in values):
            curves[name] = [value if value is None else float(f"{value:.4g}") for value in values]
    return curves


def runs(rows: Sequence[Mapping[str, Any]], n: int) -> list[dict[str, Any]]:
    """One run a setting, in the order of their first rows: means over seeds, tau with its interval."""
    groups: dict[tuple, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in GROUP), []).append(row)
    found = []
    for order, members in enumerate(groups.values()):
        first = members[0]
        taus = [row["kendall_tau"] for row in members]
        low, high = interval(taus)
        run = {name: first[name] for name in ("n_train", "images", "reading", "q", "epochs")}
        run |= {"space": f"{first['space']} {first['dataset']}", "u": "learned" if first["learn_u"] else "fixed"}
        run |= {"tau": _mean(taus), "tau_low": _mean([low]), "tau_high": _mean([high]), "seeds": len(members)}
        run |= {name: _mean([row[name] for row in members]) for name in ("target_accuracy", "seconds")}
        run |= {"live": first["profile"] == "live", "order": order}
        found.append(run | {"curves": _curves([row["history"] for row in members], n)})
    return found


def grid(rows: Sequence[Mapping[str, Any]], newest: Mapping[str, Any] | None = None, note: str = "") -> dict[str, Any]:
    """The explorer's data; `newest` is the row it opens with. Curves get as many points as the page can carry."""
    data: dict[str, Any] = {}
    for n in POINTS_OF_A_CURVE:
        found = runs(rows, n)
        keys = list(dict.fromkeys(tuple(row[name] for name in GROUP) for row in rows))
        opened = None if newest is None else keys.index(tuple(newest[name] for name in GROUP))
        data = {"kind": "explorer", "runs": found, "newest": opened, "note": note}
        if len(compact_json(data)) <= DATA_LIMIT:
            break
    return data
