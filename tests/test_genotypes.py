"""Claims about the notation of DARTS: what is read, what is refused and why."""

import json
from collections import namedtuple

import numpy as np
import pytest

from hypernas.errors import UserError
from hypernas.spaces.genotypes import FORM, OPERATIONS, Genotype, parse

CELL = [("sep_conv_3x3", 0), ("skip_connect", 1), ("dil_conv_5x5", 2), ("max_pool_3x3", 0)]
NORMAL = [*CELL, ("avg_pool_3x3", 3), ("sep_conv_5x5", 1), ("dil_conv_3x3", 4), ("skip_connect", 2)]
REDUCE = [*CELL, ("skip_connect", 0), ("sep_conv_5x5", 3), ("dil_conv_3x3", 1), ("max_pool_3x3", 2)]
KNOWN = Genotype(tuple(NORMAL), tuple(REDUCE))


Others = namedtuple("Genotype", "normal normal_concat reduce reduce_concat")


def pairs(edges):
    """The edges of each node together, as pt.darts writes them."""
    return [[edges[i], edges[i + 1]] for i in range(0, len(edges), 2)]


def text(normal=NORMAL, reduce=REDUCE, concat="range(2, 6)"):
    return f"Genotype(normal={normal}, normal_concat={concat}, reduce={reduce}, reduce_concat={concat})"


@pytest.mark.parametrize(
    "written",
    [
        text(),
        f"  DARTS = {text()}\n",
        f"11/22 10:00:45 AM genotype = {text()}",
        text().replace("Genotype", "genotypes.Genotype", 1).replace(", ", ",\n  "),
        text(concat="[2, 3, 4, 5]"),
        text(concat=(2, 3, 4, 5)),
        text(tuple(NORMAL), [list(edge) for edge in REDUCE]),
        f"Genotype({NORMAL}, range(2, 6), {REDUCE}, range(2, 6))",
        f"Genotype(reduce={REDUCE}, normal={NORMAL})",
        text().replace("0)", "np.int64(0))"),
        text(concat="array([2, 3, 4, 5])"),
        text(concat="np.array([2, 3, 4, 5])"),
        text(pairs(NORMAL), pairs(REDUCE)),
        f"epoch 1 lr 0.025\n11/22 10:00 genotype = {text()}\nepoch 2\ngenotype = {text()}\nvalid_acc 97.2 (best)\n",
        json.dumps({"normal": NORMAL, "normal_concat": [2, 3, 4, 5], "reduce": pairs(REDUCE)}),
        {"normal": NORMAL, "reduce": REDUCE, "reduce_concat": np.array([2, 3, 4, 5])},
        Others(NORMAL, range(2, 6), [(op, np.int64(state)) for op, state in REDUCE], [2, 3, 4, 5]),
        KNOWN,
    ],
)
def test_every_way_to_paste_a_genotype_is_read(written):
    assert parse(written) == KNOWN


def test_a_genotype_is_written_as_darts_prints_it():
    assert str(KNOWN) == text()
    assert parse(str(KNOWN)) == KNOWN


def changed(at, edge):
    return [edge if i == at else other for i, other in enumerate(NORMAL)]


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (text(NORMAL[:6]), "normal must list 8 edges, .* got 6: the list ends before node 5 is whole"),
        (text(reduce=REDUCE[:3]), "reduce must list 8 edges, .* got 3: the list ends before node 3 is whole"),
        (text([*NORMAL, ("skip_connect", 5)]), "got 9: the list goes on after it"),
        (text(changed(3, ("skip_connect", 3))), "node 3 must read states from 0 to 2, got 3 in normal"),
        (text(changed(0, ("skip_connect", -1))), "node 2 must read states from 0 to 1, got -1 in normal"),
        (text(changed(5, ("fourier", 1))), f"operation must be one of {', '.join(OPERATIONS)}, got 'fourier'"),
        (text(changed(5, ("none", 1))), "got 'none' in normal"),
        (text(changed(5, ("sep_conv_5x5", 3))), "node 4 must read two different states, got 3 twice in normal"),
        (text(changed(5, ("sep_conv_5x5", True))), r"an edge must be a pair .*, got \('sep_conv_5x5', True\)"),
        (text(changed(5, ("sep_conv_5x5",))), "an edge must be a pair like"),
        (text(concat="range(3, 6)"), r"normal_concat must join the nodes \[2, 3, 4, 5\], got range\(3, 6\)"),
        (text(concat="range(2, 10**12)"), "normal_concat must join"),
        (text(concat="range('a')"), "normal_concat must join"),
        (f"{text()}\n{text(REDUCE, NORMAL)}", "must hold one genotype, got 2 different ones"),
        (json.dumps({"normal": NORMAL}), "reduce is missing"),
        ({"normal": NORMAL, "reduce": 5}, "reduce must be a list of pairs .*, got 5"),
        ({"normal": NORMAL, "reduce": REDUCE, "reduce_concat": [2, 3]}, r"reduce_concat must join .* got \[2, 3\]"),
        (f"Genotype(normal={NORMAL})", "must have the fields normal and reduce, .* reduce is missing"),
        (text("open('/etc/passwd')"), r"normal must be a list of pairs .* got open\('/etc/passwd'\)"),
        (text("print"), "normal must be a list of pairs"),
        (text("-" * 700 + "1"), "normal must be a list of pairs"),
        (text(concat="[" * 90 + "]" * 90), "normal_concat must join"),
    ],
)
def test_a_wrong_genotype_is_told_what_is_wrong(written, told):
    with pytest.raises(UserError, match=told):
        parse(written)


@pytest.mark.parametrize(
    "written",
    ["", "Genotype", "Network(normal=[])", "1 + 1", "Genotype(normal=[", "x = 1; y = 2", "Genotype(**a)", "(" * 5000,
     "Genotype(1, 2, 3, 4, 5)", "Genotype(steps=4)", "Geno\0type()", "import os", "-" * 100_000 + "1",
     5, None, b"x", 1.5, [], (1, 2), {}.keys(), {"steps": 4}, "{", "{}x", '{"a": 1}', '[1]'],
)  # fmt: skip
def test_what_is_no_genotype_is_shown_the_form(written):
    with pytest.raises(UserError, match=r"^a genotype is written ") as caught:
        parse(written)
    assert FORM in str(caught.value)
    assert len(str(caught.value)) < 300
