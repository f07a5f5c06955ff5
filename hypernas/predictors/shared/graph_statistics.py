"""Numbers that describe a graph whatever the order of its nodes: operations, path lengths and degrees (GRAF)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, combinations

import numpy as np

from hypernas.graph import GraphBatch
from hypernas.predictors.shared.cell_columns import repeats, varying, with_cells

ALL_SUBSETS = 8


def subsets(operations: Iterable[int]) -> list[tuple[int, ...]]:
    """All non-empty sets of the operations; of more than 8 those of one, of two, and the whole set.

    >>> subsets([2, 3, 5])
    [(2,), (3,), (5,), (2, 3), (2, 5), (3, 5), (2, 3, 5)]
    """
    each = sorted(operations)
    sizes = range(1, len(each) + 1) if len(each) <= ALL_SUBSETS else (1, 2, len(each))
    return list(chain.from_iterable(combinations(each, size) for size in sizes))


class GraphStatistics:
    """The features of GRAF (Kadlecova et al. 2024) for the cells in which the training graphs differ.

    For each operation how many nodes have it, of inputs and outputs where that differs. For each set of the operations
    between, with the nodes of all others taken out: the shortest and the longest path from input to output, how many
    edges leave the inputs, how many enter the outputs, how many there are, and how many a node has on average. Inputs
    and outputs are the nodes whose operation never stands between two others in the training graphs. Parallel edges
    count as often as they are. `names` says what each feature is.

    What is ours: GRAF's operations sit on edges or nodes as the space has it, here they are always nodes; the number of
    times the network repeats a cell is a feature.
    """

    def __init__(self, graphs: GraphBatch) -> None:
        self.columns, self.far = varying(graphs), graphs.ops.shape[2]
        self.inner = [self._inner(graphs, u) for u in self.columns]
        self.outer = [self._outer(graphs, u, inner) for u, inner in zip(self.columns, self.inner, strict=True)]
        self.names = [name for each in zip(self.columns, self.inner, self.outer, strict=True) for name in _names(*each)]

    @staticmethod
    def _inner(graphs: GraphBatch, u: int) -> list[int]:
        """The operations that somewhere in a cell have both a node before and a node after them."""
        edges = graphs.adjacency[:, u] > 0
        between = edges.any(1) & edges.any(2)
        return sorted(set(graphs.ops[:, u][between].tolist()))

    @staticmethod
    def _outer(graphs: GraphBatch, u: int, inner: list[int]) -> list[int]:
        """The other operations that not all graphs have on equally many nodes."""
        ops = graphs.ops[:, u].masked_fill(~graphs.mask[:, u], -1)
        others = sorted({*ops.flatten().tolist()} - {-1, *inner})
        return [op for op in others if (ops == op).sum(1).unique().numel() > 1]

    def __call__(self, graphs: GraphBatch) -> np.ndarray:
        """The features (B, F), float32."""
        graphs = with_cells(graphs, self.columns)
        times = repeats(graphs).numpy()
        parts = []
        for u, inner, outer in zip(self.columns, self.inner, self.outer, strict=True):
            ops, mask = graphs.ops[:, u].numpy(), graphs.mask[:, u].numpy() & (times[:, u, None] > 0)
            edges = graphs.adjacency[:, u].numpy() * mask[:, :, None] * mask[:, None]
            parts += [times[:, u], *(((ops == op) & mask).sum(1) for op in [*inner, *outer])]
            end = mask & ~np.isin(ops, inner)
            for chosen in subsets(inner):
                parts += _of_a_set(edges, end, end | (mask & np.isin(ops, chosen)), self.far)
        return np.stack(parts, 1).astype(np.float32)


def _names(u: int, inner: list[int], outer: list[int]) -> list[str]:
    """Of the features of one cell."""
    of_a_set = ("shortest path", "longest path", "input degree", "output degree", "edges", "mean degree")
    names = ["repeats", *(f"nodes of {op}" for op in [*inner, *outer])]
    names += [f"{what} over {','.join(map(str, chosen))}" for chosen in subsets(inner) for what in of_a_set]
    return [f"cell {u}: {name}" for name in names]


def _of_a_set(edges: np.ndarray, end: np.ndarray, kept: np.ndarray, far: int) -> list[np.ndarray]:
    """Six features (B,) of the edge counts (B, N, N) between the nodes `kept`; inputs and outputs are among `end`.

    Without a path the shortest has `far` edges, more than any of the training graphs, and the longest has -1.
    """
    n = end.shape[1]
    source = end & ~edges.any(1)
    sink = end & ~edges.any(2) & ~source
    edges = edges * kept[:, :, None] * kept[:, None]
    shortest, longest = np.where(source, 0, far), np.where(source, 0, -n)
    for j in range(1, n):
        fed = edges[:, :j, j] > 0
        shortest[:, j] = np.minimum(shortest[:, j], np.where(fed, shortest[:, :j] + 1, far).min(1))
        longest[:, j] = np.maximum(longest[:, j], np.where(fed, longest[:, :j] + 1, -n).max(1))
    total = edges.sum((1, 2))
    return [
        np.where(sink, shortest, far).min(1),
        np.where(sink, longest, -1).max(1).clip(-1),
        (edges.sum(2) * source).sum(1),
        (edges.sum(1) * sink).sum(1),
        total,
        total / kept.sum(1).clip(1),
    ]
