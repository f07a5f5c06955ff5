"""Embeddings on a GPU: the cells of several architectures stand in one block-diagonal matrix, for one by itself is
too small for a fast product. Both directions lie side by side in a row of 2D features. No gradient is kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hypernas.fast.scoring import added_context
from hypernas.graph import GraphBatch
from hypernas.method.encoder import GlobalEncoder, propagation

NODES = 64


def alike(batch: GraphBatch) -> bool:
    """Whether all architectures have one sequence of kinds."""
    return bool((batch.sequence == batch.sequence[:1]).all() & (batch.kind == batch.kind[:1]).all())


@torch.no_grad()
def embed_packed(encoder: GlobalEncoder, batch: GraphBatch) -> Tensor:
    """The embedding h (B, D) of architectures of one sequence of kinds, which are on the encoder's device.

    >>> import numpy as np
    >>> from hypernas import spaces
    >>> from hypernas.graph import collate
    >>> space = spaces.get("nasbench201")
    >>> batch = collate([space.sample(np.random.default_rng(i)) for i in range(3)], space)
    >>> encoder = GlobalEncoder(n_ops=7, n_layers=2, width=8)
    >>> torch.allclose(embed_packed(encoder, batch), encoder(batch)[0], atol=1e-6)
    True
    """
    b, n = len(batch), -(-batch.ops.shape[2] // 8) * 8
    together = max(1, NODES // n)
    more = -b % together
    batch = (batch if not more else batch[torch.arange(b + more, device=batch.ops.device).clamp(max=b - 1)]).padded(n)
    places = zip(batch.sequence[0].tolist(), batch.kind[0][batch.sequence[0].clamp(min=0)].tolist(), strict=True)
    columns = [place for place in places if place[0] >= 0]
    cells = {column: _Packed(encoder, batch, *column, together) for column in dict.fromkeys(columns)}
    pooled: list[Tensor] = []
    for i, column in enumerate(columns):
        before = pooled[-1] if pooled and encoder.context != "none" else None
        pooled.append(cells[column].encode(added_context(encoder, before, i)))
    return torch.stack(pooled).mean(0)[:b]


class _Packed:
    """One unique cell of B architectures, `together` of them in a block; its first layer but for the context is run
    once, and all that depends on no context too."""

    def __init__(self, encoder: GlobalEncoder, batch: GraphBatch, u: int, kind: int, together: int) -> None:
        (b, _, n), d, dtype = batch.ops.shape, encoder.width, encoder.embedding.weight.dtype
        self.shape, self.d = (b // together, together * n, 2 * d), d
        layers: Any = encoder.gcn[kind]
        mask = batch.mask[:, u]
        blocks = b // together, together
        self.edges = [_diagonal(e.unflatten(0, blocks)) for e in propagation(batch.adjacency[:, u], mask, dtype)]
        share = mask.to(dtype) / mask.sum(1, keepdim=True)
        self.pool = _diagonal(share.unflatten(0, blocks)[:, :, None])
        v = encoder.embedding(batch.ops[:, u])
        if encoder.context == "concat":
            v = v @ encoder.join.weight[:, :d].T + encoder.join.bias
        first, *others = (torch.cat([*layer.weight], 1) for layer in layers)
        self.half_first, self.weights = 0.5 * first, [torch.cat([weight, weight]) for weight in others]
        self.first = self._propagate(v.flatten(0, 1) @ first)

    def _propagate(self, y: Tensor) -> Tensor:
        """V W of both directions (B*N, 2D) -> E V W (B*N, 2D)."""
        y, out = y.view(self.shape), y.new_empty(self.shape)
        for edges, side in zip(self.edges, (slice(None, self.d), slice(self.d, None)), strict=True):
            torch.bmm(edges, y[..., side], out=out[..., side])
        return out.view(-1, 2 * self.d)

    def encode(self, context: Tensor | None) -> Tensor:
        """The pooled features z (B, D); a row of E sums to 1/2, so a context c of all nodes adds c W / 2 to each."""
        h: Any = self.first.view(self.shape[0] * self.pool.shape[1], -1, 2 * self.d)
        h = h.relu() if context is None else (h + (context @ self.half_first)[:, None]).relu_()
        h = h.view(-1, 2 * self.d)
        for weight in self.weights:
            h = self._propagate(h @ weight).relu_()
        along, against = torch.bmm(self.pool, h.view(self.shape)).flatten(0, 1).split(self.d, 1)
        return along + against


def _diagonal(blocks: Tensor) -> Tensor:
    """(G, P, R, C) -> (G, P*R, P*C), the P blocks of each on its diagonal."""
    g, p, rows, columns = blocks.shape
    out = blocks.new_zeros(g, p, rows, p, columns)
    torch.diagonal(out, dim1=1, dim2=3).copy_(blocks.permute(0, 2, 3, 1))
    return out.view(g, p * rows, p * columns)
