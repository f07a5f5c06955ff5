"""Figures of means and of paired differences, each with its interval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hypernas.view.style import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY, axes, method_style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

PLACE = ("space", "dataset", "n_train")
NOT_A_NAME = {*PLACE, "n_seeds", "seconds", "paper", "paper_source"}
ENDS = ("_mean", "_std", "_low", "_high")
MISSING = "–"
COLOURS, MARKERS = (BLUE, RED, ORANGE, GREEN, PINK, SKY), "o^sDvP"
# Values of one setting keep their order and colour from page to page.
FAMILIES = (
    ("sum", "concat", "position", "none"),
    ("raw", "pruned", "contracted"),
    ("gcn", "gatedgnn", "ghn2", "gin", "gat", "transformer"),
    ("digits", "cifar10", "digits+cifar10", "fashion-mnist", "digits-random-labels", "noise"),
)
READ = "small dots: one seed each; circle or diamond: mean; line: 95 % bootstrap interval; hollow: too few pairs"
ANSWERS = {"holds": BLUE, "does not hold": RED, "not clear": GREY, "too few pairs": GREY}


def nothing(text: str = "No rows are recorded yet.", ax: Axes | None = None) -> Axes:
    """A small figure that says why there is nothing to draw."""
    ax = axes(ax, height=1.0)
    ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes)
    ax.set_axis_off()
    return ax


def _names(lines: pd.DataFrame) -> list[str]:
    """The columns of a summary in which its series differ."""
    own = [name for name in lines.columns if name not in NOT_A_NAME and not name.endswith(ENDS)]
    return [name for name in own if lines[name].nunique(dropna=False) > 1] or own[:1]


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _axis(metric: str) -> str:
    return metric.replace("_", " ") + (", %" if metric.endswith("accuracy") else "")


def _levels(values: pd.Series) -> list[Any]:
    """What a column holds: a known family whole and in its order, else what is there, sorted, missing ones last."""
    there = set(values)
    family = next((family for family in FAMILIES if there & {*family}), ())
    return [*family, *sorted(there - {*family}, key=lambda value: (value == MISSING, str(value)))]


def _style(name: tuple[Any, ...], columns: list[str], levels: list[list[Any]]) -> dict[str, Any]:
    """Colour by the first column, a method's own where it is one; marker by the second."""
    label = ", ".join(_text(value) for value in name if value is not MISSING)
    number = levels[0].index(name[0])
    style = {"color": COLOURS[number % 6], "marker": MARKERS[number % 6]}
    if columns[0] == "method":
        style = method_style(str(name[0]))
        label = label.replace(str(name[0]), style["label"], 1)
    if len(columns) > 1:
        style["marker"] = MARKERS[levels[1].index(name[1]) % 6]
    return {**style, "label": label, "linestyle": "none"}


def means(lines: pd.DataFrame, metric: str = "kendall_tau", ax: Axes | None = None) -> Axes:
    """`results.summary`: the mean and interval of each series at each space and n_train, quoted figures hollow."""
    mean, low, high = (f"{metric}_{how}" for how in ("mean", "low", "high"))
    lines = lines[lines[mean].notna() | lines["paper"].notna()].copy()
    if lines.empty:
        return nothing(ax=ax)
    ax = axes(ax, height=4.6)
    columns = _names(lines)
    lines[columns] = lines[columns].astype(object).where(lines[columns].notna(), MISSING)
    levels = [_levels(lines[name]) for name in columns]
    places = sorted(dict.fromkeys(zip(lines["space"], lines["n_train"], strict=True)))
    groups = sorted(
        lines.groupby(columns, sort=False),
        key=lambda group: [level.index(value) for level, value in zip(levels, group[0], strict=True)],
    )
    for number, (name, part) in enumerate(groups):
        beside = 0.7 * ((number + 0.5) / len(groups) - 0.5)
        at = np.array([places.index(place) + beside for place in zip(part["space"], part["n_train"], strict=True)])
        style = _style(name, columns, levels)
        if part[mean].notna().any():
            ax.plot(at, part[mean].astype(float), **style)
            ax.vlines(at, part[low].astype(float), part[high].astype(float), color=style["color"], alpha=0.6)
        if part["paper"].notna().any():
            hollow = {**style, "label": f"{style['label']}, quoted", "markerfacecolor": "white"}
            ax.plot(at, part["paper"].astype(float), **hollow)
    _place_axis(ax, places)
    ax.set_ylabel(_axis(metric))
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, borderaxespad=0)
    return ax


def _place_axis(ax: Axes, places: list[tuple[Any, Any]]) -> None:
    """A tick for each size, the space's name under its first one, a line between two spaces."""
    first = [i for i, (space, _) in enumerate(places) if i == 0 or space != places[i - 1][0]]
    names = [f"{size}\n{space}" if i in first else f"{size}" for i, (space, size) in enumerate(places)]
    ax.set_xticks(range(len(places)), names)
    ax.set_xlim(-0.5, len(places) - 0.5)
    for i in first[1:]:
        ax.axvline(i - 0.5, color=GREY, linewidth=0.8)
    ax.grid(axis="x", visible=False)


def differences(found: pd.DataFrame, metric: str = "kendall_tau", ax: Axes | None = None) -> Axes:
    """`claims.answers` of one metric: every pair a dot, the mean with its interval, coloured by the answer.

    A claim as a whole has its page's name where claims of several pages are drawn.
    """
    import pandas as pd

    found = found[(found["metric"] == metric) & (found["n_seeds"] > 0)]
    if found.empty:
        return nothing("No two runs to compare are recorded yet.", ax)
    height, ticks, several = 0.0, {}, found["page"].nunique() > 1
    ax = axes(ax, height=1.0 + 0.25 * (len(found) + 1.4 * found["says"].nunique()))
    drawn = []
    for says, part in found.groupby("says", sort=False):
        height += 1.4
        ax.text(-0.2, height - 0.75, str(says), transform=ax.get_yaxis_transform(), fontsize=9, fontweight="bold")
        margin = float(part["margin"].iloc[0])
        ax.vlines(-margin, height - 0.5, height + len(part) - 0.5, color=GREY, linestyle=":" if margin else "-")
        for line in part.to_dict("records"):
            drawn.append({**line, "height": height, "mark": "D" if line["where"] else "o"})
            ticks[height] = line["where"] or (line["page"] if several else "lowest" if line["worst"] else "on average")
            height += 1
    for answer, part in pd.DataFrame(drawn).groupby("answer", sort=False):
        colour = ANSWERS[str(answer)]
        dots = part.explode("each")
        ax.plot(dots["each"].astype(float), dots["height"], "o", color=colour, markersize=3, alpha=0.35)
        ax.hlines(part["height"], part["low"], part["high"], color=colour)
        face = "white" if answer == "too few pairs" else colour
        for mark, lines in part.groupby("mark", sort=False):
            ax.plot(lines["difference"], lines["height"], str(mark), color=colour, markerfacecolor=face)
    ax.set_yticks(list(ticks), list(ticks.values()))
    ax.set_ylim(height, 0)
    ax.grid(axis="y", visible=False)
    ax.axvline(0, color=GREY, linewidth=0.8, zorder=0)
    unit = ", percentage points" if metric.endswith("accuracy") else ""
    ax.set_xlabel(f"difference in {metric.replace('_', ' ')}{unit}\n{READ}")
    return ax


def best_so_far(curves: pd.DataFrame, ylabel: str = "best accuracy so far, %", ax: Axes | None = None) -> Axes:
    """`found.curves` as lines against the queries, each with its interval over the seeds as a band.

    A search that begins with random architectures has its line from there on; before, it is random search.
    """
    curves = curves.dropna(subset=["mean"])
    if curves.empty:
        return nothing(ax=ax)
    ax = axes(ax, height=4.6)
    for number, (_, part) in enumerate(curves.groupby(["method", "predictor", "first"], dropna=False, sort=False)):
        line = part.iloc[0]
        part = _bends(part[part["queries"] >= line["n_random"]], ["mean", "low", "high"])
        names = [str(line["method"])] + [method_style(name)["label"] for name in [line["predictor"]] if name == name]
        colour, dashes = COLOURS[number % 6], ("-", "--", ":")[number // 6 % 3]
        label = f"{', '.join(names)} ({line['n_seeds']} {'seeds' if line['n_seeds'] > 1 else 'seed'})"
        ax.plot(part["queries"], part["mean"], label=label, linewidth=1.5, color=colour, linestyle=dashes)
        ax.fill_between(part["queries"], part["low"], part["high"], color=colour, alpha=0.15, linewidth=0)
    ax.set(xlabel="queries", ylabel=ylabel)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, borderaxespad=0)
    return ax


def _bends(lines: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """The lines at which one of the values changes, before or after: what a figure of them needs."""
    values = lines[names]
    return lines[~((values == values.shift()) & (values == values.shift(-1))).all(axis=1)]


def front(lines: pd.DataFrame, x: str, y: str, along: str, ax: Axes | None = None) -> Axes:
    """`results.summary` lines as points, metric x against metric y, those that differ in `along` only joined by a line.

    Both metrics are the larger the better; a ring marks points that no other beats at both.
    """
    lines = lines.dropna(subset=[f"{x}_mean", f"{y}_mean"])
    if lines.empty:
        return nothing(ax=ax)
    ax = axes(ax, height=4.6)
    by = [name for name in _names(lines) if name != along] or [_names(lines)[0]]
    at = lines[[f"{x}_mean", f"{y}_mean"]].to_numpy(float)
    beaten = (at[:, None] <= at).all(axis=2) & (at[:, None] < at).any(axis=2)
    best = ~np.asarray(beaten).any(axis=1)
    ax.plot(*at[best].T, "o", markersize=13, color=GREY, markerfacecolor="none", linestyle="none", label="not beaten")
    for number, (name, part) in enumerate(lines.groupby(by, dropna=False, sort=False)):
        part = part.sort_values(along)
        label = ", ".join(f"{key} {value}" for key, value in zip(by, name, strict=True)) if along not in by else along
        points = part[[f"{x}_mean", f"{y}_mean"]].to_numpy(float)
        ax.plot(*points.T, color=COLOURS[number % 6], marker=MARKERS[number % 6], label=label, linewidth=1)
        for (right, up), value in zip(points.tolist(), part[along], strict=True):
            ax.annotate(f"{value:g}", (right, up), xytext=(4, 4), textcoords="offset points", fontsize=8)
    ax.set(xlabel=_axis(x), ylabel=_axis(y))
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, borderaxespad=0)
    return ax
