"""The look of the figures: palette, one colour for each method, settings. Importing it does not import matplotlib."""

from __future__ import annotations

import re
import sys
import warnings
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING, Any
from zlib import crc32

from hypernas.errors import UserError
from hypernas.lab.pages import display_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart with every common form of colour blindness and legible on white and on black; for
# its yellow, which is lost on white, stands Tol's olive.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PINK, SKY, OLIVE, GREY, PURPLE = "#CC79A7", "#56B4E9", "#999933", "#8A8A8A", "#7A3E9D"
PALETTE = (BLUE, RED, GREEN, ORANGE, PINK, SKY)

# Two colours that no figure uses as such: a page puts its own text colour and ground in their place.
INK, PAPER = "#4d4d4e", "#fefefd"

# One colour a method in the whole book; variants of one method share it and differ in marker.
METHODS = {
    "np": (GREY, "s"),
    "hypernas": (RED, "o"),
    "hypernas-p": (BLUE, "^"),
    "hypernas-h": (PINK, "v"),
    "pinat-mse": (ORANGE, "D"),
    "pinat-bce": (ORANGE, "d"),
    "tnasp-mse": (SKY, "P"),
    "tnasp-bce": (SKY, "^"),
    "nn-former": (GREEN, "X"),
    "parzc": (PINK, "P"),
    "ghn": (SKY, "<"),
    "ghn2": (GREEN, ">"),
    "trees": (GREEN, "p"),
    "graph-features": (OLIVE, "h"),
    "ridge": (PINK, "X"),
    "hypernas-plus": (PURPLE, "*"),
    "random": ("#B0B0B0", "."),
    "evolution": (GREEN, "*"),
    "bayesian": (RED, "D"),
}
# Values of one setting keep their colour from page to page, in this order of the palette.
FAMILIES = (
    ("sum", "concat", "position", "none"),
    ("contracted", "raw", "pruned"),
    ("gcn", "gatedgnn", "ghn2", "gin", "gat", "transformer"),
    ("digits", "cifar10", "digits+cifar10", "fashion-mnist", "digits-random-labels", "noise"),
)
# The graph form is told by the line: colours are for methods.
DASHES = {"raw": "--", "pruned": ":"}

STYLE: Any = {
    "figure.figsize": (6.4, 3.9),
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    # Letters stay text: a page's own fonts, small files, and words that can be searched and read aloud.
    "svg.fonttype": "none",
    "svg.hashsalt": "hypernas",
    # A method's name may hold a dollar sign; it is a name, not a formula.
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 6,
}
# What matplotlib writes around a figure and a page does not need: prologue, date, comments.
HEADER = re.compile(r"^.*?(?=<svg)", re.DOTALL)
METADATA = re.compile(r"<metadata>.*?</metadata>|<!--.*?-->", re.DOTALL)
# Width and height of the whole picture; the page scales it.
SIZE = re.compile(r'(<svg[^>]*?) width="([\d.]+)pt" height="[\d.]+pt"')
# Coordinates stand in tags; numbers in text must stay as they are.
TAG = re.compile(r"<[^>]*>")
# Places to a hundredth of a point; nobody sees a curve move by less.
COORDINATE = re.compile(r"(?<![\w.#])(-?\d+\.\d\d)\d+")


def use_style() -> None:
    """Set the style of all later figures, based on seaborn's.

    Raise UserError if matplotlib or seaborn is not installed.
    """
    try:
        import matplotlib
        import seaborn
    except ImportError as error:
        raise UserError("figures need matplotlib and seaborn: pip install 'hypernas[book]'") from error

    seaborn.set_theme(context="notebook", style="ticks", rc=STYLE)
    matplotlib.rcParams.update(STYLE)
    if "IPython" in sys.modules:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("svg")


def method_style(method: str) -> dict[str, Any]:
    """Return label, colour and marker of a method, the same in every figure; unlisted methods get them from their name.

    >>> method_style("hypernas-p")
    {'label': 'HyperNAS-P', 'color': '#0072B2', 'marker': '^'}
    """
    label = display_name(method)
    if method not in METHODS:
        # Not hash(), which differs from process to process.
        code = crc32(method.encode())
        return {"label": label, "color": PALETTE[code % 6], "marker": "sD^vPX<>ph"[code // 6 % 10]}
    colour, marker = METHODS[method]
    return {"label": label, "color": colour, "marker": marker}


def value_style(value: Any, others: list[Any]) -> dict[str, Any]:
    """Return the style for a value of any setting: its family's colour, or that of its index among the `others`."""
    if value in METHODS:
        return method_style(value)
    family = next((family for family in FAMILIES if value in family), None)
    place = family.index(value) if family else others.index(value)
    return {"label": display_name(value), "color": PALETTE[place % 6], "marker": "o^sDvP"[place % 6]}


def axes(height: float | None = None) -> Axes:
    """Return the Axes of a new figure in the house style, `height` in inches."""
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure = plt.figure()
        if height is not None:
            figure.set_figheight(height)
        return figure.add_subplot()


# --- figures on a page ---


def themed_svg(figure: Figure, alt: str) -> str:
    """Return a figure as SVG that adopts text and background colour of its page, with the alternative text `alt`."""
    file = BytesIO()
    with warnings.catch_warnings():
        # A name longer than its figure: the axes keep their size, and the picture grows to hold the name.
        warnings.filterwarnings("ignore", "constrained_layout not applied")
        figure.savefig(file, format="svg", bbox_inches="tight", transparent=True)
    svg = METADATA.sub("", HEADER.sub("", file.getvalue().decode()))
    # A colour has a lighter one for the dark theme, which the page's style sheet names by it.
    for colour in (*PALETTE, OLIVE, GREY, PURPLE):
        name = colour.lower()
        svg = svg.replace(name, f"var(--hn-c-{name[1:]}, {colour})")
    svg = svg.replace(INK, "currentColor").replace(PAPER, "var(--pst-color-background, #fff)")
    svg = TAG.sub(lambda tag: COORDINATE.sub(r"\1", tag[0]), svg)
    label = f' role="img" aria-label="{escape(alt)}" style="max-width:100%;height:auto"'
    return SIZE.sub(rf'\1 width="\2pt"{label}', svg, count=1)


class Picture:
    """A figure with its caption, as notebooks and pages show it."""

    def __init__(
        self,
        drawn: Axes | Figure,
        caption: str,
    ) -> None:
        import matplotlib.pyplot as plt

        figure: Any = getattr(drawn, "figure", drawn)
        self.svg = themed_svg(figure, caption)
        self.caption = caption
        # A notebook would else show the figure once more at the end of the cell.
        plt.close(figure)

    def _repr_html_(self) -> str:
        caption = f"<figcaption>{escape(self.caption)}</figcaption>" if self.caption else ""
        return f'<figure class="hn-figure">{self.svg}{caption}</figure>'
