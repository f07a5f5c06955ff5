"""Many architectures in few bytes: what those of one graph share is sent once. `js/4_pareto.js` unpacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hypernas.view.widgets.view import compact_json

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
Node = tuple[int, int]


def _structure(drawing: Mapping[str, Any]) -> str:
    """Equal for drawings that differ in operations and notation only."""
    cells = [{name: cell[name] for name in ("kind", "position", "edges")} for cell in drawing["cells"]]
    operations = dict(drawing["operations"])
    few = len(operations) <= len(DIGITS)
    return compact_json([cells, drawing["sequence"], operations, None if few else drawing["cells"]])


def _template(notation: str, ops: Sequence[str]) -> str:
    """`notation` with a {} for each of `ops` in their order; as it is where they are not found in it.

    >>> _template("|skip~0|+|none~0|", ["skip", "none"])
    '|{}~0|+|{}~0|'
    """
    parts, start = [], 0
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
    """Drawings by the number of their point, of n -> `graphs`, and `drawn`: a short text a point, or 0."""
    groups: dict[str, list[int]] = {}
    for i, drawing in drawings.items():
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
            drawn[i] = "".join(DIGITS[names.index(op)] for op in ops) + where
        graph = {name: first[name] for name in ("operations", "cells", "sequence")}
        graphs.append(graph | {"vary": varying, "templates": list(templates)})
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


def pack_within(drawings: Mapping[int, Mapping[str, Any]], n: int, limit: int) -> dict[str, Any]:
    """As `pack`, with as many of the drawings, in their order, as `limit` bytes hold."""
    keep = len(drawings)
    while keep:
        packed = pack(dict(list(drawings.items())[:keep]), n)
        if len(compact_json(packed)) <= limit:
            return packed
        keep = keep * 4 // 5
    return {}
