"""Embeddings of large tables: architectures whose cells have the same edges go through the encoder side by side.

With the nodes as the leading axis, the propagation of R such architectures is one product (2N, N) x (N, R * D) a layer,
in place of 2 R small ones, and no node is padding. No gradient is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hypernas.encoder import GlobalEncoder, propagation
from hypernas.graph import GraphBatch

CHUNK = 256
Buffers = dict[torch.Size, tuple[Tensor, Tensor, Tensor]]


def same_edges(batch: GraphBatch, chunk: int = CHUNK) -> Iterator[Tensor]:
    """Rows, at most `chunk` at a time, of architectures that differ in nothing but the operations of their nodes."""
    fields = (batch.adjacency, batch.mask, batch.kind, batch.sequence)
    flat = [field.cpu().numpy().reshape(len(batch), -1).astype(np.int8) for field in fields]
    layout = np.ascontiguousarray(np.concatenate(flat, 1))
    key = layout.view(np.dtype((np.void, layout.shape[1])))[:, 0]
    _, group, count = np.unique(key, return_inverse=True, return_counts=True)
    rows = torch.from_numpy(np.argsort(group, kind="stable"))
    for part in rows.split(count.tolist()):
        yield from part.split(chunk)


@torch.no_grad()
def embed(encoder: GlobalEncoder, batch: GraphBatch, parts: Iterable[Tensor] | None = None) -> Tensor:
    """The embedding h (B, D) of each architecture, as `encoder(batch)` gives it; `parts` are those of `same_edges`."""
    h = torch.empty(len(batch), encoder.width, dtype=encoder.embedding.weight.dtype)
    buffers: Buffers = {}
    for rows in same_edges(batch) if parts is None else parts:
        h[rows] = _embed_group(encoder, batch[rows], buffers)
    return h


def _embed_group(encoder: GlobalEncoder, batch: GraphBatch, buffers: Buffers) -> Tensor:
    """The embedding (R, D) of architectures of the same edges."""
    columns = [(u, int(batch.kind[0, u])) for u in batch.sequence[0].tolist() if u >= 0]
    cells = {column: _Cell(encoder, batch, *column, buffers) for column in dict.fromkeys(columns)}
    if encoder.context == "none":
        each = [cells[column].encode(None) * columns.count(column) for column in cells]
        return torch.stack(each).sum(0) / len(columns)
    total = z = cells[columns[0]].encode(_context(encoder, None, 0))
    for i, column in enumerate(columns[1:], 1):
        z = cells[column].encode(_context(encoder, z, i))
        total = total + z
    return total / len(columns)


def _context(encoder: GlobalEncoder, z: Tensor | None, i: int) -> Tensor | None:
    """What is added to every node, (R, D) or (1, D), of the cell at position i, after `join` where there is one."""
    if encoder.context == "position":
        return encoder.position[i : i + 1]
    if z is not None and encoder.context == "concat":
        return z @ encoder.join.weight[:, encoder.width :].T
    return z


class _Cell:
    """One unique cell of R architectures of the same edges; its first layer but for the context is run once."""

    def __init__(self, encoder: GlobalEncoder, batch: GraphBatch, u: int, kind: int, buffers: Buffers) -> None:
        n = int(batch.mask[0, u].sum())
        v = encoder.embedding(batch.ops[:, u, :n].T)
        if encoder.context == "concat":
            v = v @ encoder.join.weight[:, : encoder.width].T + encoder.join.bias
        self.n, self.r, self.d = v.shape
        self.edges = propagation(batch.adjacency[0, u, :n, :n], batch.mask[0, u, :n], v.dtype).view(2 * n, n)
        layers: Any = encoder.gcn[kind]
        self.weights: list[Tensor] = [layer.weight for layer in layers]
        if v.shape not in buffers:
            buffers[v.shape] = (torch.empty_like(v), *(v.new_empty(2, n * self.r, self.d) for _ in range(2)))
        self.x, self.gathered, self.y = buffers[v.shape]
        self.first = self._layer(v, self.weights[0]).clone()

    def _layer(self, x: Tensor, weight: Tensor) -> Tensor:
        """x (N, R, D) -> E x W of both directions (2, N * R, D), which the next call overwrites."""
        torch.mm(self.edges, x.reshape(self.n, -1), out=self.gathered.view(2 * self.n, -1))
        return torch.bmm(self.gathered, weight, out=self.y)

    def encode(self, context: Tensor | None) -> Tensor:
        """The pooled features z (R, D); a row of E sums to 1/2, so a context c of all nodes adds c W / 2 to each."""
        y = self.y.view(2, self.n, self.r, self.d)
        y.copy_(self.first.view(y.shape))
        if context is not None:
            y += torch.matmul(0.5 * context, self.weights[0])[:, None]
        self.y.relu_()
        for weight in self.weights[1:]:
            self._layer(torch.add(y[0], y[1], out=self.x), weight).relu_()
        return torch.add(y[0], y[1], out=self.x).mean(0)
