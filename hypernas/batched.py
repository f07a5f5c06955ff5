"""Many target networks in one pass: equal layers of all architectures become one batched product.

The fast twin of `target.run`. Layers at the same cell and depth are grouped over architectures (dynamic batching);
on small feature maps a convolution is a dense matrix, so convolutions of different kernel sizes share one product,
on larger ones a grouped convolution is used. Nothing is computed that no architecture asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hypernas.target import EPSILON, PLAIN, Layer, Program, gather

DENSE_LIMIT = 256
SMALL_MAP = 64
relu_backward = torch.ops.aten.threshold_backward
Shape = tuple[int, int, int, int]
Window = tuple[int, int, int]


@lru_cache(4096)
def turn_of_layers(program: Program) -> tuple[tuple, ...]:
    """For each layer (position, depth, op, shape): its turn; depth counts layers since the position began."""
    made: list[tuple[int, int]] = [(-1, 0)]
    turns = []
    for layer in program.layers:
        before = max(made[i] for i in layer.inputs)
        depth = before[1] + 1 if before[0] == layer.position else 0
        made.append((layer.position, depth))
        shape = (layer.c_in, layer.c_out, layer.stride, layer.relu, layer.norm, layer.relu_after)
        turns.append((layer.position, depth, layer.op, *shape))
    return tuple(turns)


@cache
def selection(window: Window, h: int, w: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(k*k, P*Q): which output pixel q reads input pixel p through which tap of the kernel."""
    kernel, stride, padding = window
    pixels = torch.eye(h * w, dtype=dtype).view(1, h * w, h, w).transpose(0, 1)
    taps = F.unfold(pixels, kernel, padding=padding, stride=stride)
    return taps.transpose(0, 1).reshape(kernel * kernel, -1).contiguous().to(device)


def as_matrix(weight: Tensor, layer: Layer, h: int, w: int) -> Tensor:
    """Kernels (G, c_out, c_in, k, k) -> matrices (G, c_in*h*w, c_out*h'*w') that convolve flattened images."""
    g, c_out, c_in, k, _ = weight.shape
    taps = selection((k, layer.stride, layer.padding), h, w, weight.dtype, weight.device)
    dense = (weight.reshape(-1, k * k) @ taps).view(g, c_out, c_in, h * w, -1)
    return dense.permute(0, 2, 3, 1, 4).reshape(g, c_in * h * w, -1)


class ReluMatmulNorm(torch.autograd.Function):
    """ReLU, product and batch normalisation of G networks: x (G, M, D), matrix (G, D, C*Q) -> (G, M, C*Q)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor, c_out: int, relu: bool, norm: bool) -> Tensor:
        x = x.relu() if relu else x
        y = torch.bmm(x, matrix)
        scale = None
        if norm:
            mean = _channel_mean(y, c_out)
            y = y.sub_(mean)
            scale = (_channel_mean(y * y, c_out) + EPSILON).rsqrt_()
            y = y.mul_(scale)
        ctx.save_for_backward(x, matrix, y if norm else None, scale)
        ctx.c_out, ctx.relu = c_out, relu
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor):
        (grad,) = gradients
        x, matrix, y, scale = ctx.saved_tensors
        if scale is not None:
            shift = _channel_mean(grad, ctx.c_out)
            slope = _channel_mean(grad * y, ctx.c_out)
            grad = torch.addcmul(grad - shift, y, slope, value=-1).mul_(scale)
        gx = torch.bmm(grad, matrix.transpose(1, 2))
        if ctx.relu:
            gx = relu_backward(gx, x, 0)
        return gx, torch.bmm(x.transpose(1, 2), grad), None, None, None


def _channel_mean(y: Tensor, c: int) -> Tensor:
    """y (G, M, C*Q) -> its mean over M and the Q pixels of each channel, repeated to (G, 1, C*Q)."""
    g, _, d = y.shape
    mean = y.mean(1).view(g, c, d // c).mean(2, keepdim=True)
    return mean.expand(g, c, d // c).reshape(g, 1, d)


@dataclass(frozen=True)
class Turn:
    """Layers of many programs that run as one: (program, layer index, layer), those of one kernel size together."""

    op: str
    items: tuple[tuple[int, int, Layer], ...]

    @property
    def runs(self) -> list[tuple[int, int]]:
        """The (start, stop) of each run of equal kernel size."""
        kernels = [layer.kernel for _, _, layer in self.items]
        starts = [i for i in range(len(kernels)) if i == 0 or kernels[i] != kernels[i - 1]]
        return list(zip(starts, [*starts[1:], len(kernels)], strict=True))


def plan(programs: Sequence[Program]) -> list[Turn]:
    """Group the layers of all programs by position, depth and shape, in an order in which they can run."""
    turns: dict[tuple, list[tuple[int, int, Layer]]] = {}
    for a, program in enumerate(programs):
        for i, (turn, layer) in enumerate(zip(turn_of_layers(program), program.layers, strict=True)):
            turns.setdefault(turn, []).append((a, i, layer))
    return [Turn(turn[2], tuple(sorted(turns[turn], key=lambda item: item[2].kernel))) for turn in sorted(turns)]


def wanted(turns: Sequence[Turn]) -> dict[Shape, list[tuple[int, int, int]]]:
    """The runs (turn, start, stop) of convolutions of each weight shape."""
    found: dict[Shape, list[tuple[int, int, int]]] = {}
    for t, turn in enumerate(turns):
        for start, stop in turn.runs if turn.op == "conv" else ():
            found.setdefault(turn.items[start][2].weight_shape, []).append((t, start, stop))
    return found


def run_batched(programs: Sequence[Program], turns: Sequence[Turn], kernels: dict, stems: Tensor) -> Tensor:
    """Run A programs, weights (G, c_out, c_in, k, k) by (turn, start of a run), from stem features (A, M, C, H, W).

    Returns their last features (A, M, c_last, H', W').
    """
    values: list[list[Any]] = [[x] + [None] * len(p.layers) for p, x in zip(programs, stems.unbind(), strict=True)]
    for t, turn in enumerate(turns):
        x = torch.stack([gather(values[a], layer) for a, _, layer in turn.items])
        if turn.op == "conv":
            x = _conv(x, turn, [kernels[t, start] for start, _ in turn.runs])
            x = F.relu(x) if turn.items[0][2].relu_after else x
        elif turn.op in PLAIN:
            x = PLAIN[turn.op](x)
        elif turn.op == "pool":
            x = _pool(x, turn.items[0][2])
        elif turn.op == "maxpool":
            x = _max_pool(x, turn.items[0][2])
        for (a, i, _), value in zip(turn.items, x.unbind(), strict=True):
            values[a][i + 1] = value
    return torch.stack([value[p.output] for value, p in zip(values, programs, strict=True)])


@cache
def pooling(window: Window, h: int, w: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Average pooling as a matrix (h*w, h'*w')."""
    pixels = torch.eye(h * w, dtype=dtype).view(h * w, 1, h, w)
    return F.avg_pool2d(pixels, *window, count_include_pad=False).reshape(h * w, -1).to(device)


def _pool(x: Tensor, layer: Layer) -> Tensor:
    g, m, c, h, w = x.shape
    if h * w <= SMALL_MAP:
        matrix = pooling((layer.kernel, layer.stride, layer.padding), h, w, x.dtype, x.device)
        return (x.reshape(-1, h * w) @ matrix).view(g, m, c, h // layer.stride, w // layer.stride)
    y = F.avg_pool2d(x.flatten(0, 1), layer.kernel, layer.stride, layer.padding, count_include_pad=False)
    return y.view(g, m, *y.shape[1:])


def _max_pool(x: Tensor, layer: Layer) -> Tensor:
    y = F.max_pool2d(x.flatten(0, 1), layer.kernel, layer.stride, layer.padding, ceil_mode=True)
    return y.view(*x.shape[:2], *y.shape[1:])


def stem(weight: Tensor, images: Tensor, stride: int) -> Tensor:
    """Stem kernels (S, c, C, 3, 3), images (S, b, M, C, H, W), a batch an architecture -> (S*b, M, c, H', W')."""
    s, b, m, c_image, h, w = images.shape
    layer = Layer("conv", (), c_image, weight.shape[1], 3, stride, 1, relu=False, norm=False)
    y = _conv(images.reshape(s, b * m, c_image, h, w), Turn("conv", ((0, 0, layer),) * s), [weight])
    return _norm(y.reshape(s * b, m, *y.shape[2:]))


def classify(weight: Tensor, bias: Tensor, x: Tensor, norm: bool = True) -> Tensor:
    """Classifiers (S, K, C), (S, K) on last features (S*b, M, C, H, W) -> logits (S, b, M, K)."""
    s, k, c = weight.shape
    pooled = (F.relu(_norm(x)) if norm else x).mean((3, 4))
    return torch.baddbmm(bias[:, None], pooled.reshape(s, -1, c), weight.transpose(1, 2)).view(s, -1, x.shape[1], k)


def _norm(x: Tensor) -> Tensor:
    """Batch normalisation of each architecture's x (A, M, C, H, W) over its own images and pixels."""
    a, m, c, h, w = x.shape
    y = F.batch_norm(x.transpose(0, 1).reshape(m, a * c, h, w), None, None, training=True, eps=EPSILON)
    return y.view(m, a, c, h, w).transpose(0, 1)


def _conv(x: Tensor, turn: Turn, kernels: list[Tensor]) -> Tensor:
    """x (G, M, c_in, H, W) of G layers that differ in kernel size alone -> (G, M, c_out, H', W')."""
    g, m, c_in, h, w = x.shape
    layer = turn.items[0][2]
    h_out, w_out = -(-h // layer.stride), -(-w // layer.stride)
    if c_in * h * w <= DENSE_LIMIT:
        starts = [0]
        for kernel in kernels:
            starts.append(starts[-1] + len(kernel))
        matrices = [as_matrix(k, turn.items[start][2], h, w) for k, start in zip(kernels, starts, strict=False)]
        matrix = torch.cat(matrices) if len(matrices) > 1 else matrices[0]
        y = ReluMatmulNorm.apply(x.reshape(g, m, -1), matrix, layer.c_out, layer.relu, layer.norm)
        return y.view(g, m, layer.c_out, h_out, w_out)
    x = F.relu(x) if layer.relu else x
    outputs, start = [], 0
    for kernel in kernels:
        part = x[start : start + len(kernel)].transpose(0, 1).reshape(m, -1, h, w)
        first = turn.items[start][2]
        y = F.conv2d(part, kernel.flatten(0, 1), stride=first.stride, padding=first.padding, groups=len(kernel))
        if layer.norm:
            y = F.batch_norm(y, None, None, training=True, eps=EPSILON)
        outputs.append(y.view(m, len(kernel), layer.c_out, h_out, w_out).transpose(0, 1))
        start += len(kernel)
    return torch.cat(outputs) if len(outputs) > 1 else outputs[0]
