"""Claims about tables that somebody altered: each is refused in one sentence, when it is read."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from hypernas import spaces
from hypernas.data.labelled import KEY, read_labelled
from hypernas.errors import UserError
from hypernas.lab.benchmark import Benchmark

SPACE = spaces.get("nasbenchmacro")
N = 4
COLUMNS = {
    "notation": [f"0000000{i}" for i in range(3)] + ["00000010"],
    "parameters": [10, 20, 30, 40],
    "validation_0": [50.0, 51, 52, 53],
    "test_0": [50.5, 51, 52, 53],
}
MADE = {"images": "digits", "epochs": 1, "seeds": 1}
OTHERS = {
    "text": ["x"] * N,
    "lists": [[1.0]] * N,
    "bytes": [b"x"] * N,
    "nulls": pyarrow.array([None] * N, pyarrow.float64()),
    "one null": [None, 1, 2, 3],
    "truths": [True] * N,
    "nan": [float("nan")] * N,
    "infinite": [float("inf")] * N,
    "negative": [-1.0] * N,
    "huge": [1e300] * N,
    "structs": [{"a": 1}] * N,
    "dates": pyarrow.array([0] * N, pyarrow.date32()),
    "empty text": [""] * N,
}
THIN = [
    None, {}, 5, [1], "digits", {"images": 5}, {"images": "digits"}, MADE | {"seeds": 0}, MADE | {"seeds": 2},
    MADE | {"seeds": "1"}, MADE | {"seeds": 10**9}, MADE | {"seeds": 1.5}, MADE | {"seeds": True},
    MADE | {"images": None}, MADE | {"epochs": None}, MADE | {"images": ["digits"]},
]  # fmt: skip
ALTERED = [(name, kind) for name in COLUMNS for kind in OTHERS]


def write(path, columns, made=MADE):
    metadata = None if made is None else {KEY: json.dumps(made).encode()}
    pyarrow.parquet.write_table(pyarrow.table(columns).replace_schema_metadata(metadata), path)
    return path


def used(path):
    return Benchmark(SPACE, read_labelled(path)).graphs()


def refused(path):
    with pytest.raises(UserError) as caught:
        used(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "table.parquet"


def test_the_table_as_it_is_passes(path):
    table = read_labelled(write(path, COLUMNS))
    assert table.columns["parameters"].tolist() == [10, 20, 30, 40]
    assert len(Benchmark(SPACE, table).graphs()) == N


@pytest.mark.parametrize(("name", "kind"), ALTERED)
def test_a_column_of_something_else_is_named_with_its_row(path, name, kind):
    told = refused(write(path, COLUMNS | {name: OTHERS[kind]}))
    assert name in told
    assert "row" in told


@pytest.mark.parametrize("name", COLUMNS)
def test_a_missing_column_is_named(path, name):
    told = refused(write(path, {key: value for key, value in COLUMNS.items() if key != name}))
    assert f"must have a column {name!r}" in told


@pytest.mark.parametrize("made", THIN)
def test_thin_provenance_is_refused(path, made):
    refused(write(path, COLUMNS, made))


def test_no_rows_a_notation_of_another_space_and_a_torn_file_are_refused(path):
    assert "at least 1 rows" in refused(write(path, {name: pyarrow.array(v)[:0] for name, v in COLUMNS.items()}))
    assert "row 1" in refused(write(path, COLUMNS | {"notation": ["00000000", "k3e4", "00000001", "00000002"]}))
    whole = write(path, COLUMNS).read_bytes()
    for end in range(0, len(whole), 97):
        path.write_bytes(whole[:end])
        refused(path)
