"""Figures of one run: predictions, losses, task weights, cost. Those of many rows are in `comparisons`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hypernas.errors import UserError
from hypernas.search.pareto import pareto_front
from hypernas.view.cells import draw_cell, draw_cells, operation_colour
from hypernas.view.comparisons import nothing
from hypernas.view.style import BLUE, GREY, PAPER, RED, Picture, axes, use_style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = [
    "Picture",
    "draw_cell",
    "draw_cells",
    "growth",
    "loss_curves",
    "operation_colour",
    "pareto",
    "predicted_against_true",
    "task_weights",
    "use_style",
]

# More dots than this are drawn as a picture: as vectors they would make the page heavy.
MANY_DOTS = 2000


def _frame(data: Any, *columns: str) -> pd.DataFrame:
    """`data` as a DataFrame. Raises UserError where it lacks one of the columns."""
    import pandas as pd

    frame = pd.DataFrame(data)
    missing = [column for column in columns if column not in frame]
    if missing:
        raise UserError(f"the frame must have columns {', '.join(columns)}, {', '.join(missing)} are missing")
    return frame


def predicted_against_true(
    data: Any,
    ax: Axes | None = None,
    low: float = 0.05,
) -> Axes:
    """Columns `predicted`, `true` in percent, and optionally `train` (bool): one dot an architecture.

    The share `low` of the architectures with the lowest true accuracy lies left of the axis and is counted in
    its label, because a few diverged architectures would leave the others no room.
    """
    frame = _frame(data, "predicted", "true")
    ax = axes(ax)
    true = frame["true"].to_numpy(float)
    predicted = frame["predicted"].to_numpy(float)
    train = frame["train"].to_numpy(bool) if "train" in frame else np.zeros(len(frame), bool)
    seen: Any = frame[train]
    unseen: Any = frame[~train]
    # Ten thousands of dots as vectors would make a page of megabytes.
    ax.scatter(
        "true",
        "predicted",
        data=unseen,
        s=4,
        color=BLUE,
        alpha=0.25,
        linewidths=0,
        rasterized=True,
        label=f"not seen ({len(unseen):,})",
    )
    if len(seen):
        ax.scatter(
            "true",
            "predicted",
            data=seen,
            s=22,
            color=RED,
            edgecolor=PAPER,
            linewidths=0.6,
            label=f"training set ({len(seen):,})",
        )
    left = float(np.quantile(true, low))
    shown = true >= left
    right = float(true.max())
    # Room for the dots at the edges; of equal accuracies a little, because an axis must have a length.
    margin = 0.03 * float(np.ptp(true[shown])) + 1e-9
    ax.set_xlim(left - margin, right + margin)
    bottom = float(predicted[shown].min())
    top = float(predicted[shown].max())
    ax.set_ylim(bottom - margin, max(top, right) + margin)
    ax.axline((right, right), slope=1, color=GREY, linewidth=1, zorder=0)
    n_hidden = np.count_nonzero(~shown)
    hidden = f" ({n_hidden:,} lower ones not shown)" if n_hidden else ""
    ax.set(xlabel=f"true test accuracy, %{hidden}", ylabel="predicted accuracy, %")
    for handle in ax.legend(loc="lower right", handletextpad=0.2).legend_handles:
        if handle is not None:
            handle.set(alpha=1, sizes=[22])
    return ax


def _curves(
    history: Any,
    lines: Mapping[str, tuple[str, str]],
    ylabel: str,
    ax: Axes | None,
) -> Axes:
    frame = _frame(history, "epoch")
    if frame.empty:
        return nothing("There is no run to draw.", ax)
    ax = axes(ax)
    for column, (label, colour) in lines.items():
        if column in frame and frame[column].notna().any():
            ax.plot(frame["epoch"], frame[column], color=colour, label=label)
    ax.set(xlabel="epoch", ylabel=ylabel, yscale="log")
    ax.locator_params(axis="x", integer=True)
    ax.yaxis.set_major_formatter("{x:g}")
    # Within one decade there may be no major tick at all; over several the minor ones would overlap.
    decades = np.ptp(np.log10(ax.get_ylim()))
    ax.yaxis.set_minor_formatter("{x:g}" if decades < 1 else "")
    ax.legend()
    return ax


def loss_curves(history: Any, ax: Axes | None = None) -> Axes:
    """`history` of a predictor (`epoch, loss_pred, loss_hyper`): both losses, logarithmic."""
    lines = {
        "loss_pred": ("prediction (squared error, standardised)", BLUE),
        "loss_hyper": ("hypernetwork (cross-entropy)", RED),
    }
    return _curves(history, lines, "loss", ax)


def task_weights(history: Any, ax: Axes | None = None) -> Axes:
    """`history` of a predictor (`epoch, weight_pred, weight_hyper`): the factor of each loss in the total."""
    lines = {
        "weight_pred": ("prediction", BLUE),
        "weight_hyper": ("hypernetwork", RED),
    }
    return _curves(history, lines, "task weight", ax)


def pareto(
    frame: pd.DataFrame,
    x: str,
    y: str,
    ax: Axes | None = None,
) -> Axes:
    """Every row a dot, x the smaller and y the larger the better, a line through those none other beats."""
    frame = _frame(frame, x, y)
    if frame.empty:
        return nothing(ax=ax)
    ax = axes(ax)
    many = len(frame) > MANY_DOTS
    ax.scatter(frame[x], frame[y], s=8, color=GREY, alpha=0.4, linewidths=0, rasterized=many)
    cost = frame[x].to_numpy(float)
    quality = frame[y].to_numpy(float)
    front = frame.iloc[pareto_front(-cost, quality)]
    ax.plot(front[x], front[y], "o-", color=RED, markersize=4, drawstyle="steps-post", label="not dominated")
    ax.set(xlabel=x.replace("_", " "), ylabel=y.replace("_", " "))
    ax.legend()
    return ax


def growth(
    data: Any,
    cost: str = "seconds",
    ax: Axes | None = None,
) -> Axes:
    """Columns `setting`, `flop` and `cost`: cost against arithmetic, relative to each setting's first line."""
    frame = _frame(data, "setting", "flop", cost)
    from matplotlib.ticker import LogLocator

    ax = axes(ax)
    both = ["flop", cost]
    # Every setting starts at (1, 1), whatever its units.
    first = frame.groupby("setting")[both].transform("first")
    relative = frame[both] / first
    for setting, part in relative.groupby(frame["setting"], sort=False):
        ax.plot(part["flop"], part[cost], marker="o", label=str(setting).replace("_", " "))
    top = float(relative["flop"].max())
    ax.plot([1, top], [1, top], color=GREY, linestyle=":", linewidth=1, label="as the arithmetic")
    ax.set(xscale="log", yscale="log", xlabel="arithmetic, times the least", ylabel=f"{cost}, times the least")
    # "2" and "5" stand for themselves; powers of ten would be the only ticks otherwise, often a single one.
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    ax.legend()
    return ax
