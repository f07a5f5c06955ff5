"""The global encoder for many seeds at once, forward and backward written out: the fast twin of `encoder.py`.

A step of the plain encoder is thousands of small operations. Here a GCN layer is four, the weight gradients of all
cells are one product a layer, and the first layer of a repeated cell is computed once: its input is v + c with the
same c for every node, and the rows of the propagation matrix sum to 1/2, so E (v + c) W = E v W + c W / 2.
Every tensor has a leading axis S of independently trained models.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

relu_backward = torch.ops.aten.threshold_backward
Columns = tuple[tuple[int, int], ...]


class EncodeSequence(torch.autograd.Function):
    """v (S,B,U,N,D), weight (K,L,2,S,D,D), context (S,C,B,D) | None, carry (S,D,D) | None -> z (S,C,B,D), nodes (S,C,B,N,D).

    `propagate (2,S,B,U,N,N)`, `pool (S,B,U,N)`, `columns`: (unique cell, kind) a position, `carries`: whether z(i-1)
    is added (through `carry` where given). `want_nodes=False` returns an empty second tensor.
    """

    @staticmethod
    def forward(ctx: Any, v: Tensor, weight: Tensor, context: Tensor | None, carry: Tensor | None, propagate: Tensor,
                pool: Tensor, columns: Columns, carries: bool, want_nodes: bool):  # fmt: skip
        s, b, _, n, d = v.shape
        ws = [[layer.reshape(2 * s, d, d) for layer in kind] for kind in weight]
        edges = {u: propagate[:, :, :, u].reshape(2 * s * b, n, n) for u, _ in set(columns)}
        pools = {u: pool[:, :, u].reshape(s * b, 1, n) for u, _ in set(columns)}
        first = {(u, k): _layer(v[:, :, u].reshape(s, b * n, d), ws[k][0], edges[u]) for u, k in set(columns)}
        zs, saved, nodes = [], [], []
        for i, (u, kind) in enumerate(columns):
            c = context[:, i] if context is not None else None
            if carries and i:
                c = zs[-1] if carry is None else torch.bmm(zs[-1], carry)
            h = first[u, kind].view(2 * s, b, n, d)
            if c is not None:
                h = h + (0.5 * torch.bmm(_twice(c), ws[kind][0]))[:, :, None]
            h = h.relu().view(2, s, b * n, d)
            layers = [(c, h)]
            x = h[0] + h[1]
            for w in ws[kind][1:]:
                h = _layer(x, w, edges[u]).relu_().view(2, s, b * n, d)
                layers.append((x, h))
                x = h[0] + h[1]
            zs.append(torch.bmm(pools[u], x.view(s * b, n, d)).view(s, b, d))
            saved.append(layers)
            if want_nodes:
                nodes.append(x.view(s, b, n, d))
        ctx.saved, ctx.edges, ctx.pools, ctx.ws, ctx.zs, ctx.carry = saved, edges, pools, ws, zs, carry
        ctx.v, ctx.columns, ctx.carries, ctx.weight_shape = v, columns, carries, weight.shape
        ctx.has_context = context is not None
        return torch.stack(zs, 1), torch.stack(nodes, 1) if want_nodes else v.new_zeros(0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor):
        gz_all, gnodes = gradients
        s, b, n, d = (ctx.v.shape[i] for i in (0, 1, 3, 4))
        sums = _Sums(ctx.weight_shape, s, d)
        gcontext = torch.zeros_like(gz_all) if ctx.has_context else None
        gcarry = torch.zeros_like(ctx.carry) if ctx.carry is not None else None
        gfirst: dict[tuple[int, int], Tensor] = {}
        gz_next = None
        for i in range(len(ctx.columns) - 1, -1, -1):
            u, kind = ctx.columns[i]
            gz = gz_all[:, i] if gz_next is None else gz_all[:, i] + gz_next
            g = torch.bmm(ctx.pools[u].transpose(1, 2), gz.reshape(s * b, 1, d)).view(s, b * n, d)
            if gnodes.numel():
                g = g + gnodes[:, i].reshape(s, b * n, d)
            for layer in range(len(ctx.ws[kind]) - 1, 0, -1):
                x, h = ctx.saved[i][layer]
                gh = _propagate_back(relu_backward(_double(g), h, 0), ctx.edges[u])
                sums.add(kind, layer, x, gh)
                g = _sum_directions(torch.bmm(gh, ctx.ws[kind][layer].transpose(1, 2)))
            c, h = ctx.saved[i][0]
            gh = relu_backward(_double(g), h, 0)
            gfirst[u, kind] = gfirst[u, kind].add_(gh) if (u, kind) in gfirst else gh
            gz_next = None
            if c is not None:
                gc = 0.5 * gh.view(2 * s, b, n, d).sum(2)
                sums.add(kind, 0, c, gc)
                gz_next = _sum_directions(torch.bmm(gc, ctx.ws[kind][0].transpose(1, 2)))
                if gcontext is not None:
                    gcontext[:, i], gz_next = gz_next, None
                elif ctx.carry is not None:
                    gcarry += torch.bmm(ctx.zs[i - 1].transpose(1, 2), gz_next)
                    gz_next = torch.bmm(gz_next, ctx.carry.transpose(1, 2))
        gv = torch.zeros_like(ctx.v)
        for (u, kind), gh in gfirst.items():
            gh = _propagate_back(gh, ctx.edges[u])
            sums.add(kind, 0, ctx.v[:, :, u].reshape(s, b * n, d), gh)
            gv[:, :, u] += _sum_directions(torch.bmm(gh, ctx.ws[kind][0].transpose(1, 2))).view(s, b, n, d)
        return gv, sums.total(), gcontext, gcarry, None, None, None, None, None


class _Sums:
    """Weight gradients: the inputs and output gradients of a layer are collected and multiplied once."""

    def __init__(self, shape: torch.Size, s: int, d: int) -> None:
        self.shape, self.s, self.d = shape, s, d
        self.inputs: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
        self.outputs: dict[tuple[int, int], list[Tensor]] = defaultdict(list)

    def add(self, kind: int, layer: int, x: Tensor, g: Tensor) -> None:
        """x (S, R, D) read by the layer, g (2S, R, D) the gradient of its product."""
        self.inputs[kind, layer].append(x)
        self.outputs[kind, layer].append(g)

    def total(self) -> Tensor:
        some = next(iter(self.inputs.values()))[0]
        total = some.new_zeros(self.shape)
        for (kind, layer), xs in self.inputs.items():
            x, g = _twice(torch.cat(xs, 1)), torch.cat(self.outputs[kind, layer], 1)
            total[kind, layer] = torch.bmm(x.transpose(1, 2), g).view(2, self.s, self.d, self.d)
        return total


def _twice(x: Tensor) -> Tensor:
    """(S, R, D) -> (2S, R, D), once for each direction."""
    return x.unsqueeze(0).expand(2, *x.shape).reshape(2 * x.shape[0], *x.shape[1:])


def _double(g: Tensor) -> Tensor:
    return g.unsqueeze(0).expand(2, *g.shape)


def _sum_directions(g: Tensor) -> Tensor:
    both = g.view(2, g.shape[0] // 2, *g.shape[1:])
    return both[0] + both[1]


def _layer(x: Tensor, w: Tensor, edges: Tensor) -> Tensor:
    """x (S, B*N, D), w (2S, D, D), edges (2SB, N, N) -> E x W (2SB, N, D)."""
    return torch.bmm(edges, torch.bmm(_twice(x), w).view(edges.shape[0], -1, x.shape[2]))


def _propagate_back(g: Tensor, edges: Tensor) -> Tensor:
    """The gradient (2, S, B*N, D) of E h -> that of h, (2S, B*N, D)."""
    d = g.shape[3]
    return torch.bmm(edges.transpose(1, 2), g.reshape(edges.shape[0], -1, d)).view(-1, g.shape[2], d)
