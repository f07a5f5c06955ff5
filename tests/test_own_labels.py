"""Claims about labels of one's own: read from anywhere, checked once, each mistake one sentence."""

import json

import numpy as np
import pandas as pd
import pytest

from hypernas import spaces
from hypernas.data.own_labels import read_labels
from hypernas.errors import UserError
from hypernas.lab.benchmark import Benchmark

SPACE = spaces.get("nasbenchmacro")
NOTATIONS = ["00000000", "00000001", "00000002", "00000010", "00000011", "00000012"]
FRAME = pd.DataFrame({"notation": NOTATIONS, "accuracy": [90.0, 91, 92, 93, 94, 95], "latency": [1.0, 2, 3, 4, 5, 6]})


def written(frame, path):
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        path.write_text("\n".join(json.dumps(row) for row in frame.to_dict("records")) + "\n\n")
    return path


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_a_file_gives_the_same_benchmark_as_the_frame(tmp_path, suffix):
    path = written(FRAME, tmp_path / f"mine.{suffix}")
    for labels in (path, str(path), FRAME, FRAME.set_index(FRAME.index + 40), FRAME.to_dict("list")):
        benchmark = Benchmark(SPACE, labels)
        assert benchmark.table.columns["notation"].tolist() == NOTATIONS
        assert benchmark.validation.tolist() == benchmark.test.tolist() == FRAME["accuracy"].tolist()
        assert benchmark.table.columns["latency"].tolist() == FRAME["latency"].tolist()
        assert len(benchmark.graphs()) == 6
    assert Benchmark(SPACE, path).dataset == "mine"


def test_a_row_that_is_there_twice_with_one_accuracy_counts_once():
    assert len(Benchmark(SPACE, pd.concat([FRAME, FRAME]))) == 6


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda f: f.drop(columns="accuracy"), r"must have a column 'accuracy', got notation, latency"),
        (lambda f: f.rename(columns={"notation": "arch"}), r"must have a column 'notation', got arch, "),
        (lambda f: f.assign(accuracy=[90, np.nan, 1, 2, 3, 4]), r"accuracy .* finite numbers, got nan in row 1"),
        (lambda f: f.assign(accuracy=["x"] * 6), r"accuracy .* finite numbers, got 'x' in row 0"),
        (lambda f: f.assign(accuracy=[90, 1, np.inf, 2, 3, 4]), r"got inf in row 2"),
        (
            lambda f: f.assign(notation=[*NOTATIONS[:5], "00000003"]),
            r"operation must be one of 0, 1, 2.*row 5 of 6 lab",
        ),
        (lambda f: f.assign(notation=[*NOTATIONS[:5], None]), r"must be written as text, got nan .*row 5"),
        (lambda f: f.assign(notation=[1, 2, 3, 4, 5, 6]), r"must be written as text, got 1 \(int\)"),
        (lambda f: f.assign(notation=NOTATIONS[:1] + NOTATIONS[:5]), r"one accuracy, got 90 in row 0 and 91 in row 1"),
        (lambda f: f[:4], r"at least 5 rows, got 4"),
        (lambda f: f[:0], r"at least 5 rows, got 0"),
        (lambda f: f.assign(accuracy=[[1]] * 6), r"got \[1\] in row 0"),
        (lambda f: f.assign(accuracy=[True] * 6), r"got True in row 0"),
    ],
)
def test_a_mistake_in_a_table_is_one_sentence(change, told):
    with pytest.raises(UserError, match=told) as caught:
        Benchmark(SPACE, change(FRAME))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["none.csv", "torn.csv", "torn.parquet", "torn.jsonl", "list.jsonl", "folder.csv"])
def test_a_file_that_is_no_table_is_one_sentence(tmp_path, name):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "torn.csv").write_bytes(b'"a\n\xff')
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    (tmp_path / "torn.jsonl").write_text('{"notation": "0')
    (tmp_path / "list.jsonl").write_text("[1, 2]\n")
    with pytest.raises(UserError) as caught:
        read_labels(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [7, float("nan"), object(), [1, 2]])
def test_what_is_no_table_of_labels_is_one_sentence(wrong):
    with pytest.raises(UserError, match="labels a DataFrame, a dictionary of columns or a file, got"):
        Benchmark("nasbench201", wrong)
