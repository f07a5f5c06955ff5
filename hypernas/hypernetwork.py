"""The shared hypernetwork: node features -> the weights of the node's layer (Supplement 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Limit = tuple[int, int]
Shape = tuple[int, int, int, int]


class Hypernetwork(nn.Module):
    """A shared MLP with one linear head a kernel size, each of fixed output shape: `heads` are (k, c_out, c_in), by
    default c_max x c_max for kernels 1 and 3.

    A layer that needs less takes a slice of it, one that needs more tiles it, as GHN-2 does. Weights are scaled to
    the variance of He initialisation, 2 / fan_in.

    NOTE[PAPER]: paper says nothing of the scale of generated weights; we scale by sqrt(2 / fan_in); because GHN-2 does.
    """

    def __init__(
        self,
        width_in: int,
        width: int = 96,
        n_layers: int = 3,
        c_max: int = 32,
        heads: Sequence[tuple[int, int, int]] = (),
    ) -> None:
        super().__init__()
        heads = heads or [(k, c_max, c_max) for k in (1, 3)]
        self.limits = {k: (c_out, c_in) for k, c_out, c_in in heads}
        widths = [width_in] + [width] * (n_layers - 1)
        self.trunk = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.heads = nn.ModuleDict({str(k): nn.Linear(widths[-1], c_out * c_in * k * k) for k, c_out, c_in in heads})
        for head in self.heads.values():
            nn.init.normal_(head.weight, std=width**-0.5)  # type: ignore[union-attr, arg-type]
            nn.init.normal_(head.bias)  # type: ignore[union-attr, arg-type]

    def features(self, nodes: Tensor) -> Tensor:
        """nodes (..., D) -> hidden features (..., width)."""
        for layer in self.trunk:
            nodes = F.relu(layer(nodes))
        return nodes

    def weights(self, features: Tensor, shape: Shape) -> Tensor:
        """features (G, width) of G nodes -> weights (G, c_out, c_in, k, k)."""
        parameters = {name: parameter[None] for name, parameter in self.heads.named_parameters()}
        (made,) = HeadOutputs.apply(*head_of(parameters, self.limits, shape[2]), (shape,), features[None])
        return made[0]


def head_of(
    parameters: Mapping[str, Tensor], limits: Mapping[int, Limit], kernel: int, prefix: str = ""
) -> tuple[Tensor, Tensor, Limit]:
    """Weight (S, O*I*k*k, W), bias (S, O*I*k*k) and limit (O, I) of the head for a kernel size k.

    A size without a head takes the middle of the largest kernel: a hypernetwork of one head makes a maximal tensor.
    """
    own = kernel if kernel in limits else max(limits)
    weight, bias = parameters[f"{prefix}{own}.weight"], parameters[f"{prefix}{own}.bias"]
    if own != kernel:
        middle = slice((own - kernel) // 2, (own + kernel) // 2)
        weight, bias = (
            each.unflatten(1, (*limits[own], own, own))[:, :, :, middle, middle].flatten(1, 4)
            for each in (weight, bias)
        )
    return weight, bias, limits[own]


class HeadOutputs(torch.autograd.Function):
    """The heads of S hypernetworks, weight (S, O*I*k*k, W), bias (S, O*I*k*k) with limit (O, I), on features (S, G, W)
    of each of several shapes (c_out, c_in, k, k) -> weights (S, G, *shape) of each.

    Only the rows that a shape uses are run, and the gradients of all shapes are summed in one place.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, limit: Limit, shapes: tuple[Shape, ...], *features: Tensor):
        made = []
        for shape, x in zip(shapes, features, strict=True):
            (o, i), (s, g, _) = _used(shape, limit), x.shape
            rows, offset = _rows(weight, limit, o, i), _rows(bias[..., None], limit, o, i)
            y = torch.baddbmm(offset.transpose(1, 2), x, rows.transpose(1, 2)).mul_(_scale(shape))
            made.append(_tile(y.view(s, g, o, i, *shape[2:]), shape))
        ctx.save_for_backward(weight, *features)
        ctx.shapes, ctx.limit = shapes, limit
        return tuple(made)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor):
        weight, *features = ctx.saved_tensors
        gweight, gbias = torch.zeros_like(weight), weight.new_zeros(*weight.shape[:2], 1)
        gfeatures = []
        for shape, x, g in zip(ctx.shapes, features, gradients, strict=True):
            o, i = _used(shape, ctx.limit)
            g = _untile(g, shape, o, i).reshape(*x.shape[:2], -1) * _scale(shape)
            gfeatures.append(torch.bmm(g, _rows(weight, ctx.limit, o, i)))
            block = _block(gweight, ctx.limit, o, i)
            block += torch.bmm(g.transpose(1, 2), x).view(block.shape)
            block = _block(gbias, ctx.limit, o, i)
            block += g.sum(1).view(block.shape)
        return gweight, gbias[..., 0], None, None, *gfeatures


def _used(shape: Shape, limit: Limit) -> tuple[int, int]:
    return min(shape[0], limit[0]), min(shape[1], limit[1])


def _scale(shape: Shape) -> float:
    return (2 / (shape[1] * shape[2] * shape[3])) ** 0.5


def _block(parameter: Tensor, limit: Limit, o: int, i: int) -> Tensor:
    """(S, O*I*taps, W) -> its view (S, o, i, taps, W)."""
    s, rows, width = parameter.shape
    return parameter.view(s, *limit, rows // (limit[0] * limit[1]), width)[:, :o, :i]


def _rows(parameter: Tensor, limit: Limit, o: int, i: int) -> Tensor:
    return _block(parameter, limit, o, i).reshape(parameter.shape[0], -1, parameter.shape[2])


def _tile(y: Tensor, shape: Shape) -> Tensor:
    """(S, G, o, i, k, k) repeated to c_out x c_in."""
    o, i = y.shape[2:4]
    return y.repeat(1, 1, -(-shape[0] // o), -(-shape[1] // i), 1, 1)[:, :, : shape[0], : shape[1]]


def _untile(g: Tensor, shape: Shape, o: int, i: int) -> Tensor:
    """The gradient of `_tile`: (S, G, c_out, c_in, k, k) summed over the repeats to (S, G, o, i, k, k)."""
    if (o, i) == shape[:2]:
        return g
    out, across = -(-shape[0] // o), -(-shape[1] // i)
    g = F.pad(g, (0, 0, 0, 0, 0, across * i - shape[1], 0, out * o - shape[0]))
    return g.unflatten(3, (across, i)).unflatten(2, (out, o)).sum((2, 4))
