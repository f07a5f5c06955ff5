"""Hashes of many small labelled graphs at once, equal for isomorphic ones."""

from __future__ import annotations

import numpy as np

ROUNDS = 8


def function_ids(
    ops: np.ndarray,
    adjacency: np.ndarray,
    mask: np.ndarray,
    kind: np.ndarray,
    sequence: np.ndarray,
    *,
    chunk: int = 8192,
) -> np.ndarray:
    """Arrays of a GraphBatch -> int64 (B,), equal for architectures whose cells are isomorphic one by one.

    A sequence is hashed with the positions of its cells. Takes `chunk` architectures at a time, so memory is bounded.
    """
    position = np.arange(1, sequence.shape[1] + 1, dtype=np.uint64)
    parts = [np.empty(0, np.uint64)]
    for start in range(0, len(ops), chunk):
        rows = slice(start, start + chunk)
        b, u = kind[rows].shape
        kinds = np.uint64(64) * kind[rows].astype(np.uint64)[..., None]
        labels = (ops[rows].astype(np.uint64) + kinds).reshape(b * u, -1)
        edges = adjacency[rows].reshape(b * u, *adjacency.shape[2:])
        cells = cell_ids(labels, edges, mask[rows].reshape(b * u, -1)).reshape(b, u)
        stacked = np.take_along_axis(cells, sequence[rows].clip(0), axis=1)
        parts.append(mix(np.where(sequence[rows] >= 0, mix(stacked * position), np.uint64(0)).sum(1)))
    return np.concatenate(parts).view(np.int64)


def cell_ids(labels: np.ndarray, adjacency: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Labels (R, N) uint64, edge counts (R, N, N), mask (R, N) -> uint64 (R,), equal for isomorphic cells."""
    nodes = node_ids(labels, adjacency, mask)
    return mix(np.where(mask.T, mix(nodes), np.uint64(0)).sum(0))


def node_ids(labels: np.ndarray, adjacency: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """As `cell_ids` -> uint64 (N, R), equal for the nodes that an isomorphism of two cells maps to each other.

    Weisfeiler-Lehman refinement along and against the edges, as NAS-Bench-101 hashes its modules, with as many rounds
    as a cell has nodes and at least 8, so that padding changes nothing.
    """
    mask = np.ascontiguousarray(mask.T)
    edges = {(i, j): adjacency[:, i, j].astype(np.uint64) for i, j in zip(*np.nonzero(adjacency.any(0)), strict=True)}
    label, rounds = mix(np.ascontiguousarray(labels.T)), mask.sum(0).clip(ROUNDS)
    for done in range(rounds.max(initial=0)):
        label = np.where(mask, label, np.uint64(0))
        along, against = mix(label), mix(label ^ np.uint64(0x5BD1E995))
        from_inputs, from_outputs = np.zeros_like(label), np.zeros_like(label)
        for (i, j), count in edges.items():
            from_inputs[j] += count * along[i]
            from_outputs[i] += count * against[j]
        refined = mix(label + mix(from_inputs) + np.uint64(3) * mix(from_outputs + np.uint64(1)))
        label = np.where(done < rounds, refined, label)
    return label


def mix(x: np.ndarray) -> np.ndarray:
    """The splitmix64 finaliser: spreads every input bit over the 64 output bits."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
