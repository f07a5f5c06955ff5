"""Architectures as plain dicts with positions and colours, which `hypernas.view.widgets` draws."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from itertools import cycle, product
from math import prod
from typing import Any

from hypernas.errors import UserError
from hypernas.graph import REDUCTION, Architecture, Cell
from hypernas.method.target_network import Program
from hypernas.spaces.base import SearchSpace
from hypernas.spaces.programs import map_sizes
from hypernas.view.layered import Layout, layered

# The first part that a name contains gives its colour: convolutions from light to dark with their kernel.
OPERATION_COLOURS = (
    ("none", "#FFFFFF"), ("skip", "#E4E4E4"), ("pool", "#F6C667"), ("1x1", "#A9D6F5"), ("sep", "#9ED9C3"),
    ("dil", "#E5B5CF"), ("3x3", "#6FB2DC"), ("5x5", "#58B99A"), ("7x7", "#E08A55"),
)  # fmt: skip
# For operations without such a part.
OTHERS = ("#D9C7EC", "#C9E2B3", "#F7C9C0", "#BFE3E0", "#F1E3A0", "#D7D2C8", "#B9CBEA", "#EAD0A8")
# The ground of nodes without a colour, such as input and output.
NO_COLOUR = "#F2F2F2"


def colours(space: SearchSpace) -> dict[str, str]:
    """Return operation -> colour for every operation of the space."""
    named = {}
    for op in space.ops:
        named[op] = next((colour for part, colour in OPERATION_COLOURS if part in op), NO_COLOUR)
    ends = ("input", "output")
    without = [op for op, colour in named.items() if colour == NO_COLOUR and op not in ends]
    # A space with more operations than colours repeats them: a node has its name as well.
    return named | dict(zip(without, cycle(OTHERS)))


@lru_cache(maxsize=4096)
def _layout(n: int, edges: tuple[tuple[int, int], ...]) -> Layout:
    return layered(n, edges)


def _cell(cell: Cell, ops: tuple[str, ...]) -> dict[str, Any]:
    """`edges` are [from, to], [from, to, count] or [from, to, count, places passed between the ends]."""
    for op in cell.ops:
        if not 0 <= op < len(ops):
            raise UserError(f"operation must be from 0 to {len(ops) - 1}, got {op}")
    n = len(cell.ops)
    counts = {}
    for i, j in product(range(n), repeat=2):
        if cell.adjacency[i][j]:
            counts[i, j] = cell.adjacency[i][j]
    layout = _layout(n, tuple(counts))
    edges: list[list[Any]] = []
    for (i, j), count in counts.items():
        # Short for the page: count and places are sent where they say something.
        edge: list[Any] = [i, j]
        _, *between, _ = layout.route[i, j]
        if between:
            edge += [count, [list(point) for point in between]]
        elif count > 1:
            edge.append(count)
        edges.append(edge)
    return {
        "kind": "reduction" if cell.kind == REDUCTION else "normal",
        "ops": [ops[op] for op in cell.ops],
        "position": [list(layout.position[i]) for i in range(n)],
        "edges": edges,
    }


def _details(
    architecture: Architecture,
    program: Program,
    image_size: int,
) -> dict[str, Any]:
    """[channels, height, width, parameters] of every node with weights, by position; equal positions are kept once."""
    sizes = map_sizes(program, image_size, image_size)
    weighted: dict[tuple[int, ...], list[list[int]]] = {}
    for value, layer in enumerate(program.layers, 1):
        if layer.weight is None:
            continue
        shape = [layer.c_out, *sizes[value], prod(layer.weight_shape)]
        # A node can be several layers, as a separable convolution is.
        position_and_node = layer.weight[:2]
        weighted.setdefault(position_and_node, []).append(shape)
    table: list[list[list[int] | None]] = []
    rows = []
    for position, u in enumerate(architecture.sequence):
        row: list[list[int] | None] = []
        for node in range(len(architecture.cells[u].ops)):
            layers = weighted.get((position, node))
            if layers is None:
                row.append(None)
                continue
            channels, height, width, _ = layers[-1]
            row.append([channels, height, width, sum(parameters for *_, parameters in layers)])
        if row not in table:
            table.append(row)
        rows.append(table.index(row))
    return {"rows": rows, "table": table}


def drawing(
    architecture: Architecture,
    space: SearchSpace,
    title: str = "",
    program: Program | None = None,
    image_size: int = 32,
) -> dict[str, Any]:
    """Return an architecture as a dict of plain values: coloured operations, positioned cells, sequence, notation.

    With a `program` from `space.build`, each node with weights also has the shape of its output on square images of
    `image_size` pixels and the number of its generated weights.
    """
    view: dict[str, Any] = {
        "space": space.name,
        "operations": colours(space),
        "cells": [_cell(cell, space.ops) for cell in architecture.cells],
        "sequence": list(architecture.sequence),
    }
    optional: Mapping[str, Any] = {"notation": architecture.notation, "title": title}
    view |= {name: value for name, value in optional.items() if value}
    if program is not None:
        view["details"] = _details(architecture, program, image_size)
    return view
