"""Claims about what is published: it goes with the library, and own rows lie over it and never in it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from hypernas import cli
from hypernas.lab import rows as results
from hypernas.lab.rows import Results

ROOT = Path(__file__).parents[1]
ROW = {
    "table": "t", "space": "toy", "dataset": "toyset", "method": "np", "n_train": 10, "seed": 0, "profile": "standard",
    "protocol": "clean", "settings": {"graph_form": "raw"}, "kendall_tau": 0.5, "seconds": 1.0,
}  # fmt: skip


@pytest.fixture
def layers(tmp_path, monkeypatch):
    """An own folder of rows over a shipped one."""
    monkeypatch.setenv("HYPERNAS_LAYERED", "1")
    monkeypatch.setenv("HYPERNAS_RESULTS", str(tmp_path / "own"))
    monkeypatch.setattr(results, "shipped", lambda: tmp_path / "shipped")
    Results(tmp_path / "shipped" / "data" / "results" / "t.jsonl").add_all([ROW, {**ROW, "seed": 1}])
    return tmp_path


def test_own_rows_lie_over_the_shipped_ones_which_stay_as_they_are(layers):
    shipped = layers / "shipped" / "data" / "results" / "t.jsonl"
    before = shipped.read_bytes()
    store = Results.of("t")
    assert [row["seed"] for row in store.rows()] == [0, 1]
    store.add({**ROW, "kendall_tau": 0.9}, replace=True)
    store.add({**ROW, "seed": 2})
    assert [(row["seed"], row["kendall_tau"]) for row in store.rows()] == [(0, 0.9), (1, 0.5), (2, 0.5)]
    assert store.find(results.row_key(ROW))["kendall_tau"] == 0.9
    assert shipped.read_bytes() == before
    assert [json.loads(line)["seed"] for line in (layers / "own" / "t.jsonl").read_text().splitlines()] == [0, 2]


def test_a_home_in_the_name_of_the_results_folder_is_that_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HYPERNAS_RESULTS", "~/rows")
    assert results.results_directory() == tmp_path / "rows"


def test_a_field_that_the_schema_does_not_describe_is_refused_before_it_is_written(tmp_path):
    with pytest.raises(results.UserError, match=r"described in hypernas/lab/schema.py, got 'speed'"):
        Results(tmp_path / "t.jsonl").add({**ROW, "speed": 1.0})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [{"seed": "0"}, {"n_train": [1]}, {"kendall_tau": "high"}, {"space": 3}, {"settings": []}, {"seconds": 1e400},
     {"n_train": 10**400}, {"started": {}}, {"method": None, "settings": None}],
)  # fmt: skip
def test_a_row_of_another_type_is_named_with_its_line(tmp_path, change):
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(ROW) + "\n" + json.dumps({**ROW, **change}) + "\n")
    with pytest.raises(results.UserError, match=r"line 2 of .*t\.jsonl is not.*: mend it"):
        Results(path).rows()


def test_the_book_to_work_on_is_copied_once(tmp_path):
    done = CliRunner().invoke(cli.main, ["book", "init", str(tmp_path / "mine")])
    assert done.exit_code == 0
    assert (tmp_path / "mine" / "book" / "_toc.yml").exists()
    assert not (tmp_path / "mine" / "book" / "_build").exists()
    assert len(list((tmp_path / "mine" / "notebooks").glob("*.ipynb"))) == len(
        list((ROOT / "notebooks").glob("*.ipynb"))
    )
    again = CliRunner().invoke(cli.main, ["book", "init", str(tmp_path / "mine")])
    assert (again.exit_code, again.output.count("\n")) == (2, 1)


def test_every_file_that_the_wheel_ships_is_there():
    import tomllib

    hatch = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert [name for name in hatch["force-include"] if not (ROOT / name).exists()] == []
