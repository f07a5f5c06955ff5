"""Figures: a DataFrame in, an Axes out, one function a figure. matplotlib is imported when drawing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from hypernas.errors import UserError
from hypernas.layered import layered
from hypernas.plot_style import BLUE, GREY, LINES, RED, STYLE, axes, method_style, use_style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = [
    "draw_cell", "draw_cells", "loss_curves", "pareto", "predicted_against_true", "task_weights",
    "tau_against_n_train", "use_style",
]  # fmt: skip

OPERATION_COLOURS = (
    ("none", "#FFFFFF"), ("skip", "#E4E4E4"), ("pool", "#F6C667"), ("1x1", "#A9D6F5"), ("sep", "#9ED9C3"),
    ("dil", "#E5B5CF"), ("3x3", "#6FB2DC"), ("5x5", "#58B99A"), ("7x7", "#E08A55"),
)  # fmt: skip
# The places of a drawn cell: layers are SPACING apart, a node is a box of this half width and height.
SPACING, HALF_WIDTH, HALF_HEIGHT = 2.0, 0.62, 0.3


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


def mean_interval(values: Any, level: float = 0.95) -> tuple[float, float, float]:
    """Mean and Student's interval for it; the interval of a single value is the value.

    >>> mean_interval([0.5])
    (0.5, 0.5, 0.5)
    """
    from scipy import stats

    x = np.asarray(values, float)
    mean = float(x.mean())
    if len(x) < 2:
        return mean, mean, mean
    half = float(stats.t.ppf((1 + level) / 2, len(x) - 1) * x.std(ddof=1) / len(x) ** 0.5)
    return mean, mean - half, mean + half


def tau_against_n_train(
    rows: pd.DataFrame, paper: pd.DataFrame | None = None, ax: Axes | None = None, metric: str = "kendall_tau"
) -> Axes:
    """Recorded rows (`method, graph_form, n_train, seed`, `metric`): mean and 95 % interval over the seeds.

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
    for (method, form), group in rows.groupby(["method", "graph_form"]):
        style = method_style(str(method))
        style["label"] += f", {form}"
        by_size = group.groupby("n_train")[metric]
        sizes = np.array(list(by_size.groups), float)
        mean, low, high = np.array([mean_interval(values) for _, values in by_size]).T
        ax.plot(sizes, mean, linestyle=LINES.get(str(form), "-"), **style)
        ax.fill_between(sizes, low, high, color=style["color"], alpha=0.15, linewidth=0)
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
    ax = axes(ax)
    ax.scatter(frame[x], frame[y], s=8, color=GREY, alpha=0.4, linewidths=0, rasterized=len(frame) > 2000)
    best = pareto_front(frame[x].to_numpy(float), frame[y].to_numpy(float))
    front = frame.iloc[best]
    ax.plot(front[x], front[y], "o-", color=RED, markersize=4, drawstyle="steps-post", label="not dominated")
    ax.set(xlabel=x.replace("_", " "), ylabel=y.replace("_", " "))
    ax.legend()
    return ax


def pareto_front(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Indices of the rows that no other row beats, x the smaller and y the larger the better, in order of x.

    >>> pareto_front(np.array([1.0, 2.0, 3.0, 3.0]), np.array([5.0, 4.0, 6.0, 7.0])).tolist()
    [0, 3]
    """
    order = np.lexsort((-y, x))
    before = np.maximum.accumulate(np.concatenate([[-np.inf], y[order]]))[:-1]
    return order[y[order] > before]


def operation_colour(op: str) -> str:
    return next((colour for part, colour in OPERATION_COLOURS if part in op), "#F2F2F2")


def draw_cell(nodes: Sequence[str], edges: Iterable[Sequence[int]], ax: Axes | None = None) -> Axes:
    """Draw a cell from left to right: operations `nodes` in topological order, edges (i, j) or (i, j, count).

    A count above one, several skip connections contracted into one edge, is written beside the edge.
    """
    from matplotlib.patches import FancyBboxPatch

    counts = {(edge[0], edge[1]): edge[2] if len(edge) > 2 else 1 for edge in edges}
    layout = layered(len(nodes), counts)
    points = [point for route in layout.route.values() for point in route] + list(layout.position.values())
    xs, ys = zip(*points, strict=True)
    ax = axes(ax, height=0.7 * (max(ys) - min(ys) + 1.2))
    for edge, count in counts.items():
        _draw_edge(ax, layout.route[edge], count)
    for name, (x, y) in zip(nodes, layout.position.values(), strict=True):
        corner = x * SPACING - HALF_WIDTH, y - HALF_HEIGHT
        style: Any = {"boxstyle": "round,pad=0,rounding_size=0.1", "facecolor": operation_colour(name)}
        ax.add_patch(FancyBboxPatch(corner, 2 * HALF_WIDTH, 2 * HALF_HEIGHT, edgecolor="#555555", zorder=2, **style))
        label = "\n".join(name.replace("_", " ").rsplit(" ", 1))
        ax.text(x * SPACING, y, label, ha="center", va="center", fontsize=8.5, color="#111111", zorder=3)
    ax.set(xlim=(-0.8, SPACING * max(xs) + 0.8), ylim=(min(ys) - 0.6, max(ys) + 0.6))
    ax.axis("off")
    return ax


def draw_cells(cells: Mapping[str, Any], names: Sequence[str]) -> list[Axes]:
    """Title -> cell (`ops` into `names`, `adjacency`): drawn one below the other to one scale."""
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(len(cells), squeeze=False)
    drawn = list(grid.flat)
    for ax, (title, cell) in zip(drawn, cells.items(), strict=True):
        edges = [(i, j, n) for i, row in enumerate(cell.adjacency) for j, n in enumerate(row) if n]
        draw_cell([names[op] for op in cell.ops], edges, ax).set_title(title)
    right, heights = max(ax.get_xlim()[1] for ax in drawn), [float(np.ptp(ax.get_ylim())) for ax in drawn]
    drawn[0].get_gridspec().set_height_ratios(heights)
    figure.set_figheight(0.7 * sum(heights) + 0.4 * len(drawn))
    plt.setp(drawn, xlim=(-0.8, right))
    return drawn


def _draw_edge(ax: Axes, route: Sequence[tuple[float, float]], count: int) -> None:
    """A smooth line through the points of a route, level where it passes a layer, and so beside nodes."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    points, codes = [(SPACING * route[0][0], route[0][1])], [Path.MOVETO]
    for (x, y), (x2, y2) in pairwise(route):
        start, end = SPACING * x + HALF_WIDTH, SPACING * x2 - HALF_WIDTH
        middle = (start + end) / 2
        points += [(start, y), (middle, y), (middle, y2), (end, y2)]
        codes += [Path.LINETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
    look: Any = {"arrowstyle": "-|>", "mutation_scale": 9, "color": "#555555", "linewidth": 1.2, "shrinkB": 0}
    ax.add_patch(FancyArrowPatch(path=Path(points, codes), zorder=1, **look))
    if count > 1:
        (x, y), (x2, y2) = route[-2:]
        place = SPACING * (x + x2) / 2, (y + y2) / 2
        box = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none"}
        ax.text(*place, f"×{count}", ha="center", va="center", fontsize=9, color="#333333", bbox=box)
