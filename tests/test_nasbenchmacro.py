"""Claims about NAS-Bench-Macro: graphs, labels and counts."""

import numpy as np
import pytest
from doubles import present

from hypernas import spaces
from hypernas.data import Table
from hypernas.errors import UserError
from hypernas.graph import collate

SPACE = spaces.get("nasbenchmacro")
IDENTITY, MIXED = "00000000", "02012100"


@pytest.fixture(scope="module")
def table():
    return present(SPACE, "cifar10")


def test_counts_are_those_that_the_table_states_of_the_smallest_and_of_a_mixed_network():
    assert SPACE.count(SPACE.parse(IDENTITY)) == (387_882, 7_713_280)
    assert SPACE.count(SPACE.parse(MIXED)) == (890_666, 47_327_744)


def test_an_identity_is_contracted_but_where_it_halves_the_map():
    plain = SPACE.canonical(SPACE.parse(IDENTITY))
    assert [len(cell.ops) for cell in plain.cells] == [3, 2, 3, 2, 2, 3, 2, 2]
    assert [len(cell.ops) for cell in SPACE.parse(IDENTITY).cells] == [3] * 8


def test_the_same_layers_in_another_order_are_another_function():
    swapped = [SPACE.parse(text) for text in ("01200000", "02100000")]
    assert len(set(collate(swapped, SPACE).function_ids().tolist())) == 2


@pytest.mark.parametrize(("text", "told"), [("0201210", "of its 8 layers .* got 7"), ("02012103", "one of 0, 1, 2")])
def test_other_text_is_refused(text, told):
    with pytest.raises(UserError, match=told):
        SPACE.parse(text)


def test_the_label_is_the_first_run_and_the_truth_the_mean_of_the_others(table):
    assert len(table) == 6561
    row = int(np.flatnonzero((table.columns["choices"] == [0, 2, 0, 1, 2, 1, 0, 0]).all(1))[0])
    assert table.validation[row] == pytest.approx(89.47000122)
    assert table.test[row] == pytest.approx((88.94999694824219 + 89.16999816894531) / 2)
    assert "label: the first of three runs" in table.source


def test_a_table_with_another_count_does_not_pass_the_check(table):
    few = {name: column[:5].copy() for name, column in table.columns.items()}
    small = Table(table.source, table.kind, few, table.validation[:5], table.test[:5])
    assert "in all 5 rows" in SPACE.check(small)
    few["parameters"][3] += 1
    with pytest.raises(UserError, match=r"must have .* parameters and multiply-adds, the table says"):
        SPACE.check(small)
