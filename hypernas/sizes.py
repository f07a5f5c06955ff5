"""Sizes of a target network without running it: feature maps, parameters, multiply-adds."""

from __future__ import annotations

from hypernas.errors import UserError
from hypernas.target import Layer, Program

Size = tuple[int, int]
RESIZING = ("conv", "pool", "maxpool")


def map_sizes(program: Program, h: int, w: int) -> list[Size]:
    """The (height, width) of every value of the program on images of h x w pixels, the stem's first.

    Raises UserError where the images are too small, or so odd that a sum has terms of different sizes.
    """
    sizes = [_after((h, w), _stem(program))]
    for layer in program.layers:
        size, *others = {sizes[i] for i in layer.inputs}
        if layer.op in RESIZING:
            size = _after(size, layer)
        if others or min(size) < 1:
            rule = "images must be large enough to be halved at every reduction"
            raise UserError(f"{rule}, got {h} x {w} with stem_stride {program.stem_stride}; lower stem_stride")
        sizes.append(size)
    return sizes


def count(program: Program, image: tuple[int, int, int] = (3, 32, 32), n_classes: int = 10) -> tuple[int, int]:
    """Parameters, and multiply-adds on one image (C, H, W), of the network trained in the ordinary way.

    Batch normalisation counts with the scale and shift it would learn, the multiply-adds are those of convolutions and
    classifier.
    """
    sizes = map_sizes(program, *image[1:])
    parameters, multiply_adds = program.c_last * (n_classes + 2 * program.norm_last) + n_classes, 0
    for layer, (h, w) in zip((_stem(program, image[0]), *program.layers), sizes, strict=True):
        if layer.op == "conv":
            weights = layer.c_in * layer.c_out * layer.kernel**2
            parameters += weights + 2 * layer.c_out * layer.norm
            multiply_adds += weights * h * w
    return parameters, multiply_adds + program.c_last * n_classes


def _stem(program: Program, c_image: int = 3) -> Layer:
    return Layer("conv", (), c_image, program.channels, kernel=3, stride=program.stem_stride, padding=1)


def _after(size: Size, layer: Layer) -> Size:
    """The map that a layer makes of one of this size; max pooling also pools an odd edge."""
    odd = layer.stride - 1 if layer.op == "maxpool" else 0
    h, w = ((pixels + 2 * layer.padding - layer.kernel + odd) // layer.stride + 1 for pixels in size)
    return h, w
