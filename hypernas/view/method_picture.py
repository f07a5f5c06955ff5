"""The method in two pictures: a training step, of which any part can be highlighted, and how a kernel is generated.

They are the SVG files beside this one. Each group of `training_step.svg` has the name of its part as its opacity.
"""

from __future__ import annotations

from pathlib import Path

from hypernas.errors import UserError
from hypernas.lab.markup import Html

# The parts of a training step; a page lights those that it is about.
PARTS = ("cells", "encoder", "regressor", "hypernetwork", "target", "loss")
# What is not lit steps back, and stays readable.
UNLIT = 0.45


def training_step(*lit: str) -> Html:
    """Return a picture of one training step, from an architecture to the gradient of both losses.

    `lit` names the parts to highlight, by default all. Axes: B architectures, C cells, N nodes, D features, K classes.
    """
    unknown = {*lit} - {*PARTS}
    if unknown:
        raise UserError(f"a part must be one of {', '.join(PARTS)}, got {unknown.pop()!r}")
    opacity = {part: 1.0 if part in (lit or PARTS) else UNLIT for part in PARTS}
    caption = "The training step: cells, encoder, regressor, hypernetwork, target network, loss"
    return _figure(_svg("training_step").format(**opacity), caption)


def hypernetwork() -> Html:
    """Return a picture of how node features become convolution weights, smaller or larger than the head's block."""
    caption = "The hypernetwork: one head per kernel size makes a block; a layer takes a slice of it or tiles it."
    return _figure(_svg("hypernetwork"), caption)


def _svg(name: str) -> str:
    return Path(__file__).with_name(f"{name}.svg").read_text(encoding="utf-8")


def _figure(svg: str, caption: str) -> Html:
    return Html(f'<figure class="hn-figure hn-method">{svg}<figcaption>{caption}</figcaption></figure>')
