"""Claims about tables as files: npz files, which the tests write themselves, and data/paper.csv."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hypernas import data, spaces
from hypernas.errors import UserError
from hypernas.lab.summary import best_rivals

PAPER = Path(__file__).parents[1] / "data" / "paper.csv"


def npz_bytes(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def test_load_npz_reads_what_is_asked_for(tmp_path):
    path = tmp_path / "table.npz"
    path.write_bytes(npz_bytes(ops=np.zeros((4, 6)), names=np.array(["a", "b"]), more=np.zeros(1)))
    arrays = data.load_npz(path, ["ops", "names"])
    assert sorted(arrays) == ["names", "ops"]
    assert arrays["ops"].shape == (4, 6)


def test_a_table_that_lacks_an_array_is_a_user_error(tmp_path):
    path = tmp_path / "table.npz"
    path.write_bytes(npz_bytes(ops=np.zeros((4, 6))))
    with pytest.raises(UserError, match=r"altered \(KeyError\)"):
        data.load_npz(path, ["val"])


def damaged(content):
    """A whole npz file, cut and changed in several places."""
    middle = len(content) // 2
    return {
        "empty": b"",
        "cut": content[:middle],
        "cut near the end": content[:-5],
        "flipped": content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :],
        "text": b"not a table",
    }


@pytest.mark.parametrize("how", ["empty", "cut", "cut near the end", "flipped", "text"])
def test_a_truncated_or_altered_npz_is_a_user_error(tmp_path, how):
    content = npz_bytes(ops=np.random.default_rng(0).normal(size=(40, 6)))
    path = tmp_path / "table.npz"
    path.write_bytes(damaged(content)[how])
    with pytest.raises(UserError, match="truncated or altered"):
        data.load_npz(path, ["ops"])


def test_a_table_of_python_objects_is_never_unpickled(tmp_path):
    path = tmp_path / "table.npz"
    np.savez(path, ops=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match="plain arrays"):
        data.load_npz(path, ["ops"])


def test_a_single_array_is_no_table(tmp_path):
    with (tmp_path / "table.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(UserError, match="whole npz file"):
        data.load_npz(tmp_path / "table.npz", ["ops"])


def test_every_figure_of_the_paper_is_one_number_with_a_source():
    figures = pd.read_csv(PAPER)
    assert list(figures) == ["table", "space", "dataset", "method", "n_train", "metric", "value", "source"]
    assert np.isfinite(figures["value"]).all()
    assert figures[["table", "method", "metric", "source"]].notna().all(axis=None)
    assert not figures.duplicated(["table", "space", "dataset", "method", "n_train", "metric"]).any()
    assert figures.loc[figures["metric"] == "kendall_tau", "value"].abs().max() < 1


def test_the_paper_s_headline_figures_are_where_they_are_joined():
    figures = pd.read_csv(PAPER).query("table == 'few_shot' and dataset == 'cifar10'")
    tau = figures.set_index(["space", "method", "n_train"])["value"].sort_index()
    assert tau["nasbench201", "hypernas"].to_dict() == {39: 0.667, 78: 0.677, 156: 0.765, 469: 0.836}
    assert tau["nasbench101", "hypernas"].to_dict() == {50: 0.678, 100: 0.688, 172: 0.736, 424: 0.779}
    assert tau["nasbench101", "pinat-bce", 424] == 0.812


def test_the_best_rival_is_the_best_setting_of_all_that_share_five_seeds():
    place = {"space": "nasbench201", "dataset": "cifar10", "n_train": 78}
    noise = [0.00, 0.01, 0.02, 0.01, 0.00, 0.02]
    rows = pd.DataFrame([
        place | {"method": method, "context": context, "seed": seed, "kendall_tau": tau + sign * noise[seed]}
        for method, context, tau, sign, seeds in (
            ("ours", None, 0.80, 1, 6), ("a", "sum", 0.75, -1, 6), ("a", "concat", 0.77, -1, 5), ("b", None, 0.9, 1, 4),
        )
        for seed in range(seeds)
    ])  # fmt: skip
    (line,) = best_rivals(rows, "ours").to_dict("records")
    assert (line["rival"], line["setting"], line["pairs"]) == ("a", "concat", 5)
    assert line["difference"] == pytest.approx(0.03 + 2 * np.mean(noise[:5]))
    assert line["low"] < line["difference"] < line["high"]
    assert best_rivals(rows[rows["method"] != "a"], "ours").empty


def test_a_fetched_table_whose_columns_differ_in_length_is_one_sentence(tmp_path, monkeypatch):
    columns = {name: np.zeros(4, np.uint8) for name in ("n_vertices", "adj_bits", "trainable_parameters")}
    columns |= {"test_correct_sum3": np.zeros(4, np.uint16), "val_index": np.arange(4), "val_correct": np.zeros((4, 4))}
    path = tmp_path / "nasbench101" / "nasbench101_official.npz"
    path.parent.mkdir()
    path.write_bytes(npz_bytes(ops=np.zeros((3, 5), np.uint8), **columns))
    monkeypatch.setenv("HYPERNAS_DATA", str(tmp_path))
    with pytest.raises(UserError, match="must have a row for each cell, got columns that differ: fetch it again"):
        spaces.get("nasbench101").table("cifar10")
