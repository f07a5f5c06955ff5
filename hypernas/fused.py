"""The global encoder for many seeds at once, forward and backward written out: the fast twin of `encoder.py`.

A step of the plain encoder is thousands of small operations; here a GCN layer is four, and weight gradients of all
cells are one product a layer. Every tensor has a leading axis S of independently trained models.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

relu_backward = torch.ops.aten.threshold_backward


class EncodeSequence(torch.autograd.Function):
    """v (S,B,U,N,D), weight (K,L,2,S,D,D), context (S,C,B,D) | None, carry (S,D,D) | None -> z (S,C,B,D), nodes (S,C,B,N,D).

    `propagate (2,S,B,U,N,N)`, `pool (S,B,U,N)`, `columns`: (unique cell, kind) a position, `carries`: whether z(i-1)
    is added (through `carry` where given). `want_nodes=False` returns an empty second tensor.
    """

    @staticmethod
    def forward(ctx: Any, v: Tensor, weight: Tensor, context: Tensor | None, carry: Tensor | None, propagate: Tensor,
                pool: Tensor, columns: tuple[tuple[int, int], ...], carries: bool, want_nodes: bool):  # fmt: skip
        s, b, _, n, d = v.shape
        n_layers = weight.shape[1]
        z = v.new_zeros(s, b, d)
        zs, saved, nodes = [], [], []
        ws = [[weight[k, i].reshape(2 * s, d, d) for i in range(n_layers)] for k in range(weight.shape[0])]
        cells = {u: (v[:, :, u], propagate[:, :, :, u].reshape(2 * s * b, n, n), pool[:, :, u].reshape(s * b, 1, n))
                 for u, _ in set(columns)}  # fmt: skip
        for i, (u, kind) in enumerate(columns):
            base, edges, weights = cells[u]
            x = base
            if context is not None:
                x = x + context[:, i, :, None]
            if carries and i:
                x = x + (z if carry is None else torch.bmm(z, carry))[:, :, None]
            x = x.reshape(s, b * n, d)
            layers = []
            for layer in range(n_layers):
                doubled = x.unsqueeze(0).expand(2, s, b * n, d).reshape(2 * s, b * n, d)
                h = torch.bmm(edges, torch.bmm(doubled, ws[kind][layer]).view(2 * s * b, n, d)).relu_()
                layers.append((x, h))
                h = h.view(2, s, b * n, d)
                x = h[0] + h[1]
            z = torch.bmm(weights, x.view(s * b, n, d)).view(s, b, d)
            zs.append(z)
            saved.append(layers)
            if want_nodes:
                nodes.append(x.view(s, b, n, d))
        ctx.saved, ctx.cells, ctx.ws, ctx.zs, ctx.carry = saved, cells, ws, zs, carry
        ctx.columns, ctx.carries, ctx.shape = columns, carries, (v.shape, weight.shape)
        ctx.has_context = context is not None
        return torch.stack(zs, 1), torch.stack(nodes, 1) if want_nodes else v.new_zeros(0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor):
        gz_all, gnodes = gradients
        (s, b, _, n, d), weight_shape = ctx.shape
        n_layers = weight_shape[1]
        gv = gz_all.new_zeros(ctx.shape[0])
        gweight = gz_all.new_zeros(weight_shape)
        gcontext = gz_all.new_zeros(gz_all.shape) if ctx.has_context else None
        gcarry = torch.zeros_like(ctx.carry) if ctx.carry is not None else None
        transposed = [[w.transpose(1, 2) for w in ws] for ws in ctx.ws]
        gz_next = None
        inputs: dict[tuple[int, int], list[Tensor]] = {}
        outputs: dict[tuple[int, int], list[Tensor]] = {}
        for i in range(len(ctx.columns) - 1, -1, -1):
            u, kind = ctx.columns[i]
            _, edges, weights = ctx.cells[u]
            gz = gz_all[:, i] if gz_next is None else gz_all[:, i] + gz_next
            g = torch.bmm(weights.transpose(1, 2), gz.reshape(s * b, 1, d)).view(s, b * n, d)
            if gnodes.numel():
                g = g + gnodes[:, i].reshape(s, b * n, d)
            for layer in range(n_layers - 1, -1, -1):
                x, h = ctx.saved[i][layer]
                gh = relu_backward(g.unsqueeze(0).expand(2, s, b * n, d).reshape(h.shape), h, 0)
                gh = torch.bmm(edges.transpose(1, 2), gh).view(2 * s, b * n, d)
                inputs.setdefault((kind, layer), []).append(x)
                outputs.setdefault((kind, layer), []).append(gh)
                both = torch.bmm(gh, transposed[kind][layer]).view(2, s, b * n, d)
                g = both[0] + both[1]
            g = g.view(s, b, n, d)
            gv[:, :, u] += g
            if gcontext is not None or (ctx.carries and i):
                summed = g.sum(2)
                if gcontext is not None:
                    gcontext[:, i] = summed
                gz_next = None
                if ctx.carries and i:
                    gz_next = summed if ctx.carry is None else torch.bmm(summed, ctx.carry.transpose(1, 2))
                    if gcarry is not None:
                        gcarry += torch.bmm(ctx.zs[i - 1].transpose(1, 2), summed)
        for (kind, layer), xs in inputs.items():
            x = torch.cat(xs, 1).unsqueeze(0).expand(2, -1, -1, -1).reshape(2 * s, -1, d)
            gh = torch.cat(outputs[kind, layer], 1)
            gweight[kind, layer] = torch.bmm(x.transpose(1, 2), gh).view(2, s, d, d)
        return gv, gweight, gcontext, gcarry, None, None, None, None, None
