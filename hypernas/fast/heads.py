"""The heads of many hypernetworks on many shapes at once; the oracle is `method.hypernetwork.Hypernetwork.weights`."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hypernas.method.hypernetwork import Shape

Limit = tuple[int, int]
Block = tuple[int, int, int]


def head_of(
    parameters: Mapping[str, Tensor], limits: Mapping[int, Limit], kernel: int, prefix: str = ""
) -> tuple[Tensor, Tensor, Limit]:
    """Weight (S, O*I*k*k, W), bias (S, O*I*k*k) and limit (O, I) of the head for a kernel size.

    A size without a head has that of the largest kernel: a hypernetwork of one head makes a maximal tensor.
    """
    own = own_kernel(limits, kernel)
    return parameters[f"{prefix}{own}.weight"], parameters[f"{prefix}{own}.bias"], limits[own]


def own_kernel(limits: Mapping[int, Limit], kernel: int) -> int:
    """The kernel size of the head that makes weights of a kernel size."""
    return kernel if kernel in limits else max(limits)


class HeadOutputs(torch.autograd.Function):
    """The heads of S hypernetworks, weight (S, O*I*k*k, W), bias (S, O*I*k*k) with limit (O, I), on features (S, G, W)
    of each of several shapes (c_out, c_in, k, k) -> weights (S, G, c_out, c_in, t, t) of each, the middle taps.

    Only the rows that these use are run, and the gradients of all shapes are summed in one place.
    """

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor, limit: Limit, shapes: tuple[Shape, ...], taps: tuple[int, ...],
        *features: Tensor,
    ):  # fmt: skip
        ctx.save_for_backward(weight, *features)
        ctx.blocks = [(*_used(shape, limit), t) for shape, t in zip(shapes, taps, strict=True)]
        ctx.shapes, ctx.limit, made = shapes, limit, []
        for shape, block, x in zip(shapes, ctx.blocks, features, strict=True):
            rows, offset = _rows(weight, limit, block), _rows(bias[..., None], limit, block)
            y = torch.baddbmm(offset.transpose(1, 2), x, rows.transpose(1, 2)).mul_(_scale(shape))
            o, i, t = block
            made.append(_tile(y.view(*x.shape[:2], o, i, t, t), shape))
        return tuple(made)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor):
        weight, *features = ctx.saved_tensors
        gweight, gbias = torch.zeros_like(weight), weight.new_zeros(*weight.shape[:2], 1)
        gfeatures = []
        for shape, block, x, g in zip(ctx.shapes, ctx.blocks, features, gradients, strict=True):
            g = _untile(g, shape, *block[:2]).reshape(*x.shape[:2], -1) * _scale(shape)
            gfeatures.append(torch.bmm(g, _rows(weight, ctx.limit, block)))
            place = _block(gweight, ctx.limit, block)
            place += torch.bmm(g.transpose(1, 2), x).view(place.shape)
            place = _block(gbias, ctx.limit, block)
            place += g.sum(1).view(place.shape)
        return gweight, gbias[..., 0], None, None, None, *gfeatures


def _used(shape: Shape, limit: Limit) -> tuple[int, int]:
    return min(shape[0], limit[0]), min(shape[1], limit[1])


def _scale(shape: Shape) -> float:
    return (2 / (shape[1] * shape[2] * shape[3])) ** 0.5


def _block(parameter: Tensor, limit: Limit, block: Block) -> Tensor:
    """(S, O*I*k*k, W) -> its view (S, o, i, t, t, W), the middle taps."""
    s, rows, width = parameter.shape
    (o, i, t), k = block, isqrt(rows // (limit[0] * limit[1]))
    middle = slice((k - t) // 2, (k + t) // 2)
    return parameter.view(s, *limit, k, k, width)[:, :o, :i, middle, middle]


def _rows(parameter: Tensor, limit: Limit, block: Block) -> Tensor:
    return _block(parameter, limit, block).reshape(parameter.shape[0], -1, parameter.shape[2])


def _tile(y: Tensor, shape: Shape) -> Tensor:
    """(S, G, o, i, t, t) repeated to c_out x c_in."""
    o, i = y.shape[2:4]
    if (o, i) == shape[:2]:
        return y
    return y.repeat(1, 1, -(-shape[0] // o), -(-shape[1] // i), 1, 1)[:, :, : shape[0], : shape[1]]


def _untile(g: Tensor, shape: Shape, o: int, i: int) -> Tensor:
    """The gradient of `_tile`: (S, G, c_out, c_in, t, t) summed over the repeats to (S, G, o, i, t, t)."""
    if (o, i) == shape[:2]:
        return g
    out, across = -(-shape[0] // o), -(-shape[1] // i)
    g = F.pad(g, (0, 0, 0, 0, 0, across * i - shape[1], 0, out * o - shape[0]))
    return g.unflatten(3, (across, i)).unflatten(2, (out, o)).sum((2, 4))
