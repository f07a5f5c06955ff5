"""Cells of six edges between four nodes with an operation on each (Dong & Yang 2020): graph, notation, layers."""

from __future__ import annotations

import re

import numpy as np

from hypernas.errors import UserError
from hypernas.graph import REDUCTION, Cell, simplify
from hypernas.method.target_network import ProgramWriter

OPS = ("input", "output", "none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
INPUT, OUTPUT, NONE, SKIP, CONV1, CONV3, POOL = range(7)
NODES = len(EDGES) + 2


def _edge_graph() -> np.ndarray:
    """The raw adjacency (8, 8): input, one node an edge, output; edge i->j feeds every edge j->k."""
    adjacency = np.zeros((NODES, NODES), np.int64)
    for a, (i, j) in enumerate(EDGES):
        adjacency[0, 1 + a] = i == 0
        adjacency[1 + a, 7] = j == 3
        for b, (k, _) in enumerate(EDGES):
            adjacency[1 + a, 1 + b] = k == j
    return adjacency


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
    """Operations (B, 6) of the edges, ids into `OPS` -> ops (B, 8), adjacency (B, 8, 8), mask (B, 8) of the cells."""
    b = len(edge_ops)
    nodes = np.concatenate([np.full((b, 1), INPUT), edge_ops, np.full((b, 1), OUTPUT)], 1).astype(np.int64)
    return simplify(nodes, np.broadcast_to(RAW, (b, NODES, NODES)), NONE, SKIP, graph_form)


def parse_cell(notation: str, space: str) -> np.ndarray:
    """`|nor_conv_3x3~0|+|none~0|skip_connect~1|+|...|` -> operations (6,). UserError that names the `space`."""
    found = re.findall(r"\|([^|~]+)~(\d)", notation)
    if [int(i) for _, i in found] != [i for i, _ in EDGES]:
        raise UserError(f"a {space} cell lists 6 edges as |op~0|+|op~0|op~1|+|op~0|op~1|op~2|, got {notation!r}")
    for op, _ in found:
        if op not in OPS[NONE:]:
            raise UserError(f"operation must be one of {', '.join(OPS[NONE:])}, got {op!r}")
    edge_ops = np.array([OPS.index(op) for op, _ in found])
    if format_cell(edge_ops) != notation.strip():
        raise UserError(f"a {space} cell is written {format_cell(edge_ops)}, got {notation!r}")
    return edge_ops


def format_cell(edge_ops: np.ndarray) -> str:
    """Operations (6,) of the edges -> the notation."""
    name = [f"{OPS[op]}~{i}" for op, (i, _) in zip(edge_ops, EDGES, strict=True)]
    return f"|{name[0]}|+|{name[1]}|{name[2]}|+|{name[3]}|{name[4]}|{name[5]}|"


def read_cell(cell: Cell, space: str) -> np.ndarray:
    """The operations (6,) of a cell in raw form. Raises UserError for another one."""
    if not np.array_equal(cell.adjacency, RAW) or min(cell.ops[1:7]) < NONE:
        raise UserError(f"a {space} architecture without notation must be in raw form, got other nodes or edges")
    return np.array(cell.ops[1:7])


def change_edge(edge_ops: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The operations (6,), one of them another one."""
    changed = edge_ops.copy()
    edge, shift = rng.integers(6), rng.integers(1, 5)
    changed[edge] = NONE + (changed[edge] - NONE + shift) % 5
    return changed


def write_cell(writer: ProgramWriter, cell: Cell, position: int, x: int, c_in: int, c_out: int) -> int:
    """Write the cell at a position of the sequence; it reads value `x`, and a node sums what its edges carry."""
    values: list[tuple[int, ...]] = [()] * len(cell.ops)
    stride = 2 if cell.kind == REDUCTION else 1
    for node, op in enumerate(cell.ops):
        inputs = tuple(v for i in range(node) for v in values[i] * cell.adjacency[i][node] if cell.adjacency[i][node])
        from_input = cell.kind == REDUCTION and cell.adjacency[0][node]
        width, step = (c_in, stride) if from_input else (c_out, 1)
        if op == INPUT:
            values[node] = (x,)
        elif not inputs or op == NONE:
            values[node] = ()
        elif op in (SKIP, OUTPUT):
            values[node] = inputs
        elif op == POOL and cell.kind == REDUCTION:
            values[node] = (writer.pool(inputs, width, kernel=2, stride=2, padding=0),)
        elif op == POOL:
            values[node] = (writer.pool(inputs, width, kernel=3, stride=1, padding=1),)
        elif op == CONV1 and cell.kind == REDUCTION:
            values[node] = (writer.conv(inputs, c_in, c_out, 1, 1, (position, node), relu=False, norm=False),)
        else:
            kernel = 3 if op == CONV3 else 1
            values[node] = (writer.conv(inputs, width, c_out, kernel, step, (position, node)),)
    return writer.add(values[-1], c_out) if values[-1] else writer.zero(x, c_out)
