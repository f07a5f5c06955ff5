"""Claims about ask and tell: what is asked, what may be told, and what a journal survives."""

import json
import os
import re
import shlex
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from forked import forked

import hypernas as hypernas_library
from hypernas import spaces
from hypernas.cli import main
from hypernas.cli.trials import split_constraint
from hypernas.errors import UserError
from hypernas.search.ask_tell import Search

SPACE = "nasbench201"
FOREST = {
    "predictor": "graph-features", "n_trees": 20, "first": 4, "members": 2, "population": 20, "generations": 2
}  # fmt: skip
BAYESIAN = {"method": "bayesian", "first": 4, "fresh": 20, "parents": 2}


def accuracy(architecture):
    """A number that any process computes alike: convolutions are good, and none is equal to another."""
    text = architecture.notation
    return 50.0 + 5 * text.count("nor_conv_3x3") + 3 * text.count("nor_conv_1x1") + sum(text.encode()) % 97 / 100


def latency(architecture):
    return 1.0 + architecture.notation.count("nor_conv_3x3")


def notations(search):
    return [search.notation(trial.architecture) for trial in search.trials.values()]


@pytest.mark.parametrize(
    "settings",
    [{"method": "random"}, {"method": "evolution"}, {"method": "guided", **FOREST, "members": None}, FOREST, BAYESIAN],
    ids=["random", "evolution", "guided", "ensemble", "bayesian"],
)
def test_a_batch_and_a_search_ask_for_no_function_twice(settings):
    settings = {name: value for name, value in settings.items() if value is not None}
    search = Search(SPACE, queries=16, seed=100, **settings)
    sizes = []
    while batch := search.ask(5):
        sizes.append(len(batch))
        for architecture in batch:
            search.tell(architecture, accuracy=accuracy(architecture))
    assert sizes == [5, 5, 5, 1]
    keys = [search._identified(trial.architecture)[1] for trial in search.trials.values()]
    assert len(set(keys)) == 16
    best = max(trial.values["accuracy"] for trial in search.trials.values())
    assert search.best.values["accuracy"] == best


def test_a_batch_is_named_before_any_of_it_is_told():
    search = Search(SPACE, queries=20, seed=100, **FOREST)
    first = search.ask(4)
    assert len(search.ask(3)) == 3  # nothing is known yet, so these are random too
    for architecture in first:
        search.tell(architecture, accuracy=accuracy(architecture))
    assert len(search.ask(6)) == 6
    assert len(search.waiting()) == 9


def test_the_batch_of_an_ensemble_is_not_the_best_of_one_member():
    batches, forest = [], {"predictor": "graph-features", "n_trees": 20, "first": 6}
    for settings in ({"method": "guided", "step": 6}, {"members": 2}):
        search = Search(SPACE, queries=30, seed=100, **forest, **settings)
        for architecture in search.ask(6):
            search.tell(architecture, accuracy=accuracy(architecture))
        batches.append({search.notation(architecture) for architecture in search.ask(6)})
    assert 0 < len(batches[0] & batches[1]) < 6


def test_constraints_and_fronts_take_counts_callables_and_what_is_told():
    search = Search(
        SPACE, objectives=("accuracy", "-latency"), constraints={"params": "<8e5", "depth": ">=2", "energy": "<9"},
        method="random", queries=30, seed=100, measures={"depth": lambda a: float(a.notation.count("conv"))},
    )  # fmt: skip
    assert search.task.told == ["accuracy", "latency", "energy"]
    for architecture in search.ask(30):
        assert search.domain.count(architecture)[0] < 8e5
        assert architecture.notation.count("conv") >= 2
        energy = 2.0 * latency(architecture)
        search.tell(architecture, accuracy=accuracy(architecture), latency=latency(architecture), energy=energy)
    front = search.front()
    assert all(trial.values["energy"] < 9 for trial in front)
    assert len(front) > 1
    points = [(trial.values["accuracy"], -trial.values["latency"]) for trial in front]
    assert points == sorted(points, reverse=True)
    for trial in search.trials.values():
        if trial.values["energy"] < 9:
            told = (trial.values["accuracy"], -trial.values["latency"])
            assert any(point[0] >= told[0] and point[1] >= told[1] for point in points)


@pytest.mark.parametrize("settings", [FOREST, BAYESIAN], ids=["ensemble", "bayesian"])
def test_a_predictor_learns_every_objective_and_keeps_predicted_limits(settings):
    settings = settings | {"first": 12}
    limit = {"objectives": ("accuracy",), "constraints": {"latency": "<=2"}}
    search = Search(SPACE, queries=40, seed=100, **limit, **settings)
    for _ in range(4):
        for architecture in search.ask(10):
            search.tell(architecture, accuracy=accuracy(architecture), latency=latency(architecture))
    allowed = [trial.values["latency"] <= 2 for trial in search.trials.values()]
    assert np.mean(allowed[20:]) > np.mean(allowed[:12])
    assert search.best.values["latency"] <= 2


def test_the_columns_of_a_table_need_no_trial_and_its_rows_are_all_there_is(nasbench201):
    limits = {"params": "<1e6"}
    search = Search(nasbench201, method="random", queries=12, seed=100, constraints=limits).run()
    rows = [search.domain.candidate(trial.architecture) for trial in search.trials.values()]
    labels = nasbench201.validation[rows].tolist()
    assert [trial.values["accuracy"] for trial in search.trials.values()] == labels


def test_measured_costs_of_a_table_are_objectives_without_a_trial(nasbench201, monkeypatch):
    costs = np.random.default_rng(0).uniform(1, 9, len(nasbench201))
    monkeypatch.setattr(type(nasbench201.space), "hardware", lambda self, dataset: {"edge_latency": costs})
    objectives, limits = ("accuracy", "-edge_latency"), {"edge_latency": "<5"}
    search = Search(nasbench201, "ridge", objectives, limits, method="guided", queries=30, seed=100).run()
    assert search.task.told == ["accuracy"]
    rows = [search.domain.candidate(trial.architecture) for trial in search.trials.values()]
    assert costs[rows].max() < 5  # of the very rows, whose twins cost something else
    front = [search.domain.candidate(trial.architecture) for trial in search.front()]
    assert (np.diff(costs[front]) <= 0).all()
    assert costs[front].min() == costs[rows].min()


def test_the_example_of_the_book_searches_by_accuracy_and_measured_edge_latency(nasbench201):
    costs = nasbench201.space.hardware("cifar10")
    if not costs:
        pytest.skip("measured costs are in the official file of NAS-Bench-201, which is not present")
    text = (Path(__file__).parents[1] / "book" / "own_space.md").read_text(encoding="utf-8")
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "edgegpu_latency" in block]
    said = {"hypernas": hypernas_library}
    exec(code, said)
    search = said["search"]
    assert search.task.told == ["accuracy"]
    latency = [costs["edgegpu_latency"][search.domain.candidate(trial.architecture)] for trial in search.front()]
    accuracy = [trial.values["accuracy"] for trial in search.front()]
    assert max(latency) < 5
    assert latency == sorted(latency, reverse=True)
    assert accuracy == sorted(accuracy, reverse=True)
    assert len(search.trials) == 60


def test_a_failed_trial_is_kept_and_not_asked_again_and_three_in_a_row_stop():
    def breaks(architecture):
        raise RuntimeError("out of memory")

    search = Search(SPACE, method="random", queries=10, seed=100)
    with pytest.raises(RuntimeError, match="out of memory"):
        search.run(breaks)
    states = search.table()["state"].tolist()
    assert states[:3] == ["failed"] * 3
    assert search.trials[next(iter(search.trials))].reason == "RuntimeError: out of memory"
    left = search.ask(10)
    assert not {a.notation for a in left} & set(search.table()["architecture"][:3])
    with pytest.raises(UserError, match="must be told a trial within its constraints first"):
        _ = search.best


def test_telling_again_changes_nothing_and_telling_otherwise_is_refused():
    search = Search(SPACE, method="random", queries=10, seed=100)
    (architecture,) = search.ask()
    for _ in range(2):
        search.tell(architecture, accuracy=90)
    with pytest.raises(UserError, match=r"a trial must be told once, .* was told {'accuracy': 90.0}"):
        search.tell(architecture, accuracy=91)
    own = search.domain.space.parse("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_3x3~2|")
    search.tell(own, accuracy=93)
    assert [trial.state for trial in search.trials.values()] == ["told", "told"]
    assert search.best.architecture.notation == own.notation


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"method": "annealing"},
            "a search method must be one of random, evolution, top-k, guided, ensemble, bayesian, tpe, got",
        ),
        ({"predictor": "guess"}, "predictor must be one of .* got 'guess'"),
        ({"objectives": ()}, "a search must have an objective such as accuracy, got none"),
        ({"objectives": ("--x",)}, "an objective must be a name such as accuracy, .* got '--x'"),
        ({"constraints": {"params": "3e6"}}, "a constraint must be a name, one of <=, >=, <, > and a number"),
        ({"constraints": {"params": "<few"}}, "got params<few"),
        ({"constraints": {"params": "<10"}}, "the smallest one found has 73,306 parameters, got 10"),
        ({"queries": 1}, "queries must be a whole number of at least 2, got 1"),
        ({"seed": -1}, "seed must be from 0 to"),
        ({"colour": 3}, "a setting of hypernas-p must be one of .* got 'colour'"),
        ({"first": 0}, "first must be at least 1, got 0"),
        ({"method": "random", "step": 3}, "a setting of random must be one of none, got 'step'"),
        ({"graph_form": "round"}, "graph_form must be one of raw, pruned, contracted, got round"),
    ],
)
def test_a_wrong_search_is_one_sentence(settings, words):
    with pytest.raises(UserError, match=words):
        Search(SPACE, **settings).ask()


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({}, "a trial must be told accuracy, got no accuracy: or tell it as failed"),
        ({"accuracy": float("nan")}, "accuracy must be a finite number, got nan"),
        ({"accuracy": "high"}, "accuracy must be a finite number, got 'high'"),
    ],
)
def test_a_wrong_answer_is_one_sentence_and_the_trial_waits(told, words):
    search = Search(SPACE, method="random", queries=10, seed=100)
    (architecture,) = search.ask()
    with pytest.raises(UserError, match=words):
        search.tell(architecture, **told)
    assert len(search.waiting()) == 1


def spent(search, n, batch=2):
    for _ in range(n // batch):
        for architecture in search.ask(batch):
            search.tell(architecture, accuracy=accuracy(architecture))
    return search


@pytest.mark.parametrize(
    "settings", [{"method": "evolution"}, FOREST, BAYESIAN], ids=["evolution", "ensemble", "bayesian"]
)
def test_a_search_that_is_opened_again_is_the_one_that_never_stopped(tmp_path, settings):
    whole = spent(Search(SPACE, queries=12, seed=100, **settings), 12)
    path = tmp_path / "journal.jsonl"
    for _ in range(6):
        spent(Search(SPACE, queries=12, seed=100, journal=path, **settings), 2)
    assert notations(Search.open(path)) == notations(whole)
    assert Search.open(path).ask() == []


def test_more_queries_go_on_and_do_not_start_anew(tmp_path):
    path = tmp_path / "journal.jsonl"
    spent(Search(SPACE, queries=6, seed=100, journal=path, **FOREST), 6)
    more = spent(Search.open(path, queries=10), 4)
    assert len(more.trials) == 10
    assert notations(more)[:6] == notations(Search.open(path))[:6]


def test_a_journal_of_another_search_is_refused_and_stays(tmp_path):
    path = tmp_path / "journal.jsonl"
    Search(SPACE, method="random", seed=100, journal=path)
    before = path.read_bytes()
    for changed in ({"seed": 101}, {"method": "evolution"}, {"constraints": {"params": "<1e6"}}):
        with pytest.raises(UserError, match=f"a journal belongs to one search, and {next(iter(changed))} is"):
            Search(SPACE, **{"method": "random", "seed": 100, "journal": path, **changed})
    assert path.read_bytes() == before
    (tmp_path / "other.jsonl").write_text('{"architecture": "x", "asked": 0}\n')
    with pytest.raises(UserError, match="a journal must begin with its search"):
        Search.open(tmp_path / "other.jsonl")


def test_a_torn_line_is_cut_off_and_another_one_is_named(tmp_path):
    path = tmp_path / "journal.jsonl"
    search = Search(SPACE, method="random", queries=9, seed=100, journal=path)
    search.ask(2)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"asked": 2, "archi')
    other = Search.open(path)
    assert len(other.trials) == 2
    other.ask(1)
    assert [json.loads(line).get("asked") for line in path.read_text().splitlines()] == [None, 0, 1, 2]
    path.write_bytes(whole + b"hello\n")
    with pytest.raises(UserError, match=r"a line of .* must be JSON, got 'hello'"):
        Search.open(path)


CELL = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"time": "now"}', "got one without an architecture"),
        (json.dumps({"architecture": CELL}), "neither asked, told nor failed"),
        (json.dumps({"architecture": 5, "asked": 2}), "got architecture 5"),
        (json.dumps({"architecture": CELL, "asked": "2"}), "got asked '2'"),
        (json.dumps({"architecture": CELL, "told": [90]}), r"got told \[90\]"),
        (json.dumps({"architecture": CELL, "told": {"accuracy": None}}), "got accuracy None"),
        (json.dumps({"architecture": CELL, "told": {"accuracy": float("nan")}}), "got accuracy nan"),
        ("[" * 100_000, "must be JSON"),
        ('{"search": {"space": "nasbench201"}}', "a journal must begin with its search"),
    ],
)
def test_a_line_of_a_journal_that_is_no_record_is_named_and_nothing_is_written(tmp_path, line, told):
    path = tmp_path / "journal.jsonl"
    Search("nasbench201", method="random", queries=9, seed=100, journal=path).ask(2)
    path.write_text(f"{path.read_text()}{line}\n")
    before = path.read_bytes()
    with pytest.raises(UserError, match=told):
        Search.open(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", ["my notes", '{"a": 1}', json.dumps({"architecture": CELL, "asked": 0}) + "\n"])
def test_a_file_that_is_no_journal_is_never_written_to(tmp_path, content):
    path = tmp_path / "notes"
    path.write_text(content)
    with pytest.raises(UserError, match="a journal must begin with its search"):
        Search("nasbench201", method="random", queries=9, journal=path).ask(1)
    assert path.read_text() == content


def test_a_journal_whose_first_line_was_cut_by_a_kill_begins_anew(tmp_path):
    path = tmp_path / "journal.jsonl"
    Search("nasbench201", method="random", queries=9, seed=100, journal=path)
    whole = path.read_bytes()
    for end in (0, 5, 40, len(whole) - 1):
        path.write_bytes(whole[:end])
        Search("nasbench201", method="random", queries=9, seed=100, journal=path)
        assert path.read_bytes() == whole


def test_a_worker_gets_back_what_it_did_not_tell(tmp_path):
    path = tmp_path / "journal.jsonl"
    settings = {"method": "random", "queries": 9, "seed": 100, "journal": path}
    one, two = (Search(SPACE, worker=name, **settings) for name in ("one", "two"))
    given = one.ask(2)
    assert not {a.notation for a in two.ask(2)} & {a.notation for a in given}
    again = Search(SPACE, worker="one", **settings).ask(3)
    assert [a.notation for a in again[:2]] == [a.notation for a in given]
    assert len(Search.open(path).trials) == 5


TWO_OBJECTIVES = ("accuracy", "-latency")
# Guided by ridge regression, which learns in milliseconds, so that a kill may fall anywhere.
KILLED = {
    "random": {"method": "random"},
    "guided": {"method": "guided", "predictor": "ridge", "first": 10, "population": 8, "generations": 1},
}


def both(architecture):
    return {"accuracy": accuracy(architecture), "latency": latency(architecture)}


def worker(path, name, queries, settings):
    """Ask, take a moment, tell, until nothing is left."""
    search = Search(SPACE, objectives=TWO_OBJECTIVES, queries=queries, seed=100, journal=path, worker=name, **settings)
    while batch := search.ask():
        # Ten lives of at most .25 s, and a helper through five of them, are too short for all trials.
        time.sleep(4 / queries)
        search.tell(batch[0], **both(batch[0]))


def killed_ten_times(path, queries, settings, helper_after):
    """The lines of a journal on which `shaky` was killed ten times; `steady` helped after some of the kills."""
    rng = np.random.default_rng(0)

    def started(name):
        return forked(worker, path, name, queries, settings)

    shaky, helpers = started("shaky"), []
    while not path.exists():
        time.sleep(0.01)
    for kill in range(10):
        if kill == helper_after:
            helpers.append(started("steady"))
        time.sleep(rng.uniform(0.05, 0.25))
        os.kill(shaky.pid, signal.SIGKILL)
        shaky.join()
        shaky = started("shaky")
    for process in (*helpers, shaky):
        process.join(timeout=240)
        assert process.exitcode == 0
    return [json.loads(line) for line in path.read_text().splitlines()]


def undisturbed(queries, settings):
    search = Search(SPACE, objectives=TWO_OBJECTIVES, queries=queries, seed=100, **settings)
    while batch := search.ask():
        search.tell(batch[0], **both(batch[0]))
    return search


@pytest.mark.parametrize("method", KILLED)
def test_two_processes_of_which_one_is_killed_ten_times_lose_and_repeat_nothing(tmp_path, method):
    path, queries = tmp_path / "journal.jsonl", 60 if method == "random" else 20
    lines = killed_ten_times(path, queries, KILLED[method], helper_after=5)
    asked = [line["architecture"] for line in lines if "asked" in line]
    told = [line["architecture"] for line in lines if "told" in line]
    assert len(asked) == len(set(asked)) == queries
    assert sorted(told) == sorted(asked)
    front = [trial.values for trial in Search.open(path).front()]
    values = [line["told"] for line in lines if "told" in line]
    unbeaten = [one for one in values if not any(beats(other, one) for other in values)]
    points = {tuple(one.values()) for one in unbeaten}
    assert {tuple(one.values()) for one in front} == points
    if method == "random":
        # What is asked does not depend on what is told, so the front is that of a search nobody disturbed.
        assert front == [trial.values for trial in undisturbed(queries, KILLED[method]).front()]


def beats(one, other):
    """Whether `one` is as good in both objectives and better in one."""
    better = (one["accuracy"] - other["accuracy"], other["latency"] - one["latency"])
    return min(better) >= 0 and max(better) > 0


def test_a_guided_search_that_is_killed_ten_times_asks_what_an_undisturbed_one_asks(tmp_path):
    path, queries, settings = tmp_path / "journal.jsonl", 20, KILLED["guided"]
    killed_ten_times(path, queries, settings, helper_after=None)
    opened, whole = Search.open(path), undisturbed(queries, settings)
    assert notations(opened) == notations(whole)
    assert [trial.values for trial in opened.front()] == [trial.values for trial in whole.front()]


@pytest.fixture
def hypernas(capsys):
    """Call the command line in this process -> exit code, lines of stdout, lines of stderr."""

    def call(*words):
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words], prog_name="hypernas")
        out = capsys.readouterr()
        return stop.value.code, out.out.splitlines(), out.err.splitlines()

    return call


def test_a_journal_in_a_space_of_choices_needs_no_file_of_it(hypernas, tmp_path):
    """What a process wrote, another reads that has never seen the file."""
    space, journal = tmp_path / "moved_away.yaml", tmp_path / "journal.jsonl"
    space.write_text("stem: [8, 16]\nbody.kernel: [3, 5]\nbody.depth: [1, 2]\n")
    _, (asked,), _ = hypernas("ask", journal, "--space", space, "--method", "random", "--queries", 3)
    space.unlink()
    spaces.REGISTRY.objects.pop("moved_away")
    hypernas("tell", journal, asked, "accuracy=70")
    assert Search.open(journal).best.architecture.notation == asked
    _, (other,), _ = hypernas("ask", journal)
    assert other != asked


def test_a_journal_in_a_space_that_is_code_says_how_to_name_its_file(tmp_path):
    path = tmp_path / "journal.jsonl"
    Search(SPACE, method="random", queries=3, journal=path)
    path.write_text(path.read_text().replace(f'"{SPACE}"', '"elsewhere"'))
    with pytest.raises(UserError, match=r"got 'elsewhere': .* name its file in \$HYPERNAS_PLUGINS or space="):
        Search.open(path)


def test_the_commands_search_from_one_journal(hypernas, tmp_path):
    path = tmp_path / "journal.jsonl"
    begin = ("--space", SPACE, "--method", "random", "--seed", 100, "--constraint", "params<=8e5", "--queries", 5)
    code, asked, _ = hypernas("ask", path, "--n", 2, *begin)
    assert (code, len(asked)) == (0, 2)
    assert hypernas("tell", path, asked[0], "accuracy=91.5", "latency=3")[0] == 0
    assert hypernas("tell", path, asked[1], "--failed", "out of memory")[0] == 0
    code, more, _ = hypernas("ask", path, "--n", 9)
    assert (code, len(more)) == (0, 3)
    assert len(hypernas("ask", path, "--n", 9, "--queries", 7)[1]) == 2
    _, trials, _ = hypernas("trials", path, "--json")
    states = [json.loads(line)["state"] for line in trials]
    assert states == ["told", "failed"] + ["waiting"] * 5
    assert hypernas("trials", path, "--front")[1] == [f"0  {asked[0]}  told  accuracy 91.5  latency 3"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("ask", "JOURNAL"), "a new journal needs a --space"),
        (("ask", "JOURNAL", "--space", SPACE, "--constraint", "params"), "a constraint must be a name"),
        (("ask", "JOURNAL", "--space", SPACE, "--set", "colour=1"), "a setting of hypernas-p must be one of"),
        (("tell", "JOURNAL", "x", "accuracy=1"), "a journal must be a file"),
        (("tell", "JOURNAL", "x"), "a trial must be told numbers such as accuracy=93.1"),
        (("trials", "JOURNAL"), "a journal must be a file"),
    ],
)
def test_a_mistake_is_one_sentence_exit_code_2_and_no_file(hypernas, tmp_path, words, told):
    code, out, err = hypernas(*(str(tmp_path / "j.jsonl") if word == "JOURNAL" else word for word in words))
    assert (code, out, len(err)) == (2, [], 1)
    assert told in err[0]
    assert list(tmp_path.iterdir()) == []


def test_what_the_readme_says_of_ask_and_tell_runs(hypernas, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (block,) = [block for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) if "hypernas ask" in block]
    said = [hypernas(*shlex.split(line)[1:]) for line in block.splitlines()]
    assert [(code, err) for code, _, err in said] == [(0, [])] * 3
    assert [len(out) for _, out, _ in said] == [10, 0, 1]


def test_a_constraint_is_split_at_its_sign():
    assert split_constraint("latency >= 3") == ("latency", ">= 3")
