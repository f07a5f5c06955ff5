"""The method as two pictures in SVG: a training step, any part of it lit, and how the hypernetwork makes a kernel."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from hypernas.errors import UserError
from hypernas.lab.markup import Html
from hypernas.view.style import BLUE, GREEN, ORANGE, RED

# The parts of a training step, each with its colour; a page lights those that it is about.
PARTS = {
    "cells": ORANGE,
    "encoder": BLUE,
    "regressor": BLUE,
    "hypernetwork": RED,
    "target": RED,
    "loss": GREEN,
}
# What is not lit steps back, and stays readable.
UNLIT = 0.45
# Caption and alternative text of the whole picture.
ALL = "The training step: cells, encoder, regressor, hypernetwork, target network, loss"


class Drawing:
    """SVG elements in a row, each belonging to a part that is lit or not."""

    def __init__(
        self,
        width: int,
        height: int,
        lit: Iterable[str],
    ) -> None:
        self.size = width, height
        self.lit = set(lit)
        unknown = self.lit - {*PARTS}
        if unknown:
            raise UserError(f"a part must be one of {', '.join(PARTS)}, got {unknown.pop()!r}")
        self.elements: list[str] = []

    def opacity(self, part: str) -> float:
        return 1.0 if part in self.lit or not self.lit else UNLIT

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        text: str,
        part: str,
    ) -> None:
        """A rounded box with lines of text, the first of them bold."""
        colour = PARTS[part]
        lines = text.split("\n")
        # Lines are 14 apart and centred on the box; 4 brings a baseline to the middle of its letters.
        first = y + height / 2 - 7 * (len(lines) - 1) + 4
        words = ""
        for number, line in enumerate(lines):
            weight = "600" if number == 0 else "400"
            words += (
                f'<text x="{x + width / 2}" y="{first + 14 * number}" text-anchor="middle" font-size="11" '
                f'font-weight="{weight}" fill="currentColor">{escape(line)}</text>'
            )
        self.elements.append(
            f'<g opacity="{self.opacity(part)}"><rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" '
            f'fill="{colour}" fill-opacity="0.15" stroke="{colour}" stroke-width="1.5"/>{words}</g>'
        )

    def arrow(
        self,
        points: list[tuple[float, float]],
        part: str,
        text: str = "",
        dashed: bool = False,
    ) -> None:
        """A line through points with a head at its end, and its text above the middle of its first stretch."""
        path = " L ".join(f"{x} {y}" for x, y in points)
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        (x, y), (x2, y2) = points[:2]
        words = (
            f'<text x="{(x + x2) / 2}" y="{(y + y2) / 2 - 5}" text-anchor="middle" font-size="10" '
            f'fill="currentColor">{escape(text)}</text>'
        )
        self.elements.append(
            f'<g opacity="{self.opacity(part)}"><path d="M {path}" fill="none" stroke="currentColor" '
            f'stroke-width="1.3"{dashes} marker-end="url(#hn-head)"/>{words if text else ""}</g>'
        )

    def html(self, caption: str) -> Html:
        width, height = self.size
        head = (
            '<marker id="hn-head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path d="M 0 0 L 8 4 L 0 8 z" fill="currentColor"/></marker>'
        )
        return Html(
            f'<figure class="hn-figure hn-method"><svg viewBox="0 0 {width} {height}" width="{width}" role="img" '
            f'aria-label="{escape(caption)}" style="max-width:100%;height:auto"><defs>{head}</defs>'
            f"{''.join(self.elements)}</svg><figcaption>{escape(caption)}</figcaption></figure>"
        )


def training_step(*lit: str) -> Html:
    """One training step from an architecture to the gradient of both losses; `lit` names the parts to show, else all.

    Axes: B architectures, C cells, N nodes, D features, K classes.
    """
    # Places in pixels of a page 900 wide; smaller screens scale the whole.
    drawing = Drawing(900, 330, lit)
    drawing.box(8, 20, 112, 78, "architecture\nits cells in order\nA A A, R, B B …", "cells")
    drawing.arrow([(120, 59), (150, 59)], "cells")
    for number in range(3):
        left = 152 + 112 * number
        drawing.box(left, 25, 80, 68, f"cell {number + 1}\nshared GCN\nV(i) (N, D)", "encoder")
        if number < 2:
            drawing.arrow([(left + 80, 59), (left + 112, 59)], "encoder", f"z({number + 1})")
    drawing.arrow([(456, 45), (510, 45)], "regressor", "mean z(i)")
    drawing.box(512, 20, 100, 50, "embedding\n(B, D)", "regressor")
    drawing.arrow([(612, 45), (640, 45)], "regressor")
    drawing.box(642, 20, 92, 50, "regressor\naccuracy (B,)", "regressor")
    drawing.arrow([(734, 45), (758, 45)], "regressor")
    drawing.box(760, 20, 134, 50, "squared error\nagainst the labels", "regressor")
    drawing.arrow([(416, 93), (416, 165), (150, 165), (150, 186)], "hypernetwork", "")
    drawing.box(60, 188, 180, 54, "node features\nof every cell (B, C, N, D)", "hypernetwork")
    drawing.arrow([(240, 215), (272, 215)], "hypernetwork")
    drawing.box(274, 188, 130, 54, "hypernetwork\na head per kernel size", "hypernetwork")
    drawing.arrow([(404, 215), (430, 215)], "hypernetwork")
    drawing.box(432, 188, 132, 54, "slice or tile\nweights of each layer", "hypernetwork")
    drawing.arrow([(564, 215), (590, 215)], "target")
    drawing.box(592, 188, 132, 54, "target network\nruns on images", "target")
    drawing.box(606, 118, 104, 34, "images, labels", "target")
    drawing.arrow([(658, 152), (658, 186)], "target")
    drawing.arrow([(724, 215), (768, 215)], "target", "(B, K)")
    drawing.box(770, 188, 124, 54, "cross-entropy", "target")
    drawing.box(760, 108, 134, 54, "adaptive loss\nΣ L^q / 2u² + ln(1+u²)", "loss")
    drawing.arrow([(831, 70), (831, 106)], "loss")
    drawing.arrow([(831, 188), (831, 164)], "loss")
    drawing.arrow(
        [(894, 135), (898, 135), (898, 300), (30, 300), (30, 120), (160, 120), (160, 95)], "loss", dashed=True
    )
    drawing.elements.append(
        f'<text x="450" y="318" text-anchor="middle" font-size="11" fill="currentColor" '
        f'opacity="{drawing.opacity("loss")}">one gradient from both losses reaches the encoder</text>'
    )
    return drawing.html(ALL)


def _grid(
    drawing: Drawing,
    x: float,
    y: float,
    columns: int,
    rows: int,
    kept: tuple[int, int],
    tiled: bool,
) -> None:
    """Cells of a block of weights: `kept` columns and rows in colour, repeated where tiled."""
    for row in range(rows):
        for column in range(columns):
            inside = column < kept[0] and row < kept[1]
            beyond = ORANGE if tiled else "none"
            fill = RED if inside else beyond
            drawing.elements.append(
                f'<rect x="{x + 16 * column}" y="{y + 16 * row}" width="14" height="14" fill="{fill}" '
                f'fill-opacity="{0.6 if inside else 0.35}" stroke="currentColor" stroke-width="0.6"/>'
            )


def hypernetwork() -> Html:
    """From the features of one node to the weights of its convolution, smaller or larger than the head's block."""
    drawing = Drawing(880, 190, ())
    drawing.box(8, 66, 120, 54, "node features\n(D,)", "encoder")
    drawing.arrow([(128, 93), (158, 93)], "hypernetwork")
    drawing.box(160, 66, 120, 54, "shared MLP,\nhead for 3 × 3", "hypernetwork")
    drawing.arrow([(280, 93), (312, 93)], "hypernetwork")
    _grid(drawing, 316, 58, 4, 4, (4, 4), False)
    drawing.arrow([(384, 75), (500, 38)], "hypernetwork", "slice")
    drawing.arrow([(384, 110), (500, 140)], "hypernetwork", "tile")
    _grid(drawing, 506, 6, 4, 4, (4, 2), False)
    _grid(drawing, 506, 88, 4, 6, (4, 4), True)
    for x, y, text in (
        (292, 140, "block 4 × 4 × 3 × 3"),
        (590, 30, "2 of 4 output channels: the first two"),
        (590, 130, "6 of 4 output channels: 5 and 6 repeat 1 and 2"),
        (590, 146, "scaled by √(2 / fan-in)"),
    ):
        drawing.elements.append(f'<text x="{x}" y="{y}" font-size="11" fill="currentColor">{escape(text)}</text>')
    return drawing.html(
        "The hypernetwork: one head per kernel size makes a block; a layer takes a slice of it or tiles it."
    )
