"""A layered layout of a small directed graph in which no edge crosses a node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from random import Random
from typing import Any

from hypernas.errors import UserError

# From a node to a later one.
Edge = tuple[int, int]
# Orders of the layers that are tried, and how often each is improved; cells have at most a few dozen nodes.
STARTS = 16
SWEEPS = 6


@dataclass(frozen=True)
class Layout:
    """`position[i] = (layer, height)` of node i; `route[i, j]` are the points of that edge, including its ends."""

    position: dict[int, tuple[float, float]]
    route: dict[Edge, tuple[tuple[float, float], ...]]


def layered(n: int, edges: Iterable[Edge]) -> Layout:
    """Place n nodes by longest path from a source; a long edge gets a place in each layer that it passes.

    Raise UserError if an edge does not lead from one of the n nodes to a later one.

    >>> layout = layered(3, [(0, 1), (1, 2), (0, 2)])
    >>> layout.position[1], layout.route[0, 2]
    ((1.0, 0.5), ((0.0, 0.0), (1.0, -0.5), (2.0, 0.0)))
    """
    edges = list(dict.fromkeys(edges))
    for i, j in edges:
        if not 0 <= i < j < n:
            raise UserError(f"an edge must go from a node to a later one of the {n}, got {i} -> {j}")
    layer = _depths(n, edges)
    # An edge over several layers passes a dummy (i, j, layer) in each, which keeps other nodes out of its way.
    chains: dict[Edge, list[Any]] = {}
    for i, j in edges:
        passed = [(i, j, k) for k in range(layer[i] + 1, layer[j])]
        chains[i, j] = [i, *passed, j]
    n_layers = max(layer, default=0) + 1
    rows: list[list[Any]] = [[] for _ in range(n_layers)]
    for i in range(n):
        rows[layer[i]].append(i)
    for (i, _), chain in chains.items():
        for k, dummy in enumerate(chain[1:-1], layer[i] + 1):
            rows[k].append(dummy)
    steps: list[tuple[Any, Any]] = []
    for chain in chains.values():
        steps += pairwise(chain)
    rows = _fewest_crossings(rows, steps)
    point: dict[Any, tuple[float, float]] = {}
    for x, row in enumerate(rows):
        middle = (len(row) - 1) / 2
        for y, item in enumerate(row):
            # Not -0.0, which a page would print.
            point[item] = float(x), middle - y + 0.0
    route = {}
    for edge, chain in chains.items():
        route[edge] = tuple(point[item] for item in chain)
    position = {i: point[i] for i in range(n)}
    return Layout(position, route)


def _depths(n: int, edges: Sequence[Edge]) -> list[int]:
    """The longest path to each node, in topological order; the last node gets a layer to itself."""
    depth = [0] * n
    for i, j in sorted(edges):
        depth[j] = max(depth[j], depth[i] + 1)
    if n > 1:
        deepest = max(depth[:-1])
        depth[-1] = max(depth[-1], deepest + 1)
    return depth


def _fewest_crossings(rows: list[list], steps: Sequence[tuple]) -> list[list]:
    """The best of several starts, each swept forth and back, a layer ordered by its neighbours' places."""
    best = rows
    fewest = _crossings(rows, steps)
    for start in range(STARTS):
        if not fewest:
            break
        # Seeds by number: a drawing is the same each time it is made.
        rows = [Random(start).sample(row, len(row)) for row in best]
        for sweep in range(SWEEPS):
            # A layer is ordered by the one before it on the way forth, by the one after it on the way back.
            if sweep % 2 == 0:
                pairs = [(k, k - 1) for k in range(1, len(rows))]
            else:
                pairs = [(k, k + 1) for k in reversed(range(len(rows) - 1))]
            for k, beside in pairs:
                rows[k] = _by_neighbours(rows[k], rows[beside], steps)
            crossings = _crossings(rows, steps)
            if crossings < fewest:
                best = list(rows)
                fewest = crossings
    return best


def _by_neighbours(
    row: Sequence,
    beside: Sequence,
    steps: Sequence[tuple],
) -> list:
    """`row` in the order of the mean place of each item's neighbours in the layer beside it."""
    place = {item: y for y, item in enumerate(beside)}
    neighbours: dict[Any, list[int]] = {item: [] for item in row}
    for a, b in steps:
        if b in neighbours and a in place:
            neighbours[b].append(place[a])
        if a in neighbours and b in place:
            neighbours[a].append(place[b])
    means = {}
    for y, item in enumerate(row):
        near = neighbours[item]
        # An item without neighbours there stays where it is.
        means[item] = sum(near) / len(near) if near else y
    return sorted(row, key=means.__getitem__)


def _crossings(rows: Sequence[Sequence], steps: Sequence[tuple]) -> int:
    """How many pairs of steps between the same two layers cross."""
    place = {}
    for x, row in enumerate(rows):
        for y, item in enumerate(row):
            place[item] = x, y
    crossings = 0
    # Of each layer the steps that begin there, as heights at both ends.
    layers: dict[int, list[tuple[int, int]]] = {}
    for start, end in steps:
        layer, height = place[start]
        _, height_after = place[end]
        layers.setdefault(layer, []).append((height, height_after))
    for heights in layers.values():
        for one, other in combinations(heights, 2):
            above_at_start = one[0] - other[0]
            above_at_end = one[1] - other[1]
            # Two steps cross where the one above at the start is below at the end.
            crossings += above_at_start * above_at_end < 0
    return crossings
