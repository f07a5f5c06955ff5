"""Many architectures in few bytes: those with the same graph share one copy of it. `js/4_pareto.js` unpacks them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hypernas.view.widgets.view import compact_json

# An operation is one letter of a point's text: its place here is its place among the operations.
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
# A unique cell, and the place of a node in it.
Node = tuple[int, int]


def _structure(drawing: Mapping[str, Any]) -> str:
    """Equal for drawings that differ in operations and notation only."""
    cells = drawing["cells"]
    operations = dict(drawing["operations"])
    # With more operations than digits nothing can be shared but by drawings that are equal.
    if len(operations) <= len(DIGITS):
        cells = [(cell["kind"], cell["position"], cell["edges"]) for cell in cells]
    return compact_json([cells, drawing["sequence"], operations])


def _template(notation: str, ops: Sequence[str]) -> str:
    """`notation` with a {} for each of `ops` in their order; as it is where they are not found in it.

    >>> _template("|skip~0|+|none~0|", ["skip", "none"])
    '|{}~0|+|{}~0|'
    """
    parts = []
    start = 0
    for op in ops:
        at = notation.find(op, start)
        if at < 0 or "{}" in notation:
            return notation
        parts.append(notation[start:at])
        start = at + len(op)
    return "{}".join([*parts, notation[start:]])


def _ops_at(drawing: Mapping[str, Any], nodes: Sequence[Node]) -> list[str]:
    return [drawing["cells"][u]["ops"][k] for u, k in nodes]


def pack(drawings: Mapping[int, Mapping[str, Any]], n: int) -> dict[str, Any]:
    """Pack drawings, given by the index of their point among n, as `graphs` and `drawn`: a short text a point, or 0."""
    groups: dict[str, list[int]] = {}
    for i, drawing in drawings.items():
        # Graphs that differ in operations alone are one template and a short text each.
        groups.setdefault(_structure(drawing), []).append(i)
    graphs: list[dict[str, Any]] = []
    drawn: list[str | int] = [0] * n
    for g, members in enumerate(groups.values()):
        first = drawings[members[0]]
        alike = {i: drawings[i] for i in members}
        varying = _varying_nodes(alike)
        names = list(first["operations"])
        templates: dict[str, int] = {}
        for i, drawing in alike.items():
            ops = _ops_at(drawing, varying)
            template = _template(drawing.get("notation", ""), ops)
            t = templates.setdefault(template, len(templates))
            # The first graph and its first template are named by nothing: most points have them.
            where = f":{g}:{t}" if g or t else ""
            digits = [DIGITS[names.index(op)] for op in ops]
            drawn[i] = "".join(digits) + where
        graph = {
            "operations": first["operations"],
            "cells": first["cells"],
            "sequence": first["sequence"],
            "vary": varying,
            "templates": list(templates),
        }
        graphs.append(graph)
    return {"graphs": graphs, "drawn": drawn}


def _varying_nodes(drawings: Mapping[int, Mapping[str, Any]]) -> list[Node]:
    """The nodes (cell, place) whose operation is not the same in all drawings of one structure."""
    first = next(iter(drawings.values()))
    varying = []
    for u, cell in enumerate(first["cells"]):
        for k in range(len(cell["ops"])):
            ops = {drawing["cells"][u]["ops"][k] for drawing in drawings.values()}
            if len(ops) > 1:
                varying.append((u, k))
    return varying


def pack_within(
    drawings: Mapping[int, Mapping[str, Any]],
    n: int,
    limit: int,
) -> dict[str, Any]:
    """Same as `pack`, for as many drawings, in order, as fit into `limit` bytes."""
    pairs = list(drawings.items())
    while pairs:
        packed = pack(dict(pairs), n)
        if len(compact_json(packed)) <= limit:
            return packed
        # To pack is slow enough that one drawing less at a time would be felt.
        keep = len(pairs) * 4 // 5
        pairs = pairs[:keep]
    return {}
