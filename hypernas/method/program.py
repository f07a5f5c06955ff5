"""An architecture as a program: layers in order, each with the values that it reads."""

from __future__ import annotations

from dataclasses import dataclass, field

WeightKey = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One layer: sums the first `c_in` channels of the values `inputs`, then applies `op`; `concat` joins them all,
    `gate` multiplies the first by the hard sigmoid of the second. An `attention` has as many heads as groups.

    `weight` of a conv = (position of the cell, node), or (position, node, node) for the layer on an edge.
    """

    op: str
    inputs: tuple[int, ...]
    c_in: int
    c_out: int
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    relu: bool = True
    norm: bool = True
    weight: WeightKey | None = None
    position: int = -1
    relu_after: bool = False
    groups: int = 1
    dilation: int = 1

    @property
    def window(self) -> tuple[int, int, int]:
        return self.kernel, self.stride, self.padding

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        return (self.c_out, self.c_in // self.groups, self.kernel, self.kernel)


@dataclass(frozen=True, eq=False)
class Program:
    """Layers in order; layer i makes value i + 1, value 0 is the stem's.

    The classifier reads value `output`, with `norm_last` after batch normalisation and ReLU. `heads` are the largest
    weights (kernel, c_out, c_in) that the hypernetwork makes for any architecture of the space at this width.
    """

    layers: tuple[Layer, ...]
    output: int
    channels: int
    c_last: int
    stem_stride: int
    norm_last: bool = True
    heads: tuple[tuple[int, int, int], ...] = ()

    @property
    def convs(self) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.weight is not None)


@dataclass
class ProgramWriter:
    """Collects the layers of a Program; each method returns the index of the value that its layer makes."""

    channels: int
    stem_stride: int = 1
    layers: list[Layer] = field(default_factory=list)
    position: int = -1

    def _push(self, layer: Layer) -> int:
        self.layers.append(layer)
        return len(self.layers)

    def _plain(
        self, op: str, inputs: tuple[int, ...], c: int, kernel: int = 1, stride: int = 1, padding: int = 0
    ) -> int:
        """A layer without weights that keeps the number of channels."""
        return self._push(Layer(op, inputs, c, c, kernel, stride, padding, False, False, None, self.position))

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
    ) -> int:
        """ReLU, convolution with generated weights, batch normalisation; with `relu_after` ReLU once more."""
        shape = (c_in, c_out, kernel, stride, kernel // 2)
        return self._push(Layer("conv", inputs, *shape, relu, norm, weight, self.position, relu_after))

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
        """A convolution of each channel by itself."""
        shape, flags = (c, c, kernel, stride, dilation * (kernel // 2)), (relu, norm)
        return self._push(Layer("conv", (value,), *shape, *flags, weight, self.position, relu_after, c, dilation))

    def pool(self, inputs: tuple[int, ...], c: int, kernel: int, stride: int, padding: int) -> int:
        """Average pooling that does not count the padding."""
        return self._plain("pool", inputs, c, kernel, stride, padding)

    def max_pool(self, inputs: tuple[int, ...], c: int, kernel: int, stride: int, padding: int) -> int:
        """Max pooling; the padding never wins, and without any an odd edge is pooled too, as TensorFlow's `same`."""
        return self._plain("maxpool", inputs, c, kernel, stride, padding)

    def concat(self, inputs: tuple[int, ...], c: int) -> int:
        """Values joined to `c` channels; nothing is written for a single one."""
        return inputs[0] if len(inputs) == 1 else self._plain("concat", inputs, c)

    def relu(self, value: int, c: int) -> int:
        return self._plain("relu", (value,), c)

    def hard_swish(self, value: int, c: int) -> int:
        return self._plain("hardswish", (value,), c)

    def gelu(self, value: int, c: int) -> int:
        return self._plain("gelu", (value,), c)

    def layer_norm(self, value: int, c: int) -> int:
        """The first c channels of each pixel, normalised, without a learned scale."""
        return self._plain("layernorm", (value,), c)

    def positions(self, value: int, c: int) -> int:
        """The first c channels of a value, the sine and cosine code of each pixel's place added."""
        return self._plain("positions", (value,), c)

    def attention(self, value: int, c: int, heads: int) -> int:
        """Self-attention of the pixels, whose value holds queries, keys and values of c channels each."""
        return self._push(Layer("attention", (value,), 3 * c, c, position=self.position, groups=heads))

    def shift(self, value: int, c: int) -> int:
        """The map moved by one pixel up and to the left."""
        return self._plain("shift", (value,), c)

    def mean(self, value: int, c: int) -> int:
        """The mean of each channel, a map of one pixel."""
        return self._plain("mean", (value,), c)

    def gate(self, value: int, gate: int, c: int) -> int:
        """A value times the hard sigmoid of another, which may be a map of one pixel."""
        return self._plain("gate", (value, gate), c)

    def add(self, inputs: tuple[int, ...], c: int) -> int:
        """The sum of values; nothing is written for a single one."""
        return inputs[0] if len(inputs) == 1 else self._plain("add", inputs, c)

    def zero(self, like: int, c: int) -> int:
        """Zeros of the shape of the value `like`: a cell that no path crosses."""
        return self._plain("zero", (like,), c)

    def finish(self, output: int, norm_last: bool = True, heads: tuple[tuple[int, int, int], ...] = ()) -> Program:
        """`heads` are by default square, as wide as what the classifier reads, of kernels 1 and 3."""
        c_last = self.layers[output - 1].c_out if output else self.channels
        heads = heads or tuple((kernel, c_last, c_last) for kernel in (1, 3))
        return Program(tuple(self.layers), output, self.channels, c_last, self.stem_stride, norm_last, heads)
