"""Genotypes in the notation of DARTS (Liu et al. 2019): two cells, in which each node sums two operations."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hypernas.errors import UserError

# In the order of DARTS' code, without `none`, which no found cell has.
OPERATIONS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
# States that a cell gets, the two cells before it, and nodes that it makes.
INPUTS, NODES = 2, 4
# Two for each node.
EDGES = 2 * NODES
# The states whose channels are joined into the cell's output: all nodes.
CONCAT = range(INPUTS, INPUTS + NODES)
# In the order in which a genotype without names lists them.
FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")
# For sentences about what is none.
FORM = "Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), reduce=[...], reduce_concat=range(2, 6))"
# Operation, and the state that it reads.
Edge = tuple[str, int]


@dataclass(frozen=True)
class Genotype:
    """The edges (operation, state that it reads) of both cells: two for each of the nodes 2 to 5, in order.

    States 0 and 1 are the outputs of the two previous cells, the others are the nodes. The cell's output joins all four
    nodes. Raise UserError for a missing node, an unknown operation, or a state that does not precede its node.
    """

    normal: tuple[Edge, ...]
    reduce: tuple[Edge, ...]

    def __post_init__(self) -> None:
        _check("normal", self.normal)
        _check("reduce", self.reduce)

    def __str__(self) -> str:
        concat = f"range({CONCAT.start}, {CONCAT.stop})"
        normal, reduce = list(self.normal), list(self.reduce)
        return f"Genotype(normal={normal}, normal_concat={concat}, reduce={reduce}, reduce_concat={concat})"


def _check(name: str, edges: Sequence[Edge]) -> None:
    if len(edges) != EDGES:
        rule = f"{name} must list {EDGES} edges, two for each of the nodes {CONCAT[0]} to {CONCAT[-1]}"
        end = f"ends before node {INPUTS + len(edges) // 2} is whole" if len(edges) < EDGES else "goes on after it"
        raise UserError(f"{rule}, got {len(edges)}: the list {end}")
    for i in range(NODES):
        node, pair = INPUTS + i, edges[2 * i : 2 * i + 2]
        for operation, state in pair:
            if operation not in OPERATIONS:
                raise UserError(f"operation must be one of {', '.join(OPERATIONS)}, got {operation!r} in {name}")
            if not 0 <= state < node:
                raise UserError(f"node {node} must read states from 0 to {node - 1}, got {state} in {name}")
        if pair[0][1] == pair[1][1]:
            raise UserError(f"node {node} must read two different states, got {pair[0][1]} twice in {name}")


def parse(notation: Any) -> Genotype:
    """Return the genotype written in any of the usual ways; nothing is evaluated as code.

    Text: a genotype as DARTS prints it, inside any other text such as a training log, as long as all genotypes in it
    are the same; NumPy's `np.int64(0)` and `array([2, 3, 4, 5])` count as numbers and lists; or a JSON object. Objects:
    a `Genotype`, ours or another named tuple, or a dictionary with its fields. An edge list may be nested by node, as
    pt.darts writes it. Raise UserError for anything else.

    >>> edges = [(operation, i % 2) for i, operation in enumerate(["sep_conv_3x3", "skip_connect"] * 4)]
    >>> parse(f"FOUND = Genotype(normal={edges}, normal_concat=[2, 3, 4, 5], reduce={edges})").normal[:2]
    (('sep_conv_3x3', 0), ('skip_connect', 1))
    """
    if isinstance(notation, Genotype):
        return notation
    if isinstance(notation, str):
        return _of_json(notation) if notation.lstrip().startswith("{") else _of_text(notation)
    if isinstance(notation, tuple) and hasattr(notation, "_asdict"):
        notation = notation._asdict()
    if not isinstance(notation, Mapping):
        raise _no_genotype(notation)
    return _of_fields(notation)


class Source(str):
    """The text of a part of a genotype that is no list of plain values; nothing that is one equals it."""

    __slots__ = ()
    __repr__ = str.__str__


def _of_json(text: str) -> Genotype:
    try:
        notation = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _no_genotype(text) from error
    return parse(notation)


def _of_text(text: str) -> Genotype:
    """The one genotype in a text. Raises UserError where there are two different ones."""
    # A training log prints its genotype once an epoch.
    starts = [match.start() for match in re.finditer(r"\bGenotype\(", text)]
    if not starts:
        raise _no_genotype(text)
    genotypes = [_of_fields(_fields(text[start : _end(text, start)])) for start in starts]
    different = set(genotypes)
    if len(different) > 1:
        raise UserError(f"a text must hold one genotype, got {len(different)} different ones: give that of one epoch")
    return genotypes[0]


def _end(text: str, start: int) -> int:
    """Where the parenthesis closes that the first one after `start` opens; the end of the text where none does."""
    depth = 0
    for place in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0 and text[place] == ")":
            return place + 1
    return len(text)


def _of_fields(fields: Mapping[Any, Any]) -> Genotype:
    if not set(fields) <= set(FIELDS):
        raise _no_genotype(dict.fromkeys(fields, "..."))
    for name in ("normal", "reduce"):
        if name not in fields:
            raise UserError(f"a genotype must have the fields normal and reduce, as {FORM}, {name} is missing")
        concat = fields.get(f"{name}_concat", CONCAT)
        listed = list(concat) if isinstance(concat, (tuple, list, np.ndarray)) else concat
        if listed not in (list(CONCAT), CONCAT):
            raise UserError(f"{name}_concat must join the nodes {list(CONCAT)}, got {_short(repr(concat))}")
    return Genotype(_edges("normal", fields["normal"]), _edges("reduce", fields["reduce"]))


def _fields(text: str) -> dict[Any, Any]:
    """The arguments of the call in the text, by name."""
    text = text.strip()
    try:
        call = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _no_genotype(text) from error
    if not isinstance(call, ast.Call) or len(call.args) > len(FIELDS):
        raise _no_genotype(text)
    named = dict(zip(FIELDS, call.args, strict=False)) | {keyword.arg: keyword.value for keyword in call.keywords}
    if not set(named) <= set(FIELDS):
        raise _no_genotype(text)
    values = {}
    for name, node in named.items():
        try:
            values[name] = _plain(node)
        except (ValueError, TypeError, RecursionError, SyntaxError, MemoryError):
            values[name] = Source(ast.get_source_segment(text, node))
    return values


def _plain(node: ast.expr) -> Any:
    """The value of a literal, a range, and what NumPy prints for numbers and arrays. ValueError for others."""
    if isinstance(node, ast.List):
        return [_plain(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_plain(item) for item in node.elts)
    if not isinstance(node, ast.Call):
        return ast.literal_eval(node)
    name = ast.unparse(node.func).split(".")[-1]
    arguments = [_plain(argument) for argument in node.args]
    if name == "range" and not node.keywords:
        return range(*arguments)
    if name in ("array", "asarray", "list", "tuple", "int", "int64", "int32", "str_") and len(arguments) == 1:
        return arguments[0]
    raise ValueError(name)


def _edges(name: str, edges: Any) -> tuple[Edge, ...]:
    if not isinstance(edges, (list, tuple)):
        raise UserError(f"{name} must be a list of pairs like ('sep_conv_3x3', 0), got {_short(repr(edges))}")
    pairs: list[Any] = []
    for item in edges:
        # A node's two edges stand together where the list is nested.
        nested = isinstance(item, (list, tuple)) and len(item) > 0 and isinstance(item[0], (list, tuple))
        pairs += item if nested else [item]
    return tuple(_edge(name, pair) for pair in pairs)


def _edge(name: str, pair: Any) -> Edge:
    operation, state = pair if isinstance(pair, (list, tuple)) and len(pair) == 2 else (None, None)
    if not isinstance(operation, str) or not isinstance(state, (int, np.integer)) or isinstance(state, bool):
        raise UserError(f"an edge must be a pair like ('sep_conv_3x3', 0), got {_short(repr(pair))} in {name}")
    return str(operation), int(state)


def _no_genotype(notation: Any) -> UserError:
    return UserError(f"a genotype is written {FORM}, got {_short(repr(notation))}")


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:80]} ..."
