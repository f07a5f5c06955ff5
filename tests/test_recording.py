"""Claims about recording rows: what is left to do, what a failure and a kill leave behind, the command."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from doubles import ToyBenchmark, toy_world
from forked import forked

from hypernas import predictors
from hypernas.cli import main
from hypernas.errors import UserError
from hypernas.lab.experiment import Experiment, checkpoint_for
from hypernas.lab.leases import Leases
from hypernas.lab.recording import carry_out, plan, run, run_many, training_groups
from hypernas.lab.rows import Results
from hypernas.lab.runner import Workers

ASKED = Experiment("few_shot", "toy", "toyset", "linear", n_train=5, seed=0, profile="quick")
TOY = "experiment --space toy --dataset toyset --profile quick".split()


class Fragile:
    n_parameters, scales = 1, []

    def __init__(self, *, epochs=200, weak=-1, seed=0):
        self.weak, self.seed = weak, seed

    def fit(self, graphs, accuracy, scale=None):
        Fragile.scales.append(scale)
        if self.seed == self.weak:
            raise ValueError("no luck\nat all")
        return self

    def predict(self, graphs):
        return graphs


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """A results directory, and small things in the place of spaces and predictors."""
    results = tmp_path / "results"
    monkeypatch.setattr(predictors, "can_fit_many", lambda name: False)
    Fragile.scales.clear()
    with toy_world(monkeypatch, results, ToyBenchmark, {"linear": Fragile, "other": Fragile}):
        yield results / "few_shot.jsonl"


@pytest.fixture
def results_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HYPERNAS_RESULTS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def hypernas(toy, capsys):
    """Call `hypernas experiment ...` in this process -> exit code, lines of stdout, lines of stderr."""

    def call(*words):
        with pytest.raises(SystemExit) as stop:
            main([*TOY, *(str(word) for word in words)], prog_name="hypernas")
        out = capsys.readouterr()
        return stop.value.code, out.out.splitlines(), out.err.splitlines()

    return call


def seeds_of(groups):
    return [[(each.method, each.n_train, each.seed) for each in group] for group in groups]


def groups_of(asked, together=10):
    planned = plan(asked)
    return list(training_groups(planned.planned, planned.missing, together, "cpu"))


def test_what_is_recorded_is_left_out_and_seeds_that_cannot_train_together_are_apart(toy):
    run(replace(ASKED, seed=1))
    asked = [replace(ASKED, n_train=n, seed=seed) for n in (5, 7) for seed in range(3)]
    assert seeds_of(groups_of(asked)) == [
        [("linear", 5, 0)], [("linear", 5, 2)], *([("linear", 7, seed)] for seed in range(3)),
    ]  # fmt: skip
    assert len(plan(asked, force=True).missing) == 6


def test_groups_are_those_of_all_that_is_planned_so_that_a_rerun_trains_the_same_models_together(results_folder):
    asked = [Experiment("few_shot", "nasbench201", "cifar10", "np", 20, seed) for seed in range(5)]
    planned = plan(asked)
    whole = list(training_groups(planned.planned, planned.missing, 3, "cpu"))
    assert [len(group) for group in whole] == [5]
    left = list(training_groups(planned.planned, planned.missing[3:], 10, "cpu"))
    assert [[each.seed for each in group] for group in left] == [[3, 4]]
    checkpoint = checkpoint_for(planned.planned, "cpu")
    checkpoint.path.write_text("")
    resumed = list(training_groups(planned.planned, planned.missing[3:], 10, "cpu"))
    assert [[each.seed for each in group] for group in resumed] == [[0, 1, 2, 3, 4]]


def test_what_a_kill_left_after_the_last_row_is_removed_by_the_run_that_finds_all_recorded(toy, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked = [replace(ASKED, seed=seed) for seed in (0, 1)]
    list(run_many(asked))
    leases = toy.parent / ".leases"
    (leases / "work.lease").write_text("gone.holder")
    (leases / "gone.holder").write_text("")
    resolved = plan(asked).planned
    states = [checkpoint_for([experiment], "cpu").path for experiment in resolved]
    stranger = states[0].with_name("stranger.pt")
    for path in (*states, stranger):
        path.write_text("")
    with Leases(leases) as other:
        assert other.take(["other"])
        assert len(list(run_many(asked))) == 2
        assert len(list(leases.glob("*.lease"))) == len(list(leases.glob("*.holder"))) == 1
    assert [path.name for path in stranger.parent.iterdir()] == ["stranger.pt"]


def test_one_experiment_that_cannot_run_stops_all_before_the_first(toy):
    with pytest.raises(UserError, match="n_train must be from 2 to 30 for toy, got 31"):
        plan([ASKED, replace(ASKED, n_train=31)])
    assert not toy.exists()


def test_a_failure_is_told_and_the_other_seeds_go_on(toy):
    asked = [replace(ASKED, seed=seed, settings={"weak": 1}) for seed in range(3)]
    told = list(carry_out(plan(asked), keep_going=True))
    assert [outcome.row is None for outcome in told] == [False, True, False]
    assert str(told[1].error) == "no luck\nat all"
    assert [each.seed for each in told[1].experiments] == [1]
    assert [row["seed"] for row in Results(toy).rows()] == [0, 2]


def test_the_cost_is_told_before_the_work(toy):
    asked = [replace(ASKED, seed=seed) for seed in range(4)]
    assert plan(asked).cost(Workers()) == "4 of 4 rows to compute on this process (cpu)"
    row = run(asked[0])
    Results(toy).add({**row, "seconds": 240.0}, replace=True)
    expected = "3 of 4 rows to compute on 2 workers (cpu), about 6 min by rows like them; 1 are recorded already"
    assert plan(asked).cost(Workers(2)) == expected
    list(run_many(asked))
    assert plan(asked).cost(Workers()) == "4 of 4 rows are recorded already"


def test_the_command_records_the_whole_grid_once(hypernas, toy):
    words = "--methods linear,other --n-train 5,7 --seeds 0:3 --setting epochs=3 --json".split()
    code, out, err = hypernas(*words)
    rows = [json.loads(line) for line in out]
    assert (code, err) == (0, ["12 of 12 rows to compute on this process (cpu)"])
    assert [(r["method"], r["n_train"], r["seed"]) for r in rows] == [
        (method, n, seed) for method in ("linear", "other") for n in (5, 7) for seed in range(3)
    ]
    assert {row["settings"]["epochs"] for row in rows} == {3}
    assert {row.pop("state") for row in rows} == {"trained"}
    assert Results(toy).rows() == rows
    code, out, err = hypernas(*words)
    assert (code, err) == (0, ["12 of 12 rows are recorded already"])
    assert {json.loads(line)["state"] for line in out} == {"recorded"}


def test_a_dry_run_counts_and_computes_nothing(hypernas, toy):
    code, out, _ = hypernas("--methods", "linear", "--n-train", "5,7", "--seeds", "0:3", "--dry-run")
    assert (code, len(out)) == (0, 2)
    assert out[0].endswith("n_train 5: 0 of 3 seeds recorded")
    assert not toy.exists()


def test_what_failed_is_listed_last_with_exit_code_1(hypernas):
    code, out, err = hypernas("--methods", "linear", "--n-train", "5", "--seeds", "0:3", "--setting", "weak=2")
    assert (code, len(out)) == (1, 2)
    assert err[1:] == ["Failed: linear  toy/toyset  n_train 5  seed 2: ValueError: no luck"]


@pytest.mark.parametrize(
    "words",
    [
        "--n-train 5",
        "--methods linear",
        "--methods linear --n-train 5 --seed 0:1e14",
        "--methods linear --n-train 5 --seed 0:99999999999999",
        f"--methods linear --n-train 5 --threads {2**64}",
        "--methods linear --n-train 5 --resources GPU",
        "--methods linear --n-train 5 --results x --record",
        "--methods linear,guess --n-train 5",
        "--methods linear --n-train 5,31",
        "--methods linear --n-train many",
        "--methods linear --n-train 5 --seeds 5:5",
        "--methods linear --n-train 5 --setting epochs",
        "--methods linear --n-train 5 --setting colour=1",
        "--methods linear --n-train 5 --setting epochs=0",
        "--methods linear --n-train 5 --protocol lucky",
        "--methods linear --n-train 5 --workers 0",
        "--methods linear --n-train 5 --device gpu",
    ],
)
def test_a_bad_grid_is_one_sentence_exit_code_2_and_no_file(hypernas, tmp_path, words):
    code, out, err = hypernas(*words.split())
    assert (code, out, len(err)) == (2, [], 1)
    assert err[0].startswith("Error: ")
    assert list(tmp_path.iterdir()) == []


def test_the_protocol_pinat_tests_on_all_rows_and_takes_the_scale_of_the_whole_table(toy):
    clean, pinat = run(ASKED), run(replace(ASKED, protocol="pinat"))
    assert (clean["n_test"], pinat["n_test"]) == (25, 30)
    assert Fragile.scales[0] is None
    assert Fragile.scales[1].mean == 14.5
    assert Fragile.scales[1].std == pytest.approx(ToyBenchmark("toy", "toyset").inputs.std().item())
    assert Fragile.scales[1].standardise(torch.tensor([-1e6]))[0] < -1e4
    assert len(Results(toy).rows()) == 2


PROCESSES = """
import sys
from hypernas.lab.experiment import Experiment
from hypernas.lab.recording import carry_out, plan
from hypernas.lab.runner import Workers

if __name__ == "__main__":
    place = ("few_shot", "nasbench201", "cifar10")
    asked = [Experiment(*place, "np", 39, 9, settings={"epochs": 1_000_000})]
    asked += [Experiment(*place, "graph-features", 39, seed, settings={"n_trees": 3}) for seed in range(2)]
    for outcome in carry_out(plan(asked), Workers(2)):
        print(outcome.row["method"], outcome.row["seed"], flush=True)
"""


def test_processes_record_while_one_is_stuck_and_all_end_with_the_one_that_started_them(tmp_path):
    script = tmp_path / "computing.py"
    script.write_text(PROCESSES)
    environment = {**os.environ, "HYPERNAS_RESULTS": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment)
    lines = sorted(process.stdout.readline().split() for _ in range(2))
    assert lines == [["graph-features", "0"], ["graph-features", "1"]]
    children = children_of(process.pid)
    assert children
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    for _ in range(600):
        if not any(map(alive, children)):
            break
        time.sleep(0.1)
    assert not any(map(alive, children))
    assert sorted(row["seed"] for row in Results(tmp_path / "few_shot.jsonl").rows()) == [0, 1]


def carry_out_twenty(folder, both_ready, trained):
    """Plan twenty rows, wait until the other process has planned them too, and say how many are trained here."""
    os.environ["HYPERNAS_RESULTS"] = str(folder)
    place = ("few_shot", "nasbench201", "cifar10")
    asked = [Experiment(*place, "graph-features", 20, seed, settings={"n_trees": 2}) for seed in range(100, 120)]
    planned = plan(asked)
    both_ready.wait(timeout=120)
    trained.put(sum(outcome.trained for outcome in carry_out(planned)))


def test_two_processes_with_the_same_twenty_rows_train_each_row_once(tmp_path):
    context = get_context("forkserver")
    both_ready, trained = context.Barrier(2), context.Queue()
    both = [forked(carry_out_twenty, tmp_path, both_ready, trained) for _ in range(2)]
    assert sum(trained.get(timeout=120) for _ in both) == 20
    for process in both:
        process.join()
    assert len(Results(tmp_path / "few_shot.jsonl").rows()) == 20
    assert list((tmp_path / ".leases").glob("*.lease")) == []


def children_of(parent):
    """Processes that `parent` has started, and theirs, as Linux lists them."""
    path = Path(f"/proc/{parent}/task")
    if not path.exists():
        pytest.skip("needs Linux's list of child processes")
    children = [int(pid) for task in path.iterdir() for pid in (task / "children").read_text().split()]
    return children + [pid for child in children for pid in children_of(child)]


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"
