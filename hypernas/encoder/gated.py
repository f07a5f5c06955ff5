"""The recurrent graph network of GHN and GHN-2; its pass over the nodes is written out, forward and backward.

One visit is a dozen small operations and there are two for every node of a network, so autograd's own work would be
most of the time. What a message's last layer and the GRU do to it is one product, applied after the sum over edges.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LONGEST = 50
threshold_backward = torch.ops.aten.threshold_backward


class Visit(torch.autograd.Function):
    """Nodes of S networks updated in order: states x (N, S, B, D) -> (N, S, B, D).

    `gates (N, S, B, 3D)` is what r, z and n hold without a message, `held (N, S, B, D)` the old state's part of n,
    `edges (N, N, S, B, K)` the weight of u -> v of each kind. Three tensors make the messages: `pull (S, KD, 3D)`,
    which is all that follows the sum, `push (S, D, KD)` and `bias (S, 1, KD)` of their first layer.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gates: Tensor, held: Tensor, edges: Tensor, *messages: Tensor):
        (n, s, b, d), (pull, push, bias) = x.shape, messages
        waiting = x.new_zeros(n, s, b, edges.shape[4], d)
        h, new, rz = torch.empty_like(x), torch.empty_like(x), x.new_empty(n, s, b, 2 * d)
        hidden = torch.empty_like(waiting)
        for i in range(n):
            g = torch.baddbmm(gates[i], waiting[i].view(s, b, -1), pull)
            torch.sigmoid(g[..., : 2 * d], out=rz[i])
            torch.tanh(torch.addcmul(g[..., 2 * d :], rz[i, ..., :d], held[i]), out=new[i])
            torch.lerp(new[i], x[i], rz[i, ..., d:], out=h[i])
            torch.baddbmm(bias, h[i], push, out=hidden[i].view(s, b, -1)).relu_()
            waiting[i + 1 :].addcmul_(edges[i, i + 1 :, ..., None], hidden[i])
        ctx.save_for_backward(x, held, edges, pull, push, waiting, h, hidden, new, rz)
        return h

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor):
        x, held, edges, pull, push, waiting, h, hidden, new, rz = ctx.saved_tensors
        n, s, b, d = x.shape
        gh, gwaiting, ghidden = gradients[0].clone(), torch.empty_like(waiting), torch.empty_like(hidden)
        ggates, gx = x.new_empty(n, s, b, 3 * d), torch.empty_like(x)
        away, r, z = x - new, rz[..., :d], rz[..., d:]
        slope, swing = 1 - new * new, rz * (1 - rz)
        for i in range(n - 1, -1, -1):
            back = (edges[i, i + 1 :, ..., None] * gwaiting[i + 1 :]).sum(0)
            ghidden[i] = threshold_backward(back, hidden[i], 0)
            g = gh[i].baddbmm_(ghidden[i].view(s, b, -1), push.mT)
            gn = ggates[i, ..., 2 * d :]
            torch.mul(torch.addcmul(g, g, z[i], value=-1), slope[i], out=gn)
            torch.mul(gn, held[i], out=ggates[i, ..., :d])
            torch.mul(g, away[i], out=ggates[i, ..., d : 2 * d])
            ggates[i, ..., : 2 * d] *= swing[i]
            torch.bmm(ggates[i], pull.mT, out=gwaiting[i].view(s, b, -1))
        torch.mul(gh, z, out=gx)
        flat = ghidden.view(n, s, b, -1)
        gpull, gpush = (
            torch.einsum("nsbi,nsbj->sij", *pair) for pair in ((waiting.view(n, s, b, -1), ggates), (h, flat))
        )
        return gx, ggates, ggates[..., 2 * d :] * r, None, gpull, gpush, flat.sum((0, 2))[:, None]


class GatedGNN(nn.Module):
    """The recurrent network of GHN: nodes in topological order, then in reverse, all through one shared GRU cell.

    A node's message is the sum of MLP(h_u) over those before it (after it, on the way back), edges counted. With
    `virtual_edges`, as in GHN-2, every node that a path of 2 to 50 edges leads from sends a second message, of another
    MLP, divided by the length of the shortest such path.

    NOTE[PAPER]: paper names GHN's encoder and no more; we pass over the graph once, forward and backward, whatever the
    number of layers, with messages of one hidden layer; because GHN-2 does, and one pass of 2 N updates is already
    deeper than the GCN.
    """

    def __init__(self, width: int, virtual_edges: bool = False) -> None:
        super().__init__()
        self.update = nn.GRUCell(width, width)
        self.messages = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)) for _ in range(1 + virtual_edges)
        )

    def forward(self, x: Tensor, adjacency: Tensor, mask: Tensor) -> Tensor:
        """x (B, N, D), adjacency (B, N, N) upper triangular, mask (B, N) -> (B, N, D)."""
        edges = weighted_edges(adjacency, len(self.messages) > 1, x.dtype)
        return gated({name: p[None] for name, p in self.named_parameters()}, x, edges)


def weighted_edges(adjacency: Tensor, virtual: bool, dtype: torch.dtype) -> Tensor:
    """Upper triangular adjacency (..., N, N) -> weight of u -> v of each kind (..., N, N, K): counts, virtual edges."""
    kinds = [adjacency.to(dtype)]
    if virtual:
        kinds.append(virtual_edges(adjacency.flatten(0, -3)).to(dtype).view(adjacency.shape))
    return torch.stack(kinds, -1)


def gated(parameters: Mapping[str, Tensor], x: Tensor, edges: Tensor) -> Tensor:
    """S networks of stacked `parameters`: states x (S*B, N, D), `weighted_edges` (S*B, N, N, K) -> (S*B, N, D)."""
    s, (_, n, d) = len(parameters["update.bias_ih"]), x.shape
    x = x.view(s, -1, n, d).permute(2, 0, 1, 3)
    edges = edges.view(s, -1, *edges.shape[1:]).permute(2, 3, 0, 1, 4).contiguous()
    x = _visit(parameters, x, edges)
    x = _visit(parameters, x.flip(0), edges.transpose(0, 1).flip(0, 1)).flip(0)
    return x.permute(1, 2, 0, 3).reshape(-1, n, d)


def _visit(parameters: Mapping[str, Tensor], x: Tensor, edges: Tensor) -> Tensor:
    """States x (N, S, B, D) after one pass in order, edges (N, N, S, B, K)."""
    kinds = range(edges.shape[4])
    first, last = ([[parameters[f"messages.{k}.{i}.{of}"] for k in kinds] for of in ("weight", "bias")] for i in (0, 2))
    update, own = (parameters[f"update.weight_{kind}"].mT for kind in ("ih", "hh"))
    pull = torch.cat([weight.mT @ update for weight in last[0]], 1)
    constant = torch.einsum("nsbk,ske->nsbe", edges.sum(0), torch.stack(last[1], 1) @ update)
    constant = constant + parameters["update.bias_ih"][:, None]
    own_part = torch.einsum("nsbd,sde->nsbe", x, own) + parameters["update.bias_hh"][:, None]
    r_and_z, held = own_part.split([2 * x.shape[3], x.shape[3]], 3)
    gates = constant + F.pad(r_and_z, (0, x.shape[3]))
    push, bias = torch.cat(first[0], 1).mT, torch.cat(first[1], 1)[:, None]
    return Visit.apply(x.contiguous(), gates, held, edges, pull, push, bias)


def shortest_paths(adjacency: Tensor) -> Tensor:
    """Upper triangular adjacency (B, N, N) -> edges of the shortest path i -> j, float32; 0 for i = j, inf for none.

    >>> shortest_paths(torch.tensor([[[0, 1, 0], [0, 0, 2], [0, 0, 0]]]))[0, 0]
    tensor([0., 1., 2.])
    """
    b, n, _ = adjacency.shape
    step = torch.ones(adjacency.shape, device=adjacency.device).masked_fill(adjacency == 0, math.inf)
    paths = torch.eye(n, device=adjacency.device).expand(b, n, n)
    paths = torch.where(paths > 0, 0.0, math.inf).contiguous()
    for j in range(1, n):
        through = (paths[:, :, :j] + step[:, None, :j, j]).amin(2)
        paths[:, :, j] = torch.minimum(paths[:, :, j], through)
    return paths


def virtual_edges(adjacency: Tensor) -> Tensor:
    """adjacency (B, N, N) -> 1 / shortest path where that has 2 to 50 edges, else 0 (GHN-2, Knyazev et al. 2021)."""
    paths = shortest_paths(adjacency)
    return torch.where((paths > 1) & (paths <= LONGEST), 1 / paths, 0.0)
