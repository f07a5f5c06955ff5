"""Turn rows of experiments over q into the runs of the q explorer: seeds averaged, curves thinned to fit a page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hypernas.lab.metrics import student_interval
from hypernas.view.widgets.view import DATA_LIMIT, WrongInput, compact_json

if TYPE_CHECKING:
    import pandas as pd

# Fields without which a row cannot be placed in the explorer.
NEEDED = ("q", "reading", "n_train", "kendall_tau")
# What a row counts as that does not say; older rows and live ones lack some.
DEFAULTS = {
    "space": "nasbench201",
    "dataset": "cifar10",
    "images": "digits",
    "learn_u": True,
    "profile": "live",
    "method": "hypernas",
    "epochs": None,
    "history": None,
    "seconds": None,
    "target_accuracy": None,
    "seed": None,
}
# What rows of one run have in common; they differ in the seed alone.
GROUP = ("space", "dataset", "n_train", "images", "reading", "learn_u", "q", "profile", "method", "epochs")
# Columns of a history that are drawn over the epochs.
CURVES = ("loss_pred", "loss_hyper", "weight_pred", "weight_hyper")
# Tried from the left until the page is light enough; the shape of a curve is still seen at 5 points.
POINTS_OF_A_CURVE = (50, 30, 20, 14, 10, 7, 5)


def _missing(value: Any) -> bool:
    # As text, because pandas has a missing value of its own that compares with nothing.
    return value is None or str(value) in ("<NA>", "nan")


def plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with all fields that the explorer reads. Raise WrongInput if one is missing or wrong.

    The accuracy of target networks is that on held-out images if the row has it.
    """
    absent = [name for name in NEEDED if name not in row]
    if absent:
        raise WrongInput(f"a row must have {', '.join(NEEDED)}, {', '.join(absent)} is missing")
    plain: dict[str, Any] = dict(DEFAULTS)
    for name in DEFAULTS:
        value = row.get(name)
        if not _missing(value):
            plain[name] = value
    held_out = row.get("target_test_accuracy")
    if not _missing(held_out):
        plain["target_accuracy"] = held_out
    for name in ("q", "kendall_tau"):
        try:
            plain[name] = float(row[name])
        except (TypeError, ValueError):
            raise WrongInput(f"{name} must be a number, got {row[name]!r}") from None
        if not math.isfinite(plain[name]):
            raise WrongInput(f"{name} must be a finite number, got {plain[name]}")
    plain["reading"] = str(row["reading"])
    plain["n_train"] = int(row["n_train"])
    plain["learn_u"] = bool(plain["learn_u"])
    # A frame of recorded rows has lists as JSON text.
    if isinstance(plain["history"], str):
        plain["history"] = json.loads(plain["history"])
    return plain


def rows_of(frame: pd.DataFrame | Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of a frame or a list. Raise WrongInput if there are none."""
    records: list[Any] = frame.to_dict("records") if hasattr(frame, "to_dict") else list(frame)
    if not records:
        raise WrongInput("no recorded grid over q exists yet; train here, or record one with hypernas experiment")
    return [plain_row(row) for row in records]


def _rounded(value: float, digits: int = 5) -> float:
    """A number with so many significant digits: what a chart of a few hundred pixels can show."""
    return float(f"{value:.{digits}g}")


def _mean(values: Sequence[Any]) -> float | None:
    """The mean of the finite values; None where there is none."""
    known = [float(value) for value in values if not _missing(value)]
    finite = [value for value in known if math.isfinite(value)]
    return _rounded(float(np.mean(finite))) if finite else None


def _curves(histories: Sequence[Any], n: int) -> dict[str, list[float | None]] | None:
    """Mean curves at no more than n epochs, the first and the last among them."""
    known = [history for history in histories if history]
    if not known:
        return None
    length = min(len(history) for history in known)
    spread = np.linspace(0, length - 1, min(n, length))
    places = np.unique(spread.round().astype(int)).tolist()
    epochs = [int(known[0][place].get("epoch", place)) for place in places]
    curves: dict[str, list[Any]] = {"epoch": epochs}
    for name in CURVES:
        means = []
        for place in places:
            mean = _mean([history[place].get(name) for history in known])
            means.append(mean if mean is None else _rounded(mean, 4))
        if any(mean is not None for mean in means):
            curves[name] = means
    return curves


def _setting(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a run is: rows with the same setting differ in the seed alone."""
    return tuple(row[name] for name in GROUP)


def _run(
    members: Sequence[Mapping[str, Any]],
    order: int,
    n: int,
    reference: Mapping[str, Mapping[int, float]],
) -> dict[str, Any]:
    """One run of the explorer from its rows, a seed each; curves have at most n points.

    `gain` is the mean difference to the `reference` over the seeds that both have.
    """
    first = members[0]
    alone = reference.get(f"{first['space']} {first['dataset']}, {first['n_train']}", {})
    gains = [row["kendall_tau"] - alone[row["seed"]] for row in members if row["seed"] in alone]
    taus = [row["kendall_tau"] for row in members]
    low, high = student_interval(taus)
    return {
        "n_train": first["n_train"],
        "images": first["images"],
        "reading": first["reading"],
        "q": first["q"],
        "epochs": first["epochs"],
        "space": f"{first['space']} {first['dataset']}",
        "u": "learned" if first["learn_u"] else "fixed",
        "tau": _mean(taus),
        "tau_low": _mean([low]),
        "tau_high": _mean([high]),
        "seeds": len(members),
        "gain": _mean(gains),
        "pairs": len(gains),
        "target_accuracy": _mean([row["target_accuracy"] for row in members]),
        "seconds": _mean([row["seconds"] for row in members]),
        "live": first["profile"] == "live",
        "order": order,
        "curves": _curves([row["history"] for row in members], n),
    }


def runs(
    rows: Sequence[Mapping[str, Any]],
    n: int,
    reference: Mapping[str, Mapping[int, float]],
) -> list[dict[str, Any]]:
    """Return one run for each setting, in the order of their first rows: means over seeds, tau with its interval."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(_setting(row), []).append(row)
    return [_run(members, order, n, reference) for order, members in enumerate(groups.values())]


def grid(
    rows: Sequence[Mapping[str, Any]],
    newest: Mapping[str, Any] | None = None,
    note: str = "",
    reference: Mapping[str, Mapping[int, float]] | None = None,
) -> dict[str, Any]:
    """Return the explorer's data; `newest` is the row it opens with.

    Curves get as many points as the page can carry.
    """
    settings = list(dict.fromkeys(_setting(row) for row in rows))
    opened = None if newest is None else settings.index(_setting(newest))
    data: dict[str, Any] = {}
    for n in POINTS_OF_A_CURVE:
        data = {"kind": "explorer", "runs": runs(rows, n, reference or {}), "newest": opened, "note": note}
        if len(compact_json(data)) <= DATA_LIMIT:
            break
    return data
