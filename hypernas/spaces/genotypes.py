"""Genotypes in the notation of DARTS (Liu et al. 2019): two cells, each node a sum of two operations."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass

from hypernas.errors import UserError

OPERATIONS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
INPUTS, NODES = 2, 4
EDGES = 2 * NODES
CONCAT = range(INPUTS, INPUTS + NODES)
FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")
FORM = "Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), reduce=[...], reduce_concat=range(2, 6))"
Edge = tuple[str, int]


@dataclass(frozen=True)
class Genotype:
    """The edges (operation, state that it reads) of both cells, two for each of the nodes 2 to 5 in order.

    States 0 and 1 are the outputs of the two cells before, the others are the nodes; the cell's output joins all four
    nodes. Raises UserError for a missing node, an unknown operation, and a state that is not before its node.
    """

    normal: tuple[Edge, ...]
    reduce: tuple[Edge, ...]

    def __post_init__(self) -> None:
        for name in ("normal", "reduce"):
            _check(name, getattr(self, name))

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


def parse(text: str) -> Genotype:
    """The genotype in a text such as DARTS prints it, whatever stands before it on the line; nothing is evaluated.

    UserError for any other text.

    >>> edges = [(operation, i % 2) for i, operation in enumerate(["sep_conv_3x3", "skip_connect"] * 4)]
    >>> parse(f"FOUND = Genotype(normal={edges}, normal_concat=[2, 3, 4, 5], reduce={edges})").normal[:2]
    (('sep_conv_3x3', 0), ('skip_connect', 1))
    """
    fields = _fields(text)
    for name in ("normal", "reduce"):
        if name not in fields:
            raise UserError(f"a genotype must have the fields normal and reduce, as {FORM}, {name} is missing")
        concat = fields.get(f"{name}_concat")
        if concat is not None and _literal(concat) != list(CONCAT):
            raise UserError(f"{name}_concat must join the nodes {list(CONCAT)}, got {_written(concat)}")
    return Genotype(_edges("normal", fields["normal"]), _edges("reduce", fields["reduce"]))


def _fields(text: str) -> dict[str, ast.expr]:
    """The arguments of the call in the text, by name."""
    wrong = UserError(f"a genotype is written {FORM}, got {_short(repr(text))}")
    try:
        call = ast.parse(text[max(text.find("Genotype("), 0) :].strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise wrong from error
    if not isinstance(call, ast.Call) or getattr(call.func, "id", "") != "Genotype":
        raise wrong
    fields = dict(zip(FIELDS, call.args, strict=False)) | {str(each.arg): each.value for each in call.keywords}
    if len(call.args) > len(FIELDS) or set(fields) - set(FIELDS):
        raise wrong
    return fields


def _literal(value: ast.expr) -> object:
    """A literal, tuples as lists, a range of literals too; None for anything else."""
    try:
        if isinstance(value, ast.Call) and getattr(value.func, "id", "") == "range" and not value.keywords:
            found = range(*(ast.literal_eval(each) for each in value.args))
            return list(found) if len(found) <= len(CONCAT) else None
        literal = ast.literal_eval(value)
    except (SyntaxError, ValueError, TypeError, OverflowError, RecursionError, MemoryError):
        return None
    return list(literal) if isinstance(literal, (list, tuple)) else literal


def _edges(name: str, value: ast.expr) -> tuple[Edge, ...]:
    pairs = _literal(value)
    if not isinstance(pairs, list):
        raise UserError(f"{name} must be a list of pairs like ('sep_conv_3x3', 0), got {_written(value)}")
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or [type(each) for each in pair] != [str, int]:
            raise UserError(f"an edge must be a pair like ('sep_conv_3x3', 0), got {_short(repr(pair))} in {name}")
    return tuple((operation, state) for operation, state in pairs)


def _written(value: ast.expr) -> str:
    try:
        return _short(ast.unparse(value))
    except RecursionError:
        return "a text too deep to be shown"


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:80]} ..."
