"""The global architecture encoder: a directed GCN run over the cells in sequence (Eq. 1 and global encoding)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hypernas.errors import UserError
from hypernas.graph import GraphBatch

CONTEXTS = ("sum", "concat", "position", "none")
KINDS = 2
Place = tuple[Tensor, Tensor]


def propagation(adjacency: Tensor, mask: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Edge counts (..., N, N) and mask (..., N) -> the two propagation matrices (2, ..., N, N), along and against.

    Row i of the first averages node i and the nodes it feeds, E = D^-1 (A + I); the second does so with A transposed.
    The factor 1/2 of Eq. 1 is folded in, since ReLU(x) / 2 = ReLU(x / 2).

    NOTE[PAPER]: paper says E is the adjacency; we add self-loops and divide each row by its sum; because NP
    (Wen et al. 2020), whose layer Eq. 1 is, does, and six plain sums over 17 cells overflow.
    """
    edges = adjacency.to(dtype)
    both = torch.stack([edges, edges.transpose(-1, -2)]) + torch.diag_embed(mask.to(dtype))
    return 0.5 * both / both.sum(-1, keepdim=True).clamp(min=1)


class DirectedGCNLayer(nn.Module):
    """V' = 1/2 ReLU(E V W+) + 1/2 ReLU(E' V W-), information along and against the edges (Eq. 1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(2, width, width))
        for direction in self.weight:
            nn.init.kaiming_normal_(direction)

    def forward(self, x: Tensor, propagate: Tensor) -> Tensor:
        """x (B, N, D), propagate (2, B, N, N) -> (B, N, D)."""
        along, against = propagate
        return F.relu(along @ (x @ self.weight[0])) + F.relu(against @ (x @ self.weight[1]))


def in_sequence(batch: GraphBatch, z: Tensor, encode: Callable[[Place, Tensor, int], Tensor]) -> tuple[Tensor, Tensor]:
    """The cells of B architectures one after another: h (B, D), the mean of their pooled features, nodes (B, C, N, D).

    `encode` gives the nodes (B, N, D) of the cells at a place, rows and unique cells (B,), at position i, from the
    pooled features z (B, D) of those before; it is first given the `z` here.
    """
    rows = torch.arange(len(batch), device=batch.ops.device)
    total, nodes = torch.zeros_like(z), []
    for i in range(batch.sequence.shape[1]):
        at, present = (rows, batch.sequence[:, i].clamp(min=0)), (batch.sequence[:, i] >= 0)[:, None]
        mask = batch.mask[at]
        x = encode(at, z, i) * mask[..., None]
        z = torch.where(present, x.sum(1) / mask.sum(1, keepdim=True), z)
        total = total + z * present
        nodes.append(x)
    return total / (batch.sequence >= 0).sum(1, keepdim=True), torch.stack(nodes, 1)


class GlobalEncoder(nn.Module):
    """Encodes the cells of a network one after another; each cell sees the pooled features of the one before.

    `context` says how: `sum` adds z(i-1) to every node, `concat` appends it (a linear map brings the pair back to D
    features), `position` adds a learned vector of the position instead, `none` adds nothing.

    >>> from hypernas import spaces
    >>> import numpy as np
    >>> from hypernas.graph import collate
    >>> space = spaces.get("nasbench201")
    >>> batch = collate([space.sample(np.random.default_rng(0)) for _ in range(3)], space)
    >>> embedding, nodes = GlobalEncoder(n_ops=7, n_layers=2, width=8)(batch)
    >>> tuple(embedding.shape), tuple(nodes.shape)
    ((3, 8), (3, 17, 8, 8))
    """

    def __init__(self, n_ops: int, n_layers: int = 6, width: int = 72, context: str = "sum", n_cells: int = 64) -> None:
        super().__init__()
        if context not in CONTEXTS:
            raise UserError(f"context must be one of {', '.join(CONTEXTS)}, got {context!r}")
        self.context, self.width, self.n_layers = context, width, n_layers
        self.embedding = nn.Embedding(n_ops, width)
        self.gcn = nn.ModuleList(nn.ModuleList(DirectedGCNLayer(width) for _ in range(n_layers)) for _ in range(KINDS))
        if context == "concat":
            self.join = nn.Linear(2 * width, width)
        if context == "position":
            self.position = nn.Parameter(torch.randn(n_cells, width) * 0.1)

    def forward(self, batch: GraphBatch) -> tuple[Tensor, Tensor]:
        """B architectures of C cells -> embedding h (B, D) = mean of z(i), and node features (B, C, N, D)."""
        z = torch.zeros(len(batch), self.width, device=batch.ops.device, dtype=self.embedding.weight.dtype)

        def cell(at: Place, z: Tensor, i: int) -> Tensor:
            x = self._inject(self.embedding(batch.ops[at]), z, i)
            return self._cell(x, batch.adjacency[at], batch.mask[at], batch.kind[at])

        return in_sequence(batch, z, cell)

    def _cell(self, x: Tensor, adjacency: Tensor, mask: Tensor, kind: Tensor) -> Tensor:
        """x (B, N, D), adjacency (B, N, N), mask (B, N), kind (B,) of one cell each -> node features (B, N, D)."""
        propagate = propagation(adjacency, mask, x.dtype)
        outputs = []
        for gcn in self.gcn:
            y = x
            for layer in gcn:  # type: ignore[attr-defined]
                y = layer(y, propagate)
            outputs.append(y)
        return torch.where(kind.bool()[:, None, None], outputs[1], outputs[0])

    def _inject(self, v: Tensor, z: Tensor, i: int) -> Tensor:
        """Node features v (B, N, D) and context z (B, D) of the cell before -> what the GCN reads (B, N, D)."""
        if self.context == "sum":
            return v + z[:, None]
        if self.context == "concat":
            return self.join(torch.cat([v, z[:, None].expand_as(v)], -1))
        return v + self.position[i] if self.context == "position" else v
