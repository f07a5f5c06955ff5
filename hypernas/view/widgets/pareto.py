"""The Pareto view: points, cost against quality, the front, and the cell of the point under the pointer."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hypernas.search.pareto import pareto_front
from hypernas.view.widgets.cell import checked_drawing
from hypernas.view.widgets.packing import pack_within
from hypernas.view.widgets.view import DATA_LIMIT, View, WrongInput, compact_json

if TYPE_CHECKING:
    import pandas as pd


def _column(frame: pd.DataFrame, name: str) -> np.ndarray:
    if name not in frame:
        columns = ", ".join(map(str, frame.columns)) or "none"
        raise WrongInput(f"the table must have a column {name}, it has {columns}")
    try:
        values = frame[name].to_numpy(float)
    except (TypeError, ValueError):
        raise WrongInput(f"column {name} must hold numbers, got {frame[name].iloc[0]!r}") from None
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        got = f"{len(wrong)} of {len(values)} are not, row {wrong[0]} first"
        raise WrongInput(f"column {name} must hold finite numbers, {got}")
    return values


def _short(values: np.ndarray) -> list[float]:
    # Five digits are more than a figure can show, and a page with thousands of points must stay light.
    return [float(f"{v:.5g}") for v in values]


def _data(
    frame: pd.DataFrame,
    x: str,
    y: str,
    drawings: Any,
    title: str,
    log_x: bool,
) -> dict[str, Any]:
    if len(frame) == 0:
        raise WrongInput("a Pareto view needs a table with at least two rows, got an empty one")
    cost = _column(frame, x)
    quality = _column(frame, y)
    if len(frame) == 1:
        raise WrongInput(f"a Pareto view needs at least two points, got one: {x} {cost[0]:g}, {y} {quality[0]:g}")
    if log_x and cost.min() <= 0:
        raise WrongInput(f"a logarithmic axis needs {x} above 0, got {cost.min():g}")
    front = pareto_front(-cost, quality).tolist()
    data: dict[str, Any] = {
        "kind": "pareto",
        "title": title,
        "x": _short(cost),
        "y": _short(quality),
        "front": front,
        "xlabel": x.replace("_", " "),
        "ylabel": y.replace("_", " "),
        "xlog": log_x,
    }
    if "name" in frame:
        data["names"] = frame["name"].astype(str).tolist()
    if drawings is not None:
        linked = _front_first(drawings, front, len(frame))
        room = DATA_LIMIT - len(compact_json(data))
        data |= pack_within(linked, len(frame), room)
    return data


def _front_first(
    drawings: Any,
    front: Sequence[int],
    n: int,
) -> dict[int, dict[str, Any]]:
    """Checked drawings by row, those of the front first: where not all have room, the others are left out."""
    given = dict(drawings) if isinstance(drawings, Mapping) else dict(enumerate(drawings))
    for row in given:
        if not 0 <= row < n:
            raise WrongInput(f"a drawing must belong to one of the {n} rows, got one for row {row}")
    on_front = [row for row in front if row in given]
    order = dict.fromkeys([*on_front, *given])
    return {row: checked_drawing(given[row]) for row in order}


class ParetoView(View):
    """Each row of `frame` as a point: smaller is better in column `x`, larger in column `y`; column `name` is its name.

    `drawings`, one for each row or by row number, link points to cells. If they make the page too heavy, some are left
    out, those of the front last. `selected` is the pinned row, -1 for none. For bad input, the view shows an error in
    one sentence.
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        x: str,
        y: str,
        drawings: Sequence[Any] | Mapping[int, Any] | None = None,
        title: str = "",
        log_x: bool = False,
    ) -> None:
        try:
            data = _data(frame, x, y, drawings, title, log_x)
        except WrongInput as error:
            data = {"kind": "pareto", "sentence": f"Nothing to draw: {error}."}
        super().__init__(data=data)

    def instead(self) -> str:
        if "sentence" in self.data:
            return super().instead()
        x = self.data["x"]
        y = self.data["y"]
        rows = "".join(f"<tr><td>{x[i]:g}</td><td>{y[i]:g}</td></tr>" for i in self.data["front"])
        head = "".join(f"<th>{html.escape(self.data[axis])}</th>" for axis in ("xlabel", "ylabel"))
        return f"<table><caption>not dominated, of {len(x)} points</caption><tr>{head}</tr>{rows}</table>"
