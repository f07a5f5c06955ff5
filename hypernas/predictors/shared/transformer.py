"""Transformers over the nodes of an architecture: plain attention, or attention that knows the graph's edges."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hypernas.predictors.shared.cell_columns import Columns
from hypernas.predictors.shared.tokens import Tokens


@dataclass(frozen=True)
class Shape:
    """Sizes of a `GraphTransformer`, and how it knows the graph.

    `positions`: a linear map of its row of the Laplacian is added to each node; `invariant`: width of the
    permutation-invariant module in the embedding and beside the heads, 0 for none; `relations`: heads see only
    predecessors, successors and siblings, and the feed-forward layers pass on what neighbours hold.
    """

    n_blocks: int
    d_model: int
    n_heads: int
    d_head: int
    d_inner: int
    d_regressor: int
    positions: bool = True
    invariant: int = 0
    relations: bool = False


def neighbours(x: Tensor, adjacency: Tensor) -> Tensor:
    """x (B, T, 2D), edge counts (B, T, T) -> (B, T, 2D): predecessors of one half summed, successors of the other.

    >>> edge = torch.tensor([[[0.0, 1.0], [0.0, 0.0]]])
    >>> neighbours(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), edge).tolist()
    [[[0.0, 4.0], [1.0, 0.0]]]
    """
    before, after = x.chunk(2, -1)
    return torch.cat([adjacency.transpose(1, 2) @ before, adjacency @ after], -1)


class PermutationInvariant(nn.Module):
    """What a node's neighbours are, in whatever order: a function of the sums of functions of each neighbour."""

    def __init__(self, d_in: int, hidden: int, d_out: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(d_in, 2 * hidden), nn.Linear(2 * hidden, d_out)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """x (B, T, D), adjacency (B, T, T) -> (B, T, D')."""
        return self.outer(F.relu(neighbours(F.relu(self.inner(x)), adjacency)))


class Attention(nn.Module):
    """Multi-head attention; with `invariant` a permutation-invariant module stands beside the heads."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.n_heads, self.d_head = shape.n_heads, shape.d_head
        width = shape.n_heads * shape.d_head
        self.project = nn.Linear(shape.d_model, 3 * width, bias=False)
        self.invariant = PermutationInvariant(shape.d_model, shape.invariant, shape.d_head) if shape.invariant else None
        self.join = nn.Linear(width + shape.d_head * bool(shape.invariant), shape.d_model, bias=False)

    def forward(self, x: Tensor, seen: Tensor, adjacency: Tensor) -> Tensor:
        """x (B, T, D), seen (B, 1 or H, T, T) bool: which nodes a node attends to -> (B, T, D)."""
        b, t, _ = x.shape
        q, k, v = self.project(x).view(b, t, 3, self.n_heads, self.d_head).permute(2, 0, 3, 1, 4).unbind(0)
        logits = (q @ k.transpose(2, 3)) / self.d_head**0.5
        heads = F.softmax(logits.masked_fill(~seen, torch.finfo(x.dtype).min), -1) @ v
        out = heads.transpose(1, 2).reshape(b, t, -1)
        if self.invariant is not None:
            out = torch.cat([out, self.invariant(x, adjacency)], -1)
        return self.join(out)


class FeedForward(nn.Module):
    """Two layers at each node; with `relations` neighbours add to the inner one, through weights of their own."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(shape.d_model, shape.d_inner), nn.Linear(shape.d_inner, shape.d_model)
        self.passed = nn.Linear(shape.d_model, shape.d_inner, bias=False) if shape.relations else None

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        h = self.inner(x)
        if self.passed is not None:
            h = h + neighbours(self.passed(x), adjacency)
        return self.outer(F.relu(h))


class Block(nn.Module):
    """Attention, then the feed-forward layers, each added to what it reads and normalised."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention, self.feed_forward = Attention(shape), FeedForward(shape)
        self.norms = nn.ModuleList(nn.LayerNorm(shape.d_model) for _ in range(2))

    def forward(self, x: Tensor, seen: Tensor, adjacency: Tensor, keep: Tensor) -> Tensor:
        """keep (2, B, T, D) or (2, 1, 1, 1): what dropout leaves of each part."""
        x = self.norms[0](x + keep[0] * self.attention(x, seen, adjacency))
        return self.norms[1](x + keep[1] * self.feed_forward(x, adjacency))


class GraphTransformer(nn.Module):
    """Embedding of the operations, blocks, mean over the nodes, regressor: `Tokens` -> standardised accuracy (B,).

    `columns` are the unique cells that it reads, `n_nodes` the width of a row of their Laplacian.
    """

    def __init__(self, n_ops: int, n_nodes: int, columns: Columns, shape: Shape) -> None:
        super().__init__()
        d = shape.d_model
        self.n_nodes, self.columns, self.shape = n_nodes, columns, shape
        self.operation = nn.Embedding(n_ops, d)
        self.cell = nn.Embedding(len(columns), d) if len(columns) > 1 else None
        self.position = nn.Linear(n_nodes, d) if shape.positions else None
        self.invariant = PermutationInvariant(d, shape.invariant, d) if shape.invariant else None
        self.norm = nn.LayerNorm(d)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.n_blocks))
        self.hidden, self.out = nn.Linear(d, shape.d_regressor), nn.Linear(shape.d_regressor, 1)

    @property
    def n_dropouts(self) -> int:
        return 2 + 2 * self.shape.n_blocks

    def forward(
        self, ops: Tensor, cell: Tensor, mask: Tensor, adjacency: Tensor, positions: Tensor, keep: Tensor
    ) -> Tensor:
        """The fields of `Tokens`; keep (n_dropouts, B, T, D) scales what dropout leaves, (n_dropouts, 1, 1, 1) all."""
        adjacency = adjacency.to(self.hidden.weight.dtype)
        x = self.operation(ops)
        if self.invariant is not None:
            x = x + self.invariant(x, adjacency)
        if self.position is not None:
            x = x + self.position(positions.to(x.dtype))
        if self.cell is not None:
            x = x + self.cell(cell)
        x = self.norm(keep[0] * x)
        seen = related(adjacency, self.shape.n_heads) if self.shape.relations else mask[:, None, None]
        for i, block in enumerate(self.blocks):
            x = block(x, seen, adjacency, keep[2 * i + 1 : 2 * i + 3])
        real = mask[..., None].to(x.dtype)
        h = (x * real).sum(1) / real.sum(1)
        return self.out(F.relu(self.hidden(h * keep[-1, :, 0])))[..., 0]


def related(adjacency: Tensor, n_heads: int) -> Tensor:
    """Edge counts (B, T, T) -> bool (B, H, T, T): who is seen by each head, in turn predecessors, successors, the nodes
    that share a predecessor, the nodes that share a successor; each sees itself.
    """
    back = adjacency.transpose(1, 2)
    kinds = torch.stack([back, adjacency, back @ adjacency, adjacency @ back], 1) > 0
    itself = torch.eye(adjacency.shape[-1], dtype=torch.bool, device=adjacency.device)
    return (kinds | itself)[:, [head % 4 for head in range(n_heads)]]


def full(model: GraphTransformer) -> Tensor:
    """The `keep` of a model without dropout."""
    return model.hidden.weight.new_ones(model.n_dropouts, 1, 1, 1)


@torch.no_grad()
def score(model: GraphTransformer, tokens: Tokens, chunk: int = 256, device: str = "cpu") -> Tensor:
    """Standardised predictions (B,), `chunk` architectures at a time."""
    model = model.to(device)
    parts = [tuple(field[i : i + chunk] for field in tokens) for i in range(0, len(tokens.ops), chunk)]
    scores = torch.cat([model(*(field.to(device) for field in part), full(model)).cpu() for part in parts])
    model.to("cpu")
    return scores
