"""Which cells are encoded together: networks of any sequences of cells, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hypernas.fast.fused_encoder import Group
from hypernas.graph import GraphBatch
from hypernas.method.encoder import KINDS, propagation

EVERYONE = (slice(None), slice(None))


@dataclass(frozen=True)
class Layout:
    """The groups in which the cells of (S, b) architectures are encoded, and what becomes of their positions C.

    `share (C,)` or `(C, S, b)` is the part that each position has in an embedding, equal parts where None;
    `where (C',)` or `(C', S, b)` is the encoded position for each one of the network, the same where None.
    """

    groups: tuple[Group, ...]
    share: Tensor | None = None
    where: Tensor | None = None

    @property
    def length(self) -> int:
        return self.groups[-1].position + 1

    def mean(self, z: Tensor) -> Tensor:
        """z (S, C, b, D) -> embedding (S, b, D)."""
        if self.share is None:
            return z.mean(1)
        return torch.einsum("scbd,c->sbd" if self.share.dim() == 1 else "scbd,csb->sbd", z, self.share)

    def unrolled(self, nodes: Tensor) -> Tensor:
        """Node features of the encoded positions (S, C, b, N, D) -> those of the network (S, C', b, N, D)."""
        if self.where is None:
            return nodes
        if self.where.dim() == 1:
            return nodes[:, self.where]
        s, b = (torch.arange(size, device=nodes.device) for size in self.where.shape[1:])
        return nodes[s[:, None, None], self.where.transpose(0, 1), b]


class Cells:
    """The cells of S sets of n architectures, laid out for the fused encoder.

    Where all have one sequence of kinds, the layout is made once, else for the architectures of each step.
    """

    def __init__(self, batches: Sequence[GraphBatch], dtype: torch.dtype, device: str = "cpu") -> None:
        sequence, kind = (torch.stack([getattr(b, name) for b in batches]) for name in ("sequence", "kind"))
        self.ops = torch.stack([b.ops for b in batches]).to(device)
        mask = torch.stack([b.mask for b in batches]).to(device)
        adjacency = torch.stack([b.adjacency for b in batches]).to(device)
        self.propagate = propagation(adjacency, mask, dtype)
        self.pool = mask.to(dtype) / mask.sum(-1, keepdim=True).clamp(min=1)
        self.seeds = torch.arange(len(batches), device=device)[:, None]
        one = sequence[0, 0], kind[0, 0]
        equal = bool((sequence == one[0]).all() & (kind == one[1]).all())
        row, kinds = (field.cpu().numpy() for field in one)
        self._shared = [_shared(row, kinds, once, dtype, device) for once in (False, True)] if equal else None
        self.sequence, self.kind = sequence, kind

    @property
    def alike(self) -> bool:
        """Whether all have one sequence of kinds, so that any of them are encoded in the same way."""
        return self._shared is not None

    def __getitem__(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """index (S, b) -> ops (S, b, U, N), propagate (2, S, b, U, N, N), pool (S, b, U, N)."""
        index = index.to(self.ops.device)
        return self.ops[self.seeds, index], self.propagate[:, self.seeds, index], self.pool[self.seeds, index]

    def layout(self, index: Tensor, each_once: bool = False) -> Layout:
        """How the architectures index (S, b) are encoded; `each_once` is without their repetitions of a cell."""
        if self._shared is not None:
            return self._shared[each_once]
        rows = np.arange(len(self.sequence))[:, None], index.cpu().numpy()
        sequence, kind = (field.cpu().numpy()[rows] for field in (self.sequence, self.kind))
        return _mixed(sequence, kind, each_once, self.pool)


def _shared(sequence: np.ndarray, kind: np.ndarray, each_once: bool, dtype: torch.dtype, device: str) -> Layout:
    """The layout of any number of architectures of one sequence (C,) and kinds (U,)."""
    network = [(u, int(kind[u])) for u in sequence[sequence >= 0].tolist()]
    columns = list(dict.fromkeys(network)) if each_once else network
    groups = tuple(Group(i, k, (u, k), EVERYONE, u) for i, (u, k) in enumerate(columns))
    if not each_once:
        return Layout(groups)
    share = [network.count(column) / len(network) for column in columns]
    where = torch.tensor([columns.index(column) for column in network], device=device)
    return Layout(groups, torch.tensor(share, dtype=dtype, device=device), where)


def _mixed(network: np.ndarray, kind: np.ndarray, each_once: bool, like: Tensor) -> Layout:
    """The layout of architectures of sequences (S, b, C), padded with -1, and kinds (S, b, U) of their cells."""
    length = (network >= 0).sum(-1)
    network = network[..., : np.flatnonzero((network >= 0).any((0, 1)))[-1] + 1]
    count = (network[..., None] == np.arange(kind.shape[-1])).sum(2)
    sequence = np.where(count > 0, np.arange(kind.shape[-1]), -1) if each_once else network
    share = (count if each_once else network >= 0) / length[..., None]
    groups = _groups(sequence, kind, like)
    share = torch.from_numpy(np.moveaxis(share, -1, 0)[: groups[-1].position + 1]).to(like)
    where = torch.from_numpy(np.moveaxis(network, -1, 0).clip(0)).to(like.device) if each_once else None
    return Layout(groups, share, where)


def _groups(sequence: np.ndarray, kind: np.ndarray, like: Tensor) -> tuple[Group, ...]:
    """At each position a group for each kind of cell that is there, their architectures first, others after them."""
    cells = sequence.clip(0)
    kinds = np.where(sequence >= 0, np.take_along_axis(kind, cells, 2), -1)
    member = kinds == np.arange(KINDS)[:, None, None, None]
    rows = np.argsort(~member, axis=2, kind="stable")
    picked = np.stack([rows, np.take_along_axis(cells[None], rows, 2), np.take_along_axis(member, rows, 2)])
    there = torch.from_numpy(picked).to(like.device)
    seeds = torch.arange(len(sequence), device=like.device)[:, None]
    members = member.sum(2)
    groups = []
    for i in range(sequence.shape[2]):
        for k in np.flatnonzero(members[:, :, i].any(1)).tolist():
            r = int(members[k, :, i].max())
            row, cell, real = there[:, k, :, :r, i]
            key = (k, picked[:2, k, :, :r, i].tobytes())
            full = bool((members[k, :, i] == r).all())
            groups.append(Group(i, k, key, (seeds, row), cell, None if full else real.to(like)))
    return tuple(groups)


def rows_of(tables: Tensor, index: Tensor) -> Tensor:
    """The rows index (S, ...) of S tables (S, R, D), each of its own -> (S, ..., D).

    The gradient of indexing by several tensors is summed in the order in which threads come, that of rows in one order.
    """
    s, r, d = tables.shape
    first = r * torch.arange(s, device=index.device).view(-1, *[1] * (index.ndim - 1))
    return tables.reshape(-1, d).index_select(0, (first + index).flatten().to(tables.device)).view(*index.shape, d)
