"""Embeddings of large tables: architectures whose cells have the same edges go through the encoder side by side.

With the nodes as the leading axis, the propagation of R such architectures is one product (2N, N) x (N, R * D) a layer,
in place of 2 R small ones, and no node is padding. No gradient is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hypernas.graph import GraphBatch
from hypernas.method.encoder import GlobalEncoder, propagation

CHUNK = 256
Buffers = dict[torch.Size, "_Scratch"]


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


def embed(encoder: GlobalEncoder, batch: GraphBatch, parts: Iterable[Tensor] | None = None) -> Tensor:
    """The embedding h (B, D) of each architecture, as `encoder(batch)` gives it; `parts` are those of `same_edges`.

    Products of one part are too small to be shared, so every thread takes parts of its own; the bits are the same
    however many there are.
    """
    h = torch.empty(len(batch), encoder.width, dtype=encoder.embedding.weight.dtype)
    waiting, n_threads = iter(list(same_edges(batch) if parts is None else parts)), torch.get_num_threads()

    @torch.no_grad()
    def work(_: int = 0) -> None:
        torch.set_num_threads(1)
        buffers: Buffers = {}
        for rows in waiting:
            h[rows] = _embed_group(encoder, batch[rows], buffers)

    if n_threads == 1:
        work()
        return h
    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(work, range(n_threads)))
    return h


def _embed_group(encoder: GlobalEncoder, batch: GraphBatch, buffers: Buffers) -> Tensor:
    """The embedding (R, D) of architectures of the same edges."""
    columns = [(u, int(batch.kind[0, u])) for u in batch.sequence[0].tolist() if u >= 0]
    cells = {column: _Cell(encoder, batch, *column, buffers) for column in dict.fromkeys(columns)}
    if encoder.context == "none":
        each = [cells[column].encode(None) * columns.count(column) for column in cells]
        return torch.stack(each).sum(0) / len(columns)
    total = z = cells[columns[0]].encode(added_context(encoder, None, 0))
    for i, column in enumerate(columns[1:], 1):
        z = cells[column].encode(added_context(encoder, z, i))
        total = total + z
    return total / len(columns)


def added_context(encoder: GlobalEncoder, z: Tensor | None, i: int) -> Tensor | None:
    """What is added to every node, (R, D) or (1, D), of the cell at position i, after `join` where there is one."""
    if encoder.context == "position":
        return encoder.position[i : i + 1]
    if z is not None and encoder.context == "concat":
        return z @ encoder.join.weight[:, encoder.width :].T
    return z


class _Scratch:
    """What the layers of R cells of N nodes write to, and the views of it that they read: x (N, R, D) and N x (R * D),
    gathered (2, N * R, D) and 2N x (R * D), y (2, N * R, D) and its two halves (N, R, D)."""

    def __init__(self, like: Tensor) -> None:
        n, r, d = like.shape
        self.x, (self.gathered, self.y) = torch.empty_like(like), like.new_empty(2, 2, n * r, d)
        self.flat_x, self.flat_gathered = self.x.view(n, -1), self.gathered.view(2 * n, -1)
        self.both = self.y.view(2, n, r, d)
        self.halves = self.both.unbind(0)


class _Cell:
    """One unique cell of R architectures of the same edges; its first layer but for the context is run once."""

    def __init__(self, encoder: GlobalEncoder, batch: GraphBatch, u: int, kind: int, buffers: Buffers) -> None:
        n = int(batch.mask[0, u].sum())
        v = encoder.embedding(batch.ops[:, u, :n].T)
        if encoder.context == "concat":
            v = v @ encoder.join.weight[:, : encoder.width].T + encoder.join.bias
        self.edges = propagation(batch.adjacency[0, u, :n, :n], batch.mask[0, u, :n], v.dtype).view(2 * n, n)
        layers: Any = encoder.gcn[kind]
        first, *self.weights = [layer.weight for layer in layers]
        self.half_first = 0.5 * first
        if v.shape not in buffers:
            buffers[v.shape] = _Scratch(v)
        self.scratch = buffers[v.shape]
        self.scratch.x.copy_(v)
        self._layer(first)
        self.first = self.scratch.both.clone()

    def _layer(self, weight: Tensor) -> Tensor:
        """x -> E x W of both directions y, which the next call overwrites."""
        torch.mm(self.edges, self.scratch.flat_x, out=self.scratch.flat_gathered)
        return torch.bmm(self.scratch.gathered, weight, out=self.scratch.y)

    def encode(self, context: Tensor | None) -> Tensor:
        """The pooled features z (R, D); a row of E sums to 1/2, so a context c of all nodes adds c W / 2 to each."""
        scratch = self.scratch
        if context is None:
            scratch.both.copy_(self.first)
        else:
            torch.add(self.first, torch.matmul(context, self.half_first)[:, None], out=scratch.both)
        scratch.y.relu_()
        for weight in self.weights:
            torch.add(*scratch.halves, out=scratch.x)
            self._layer(weight).relu_()
        return torch.add(*scratch.halves, out=scratch.x).mean(0)
