"""Kept predictions: they are those of the experiment, say what made them, and a damaged file is refused."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from hypernas import predictors
from hypernas.cli import main
from hypernas.errors import UserError
from hypernas.lab import predictions
from hypernas.lab.benchmark import Benchmark
from hypernas.lab.metrics import kendall_tau
from hypernas.lab.tables import digest
from hypernas.spaces import get


@pytest.fixture(scope="module")
def table():
    return Benchmark("nasbench201", get("nasbench201").embedded())


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.delenv("HYPERNAS_DATA", raising=False)
    words = ["predictions", "--space", "nasbench201", "--method", "trees", "--n-train", "20,10", "-o", str(tmp_path)]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    return tmp_path


def test_kept_predictions_are_those_of_the_method_on_the_whole_table(made, table):
    small, large = predictions.kept("nasbench201", "cifar10", made)
    assert (small.n_train, large.n_train) == (10, 20)
    train, _ = table.split(20, 0)
    graphs = table.graphs("contracted")
    again = predictors.get("trees")(seed=0).fit(graphs[train], table.validation[train]).predict(graphs)
    assert np.allclose(large.predicted, again, atol=1e-4)


def test_a_kept_file_says_what_made_it(made, table):
    about = next(predictions.kept("nasbench201", "cifar10", made)).about
    assert (about["method"], about["seed"], about["profile"]) == ("trees", 0, "standard")
    assert about["table_digest"] == digest(table.table)
    assert {"commit", "device", "version", "started", "source"} <= set(about)


def test_the_shipped_predictions_belong_to_the_embedded_table_and_rank_it(table):
    shipped = list(predictions.kept("nasbench201", "cifar10"))
    for one in shipped:
        assert one.about["table_digest"] == digest(table.table)
        assert "+dirty" not in one.about["commit"]
        assert kendall_tau(one.predicted, table.test) > 0.5


@pytest.mark.parametrize("about", ["{", None])
def test_a_damaged_file_is_one_sentence(tmp_path, about):
    path = tmp_path / "nasbench201-cifar10-np-10-0.npz"
    if about is None:
        path.write_bytes(b"no archive")
    else:
        np.savez(path, predicted=np.zeros(3), about=np.array([about]))
    with pytest.raises(UserError, match="must"):
        predictions.read(path)


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    about = {"space": "s", "dataset": "d", "method": "m", "n_train": 2, "seed": 0}
    path = predictions.Predictions(np.zeros(3, np.float32), about).save(tmp_path)
    assert json.loads(str(np.load(path)["about"][0])) == about
    assert [file.name for file in tmp_path.iterdir()] == ["s-d-m-2-0.npz"]
