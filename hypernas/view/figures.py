"""Figures: a DataFrame in, an Axes out, one function a figure. matplotlib is imported when drawing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hypernas.errors import UserError
from hypernas.lab.metrics import bootstrap_interval
from hypernas.search.pareto import pareto_front
from hypernas.view.cells import draw_cell, draw_cells, operation_colour
from hypernas.view.intervals import best_so_far, differences, front, means, nothing
from hypernas.view.style import BLUE, GREY, LINES, RED, axes, method_style, use_style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = [
    "best_so_far", "differences", "draw_cell", "draw_cells", "front", "loss_curves", "means",
    "operation_colour", "pareto", "predicted_against_true", "task_weights", "tau_against_n_train", "use_style",
]  # fmt: skip


def _frame(data: Any, *columns: str) -> pd.DataFrame:
    """`data` as a DataFrame. Raises UserError where it lacks one of the columns."""
    import pandas as pd

    frame = pd.DataFrame(data)
    missing = [column for column in columns if column not in frame]
    if missing:
        raise UserError(f"the frame must have columns {', '.join(columns)}, {', '.join(missing)} are missing")
    return frame


def predicted_against_true(data: Any, ax: Axes | None = None, low: float = 0.05) -> Axes:
    """Columns `predicted`, `true` in percent, and optionally `train` (bool): one dot an architecture.

    The share `low` of the architectures with the lowest true accuracy lies left of the axis and is counted in
    its label, because a few diverged architectures would leave the others no room.
    """
    frame = _frame(data, "predicted", "true")
    ax = axes(ax)
    train = frame["train"].to_numpy(bool) if "train" in frame else np.zeros(len(frame), bool)
    true, predicted = frame["true"].to_numpy(float), frame["predicted"].to_numpy(float)
    ax.scatter(true[~train], predicted[~train], s=4, color=BLUE, alpha=0.25, linewidths=0, rasterized=True,
               label=f"not seen ({(~train).sum():,})")  # fmt: skip
    if train.any():
        ax.scatter(true[train], predicted[train], s=22, color=RED, edgecolor="white", linewidths=0.6,
                   label=f"training set ({train.sum():,})")  # fmt: skip
    left = float(np.quantile(true, low))
    shown = true >= left
    right, margin = float(true.max()), 0.03 * float(np.ptp(true[shown])) + 1e-9
    ax.set_xlim(left - margin, right + margin)
    bottom, top = float(predicted[shown].min()), float(predicted[shown].max())
    ax.set_ylim(bottom - margin, max(top, right) + margin)
    ax.axline((right, right), slope=1, color=GREY, linewidth=1, zorder=0)
    hidden = f" ({(~shown).sum():,} lower ones not shown)" if (~shown).any() else ""
    ax.set(xlabel=f"true test accuracy, %{hidden}", ylabel="predicted accuracy, %")
    for handle in ax.legend(loc="lower right", handletextpad=0.2).legend_handles:
        if handle is not None:
            handle.set(alpha=1, sizes=[22])
    return ax


def tau_against_n_train(
    rows: pd.DataFrame, paper: pd.DataFrame | None = None, ax: Axes | None = None, metric: str = "kendall_tau"
) -> Axes:
    """Recorded rows (`method, graph_form, n_train, seed`, `metric`): mean and 95 % bootstrap interval over the seeds.

    `paper` (`method, n_train, paper`) adds quoted figures as hollow marks of the method's colour. UserError
    where two rows share method, graph form, n_train and seed: different settings must not be averaged.
    """
    rows = _frame(rows, "method", "graph_form", "n_train", "seed", metric)
    twice = rows.duplicated(["method", "graph_form", "n_train", "seed"])
    if twice.any():
        name, form, n_train, seed = rows.loc[twice, ["method", "graph_form", "n_train", "seed"]].iloc[0]
        raise UserError(
            f"one row a method, graph form, n_train and seed is needed, got two for {name}, {form}, "
            f"{n_train}, seed {seed}: choose one of the settings in which they differ"
        )
    ax = axes(ax, height=5.2)
    groups = rows.groupby(["method", "graph_form"])
    for number, ((method, form), group) in enumerate(groups):
        style = method_style(str(method))
        style["label"] += f", {form}"
        by_size = group.groupby("n_train")[metric]
        beside = 1.025 ** (number - (len(groups) - 1) / 2)
        sizes = np.array(list(by_size.groups), float) * beside
        ax.plot(sizes, by_size.mean(), linestyle=LINES.get(str(form), "-"), **style)
        known = [
            (at, *bootstrap_interval(v.to_numpy())) for at, (_, v) in zip(sizes, by_size, strict=True) if len(v) > 1
        ]
        if known:
            ax.vlines(*zip(*known, strict=True), color=style["color"], linewidth=1.5, alpha=0.6)
    for method, group in paper.groupby("method") if paper is not None else ():
        style = method_style(str(method))
        style["label"] += ", quoted"
        group = group.sort_values("n_train")
        ax.plot(group["n_train"], group["paper"], linestyle="none", markerfacecolor="white", **style)
    _size_axis(ax, [*rows["n_train"], *(paper["n_train"] if paper is not None else ())])
    ax.set(xlabel="training architectures", ylabel=metric.replace("_", " "))
    if ax.lines:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, borderaxespad=0)
    return ax


def _size_axis(ax: Axes, sizes: Iterable[int]) -> None:
    """A logarithmic axis with a tick at every size in use and nowhere else."""
    ticks = sorted({int(size) for size in sizes})
    ax.set_xscale("log")
    ax.minorticks_off()
    ax.set_xticks(ticks, [str(tick) for tick in ticks])


def _curves(history: Any, lines: Mapping[str, tuple[str, str]], ylabel: str, ax: Axes | None) -> Axes:
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
    ax.yaxis.set_minor_formatter("{x:g}" if np.ptp(np.log10(ax.get_ylim())) < 1 else "")
    ax.legend()
    return ax


def loss_curves(history: Any, ax: Axes | None = None) -> Axes:
    """`history` of a predictor (`epoch, loss_pred, loss_hyper`): both losses, logarithmic."""
    lines = {"loss_pred": ("prediction (squared error, standardised)", BLUE),
             "loss_hyper": ("hypernetwork (cross-entropy)", RED)}  # fmt: skip
    return _curves(history, lines, "loss", ax)


def task_weights(history: Any, ax: Axes | None = None) -> Axes:
    """`history` of a predictor (`epoch, weight_pred, weight_hyper`): the factor of each loss in the total."""
    lines = {"weight_pred": ("prediction", BLUE), "weight_hyper": ("hypernetwork", RED)}
    return _curves(history, lines, "task weight", ax)


def pareto(frame: pd.DataFrame, x: str, y: str, ax: Axes | None = None) -> Axes:
    """Every row a dot, x the smaller and y the larger the better, a line through those none other beats."""
    frame = _frame(frame, x, y)
    if frame.empty:
        return nothing(ax=ax)
    ax = axes(ax)
    ax.scatter(frame[x], frame[y], s=8, color=GREY, alpha=0.4, linewidths=0, rasterized=len(frame) > 2000)
    best = pareto_front(-frame[x].to_numpy(float), frame[y].to_numpy(float))
    front = frame.iloc[best]
    ax.plot(front[x], front[y], "o-", color=RED, markersize=4, drawstyle="steps-post", label="not dominated")
    ax.set(xlabel=x.replace("_", " "), ylabel=y.replace("_", " "))
    ax.legend()
    return ax


def growth(data: Any, cost: str = "seconds", ax: Axes | None = None) -> Axes:
    """Columns `setting`, `flop` and `cost`: cost against arithmetic, relative to each setting's first line."""
    frame = _frame(data, "setting", "flop", cost)
    ax = axes(ax)
    relative = frame[["flop", cost]] / frame.groupby("setting")[["flop", cost]].transform("first")
    for setting, part in relative.groupby(frame["setting"], sort=False):
        ax.plot(part["flop"], part[cost], marker="o", label=str(setting).replace("_", " "))
    top = float(relative["flop"].max())
    ax.plot([1, top], [1, top], color=GREY, linestyle=":", linewidth=1, label="as the arithmetic")
    ax.set(xscale="log", yscale="log", xlabel="arithmetic, times the least", ylabel=f"{cost}, times the least")
    ax.legend()
    return ax
