"""Cells with an operation on each of six edges between four nodes (Dong & Yang 2020): graph, notation, layers."""

from __future__ import annotations

import re

import numpy as np

from hypernas.canonical import simplify
from hypernas.errors import UserError
from hypernas.graph import REDUCTION, Cell
from hypernas.spaces.base import check_operation
from hypernas.spaces.programs import ProgramWriter

# Operations of the graph's nodes; from `none` on they are what an edge of the published cell can be.
OPS = ("input", "output", "none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
# (source, target) of each edge, in the order in which NAS-Bench-201 writes them.
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
INPUT, OUTPUT, NONE, SKIP, CONV1, CONV3, POOL = range(7)
# Input, a node for each edge, output.
NODES = len(EDGES) + 2


def _edge_graph() -> np.ndarray:
    """The raw adjacency (8, 8): input, one node an edge, output; edge i->j feeds every edge j->k."""
    adjacency = np.zeros((NODES, NODES), np.int64)
    for node, (source, target) in enumerate(EDGES, 1):
        adjacency[0, node] = source == 0
        adjacency[node, NODES - 1] = target == 3
        for later, (other_source, _) in enumerate(EDGES, 1):
            adjacency[node, later] = other_source == target
    return adjacency


# All raw cells share their edges; they differ in operations alone.
RAW = _edge_graph()

# ResNet basic block with stride 2: input -> conv3x3 -> conv3x3 -> output, input -> average pool -> conv1x1 -> output.
REDUCTION_CELL = Cell(
    ops=(INPUT, CONV3, CONV3, POOL, CONV1, OUTPUT),
    adjacency=(
        (0, 1, 0, 1, 0, 0),
        (0, 0, 1, 0, 0, 0),
        (0, 0, 0, 0, 0, 1),
        (0, 0, 0, 0, 1, 0),
        (0, 0, 0, 0, 0, 1),
        (0, 0, 0, 0, 0, 0),
    ),
    kind=REDUCTION,
)


def cell_graphs(edge_ops: np.ndarray, graph_form: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the cells as ops (B, 8), adjacency (B, 8, 8), mask (B, 8).

    `edge_ops` (B, 6) are the operations of the edges, ids into `OPS`.
    """
    b = len(edge_ops)
    nodes = np.empty((b, NODES), np.int64)
    nodes[:, 0] = INPUT
    nodes[:, 1:-1] = edge_ops
    nodes[:, -1] = OUTPUT
    adjacency = np.broadcast_to(RAW, (b, NODES, NODES))
    return simplify(nodes, adjacency, NONE, SKIP, graph_form)


def parse_cell(notation: str, space: str) -> np.ndarray:
    """`|nor_conv_3x3~0|+|none~0|skip_connect~1|+|...|` -> operations (6,); the last bar may be missing.

    Raise UserError, naming the `space`, if the notation is wrong.
    """
    text = notation.strip()
    # Some lists lose the last bar.
    text += "" if text.endswith("|") else "|"
    edges = re.findall(r"\|([^|~]+)~(\d)", text)
    sources = [int(source) for _, source in edges]
    if sources != [source for source, _ in EDGES]:
        raise UserError(f"a {space} cell lists 6 edges as |op~0|+|op~0|op~1|+|op~0|op~1|op~2|, got {notation!r}")
    for op, _ in edges:
        check_operation(op, OPS[NONE:])
    edge_ops = np.array([OPS.index(op) for op, _ in edges])
    if format_cell(edge_ops) != text:
        raise UserError(f"a {space} cell is written {format_cell(edge_ops)}, got {notation!r}")
    return edge_ops


def format_cell(edge_ops: np.ndarray) -> str:
    """Return the notation of the operations (6,) of the edges."""
    into: dict[int, list[str]] = {}
    for op, (source, target) in zip(edge_ops, EDGES, strict=True):
        into.setdefault(target, []).append(f"{OPS[op]}~{source}")
    nodes = ["|".join(edges) for edges in into.values()]
    return "+".join(f"|{edges}|" for edges in nodes)


def read_cell(cell: Cell, space: str) -> np.ndarray:
    """Return the operations (6,) of a cell in raw form. Raise UserError for any other cell."""
    if not np.array_equal(cell.adjacency, RAW) or min(cell.ops[1:7]) < NONE:
        raise UserError(f"a {space} architecture without notation must be in raw form, got other nodes or edges")
    return np.array(cell.ops[1:7])


def change_edge(edge_ops: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the operations (6,) with one of them changed."""
    changed = edge_ops.copy()
    edge = rng.integers(6)
    # 1 to 4 places around the five operations: never back to the same.
    shift = rng.integers(1, 5)
    changed[edge] = NONE + (changed[edge] - NONE + shift) % 5
    return changed


def write_cell(
    writer: ProgramWriter,
    cell: Cell,
    position: int,
    x: int,
    c_in: int,
    c_out: int,
) -> int:
    """Write the cell at a position of the sequence. It reads value `x`, and each node sums the outputs of its edges."""
    # Of each node the values that it hands on: none where nothing flows, several where it adds nothing itself.
    values: list[tuple[int, ...]] = [()] * len(cell.ops)
    reduces = cell.kind == REDUCTION
    for node, op in enumerate(cell.ops):
        inputs: tuple[int, ...] = ()
        for source in range(node):
            inputs += values[source] * cell.adjacency[source][node]
        first = reduces and cell.adjacency[0][node]
        width = c_in if first else c_out
        key = (position, node)
        if op == INPUT:
            values[node] = (x,)
        elif not inputs or op == NONE:
            values[node] = ()
        elif op in (SKIP, OUTPUT):
            values[node] = inputs
        elif op == POOL:
            window = (2, 2, 0) if reduces else (3, 1, 1)
            values[node] = (writer.pool(inputs, width, *window),)
        elif op == CONV1 and reduces:
            values[node] = (writer.conv(inputs, c_in, c_out, 1, 1, key, relu=False, norm=False),)
        else:
            kernel = 3 if op == CONV3 else 1
            stride = 2 if first else 1
            values[node] = (writer.conv(inputs, width, c_out, kernel, stride, key),)
    output = values[-1]
    return writer.add(output, c_out) if output else writer.plain("zero", x, c_out)
