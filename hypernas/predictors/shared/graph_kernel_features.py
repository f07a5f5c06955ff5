"""Groups of features that describe a network regardless of node order, for kernels and as inputs of a GCN."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hypernas.canonical import mix
from hypernas.data.catalogue import cache_directory
from hypernas.graph import GraphBatch, collate
from hypernas.predictors.shared.random_networks import Cells, CellSequence, RandomNetworks
from hypernas.training.files import replaced
from hypernas.training.predictor import n_operations

# Name of a group -> its features (B, F).
Groups = dict[str, np.ndarray]

# Architectures at a time: the random networks of so many take about 100 MB.
CHUNK = 1_000
# Unlabelled architectures that a space samples, for means, spreads and principal components.
N_REFERENCE = 600
# Of each family of random networks.
N_COMPONENTS = 100
# So many new architectures take a minute or more, and their features are kept on disk.
WORTH_A_FILE = 50_000
# A hash has 8 bits for the operation.
OPERATIONS = 256


def path_moments(cells: Cells, operations: list[int]) -> np.ndarray:
    """Return statistics (B, F) of how many nodes with an operation lie on a path from a cell's sources to its sinks.

    The first is the logarithm of the number of paths. Then, for each of `operations` and for all of them together: mean
    and deviation if every path counts equally; mean and deviation if a node divides its weight evenly among the values
    it reads, as the variance of a sum of normalised values is divided; the minimum and the maximum. Cells without a
    path have -1.
    """
    on_node = [cells.ops == op for op in operations]
    on_node.append(np.isin(cells.ops, operations))
    counted = np.stack(on_node, 2).astype(np.float64)
    reads = cells.edges.sum(1, keepdims=True)
    # A node that reads three values hands a third of its weight to each.
    even_shares = cells.edges / reads.clip(min=1)
    parts: list[np.ndarray] = []
    for weights in (cells.edges, even_shares):
        moments = _moments(cells, weights, counted)
        at_sinks = np.einsum("bn,bnmk->mbk", cells.sinks, moments)
        weight, first, second = at_sinks
        mean = first / weight.clip(min=1)
        variance = second / weight.clip(min=1) - mean**2
        deviation = np.sqrt(variance.clip(min=0))
        if not parts:
            n_paths = weight[:, :1].clip(min=1)
            parts.append(np.log(n_paths))
        parts += [mean, deviation]
    parts.append(_fewest(cells, counted))
    parts.append(-_fewest(cells, -counted))
    features = np.concatenate(parts, 1)
    return np.where(np.isfinite(features), features, -1.0)


def _moments(
    cells: Cells,
    weights: np.ndarray,
    counted: np.ndarray,
) -> np.ndarray:
    """Weight, sum and sum of squares (B, N, 3, K) of what is counted (B, N, K) on the paths that end at each node.

    A path has the product of the `weights` (B, N, N) of its edges.
    """
    b, n, k = counted.shape
    moments = np.zeros((b, n, 3, k))
    sources = cells.sources
    for j in range(n):
        before = weights[:, :j, j], moments[:, :j]
        weight, first, second = np.einsum("bi,bimk->mbk", *before)
        weight = weight + sources[:, j, None]
        here = counted[:, j]
        moments[:, j, 0] = weight
        moments[:, j, 1] = first + here * weight
        # (x + c)^2 = x^2 + 2 x c + c^2, where c is 0 or 1
        moments[:, j, 2] = second + 2 * here * first + here * weight
    return moments


def _fewest(cells: Cells, counted: np.ndarray) -> np.ndarray:
    """The least sum (B, K) of what is counted (B, N, K) on a path from a source to a sink, infinite without one."""
    sources, sinks = cells.sources, cells.sinks
    least = np.full(counted.shape, np.inf)
    for j in range(counted.shape[1]):
        fed = cells.edges[:, :j, j] > 0
        before = np.where(fed[..., None], least[:, :j], np.inf)
        before = before.min(1, initial=np.inf)
        start = np.where(sources[:, j], 0.0, np.inf)
        least[:, j] = np.minimum(start[:, None], before) + counted[:, j]
    at_sinks = np.where(sinks[..., None], least, np.inf)
    return at_sinks.min(1)


def neighbourhoods(sequence: list[Cells]) -> np.ndarray:
    """Return a hash (B, M) of each node's surroundings, 0 if there is no node.

    The hash covers the node's position, its operation, and the operations that it reads and feeds: one
    Weisfeiler-Lehman step.
    """
    hashes = []
    for position, cells in enumerate(sequence, 1):
        offset = np.uint64(OPERATIONS * position)
        # Operation and position in one number.
        label = mix(cells.ops.astype(np.uint64) + offset)
        # The same operation counts otherwise before a node than after it.
        other = mix(label + np.uint64(1))
        edges = cells.edges.astype(np.uint64)
        reads = (edges * label[:, :, None]).sum(1)
        feeds = (edges * other[:, None, :]).sum(2)
        surroundings = mix(reads) + np.uint64(3) * mix(feeds + np.uint64(7))
        hashes.append(mix(label + surroundings) * cells.mask)
    return np.concatenate(hashes, 1)


def operation_counts(cells: Cells, operations: list[int]) -> np.ndarray:
    """Return the number of nodes with each operation and the number of edges (B, F)."""
    columns = [((cells.ops == op) & cells.mask).sum(1) for op in operations]
    columns.append(cells.edges.sum((1, 2)))
    return np.stack(columns, 1)


class Standard:
    """Standardise columns to mean 0 and deviation 1, and leave out constant columns."""

    def __init__(self, values: np.ndarray) -> None:
        deviation = values.std(0)
        self.columns = np.flatnonzero(deviation > 1e-5)
        self.deviation = deviation[self.columns]
        self.mean = values[:, self.columns].mean(0)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        centred = values[:, self.columns] - self.mean
        return (centred / self.deviation).astype(np.float32)


def principal_components(values: np.ndarray) -> np.ndarray:
    """Return the directions (F, K) of largest spread of values (B, F), scaled so that the first has a spread of 1."""
    _, singular, directions = np.linalg.svd(values, full_matrices=False)
    # Of fewer architectures than components the last have no spread at all.
    enough = int((singular > 1e-6 * singular[0]).sum())
    first = directions[: min(enough, N_COMPONENTS)]
    scale = len(values) ** 0.5 / singular[0]
    return (first.T * scale).astype(np.float32)


class GraphKernelFeatures:
    """Groups of features (B, F) of architectures: `paths`, and one group for each family of random networks.

    Means, spreads and principal components come from `reference`, a set of unlabelled architectures. Computed features
    are kept in half precision in memory and, for many architectures, also in the user's cache.
    """

    def __init__(self, reference: GraphBatch) -> None:
        self.reference = reference
        self.sequence = CellSequence(reference)
        used = reference.ops[reference.mask]
        self.operations = used.unique().tolist()
        self.n_ops = n_operations(reference)
        self.networks = RandomNetworks(self.n_ops)
        groups = self._raw(reference)
        self.standard = {name: Standard(values) for name, values in groups.items()}
        self.components = {}
        for name, values in groups.items():
            if name != "paths":
                self.components[name] = principal_components(self.standard[name](values))
        one = self._compute(reference[:1])
        self.sizes = {name: values.shape[1] for name, values in one.items()}
        self.kept_ids = np.empty(0, np.int64)
        self.kept_rows = np.empty((0, sum(self.sizes.values())), np.float16)

    def _raw(self, graphs: GraphBatch) -> Groups:
        """The groups before they are standardised."""
        sequence = self.sequence(graphs)
        moments, counts = [], []
        for cells in sequence:
            moments.append(path_moments(cells, self.operations))
            counts.append(operation_counts(cells, self.operations))
        in_all = np.sum(counts, 0)
        groups = {"paths": np.concatenate([*moments, *counts, in_all], 1)}
        for number, readout in enumerate(self.networks(sequence)):
            groups[f"random {number}"] = readout
        return groups

    def _compute(self, graphs: GraphBatch) -> Groups:
        groups = self._raw(graphs)
        for name, values in groups.items():
            groups[name] = self.standard[name](values)
            if name in self.components:
                groups[name] = groups[name] @ self.components[name]
        return groups

    def __call__(self, graphs: GraphBatch) -> Groups:
        """Return the groups of features (B, F), float32, and under `nodes` the hashes (B, M) of neighbourhoods."""
        ids, first, inverse = np.unique(
            graphs.function_ids(),
            return_index=True,
            return_inverse=True,
        )
        new = ~np.isin(ids, self.kept_ids)
        if new.sum() >= WORTH_A_FILE:
            self._read_file()
            new = ~np.isin(ids, self.kept_ids)
        if new.any():
            self._keep(ids[new], graphs, first[new])
        # kept_ids are sorted, so a lookup is a binary search.
        place = np.searchsorted(self.kept_ids, ids)[inverse]
        rows = self.kept_rows[place].astype(np.float32)
        ends = np.cumsum([*self.sizes.values()])
        parts = np.split(rows, ends[:-1], axis=1)
        groups = dict(zip(self.sizes, parts, strict=True))
        groups["nodes"] = neighbourhoods(self.sequence(graphs))
        return groups

    def _keep(
        self,
        ids: np.ndarray,
        graphs: GraphBatch,
        index: np.ndarray,
    ) -> None:
        """Compute the features of the architectures at `index`, which `ids` name, and keep them."""
        parts = [self.kept_rows]
        for start in range(0, len(index), CHUNK):
            some = torch.from_numpy(index[start : start + CHUNK])
            groups = self._compute(graphs[some])
            rows = np.concatenate([*groups.values()], 1)
            parts.append(rows.astype(np.float16))
        ids = np.concatenate([self.kept_ids, ids])
        order = np.argsort(ids)
        self.kept_ids = ids[order]
        self.kept_rows = np.concatenate(parts)[order]
        if len(index) >= WORTH_A_FILE:
            self._write_file()

    @property
    def path(self) -> Path:
        """The file in which the features are kept.

        Its name contains a digest of the reference's means and deviations, so other code or another space uses another
        file.
        """
        digest = hashlib.sha256()
        for name, standard in self.standard.items():
            mean = np.round(standard.mean, 4).tolist()
            deviation = np.round(standard.deviation, 4).tolist()
            digest.update(f"{name} {mean} {deviation}".encode())
        name = f"{digest.hexdigest()[:24]}.npz"
        return cache_directory() / "features" / name

    def _read_file(self) -> None:
        """Take what is on disk; a file that cannot be read is computed again."""
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                ids, rows = arrays["ids"], arrays["rows"]
        except Exception:  # a damaged file can raise anything
            return
        if rows.shape == (len(ids), self.kept_rows.shape[1]):
            self.kept_ids, self.kept_rows = ids, rows

    def _write_file(self) -> None:
        """A cache that cannot be written costs time and nothing else."""
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replaced(self.path) as temporary, temporary.open("wb") as file:
                np.savez(file, ids=self.kept_ids, rows=self.kept_rows)


@cache
def features_of(space: Any, graph_form: str) -> GraphKernelFeatures:
    """Return the features of a space, with a reference of sampled architectures that is always the same."""
    # One seed for all users of a space: the features are the same in every process and on every machine.
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(N_REFERENCE):
        architecture = space.sample(rng)
        drawn.append(space.canonical(architecture, graph_form))
    return GraphKernelFeatures(collate(drawn, space, graph_form))
