"""Programs for target networks: how a space writes them, and what can be computed without running one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

from hypernas.errors import UserError
from hypernas.method.target_network import Layer, Program, WeightKey

# Height and width.
Size = tuple[int, int]
# The layers whose window and stride change the size of a map.
RESIZING = ("conv", "pool", "maxpool")


@dataclass
class ProgramWriter:
    """Collect the layers of a Program. Each method adds a layer and returns the index of its output value."""

    channels: int
    stem_stride: int = 1
    layers: list[Layer] = field(default_factory=list)
    position: int = -1

    def _push(self, layer: Layer) -> int:
        self.layers.append(layer)
        return len(self.layers)

    def _plain(
        self,
        op: str,
        inputs: tuple[int, ...],
        c: int,
        kernel: int = 1,
        stride: int = 1,
        padding: int = 0,
    ) -> int:
        """A layer without weights that keeps the number of channels."""
        layer = Layer(
            op, inputs, c, c, kernel, stride, padding, relu=False, norm=False, weight=None, position=self.position
        )
        return self._push(layer)

    def stem(self) -> int:
        return 0

    def conv(
        self,
        inputs: tuple[int, ...],
        c_in: int,
        c_out: int,
        kernel: int,
        stride: int,
        weight: WeightKey,
        relu: bool = True,
        norm: bool = True,
        relu_after: bool = False,
        groups: int = 1,
        dilation: int = 1,
    ) -> int:
        """Add ReLU, convolution with generated weights, batch normalisation, and with `relu_after` another ReLU."""
        padding = dilation * (kernel // 2)
        layer = Layer(
            "conv", inputs, c_in, c_out, kernel, stride, padding, relu, norm, weight, self.position, relu_after, groups,
            dilation,
        )  # fmt: skip
        return self._push(layer)

    def depthwise(
        self,
        value: int,
        c: int,
        kernel: int,
        stride: int,
        weight: WeightKey,
        dilation: int = 1,
        relu: bool = False,
        norm: bool = True,
        relu_after: bool = False,
    ) -> int:
        """Add a convolution of each channel by itself."""
        return self.conv((value,), c, c, kernel, stride, weight, relu, norm, relu_after, c, dilation)

    def pool(
        self,
        inputs: tuple[int, ...],
        c: int,
        kernel: int,
        stride: int,
        padding: int,
    ) -> int:
        """Add average pooling that does not count the padding."""
        return self._plain("pool", inputs, c, kernel, stride, padding)

    def max_pool(
        self,
        inputs: tuple[int, ...],
        c: int,
        kernel: int,
        stride: int,
        padding: int,
    ) -> int:
        """Add max pooling that ignores padding.

        Without padding, an odd edge is pooled too, as in TensorFlow's `same`.
        """
        return self._plain("maxpool", inputs, c, kernel, stride, padding)

    def concat(self, inputs: tuple[int, ...], c: int) -> int:
        """Join values to `c` channels; a single value needs no layer."""
        return inputs[0] if len(inputs) == 1 else self._plain("concat", inputs, c)

    def plain(self, op: str, value: int, c: int) -> int:
        """Add a layer of `target_network.PLAIN` on the first c channels of a value.

        `mean` averages each channel to a map of one pixel, `shift` moves the map by one pixel up and to the left, and
        `zero` makes zeros of the value's size, for a cell without any path.
        """
        return self._plain(op, (value,), c)

    def attention(
        self,
        value: int,
        c: int,
        heads: int,
    ) -> int:
        """Add self-attention over pixels to a value that holds queries, keys and values of c channels each."""
        return self._push(Layer("attention", (value,), 3 * c, c, position=self.position, groups=heads))

    def gate(
        self,
        value: int,
        gate: int,
        c: int,
    ) -> int:
        """Multiply a value by the hard sigmoid of another, which may be a map of one pixel."""
        return self._plain("gate", (value, gate), c)

    def add(self, inputs: tuple[int, ...], c: int) -> int:
        """Sum values; a single value needs no layer."""
        return inputs[0] if len(inputs) == 1 else self._plain("add", inputs, c)

    def finish(
        self,
        output: int,
        norm_last: bool = True,
        heads: tuple[tuple[int, int, int], ...] = (),
    ) -> Program:
        """Return the Program.

        By default, `heads` are square, as wide as the classifier's input, with kernels 1 and 3.
        """
        c_last = self.layers[output - 1].c_out if output else self.channels
        heads = heads or ((1, c_last, c_last), (3, c_last, c_last))
        return Program(tuple(self.layers), output, self.channels, c_last, self.stem_stride, norm_last, heads)


def count(
    program: Program,
    image: Sequence[int],
    n_classes: int,
) -> tuple[int, int]:
    """Return trainable parameters and multiply-adds of the network with learned weights on one image (C, H, W).

    Every batch normalisation has a scale and a shift. Multiply-adds are those of convolutions and classifier.
    """
    c, h, w = image
    stem, *sizes = map_sizes(program, h, w)
    weights = 9 * c * program.channels
    # Every batch normalisation has a scale and a shift a channel.
    parameters = weights + 2 * program.channels
    # Every weight is used once at each pixel of the output.
    adds = weights * prod(stem)
    for layer, size in zip(program.layers, sizes, strict=True):
        if layer.op == "conv":
            weights = prod(layer.weight_shape)
            parameters += weights + 2 * layer.c_out * layer.norm
            adds += weights * prod(size)
    if program.norm_last:
        parameters += 2 * program.c_last
    parameters += (program.c_last + 1) * n_classes
    return parameters, adds + program.c_last * n_classes


def map_sizes(
    program: Program,
    h: int,
    w: int,
) -> list[Size]:
    """Return the (height, width) of every value of the program, the stem's first, on images of h x w pixels.

    Raise UserError if the images are too small, or so odd that the terms of a sum differ in size.
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
    # Pixels that a kernel spans from its first to its last tap.
    reach = layer.dilation * (layer.kernel - 1) + 1
    room = pixels + 2 * layer.padding - reach
    # Max pooling without padding also pools an odd edge.
    if layer.op == "maxpool" and not layer.padding:
        room += layer.stride - 1
    return room // layer.stride + 1
