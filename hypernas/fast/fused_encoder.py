"""The global encoder for many seeds at once, forward and backward written out: the fast twin of `encoder.py`.

A step of the plain encoder is thousands of small operations. Here a GCN layer is five that copy nothing, and the first
layer of a repeated cell is computed once: its input is v + c with the same c for every node, and the rows of the
propagation matrix sum to 1/2, so E (v + c) W = E v W + c W / 2. Every tensor has a leading axis S of independently
trained models.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

relu_backward = torch.ops.aten.threshold_backward


@dataclass(frozen=True)
class Group:
    """Cells of one `kind` at one `position`, encoded together.

    `place` picks their R architectures of (S, B), `cells`, a number or (S, R), the unique cell of each; groups of equal
    `key` pick the same. Where another seed has more of them, a seed's rows are filled up with other architectures,
    `real (S, R)` is 0 there, and their results are dropped.
    """

    position: int
    kind: int
    key: Hashable
    place: tuple[Any, Any]
    cells: Any
    real: Tensor | None = None

    def put(self, values: Tensor, results: Tensor) -> None:
        """Write the results (S, R, ...) of this group into values (S, B, ...), which are 0 where nothing is yet."""
        if self.real is not None:
            results = values[self.place] + self.only_real(results)
        values[self.place] = results

    def only_real(self, x: Tensor) -> Tensor:
        """x (S, R, ...) with zeros in the rows that fill up."""
        return x if self.real is None else x * self.real.view(*self.real.shape, *[1] * (x.dim() - 2))


class EncodeSequence(torch.autograd.Function):
    """v (S,B,U,N,D), weight (K,L,2,S,D,D) -> z (S,C,B,D), nodes (S,C,B,N,D), the latter empty unless `want_nodes`.

    Both are 0 at positions that an architecture does not have. `context (S,C,B,D)` or None is added at each position,
    `carries` says whether z(i-1) is, through `carry (S,D,D)` unless None. `propagate (2,S,B,U,N,N)`,
    `pool (S,B,U,N)`; `groups` in the order of their positions.
    """

    @staticmethod
    def forward(ctx, v, weight, context, carry, propagate, pool, groups, carries, want_nodes):
        s, b, _, n, d = v.shape
        ws = [list(kind) for kind in weight]
        z = v.new_zeros(s, groups[-1].position + 1, b, d)
        nodes = v.new_zeros(*z.shape[:3], n, d) if want_nodes else v.new_zeros(0)
        blocks: dict[Hashable, tuple[Tensor, Tensor, Tensor]] = {}
        saved = []
        keep = any(ctx.needs_input_grad)
        for group in groups:
            i, w = group.position, ws[group.kind]
            if group.key not in blocks:
                blocks[group.key] = _block(v, propagate, pool, group, w[0])
            edges, pools, h = blocks[group.key]
            h = h.view(2 * s, -1, n, d)
            before = z[:, i - 1][group.place].clone(memory_format=torch.contiguous_format) if carries and i else None
            c = before if carry is None or before is None else torch.bmm(before, carry)
            c = c if context is None else context[:, i][group.place]
            if c is not None:
                h = h + (0.5 * _both(c, w[0])).view(*h.shape[:2], 1, d)
            h = h.relu().view(2, s, -1, d)
            layers = [(c, h)]
            x = h[0] + h[1]
            for w_next in w[1:]:
                h = _layer(x, w_next, edges).relu_().view(2, s, -1, d)
                layers += [(x, h)] if keep else []
                x = h[0] + h[1]
            group.put(z[:, i], torch.bmm(pools, x.view(len(pools), n, d)).view(s, -1, d))
            if want_nodes:
                group.put(nodes[:, i], x.view(s, -1, n, d))
            saved += [(before, layers)] if keep else []
        ctx.saved, ctx.blocks, ctx.ws, ctx.carry, ctx.v, ctx.groups = saved, blocks, ws, carry, v, groups
        ctx.weight_shape, ctx.has_context = weight.shape, context is not None
        return z, nodes

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor):
        gz, gnodes = gradients[0].clone(memory_format=torch.contiguous_format), gradients[1]
        s, _, _, n, d = ctx.v.shape
        gweight = gz.new_zeros(ctx.weight_shape)
        gcontext = torch.zeros_like(gz) if ctx.has_context else None
        gcarry = torch.zeros_like(ctx.carry) if ctx.carry is not None else None
        gfirst: dict[Hashable, Tensor] = {}
        for group, (before, layers) in zip(ctx.groups[::-1], ctx.saved[::-1], strict=True):
            i, w, gw = group.position, ctx.ws[group.kind], gweight[group.kind]
            edges, pools, _ = ctx.blocks[group.key]
            g = torch.bmm(pools.transpose(1, 2), gz[:, i][group.place].reshape(len(pools), 1, d)).view(s, -1, n, d)
            if gnodes.numel():
                g = g + gnodes[:, i][group.place]
            g = group.only_real(g).view(s, -1, d)
            for layer in range(len(w) - 1, 0, -1):
                x, h = layers[layer]
                gh = _propagate_back(relu_backward(_double(g), h, 0), edges)
                g = _layer_back(x, w[layer], gh, gw[layer])
            c, h = layers[0]
            gh = relu_backward(_double(g), h, 0)
            gfirst[group.key] = gfirst[group.key].add_(gh) if group.key in gfirst else gh
            if c is None:
                continue
            gc = _layer_back(c, w[0], 0.5 * gh.view(2, s, -1, n, d).sum(3), gw[0])
            if gcontext is not None:
                gcontext[:, i][group.place] += gc
                continue
            if gcarry is not None:
                gcarry += torch.bmm(before.transpose(1, 2), gc)
                gc = torch.bmm(gc, ctx.carry.transpose(1, 2))
            gz[:, i - 1][group.place] += gc
        return _first_back(ctx, gfirst, gweight), gweight, gcontext, gcarry, *[None] * 5


def _block(v: Tensor, propagate: Tensor, pool: Tensor, group: Group, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A group's edges (2SR, N, N), pools (SR, 1, N) and first layer but for the context (2SR, N, D)."""
    s, n, d = v.shape[0], *v.shape[3:]
    edges = propagate[(slice(None), *group.place, group.cells)].reshape(-1, n, n)
    pools = pool[(*group.place, group.cells)].reshape(-1, 1, n)
    return edges, pools, _layer(v[(*group.place, group.cells)].reshape(s, -1, d), w, edges)


def _first_back(ctx: Any, gfirst: dict[Hashable, Tensor], gweight: Tensor) -> Tensor:
    """The gradients (2, S, R*N, D) of the first layers of all blocks -> that of v; adds that of the weights."""
    gv, (s, _, _, n, d) = torch.zeros_like(ctx.v), ctx.v.shape
    picked = {group.key: group for group in ctx.groups}
    for key, gh in gfirst.items():
        group = picked[key]
        where = (*group.place, group.cells)
        gh = _propagate_back(gh, ctx.blocks[key][0])
        x = ctx.v[where].reshape(s, -1, d)
        gv[where] += _layer_back(x, ctx.ws[group.kind][0], gh, gweight[group.kind, 0]).view(s, -1, n, d)
    return gv


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
