"""Groups of numbers that describe a network whatever the order of its nodes, for kernels and as inputs of a GCN."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hypernas.canonical import mix
from hypernas.graph import GraphBatch, collate
from hypernas.predictors.shared.cell_columns import repeats, varying, with_cells
from hypernas.predictors.shared.counts import counts
from hypernas.predictors.shared.graph_statistics import GraphStatistics

Groups = dict[str, np.ndarray]

CHUNK = 2_000  # architectures at a time: the random networks of one chunk take about 100 MB
N_REFERENCE = 1_000  # unlabelled architectures of a space that give means, spreads and principal components
N_COMPONENTS = 150
MOST_ROWS = 600_000  # of the features that are kept, about 1 kB a row


def varying_cells(graphs: GraphBatch, columns: tuple[int, ...]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each cell of `columns` ops (B, N), edge counts (B, N, N), mask (B, N); absent cells have no nodes."""
    graphs = with_cells(graphs, columns)
    present = (repeats(graphs) > 0)[:, :, None]
    mask = graphs.mask & present
    edges = graphs.adjacency * mask[..., None] * mask[:, :, None]
    return [(graphs.ops[:, u].numpy(), edges[:, u].numpy().astype(np.float64), mask[:, u].numpy()) for u in columns]


def path_moments(ops: np.ndarray, edges: np.ndarray, mask: np.ndarray, operations: list[int]) -> np.ndarray:
    """Over the paths from the sources to the sinks of a cell: how many nodes of an operation lie on a path (B, F).

    For each of `operations`, and for all of them together, the least and the greatest number; the mean and the mean
    square where every path counts the same, and where a node divides its weight evenly among the values it reads, as
    the variance of a sum of normalised values is divided. The last number is the logarithm of the number of paths.
    """
    b, n = ops.shape
    on_node = np.stack([*(ops == op for op in operations), np.isin(ops, operations)], 2).astype(np.float64)
    k = on_node.shape[2]
    reads = edges.sum(1)
    source, sink = mask & (reads == 0), mask & (edges.sum(2) == 0)
    shares = edges / np.maximum(reads, 1)[:, None]
    n_paths = np.zeros((b, n))
    least, most = np.full((b, n, k), np.inf), np.full((b, n, k), -np.inf)
    # weight, first and second moment of each node: of all paths to it, and of an even share of what it reads
    moments = {"paths": np.zeros((b, n, 2, k)), "shares": np.zeros((b, n, 2, k))}
    for j in range(n):
        start = source[:, j].astype(np.float64)
        n_paths[:, j] = start + (edges[:, :j, j] * n_paths[:, :j]).sum(1)
        fed = (edges[:, :j, j] > 0)[..., None]
        before = np.where(source[:, j, None], 0.0, np.inf)
        least[:, j] = np.minimum(before, np.where(fed, least[:, :j], np.inf).min(1, initial=np.inf)) + on_node[:, j]
        before = np.where(source[:, j, None], 0.0, -np.inf)
        most[:, j] = np.maximum(before, np.where(fed, most[:, :j], -np.inf).max(1, initial=-np.inf)) + on_node[:, j]
        for name, weights, total in (("paths", edges, n_paths[:, j]), ("shares", shares, np.ones(b))):
            first, second = (np.einsum("bi,bik->bk", weights[:, :j, j], moments[name][:, :j, m]) for m in (0, 1))
            here, total = on_node[:, j], total[:, None]
            moments[name][:, j, 0] = first + here * total
            moments[name][:, j, 1] = second + 2 * here * first + here * total
    at_sink = sink / np.maximum(sink.sum(1, keepdims=True), 1)
    paths_to_sink = np.maximum((n_paths * sink).sum(1), 1)
    by_path = np.einsum("bn,bnmk->bmk", sink.astype(np.float64), moments["paths"]) / paths_to_sink[:, None, None]
    by_share = np.einsum("bn,bnmk->bmk", at_sink, moments["shares"])
    parts = [np.log(paths_to_sink)[:, None]]
    for first, second in ((by_path[:, 0], by_path[:, 1]), (by_share[:, 0], by_share[:, 1])):
        parts += [first, np.sqrt(np.maximum(second - first**2, 0))]
    ends = sink[..., None] & np.isfinite(least)
    parts.append(np.where(ends, least, np.inf).min(1))
    parts.append(np.where(ends, most, -np.inf).max(1))
    found = np.concatenate(parts, 1)
    return np.where(np.isfinite(found), found, -1.0)


def neighbourhoods(cells: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """A hash (B, M) of each node, its operation and those it reads and feeds, and which of these are nodes (B, M)."""
    hashes, masks = [], []
    for u, (ops, edges, mask) in enumerate(cells):
        label = mix(ops.astype(np.uint64) + np.uint64(256 * (u + 1)))
        count = edges.astype(np.uint64)
        reads = (count * label[:, :, None]).sum(1)
        feeds = (count * mix(label + np.uint64(1))[:, None, :]).sum(2)
        hashes.append(mix(label + mix(reads) + np.uint64(3) * mix(feeds + np.uint64(7))))
        masks.append(mask)
    return np.concatenate(hashes, 1), np.concatenate(masks, 1)


@dataclass(frozen=True)
class RandomFamily:
    """How a family of random networks passes messages: the share of a message that is kept, and how it is squashed."""

    keep: float
    normalised: bool
    activation: Any


FAMILIES = (
    RandomFamily(0.5, True, torch.relu),
    RandomFamily(0.5, False, torch.tanh),
    RandomFamily(0.7, True, torch.relu),
)
DRAWS, WIDTH = 40, 8


class RandomNetworks:
    """Untrained message-passing networks whose weights are drawn once; what they read out describes a graph.

    120 networks of three families. A node sums the values it reads, and keeps a share of the sum; the rest goes through
    a random matrix of its operation. The sum is passed forward to the sinks and back to the sources, and from cell to
    cell, as in global encoding. The idea is the flow surrogate of FGP (NeurIPS 2025), here with a matrix an operation.
    """

    def __init__(self, n_ops: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(len(FAMILIES), DRAWS, *shape, generator=generator, dtype=torch.float32)

        self.start = draw(1, WIDTH)
        self.weight = draw(2, n_ops, WIDTH, WIDTH) * (2 / WIDTH) ** 0.5
        self.bias = draw(2, n_ops, 1, WIDTH) * 0.3

    def __call__(self, cells: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> np.ndarray:
        """Cells in sequence, absent ones without nodes -> read-outs (B, 3 families x 40 networks x 24)."""
        parts = []
        for f, family in enumerate(FAMILIES):
            total, times = 0.0, 0.0
            context = self.start[f].expand(-1, len(cells[0][0]), -1)
            for ops, edges, mask in cells:
                forward, backward = self._pass(f, family, context, ops, edges, mask)
                present = torch.from_numpy(mask.any(1)).float()[:, None]
                sink, source = (torch.from_numpy(mask & (edges.sum(axis) == 0)).float() for axis in (2, 1))
                at_sinks = torch.einsum("bn,nrbk->rbk", sink, forward)
                at_sources = torch.einsum("bn,nrbk->rbk", source, backward)
                total = total + torch.cat([at_sinks, at_sources, backward.sum(0)], 2) * present
                times = times + present
                context = self.start[f] + family_scale(family, at_sinks)
            parts.append(torch.asinh(total / times))
        found = torch.stack(parts, 0).permute(2, 0, 1, 3)
        return found.reshape(found.shape[0], -1).numpy()

    def _pass(
        self, f: int, family: RandomFamily, context: Tensor, ops: np.ndarray, edges: np.ndarray, mask: np.ndarray
    ) -> tuple[Tensor, Tensor]:
        """The values (N, R, B, k) of the nodes after the forward pass, and after the backward pass."""
        n = ops.shape[1]
        counts_of = torch.from_numpy(edges).float()
        here = torch.from_numpy(mask).float()[..., None]
        rows_of = [[(op, torch.from_numpy(np.flatnonzero((ops[:, j] == op) & mask[:, j])))
                    for op in np.unique(ops[:, j][mask[:, j]])] for j in range(n)]  # fmt: skip

        def update(j: int, direction: int, message: Tensor, extra: Tensor | None) -> Tensor:
            message = family_scale(family, message)
            read, out = message if extra is None else message + extra, torch.zeros_like(message)
            for op, rows in rows_of[j]:
                out[:, rows] = read[:, rows] @ self.weight[f, :, direction, op] + self.bias[f, :, direction, op]
            return family.keep * message + (1 - family.keep) * family.activation(out)

        def gathered(values: Tensor, j: int, neighbours: range, count: Any) -> Tensor:
            message = torch.zeros_like(context)
            for i in neighbours:
                if edges[:, min(i, j), max(i, j)].any():
                    message = message + count(i)[:, None] * values[i]
            return message

        forward = torch.zeros(n, *context.shape)
        for j in range(n):
            source = torch.from_numpy(edges[:, :j, j].sum(1) == 0)[:, None]
            message = gathered(forward, j, range(j), lambda i, j=j: counts_of[:, i, j])
            forward[j] = torch.where(source, context, update(j, 0, message, None)) * here[:, j]
        backward = torch.zeros_like(forward)
        for j in reversed(range(n)):
            sink = torch.from_numpy(edges[:, j, j + 1 :].sum(1) == 0)[:, None]
            message = gathered(backward, j, range(j + 1, n), lambda i, j=j: counts_of[:, j, i])
            backward[j] = torch.where(sink, forward[j], update(j, 1, message, forward[j])) * here[:, j]
        return forward, backward


def family_scale(family: RandomFamily, message: Tensor) -> Tensor:
    """A message, divided by its root mean square where the family does so."""
    if not family.normalised:
        return message
    return message / message.square().mean(-1, keepdim=True).sqrt().clamp(min=1e-6)


class GraphKernelFeatures:
    """Groups of features (B, F) of architectures: `statistics`, `paths`, `size`, `random`; and `nodes`, hashes.

    Means, spreads and principal components are those of `reference`, unlabelled architectures. Columns that are equal
    in all of these are left out. `size`, parameters and multiply-adds, exists where the space counts them.
    """

    def __init__(self, reference: GraphBatch) -> None:
        self.columns = varying(reference)
        self.statistics = GraphStatistics(reference)
        self.operations = []
        cells = varying_cells(reference, self.columns)
        for ops, edges, mask in cells:
            between = (edges.sum(1) > 0) & (edges.sum(2) > 0)
            self.operations.append(sorted(set(ops[between & mask].tolist())))
        self.n_ops = len(reference.space.ops) if reference.space is not None else int(reference.ops.max()) + 1
        self.networks = RandomNetworks(self.n_ops)
        raw = self._raw(reference)
        self.scales = {name: spread(values) for name, values in raw.items()}
        standard = self._standard(raw)["random"]
        _, singular, directions = np.linalg.svd(standard, full_matrices=False)
        kept = (singular > 1e-6 * singular[0]).nonzero()[0][:N_COMPONENTS]
        self.components = directions[kept].T.astype(np.float32)
        self.ids, self.rows = np.empty(0, np.int64), None

    def _raw(self, graphs: GraphBatch) -> Groups:
        cells = varying_cells(graphs, self.columns)
        moments = [path_moments(*cell, operations) for cell, operations in zip(cells, self.operations, strict=True)]
        groups = {"statistics": self.statistics(graphs), "paths": np.concatenate(moments, 1)}
        if graphs.space is not None:
            if hasattr(graphs.space, "trainable_parameters"):
                groups["size"] = np.log(graphs.space.trainable_parameters(graphs))[:, None]
            else:
                groups["size"] = np.log(np.maximum(counts(graphs), 1))
        groups["random"] = self.networks(cells)
        return groups

    def _standard(self, raw: Groups) -> Groups:
        found = {}
        for name, (mean, std, kept) in self.scales.items():
            found[name] = ((raw[name][:, kept] - mean) / std).astype(np.float32)
        return found

    def __call__(self, graphs: GraphBatch) -> Groups:
        """The groups of features, standardised, `random` as principal components; `nodes` and `present` of nodes."""
        parts = []
        for start in range(0, len(graphs), CHUNK):
            raw = self._raw(graphs[start : start + CHUNK])
            groups = self._standard(raw)
            groups["random"] = groups["random"] @ self.components
            parts.append(groups)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def nodes(self, graphs: GraphBatch) -> tuple[np.ndarray, np.ndarray]:
        return neighbourhoods(varying_cells(graphs, self.columns))


def spread(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and standard deviation of the columns that vary, and which these are."""
    std = values.std(0)
    kept = np.flatnonzero(std > 1e-6)
    return values[:, kept].mean(0), std[kept], kept


def reference_of(space: Any) -> GraphBatch:
    """Architectures that the space samples, always the same."""
    rng = np.random.default_rng(0)
    return collate([space.canonical(space.sample(rng)) for _ in range(N_REFERENCE)], space)


@cache
def features_of(space: Any) -> GraphKernelFeatures:
    return GraphKernelFeatures(reference_of(space))
