"""The target network: an architecture as a program of layers, run on images with given weights, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
    """One layer: sum the first `c_in` channels of the values `inputs`, then apply `op`.

    Two operations do not sum: `concat` joins all inputs, and `gate` multiplies the first by the hard sigmoid of the
    second. An `attention` has `groups` heads. A convolution with a `weight` key takes its weight from the hypernetwork.
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
        """Kernel size, stride and padding."""
        return self.kernel, self.stride, self.padding

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """The shape (c_out, c_in, k, k) of a convolution's weight; c_in is per group."""
        return self.c_out, self.c_in // self.groups, self.kernel, self.kernel


@dataclass(frozen=True, eq=False)
class Program:
    """Layers in order: value 0 is the output of the stem, and layer i computes value i + 1.

    The classifier reads the value `output`, after batch normalisation and ReLU if `norm_last`. `heads` are the largest
    weights (kernel, c_out, c_in) that the hypernetwork generates for any architecture of the space at this width.
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
        """The layers whose weights the hypernetwork generates."""
        return tuple(layer for layer in self.layers if layer.weight is not None)


def layer_norm(x: Tensor) -> Tensor:
    """Normalise x (..., C, H, W) over C at each pixel, without a learned scale."""
    centred = x - x.mean(-3, keepdim=True)
    variance = centred.square().mean(-3, keepdim=True)
    return centred * (variance + EPSILON).rsqrt()


@cache
def position_code(c: int, h: int, w: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return sine and cosine of each pixel's row and column at falling frequencies, (c, h, w) (Vaswani et al. 2017)."""
    # Four numbers a frequency: sine and cosine of the row, sine and cosine of the column.
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
    """Normalise x (M, C, H, W) over M, H, W with the batch's own statistics (Supplement 7), without a learned scale."""
    return F.batch_norm(x, None, None, training=True, eps=EPSILON)


class TargetHead(nn.Module):
    """The stem and classifier that all target networks share, with ordinary learned parameters.

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
    """Run one architecture on images (M, C, H, W) with `weights[key] (c_out, c_in, k, k)`. Return logits (M, K)."""
    values = [head.stem(images)]
    for layer in program.layers:
        weight = None if layer.weight is None else weights[layer.weight]
        values.append(apply(layer, gather(values, layer), weight))
    return head.classify(values[program.output], program.norm_last)


def gather(values: Sequence[Tensor] | Mapping[int, Tensor], layer: Layer) -> Tensor:
    """Return the input of `layer`, built from the values (M, C, H, W) computed so far."""
    inputs = [values[i] for i in layer.inputs]
    if layer.op == "concat":
        return torch.cat(inputs, 1)
    if layer.op == "gate":
        value, gate = inputs
        return value * F.hardsigmoid(gate)
    # A narrower layer reads the first channels of a wider value, as a cell does behind a stage of more channels.
    total = _first_channels(inputs[0], layer.c_in)
    for value in inputs[1:]:
        total = total + _first_channels(value, layer.c_in)
    return total


def _first_channels(value: Tensor, c: int) -> Tensor:
    return value if value.shape[1] == c else value[:, :c]


def apply(
    layer: Layer, x: Tensor, weight: Tensor | None = None, norm: Callable[[Tensor], Tensor] = batch_norm
) -> Tensor:
    """Apply one layer to its input x (M, C, H, W)."""
    if layer.op == "conv":
        assert weight is not None
        # ReLU-conv-norm is the order of NAS-Bench-201 and DARTS; other spaces set `relu_after`.
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
    """Attend over the pixels: queries, keys and values x (..., 3C, H, W) of `heads` heads -> (..., C, H, W)."""
    *lead, c, h, w = x.shape
    # The channels hold queries, then keys, then values, head by head.
    tokens = x.reshape(*lead, 3, heads, c // (3 * heads), h * w).transpose(-1, -2)
    q, k, v = tokens.unbind(-4)
    out = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2)
    return out.reshape(*lead, c // 3, h, w)


def max_pool(x: Tensor, layer: Layer) -> Tensor:
    """Apply max pooling to x (M, C, H, W). Without padding, a leftover odd row or column is pooled too."""
    return F.max_pool2d(x, layer.kernel, layer.stride, layer.padding, ceil_mode=layer.padding == 0)
