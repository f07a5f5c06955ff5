"""Draw cells as layered graphs of operations. Importing this module does not import matplotlib."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from hypernas.view.layered import layered
from hypernas.view.style import INK, PAPER, STYLE, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The first part that a name contains gives its colour: convolutions from light to dark with their kernel.
OPERATION_COLOURS = (
    ("none", "#FFFFFF"), ("skip", "#E4E4E4"), ("pool", "#F6C667"), ("1x1", "#A9D6F5"), ("sep", "#9ED9C3"),
    ("dil", "#E5B5CF"), ("3x3", "#6FB2DC"), ("5x5", "#58B99A"), ("7x7", "#E08A55"),
)  # fmt: skip
# The places of a drawn cell: layers are SPACING apart, a node is a box of this half width and height.
SPACING, HALF_WIDTH, HALF_HEIGHT = 2.0, 0.62, 0.3


def operation_colour(op: str) -> str:
    """Return the colour of an operation, grey for an unknown one."""
    return next((colour for part, colour in OPERATION_COLOURS if part in op), "#F2F2F2")


def draw_cell(
    nodes: Sequence[str],
    edges: Iterable[Sequence[int]],
    ax: Axes | None = None,
) -> Axes:
    """Draw a cell from left to right: operations `nodes` in topological order, edges (i, j) or (i, j, count).

    A count above one, from several skip connections contracted into one edge, is written beside the edge.
    """
    counts: dict[tuple[int, int], int] = {}
    for start, end, *count in edges:
        counts[start, end] = count[0] if count else 1
    layout = layered(len(nodes), counts)
    points = list(layout.position.values())
    for route in layout.route.values():
        points += route
    right = max(x for x, _ in points)
    low = min(y for _, y in points)
    high = max(y for _, y in points)
    # 0.7 inches a row of nodes, and a margin of 0.6 above and below.
    if ax is None:
        ax = axes(height=0.7 * (high - low + 1.2))
    for edge, n in counts.items():
        _draw_edge(ax, layout.route[edge], n)
    for name, place in zip(nodes, layout.position.values(), strict=True):
        _draw_node(ax, name, place)
    ax.set_xlim(-0.8, SPACING * right + 0.8)
    ax.set_ylim(low - 0.6, high + 0.6)
    ax.axis("off")
    return ax


def _draw_node(
    ax: Axes,
    name: str,
    place: tuple[float, float],
) -> None:
    """A box in the colour of its operation, with the name in at most two lines."""
    from matplotlib.patches import FancyBboxPatch

    x, y = SPACING * place[0], place[1]
    box = FancyBboxPatch(
        (x - HALF_WIDTH, y - HALF_HEIGHT),
        2 * HALF_WIDTH,
        2 * HALF_HEIGHT,
        boxstyle="round,pad=0,rounding_size=0.1",
        facecolor=operation_colour(name),
        edgecolor="#555555",
        zorder=2,
    )
    ax.add_patch(box)
    # Two lines at most: the last word, which most often is the kernel, by itself.
    words = name.replace("_", " ").rsplit(" ", 1)
    # Boxes keep their light colours in the dark theme, and so their words stay black.
    ax.text(
        x,
        y,
        "\n".join(words),
        ha="center",
        va="center",
        fontsize=8.5,
        color="#111111",
        zorder=3,
    )


def draw_cells(cells: Mapping[str, Any], names: Sequence[str]) -> list[Axes]:
    """Draw cells, given as title -> cell (`ops` into `names`, `adjacency`), one below the other at the same scale."""
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(len(cells), squeeze=False)
    drawn = list(grid.flat)
    for ax, (title, cell) in zip(drawn, cells.items(), strict=True):
        matrix = np.asarray(cell.adjacency)
        edges = [(i, j, int(matrix[i, j])) for i, j in np.argwhere(matrix).tolist()]
        draw_cell([names[op] for op in cell.ops], edges, ax)
        ax.set_title(title)
    right = max(ax.get_xlim()[1] for ax in drawn)
    heights = [float(np.ptp(ax.get_ylim())) for ax in drawn]
    drawn[0].get_gridspec().set_height_ratios(heights)
    figure.set_figheight(0.7 * sum(heights) + 0.4 * len(drawn))
    plt.setp(drawn, xlim=(-0.8, right))
    return drawn


def _draw_edge(
    ax: Axes,
    route: Sequence[tuple[float, float]],
    count: int,
) -> None:
    """A smooth line through the points of a route, level where it passes a layer, and so beside nodes."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    x, y = route[0]
    points = [(SPACING * x, y)]
    codes = [Path.MOVETO]
    for (x, y), (x2, y2) in pairwise(route):
        start = SPACING * x + HALF_WIDTH
        end = SPACING * x2 - HALF_WIDTH
        middle = (start + end) / 2
        # A Bezier curve with level ends: its control points lie half way, at the heights of both ends.
        points += [(start, y), (middle, y), (middle, y2), (end, y2)]
        codes += [Path.LINETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
    arrow = FancyArrowPatch(
        path=Path(points, codes),
        arrowstyle="-|>",
        mutation_scale=9,
        color=INK,
        linewidth=1.2,
        shrinkB=0,
        zorder=1,
    )
    ax.add_patch(arrow)
    if count > 1:
        (x, y), (x2, y2) = route[-2:]
        ax.text(
            SPACING * (x + x2) / 2,
            (y + y2) / 2,
            f"×{count}",
            ha="center",
            va="center",
            fontsize=9,
            bbox={"boxstyle": "round,pad=0.1", "facecolor": PAPER, "edgecolor": "none"},
        )
