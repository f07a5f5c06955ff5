"""The recurrent graph network of GHN and GHN-2; its pass over the nodes is written out, forward and backward.

One visit is a dozen small operations and there are two for every node of a network, so autograd's own work would be
most of the time. What a message's last layer and the GRU do to it is one product, applied after the sum over edges.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

LONGEST = 50
threshold_backward = torch.ops.aten.threshold_backward


class Visit(torch.autograd.Function):
    """Nodes of S networks updated in order, or in reverse: states x (N, S, B, D) -> (N, S, B, D).

    `own (N, S, B, 3D)` is what the old state gives to r, z and n, `constant (N, S, B, 3D)` what these hold anyway,
    `edges (N, N, S, B, K)` the weight of u -> v of each kind, u before v. Three tensors make the messages:
    `pull (S, KD, 3D)`, which is all that follows the sum, `push (S, D, KD)` and `bias (S, 1, KD)` of their first layer.
    """

    @staticmethod
    def forward(
        ctx: Any, backwards: bool, x: Tensor, own: Tensor, constant: Tensor, edges: Tensor, *messages: Tensor
    ) -> Tensor:
        (n, s, b, d), (pull, push, bias) = x.shape, messages
        edges, gates = edges[..., None], constant.clone()
        gates[..., : 2 * d] += own[..., : 2 * d]
        waiting = x.new_zeros(n, s, b, edges.shape[4], d)
        h, new, hidden = torch.empty_like(x), torch.empty_like(x), torch.empty_like(waiting)
        rz = x.new_empty(n, s, b, 2 * d)
        r, z = (part.unbind() for part in rz.chunk(2, 3))
        held, arrived, flat = own[..., 2 * d :].unbind(), waiting.flatten(3).unbind(), hidden.flatten(3).unbind()
        for i in _order(n, backwards):
            before_rz, before_n = torch.baddbmm(gates[i], arrived[i], pull).split([2 * d, d], 2)
            torch.sigmoid(before_rz, out=rz[i])
            torch.tanh(torch.addcmul(before_n, r[i], held[i]), out=new[i])
            torch.lerp(new[i], x[i], z[i], out=h[i])
            torch.baddbmm(bias, h[i], push, out=flat[i]).relu_()
            later, weights = _others(edges, i, not backwards)
            waiting[later].addcmul_(weights, hidden[i])
        ctx.save_for_backward(x, own, edges, pull, push, waiting, h, hidden, new, rz)
        ctx.backwards = backwards
        return h

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor):
        x, own, edges, pull, push, waiting, h, hidden, new, rz = ctx.saved_tensors
        (n, _, _, d), (r, z) = x.shape, rz.chunk(2, 3)
        slope = (1 - z) * (1 - new * new)
        of_gates = torch.stack([slope * own[..., 2 * d :] * r * (1 - r), (x - new) * z * (1 - z), slope], 3)
        gwaiting, ghidden = torch.empty_like(waiting), torch.zeros_like(hidden)
        gh = gradients[0].clone(memory_format=torch.contiguous_format)
        ggates = torch.empty_like(of_gates)
        flat, sent, gates, arrived = (t.flatten(3) for t in (ghidden, hidden, ggates, gwaiting))
        pull, push = pull.mT.contiguous(), push.mT.contiguous()
        for i in _order(n, not ctx.backwards):
            threshold_backward.grad_input(flat[i], sent[i], 0, grad_input=flat[i])
            torch.mul(gh[i].baddbmm_(flat[i], push)[:, :, None], of_gates[i], out=ggates[i])
            torch.bmm(gates[i], pull, out=arrived[i])
            earlier, weights = _others(edges, i, ctx.backwards)
            ghidden[earlier].addcmul_(weights, gwaiting[i])
        gown = gates.clone()
        gown[..., 2 * d :] *= r
        gpull, gpush = _gradient(waiting.flatten(3), gates), _gradient(h, flat)
        return None, gh * z, gown, gates, None, gpull, gpush, flat.sum((0, 2))[:, None]


def _order(n: int, backwards: bool) -> range:
    return range(n - 1, -1, -1) if backwards else range(n)


def _others(edges: Tensor, i: int, after: bool) -> tuple[slice, Tensor]:
    """The nodes after or before node i, and the weights of the edges between it and them."""
    return (slice(i + 1, None), edges[i, i + 1 :]) if after else (slice(0, i), edges[:i, i])


def _gradient(x: Tensor, g: Tensor) -> Tensor:
    """That of weights (S, I, J) which took x (N, S, B, I), from g (N, S, B, J) of what they made."""
    return torch.bmm(x.transpose(0, 1).flatten(1, 2).mT, g.transpose(0, 1).flatten(1, 2))


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
        return gated(prepared({name: p[None] for name, p in self.named_parameters()}), x, edges)


def weighted_edges(adjacency: Tensor, virtual: bool, dtype: torch.dtype) -> Tensor:
    """Upper triangular adjacency (..., N, N) -> weight of u -> v of each kind (..., N, N, K): counts, virtual edges."""
    kinds = [adjacency.to(dtype)]
    if virtual:
        kinds.append(virtual_edges(adjacency.flatten(0, -3)).to(dtype).view(adjacency.shape))
    return torch.stack(kinds, -1)


class Prepared(NamedTuple):
    """The parameters of S networks as their visits use them.

    `own (S, D, 3D)` and `own_bias (S, 1, 3D)` of the old state; what a node holds without a message `gate_bias
    (S, 1, 3D)`, and for each edge of a kind `constant (S, K, 3D)`; `pull`, `push` and `bias` as in `Visit`.
    """

    own: Tensor
    own_bias: Tensor
    constant: Tensor
    gate_bias: Tensor
    pull: Tensor
    push: Tensor
    bias: Tensor


def prepared(parameters: Mapping[str, Tensor]) -> Prepared:
    """Stacked `parameters` of `GatedGNN`s -> what all visits of a step share."""
    kinds = range(sum(name.startswith("messages.") and name.endswith(".0.weight") for name in parameters))
    first, last = ([[parameters[f"messages.{k}.{i}.{of}"] for k in kinds] for of in ("weight", "bias")] for i in (0, 2))
    update, own = (parameters[f"update.weight_{kind}"].mT for kind in ("ih", "hh"))
    return Prepared(
        own,
        parameters["update.bias_hh"][:, None],
        torch.stack(last[1], 1) @ update,
        parameters["update.bias_ih"][:, None],
        torch.cat([weight.mT @ update for weight in last[0]], 1),
        torch.cat(first[0], 1).mT,
        torch.cat(first[1], 1)[:, None],
    )


def gated(of: Prepared, x: Tensor, edges: Tensor) -> Tensor:
    """S networks: states x (S*B, N, D), `weighted_edges` (S*B, N, N, K) -> (S*B, N, D)."""
    s, (_, n, d) = len(of.own), x.shape
    x = x.view(s, -1, n, d).permute(2, 0, 1, 3).contiguous()
    edges = edges.view(s, -1, *edges.shape[1:]).permute(2, 3, 0, 1, 4).contiguous()
    for backwards in (False, True):
        own = _linear(x, of.own, of.own_bias)
        constant = _linear(edges.sum(int(backwards)), of.constant, of.gate_bias)
        x = Visit.apply(backwards, x, own, constant, edges, of.pull, of.push, of.bias)
    return x.permute(1, 2, 0, 3).reshape(-1, n, d)


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x (N, S, B, D), weight (S, D, E), bias (S, 1, E) -> (N, S, B, E)."""
    n, s, b, _ = x.shape
    return torch.baddbmm(bias, x.transpose(0, 1).flatten(1, 2), weight).view(s, n, b, -1).transpose(0, 1)


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
