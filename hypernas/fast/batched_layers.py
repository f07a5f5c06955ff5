"""Equal layers of G target networks as one: x (G, M, C, H, W), each with its own weights (G, c_out, c_in, k, k).

On small maps a convolution is overhead and a dense product is not, so there it is a matrix, one a channel where it is
depthwise, and convolutions of different kernel sizes share one product; on larger ones it is a grouped convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hypernas.method.target_network import EPSILON, PLAIN, Layer, attention, max_pool

DENSE_LIMIT = 256
SMALL_MAP = 64
relu_backward = torch.ops.aten.threshold_backward
Window = tuple[int, int, int]


@cache
def selection(window: Window, dilation: int, h: int, w: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(k*k, P*Q): which output pixel q reads input pixel p through which tap of the kernel."""
    kernel, stride, padding = window
    pixels = torch.eye(h * w, dtype=dtype).view(1, h * w, h, w).transpose(0, 1)
    taps = F.unfold(pixels, kernel, dilation, padding, stride)
    return taps.transpose(0, 1).reshape(kernel * kernel, -1).contiguous().to(device)


def as_matrix(weight: Tensor, layer: Layer, h: int, w: int) -> Tensor:
    """Kernels (G, c_out, c_in, k, k) -> matrices (G, c_in*h*w, c_out*h'*w') that convolve flattened images."""
    g, c_out, c_in, k, _ = weight.shape
    taps = selection(layer.window, layer.dilation, h, w, weight.dtype, weight.device)
    dense = (weight.reshape(-1, k * k) @ taps).view(g, c_out, c_in, h * w, -1)
    return dense.permute(0, 2, 3, 1, 4).reshape(g, c_in * h * w, -1)


def is_dense(layer: Layer, x: Tensor) -> bool:
    """Whether a layer on x (G, M, C, H, W) is a convolution that runs as a matrix."""
    return layer.op == "conv" and layer.groups == 1 and x.shape[2:].numel() <= DENSE_LIMIT


@dataclass
class Dense:
    """ReLU, product and batch normalisation of G networks, written out: what the way back needs of the way there."""

    layer: Layer
    x: Tensor
    matrix: Tensor
    normal: Tensor
    scale: Tensor | None
    y: Tensor
    sides: Sequence[int]

    @classmethod
    def run(cls, layer: Layer, x: Tensor, matrices: Sequence[Tensor], out: Tensor) -> Dense:
        """x (G, M, C, H, W), which is changed, and matrices (G, c_in*P, c_out*Q), in parts, into `out`."""
        sides, x, y = x.shape[3:], x.flatten(2), out.flatten(2)
        x = x.relu_() if layer.relu else x
        matrix = torch.cat([m.detach() for m in matrices]) if len(matrices) > 1 else matrices[0].detach()
        normal = torch.bmm(x, matrix) if layer.relu_after else torch.bmm(x, matrix, out=y)
        scale = None
        if layer.norm:
            normal.sub_(_channel_mean(normal, layer.c_out))
            scale = (_channel_mean(normal * normal, layer.c_out) + EPSILON).rsqrt_()
            normal.mul_(scale)
        if layer.relu_after:
            torch.clamp_min(normal, 0, out=y)
        return cls(layer, x, matrix, normal, scale, y, sides)

    def back(self, g: Tensor, gmatrices: Sequence[Tensor]) -> tuple[Tensor, None]:
        """The gradient of the input from that of the output (G, M, c_out, ...); those of the matrices go to theirs."""
        c, g, shape = self.layer.c_out, g.flatten(2), (*g.shape[:2], self.layer.c_in)
        if self.layer.relu_after:
            g = relu_backward(g, self.y, 0)
        if self.scale is not None:
            slope = _channel_mean(g * self.normal, c)
            g = torch.addcmul(g - _channel_mean(g, c), self.normal, slope, value=-1).mul_(self.scale)
        gx = torch.bmm(g, self.matrix.transpose(1, 2))
        at = 0
        for gmatrix in gmatrices:
            rows = slice(at, at + len(gmatrix))
            torch.bmm(self.x[rows].transpose(1, 2), g[rows], out=gmatrix)
            at = rows.stop
        gx = relu_backward(gx, self.x, 0) if self.layer.relu else gx
        return gx.view(*shape, *self.sides), None


def _channel_mean(y: Tensor, c: int) -> Tensor:
    """y (G, M, C*Q) -> its mean over M and the Q pixels of each channel, repeated to (G, 1, C*Q)."""
    g, _, d = y.shape
    mean = y.mean(1).view(g, c, d // c).mean(2, keepdim=True)
    return mean.expand(g, c, d // c).reshape(g, 1, d)


def apply(layer: Layer, x: Tensor, other: Tensor | None, weights: Sequence[Tensor], kinds: Sequence[Layer]) -> Tensor:
    """What `target.run` does with one layer, for G at once: x, for a gate `other`, and for a convolution the weights of
    each run of layers of one kernel size, of which `kinds` are examples."""
    if layer.op == "conv":
        small = layer.groups == layer.c_in == layer.c_out and x.shape[3:].numel() <= SMALL_MAP
        convolve = depthwise_product if small else grouped_convolution
        y = convolve(F.relu(x) if layer.relu else x, weights, kinds)
        y = normalise(y) if layer.norm else y
        return F.relu(y) if layer.relu_after else y
    if layer.op == "gate":
        assert other is not None
        return x * F.hardsigmoid(other)
    if layer.op == "pool":
        return average_pool(x, layer)
    if layer.op == "maxpool":
        y = max_pool(x.flatten(0, 1), layer)
        return y.view(*x.shape[:2], *y.shape[1:])
    if layer.op == "attention":
        return attention(x, layer.groups)
    return PLAIN[layer.op](x) if layer.op in PLAIN else x


def depthwise_product(x: Tensor, weights: Sequence[Tensor], kinds: Sequence[Layer]) -> Tensor:
    """x (G, M, C, H, W), each channel convolved by a matrix of its own -> (G, M, C, H', W')."""
    g, m, c, h, w = x.shape
    pairs = zip(weights, kinds, strict=True)
    matrix = torch.cat([as_matrix(weight.flatten(0, 1)[:, None], layer, h, w) for weight, layer in pairs])
    y = torch.bmm(x.transpose(1, 2).reshape(g * c, m, h * w), matrix)
    return y.view(g, c, m, *(-(-side // kinds[0].stride) for side in (h, w))).transpose(1, 2)


def grouped_convolution(x: Tensor, weights: Sequence[Tensor], kinds: Sequence[Layer]) -> Tensor:
    """x (G, M, c_in, H, W) -> (G, M, c_out, H', W')."""
    outputs = []
    for part, weight, layer in zip(x.split([len(w) for w in weights]), weights, kinds, strict=True):
        if x.is_cuda and layer.groups == layer.kernel == 1:
            outputs.append(pointwise_product(part, weight, layer.stride))
            continue
        flat, (g, m) = _side_by_side(part), part.shape[:2]
        settings = (layer.stride, layer.padding, layer.dilation, g * layer.groups)
        y = F.conv2d(flat, weight.flatten(0, 1), None, *settings)
        outputs.append(y.view(m, g, layer.c_out, *y.shape[2:]).transpose(0, 1))
    return torch.cat(outputs) if len(outputs) > 1 else outputs[0]


def _side_by_side(x: Tensor) -> Tensor:
    """x (G, M, C, H, W) -> (M, G*C, H, W), its channels last on a GPU."""
    if x.is_cuda:
        return x.permute(1, 3, 4, 0, 2).flatten(3).permute(0, 3, 1, 2)
    return x.transpose(0, 1).reshape(x.shape[1], -1, *x.shape[3:])


def pointwise_product(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """x (G, M, c_in, H, W), kernels (G, c_out, c_in, 1, 1) -> (G, M, c_out, H', W'), a product for each image."""
    x = x[..., ::stride, ::stride]
    g, m, _, h, w = x.shape
    return torch.matmul(weight.flatten(2)[:, None], x.flatten(3)).view(g, m, -1, h, w)


@cache
def pooling(window: Window, h: int, w: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Average pooling that does not count the padding, as a matrix (h*w, h'*w')."""
    pixels = torch.eye(h * w, dtype=dtype).view(h * w, 1, h, w)
    return F.avg_pool2d(pixels, *window, count_include_pad=False).reshape(h * w, -1).to(device)


def average_pool(x: Tensor, layer: Layer) -> Tensor:
    g, m, c, h, w = x.shape
    if h * w <= SMALL_MAP:
        matrix = pooling(layer.window, h, w, x.dtype, x.device)
        h_out, w_out = ((side + 2 * layer.padding - layer.kernel) // layer.stride + 1 for side in (h, w))
        return (x.reshape(-1, h * w) @ matrix).view(g, m, c, h_out, w_out)
    pool = SamePool.apply if layer.stride == 1 and 2 * layer.padding == layer.kernel - 1 else _pool
    y = pool(x.flatten(0, 1), layer.window)
    return y.view(g, m, *y.shape[1:])


def _pool(x: Tensor, window: Window) -> Tensor:
    return F.avg_pool2d(x, *window, count_include_pad=False)


class SamePool(torch.autograd.Function):
    """Average pooling (N, C, H, W) of stride 1 that keeps the size and does not count the padding.

    Its way back is a pooling too, of gradients over how many pixels shared each; a GPU is slow at PyTorch's own.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, window: Window) -> Tensor:
        ctx.window = window
        return _pool(x, window)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor):
        (g,), (kernel, _, padding) = gradients, ctx.window
        share = shares(ctx.window, *g.shape[2:], g.dtype, g.device)
        return F.avg_pool2d(g * share, kernel, 1, padding), None


@cache
def shares(window: Window, h: int, w: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(h, w): the size of the window over how many pixels a pixel's average is of."""
    kernel, stride, padding = window
    counted = F.avg_pool2d(torch.ones(1, 1, h, w, dtype=torch.float64), kernel, stride, padding)
    return (1 / counted)[0, 0].to(device, dtype)


def normalise(x: Tensor) -> Tensor:
    """Batch normalisation of each network's x (G, M, C, H, W) over its own images and pixels."""
    g, m, c, h, w = x.shape
    y = F.batch_norm(x.transpose(0, 1).reshape(m, g * c, h, w), None, None, training=True, eps=EPSILON)
    return y.view(m, g, c, h, w).transpose(0, 1)


def stem(weight: Tensor, images: Tensor, stride: int) -> Tensor:
    """Stem kernels (S, c, C, 3, 3), images (S, b, M, C, H, W), a batch an architecture -> (S*b, M, c, H', W')."""
    s, b, m, c_image, h, w = images.shape
    layer = Layer("conv", (), c_image, weight.shape[1], 3, stride, 1, relu=False, norm=False)
    x = images.reshape(s, b * m, c_image, h, w)
    if is_dense(layer, x):
        y = torch.bmm(x.flatten(2), as_matrix(weight, layer, h, w))
    else:
        y = grouped_convolution(x, [weight], [layer])
    return normalise(y.reshape(s * b, m, layer.c_out, -(-h // stride), -(-w // stride)))


def classify(weight: Tensor, bias: Tensor, x: Tensor, norm: bool = True) -> Tensor:
    """Classifiers (S, K, C), (S, K) on last features (S*b, M, C, H, W) -> logits (S, b, M, K)."""
    s, k, c = weight.shape
    pooled = (F.relu(normalise(x)) if norm else x).mean((3, 4))
    return torch.baddbmm(bias[:, None], pooled.reshape(s, -1, c), weight.transpose(1, 2)).view(s, -1, x.shape[1], k)
