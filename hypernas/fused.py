"""The global encoder for many seeds at once, forward and backward written out: the fast twin of `encoder.py`.

A step of the plain encoder is thousands of small operations. Here a GCN layer is five that copy nothing, and the first
layer of a repeated cell is computed once: its input is v + c with the same c for every node, and the rows of the
propagation matrix sum to 1/2, so E (v + c) W = E v W + c W / 2. Every tensor has a leading axis S of independently
trained models.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

relu_backward = torch.ops.aten.threshold_backward
Columns = tuple[tuple[int, int], ...]


class EncodeSequence(torch.autograd.Function):
    """v (S,B,U,N,D), weight (K,L,2,S,D,D) -> z (S,C,B,D), nodes (S,C,B,N,D), the latter empty unless `want_nodes`.

    `context (S,C,B,D)` or None is added at each position, `carries` says whether z(i-1) is, through `carry (S,D,D)`
    unless None. `propagate (2,S,B,U,N,N)`, `pool (S,B,U,N)`, `columns`: (unique cell, kind) of each position.
    """

    @staticmethod
    def forward(ctx, v, weight, context, carry, propagate, pool, columns, carries, want_nodes):
        s, b, _, n, d = v.shape
        ws = [list(kind) for kind in weight]
        edges = {u: propagate[:, :, :, u].reshape(2 * s * b, n, n) for u, _ in set(columns)}
        pools = {u: pool[:, :, u].reshape(s * b, 1, n) for u, _ in set(columns)}
        first = {(u, k): _layer(v[:, :, u].reshape(s, b * n, d), ws[k][0], edges[u]) for u, k in set(columns)}
        zs: list[Tensor] = []
        saved, nodes = [], []
        for i, (u, kind) in enumerate(columns):
            c = context[:, i] if context is not None else None
            if carries and i:
                c = zs[-1] if carry is None else torch.bmm(zs[-1], carry)
            h = first[u, kind].view(2 * s, b, n, d)
            if c is not None:
                h = h + (0.5 * _both(c, ws[kind][0])).view(2 * s, b, 1, d)
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
        gweight = gz_all.new_zeros(ctx.weight_shape)
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
                g = _layer_back(x, ctx.ws[kind][layer], gh, gweight[kind, layer])
            c, h = ctx.saved[i][0]
            gh = relu_backward(_double(g), h, 0)
            gfirst[u, kind] = gfirst[u, kind].add_(gh) if (u, kind) in gfirst else gh
            gz_next = None
            if c is not None:
                gc = 0.5 * gh.view(2, s, b, n, d).sum(3)
                gz_next = _layer_back(c, ctx.ws[kind][0], gc, gweight[kind, 0])
                if gcontext is not None:
                    gcontext[:, i], gz_next = gz_next, None
                elif ctx.carry is not None:
                    assert gcarry is not None
                    gcarry += torch.bmm(ctx.zs[i - 1].transpose(1, 2), gz_next)
                    gz_next = torch.bmm(gz_next, ctx.carry.transpose(1, 2))
        gv = torch.zeros_like(ctx.v)
        for (u, kind), gh in gfirst.items():
            gh = _propagate_back(gh, ctx.edges[u])
            x = ctx.v[:, :, u].reshape(s, b * n, d)
            gv[:, :, u] += _layer_back(x, ctx.ws[kind][0], gh, gweight[kind, 0]).view(s, b, n, d)
        return gv, gweight, gcontext, gcarry, None, None, None, None, None


def _double(g: Tensor) -> Tensor:
    return g.unsqueeze(0).expand(2, *g.shape)


def _both(x: Tensor, w: Tensor) -> Tensor:
    """x (S, R, D), w (2, S, D, D) -> x W of each direction (2, S, R, D)."""
    out = x.new_empty(2, *x.shape)
    torch.bmm(x, w[0], out=out[0])
    torch.bmm(x, w[1], out=out[1])
    return out


def _layer(x: Tensor, w: Tensor, edges: Tensor) -> Tensor:
    """x (S, B*N, D), w (2, S, D, D), edges (2SB, N, N) -> E x W (2SB, N, D)."""
    return torch.bmm(edges, _both(x, w).view(edges.shape[0], -1, x.shape[2]))


def _layer_back(x: Tensor, w: Tensor, gh: Tensor, gweight: Tensor) -> Tensor:
    """The gradient gh (2, S, R, D) of `_both(x, w)` -> that of x (S, R, D); adds that of w to `gweight`."""
    transposed = x.transpose(1, 2)
    gweight[0].baddbmm_(transposed, gh[0])
    gweight[1].baddbmm_(transposed, gh[1])
    return torch.bmm(gh[0], w[0].transpose(1, 2)).baddbmm_(gh[1], w[1].transpose(1, 2))


def _propagate_back(g: Tensor, edges: Tensor) -> Tensor:
    """The gradient (2, S, B*N, D) of E h -> that of h, of the same shape."""
    return torch.bmm(edges.transpose(1, 2), g.reshape(edges.shape[0], -1, g.shape[3])).view(g.shape)
