"""Claims about which table a row was made from: a row never answers for another table."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hypernas import spaces
from hypernas.cli import main
from hypernas.data import Table
from hypernas.errors import UserError
from hypernas.lab import experiment as experiments
from hypernas.lab import grids, tables
from hypernas.lab import rows as results
from hypernas.lab.benchmark import Benchmark
from hypernas.lab.experiment import Experiment
from hypernas.lab.recording import carry_out, plan, run
from hypernas.lab.rows import Results, row_key

RESULTS = Path(__file__).parents[1] / "data" / "results"
# A table of a few hundred architectures.
PLACE = ("nasbench201_depth", "digits")
ASKED = Experiment("few_shot", *PLACE, "graph-features", 20, 100, settings={"n_trees": 2})


@pytest.fixture
def results_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HYPERNAS_RESULTS", str(tmp_path))
    experiments.forget_tables()
    yield tmp_path
    experiments.forget_tables()


@pytest.fixture
def shuffle(monkeypatch):
    """Call it, and the benchmark has its labels in another order from then on."""
    opened = Benchmark(*PLACE)

    def labels_shuffled():
        order = np.random.default_rng(0).permutation(len(opened))
        old = opened.table
        table = Table("the same table shuffled", old.kind, old.columns, old.validation[order], old.test[order])
        changed = Benchmark(*PLACE)
        changed.table, changed.validation, changed.test = table, opened.validation[order], opened.test[order]
        monkeypatch.setattr(experiments, "Benchmark", lambda space, dataset: changed)
        experiments.forget_tables()

    return labels_shuffled


def test_shuffled_labels_are_trained_anew_with_a_sentence_and_the_old_row_stays(results_folder, shuffle, caplog):
    before = run(ASKED)
    shuffle()
    (outcome,) = carry_out(plan([ASKED]))
    assert outcome.trained
    assert before["kendall_tau"] > 0.3 > abs(outcome.row["kendall_tau"])
    (sentence,) = caplog.messages
    assert sentence.startswith("1 recorded row was made from another table (")
    assert before["source"] in sentence
    assert Results.of("few_shot").rows() == [before, outcome.row]
    assert [o.trained for o in carry_out(plan([ASKED]))] == [False]
    assert Results.of("few_shot").find(ASKED.key(), before["table_digest"]) == before


def test_notations_may_be_dictionaries_of_choices_in_any_order():
    labels = np.array([90.0, 91.0])

    def digest(*notations):
        return tables.digest(Table("", "measured", {"notation": np.array(notations)}, labels, labels))

    first = digest({"kernel": 3, "depth": 2}, {"kernel": 5, "depth": 2})
    assert digest({"depth": 2, "kernel": 3}, {"kernel": 5, "depth": 2}) == first
    assert digest({"kernel": 5, "depth": 2}, {"kernel": 3, "depth": 2}) != first


def test_rows_of_two_tables_never_share_a_mean(results_folder, shuffle):
    run(ASKED)
    shuffle()
    run(replace(ASKED, seed=101))
    lines = results.table("few_shot").dropna(subset="kendall_tau_mean")
    assert lines["n_seeds"].tolist() == [1, 1]
    assert lines["source"].nunique() == 2


def test_a_row_without_a_digest_answers_for_the_table_that_its_source_names(results_folder):
    row = run(ASKED)
    del row["table_digest"]
    (results_folder / "few_shot.jsonl").write_text(json.dumps(row) + "\n")
    assert [o.trained for o in carry_out(plan([ASKED]))] == [False]
    (results_folder / "few_shot.jsonl").write_text(json.dumps({**row, "source": "a table nobody knows"}) + "\n")
    assert [o.trained for o in carry_out(plan([ASKED]))] == [True]


def test_the_command_says_trained_or_recorded_and_from_which_table(results_folder, capsys):
    words = "experiment --space nasbench201_depth --dataset digits --method graph-features --n-train 20 --seed 100"
    said = []
    for form in ([], [], ["--json"]):
        with pytest.raises(SystemExit):
            main([*words.split(), "--set", "n_trees=2", *form], prog_name="hypernas")
        said.append(capsys.readouterr().out)
    source = Benchmark(*PLACE).table.source
    assert said[0].endswith(f"trained, from {source}\n")
    assert said[1].endswith(f"recorded, from {source}\n")
    assert json.loads(said[2])["state"] == "recorded"


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.jsonl")), ids=lambda path: path.stem)
def test_every_recorded_row_is_found_by_its_key_and_its_table(path):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    store = Results(path)
    known = {results.row_identity(row): row for row in store.rows()}
    for row in rows:
        digest = tables.digest_of_row(row)
        assert digest is not None or path.stem == "bench", row["source"]
        assert known[row_key(row), digest] == row


def places():
    for name in spaces.names():
        for dataset in (*spaces.get(name).datasets, "digits"):
            yield name, dataset


@pytest.mark.parametrize(("name", "dataset"), sorted(set(places())))
def test_a_table_that_is_present_has_the_digest_that_its_sentence_stands_for(name, dataset):
    try:
        table = Benchmark(name, dataset).table
    except UserError as error:
        pytest.skip(str(error))
    row = {"space": name, "dataset": dataset, "source": table.source}
    # Rows of a table that came later state their digest.
    assert tables.digest_of_row(row) in (None, tables.digest(table))


def test_a_page_shows_its_rows_where_their_table_is_absent(monkeypatch, tmp_path):
    monkeypatch.delenv("HYPERNAS_RESULTS", raising=False)
    monkeypatch.setenv("HYPERNAS_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    experiments.forget_tables()
    shown = grids.recorded(grids.grid("components"))
    assert None not in shown
    experiments.forget_tables()
