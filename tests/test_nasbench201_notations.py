"""Claims about the ways to hand over a cell of NAS-Bench-201."""

import numpy as np
import pytest

from hypernas import spaces
from hypernas.errors import UserError
from hypernas.spaces.edge_cells import EDGES

SPACE = spaces.get("nasbench201")
TEXT = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|nor_conv_3x3~2|"
OPERATIONS = ["nor_conv_3x3", "none", "skip_connect", "avg_pool_3x3", "nor_conv_1x1", "nor_conv_3x3"]
EDGE_OPS = dict(zip(EDGES, OPERATIONS, strict=True))


@pytest.mark.parametrize(
    "notation",
    [
        TEXT[:-1],
        f"  {TEXT}\n",
        EDGE_OPS,
        {f"{source}->{target}": op for (source, target), op in EDGE_OPS.items()},
        {(source + 1, target + 1): op for (source, target), op in EDGE_OPS.items()},
        dict(reversed(EDGE_OPS.items())),
    ],
)
def test_what_can_mean_one_cell_only_is_read(notation):
    assert SPACE.parse(notation) == SPACE.parse(TEXT)


def test_naslibs_order_is_converted_explicitly():
    """Its edges go by their source: the third number is of (0, 3), and the operations have numbers of their own."""
    assert SPACE.from_naslib((2, 1, 4, 0, 3, 2)).notation == TEXT
    assert SPACE.from_naslib(np.array([2, 1, 4, 0, 3, 2])).notation == TEXT


@pytest.mark.parametrize(
    ("notation", "told"),
    [
        (5, r"text or as a dictionary of its edges, got 5: .* an index has several"),
        (None, "got None"),
        (b"x", "got b'x'"),
        ((2, 1, 4, 0, 3, 2), r"six operations in a row have two orders \(see from_naslib\)"),
        (OPERATIONS, "six operations in a row have two orders"),
        ({}, r"the edges \(0, 1\), .*, got none"),
        ({(0, 1): "none"}, r"the edges \(0, 1\), .*, got \(0, 1\)"),
        (EDGE_OPS | {(0, 1): "fourier"}, "operation must be one of none, .*, got 'fourier'"),
        (EDGE_OPS | {(0, 1): 5}, "operation must be one of none, .*, got 5"),
        (TEXT[:-3], "lists 6 edges as"),
    ],
)
def test_what_can_mean_several_cells_is_one_sentence(notation, told):
    with pytest.raises(UserError, match=told):
        SPACE.parse(notation)


@pytest.mark.parametrize("numbers", [(2, 1, 4), (5, 0, 0, 0, 0, 0), "210321", (-1, 0, 0, 0, 0, 0)])
def test_other_numbers_are_none_of_naslib(numbers):
    with pytest.raises(UserError, match="op_indices of NASLib must be 6 numbers from 0 to 4"):
        SPACE.from_naslib(numbers)


def test_a_number_too_long_to_be_read_is_one_sentence():
    with pytest.raises(UserError, match="lists its vertices as"):
        spaces.get("nasbench101").parse(f"conv3x3({'9' * 5000})|output(1)")
