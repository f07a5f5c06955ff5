"""The global architecture encoder: a directed GCN run over the cells in sequence (Eq. 1 and global encoding)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hypernas.errors import UserError
from hypernas.graph import GraphBatch

# How a cell sees the cells before it: `sum` and `concat` are compared in Table 9, `position` in the main text, and
# `none` is the baseline NP, which encodes every cell by itself.
CONTEXTS = ("sum", "concat", "position", "none")
# Normal and reduction cells have a GCN each (Supplement 7).
KINDS = 2
# Spread of the position vectors at the start, small against embeddings of spread 1.
POSITION_STD = 0.1


def propagation(adjacency: Tensor, mask: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Edge counts (..., N, N) and mask (..., N) -> the two propagation matrices (2, ..., N, N), along and against.

    Row i of the first averages node i and the nodes it feeds, E = D^-1 (A + I); the second does the same with A
    transposed.

    NOTE[PAPER]: paper says E is the adjacency; we add self-loops and divide each row by its sum; because NP
    (Wen et al. 2020), whose layer Eq. 1 is, does, and six plain sums of A + I over 17 cells overflow. E as printed,
    without self-loops, does not overflow but costs .03 to .06 Kendall tau.
    """
    edges = adjacency.to(dtype)
    itself = torch.diag_embed(mask.to(dtype))
    # A self-loop lets a node keep what it knows: without one a layer would forget its own operation.
    both = torch.stack([edges, edges.mT]) + itself
    # A padded node has no edge and no self-loop: the clamp keeps its row 0 instead of 0 / 0.
    n_neighbours = both.sum(-1, keepdim=True).clamp(min=1)
    # The factor 1/2 of Eq. 1 is folded in, since ReLU(x) / 2 = ReLU(x / 2).
    return 0.5 * both / n_neighbours


class DirectedGCNLayer(nn.Module):
    """V' = 1/2 ReLU(E V W+) + 1/2 ReLU(E' V W-): information flows along and against the edges (Eq. 1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(2, width, width))
        for direction in self.weight:
            nn.init.kaiming_normal_(direction)

    def forward(self, x: Tensor, propagate: Tensor) -> Tensor:
        """x (B, N, D), propagate (2, B, N, N), which already contains the 1/2 -> (B, N, D)."""
        along, against = propagate
        forward = along @ (x @ self.weight[0])
        backward = against @ (x @ self.weight[1])
        return F.relu(forward) + F.relu(backward)


def mean_of_nodes(x: Tensor, mask: Tensor) -> Tensor:
    """Node features x (B, N, D), zero where the mask (B, N) has no node -> features of each cell (B, D)."""
    return x.sum(1) / mask.sum(1, keepdim=True)


class GlobalEncoder(nn.Module):
    """Encode the cells of a network in sequence; each cell sees the pooled features of the one before it.

    `context` says how. `sum` adds z(i-1) to every node. `concat` appends it, and a linear map brings the pair back to D
    features. `position` adds a learned vector for the position instead. `none` adds nothing.

    NOTE[PAPER]: paper says z(i) = pool(V(i)) and not how; we take the mean over the real nodes, without dropout;
    because a mean does not grow with the size of a cell.

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
        self.context = context
        self.width = width
        self.n_layers = n_layers
        self.pool: Callable[[Tensor, Tensor], Tensor] = mean_of_nodes
        self.embedding = nn.Embedding(n_ops, width)
        # Two stacks of layers, found by the kind of a cell.
        self.gcn = nn.ModuleList()
        for _ in range(KINDS):
            self.gcn.append(nn.ModuleList(DirectedGCNLayer(width) for _ in range(n_layers)))
        if context == "concat":
            self.join = nn.Linear(2 * width, width)
        if context == "position":
            self.position = nn.Parameter(torch.randn(n_cells, width) * POSITION_STD)

    def forward(self, batch: GraphBatch) -> tuple[Tensor, Tensor]:
        """B architectures of C cells -> embedding h (B, D), the mean of z(i), and node features (B, C, N, D)."""
        # Together with a number of a unique cell for each row it picks the cell of every network at once.
        rows = torch.arange(len(batch), device=batch.ops.device)
        z = total = self.embedding.weight.new_zeros(len(batch), self.width)  # z(0) = 0
        nodes = []
        for i in range(batch.sequence.shape[1]):
            # Networks differ in length: past its end a network keeps its z and adds nothing to the sum.
            unique = batch.sequence[:, i]
            present = (unique >= 0)[:, None]
            cell = rows, unique.clamp(min=0)
            mask = batch.mask[cell]
            v = self._inject(self.embedding(batch.ops[cell]), z, i)  # V(i) <- {v + z(i-1)}
            x = self._cell(v, batch.adjacency[cell], mask, batch.kind[cell])  # V~(i) = G(E(i), V(i))
            # Padded nodes must not enter the mean.
            x = x * mask[..., None]
            pooled = self.pool(x, mask)  # z(i) = pool(V~(i))
            z = torch.where(present, pooled, z)
            total = total + z * present
            nodes.append(x)
        h = total / (batch.sequence >= 0).sum(1, keepdim=True)  # h = 1/N sum of z(i)
        return h, torch.stack(nodes, 1)

    def _cell(self, x: Tensor, adjacency: Tensor, mask: Tensor, kind: Tensor) -> Tensor:
        """x (B, N, D), adjacency (B, N, N), mask (B, N), kind (B,) of one cell each -> node features (B, N, D)."""
        propagate = propagation(adjacency, mask, x.dtype)
        normal, reduction = x, x
        # Both stacks run on all cells and one result is taken: cells of a batch can differ in kind at one position.
        normal_layers, reduction_layers = self.gcn
        for layer in normal_layers.children():
            normal = layer(normal, propagate)
        for layer in reduction_layers.children():
            reduction = layer(reduction, propagate)
        return torch.where(kind.bool()[:, None, None], reduction, normal)

    def _inject(self, v: Tensor, z: Tensor, i: int) -> Tensor:
        """Node features v (B, N, D) and context z (B, D) of the cell before -> what the GCN reads (B, N, D)."""
        if self.context == "sum":
            return v + z[:, None]
        if self.context == "concat":
            pair = torch.cat([v, z[:, None].expand_as(v)], -1)
            return self.join(pair)
        if self.context == "position":
            return v + self.position[i]
        return v
