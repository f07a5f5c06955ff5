"""Sizes of the feature maps of a target network, without running it."""

from __future__ import annotations

from hypernas.errors import UserError
from hypernas.method.target_network import Layer, Program

Size = tuple[int, int]
RESIZING = ("conv", "pool", "maxpool")


def map_sizes(program: Program, h: int, w: int) -> list[Size]:
    """The (height, width) of every value of the program on images of h x w pixels, the stem's first.

    Raises UserError where the images are too small, or so odd that a sum has terms of different sizes.
    """
    stem = Layer("conv", (), 1, program.channels, kernel=3, stride=program.stem_stride, padding=1)
    sizes = [_after((h, w), stem)]
    for layer in program.layers:
        size, *others = {sizes[i] for i in (layer.inputs[:1] if layer.op == "gate" else layer.inputs)}
        if layer.op in RESIZING:
            size = _after(size, layer)
        if layer.op == "mean":
            size = (1, 1)
        if others or min(size) < 1:
            rule = "images must be large enough to be halved at every reduction"
            raise UserError(f"{rule}, got {h} x {w} with stem_stride {program.stem_stride}; lower stem_stride")
        sizes.append(size)
    return sizes


def _after(size: Size, layer: Layer) -> Size:
    """The map that a layer makes of one of this size; max pooling without padding also pools an odd edge."""
    odd = layer.stride - 1 if layer.op == "maxpool" and not layer.padding else 0
    reach = layer.dilation * (layer.kernel - 1) + 1
    h, w = ((pixels + 2 * layer.padding - reach + odd) // layer.stride + 1 for pixels in size)
    return h, w
