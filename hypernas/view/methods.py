"""Methods below each other, with intervals and quoted figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hypernas.view.intervals import COLOURS, MARKERS, nothing
from hypernas.view.style import GREY, axes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def methods(lines: pd.DataFrame, metric: str = "kendall_tau", ax: Axes | None = None) -> Axes:
    """`results.summary`: mean and interval of every method, a line each, at each space and dataset; quoted hollow."""
    mean, low, high = (f"{metric}_{how}" for how in ("mean", "low", "high"))
    lines = lines[lines[mean].notna() | lines["paper"].notna()]
    if lines.empty:
        return nothing(ax=ax)
    order = lines.assign(of=lines[mean].fillna(lines["paper"])).groupby("method")["of"].mean().sort_values()
    ax = axes(ax, height=1.2 + 0.34 * len(order))
    places = list(lines.groupby(["space", "dataset"], sort=True))
    for number, (place, part) in enumerate(places):
        beside = 0.7 * ((number + 0.5) / len(places) - 0.5)
        at = np.array([order.index.get_loc(method) for method in part["method"]]) - beside
        style: dict[str, Any] = {
            "color": COLOURS[number % 6],
            "marker": MARKERS[number % 6],
            "linestyle": "none",
            "markersize": 5,
        }
        label = ", ".join(map(str, place))
        if part[mean].notna().any():
            ax.plot(part[mean].astype(float), at, label=label, **style)
            ax.hlines(at, part[low].astype(float), part[high].astype(float), color=style["color"], alpha=0.6)
        if part["paper"].notna().any():
            ax.plot(part["paper"].astype(float), at, label=f"{label}, quoted", markerfacecolor="white", **style)
    ax.set_yticks(range(len(order)), list(order.index))
    ax.axvline(0, color=GREY, linewidth=0.8, zorder=0)
    ax.set_xlabel(metric.replace("_", " "))
    ax.legend(loc="upper center", bbox_to_anchor=(0.4, -0.12), ncols=2, borderaxespad=0)
    return ax
