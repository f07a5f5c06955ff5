"""The target network: an architecture as a program of layers, run on images with given weights, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# (position of the cell, node), or (position, node, node) for the layer on an edge.
WeightKey = tuple[int, ...]
# Added to a variance before its root is taken, as PyTorch's layers do.
EPSILON = 1e-5


@dataclass(frozen=True)
class Layer:
    """One layer: sums the first `c_in` channels of the values `inputs`, then applies `op`; `concat` joins them all,
    `gate` multiplies the first by the hard sigmoid of the second. An `attention` has as many heads as groups.

    A convolution with `weight` takes it from the hypernetwork.
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
        return self.c_out, self.c_in // self.groups, self.kernel, self.kernel


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
    ) -> int:
        """ReLU, convolution with generated weights, batch normalisation; with `relu_after` ReLU once more."""
        padding = kernel // 2
        layer = Layer(
            "conv", inputs, c_in, c_out, kernel, stride, padding, relu, norm, weight, self.position, relu_after
        )
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
        """A convolution of each channel by itself."""
        padding = dilation * (kernel // 2)
        position = self.position
        layer = Layer(
            "conv", (value,), c, c, kernel, stride, padding, relu, norm, weight, position, relu_after, c, dilation
        )
        return self._push(layer)

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
        heads = heads or ((1, c_last, c_last), (3, c_last, c_last))
        return Program(tuple(self.layers), output, self.channels, c_last, self.stem_stride, norm_last, heads)


def layer_norm(x: Tensor) -> Tensor:
    """x (..., C, H, W), normalised over C at each pixel, no learned scale."""
    centred = x - x.mean(-3, keepdim=True)
    variance = centred.square().mean(-3, keepdim=True)
    return centred * (variance + EPSILON).rsqrt()


@cache
def position_code(c: int, h: int, w: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Sine and cosine of each pixel's row and column at falling frequencies, (c, h, w) (Vaswani et al. 2017)."""
    n = -(-c // 4)
    frequency = 10_000.0 ** -(torch.arange(n, dtype=dtype) / n)
    row = torch.arange(h, dtype=dtype)[:, None] * frequency
    column = torch.arange(w, dtype=dtype)[:, None] * frequency
    rows = row[:, None].expand(h, w, n)
    columns = column[None].expand(h, w, n)
    code = torch.stack([rows.sin(), rows.cos(), columns.sin(), columns.cos()], -1)
    return code.flatten(2)[..., :c].permute(2, 0, 1).contiguous().to(device)


# Layers without weights and settings: of a value (..., C, H, W) alone.
PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "hardswish": F.hardswish,
    "gelu": F.gelu,
    "layernorm": layer_norm,
    "mean": lambda x: x.mean((-2, -1), keepdim=True),
    "positions": lambda x: x + position_code(*x.shape[-3:], x.dtype, x.device),
    "shift": lambda x: F.pad(x[..., 1:, 1:], (0, 1, 0, 1)),
    "zero": torch.zeros_like,
}


def batch_norm(x: Tensor) -> Tensor:
    """x (M, C, H, W), normalised over M, H, W with the batch's own statistics (Supplement 7), no learned scale."""
    return F.batch_norm(x, None, None, training=True, eps=EPSILON)


class TargetHead(nn.Module):
    """What all target networks share: the stem and the classifier, ordinary learned parameters.

    NOTE[PAPER]: paper says nothing of stem and classifier weights; we learn one of each, shared by all architectures;
    because their shapes do not depend on the architecture and the hypernetwork has no node for them.
    """

    def __init__(self, c_image: int, channels: int, c_last: int, n_classes: int, stem_stride: int) -> None:
        super().__init__()
        self.stem_stride = stem_stride
        # He initialisation of a 3 x 3 convolution.
        he = (2 / (9 * c_image)) ** 0.5
        self.stem_weight = nn.Parameter(torch.randn(channels, c_image, 3, 3) * he)
        self.classifier = nn.Linear(c_last, n_classes)

    def stem(self, images: Tensor) -> Tensor:
        """images (M, C, H, W) -> (M, channels, H', W')."""
        return batch_norm(F.conv2d(images, self.stem_weight, stride=self.stem_stride, padding=1))

    def classify(self, x: Tensor, norm: bool = True) -> Tensor:
        """x (M, c_last, H, W) -> logits (M, K)."""
        if norm:
            x = F.relu(batch_norm(x))
        return self.classifier(x.mean((2, 3)))


def run(program: Program, weights: Mapping[WeightKey, Tensor], head: TargetHead, images: Tensor) -> Tensor:
    """Run one architecture on images (M, C, H, W) with `weights[key] (c_out, c_in, k, k)`; returns logits (M, K)."""
    values = [head.stem(images)]
    for layer in program.layers:
        weight = None if layer.weight is None else weights[layer.weight]
        values.append(apply(layer, gather(values, layer), weight))
    return head.classify(values[program.output], program.norm_last)


def gather(values: Sequence[Tensor] | Mapping[int, Tensor], layer: Layer) -> Tensor:
    """What `layer` reads of the values (M, C, H, W) made so far."""
    inputs = [values[i] for i in layer.inputs]
    if layer.op == "concat":
        return torch.cat(inputs, 1)
    if layer.op == "gate":
        value, gate = inputs
        return value * F.hardsigmoid(gate)
    total = _first_channels(inputs[0], layer.c_in)
    for value in inputs[1:]:
        total = total + _first_channels(value, layer.c_in)
    return total


def _first_channels(value: Tensor, c: int) -> Tensor:
    return value if value.shape[1] == c else value[:, :c]


def apply(
    layer: Layer, x: Tensor, weight: Tensor | None = None, norm: Callable[[Tensor], Tensor] = batch_norm
) -> Tensor:
    """One layer on what it reads, x (M, C, H, W)."""
    if layer.op == "conv":
        assert weight is not None
        x = F.relu(x) if layer.relu else x
        x = F.conv2d(x, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
        x = norm(x) if layer.norm else x
        return F.relu(x) if layer.relu_after else x
    if layer.op == "pool":
        return F.avg_pool2d(x, layer.kernel, layer.stride, layer.padding, count_include_pad=False)
    if layer.op == "maxpool":
        return max_pool(x, layer)
    if layer.op == "attention":
        return attention(x, layer.groups)
    # `concat`, `gate` and `add` are done once their inputs are gathered.
    return PLAIN[layer.op](x) if layer.op in PLAIN else x


def attention(x: Tensor, heads: int) -> Tensor:
    """Queries, keys and values x (..., 3C, H, W) of `heads` heads -> (..., C, H, W); the pixels are the tokens."""
    *lead, c, h, w = x.shape
    tokens = x.reshape(*lead, 3, heads, c // (3 * heads), h * w).transpose(-1, -2)
    q, k, v = tokens.unbind(-4)
    out = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2)
    return out.reshape(*lead, c // 3, h, w)


def max_pool(x: Tensor, layer: Layer) -> Tensor:
    """x (M, C, H, W), pooled; without padding an odd edge is pooled too."""
    return F.max_pool2d(x, layer.kernel, layer.stride, layer.padding, ceil_mode=layer.padding == 0)


def count(program: Program, image: Sequence[int], n_classes: int) -> tuple[int, int]:
    """Trainable parameters and multiply-adds on one image (C, H, W) of the network with learned weights.

    Every batch normalisation has a scale and a shift; multiply-adds are those of convolutions and classifier.
    """
    c, h, w = image
    h = -(-h // program.stem_stride)
    w = -(-w // program.stem_stride)
    stem = 9 * c * program.channels
    parameters = stem + 2 * program.channels
    adds = stem * h * w
    sizes = [(h, w)]
    for layer in program.layers:
        h, w = sizes[layer.inputs[0]]
        h = 1 if layer.op == "mean" else -(-h // layer.stride)
        w = 1 if layer.op == "mean" else -(-w // layer.stride)
        sizes.append((h, w))
        if layer.op == "conv":
            weights = layer.c_out * layer.c_in // layer.groups * layer.kernel**2
            parameters += weights + 2 * layer.c_out * layer.norm
            adds += weights * h * w
    if program.norm_last:
        parameters += 2 * program.c_last
    parameters += (program.c_last + 1) * n_classes
    return parameters, adds + program.c_last * n_classes
