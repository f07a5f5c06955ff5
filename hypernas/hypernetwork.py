"""The shared hypernetwork: node features -> the weights of the node's layer (Supplement 7)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Shape = tuple[int, int, int, int]


class Hypernetwork(nn.Module):
    """A shared MLP with one linear head a kernel size, each of fixed output shape (c_max, c_max, k, k).

    A layer that needs less takes a slice of it, one that needs more tiles it, as GHN-2 does. Weights are scaled to
    the variance of He initialisation, 2 / fan_in.

    NOTE[PAPER]: paper says nothing of the scale of generated weights; we scale by sqrt(2 / fan_in); because GHN-2 does.
    """

    def __init__(
        self, width_in: int, width: int = 96, n_layers: int = 3, kernels: tuple[int, ...] = (1, 3), c_max: int = 32
    ) -> None:
        super().__init__()
        self.c_max = c_max
        widths = [width_in] + [width] * (n_layers - 1)
        self.trunk = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.heads = nn.ModuleDict({str(k): nn.Linear(widths[-1], c_max * c_max * k * k) for k in kernels})
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
        head = self.heads[str(shape[2])]
        assert isinstance(head, nn.Linear)
        (made,) = HeadOutputs.apply(head.weight[None], head.bias[None], self.c_max, (shape,), features[None])
        return made[0]


class HeadOutputs(torch.autograd.Function):
    """The heads of S hypernetworks, weight (S, c*c*k*k, W), bias (S, c*c*k*k) with c = c_max, on features (S, G, W) of
    each of several shapes (c_out, c_in, k, k) -> weights (S, G, *shape) of each.

    Only the rows that a shape uses are run, and the gradients of all shapes are summed in one place.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, c_max: int, shapes: tuple[Shape, ...], *features: Tensor):
        made = []
        for shape, x in zip(shapes, features, strict=True):
            (o, i), (s, g, _) = _used(shape, c_max), x.shape
            rows, offset = _rows(weight, c_max, o, i), _rows(bias[..., None], c_max, o, i)
            y = torch.baddbmm(offset.transpose(1, 2), x, rows.transpose(1, 2)).mul_(_scale(shape))
            made.append(_tile(y.view(s, g, o, i, *shape[2:]), shape))
        ctx.save_for_backward(weight, *features)
        ctx.shapes, ctx.c_max = shapes, c_max
        return tuple(made)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor):
        weight, *features = ctx.saved_tensors
        gweight, gbias = torch.zeros_like(weight), weight.new_zeros(*weight.shape[:2], 1)
        gfeatures = []
        for shape, x, g in zip(ctx.shapes, features, gradients, strict=True):
            o, i = _used(shape, ctx.c_max)
            g = _untile(g, shape, o, i).reshape(*x.shape[:2], -1) * _scale(shape)
            gfeatures.append(torch.bmm(g, _rows(weight, ctx.c_max, o, i)))
            block = _block(gweight, ctx.c_max, o, i)
            block += torch.bmm(g.transpose(1, 2), x).view(block.shape)
            block = _block(gbias, ctx.c_max, o, i)
            block += g.sum(1).view(block.shape)
        return gweight, gbias[..., 0], None, None, *gfeatures


def _used(shape: Shape, c_max: int) -> tuple[int, int]:
    return min(shape[0], c_max), min(shape[1], c_max)


def _scale(shape: Shape) -> float:
    return (2 / (shape[1] * shape[2] * shape[3])) ** 0.5


def _block(parameter: Tensor, c_max: int, o: int, i: int) -> Tensor:
    """(S, c*c*taps, W) -> its view (S, o, i, taps, W)."""
    s, rows, width = parameter.shape
    return parameter.view(s, c_max, c_max, rows // c_max**2, width)[:, :o, :i]


def _rows(parameter: Tensor, c_max: int, o: int, i: int) -> Tensor:
    return _block(parameter, c_max, o, i).reshape(parameter.shape[0], -1, parameter.shape[2])


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
