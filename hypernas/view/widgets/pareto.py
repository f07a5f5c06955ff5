"""The Pareto view: points, cost against quality, the front, and the cell of the point one looks at."""

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
        raise WrongInput(f"the table must have a column {name}, it has {', '.join(map(str, frame.columns)) or 'none'}")
    try:
        values = frame[name].to_numpy(float)
    except (TypeError, ValueError):
        raise WrongInput(f"column {name} must hold numbers, got {frame[name].iloc[0]!r}") from None
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise WrongInput(
            f"column {name} must hold finite numbers, {len(wrong)} of {len(values)} are not, row {wrong[0]} first"
        )
    return values


def _short(values: np.ndarray) -> list[float]:
    return [float(f"{v:.5g}") for v in values]


def _data(frame: pd.DataFrame, x: str, y: str, drawings: Any, title: str, log_x: bool) -> dict[str, Any]:
    if len(frame) == 0:
        raise WrongInput("a Pareto view needs a table with at least two rows, got an empty one")
    cost, quality = _column(frame, x), _column(frame, y)
    if len(frame) == 1:
        raise WrongInput(f"a Pareto view needs at least two points, got one: {x} {cost[0]:g}, {y} {quality[0]:g}")
    if log_x and cost.min() <= 0:
        raise WrongInput(f"a logarithmic axis needs {x} above 0, got {cost.min():g}")
    front = pareto_front(-cost, quality).tolist()
    data: dict[str, Any] = {"kind": "pareto", "title": title, "x": _short(cost), "y": _short(quality), "front": front,
                            "xlabel": x.replace("_", " "), "ylabel": y.replace("_", " "), "xlog": log_x}  # fmt: skip
    if "name" in frame:
        data["names"] = frame["name"].astype(str).tolist()
    if drawings is not None:
        given = dict(drawings) if isinstance(drawings, Mapping) else dict(enumerate(drawings))
        wrong = [i for i in given if not 0 <= i < len(frame)]
        if wrong:
            raise WrongInput(f"a drawing must belong to one of the {len(frame)} rows, got one for row {wrong[0]}")
        order = [*(i for i in front if i in given), *(i for i in given if i not in set(front))]
        chosen = {i: checked_drawing(given[i]) for i in order}
        data |= pack_within(chosen, len(frame), DATA_LIMIT - len(compact_json(data)))
    return data


class ParetoView(View):
    """Every row of `frame` a point: column `x` the smaller and `y` the larger the better, column `name` its name.

    `drawings`, one a row or by row number, link a point to its cell; those that would make the page heavy are left out,
    the front's last. `selected` is the pinned row, -1 for none. Bad input shows a sentence in place of the view.
    """

    def __init__(
        self, frame: pd.DataFrame, x: str, y: str, drawings: Sequence[Any] | Mapping[int, Any] | None = None,
        title: str = "", log_x: bool = False,
    ) -> None:  # fmt: skip
        try:
            data = _data(frame, x, y, drawings, title, log_x)
        except WrongInput as error:
            data = {"kind": "pareto", "sentence": f"Nothing to draw: {error}."}
        super().__init__(data=data)

    def instead(self) -> str:
        if "sentence" in self.data:
            return super().instead()
        d = self.data
        rows = "".join(f"<tr><td>{d['x'][i]:g}</td><td>{d['y'][i]:g}</td></tr>" for i in d["front"])
        head = "".join(f"<th>{html.escape(d[label])}</th>" for label in ("xlabel", "ylabel"))
        return f"<table><caption>not dominated, of {len(d['x'])} points</caption><tr>{head}</tr>{rows}</table>"
