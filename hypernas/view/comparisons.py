"""Figures of recorded rows: learning curves, paired differences, paper versus ours, cost versus quality, searches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from hypernas.errors import UserError
from hypernas.lab import claims
from hypernas.lab.ceilings import ceiling
from hypernas.lab.formats import estimate, repeats
from hypernas.lab.metrics import student_interval
from hypernas.lab.pages import display_name, place_name, series_columns, series_name
from hypernas.lab.rows import paper_figures
from hypernas.search.pareto import pareto_front
from hypernas.view.style import BLUE, DASHES, GREEN, GREY, INK, PAPER, RED, STYLE, axes, method_style, value_style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# More lines than this nobody can tell apart; facets take the rest.
MOST_SERIES = 6
# An answer that decides nothing stays grey.
ANSWER_COLOURS = {claims.HIGHER: BLUE, claims.LOWER: RED, claims.EQUIVALENT: GREEN}
# Letters in a line of a label at the left of a figure.
LABEL_WIDTH = 30
# Inches of a figure that fills the column of a page; a wider one would be shrunk, letters and all.
COLUMN = 8.2
# Labels beside the ends of lines need this share of the height of the axes each.
LABEL_HEIGHT = 0.06


def nothing(text: str = "No rows are recorded yet.") -> Axes:
    """Return a small figure that says why there is nothing to draw."""
    ax = axes(height=1.0)
    ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes)
    ax.set_axis_off()
    return ax


def no_rows() -> Any:
    """Return `nothing` as a whole figure."""
    return nothing().figure


def spread_apart(heights: Sequence[float], gap: float) -> list[float]:
    """Return the heights of labels, moved as little as possible so that neighbours are at least `gap` apart.

    >>> [round(height, 2) for height in spread_apart([0.5, 0.5, 0.9], 0.2)]
    [0.4, 0.6, 0.9]
    """
    order = np.argsort(heights, kind="stable")
    places = np.array(heights, float)[order]
    # Neighbours that are too close move apart by half of what is missing each, until none is.
    for _ in range(200):
        missing = gap - np.diff(places)
        if (missing <= 1e-6).all():
            break
        # Half each, so that the middle of a crowd of labels stays where its lines end.
        push = np.clip(missing, 0, None) / 2
        places[:-1] -= push
        places[1:] += push
    moved = np.empty_like(places)
    moved[order] = places
    return moved.tolist()


def _label_ends(ax: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Write each line's name at its right end: (x, y, name, colour)."""
    if not ends:
        return
    low, high = ax.get_ylim()
    right = max(end[0] for end in ends)
    # A line that stops early is named there, below its end; the names at the right stand apart from each other.
    for x, y, name, colour in ends:
        if x < right:
            ax.annotate(name, (x, y), xytext=(4, -13), textcoords="offset points", color=colour, fontsize=9)
    last = [end for end in ends if end[0] == right]
    heights = spread_apart([end[1] for end in last], LABEL_HEIGHT * (high - low))
    for (_, _, name, colour), height in zip(last, heights, strict=True):
        ax.annotate(
            name,
            (right, height),
            xytext=(9, 0),
            textcoords="offset points",
            color=colour,
            va="center",
            fontsize=9,
            annotation_clip=False,
        )


def _series(rows: pd.DataFrame, by: Sequence[str]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Each combination of values in the columns `by` with its style; colour by the first, dashes by the graph form."""
    levels = {name: list(dict.fromkeys(rows[name].dropna())) for name in by}
    styles = {}
    for values in dict.fromkeys(rows[list(by)].itertuples(index=False, name=None)):
        style = value_style(values[0], levels[by[0]])
        style["label"] = ", ".join(display_name(value) for value in values if value == value)
        style["linestyle"] = next((DASHES[value] for value in values[1:] if value in DASHES), "-")
        styles[values] = style
    if len(styles) > MOST_SERIES:
        raise UserError(f"a figure must have at most {MOST_SERIES} series, got {len(styles)}: choose fewer rows")
    return styles


# Two numbers of labels that are closer, as a part of the axis, would run into each other.
CLOSEST_LABELS = 0.15


def _size_axis(
    ax: Axes,
    sizes: Iterable[float],
    log: bool = True,
) -> None:
    """A tick at every size in use and nowhere else; sizes grow by factors, so the axis does too."""
    ticks = sorted({float(size) for size in sizes})
    places = np.log(ticks) if log else np.array(ticks)
    labels: list[str] = []
    last = -np.inf
    for tick, place in zip(ticks, places, strict=True):
        fits = place - last >= CLOSEST_LABELS * np.ptp(places)
        labels.append(f"{tick:g}" if fits else "")
        if fits:
            last = place
    if log:
        ax.set_xscale("log")
    ax.minorticks_off()
    ax.set_xticks(ticks, labels, fontsize=9)


def learning_curves(
    rows: pd.DataFrame,
    by: Sequence[str] = ("method",),
    x: str = "n_train",
    paper: pd.DataFrame | None = None,
    width: float = COLUMN,
) -> Figure:
    """Draw the mean Kendall tau over seeds of each series with its Student's t band, one facet for each space.

    `by` are the columns that distinguish series and `x` is the axis. `paper` (`space, method, n_train, paper`) adds
    hollow marks joined to our mean. If it is known, a dotted line shows how well the table's own training labels would
    rank. Raise UserError for more than six series, or if two rows share series, place and seed, because different
    settings must not be averaged.
    """
    rows = rows[rows["kendall_tau"].notna()].astype({x: float})
    key = ["space", "dataset", *by, x, "seed"]
    if rows.duplicated(key).any():
        raise UserError(f"one row a {', '.join(key)} is needed, got two: choose one of the settings they differ in")
    if rows.empty:
        return no_rows()
    styles = _series(rows, by)
    facets = list(rows.groupby(["space", "dataset"], sort=False))
    figure, grid = _facets(len(facets), most=2, height=3.9 if len(facets) == 1 else 3.3, width=width)
    for ax, ((space, dataset), facet) in zip(grid, facets, strict=True):
        ends = []
        for values, style in styles.items():
            part = _with_values(facet, by, values)
            if part.empty:
                continue
            means = _draw_curve(ax, part, x, style)
            ends.append((float(means.index[-1]), float(means.iloc[-1]), style["label"], style["color"]))
            if paper is not None:
                figures = paper[(paper["method"] == values[0]) & (paper["space"] == space)]
                _draw_paper(ax, figures, means, style)
        _size_axis(ax, facet[x], log=x == "n_train")
        if x == "n_train":
            _draw_ceiling(ax, ceiling(str(space), str(dataset)))
        _label_ends(ax, ends)
        # A space with one dataset needs no word on which.
        several = rows.loc[rows["space"] == space, "dataset"].nunique() > 1
        name = display_name(space)
        ax.set_title(f"{name}, {display_name(dataset)}" if several else name)
        ax.set_xlabel("labelled architectures" if x == "n_train" else display_name(x))
        ax.set_ylabel(display_name("kendall_tau"))
    return figure


def _facets(
    n: int,
    most: int,
    height: float,
    width: float = COLUMN,
    **settings: Any,
) -> tuple[Figure, list[Axes]]:
    """A figure with n axes, at most `most` side by side, each `height` inches high."""
    import matplotlib.pyplot as plt

    n_rows = -(-n // most)
    # Rows of equal length: four facets are two and two, not three and one.
    n_columns = -(-n // n_rows)
    with plt.rc_context(STYLE):
        size = width, height * n_rows
        figure, grid = plt.subplots(n_rows, n_columns, figsize=size, squeeze=False, **settings)
    for ax in grid.flat[n:]:
        ax.set_axis_off()
    return figure, list(grid.flat[:n])


def _with_values(
    rows: pd.DataFrame,
    columns: Sequence[str],
    values: Sequence[Any],
) -> pd.DataFrame:
    """The rows that have these values in these columns; a missing value asks for rows without one."""
    for name, value in zip(columns, values, strict=True):
        if value == value:
            rows = rows[rows[name] == value]
        else:
            rows = rows[rows[name].isna()]
    return rows


def _draw_curve(
    ax: Axes,
    rows: pd.DataFrame,
    x: str,
    style: Mapping[str, Any],
) -> pd.Series:
    """The mean of one series with its band; returns the means by `x`."""
    import seaborn

    seaborn.lineplot(
        rows,
        x=x,
        y="kendall_tau",
        ax=ax,
        errorbar=student_interval,
        color=style["color"],
        linestyle=style["linestyle"],
        marker=style["marker"],
        markeredgecolor=PAPER,
        legend=False,
        err_kws={"alpha": 0.15, "linewidth": 0},
    )
    return rows.groupby(x)["kendall_tau"].mean()


def _draw_ceiling(ax: Axes, height: float | None) -> None:
    """The noise ceiling: what the training labels themselves reach."""
    if height is None:
        return
    ax.axhline(height, color=INK, linestyle=":", linewidth=1)
    ax.annotate(
        f"the labels themselves, {height:.2f}",
        (0.02, height),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        fontsize=9,
    )


def _draw_paper(
    ax: Axes,
    figures: pd.DataFrame,
    ours: pd.Series,
    style: Mapping[str, Any],
) -> None:
    """The paper's points, hollow, each with a thin line to our mean at that size."""
    figures = figures[figures["n_train"].isin(ours.index)]
    sizes, values = figures["n_train"].astype(float), figures["paper"].astype(float)
    here = ours.reindex(sizes).to_numpy()
    ax.vlines(sizes, np.minimum(values, here), np.maximum(values, here), color=style["color"], linewidth=0.8, alpha=0.6)
    ax.plot(sizes, values, style["marker"], color=style["color"], markerfacecolor=PAPER, linestyle="none")


def paired_strips(
    lines: pd.DataFrame,
    names: Sequence[str] = (),
) -> Axes:
    """Draw every paired difference as a dot, with mean, interval and estimate, for `claims.answers` of one metric.

    Blue is higher, red lower, green equivalent within ±0.01, grey undecided. `names`, one for each line, replace the
    words of the claims.
    """
    lines = lines.assign(title=list(names) or lines["says"].tolist())
    lines = lines[lines["n_seeds"] > 0].reset_index(drop=True)
    if lines.empty:
        return nothing("No two runs to compare are recorded yet.")
    heads, labels, heights = _strip_places(lines)
    # An inch holds three strips; one below a label of several lines needs more.
    most_lines = max(label.count("\n") + 1 for label in labels)
    ax = axes(height=0.9 + (0.14 + 0.2 * most_lines) * (max(heights) + 1))
    # Labels on both sides are longer than the axes; the figure is cut to what is drawn instead of squeezing them.
    figure: Any = ax.figure
    figure.set_layout_engine(None)
    bottom = 0.8 / figure.get_figheight()
    ax.set_position((0.2, bottom, 0.47, 1 - bottom))
    for height, line in zip(heights, lines.to_dict("records"), strict=True):
        colour = ANSWER_COLOURS.get(line["answer"], GREY)
        dots = line["differences"]
        ax.scatter(dots, [height] * len(dots), s=25, color=colour, alpha=0.4, linewidths=0)
        _draw_estimate(ax, height, line, colour)
    ax.axvline(0, color=INK, linewidth=0.9)
    ax.set_yticks(heights, labels)
    for height, head in heads.items():
        _draw_head(ax, height, head)
    ax.set_ylim(max(heights) + 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    ax.set(xlabel=_difference_name(lines["metric"]), ylabel="")
    return ax


def _strip_places(lines: pd.DataFrame) -> tuple[dict[float, str], list[str], list[float]]:
    """Heads by height, and a label and a height for each strip: claims are heads where they have several spaces."""
    if lines["where"].nunique() == 1:
        labels = [fill(title, LABEL_WIDTH) for title in lines["title"]]
        return {}, labels, list(map(float, range(len(lines))))
    heads, labels, heights = {}, [], []
    height = 0.0
    before = None
    for line in lines.to_dict("records"):
        if line["title"] != before:
            heads[height] = before = line["title"]
            height += 0.9
        labels.append(place_name(line["where"]))
        heights.append(height)
        height += 1
    return heads, labels, heights


def _draw_head(ax: Axes, height: float, head: str) -> None:
    """A claim above its strips, from the left edge of their labels on."""
    ax.annotate(
        head,
        (0, height),
        xycoords=("axes fraction", "data"),
        xytext=(-100, 0),
        textcoords="offset points",
        va="center",
        fontsize=10,
        fontweight="bold",
        annotation_clip=False,
        bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1},
    )


def _difference_name(metrics: pd.Series) -> str:
    """The axis of differences in a metric, in lines that are no wider than the axes."""
    if metrics.nunique() > 1:
        about = "Kendall tau"
    else:
        about = display_name(metrics.iloc[0]).removesuffix(", %")
    unit = "points of " if metrics.iloc[0].endswith("accuracy") else ""
    return fill(f"difference in {unit}{about}, paired by training set", 66)


def _draw_estimate(
    ax: Axes,
    place: float,
    line: Mapping[Any, Any],
    colour: str,
) -> None:
    """The interval as a bar, the mean as a diamond, both in figures at the right."""
    ax.hlines(place, line["low"], line["high"], color=colour, linewidth=3)
    ax.plot(line["difference"], place, "D", color=colour, markeredgecolor=PAPER, markersize=7, zorder=4)
    ax.annotate(
        f"{estimate(line, line['metric'])}   {repeats(line['n_seeds'], line['metric'])}",
        (1, place),
        xycoords=("axes fraction", "data"),
        xytext=(8, 0),
        textcoords="offset points",
        va="center",
        fontsize=10,
    )


def beside_paper(means: pd.DataFrame) -> pd.DataFrame:
    """Return what `dumbbells` draws from a `summary` with the paper's figures: facets by space, dataset and labels.

    Lines that only the paper has are left out.
    """
    import pandas as pd

    means = means[means["n_seeds"] > 0]
    columns = series_columns(means)
    lines = []
    for line in means.sort_values(["space", "dataset", "n_train"]).to_dict("records"):
        place = f"{display_name(line['space'])}\n{display_name(line['dataset'])}"
        # Where nothing is trained on labels there is no number of them.
        if line["n_train"] == line["n_train"]:
            place = f"{display_name(line['space'])}\n{line['n_train']} labels"
        name = series_name(line, columns)
        lines.append({"facet": place, "name": name, "ours": line["kendall_tau_mean"], "paper": line["paper"]})
    return pd.DataFrame(lines, columns=["facet", "name", "ours", "paper"])


def searches_beside_paper(rows: pd.DataFrame, space: str, dataset: str) -> pd.DataFrame:
    """Return our searches on a dataset and the paper's for `dumbbells`: `facet, name, ours, paper`.

    The paper trains its predictors once, so its figures stand beside our searches that do the same, `top-k`.
    """
    import pandas as pd

    rows = rows[(rows["space"] == space) & (rows["dataset"] == dataset)]
    lines = []
    for part in ("validation", "test"):
        figures = paper_figures("search", f"{part}_accuracy")
        figures = figures[(figures["space"] == space) & (figures["dataset"] == dataset)]
        quoted = figures.set_index("method")["paper"].to_dict()
        facet = f"{part} accuracy"
        who: Any
        for who, runs in rows.groupby(["method", "predictor"], dropna=False, sort=False):
            name = ", ".join(display_name(word) for word in who if word == word)
            paper = quoted.pop(who[1], None) if who[0] == "top-k" else None
            lines.append({"facet": facet, "name": name, "ours": runs[f"{part}_accuracy"].mean(), "paper": paper})
        lines += [{"facet": facet, "name": display_name(name), "paper": value} for name, value in quoted.items()]
    return pd.DataFrame(lines, columns=["facet", "name", "ours", "paper"]).astype({"ours": float, "paper": float})


def dumbbells(
    pairs: pd.DataFrame,
    unit: str = "Kendall tau",
    reference: str = "",
    sharex: bool = True,
    log: bool = False,
) -> Figure:
    """Draw lines of `facet, name, ours, paper`: ours solid, the paper's hollow, joined by a line.

    Names are sorted by ours. The name `reference` gets a vertical line. Facets of one quantity share their axis, which
    may be logarithmic.
    """
    if pairs.empty:
        return no_rows()
    facets = list(pairs.groupby("facet", sort=False))
    # One order in all facets, so that a name is found at the same height.
    heights = pairs["ours"].fillna(pairs["paper"]).groupby(pairs["name"]).mean().sort_values()
    order = list(heights.index)
    places = np.arange(len(order))
    figure, grid = _facets(len(facets), most=3, height=1.1 + 0.27 * len(order), sharex=sharex, sharey=True)
    for ax, (facet, part) in zip(grid, facets, strict=True):
        part = part.drop_duplicates("name").set_index("name").reindex(order)
        ours, paper = part["ours"].to_numpy(float), part["paper"].to_numpy(float)
        ax.hlines(places, ours, paper, color=GREY, linewidth=1.2)
        ax.plot(paper, places, "o", color=RED, markerfacecolor=PAPER, label="paper")
        ax.plot(ours, places, "o", color=BLUE, label="ours")
        if reference in order:
            ax.axvline(ours[order.index(reference)], color=GREEN, linestyle=":", linewidth=1.2)
        if log:
            ax.set_xscale("log")
            ax.minorticks_off()
            ax.xaxis.set_major_formatter("{x:g}")
        ax.margins(0.1)
        ax.set_title(str(facet))
        ax.set_xlabel(unit)
    grid[0].set_yticks(places, order)
    handles, names = grid[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper right", ncols=2, fontsize=9)
    return figure


def cost_front(
    points: pd.DataFrame,
    x: str,
    y: str,
) -> Axes:
    """Draw each line as a labelled dot, and the front of the best; smaller `x` (logarithmic), larger `y` are better."""
    points = points.dropna(subset=[x, y]).reset_index(drop=True)
    if points.empty:
        return nothing()
    ax = axes(height=4.4)
    ax.set_xscale("log")
    best = points.iloc[pareto_front(-points[x].to_numpy(float), points[y].to_numpy(float))].sort_values(x)
    ax.plot(best[x], best[y], color=INK, alpha=0.35, drawstyle="steps-post", zorder=1)
    ax.margins(x=0.25)
    gap = 0.045 * (points[y].max() - points[y].min())
    heights = spread_apart(points[y].tolist(), gap)
    for line, height in zip(points.to_dict("records"), heights, strict=True):
        style = method_style(str(line["method"]))
        # A name goes to the left where it would cover the next dot.
        beside = points[(points[y] - height).abs() < gap][x] / line[x]
        side = -1 if beside.between(1, 3, inclusive="neither").any() else 1
        ax.plot(line[x], line[y], style["marker"], color=style["color"], markersize=8)
        ax.annotate(
            style["label"],
            (line[x], height),
            xytext=(8 * side, 0),
            textcoords="offset points",
            ha="left" if side > 0 else "right",
            va="center",
            fontsize=9,
            color=style["color"],
        )
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set(xlabel=x.replace("_", " "), ylabel=y.replace("_", " "))
    return ax


def plane(
    means: pd.DataFrame,
    x: str,
    y: str,
    by: str,
) -> Figure:
    """Draw the lines of a `summary` as labelled points, metric x against metric y, a facet for each space and size."""
    means = means.dropna(subset=[f"{x}_mean", f"{y}_mean"])
    facets = list(means.groupby(["space", "n_train"], sort=False))[:MOST_SERIES]
    if not facets:
        return no_rows()
    levels = list(dict.fromkeys(means[by]))
    figure, grid = _facets(len(facets), most=2, height=3.2)
    for ax, ((space, size), part) in zip(grid, facets, strict=True):
        for line in part.to_dict("records"):
            style = value_style(line[by], levels)
            ax.plot(line[f"{x}_mean"], line[f"{y}_mean"], style["marker"], color=style["color"], markersize=8)
            ax.annotate(
                style["label"],
                (line[f"{x}_mean"], line[f"{y}_mean"]),
                xytext=(6, 5),
                textcoords="offset points",
                fontsize=9,
                color=style["color"],
            )
        ax.margins(0.2)
        ax.set_title(f"{display_name(space)}, {size} labels", pad=10)
        ax.set(xlabel=display_name(x), ylabel=display_name(y))
    return figure


def best_so_far(
    curves: pd.DataFrame,
    ylabel: str = "best accuracy so far, %",
    lowest: float | None = None,
) -> Axes:
    """Draw `search_summary.curves` against queries, each with a band for its interval over seeds and a label.

    A search that begins with random architectures is drawn from where it stops being random search. Anything below
    `lowest` is cut off.
    """
    curves = curves.dropna(subset=["mean"])
    if curves.empty:
        return nothing()
    ax = axes(height=4.4)
    ends = []
    for who, part in curves.groupby(["method", "predictor", "first"], dropna=False, sort=False):
        # Before that all searches are the same random draw.
        part = part[part["queries"] >= part["n_random"].iloc[0]]
        predictor = who[1] if who[1] == who[1] else ""
        style = method_style(str(predictor or who[0]))
        dashes = {"top-k": "--", "pareto": ":"}.get(str(who[0]), "-")
        name = f"{display_name(who[0])}, {style['label']}" if predictor else style["label"]
        shown = _bends(part, ["mean", "low", "high"])
        ax.plot(shown["queries"], shown["mean"], color=style["color"], linestyle=dashes, linewidth=1.6)
        ax.fill_between(shown["queries"], shown["low"], shown["high"], color=style["color"], alpha=0.12, linewidth=0)
        ends.append((float(part["queries"].max()), float(part["mean"].iloc[-1]), name, style["color"]))
    ax.set(xlabel="queries", ylabel=ylabel)
    # Names are placed by the height of the axes, so it must be final before.
    if lowest is not None:
        # A band of few seeds may reach far above everything that was found.
        highest = curves["mean"].max()
        ax.set_ylim(lowest, highest + 0.05 * (highest - lowest))
    _label_ends(ax, ends)
    return ax


def _bends(lines: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """The lines at which one of the values changes, before or after: what a figure of them needs."""
    values = lines[names]
    flat = (values == values.shift()) & (values == values.shift(-1))
    return lines[~flat.all(axis=1)]


def shares(
    parts: Mapping[str, float],
    unit: str,
) -> Axes:
    """Draw the parts of a whole as bars, each with its value and share."""
    ax = axes(height=0.9 + 0.34 * len(parts))
    total = sum(parts.values())
    ax.barh(range(len(parts)), list(parts.values()), color=BLUE, alpha=0.8)
    for place, value in enumerate(parts.values()):
        ax.annotate(
            f"{value:.2f}, {value / total:.0%}",
            (value, place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    ax.set_yticks(range(len(parts)), list(parts))
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.set_xlabel(unit)
    return ax
