"""The list of experiments of each page is sound, and drives what is computed."""

import json
from collections import Counter
from itertools import pairwise

import pytest

from hypernas.errors import UserError
from hypernas.lab import grids
from hypernas.lab import rows as results
from hypernas.lab.experiment import Experiment
from hypernas.lab.rows import row_key
from hypernas.view import live as explore


@pytest.fixture(autouse=True)
def results_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HYPERNAS_RESULTS", str(tmp_path))


def record(experiment, **changed):
    place = {name: getattr(experiment, name) for name in results.KEY if name != "settings"}
    row = {**place, "settings": dict(experiment.resolved().settings), "kendall_tau": 0.5, "seconds": 1.0}
    # Where the table itself is present, a plan counts only rows of it.
    row |= {"table_digest": experiment.table_digest(), **changed}
    return results.Results.of(experiment.table).add(row)


@pytest.mark.parametrize("name", grids.names())
@pytest.mark.parametrize("profile", grids.RECORDED_PROFILES)
def test_every_entry_resolves_and_no_two_have_one_key(name, profile):
    experiments = grids.grid(name, profile)
    keys = {experiment.key() for experiment in experiments if experiment.seed == 0}
    assert len(keys) == sum(experiment.seed == 0 for experiment in experiments) > 0


@pytest.mark.parametrize("name", grids.names())
def test_every_setting_of_an_entry_is_one_of_its_method(name):
    for experiment in (each for each in grids.grid(name) if each.seed == 0):
        assert set(experiment.settings) <= {"graph_form", *experiment.accepted()}


def test_the_seeds_of_one_experiment_stand_side_by_side():
    for name in grids.names():
        seeds = [experiment.seed for experiment in grids.grid(name)]
        assert all(seed in (0, before + 1) for before, seed in pairwise(seeds))


def test_a_choice_leaves_what_it_says_and_never_nothing():
    chosen = grids.grid("preference", only={"learn_u": "true", "q": "1.25", "n_train": "78"})
    told = Counter((e.settings["learn_u"], e.settings["q"], e.settings["reading"], e.n_train) for e in chosen)
    assert told == {(True, 1.25, "printed", 78): 3, (True, 1.25, "text", 78): 3}
    with pytest.raises(UserError, match="got none with q=7"):
        grids.grid("preference", only={"q": "7"})
    with pytest.raises(UserError, match=r"the grid must be one of nasbench101, .*components, .* got 'everything'"):
        grids.grid("everything")


def test_what_the_method_does_anyway_is_one_experiment_for_all_pages():
    where = {"method": "hypernas", "space": "nasbench101", "n_train": "172", "n_test": "20000"}
    own = {"encoder": {"encoder": "gcn"}, "preference": {"q": "1.5", "learn_u": "true"}}
    own |= {"auxiliary_data": {"images": "digits", "n_images": "0"}}
    keys = {tuple(e.key() for e in grids.grid(page, only=where | choice)) for page, choice in own.items()}
    assert len(keys) == 1
    assert {e.table for e in grids.grid("encoder", only=where)} == {"few_shot", "encoder"}
    assert {e.table for e in grids.grid("encoder", "paper", where)} == {"few_shot", "encoder"}


def test_every_row_of_a_page_has_the_settings_that_the_page_is_about():
    shared, other = (grids.grid("encoder", only={"encoder": name})[0] for name in ("gcn", "gin"))
    record(shared, n_test=15000)
    record(other, n_test=15000)
    shown = grids.rows("encoder")
    assert shown[["table", "encoder", "n_test"]].values.tolist() == [
        ["few_shot", "gcn", 15000], ["encoder", "gin", 15000],
    ]  # fmt: skip
    record(next(e for e in grids.grid("auxiliary_data") if e.method == "hypernas"))
    assert grids.rows("auxiliary_data")[["images", "n_images"]].values.tolist() == [["digits", 0]]


def test_the_q_explorer_has_every_run_once_and_where_two_are_recorded_that_of_the_page():
    assert explore.recorded_over_q().empty
    default, other = (grids.grid("preference", only={"q": q, "learn_u": "true"})[0] for q in ("1.5", "1.25"))
    record(default)
    record(other)
    here = {**vars(default), "table": "preference", "settings": {"q": 1.5, "learn_u": True}}
    record(Experiment(**here))
    record(Experiment(**here | {"settings": {"q": 2.0, "reading": "text", "learn_u": True}}))
    shown = explore.recorded_over_q()
    runs = sorted(shown[["table", "reading", "q"]].values.tolist())
    assert runs == [["few_shot", "printed", 1.5], ["preference", "printed", 1.25], ["preference", "text", 2.0]]


def test_the_page_shows_the_rows_of_its_grid_and_no_others():
    first, second, *_ = grids.grid("connectivity")
    record(first)
    record(second, profile="quick")
    record(grids.grid("graph_form")[0])
    shown = grids.rows("connectivity")
    assert shown[["method", "context", "seed", "profile"]].values.tolist() == [["hypernas-p", "sum", 0, "standard"]]
    record(grids.grid("connectivity", "paper")[0])
    assert grids.rows("connectivity")["profile"].tolist() == ["standard", "paper"]


def test_the_state_counts_what_is_recorded_and_names_the_command():
    experiments = grids.grid("connectivity")
    n = len(experiments)
    command = "`hypernas grid connectivity`"
    assert (
        grids.state("connectivity")
        == f"None of the {n} standard rows of this page is recorded yet: {command} computes them."
    )
    record(experiments[0])
    assert grids.state("connectivity").startswith(f"1 of the {n} standard rows of this page are recorded; {command}")
    lines = list(grids.plan(experiments))
    assert lines[0].endswith("n_train 50: 1 of 10 seeds recorded")
    assert sum(int(line.split()[-3]) for line in lines) == n


def test_recording_computes_what_is_missing_and_nothing_in_the_quick_profile(monkeypatch):
    asked = []
    monkeypatch.setattr(grids, "run_many", lambda experiments, device: iter(asked.append((experiments, device)) or ()))
    grids.record("graph_form", "quick")
    assert asked == []
    grids.record("graph_form", "standard", "cpu")
    assert asked == [(grids.grid("graph_form"), "cpu")]


def test_a_recorded_row_is_found_by_the_key_of_its_experiment():
    experiment = grids.grid("nasbench101")[0]
    row = record(experiment)
    assert row_key(json.loads(json.dumps(row))) == experiment.key()
    assert grids.recorded([experiment]) == [row]


def test_force_makes_recorded_rows_again(monkeypatch):
    from click.testing import CliRunner

    from hypernas import cli
    from hypernas.lab import recording

    record(grids.grid("connectivity")[0])
    asked, plan = [], recording.plan
    monkeypatch.setattr(recording, "plan", lambda planned, force, device: asked.append(force) or plan([]))
    for words in ([], ["--force"]):
        assert CliRunner().invoke(cli.main, ["grid", "connectivity", "--only", "n_train=100", *words]).exit_code == 0
    assert asked == [False, True]
