"""The heads of many hypernetworks for many shapes at once; the oracle is `method.hypernetwork.Hypernetwork.weights`."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hypernas.method.hypernetwork import Shape

# Output and input channels of the largest weight that a head makes.
Limit = tuple[int, int]
# How many channels out and in of a head are used, and the side t of the middle taps.
Block = tuple[int, int, int]


def own_kernel(limits: Mapping[int, Limit], kernel: int) -> int:
    """Return the kernel size of the head that makes weights of a kernel size.

    A size without a head has that of the largest kernel: a hypernetwork of one head makes a maximal tensor.
    """
    return kernel if kernel in limits else max(limits)


class HeadOutputs(torch.autograd.Function):
    """The heads of S hypernetworks applied to features (S, G, W) for each of several shapes (c_out, c_in, k, k).

    A head has weight (S, O*I*k*k, W), bias (S, O*I*k*k) and limit (O, I). The outputs are weights (S, G, c_out, c_in,
    t, t) for each shape, the middle taps of the kernel. Only the rows that these use are computed, and the gradients of
    all shapes are summed in one place.
    """

    @staticmethod
    def forward(
        ctx: Any,
        weight: Tensor,
        bias: Tensor,
        limit: Limit,
        shapes: tuple[Shape, ...],
        taps: tuple[int, ...],
        *features: Tensor,
    ):
        ctx.save_for_backward(weight, *features)
        ctx.shapes, ctx.limit = shapes, limit
        ctx.blocks = []
        weights = []
        for shape, t, x in zip(shapes, taps, features, strict=True):
            o, i = _used(shape, limit)
            block = o, i, t
            ctx.blocks.append(block)
            # A head's output is a whole kernel; a smaller layer needs some of its rows, and only these are multiplied.
            rows = _rows(weight, limit, block)
            offset = _rows(bias[..., None], limit, block)
            y = torch.baddbmm(offset.mT, x, rows.mT)
            y = y.mul_(_scale(shape))
            s, g, _ = x.shape
            made = y.view(s, g, o, i, t, t)
            weights.append(_tile(made, shape))
        return tuple(weights)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor):
        weight, *features = ctx.saved_tensors
        gweight = torch.zeros_like(weight)
        gbias = weight.new_zeros(*weight.shape[:2], 1)
        gfeatures = []
        steps = zip(ctx.shapes, ctx.blocks, features, gradients, strict=True)
        for shape, block, x, g in steps:
            o, i, _ = block
            g = _untile(g, shape, o, i).flatten(2)
            g = g * _scale(shape)
            rows = _rows(weight, ctx.limit, block)
            # Of y = x W': the gradient of x is g W, that of W is g' x.
            gfeatures.append(torch.bmm(g, rows))
            # Autograd would fill a zero tensor of the whole head for each shape; these views add in place.
            place = _block(gweight, ctx.limit, block)
            place += torch.bmm(g.mT, x).view(place.shape)
            place = _block(gbias, ctx.limit, block)
            place += g.sum(1).view(place.shape)
        # Limit, shapes and taps are no tensors and have no gradient.
        return gweight, gbias[..., 0], None, None, None, *gfeatures


def _used(shape: Shape, limit: Limit) -> tuple[int, int]:
    """How many channels out and in a head of this limit makes of a shape; the rest repeats them."""
    c_out, c_in, _, _ = shape
    most_out, most_in = limit
    return min(c_out, most_out), min(c_in, most_in)


def _scale(shape: Shape) -> float:
    """He's deviation of weights (c_out, c_in, k, k)."""
    _, c_in, height, width = shape
    fan_in = c_in * height * width
    return (2 / fan_in) ** 0.5


def _block(
    parameter: Tensor,
    limit: Limit,
    block: Block,
) -> Tensor:
    """(S, O*I*k*k, W) -> its view (S, o, i, t, t, W), the middle taps."""
    s, rows, width = parameter.shape
    o, i, t = block
    most_out, most_in = limit
    k = isqrt(rows // (most_out * most_in))
    middle = slice((k - t) // 2, (k + t) // 2)
    whole = parameter.view(s, most_out, most_in, k, k, width)
    return whole[:, :o, :i, middle, middle]


def _rows(
    parameter: Tensor,
    limit: Limit,
    block: Block,
) -> Tensor:
    """(S, O*I*k*k, W) -> (S, o*i*t*t, W)."""
    return _block(parameter, limit, block).flatten(1, 4)


def _tile(y: Tensor, shape: Shape) -> Tensor:
    """(S, G, o, i, t, t) repeated to c_out x c_in."""
    c_out, c_in, _, _ = shape
    o, i = y.shape[2:4]
    if (o, i) == (c_out, c_in):
        return y
    down, across = _repeats(shape, o, i)
    repeated = y.repeat(1, 1, down, across, 1, 1)
    return repeated[:, :, :c_out, :c_in]


def _repeats(
    shape: Shape,
    o: int,
    i: int,
) -> tuple[int, int]:
    """How often o x i channels are laid side by side to cover c_out x c_in."""
    c_out, c_in, _, _ = shape
    return -(-c_out // o), -(-c_in // i)


def _untile(
    g: Tensor,
    shape: Shape,
    o: int,
    i: int,
) -> Tensor:
    """The gradient of `_tile`: (S, G, c_out, c_in, t, t) summed over the repeats to (S, G, o, i, t, t)."""
    c_out, c_in, _, _ = shape
    if (o, i) == (c_out, c_in):
        return g
    down, across = _repeats(shape, o, i)
    # The last repeat may be cut off; zeros make it whole. `pad` counts axes from the last.
    beyond_in = across * i - c_in
    beyond_out = down * o - c_out
    g = F.pad(g, (0, 0, 0, 0, 0, beyond_in, 0, beyond_out))
    blocks = g.unflatten(3, (across, i)).unflatten(2, (down, o))
    return blocks.sum((2, 4))
