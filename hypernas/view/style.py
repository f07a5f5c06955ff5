"""The look of the figures: palette, one colour a method, settings. matplotlib is imported when used."""

from __future__ import annotations

import re
import sys
from io import BytesIO
from typing import TYPE_CHECKING, Any
from zlib import crc32

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart with every common form of colour blindness; for its yellow, which is lost on
# white, stands Tol's olive.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PINK, SKY, OLIVE, BLACK, GREY = "#CC79A7", "#56B4E9", "#999933", "#222222", "#8A8A8A"

METHODS = {
    "np": ("NP", GREY, "s"),
    "hypernas": ("HyperNAS", RED, "o"),
    "hypernas-p": ("HyperNAS-P", BLUE, "^"),
    "hypernas-h": ("HyperNAS-H", PINK, "v"),
    "pinat-mse": ("PINAT (MSE)", ORANGE, "D"),
    "pinat-bce": ("PINAT (BCE)", ORANGE, "d"),
    "tnasp-mse": ("TNASP (MSE)", OLIVE, "P"),
    "tnasp-bce": ("TNASP (BCE)", OLIVE, "^"),
    "nn-former": ("NN-Former", GREEN, "X"),
    "parzc": ("ParZC", PINK, "P"),
    "ghn": ("GHN", SKY, "<"),
    "ghn2": ("GHN-2", SKY, ">"),
    "trees": ("trees", GREEN, "p"),
    "graph-features": ("graph features", OLIVE, "h"),
}
COORDINATE = re.compile(r"(?<![\w.])([1-9]\d*\.\d\d)\d+")
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
LETTER = re.compile(r'<use xlink:href="#DejaVuSans-([\w-]+)" transform="translate\((\d+)[.\d]* 0\)"/>')
INDENTATION = re.compile(r"\n\s*(?=<)")
LINES = {"contracted": "-", "pruned": "--", "raw": ":"}
STYLE: Any = {
    "axes.prop_cycle": f"cycler('color', {[BLUE, ORANGE, GREEN, RED, PINK, SKY, BLACK]})",
    "figure.figsize": (6.4, 3.9), "figure.facecolor": "white", "figure.constrained_layout.use": True,
    "savefig.dpi": 150, "svg.fonttype": "path", "svg.hashsalt": "hypernas",
    "font.size": 10, "axes.titlesize": 11, "axes.titlelocation": "left", "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "axes.edgecolor": "#666666", "grid.color": "#DDDDDD", "grid.linewidth": 0.6,
    "legend.frameon": False, "lines.linewidth": 1.8, "lines.markersize": 6,
}  # fmt: skip


def use_style() -> None:
    """Set the style for all figures that follow; inside a notebook they become vector graphics."""
    import matplotlib

    matplotlib.rcParams.update(STYLE)
    if "IPython" in sys.modules:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("svg")
        _keep_figures_small()


def _keep_figures_small() -> None:
    """Have notebooks show every figure as `short` vector graphics."""
    from matplotlib.figure import Figure

    display: Any = getattr(sys.modules["IPython"].get_ipython(), "display_formatter", None)
    if display is not None:
        display.formatters["image/svg+xml"].for_type(Figure, _drawn)


def _drawn(figure: Figure) -> str | None:
    """A figure as vector graphics, None for an empty one, which a notebook does not show."""
    if not figure.axes:
        return None
    file = BytesIO()
    figure.savefig(file, format="svg", bbox_inches="tight")
    return short(file.getvalue().decode())


def short(svg: str) -> str:
    """The same picture in fewer characters: two digits in place of six behind the point of coordinates of one and more,
    a letter's place in its line as a whole number, no indentation, no comments.

    >>> short("M 106.605299 7.25 L 0.015625 12.5")
    'M 106.60 7.25 L 0.015625 12.5'
    >>> short('<!-- a -->\\n  <use xlink:href="#DejaVuSans-44" transform="translate(63.378906 0)"/>')
    '<use href="#s-44" x="63"/>'
    """
    svg = LETTER.sub(r'<use href="#s-\1" x="\2"/>', COMMENT.sub("", svg))
    svg = svg.replace("DejaVuSans-", "s-").replace("xlink:href", "href")
    return INDENTATION.sub("", COORDINATE.sub(r"\1", svg))


def method_style(method: str) -> dict[str, Any]:
    """Label, colour and marker of a method, the same in every figure; one not listed gets them from its name.

    >>> method_style("hypernas-p")
    {'label': 'HyperNAS-P', 'color': '#0072B2', 'marker': '^'}
    """
    if method not in METHODS:
        code = crc32(method.encode())
        colours, markers = (GREEN, ORANGE, PINK, SKY, BLACK), "sD^vPX<>ph"
        return {"label": method, "color": colours[code % 5], "marker": markers[code // 5 % 10]}
    return dict(zip(("label", "color", "marker"), METHODS[method], strict=True))


def axes(ax: Axes | None, height: float | None = None) -> Axes:
    """`ax`, or the Axes of a new figure in the house style, `height` in inches."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure = plt.figure()
        if height is not None:
            figure.set_figheight(height)
        return figure.add_subplot()
