"""A layered layout of a small directed graph in which no edge crosses a node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from hypernas.errors import UserError

Edge = tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """`position[i] = (layer, height)` of node i; `route[i, j]`: the points of that edge, with its ends."""

    position: dict[int, tuple[float, float]]
    route: dict[Edge, tuple[tuple[float, float], ...]]


def layered(n: int, edges: Iterable[Edge]) -> Layout:
    """Place n nodes by longest path from a source; a long edge gets a place in each layer it passes.

    UserError where an edge does not go from a node to a later one of the n.

    >>> layout = layered(3, [(0, 1), (1, 2), (0, 2)])
    >>> layout.position[1], layout.route[0, 2]
    ((1.0, 0.5), ((0.0, 0.0), (1.0, -0.5), (2.0, 0.0)))
    """
    edges = list(dict.fromkeys(edges))
    for i, j in edges:
        if not 0 <= i < j < n:
            raise UserError(f"an edge must go from a node to a later one of the {n}, got {i} -> {j}")
    layer = _depths(n, edges)
    chains = {(i, j): [i, *((i, j, k) for k in range(layer[i] + 1, layer[j])), j] for i, j in edges}
    rows: list[list] = [[] for _ in range(max(layer, default=0) + 1)]
    for i in range(n):
        rows[layer[i]].append(i)
    for (i, _), chain in chains.items():
        for k, dummy in enumerate(chain[1:-1], layer[i] + 1):
            rows[k].append(dummy)
    steps = [step for chain in chains.values() for step in pairwise(chain)]
    rows = _fewest_crossings(rows, steps)
    point = {}
    for x, row in enumerate(rows):
        for y, item in enumerate(row):
            point[item] = float(x), (len(row) - 1) / 2 - y + 0.0
    route = {edge: tuple(point[item] for item in chain) for edge, chain in chains.items()}
    return Layout({i: point[i] for i in range(n)}, route)


def _depths(n: int, edges: Sequence[Edge]) -> list[int]:
    """The longest path to each node, in topological order; the last node gets a layer to itself."""
    depth = [0] * n
    for i, j in sorted(edges):
        depth[j] = max(depth[j], depth[i] + 1)
    if n > 1:
        depth[-1] = max(depth[-1], max(depth[:-1]) + 1)
    return depth


def _fewest_crossings(rows: list[list], steps: Sequence[tuple]) -> list[list]:
    """The best of several starts, each swept forth and back, a layer ordered by its neighbours' places."""
    best, fewest = rows, _crossings(rows, steps)
    for start in range(16):
        rows = [Random(start).sample(row, len(row)) for row in best]
        for sweep in range(6):
            forth = sweep % 2 == 0
            for k in range(1, len(rows)) if forth else range(len(rows) - 2, -1, -1):
                rows[k] = _by_neighbours(rows[k], rows[k - 1 if forth else k + 1], steps)
            crossings = _crossings(rows, steps)
            if crossings < fewest:
                best, fewest = list(rows), crossings
    return best


def _by_neighbours(row: Sequence, beside: Sequence, steps: Sequence[tuple]) -> list:
    """`row` in the order of the mean place of each item's neighbours in the layer beside it."""
    place = {item: y for y, item in enumerate(beside)}
    means = {}
    for y, item in enumerate(row):
        near = [place[a] for a, b in steps if b == item and a in place]
        near += [place[b] for a, b in steps if a == item and b in place]
        means[item] = sum(near) / len(near) if near else y
    return sorted(row, key=means.__getitem__)


def _crossings(rows: Sequence[Sequence], steps: Sequence[tuple]) -> int:
    """How many pairs of steps between the same two layers cross."""
    place = {item: (x, y) for x, row in enumerate(rows) for y, item in enumerate(row)}
    ends = [(*place[a], place[b][1]) for a, b in steps]
    return sum(x == x2 and (y - y2) * (z - z2) < 0 for k, (x, y, z) in enumerate(ends) for x2, y2, z2 in ends[:k])
