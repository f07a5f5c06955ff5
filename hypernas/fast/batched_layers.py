"""Equal layers of G target networks as one, each with its own weights; the oracle is `method.target_network.run`.

x (G, M, C, H, W) holds the maps of M images in G networks, weights are (G, c_out, c_in, k, k).

On small maps, convolutions are slowed by overhead and dense products are not. There, a convolution runs as a matrix
(one for each channel if it is depthwise), and convolutions of different kernel sizes share one product. On larger maps
it runs as a grouped convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from hypernas.method.target_network import EPSILON, PLAIN, Layer, attention, max_pool

# Inputs C*H*W up to which a convolution runs as a matrix. Measured on one core, forward and backward of a 3 x 3
# convolution: 256 inputs 0.81 ms as a matrix and 1.03 ms as a convolution, 512 inputs 4.2 and 1.3 ms.
DENSE_LIMIT = 256
# Pixels H*W, 8 x 8: up to there a depthwise convolution or a pooling is overhead more than work, a matrix is not.
SMALL_MAP = 64
# The gradient where the result is above 0, else 0, by the kernel that autograd itself uses.
relu_backward = torch.ops.aten.threshold_backward
# Kernel, stride and padding.
Window = tuple[int, int, int]


@cache
def selection(
    window: Window,
    dilation: int,
    h: int,
    w: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """Return (k*k, P*Q): which output pixel q reads input pixel p through which tap of the kernel."""
    kernel, stride, padding = window
    # An image for each input pixel, 1 there and 0 elsewhere: what `unfold` makes of it tells who reads it.
    pixels = torch.eye(h * w, dtype=dtype).view(h * w, 1, h, w)
    taps = F.unfold(pixels, kernel, dilation, padding, stride)
    by_tap = taps.transpose(0, 1).reshape(kernel * kernel, -1)
    return by_tap.contiguous().to(device)


def as_matrix(
    weight: Tensor,
    layer: Layer,
    h: int,
    w: int,
) -> Tensor:
    """Return matrices (G, c_in*h*w, c_out*h'*w') that convolve flattened images with kernels (G, c_out, c_in, k, k)."""
    g, c_out, c_in, k, _ = weight.shape
    taps = selection(layer.window, layer.dilation, h, w, weight.dtype, weight.device)
    # `taps` is 0 or 1, so this product only puts each tap where its pixels meet.
    dense = weight.reshape(-1, k * k) @ taps
    dense = dense.view(g, c_out, c_in, h * w, -1)
    # (g, c_in, pixel in, c_out, pixel out): inputs are rows of the matrix, outputs its columns.
    inputs_first = dense.permute(0, 2, 3, 1, 4)
    return inputs_first.reshape(g, c_in * h * w, -1)


def is_dense(layer: Layer, x: Tensor) -> bool:
    """Return whether a layer on x (G, M, C, H, W) is a convolution that runs as a matrix."""
    plain = layer.op == "conv" and layer.groups == 1
    return plain and x.shape[2:].numel() <= DENSE_LIMIT


@dataclass
class Dense:
    """ReLU, product and batch normalisation of G networks, written out; keeps what the backward pass needs."""

    layer: Layer
    x: Tensor
    matrix: Tensor
    normal: Tensor
    scale: Tensor | None
    y: Tensor
    sides: Sequence[int]

    @classmethod
    def run(
        cls,
        layer: Layer,
        x: Tensor,
        matrices: Sequence[Tensor],
        out: Tensor,
    ) -> Dense:
        """Compute the layer on x (G, M, C, H, W), which is overwritten, and write the result into `out`.

        `matrices` (G, c_in*P, c_out*Q) come in parts.
        """
        sides = x.shape[3:]
        x = x.flatten(2)
        y = out.flatten(2)
        if layer.relu:
            x = x.relu_()
        matrix = _joined([part.detach() for part in matrices])
        # The way back needs what the last ReLU reads; where there is none, the product may land in its place at once.
        normal = torch.bmm(x, matrix) if layer.relu_after else torch.bmm(x, matrix, out=y)
        scale = None
        if layer.norm:
            # In place: the product itself is not needed any more, and a new tensor would cost a pass over memory.
            normal.sub_(_channel_mean(normal, layer.c_out))
            variance = _channel_mean(normal * normal, layer.c_out)
            scale = (variance + EPSILON).rsqrt_()
            normal.mul_(scale)
        if layer.relu_after:
            torch.clamp_min(normal, 0, out=y)
        return cls(layer, x, matrix, normal, scale, y, sides)

    def back(
        self,
        g: Tensor,
        gmatrices: Sequence[Tensor],
    ) -> tuple[Tensor, None]:
        """Return the gradient of the input from that of the output (G, M, c_out, ...), and fill `gmatrices`."""
        n_networks, n_images = g.shape[:2]
        c = self.layer.c_out
        g = g.flatten(2)
        if self.layer.relu_after:
            g = relu_backward(g, self.y, 0)
        if self.scale is not None:
            # Batch normalisation takes from g its mean and its part along the normalised values.
            slope = _channel_mean(g * self.normal, c)
            centred = g - _channel_mean(g, c)
            g = torch.addcmul(centred, self.normal, slope, value=-1)
            g = g.mul_(self.scale)
        # Of the product y = x W: the gradient of x is g W', that of W is x' g.
        gx = torch.bmm(g, self.matrix.mT)
        start = 0
        for gmatrix in gmatrices:
            rows = slice(start, start + len(gmatrix))
            torch.bmm(self.x[rows].mT, g[rows], out=gmatrix)
            start = rows.stop
        if self.layer.relu:
            gx = relu_backward(gx, self.x, 0)
        return gx.view(n_networks, n_images, self.layer.c_in, *self.sides), None


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """The parts end to end; a single one is not copied."""
    return torch.cat(parts) if len(parts) > 1 else parts[0]  # type: ignore[arg-type]


def _channel_mean(y: Tensor, c: int) -> Tensor:
    """y (G, M, C*Q) -> its mean over M and the Q pixels of each channel, repeated to (G, 1, C*Q)."""
    g, _, d = y.shape
    pixels = d // c
    by_channel = y.mean(1).view(g, c, pixels)
    mean = by_channel.mean(2, keepdim=True)
    return mean.expand(g, c, pixels).reshape(g, 1, d)


def apply(
    layer: Layer,
    x: Tensor,
    other: Tensor | None,
    weights: Sequence[Tensor],
    kinds: Sequence[Layer],
) -> Tensor:
    """Compute one layer of `method.target_network.run` for G networks at once.

    Arguments are x, the second input `other` of a gate, and for a convolution the weights of each run of layers with
    the same kernel size; `kinds` has one example layer for each run.
    """
    if layer.op == "conv":
        return _convolve(layer, x, weights, kinds)
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


def _convolve(
    layer: Layer,
    x: Tensor,
    weights: Sequence[Tensor],
    kinds: Sequence[Layer],
) -> Tensor:
    """ReLU, convolution, batch normalisation and ReLU, those of them that the layer has."""
    depthwise = layer.groups == layer.c_in == layer.c_out
    small = x.shape[3:].numel() <= SMALL_MAP
    convolve = depthwise_product if depthwise and small else grouped_convolution
    if layer.relu:
        x = F.relu(x)
    y = convolve(x, weights, kinds)
    if layer.norm:
        y = normalise(y)
    return F.relu(y) if layer.relu_after else y


def depthwise_product(
    x: Tensor,
    weights: Sequence[Tensor],
    kinds: Sequence[Layer],
) -> Tensor:
    """Convolve each channel of x (G, M, C, H, W) by its own matrix -> (G, M, C, H', W')."""
    g, m, c, h, w = x.shape
    matrices = []
    for weight, layer in zip(weights, kinds, strict=True):
        by_channel = weight.flatten(0, 1)[:, None]
        # A channel is a network of its own with one input and one output channel.
        matrices.append(as_matrix(by_channel, layer, h, w))
    maps = x.transpose(1, 2).reshape(g * c, m, h * w)
    y = torch.bmm(maps, torch.cat(matrices))
    stride = kinds[0].stride
    y = y.view(g, c, m, -(-h // stride), -(-w // stride))
    return y.transpose(1, 2)


def grouped_convolution(
    x: Tensor,
    weights: Sequence[Tensor],
    kinds: Sequence[Layer],
) -> Tensor:
    """x (G, M, c_in, H, W) -> (G, M, c_out, H', W')."""
    parts = x.split([len(weight) for weight in weights])
    runs = zip(parts, weights, kinds, strict=True)
    return _joined([_one_convolution(*run) for run in runs])


def _one_convolution(
    x: Tensor,
    weight: Tensor,
    layer: Layer,
) -> Tensor:
    """The networks as groups of one convolution: x (G, M, c_in, H, W) -> (G, M, c_out, H', W')."""
    g, m = x.shape[:2]
    # Groups share no channels, so one convolution with G groups is G convolutions.
    flat = x.transpose(0, 1).flatten(1, 2)
    kernels = weight.flatten(0, 1)
    y = F.conv2d(flat, kernels, None, layer.stride, layer.padding, layer.dilation, g * layer.groups)
    return y.view(m, g, layer.c_out, *y.shape[2:]).transpose(0, 1)


@cache
def pooling(
    window: Window,
    h: int,
    w: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """Return average pooling that does not count the padding, as a matrix (h*w, h'*w')."""
    pixels = torch.eye(h * w, dtype=dtype).view(h * w, 1, h, w)
    return _pool(pixels, window).reshape(h * w, -1).to(device)


def average_pool(x: Tensor, layer: Layer) -> Tensor:
    """x (G, M, C, H, W) -> (G, M, C, H', W'), by a matrix if the maps are small."""
    g, m, c, h, w = x.shape
    if h * w <= SMALL_MAP:
        matrix = pooling(layer.window, h, w, x.dtype, x.device)
        y = x.reshape(-1, h * w) @ matrix
        # What the window takes from a side beyond what the padding gives to it.
        lost = layer.kernel - 2 * layer.padding
        h_out = (h - lost) // layer.stride + 1
        w_out = (w - lost) // layer.stride + 1
        return y.view(g, m, c, h_out, w_out)
    y = _pool(x.flatten(0, 1), layer.window)
    return y.view(g, m, *y.shape[1:])


def _pool(x: Tensor, window: Window) -> Tensor:
    return F.avg_pool2d(x, *window, count_include_pad=False)


def normalise(x: Tensor) -> Tensor:
    """Apply batch normalisation to each network's x (G, M, C, H, W) over its own images and pixels."""
    g, m, c, h, w = x.shape
    # The channels of all networks stand side by side: statistics are taken channel by channel, so none mix.
    flat = x.transpose(0, 1).reshape(m, g * c, h, w)
    y = F.batch_norm(flat, None, None, training=True, eps=EPSILON)
    return y.view(m, g, c, h, w).transpose(0, 1)


def stem(
    weight: Tensor,
    images: Tensor,
    stride: int,
) -> Tensor:
    """Apply stem kernels (S, c, C, 3, 3) to images (S, b, M, C, H, W), b batches -> (S*b, M, c, H', W')."""
    s, b, m, c_image, h, w = images.shape
    layer = Layer("conv", (), c_image, weight.shape[1], 3, stride, 1, relu=False, norm=False)
    # A seed has one stem for all its architectures, so their batches stand end to end.
    x = images.reshape(s, b * m, c_image, h, w)
    if is_dense(layer, x):
        matrix = as_matrix(weight, layer, h, w)
        y = torch.bmm(x.flatten(2), matrix)
    else:
        y = grouped_convolution(x, [weight], [layer])
    maps = y.reshape(s * b, m, layer.c_out, -(-h // stride), -(-w // stride))
    return normalise(maps)


def classify(
    weight: Tensor,
    bias: Tensor,
    x: Tensor,
    norm: bool = True,
) -> Tensor:
    """Apply classifiers (S, K, C), (S, K) to last features (S*b, M, C, H, W) -> logits (S, b, M, K)."""
    s, k, c = weight.shape
    m = x.shape[1]
    if norm:
        x = F.relu(normalise(x))
    pooled = x.mean((3, 4)).reshape(s, -1, c)
    logits = torch.baddbmm(bias[:, None], pooled, weight.mT)
    return logits.view(s, -1, m, k)
