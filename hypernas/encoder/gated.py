"""The recurrent graph network of GHN and GHN-2; its pass over the nodes is written out, forward and backward.

One visit is a dozen small operations and there are two for every node of a network, so autograd's own work would be
most of the time. What a message's last layer and the GRU do to it is one product, applied after the sum over edges.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LONGEST = 50
threshold_backward = torch.ops.aten.threshold_backward


class Visit(torch.autograd.Function):
    """Nodes updated in order: states x (N, B, D) -> (N, B, D).

    `gates (N, B, 3D)` is what r, z and n hold without a message, `held (N, B, D)` the old state's part of n, `edges
    (N, N, B, K)` the weight of u -> v of each kind. Three tensors make the messages: `pull (KD, 3D)`, which is all that
    follows the sum, `push (D, KD)` and `bias (KD)` of their first layer.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gates: Tensor, held: Tensor, edges: Tensor, *messages: Tensor):
        (n, b, d), (pull, push, bias) = x.shape, messages
        waiting = x.new_zeros(n, b, edges.shape[3], d)
        h, new, rz = torch.empty_like(x), torch.empty_like(x), x.new_empty(n, b, 2 * d)
        hidden = torch.empty_like(waiting)
        for i in range(n):
            g = torch.addmm(gates[i], waiting[i].view(b, -1), pull)
            torch.sigmoid(g[:, : 2 * d], out=rz[i])
            torch.tanh(torch.addcmul(g[:, 2 * d :], rz[i, :, :d], held[i]), out=new[i])
            torch.lerp(new[i], x[i], rz[i, :, d:], out=h[i])
            torch.addmm(bias, h[i], push, out=hidden[i].view(b, -1)).relu_()
            waiting[i + 1 :].addcmul_(edges[i, i + 1 :, ..., None], hidden[i])
        ctx.save_for_backward(x, held, edges, pull, push, waiting, h, hidden, new, rz)
        return h

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor):
        x, held, edges, pull, push, waiting, h, hidden, new, rz = ctx.saved_tensors
        n, b, d = x.shape
        gh, gwaiting, ghidden = gradients[0].clone(), torch.empty_like(waiting), torch.empty_like(hidden)
        ggates, gx = x.new_empty(n, b, 3 * d), torch.empty_like(x)
        away, r, z = x - new, rz[..., :d], rz[..., d:]
        slope, swing = 1 - new * new, rz * (1 - rz)
        for i in range(n - 1, -1, -1):
            back = (edges[i, i + 1 :, ..., None] * gwaiting[i + 1 :]).sum(0)
            ghidden[i] = threshold_backward(back, hidden[i], 0)
            g = gh[i].addmm_(ghidden[i].view(b, -1), push.T)
            gn = ggates[i, :, 2 * d :]
            torch.mul(torch.addcmul(g, g, z[i], value=-1), slope[i], out=gn)
            torch.mul(gn, held[i], out=ggates[i, :, :d])
            torch.mul(g, away[i], out=ggates[i, :, d : 2 * d])
            ggates[i, :, : 2 * d] *= swing[i]
            torch.mm(ggates[i], pull.T, out=gwaiting[i].view(b, -1))
        torch.mul(gh, z, out=gx)
        flat = ghidden.view(n * b, -1)
        gpull, gpush = waiting.view(n * b, -1).T @ ggates.view(n * b, -1), h.view(n * b, -1).T @ flat
        return gx, ggates, ggates[..., 2 * d :] * r, None, gpull, gpush, flat.sum(0)


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
        kinds = [adjacency.to(x.dtype)]
        if len(self.messages) > 1:
            kinds.append(virtual_edges(adjacency).to(x.dtype))
        edges = torch.stack(kinds).permute(2, 3, 1, 0).contiguous()
        x = self._visit(x.transpose(0, 1), edges)
        return self._visit(x.flip(0), edges.transpose(0, 1).flip(0, 1)).flip(0).transpose(0, 1)

    def _visit(self, x: Tensor, edges: Tensor) -> Tensor:
        """States x (N, B, D) after one pass in order, edges (N, N, B, K)."""
        cell, first, last = self.update, _joined(self.messages, 0), _joined(self.messages, 2)
        pull = (cell.weight_ih @ last[0]).transpose(1, 2).flatten(0, 1)
        constant = edges.sum(0) @ F.linear(last[1], cell.weight_ih) + cell.bias_ih
        own = F.linear(x, cell.weight_hh, cell.bias_hh)
        r_and_z, held = own.split([2 * x.shape[2], x.shape[2]], 2)
        gates = constant + F.pad(r_and_z, (0, x.shape[2]))
        return Visit.apply(x.contiguous(), gates, held, edges, pull, first[0].flatten(0, 1).T, first[1].flatten())


def _joined(messages: Iterable[Any], layer: int) -> tuple[Tensor, Tensor]:
    """The weights (K, D, D) and biases (K, D) of one layer of K message functions."""
    return torch.stack([m[layer].weight for m in messages]), torch.stack([m[layer].bias for m in messages])


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
