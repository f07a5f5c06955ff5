"""What a cell computes: simplified graphs, and hashes that are equal for isomorphic graphs.

Everything works on arrays of many small graphs at once, because a table has up to 423,624 of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import uint64

from hypernas.errors import UserError

# From what a user wrote to what a network computes; the order matters: a later form can be made of an earlier one.
GRAPH_FORMS = ("raw", "pruned", "contracted")
# Refinements of a node's label at least, enough for cells of up to 8 nodes; a larger cell has one a node.
ROUNDS = 8
# Architectures hashed at once, so that memory is bounded.
CHUNK = 8192
# Odd numbers without a meaning: they keep a node's label as a source apart from the same label as a target, ...
AGAINST = uint64(0x5BD1E995)
# ... and the sum over targets apart from the sum over sources.
TARGETS = uint64(3)
# Above any operation's number, so that a label says the kind of its cell too.
KIND = uint64(64)


def check_graph_form(graph_form: Any) -> None:
    """Raise UserError if `graph_form` is not one of `GRAPH_FORMS`."""
    if not isinstance(graph_form, str) or graph_form not in GRAPH_FORMS:
        raise UserError(f"graph_form must be one of {', '.join(GRAPH_FORMS)}, got {graph_form!r:.80}")


def simplify(
    ops: np.ndarray,
    adjacency: np.ndarray,
    zero: int | None,
    skip: int | None,
    graph_form: str,
    n_inputs: int = 1,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return cells (B, N), (B, N, N) reduced to what they compute. The first nodes are inputs, the last is the output.

    `pruned` drops `zero` operations and every node that lies on no path from an input to the output. `contracted` also
    replaces each `skip` node by edges from its inputs to its outputs, counted, so that the sum that a node receives
    stays the same. Remaining nodes move to the front. Returns `ops`, `adjacency`, `mask` (B, N).
    """
    check_graph_form(graph_form)
    alive = np.ones(ops.shape, bool)
    if graph_form != "raw":
        if zero is not None:
            alive = ops != zero
        edges = _between(adjacency, alive) > 0
        alive &= _on_a_path(edges, n_inputs)
        # A network without a path still has its inputs and its output.
        alive[:, :n_inputs] = True
        alive[:, -1] = True
    # Of a raw graph all nodes are alive, and this changes nothing.
    adjacency = _between(adjacency, alive)
    if graph_form == "contracted" and skip is not None:
        skips = alive & (ops == skip)
        alive = alive & ~skips
        adjacency = _between(_through(adjacency, skips), alive)
    # A stable sort keeps the nodes that stay in topological order.
    order = np.argsort(~alive, axis=1, kind="stable")
    # Indexing with (rows, order) moves every graph's nodes by its own order at once.
    rows = np.arange(len(ops))[:, None]
    alive = alive[rows, order]
    ops = np.where(alive, ops[rows, order], 0)
    adjacency = np.take_along_axis(adjacency, order[:, :, None], axis=1)
    adjacency = np.take_along_axis(adjacency, order[:, None, :], axis=2)
    return ops, adjacency.astype(np.uint8), alive


def _between(adjacency: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """The edges (B, N, N) of which both ends are alive (B, N)."""
    return adjacency * alive[:, :, None] * alive[:, None, :]


def _on_a_path(edges: np.ndarray, n_inputs: int) -> np.ndarray:
    """Edges (B, N, N) -> which nodes (B, N) an input reaches and reach the output."""
    b, n, _ = edges.shape
    forward = np.zeros((b, n), bool)
    forward[:, :n_inputs] = True
    backward = np.zeros((b, n), bool)
    backward[:, -1] = True
    # No path is longer than the nodes are many.
    for _ in range(n):
        leaving = edges & forward[:, :, None]
        forward |= leaving.any(1)
        entering = edges & backward[:, None, :]
        backward |= entering.any(2)
    return forward & backward


def _through(adjacency: np.ndarray, skips: np.ndarray) -> np.ndarray:
    """Edge counts (B, N, N) with those of every path added whose inner nodes are all `skips` (B, N)."""
    total = adjacency.astype(np.int64)
    into_skips = adjacency * skips[:, None, :]
    for _ in range(skips.shape[1]):
        longer = np.matmul(into_skips, adjacency)
        # Each round adds the paths with one skip more; an adjacency without cycles runs out of them after N rounds.
        total = total + longer
        into_skips = longer * skips[:, None, :]
    return total


def function_ids(
    ops: np.ndarray,
    adjacency: np.ndarray,
    mask: np.ndarray,
    kind: np.ndarray,
    sequence: np.ndarray,
    *,
    chunk: int = CHUNK,
) -> np.ndarray:
    """Return an int64 (B,) for the arrays of a GraphBatch, equal for architectures whose cells are pairwise isomorphic.

    The hash of a sequence includes the position of each cell. `chunk` architectures are processed at a time.
    """
    # From 1 up: a cell at position 0 would be multiplied away.
    position = np.arange(1, sequence.shape[1] + 1, dtype=uint64)
    parts = [np.empty(0, uint64)]
    for start in range(0, len(ops), chunk):
        rows = slice(start, start + chunk)
        cells = _cells_of(ops[rows], adjacency[rows], mask[rows], kind[rows])
        order = sequence[rows]
        stacked = np.take_along_axis(cells, order.clip(0), axis=1)
        placed = mix(stacked * position)
        # Padding adds nothing, so that the batch an architecture comes in does not change its hash.
        placed[order < 0] = 0
        # uint64 sums wrap around, which for a hash is as good as any other sum.
        parts.append(mix(placed.sum(1)))
    return np.concatenate(parts).view(np.int64)


def _cells_of(
    ops: np.ndarray,
    adjacency: np.ndarray,
    mask: np.ndarray,
    kind: np.ndarray,
) -> np.ndarray:
    """Arrays of a GraphBatch -> uint64 (B, U), the hash of each unique cell and its kind, equal for isomorphic ones."""
    b, u, n = ops.shape
    kinds = KIND * kind.astype(uint64)
    labels = ops.astype(uint64) + kinds[..., None]
    mask = mask.reshape(b * u, n)
    nodes = node_ids(labels.reshape(b * u, n), adjacency.reshape(b * u, n, n), mask)
    cells = mix(np.where(mask.T, mix(nodes), uint64(0)).sum(0))
    return cells.reshape(b, u)


def node_ids(
    labels: np.ndarray,
    adjacency: np.ndarray,
    mask: np.ndarray,
) -> np.ndarray:
    """Labels (R, N) uint64, edge counts (R, N, N), mask (R, N) -> uint64 (N, R), equal for isomorphic nodes.

    Uses Weisfeiler-Lehman refinement along and against the edges, as NAS-Bench-101 does to hash its modules. The number
    of rounds is the number of nodes, but at least 8, so that padding changes nothing.
    """
    # Nodes lead: an edge then reads and writes whole rows of memory, one value a graph.
    mask = np.ascontiguousarray(mask.T)
    label = mix(np.ascontiguousarray(labels.T))
    rounds = mask.sum(0).clip(ROUNDS)
    edges = {}
    for i, j in zip(*np.nonzero(adjacency.any(0)), strict=True):
        edges[i, j] = adjacency[:, i, j].astype(uint64)
    for done in range(rounds.max(initial=0)):
        # An absent node keeps the label 0 in every round: it has no edges, and nothing of it counts.
        label = np.where(mask, label, uint64(0))
        along = mix(label)
        against = mix(label ^ AGAINST)
        from_inputs = np.zeros_like(label)
        from_outputs = np.zeros_like(label)
        for (i, j), count in edges.items():
            from_inputs[j] += count * along[i]
            from_outputs[i] += count * against[j]
        # Each sum is mixed before they are added: a label could else trade with a sum, and unlike nodes would be equal.
        refined = mix(label + mix(from_inputs) + TARGETS * mix(from_outputs + uint64(1)))
        label = np.where(done < rounds, refined, label)
    return label


def mix(x: np.ndarray) -> np.ndarray:
    """Apply the splitmix64 finaliser, which spreads every input bit over the 64 output bits."""
    x = (x ^ (x >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> uint64(27))) * uint64(0x94D049BB133111EB)
    return x ^ (x >> uint64(31))
