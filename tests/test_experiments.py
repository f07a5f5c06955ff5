"""Claims about experiments and recorded rows, with a tiny benchmark and predictor for the real ones."""

import json
import random
import subprocess
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from doubles import TwinBenchmark, toy_world
from forked import forked

from hypernas import predictors
from hypernas.errors import UserError
from hypernas.lab import experiment as experiments
from hypernas.lab import provenance, recording
from hypernas.lab import rows as results
from hypernas.lab.experiment import Experiment
from hypernas.lab.recording import run, run_many
from hypernas.lab.rows import Results, row_key
from hypernas.predictors.shared.generating import told_of_networks

ASKED = Experiment("few_shot", "toy", "toyset", "linear", n_train=10, seed=0, profile="quick")


class Linear:
    fitted = 0

    def __init__(self, *, epochs=200, q=1.5, width=4, noise=0.0, seed=0, progress=False, device="cpu"):
        self.noise, self.seed, self.n_parameters = noise, seed, 3
        self.history = [{"epoch": 0, "target_accuracy": 55.0}]

    def fit(self, graphs, accuracy):
        Linear.fitted += 1
        self.weight = torch.linalg.lstsq(graphs, accuracy[:, None] - 90).solution
        return self

    def predict(self, graphs):
        noise = np.random.default_rng(self.seed).normal(size=len(graphs)) * self.noise
        return (graphs @ self.weight)[:, 0] + torch.from_numpy(noise)


@pytest.fixture(autouse=True)
def toy(monkeypatch, tmp_path):
    results = tmp_path / "results"
    Linear.fitted = 0
    with toy_world(monkeypatch, results, TwinBenchmark, {"linear": Linear}, width=72, hyper_width=96):
        yield results / "few_shot.jsonl"


def recorded(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_row_holds_all_fields_and_is_what_the_file_holds(toy):
    row = run(ASKED)
    assert recorded(toy) == [row]
    fields = "table space dataset method n_train seed profile protocol settings kendall_tau kendall_tau_unseen "
    fields += (
        "spearman_rho n_test seconds seeds_together n_parameters device version commit started source table_digest"
    )
    assert set(row) == {*fields.split(), "target_accuracy"}
    assert row["n_test"] == 30
    assert row["kendall_tau"] == pytest.approx(1)
    assert row["settings"] == {"graph_form": "contracted", "q": 1.5, "epochs": 20, "width": 72}


def test_an_existing_key_is_read_and_force_replaces_it(toy):
    first = run(ASKED)
    assert run(ASKED) == first
    assert Linear.fitted == 1
    again = run(ASKED, force=True)
    assert Linear.fitted == 2
    assert recorded(toy) == [again]


@pytest.mark.parametrize("change", [{"n_train": 12}, {"seed": 1}, {"profile": "standard"}, {"settings": {"q": 2}}])
def test_another_experiment_is_another_row(toy, change):
    run(ASKED)
    run(replace(ASKED, **change))
    assert len(recorded(toy)) == 2


def test_a_setting_spelled_out_at_its_default_is_the_same_experiment():
    assert replace(ASKED, settings={"q": "1.5", "epochs": 20}).key() == ASKED.key()
    assert ASKED.resolved().key() == ASKED.key()


def test_settings_come_from_profile_then_space_then_user():
    settings = replace(ASKED, settings={"width": "9"}).resolved().settings
    assert (settings["epochs"], settings["width"]) == (20, 9)
    assert "hyper_width" not in settings


def test_unseen_leaves_out_the_twins_of_training_rows(monkeypatch):
    calls = []
    monkeypatch.setattr(experiments, "kendall_tau", lambda a, b: calls.append(len(a)) or 0.5)
    run(ASKED)
    train, test = TwinBenchmark("toy", "toyset").split(10, 0)
    unseen = sum(row // 2 not in set(train // 2) for row in test)
    assert calls == [30, unseen]
    assert 0 < unseen < 30


def test_without_unseen_rows_the_row_still_parses(toy):
    assert run(replace(ASKED, n_train=36))["kendall_tau_unseen"] is None
    assert "NaN" not in toy.read_text()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"space": "nowhere"}, "search space must be"),
        ({"dataset": "nothing"}, "dataset must be"),
        ({"method": "guess"}, "method must be"),
        ({"profile": "huge"}, "profile must be one of quick, standard, paper"),
        ({"protocol": "lucky"}, "protocol must be"),
        ({"table": "../x"}, "table's name must be"),
        ({"seed": -1}, "seed must be from 0 to 4294967295, got -1"),
        ({"seed": 2**32}, "seed must be from 0 to 4294967295, got 4294967296"),
        *[({"n_train": n}, "n_train must be") for n in (0, 1, -3, 41, 2.5)],
        *[({"settings": {"q": q}}, "q must be") for q in (0, -1.0, float("nan"), "nan", float("inf"), "two", True)],
        *[
            ({"settings": {"q": q}}, "q must be a (finite )?number, got")
            for q in ("9" * 400, 10**400, "{[]:1}", "-" * 9999 + "1")
        ],
        ({"settings": {"epochs": 2.5}}, "epochs must be a whole number"),
        ({"settings": {"graph_form": "round"}}, "graph_form must be one of raw"),
        ({"settings": {"colour": 1}}, "a setting of linear must be one of"),
        ({"settings": {"noise": float("inf")}}, "noise must be a finite number"),
    ],
)
def test_bad_input_is_a_user_error_before_anything_trains(toy, change, words):
    with pytest.raises(UserError, match=words):
        list(run_many([ASKED, replace(ASKED, **change)]))
    assert Linear.fitted == 0
    assert not toy.parent.exists()


def test_several_seeds_train_together_where_the_method_can(toy, monkeypatch):
    calls = []

    def fit_many(name, settings, graphs, accuracy, seeds):
        calls.append((name, settings, seeds))
        pairs = zip(graphs, accuracy, seeds, strict=True)
        return [Linear(**settings, seed=seed).fit(g, a) for g, a, seed in pairs]

    alone = run(ASKED)
    monkeypatch.setattr(predictors, "fit_many", fit_many)
    monkeypatch.setattr(predictors, "can_fit_many", lambda name: True)
    monkeypatch.setattr(predictors, "settings_of_each", lambda name: ())
    rows = list(run_many([replace(ASKED, seed=seed) for seed in range(4)]))
    assert rows[0] == alone
    assert [row["seed"] for row in rows] == [0, 1, 2, 3]
    assert [row["seeds_together"] for row in rows] == [1, 3, 3, 3]
    assert calls[0][2] == [1, 2, 3]
    assert rows[3]["settings"] == rows[0]["settings"]
    assert recorded(toy) == rows


def test_the_real_np_gives_the_same_bits_again_and_nearly_the_same_beside_another_seed(monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.delenv("HYPERNAS_DATA", raising=False)
    asked = Experiment("few_shot", "nasbench201", "cifar10", "np", 39, 1, "quick", settings={"epochs": 1})
    rows = []
    for name, seeds in (("alone", [1]), ("beside", [0, 1]), ("again", [0, 1])):
        monkeypatch.setenv("HYPERNAS_RESULTS", str(tmp_path / name))
        rows.append(list(run_many([replace(asked, seed=seed) for seed in seeds], progress=False))[-1])
    assert [row["seeds_together"] for row in rows] == [1, 2, 2]
    assert rows[1]["kendall_tau"] == rows[2]["kendall_tau"] == pytest.approx(rows[0]["kendall_tau"], abs=1e-5)
    assert rows[0]["n_test"] == 15586


def test_commit_is_that_of_the_checkout_and_unknown_outside_git(monkeypatch, tmp_path):
    provenance.commit.cache_clear()
    monkeypatch.setattr(provenance, "LIBRARY", tmp_path)
    assert provenance.commit() == "unknown"
    provenance.commit.cache_clear()
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "errors.py").write_text("")
    for words in (["init", "-q"], ["add", "errors.py"], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *words], check=True)
    clean = provenance.commit()
    provenance.commit.cache_clear()
    (tmp_path / "errors.py").write_text("changed")
    assert provenance.commit() == clean + "+dirty"
    provenance.commit.cache_clear()


# The store.

ROW = {**dict.fromkeys(results.KEY, "x"), "n_train": 2, "seed": 0, "settings": {"q": 1.5}, "kendall_tau": 0.5}


def write(path, first, count, confirmed):
    """Add rows with so many seeds from `first` on, and note each in the file `confirmed` once it is recorded."""
    store = Results(path)
    with confirmed.open("w") as file:
        for seed in range(first, first + count):
            store.add({**ROW, "seed": seed, "settings": {"filling": "y" * 5000}})
            print(seed, file=file, flush=True)


def test_two_processes_writing_at_once_lose_no_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    both = [forked(write, path, first, 50, tmp_path / str(first)) for first in (0, 1000)]
    for process in both:
        process.join(timeout=60)
        assert process.exitcode == 0
    assert sorted(row["seed"] for row in recorded(path)) == [*range(50), *range(1000, 1050)]


def test_killed_at_any_moment_the_file_parses_and_holds_every_confirmed_row(tmp_path):
    path, draw, first = tmp_path / "rows.jsonl", random.Random(0), 0
    for number in range(6):
        confirmed = tmp_path / str(number)
        process = forked(write, path, first, 100_000, confirmed)
        while not (confirmed.exists() and confirmed.read_text()):
            assert process.is_alive()
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.15))
        process.kill()
        process.join()
        last = int(confirmed.read_text().split()[-1])
        seeds = [row["seed"] for row in recorded(path)]
        assert path.read_bytes().endswith(b"\n")
        assert seeds == list(range(len(seeds)))
        assert len(seeds) in (last + 1, last + 2)
        first = len(seeds)


def test_a_write_that_fails_half_way_leaves_the_old_file(tmp_path, monkeypatch):
    store = Results(tmp_path / "rows.jsonl")
    store.add(ROW)
    before = store.path.read_bytes()

    def broken(_):
        raise OSError(28, "disk full")

    monkeypatch.setattr(results.os, "fsync", broken)
    with pytest.raises(UserError, match=r"rows\.jsonl must be writable, got disk full"):
        store.add({**ROW, "seed": 1})
    assert store.path.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", "rows.jsonl.lock"]


def test_of_two_rows_with_one_key_the_first_stays_unless_replaced(tmp_path):
    store = Results(tmp_path / "rows.jsonl")
    assert store.add(ROW) == ROW
    other = {**ROW, "kendall_tau": float("nan")}
    assert store.add(other) == ROW
    assert store.add(other, replace=True)["kendall_tau"] is None
    assert len(store.rows()) == 1


def test_a_line_that_is_no_row_is_named_and_nothing_is_written(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROW) + '\n{"table": "few_')
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"line 2 of .*rows\.jsonl"):
        Results(path).add({**ROW, "seed": 1})
    assert path.read_bytes() == before


def test_a_last_line_without_its_end_of_line_is_kept(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROW))
    Results(path).add({**ROW, "seed": 1})
    assert len(recorded(path)) == 2


def test_the_key_does_not_depend_on_the_order_of_settings():
    one, other = {**ROW, "settings": {"a": 1, "b": 2}}, {**ROW, "settings": {"b": 2, "a": 1}}
    assert row_key(one) == row_key(other) != row_key({**ROW, "settings": {"a": 1}})


# The table.


@pytest.fixture
def paper(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "paper.csv").write_text(
        "table,space,dataset,method,n_train,metric,value,source\n"
        "few_shot,toy,toyset,linear,10,kendall_tau,0.667,Table 2\n"
        "few_shot,toy,toyset,other,10,kendall_tau,0.5,Table 2\n"
        "few_shot,toy,toyset,linear,10,spearman_rho,0.9,Table 2\n"
        "elsewhere,toy,toyset,linear,10,kendall_tau,0.1,Table 3\n"
    )
    monkeypatch.setattr(results, "shipped", lambda: tmp_path)


def test_the_table_joins_mean_and_std_over_seeds_with_the_papers_figure(paper):
    taus = [run(replace(ASKED, seed=s, settings={"noise": 2.0}))["kendall_tau"] for s in range(3)]
    table = results.table("few_shot")
    ours = table[table["method"] == "linear"].iloc[0]
    assert ours["kendall_tau_mean"] == pytest.approx(np.mean(taus))
    assert ours["kendall_tau_std"] == pytest.approx(np.std(taus, ddof=1))
    assert (ours["n_seeds"], ours["paper"], ours["paper_source"]) == (3, 0.667, "Table 2")
    text = results.markdown(table)
    assert f"{np.mean(taus):.3f} ± {np.std(taus, ddof=1):.3f} (3)" in text
    assert "| other | 10 | – | – |" in text


def test_different_settings_never_share_a_mean(paper):
    for settings in ({}, {"q": 2.0}, {"graph_form": "raw"}):
        list(run_many([replace(ASKED, seed=seed, settings=settings) for seed in range(2)]))
    ours = results.table("few_shot").dropna(subset="kendall_tau_mean")
    assert sorted(zip(ours["graph_form"], ours["q"], ours["n_seeds"], strict=True)) == [
        ("contracted", 1.5, 2), ("contracted", 2.0, 2), ("raw", 1.5, 2),
    ]  # fmt: skip
    assert "epochs" not in ours.columns


def test_a_table_nobody_knows_is_a_user_error(paper):
    with pytest.raises(UserError, match="the table must be a recorded one"):
        results.table("slow_shot")


def test_a_row_of_two_tasks_keeps_their_curves_at_a_few_epochs():
    history = [{"epoch": e, "loss_pred": 1 / (e + 3), "weight_pred": 0.5, "target_accuracy": 40.0} for e in range(200)]
    told = told_of_networks(SimpleNamespace(history=history), None, np.arange(4), seed=0)
    assert told["target_accuracy"] == 40
    assert [told["history"][i]["epoch"] for i in (0, 10, 20)] == [0, 100, 199]
    assert told["history"][0]["loss_pred"] == 0.3333
    alone = [{name: value for name, value in line.items() if name != "weight_pred"} for line in history]
    assert "history" not in told_of_networks(SimpleNamespace(history=alone), None, np.arange(4), seed=0)


def test_a_table_without_kendall_tau_is_about_its_accuracies(monkeypatch, tmp_path):
    monkeypatch.setenv("HYPERNAS_RESULTS", str(tmp_path))
    place = {"table": "search", "space": "toy", "dataset": "toyset", "method": "guided", "n_train": 20}
    facts = {"profile": "standard", "protocol": "clean", "settings": {"graph_form": "raw"}, "seconds": 1.0}
    for seed, found in enumerate((91.0, 92.0)):
        accuracies = {"validation_accuracy": found, "test_accuracy": found + 2}
        Results.of("search").add({**place, **facts, **accuracies, "seed": seed})
    lines = results.table("search").query("space == 'toy'")
    assert results.headline(lines) == "validation_accuracy"
    text = results.markdown(lines)
    assert "validation_accuracy (n seeds)" in text
    assert "| 91.50 ± 0.71 (2) |" in text
    assert "| 93.50 ± 0.71 (2) |" in text


def test_a_part_of_the_test_set_is_drawn_by_the_seed_and_told(toy):
    whole, part, again = (run(replace(ASKED, settings=s), force=True) for s in ({}, {"n_test": 9}, {"n_test": "9"}))
    assert (whole["n_test"], part["n_test"], again["n_test"]) == (30, 9, 9)
    assert "n_test" not in whole["settings"]
    assert part["settings"]["n_test"] == 9
    _, test = experiments._split(replace(ASKED, settings={"n_test": 9}).resolved())
    _, other = experiments._split(replace(ASKED, seed=1, settings={"n_test": 9}).resolved())
    _, everything = experiments._split(ASKED.resolved())
    assert set(test.tolist()) < set(np.asarray(everything).tolist())
    assert set(test.tolist()) != set(other.tolist())
    with pytest.raises(UserError, match="n_test must be at least 2, or 0 for all, got 1"):
        run(replace(ASKED, settings={"n_test": 1}))


def test_variants_of_the_loss_train_at_once_and_not_too_many(monkeypatch):
    monkeypatch.undo()
    asked = Experiment("few_shot", "nasbench201", "cifar10", "hypernas", 39, 0).resolved()
    second = replace(asked, seed=1)
    fixed = replace(asked, table="preference", settings={**asked.settings, "q": 2.0, "learn_u": False})
    small = replace(asked, settings={**asked.settings, "image_batch": 64})
    more = replace(asked, n_train=78)
    noise = replace(asked, table="auxiliary_data", settings={**asked.settings, "images": "noise", "n_images": 100})
    large = replace(asked, table="auxiliary_data", settings={**asked.settings, "images": "cifar10"})
    assert list(recording._groups([asked, large, noise], 3)) == [[asked, noise], [large]]
    everything = [asked, small, second, fixed, more]
    assert list(recording._groups(everything, 3)) == [[asked, second, fixed], [small], [more]]
    assert list(recording._groups(everything, 2)) == [[asked, second], [fixed], [small], [more]]
    assert list(recording._groups(everything, 1)) == [[asked, second], [fixed], [small], [more]]


def test_rows_of_variants_trained_at_once_are_those_of_each_alone(monkeypatch, tmp_path):
    monkeypatch.undo()
    asked = Experiment("preference", "nasbench201", "cifar10", "hypernas", 12, 1, "quick", settings={"n_test": 50})
    small = {"epochs": 1, "n_layers": 1, "width": 8, "image_batch": 4}
    variants = [replace(asked, settings={**small, "n_test": 50, "q": q}) for q in (1.0, 2.0)]
    monkeypatch.setenv("HYPERNAS_RESULTS", str(tmp_path / "alone"))
    monkeypatch.setattr(recording, "MODELS_AT_ONCE", {"cpu": 1})
    alone = list(run_many(variants, progress=False))
    monkeypatch.setattr(recording, "MODELS_AT_ONCE", {"cpu": 2})
    monkeypatch.setenv("HYPERNAS_RESULTS", str(tmp_path / "together"))
    together = list(run_many(variants, progress=False))
    assert [row["seeds_together"] for row in (*alone, *together)] == [1, 1, 2, 2]
    for one, other in zip(alone, together, strict=True):
        assert one["settings"] == other["settings"]
        assert one["kendall_tau"] == pytest.approx(other["kendall_tau"], abs=1e-3)
        assert one["history"][-1]["loss_hyper"] == pytest.approx(other["history"][-1]["loss_hyper"], rel=1e-3)
