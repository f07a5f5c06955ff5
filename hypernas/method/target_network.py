"""The target network: an architecture as a program of layers, run on images with given weights, one at a time.

This is the readable version and the oracle of `batched.py`, which runs many programs in one pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hypernas.method.program import Layer, Program, ProgramWriter, WeightKey

__all__ = ["EPSILON", "PLAIN", "Layer", "Program", "ProgramWriter", "TargetHead", "WeightKey", "apply", "attention",
           "batch_norm", "count", "gather", "max_pool", "run", "run_recomputing"]  # fmt: skip

EPSILON = 1e-5


def layer_norm(x: Tensor) -> Tensor:
    """x (..., C, H, W), normalised over C at each pixel, no learned scale."""
    centred = x - x.mean(-3, keepdim=True)
    return centred * (centred.square().mean(-3, keepdim=True) + EPSILON).rsqrt()


@cache
def position_code(c: int, h: int, w: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Sine and cosine of each pixel's row and column at falling frequencies, (c, h, w) (Vaswani et al. 2017)."""
    n = -(-c // 4)
    frequency = 10_000.0 ** -(torch.arange(n, dtype=dtype) / n)
    row, column = (torch.arange(side, dtype=dtype)[:, None] * frequency for side in (h, w))
    rows, columns = row[:, None].expand(h, w, n), column[None].expand(h, w, n)
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
        self.stem_weight = nn.Parameter(torch.randn(channels, c_image, 3, 3) * (2 / (9 * c_image)) ** 0.5)
        self.classifier = nn.Linear(c_last, n_classes)

    def stem(self, images: Tensor) -> Tensor:
        """images (M, C, H, W) -> (M, channels, H', W')."""
        return batch_norm(F.conv2d(images, self.stem_weight, stride=self.stem_stride, padding=1))

    def classify(self, x: Tensor, norm: bool = True) -> Tensor:
        """x (M, c_last, H, W) -> logits (M, K)."""
        return self.classifier((F.relu(batch_norm(x)) if norm else x).mean((2, 3)))


def gather(values: Sequence[Tensor] | Mapping[int, Tensor], layer: Layer) -> Tensor:
    """What `layer` reads of the values (M, C, H, W) made so far."""
    if layer.op == "concat":
        return torch.cat([values[i] for i in layer.inputs], 1)
    if layer.op == "gate":
        value, gate = (values[i] for i in layer.inputs)
        return value * F.hardsigmoid(gate)
    c = layer.c_in
    first, *others = (values[i] if values[i].shape[1] == c else values[i][:, :c] for i in layer.inputs)
    return sum(others, first)


def attention(x: Tensor, heads: int) -> Tensor:
    """Queries, keys and values x (..., 3C, H, W) of `heads` heads -> (..., C, H, W); the pixels are the tokens."""
    *lead, c, h, w = x.shape
    q, k, v = x.reshape(*lead, 3, heads, c // (3 * heads), h * w).transpose(-1, -2).unbind(-4)
    return F.scaled_dot_product_attention(q, k, v).transpose(-1, -2).reshape(*lead, c // 3, h, w)


def max_pool(x: Tensor, layer: Layer) -> Tensor:
    return F.max_pool2d(x, layer.kernel, layer.stride, layer.padding, ceil_mode=layer.padding == 0)


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
    return PLAIN[layer.op](x) if layer.op in PLAIN else x


def run(program: Program, weights: Mapping[WeightKey, Tensor], head: TargetHead, images: Tensor) -> Tensor:
    """Run one architecture on images (M, C, H, W) with `weights[key] (c_out, c_in, k, k)`; returns logits (M, K)."""
    values = [head.stem(images)]
    for layer in program.layers:
        weight = None if layer.weight is None else weights[layer.weight]
        values.append(apply(layer, gather(values, layer), weight))
    return head.classify(values[program.output], program.norm_last)


def run_recomputing(program: Program, weights: Mapping[WeightKey, Tensor], head: TargetHead, images: Tensor) -> Tensor:
    """`run` with gradient checkpointing: of each cell only what others read is kept, all else is made again.

    Where `weights` makes a tensor when it is asked for, no more weights than those of one cell exist at a time.
    """
    last = {i: place for place, layer in enumerate(program.layers) for i in layer.inputs} | {program.output: math.inf}
    values = {0: head.stem(images)}
    stop = 0
    for _, part in groupby(program.layers, key=lambda layer: layer.position):
        layers = tuple(part)
        start, stop = stop, stop + len(layers)
        read = {i: values[i] for layer in layers for i in layer.inputs if i <= start}
        kept = [i for i in range(start + 1, stop + 1) if last.get(i, -1) >= stop]
        cell = partial(_run_cell, layers, start, weights, read, kept)
        values |= zip(kept, checkpoint(cell, use_reentrant=False), strict=True)
    return head.classify(values[program.output], program.norm_last)


def _run_cell(
    layers: Sequence[Layer],
    start: int,
    weights: Mapping[WeightKey, Tensor],
    read: Mapping[int, Tensor],
    kept: Sequence[int],
) -> tuple[Tensor, ...]:
    """Layers start, start + 1, ... of a program on the values that they read -> their values `kept`."""
    values = dict(read)
    for i, layer in enumerate(layers, start + 1):
        weight = None if layer.weight is None else weights[layer.weight]
        values[i] = apply(layer, gather(values, layer), weight)
    return tuple(values[i] for i in kept)


def count(program: Program, image: Sequence[int], n_classes: int) -> tuple[int, int]:
    """Trainable parameters and multiply-adds on one image (C, H, W) of the network with learned weights.

    Every batch normalisation has a scale and a shift; multiply-adds are those of convolutions and classifier.
    """
    c, h, w = image
    h, w = -(-h // program.stem_stride), -(-w // program.stem_stride)
    parameters, adds = 9 * c * program.channels + 2 * program.channels, 9 * c * program.channels * h * w
    sizes = [(h, w)]
    for layer in program.layers:
        h, w = (1 if layer.op == "mean" else -(-side // layer.stride) for side in sizes[layer.inputs[0]])
        sizes.append((h, w))
        if layer.op == "conv":
            weights = layer.c_out * layer.c_in // layer.groups * layer.kernel**2
            parameters += weights + 2 * layer.c_out * layer.norm
            adds += weights * h * w
    parameters += 2 * program.c_last * program.norm_last + (program.c_last + 1) * n_classes
    return parameters, adds + program.c_last * n_classes
