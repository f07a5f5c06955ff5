"""Figures of a single run: its losses and a Pareto front. `comparisons` has those of many rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hypernas.errors import UserError
from hypernas.search.pareto import pareto_front
from hypernas.view.comparisons import nothing
from hypernas.view.style import BLUE, GREY, RED, Picture, axes, use_style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = [
    "Picture",
    "loss_curves",
    "pareto",
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


def loss_curves(history: Any) -> Axes:
    """Draw both losses of a predictor's `history` (`epoch, loss_pred, loss_hyper`) on a logarithmic axis."""
    frame = _frame(history, "epoch")
    if frame.empty:
        return nothing("There is no run to draw.")
    lines = {
        "loss_pred": ("prediction (squared error, standardised)", BLUE),
        "loss_hyper": ("hypernetwork (cross-entropy)", RED),
    }
    ax = axes()
    for column, (label, colour) in lines.items():
        if column in frame and frame[column].notna().any():
            ax.plot(frame["epoch"], frame[column], color=colour, label=label)
    ax.set(xlabel="epoch", ylabel="loss", yscale="log")
    ax.locator_params(axis="x", integer=True)
    ax.yaxis.set_major_formatter("{x:g}")
    # Within one decade there may be no major tick at all; over several the minor ones would overlap.
    decades = np.ptp(np.log10(ax.get_ylim()))
    ax.yaxis.set_minor_formatter("{x:g}" if decades < 1 else "")
    ax.legend()
    return ax


def pareto(
    frame: pd.DataFrame,
    x: str,
    y: str,
) -> Axes:
    """Draw each row as a dot and connect those that no other beats; smaller x and larger y are better."""
    frame = _frame(frame, x, y)
    if frame.empty:
        return nothing()
    ax = axes()
    many = len(frame) > MANY_DOTS
    ax.scatter(frame[x], frame[y], s=8, color=GREY, alpha=0.4, linewidths=0, rasterized=many)
    cost = frame[x].to_numpy(float)
    quality = frame[y].to_numpy(float)
    front = frame.iloc[pareto_front(-cost, quality)]
    ax.plot(front[x], front[y], "o-", color=RED, markersize=4, drawstyle="steps-post", label="not dominated")
    ax.set(xlabel=x.replace("_", " "), ylabel=y.replace("_", " "))
    ax.legend()
    return ax
