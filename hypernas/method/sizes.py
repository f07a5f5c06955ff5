"""Sizes of the feature maps of a target network, without running it."""

from __future__ import annotations

from hypernas.errors import UserError
from hypernas.method.target_network import Layer, Program

Size = tuple[int, int]
# The layers whose window and stride change the size of a map.
RESIZING = ("conv", "pool", "maxpool")


def map_sizes(program: Program, h: int, w: int) -> list[Size]:
    """The (height, width) of every value of the program on images of h x w pixels, the stem's first.

    Raises UserError where the images are too small, or so odd that a sum has terms of different sizes.
    """
    stem = Layer("conv", (), 1, program.channels, kernel=3, stride=program.stem_stride, padding=1)
    sizes = [_size_after(stem, (h, w))]
    for layer in program.layers:
        # A gate may be a map of one pixel; all else that a layer reads has one size.
        read = layer.inputs[:1] if layer.op == "gate" else layer.inputs
        different = {sizes[i] for i in read}
        size = sizes[read[0]]
        if layer.op in RESIZING:
            size = _size_after(layer, size)
        if layer.op == "mean":
            size = (1, 1)
        if len(different) > 1 or min(size) < 1:
            rule = "images must be large enough to be halved at every reduction"
            raise UserError(f"{rule}, got {h} x {w} with stem_stride {program.stem_stride}; lower stem_stride")
        sizes.append(size)
    return sizes


def _size_after(layer: Layer, size: Size) -> Size:
    """The map that a layer makes of one of this size."""
    h, w = size
    return _side_after(layer, h), _side_after(layer, w)


def _side_after(layer: Layer, pixels: int) -> int:
    reach = layer.dilation * (layer.kernel - 1) + 1
    room = pixels + 2 * layer.padding - reach
    # Max pooling without padding also pools an odd edge.
    if layer.op == "maxpool" and not layer.padding:
        room += layer.stride - 1
    return room // layer.stride + 1
