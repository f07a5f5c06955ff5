"""Groups of numbers that describe a network whatever the order of its nodes, for kernels and as inputs of a GCN."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hypernas.canonical import mix
from hypernas.data.catalogue import cache_directory
from hypernas.graph import GraphBatch, collate
from hypernas.predictors.shared.cell_columns import ordered, varying, with_cells
from hypernas.training.predictor import n_operations

Groups = dict[str, np.ndarray]

CHUNK = 1_000  # architectures at a time: the random networks of so many take about 100 MB
N_REFERENCE = 600  # unlabelled architectures of a space, for means, spreads and principal components
N_COMPONENTS = 100  # of each family of random networks
WORTH_A_FILE = 50_000  # architectures whose features take a minute or more


@dataclass(frozen=True)
class Cells:
    """The cells of B architectures at one position: ops (B, N), edge counts (B, N, N), mask (B, N), unique (B,).

    An architecture with fewer cells has none there: its mask is empty.
    """

    ops: np.ndarray
    edges: np.ndarray
    mask: np.ndarray
    unique: np.ndarray


class CellSequence:
    """The cells of a network in the order in which they are stacked, as far as architectures differ in them.

    Where all architectures have the same sequence, each unique cell stands once, at its first place; cells that all
    share are left out. Nodes come in an order that isomorphic cells share.
    """

    def __init__(self, reference: GraphBatch) -> None:
        first = dict.fromkeys(reference.sequence[0].tolist())
        self.is_shared = bool((reference.sequence == reference.sequence[:1]).all())
        vary = varying(reference)
        self.columns = tuple(u for u in first if u in vary) if self.is_shared else tuple(range(reference.kind.shape[1]))

    def __call__(self, graphs: GraphBatch) -> list[Cells]:
        graphs = with_cells(graphs, self.columns)
        ops, edges, mask = ordered(graphs, self.columns)
        rows = np.arange(len(graphs))
        if self.is_shared:
            positions = [np.full_like(rows, column) for column in range(len(self.columns))]
        else:
            positions = list(graphs.sequence.numpy().T)
        cells = []
        for unique in positions:
            place = rows, unique.clip(min=0)
            here = mask[place] & (unique >= 0)[:, None]
            between = edges[place].astype(np.float64) * here[:, :, None] * here[:, None]
            cells.append(Cells(ops[place] * here, between, here, unique))
        return cells


def path_moments(cells: Cells, operations: list[int]) -> np.ndarray:
    """Over the paths from the sources to the sinks of a cell: how many nodes of an operation lie on a path (B, F).

    For each of `operations`, and for all of them together, the least and the greatest number; the mean and the mean
    square where every path counts the same, and where a node divides its weight evenly among the values it reads, as
    the variance of a sum of normalised values is divided. The last number is the logarithm of the number of paths.
    """
    ops, edges, mask = cells.ops, cells.edges, cells.mask
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


def neighbourhoods(sequence: list[Cells]) -> np.ndarray:
    """A hash (B, M) of the surroundings of each node, 0 where there is no node.

    That is its position, its operation, and the operations it reads and feeds: one Weisfeiler-Lehman step.
    """
    hashes = []
    for position, cells in enumerate(sequence, 1):
        label = mix(cells.ops.astype(np.uint64) + np.uint64(256 * position))
        count = cells.edges.astype(np.uint64)
        reads = (count * label[:, :, None]).sum(1)
        feeds = (count * mix(label + np.uint64(1))[:, None, :]).sum(2)
        hashes.append(mix(label + mix(reads) + np.uint64(3) * mix(feeds + np.uint64(7))) * cells.mask)
    return np.concatenate(hashes, 1)


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

    def __call__(self, sequence: list[Cells]) -> list[np.ndarray]:
        """Cells in sequence -> the read-outs (B, 40 networks x 24) of each family, their mean over the cells."""
        readouts = []
        for f, family in enumerate(FAMILIES):
            total, times = torch.zeros(()), torch.zeros(())
            context = self.start[f].expand(-1, len(sequence[0].ops), -1)
            for cells in sequence:
                forward, backward = self._pass(f, family, context, cells)
                present = torch.from_numpy(cells.mask.any(1)).float()[:, None]
                sink, source = (torch.from_numpy(cells.mask & (cells.edges.sum(axis) == 0)).float() for axis in (2, 1))
                at_sinks = torch.einsum("bn,nrbk->rbk", sink, forward)
                at_sources = torch.einsum("bn,nrbk->rbk", source, backward)
                total = total + torch.cat([at_sinks, at_sources, backward.sum(0)], 2) * present
                times = times + present
                context = torch.where(present > 0, self.start[f] + family_scale(family, at_sinks), context)
            mean = torch.asinh(total / times).transpose(0, 1)
            readouts.append(mean.reshape(len(mean), -1).numpy())
        return readouts

    def _pass(self, f: int, family: RandomFamily, context: Tensor, cells: Cells) -> tuple[Tensor, Tensor]:
        """The values (N, R, B, k) of the nodes after the forward pass, and after the backward pass."""
        ops, edges, mask = cells.ops, cells.edges, cells.mask
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
    """Groups of features (B, F) of architectures: `paths`, and a group of random networks a family.

    Means, spreads and principal components are those of `reference`, unlabelled architectures. Columns that are equal
    in all of these are left out. What was computed is kept in memory, for many architectures in the user's cache too;
    as float16, so that the kept features are the computed ones.
    """

    def __init__(self, reference: GraphBatch) -> None:
        self.reference, self.sequence = reference, CellSequence(reference)
        self.operations = sorted(set(reference.ops[reference.mask].tolist()))
        self.n_ops = n_operations(reference)
        self.networks = RandomNetworks(self.n_ops)
        raw = self._raw(reference)
        self.scales = {name: spread(values) for name, values in raw.items()}
        self.components: Groups = {}
        for name, values in self._standard(raw).items():
            if name != "paths":
                _, singular, directions = np.linalg.svd(values, full_matrices=False)
                enough = int((singular > 1e-6 * singular[0]).sum())
                # divided by the spread of the first component, so that the first one of each family has spread 1
                scale = len(values) ** 0.5 / singular[0]
                self.components[name] = (directions[: min(enough, N_COMPONENTS)].T * scale).astype(np.float32)
        self.sizes = {name: value.shape[1] for name, value in self._compute(reference[:1]).items()}
        self.kept_ids = np.empty(0, np.int64)
        self.kept_rows = np.empty((0, sum(self.sizes.values())), np.float16)

    def _raw(self, graphs: GraphBatch) -> Groups:
        sequence = self.sequence(graphs)
        counted = [operation_counts(cells, self.operations) for cells in sequence]
        moments = [path_moments(cells, self.operations) for cells in sequence]
        groups = {"paths": np.concatenate([*moments, *counted, np.sum(counted, 0)], 1)}
        return groups | {f"random {f}": values for f, values in enumerate(self.networks(sequence))}

    def _standard(self, raw: Groups) -> Groups:
        scaled = {}
        for name, (mean, std, columns) in self.scales.items():
            scaled[name] = ((raw[name][:, columns] - mean) / std).astype(np.float32)
        return scaled

    def _compute(self, graphs: GraphBatch) -> Groups:
        groups = self._standard(self._raw(graphs))
        return {name: x @ self.components[name] if name in self.components else x for name, x in groups.items()}

    def __call__(self, graphs: GraphBatch) -> Groups:
        """The groups of features (B, F), float32, and under `nodes` the hashes (B, M) of neighbourhoods."""
        ids, first, inverse = np.unique(graphs.function_ids(), return_index=True, return_inverse=True)
        new = ~np.isin(ids, self.kept_ids)
        if new.sum() >= WORTH_A_FILE:
            self._read_file()
            new = ~np.isin(ids, self.kept_ids)
        if new.any():
            self._keep(ids[new], graphs, first[new])
        rows = self.kept_rows[np.searchsorted(self.kept_ids, ids)][inverse].astype(np.float32)
        edges = np.cumsum([0, *self.sizes.values()])
        groups = {name: rows[:, i:j] for name, i, j in zip(self.sizes, edges[:-1], edges[1:], strict=True)}
        return groups | {"nodes": neighbourhoods(self.sequence(graphs))}

    def _keep(self, ids: np.ndarray, graphs: GraphBatch, index: np.ndarray) -> None:
        """Compute the features of the architectures at `index`, which `ids` name, and keep them."""
        rows = np.empty((len(ids), self.kept_rows.shape[1]), np.float16)
        for start in range(0, len(ids), CHUNK):
            part = slice(start, start + CHUNK)
            rows[part] = np.concatenate(list(self._compute(graphs[torch.from_numpy(index[part])]).values()), 1)
        ids, rows = np.concatenate([self.kept_ids, ids]), np.concatenate([self.kept_rows, rows])
        order = np.argsort(ids)
        self.kept_ids, self.kept_rows = ids[order], rows[order]
        if len(index) >= WORTH_A_FILE:
            self._write_file()

    @property
    def path(self) -> Path:
        """Where the features are kept: a name for what computes them, the reference as the witness."""
        digest = hashlib.sha256()
        for name, (mean, std, _) in self.scales.items():
            digest.update(f"{name} {np.round(mean, 4).tolist()} {np.round(std, 4).tolist()}".encode())
        return cache_directory() / "features" / f"{digest.hexdigest()[:24]}.npz"

    def _read_file(self) -> None:
        try:
            with np.load(self.path) as arrays:
                self.kept_ids, self.kept_rows = arrays["ids"], arrays["rows"]
        except (OSError, ValueError, KeyError):
            return

    def _write_file(self) -> None:
        """A cache that cannot be written costs time and nothing else."""
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.npz")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(temporary, ids=self.kept_ids, rows=self.kept_rows)
            os.replace(temporary, self.path)
        except OSError:
            temporary.unlink(missing_ok=True)


def operation_counts(cells: Cells, operations: list[int]) -> np.ndarray:
    """How many nodes have each operation, and how many edges there are (B, F)."""
    nodes = [((cells.ops == op) & cells.mask).sum(1) for op in operations]
    return np.stack([*nodes, cells.edges.sum((1, 2))], 1)


def spread(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and standard deviation of the columns that vary, and which these are."""
    std = values.std(0)
    columns = np.flatnonzero(std > 1e-5)
    return values[:, columns].mean(0), std[columns], columns


@cache
def features_of(space: Any, graph_form: str) -> GraphKernelFeatures:
    """The features of a space, by architectures that it samples, always the same."""
    rng = np.random.default_rng(0)
    drawn = [space.canonical(space.sample(rng), graph_form) for _ in range(N_REFERENCE)]
    return GraphKernelFeatures(collate(drawn, space, graph_form))
