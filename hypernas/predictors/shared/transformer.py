"""Transformers over the nodes of an architecture, the basis of PINAT, TNASP and NN-Former: tokens, model, training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hypernas.errors import UserError
from hypernas.fast.stacked_models import VmapPass
from hypernas.graph import GraphBatch
from hypernas.predictors.shared.features import Columns, ordered, varying
from hypernas.predictors.shared.ranking_losses import pairwise_logistic
from hypernas.training.loop import CosineSchedule, Logged, Schedule
from hypernas.training.predictor import TrainedPredictor, check_operations, labels_at, n_operations

# Architectures made into tokens at a time, and of these run through a model at a time, so that memory is bounded.
TOKENS_AT_ONCE = 8192
SCORED_AT_ONCE = 256


@dataclass(frozen=True)
class Shape:
    """Sizes of a `GraphTransformer`, and how the graph enters it.

    `positions`: add a linear map of each node's row of the Laplacian to the node. `invariant`: width of the
    permutation-invariant module in the embedding and beside the heads, 0 for none. `relations`: heads see only
    predecessors, successors and siblings, and feed-forward layers also read the neighbours.
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
    """x (B, T, 2D), edge counts (B, T, T) -> (B, T, 2D): one half sums over predecessors, the other over successors.

    >>> edge = torch.tensor([[[0.0, 1.0], [0.0, 0.0]]])
    >>> neighbours(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), edge).tolist()
    [[[0.0, 4.0], [1.0, 0.0]]]
    """
    # One half listens along the edges, the other against them.
    before, after = x.chunk(2, -1)
    return torch.cat([adjacency.transpose(1, 2) @ before, adjacency @ after], -1)


class PermutationInvariant(nn.Module):
    """A function of the set of a node's neighbours: a map of the sum of maps of each neighbour."""

    def __init__(
        self,
        d_in: int,
        hidden: int,
        d_out: int,
    ) -> None:
        super().__init__()
        self.inner = nn.Linear(d_in, 2 * hidden)
        self.outer = nn.Linear(2 * hidden, d_out)

    def forward(
        self,
        x: Tensor,
        adjacency: Tensor,
    ) -> Tensor:
        """x (B, T, D), adjacency (B, T, T) -> (B, T, D')."""
        inner = F.relu(self.inner(x))
        sums = neighbours(inner, adjacency)
        return self.outer(F.relu(sums))


class Attention(nn.Module):
    """Multi-head attention; with `invariant`, a permutation-invariant module runs beside the heads."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.n_heads, self.d_head = shape.n_heads, shape.d_head
        width = shape.n_heads * shape.d_head
        self.project = nn.Linear(shape.d_model, 3 * width, bias=False)
        self.invariant = None
        joined = width
        if shape.invariant:
            self.invariant = PermutationInvariant(shape.d_model, shape.invariant, shape.d_head)
            joined += shape.d_head
        self.join = nn.Linear(joined, shape.d_model, bias=False)

    def forward(
        self,
        x: Tensor,
        seen: Tensor,
        adjacency: Tensor,
    ) -> Tensor:
        """x (B, T, D), seen (B, 1 or H, T, T) bool, which nodes a node attends to -> (B, T, D)."""
        b, t, _ = x.shape
        projected = self.project(x).view(b, t, 3, self.n_heads, self.d_head)
        # (B, T, 3, H, d) -> three of (B, H, T, d).
        q, k, v = projected.permute(2, 0, 3, 1, 4).unbind(0)
        logits = (q @ k.transpose(2, 3)) / self.d_head**0.5
        # The least number instead of minus infinity, which would make a node that sees none a NaN.
        hidden = logits.masked_fill(~seen, torch.finfo(x.dtype).min)
        heads = F.softmax(hidden, -1) @ v
        out = heads.transpose(1, 2).reshape(b, t, -1)
        if self.invariant is not None:
            out = torch.cat([out, self.invariant(x, adjacency)], -1)
        return self.join(out)


class FeedForward(nn.Module):
    """Two layers at each node; with `relations`, neighbours also feed the inner layer through separate weights."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.inner = nn.Linear(shape.d_model, shape.d_inner)
        self.outer = nn.Linear(shape.d_inner, shape.d_model)
        self.passed = nn.Linear(shape.d_model, shape.d_inner, bias=False) if shape.relations else None

    def forward(
        self,
        x: Tensor,
        adjacency: Tensor,
    ) -> Tensor:
        h = self.inner(x)
        if self.passed is not None:
            h = h + neighbours(self.passed(x), adjacency)
        return self.outer(F.relu(h))


class Block(nn.Module):
    """Attention, then feed-forward layers, each with a residual connection and normalisation."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention, self.feed_forward = Attention(shape), FeedForward(shape)
        self.norms = nn.ModuleList(nn.LayerNorm(shape.d_model) for _ in range(2))

    def forward(
        self,
        x: Tensor,
        seen: Tensor,
        adjacency: Tensor,
        keep: Tensor,
    ) -> Tensor:
        """keep (2, B, T, D) or (2, 1, 1, 1) holds the dropout factors of the two parts."""
        attended = keep[0] * self.attention(x, seen, adjacency)
        x = self.norms[0](x + attended)
        passed_on = keep[1] * self.feed_forward(x, adjacency)
        return self.norms[1](x + passed_on)


class GraphTransformer(nn.Module):
    """`Tokens` -> standardised accuracy (B,): embedding of operations, blocks, mean over the nodes, regressor.

    `columns` are the unique cells that the model reads, `n_nodes` is the width of a row of their Laplacian.
    """

    def __init__(
        self,
        n_ops: int,
        n_nodes: int,
        columns: Columns,
        shape: Shape,
    ) -> None:
        super().__init__()
        d = shape.d_model
        self.n_nodes, self.columns, self.shape = n_nodes, columns, shape
        # The order of these lines is that of the draws of the initial weights.
        self.operation = nn.Embedding(n_ops, d)
        self.cell = nn.Embedding(len(columns), d) if len(columns) > 1 else None
        self.position = nn.Linear(n_nodes, d) if shape.positions else None
        self.invariant = PermutationInvariant(d, shape.invariant, d) if shape.invariant else None
        self.norm = nn.LayerNorm(d)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.n_blocks))
        self.hidden = nn.Linear(d, shape.d_regressor)
        self.out = nn.Linear(shape.d_regressor, 1)

    @property
    def n_dropouts(self) -> int:
        """The number of dropouts: after the embedding, twice in each block, and before the regressor."""
        return 2 + 2 * self.shape.n_blocks

    def forward(
        self,
        ops: Tensor,
        cell: Tensor,
        mask: Tensor,
        adjacency: Tensor,
        positions: Tensor,
        keep: Tensor,
    ) -> Tensor:
        """Arguments are the fields of `Tokens` and the dropout factors keep (n_dropouts, B, T, D).

        Factors of shape (n_dropouts, 1, 1, 1) scale all nodes alike; ones turn dropout off.
        """
        adjacency = adjacency.to(self.hidden.weight.dtype)
        x = self.operation(ops)
        if self.invariant is not None:
            x = x + self.invariant(x, adjacency)
        if self.position is not None:
            x = x + self.position(positions.to(x.dtype))
        if self.cell is not None:
            x = x + self.cell(cell)
        x = self.norm(keep[0] * x)
        if self.shape.relations:
            seen = related(adjacency, self.shape.n_heads)
        else:
            seen = mask[:, None, None]
        for i, block in enumerate(self.blocks):
            x = block(x, seen, adjacency, keep[2 * i + 1 : 2 * i + 3])
        real = mask[..., None].to(x.dtype)
        mean = (x * real).sum(1) / real.sum(1)
        hidden = F.relu(self.hidden(mean * keep[-1, :, 0]))
        return self.out(hidden)[..., 0]


def related(adjacency: Tensor, n_heads: int) -> Tensor:
    """Return which nodes each head sees, bool (B, H, T, T), from edge counts (B, T, T).

    The heads see, in turn, predecessors, successors, nodes that share a predecessor, and nodes that share a successor.
    Each node also sees itself.
    """
    back = adjacency.transpose(1, 2)
    # A' A counts shared predecessors, A A' shared successors.
    kinds = torch.stack([back, adjacency, back @ adjacency, adjacency @ back], 1) > 0
    itself = torch.eye(adjacency.shape[-1], dtype=torch.bool, device=adjacency.device)
    return (kinds | itself)[:, [head % 4 for head in range(n_heads)]]


class Tokens(NamedTuple):
    """The nodes of the cells of B architectures side by side, T for each architecture.

    `ops (B, T)`, `cell (B, T)` index of the node's cell, `mask (B, T)`, `adjacency (B, T, T)` edge counts within cells,
    `positions (B, T, P)` the node's row of the cell's Laplacian.
    """

    ops: Tensor
    cell: Tensor
    mask: Tensor
    adjacency: Tensor
    positions: Tensor


def tokens(
    graphs: GraphBatch,
    columns: Columns,
    width: int,
) -> Tokens:
    """Return the nodes of the unique cells `columns`, in canonical order, so that isomorphic architectures are equal.

    Rows of a Laplacian have `width` entries.
    """
    ops, adjacency, mask = ordered(graphs, columns)
    b, u, n = ops.shape
    positions = laplacian(adjacency.reshape(b * u, n, n), width)
    edges = np.zeros((b, u, n, u, n), np.float32)
    # Edges join nodes of one cell, so that only blocks on the diagonal are not 0.
    for column in range(u):
        edges[:, column, :, column] = adjacency[:, column]
    return Tokens(
        torch.from_numpy(ops.reshape(b, u * n)),
        torch.arange(u).repeat_interleave(n).expand(b, -1),
        torch.from_numpy(mask.reshape(b, u * n)),
        torch.from_numpy(edges.reshape(b, u * n, u * n)),
        torch.from_numpy(positions.reshape(b, u * n, width)),
    )


def laplacian(adjacency: np.ndarray, width: int) -> np.ndarray:
    """Return the Laplacians D - A, float32 (R, N, width), of directed graphs with edge counts (R, N, N).

    D counts the edges that leave a node. Rows are padded with zeros, or cut if the graph has more nodes than `width`.

    >>> laplacian(np.array([[[0, 1], [0, 0]]]), 3).astype(int).tolist()
    [[[1, -1, 0], [0, 0, 0]]]
    """
    n = adjacency.shape[-1]
    out = np.zeros((*adjacency.shape[:2], max(n, width)), np.float32)
    out[:, :, :n] = -adjacency.astype(np.float32)
    out[:, np.arange(n), np.arange(n)] += adjacency.sum(2)
    return out[:, :, :width]


class TokenPass(VmapPass):
    """S transformers, each with the tokens of its own architectures."""

    def __init__(
        self,
        models: Sequence[Any],
        graphs: Sequence[GraphBatch],
        device: str,
    ) -> None:
        model = models[0]
        if len({each.columns for each in models}) > 1:
            raise UserError("seeds trained together need training sets that differ in the same cells; fit one by one")
        super().__init__(models, [tokens(batch, model.columns, model.n_nodes) for batch in graphs], device)


@dataclass(kw_only=True, eq=False)
class TransformerPredictor(TrainedPredictor):
    """Sizes and schedule of TNASP and PINAT. A subclass defines how the graph enters the transformer.

    The transformer reads each unique cell once, and only cells in which the training architectures differ; it does not
    see how often the network repeats a cell. Dropout acts on the embedding, on what attention and feed-forward layers
    add, and on the mean over the nodes. If an architecture has larger cells than any in the training set, the rows of
    its Laplacian are cut.
    """

    epochs: int = 300
    learning_rate: float = 1e-4
    weight_decay: float = 1e-3
    loss: str = "mse"
    dropout: float = 0.1
    n_blocks: int = 3
    d_model: int = 80
    n_heads: int = 4
    d_head: int = 64
    d_inner: int = 512
    d_regressor: int = 96

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss not in ("mse", "bce"):
            raise UserError(f"loss must be one of mse, bce, got {self.loss!r}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout must be at least 0 and below 1, got {self.dropout}")

    def shape(self) -> Shape:
        """Return the sizes of the transformer, and how the graph enters it."""
        return Shape(self.n_blocks, self.d_model, self.n_heads, self.d_head, self.d_inner, self.d_regressor)

    def schedule(self) -> Schedule:
        return CosineSchedule(self.epochs, self.learning_rate, self.accumulate, weight_decay=self.weight_decay)

    def new_model(self, graphs: GraphBatch) -> GraphTransformer:
        return GraphTransformer(n_operations(graphs), graphs.ops.shape[2], varying(graphs), self.shape())

    def new_pass(
        self,
        models: Sequence[Any],
        graphs: Sequence[GraphBatch],
    ) -> TokenPass:
        return TokenPass(models, graphs, self.device)

    def inputs(
        self,
        run: TokenPass,
        index: Tensor,
        generators: list[np.random.Generator],
    ) -> tuple[Tensor, ...]:
        """Return architectures (S, b) and dropout factors (S, K, b, T, D), drawn from each seed's generator."""
        n_tokens = run.fields[0].shape[2]
        shape = (run.model.n_dropouts, index.shape[1], n_tokens, self.d_model)
        return index, self.keep(generators, shape)

    def keep(
        self,
        generators: list[np.random.Generator],
        shape: tuple[int, ...],
    ) -> Tensor:
        """Return dropout factors (S, *shape), drawn from each seed's generator."""
        noise = torch.from_numpy(np.stack([generator.random(shape, dtype=np.float32) for generator in generators]))
        # What is left is scaled up, so that the mean stays.
        return (noise >= self.dropout) / (1 - self.dropout)

    def loss_of(
        self,
        run: TokenPass,
        labels: Tensor,
        *inputs: Tensor,
    ) -> Logged:
        """Return the squared error of index (S, b), or the logistic loss of its pairs."""
        index, keep = inputs
        predicted = run(index, keep.to(self.device, torch.get_default_dtype()))
        label = labels_at(labels, index)
        if self.loss == "mse":
            loss = ((predicted - label) ** 2).mean(1)
        else:
            loss = pairwise_logistic(predicted, label)
        return loss.sum(), {"loss_pred": loss.detach()}

    @torch.no_grad()
    def score(self, graphs: GraphBatch) -> Tensor:
        """Return standardised predictions (B,). Equal graphs are scored once, and graphs of similar size together."""
        check_operations(graphs, self.model.operation.num_embeddings)
        first, inverse = graphs.distinct()
        distinct = graphs[first]
        model = self.model.to(self.device)
        keep = no_dropout(model)
        scores = torch.empty(len(distinct), dtype=keep.dtype)
        # Attention costs the square of the tokens, so small networks go together.
        by_size = distinct.mask.sum((1, 2)).argsort(stable=True)
        for rows in by_size.split(TOKENS_AT_ONCE):
            fields = tokens(distinct[rows].trimmed(), model.columns, model.n_nodes)
            batches = zip(*(field.split(SCORED_AT_ONCE) for field in fields), strict=True)
            parts = []
            for batch in batches:
                moved = [field.to(self.device) for field in batch]
                parts.append(model(*moved, keep).cpu())
            scores[rows] = torch.cat(parts)
        model.to("cpu")
        return scores[inverse]


def no_dropout(model: GraphTransformer) -> Tensor:
    """Return the `keep` of a model without dropout."""
    return model.hidden.weight.new_ones(model.n_dropouts, 1, 1, 1)
