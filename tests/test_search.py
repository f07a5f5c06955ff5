"""Claims about search: what counts as a query, what the limits admit, what each method asks for, the command."""

import json
import re
from functools import cache
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from hypernas import spaces
from hypernas.cli import main
from hypernas.data import Table
from hypernas.data.labelled import write_labelled
from hypernas.errors import UserError
from hypernas.lab import search_experiment as searching
from hypernas.lab import search_summary as found
from hypernas.lab.search_experiment import Search
from hypernas.search import loop, methods
from hypernas.search.domains import Pool, WholeSpace
from hypernas.search.methods import METHODS, OBJECTIVES, Objective, Task, Trials, at_most
from hypernas.search.pareto import by_front, pareto_front
from hypernas.search.parzen import choices_of
from hypernas.spaces.choice import ChoiceSpace
from hypernas.view import comparisons

COMMAND = "search --space nasbench201 --dataset cifar10 --queries 8".split()

# Optuna's TPE searches spaces of choices alone, and the Gaussian process of `bayesian` reads graphs of a real space.
OF_ANY_DOMAIN = [name for name in METHODS if name not in ("tpe", "bayesian")]


class Line:
    """The numbers 0..n-1, two of them a function; the larger, the more accurate and the more costly."""

    source = "a toy table"
    space = SimpleNamespace(name="line", canonical=lambda number, form: SimpleNamespace(notation=str(number)))

    def __init__(self, n=200, rows=True):
        self.n, self.read, self.parents = n, [], []
        self.rows = range(n) if rows else None

    def sample(self, rng):
        return int(rng.integers(self.n))

    def mutate(self, number, rng):
        self.parents.append(number)
        return int(np.clip(number + rng.integers(-6, 7), 0, self.n - 1))

    def keys(self, numbers):
        return [number // 2 for number in numbers]

    def graphs(self, numbers, graph_form):
        return np.array(numbers)

    def architecture(self, number):
        return number

    def count(self, number):
        return 10 + number, 1000 + 10 * number

    def accuracy(self, number):
        self.read.append(number)
        return 50 + number / 10


class Backwards:
    """A predictor that has it the wrong way round."""

    trained = ()

    def __init__(self, *, seed=0, epochs=200):
        pass

    def fit(self, numbers, accuracy):
        Backwards.trained = numbers.tolist()
        return self

    def predict(self, numbers):
        return 90.0 - numbers


class Right(Backwards):
    def predict(self, numbers):
        return 50 + numbers / 10


@pytest.fixture(autouse=True)
def toy_predictors(monkeypatch):
    there = {"np": Right, "hypernas-p": Right, "backwards": Backwards}
    toys = SimpleNamespace(get=there.__getitem__, names=lambda: sorted(there), can_fit_many=lambda name: False)
    toys.fit_many = lambda name, settings, graphs, labels, seeds: [
        there[name](**settings, seed=seed).fit(*data) for seed, *data in zip(seeds, graphs, labels, strict=True)
    ]
    monkeypatch.setattr(methods, "predictors", toys)
    monkeypatch.setattr(searching, "predictors", toys)


def searched(method, queries=40, domain=None, seed=100, limits=None, **settings):
    """-> the domain, and all answers."""
    domain = domain or Line()
    limits = at_most(**(limits or {}))
    task = Task(domain, queries, seed, limits, objectives=OBJECTIVES.get(method, (Objective("accuracy"),)))
    return domain, list(loop.search(task, loop.bound(method, settings)))


@pytest.mark.parametrize("method", OF_ANY_DOMAIN)
@pytest.mark.parametrize("rows", [True, False])
def test_nothing_is_read_that_is_not_counted_and_no_function_twice(method, rows):
    domain, answers = searched(method, domain=Line(rows=rows))
    assert domain.read == [each.candidate for each in answers]
    assert [each.n for each in answers] == list(range(1, 41))
    assert len(set(domain.keys(domain.read))) == 40


@pytest.mark.parametrize("method", OF_ANY_DOMAIN)
def test_a_search_ends_when_every_function_is_known(method):
    domain, answers = searched(method, queries=30, domain=Line(n=24))
    assert len(answers) == len(domain.read) == 12


@pytest.mark.parametrize("method", OF_ANY_DOMAIN)
def test_the_best_so_far_is_the_best_of_what_was_asked(method):
    _, answers = searched(method)
    so_far = np.maximum.accumulate([each.accuracy for each in answers])
    assert [each.best_accuracy for each in answers] == so_far.tolist()
    assert all(50 + each.best / 10 == each.best_accuracy for each in answers)


@pytest.mark.parametrize("method", OF_ANY_DOMAIN)
def test_the_seed_decides_all(method):
    assert searched(method)[1] == searched(method)[1]
    assert searched(method)[1] != searched(method, seed=101)[1]


@pytest.mark.parametrize("method", OF_ANY_DOMAIN)
@pytest.mark.parametrize(
    "limits", [{"max_flops": 1900.0}, {"max_params": 100.0}, {"max_flops": 9e9, "max_params": 70.0}]
)
def test_nothing_over_a_limit_is_asked(method, limits):
    domain, _ = searched(method, queries=20, limits=limits)
    assert max(domain.read) <= min(90, limits.get("max_params", 100) - 10)


# What each method asked for before it kept its state in `trials`: recorded rows must stay what they are.
SIZES = {"first": 8, "step": 5, "population": 10, "generations": 2}
SHORT = {
    "random": {},
    "evolution": {"population": 6, "tournament": 3},
    "top-k": {"first": 8, "candidates": 60},
    "guided": SIZES,
    "pareto": SIZES,
}
RECORDED = {
    ("random", True, 0.0): "105 648 910 477 819 502 286 734 542 491 424 76 36 415 163 989 993 167",
    ("random", True, 6000.0): "105 477 286 491 424 76 36 415 163 167 316 229 361 220 41 107 117 408",
    ("random", False, 0.0): "105 648 910 477 819 502 286 734 542 491 424 76 36 415 163 989 993 167",
    ("random", False, 6000.0): "105 477 286 491 424 76 36 415 163 167 316 229 361 220 41 107 117 408",
    ("evolution", True, 0.0): "105 648 910 477 819 502 904 908 913 901 907 916 914 921 922 928 927 933",
    ("evolution", True, 6000.0): "105 477 286 491 424 76 480 473 488 486 484 493 495 496 498 500",
    ("evolution", False, 0.0): "105 648 910 477 819 502 904 908 913 901 907 916 914 921 922 928 927 933",
    ("evolution", False, 6000.0): "105 477 286 491 424 76 480 473 488 486 484 493 495 496 498 500",
    ("top-k", True, 0.0): "105 648 910 477 819 502 286 734 998 996 994 992 990 988 986 984 982 980",
    ("top-k", True, 6000.0): "105 477 286 491 424 76 36 415 500 498 496 494 492 488 486 484 482 480",
    ("top-k", False, 0.0): "105 648 910 477 819 502 286 734 993 989 979 977 926 920 886 882 881 835",
    ("top-k", False, 6000.0): "105 477 286 491 424 76 36 415 481 463 456 453 451 441 434 432 430 408",
    ("guided", True, 0.0): "105 648 910 477 819 502 286 734 998 996 994 992 990 988 986 984 982 980",
    ("guided", True, 6000.0): "105 477 286 491 424 76 36 415 500 498 496 494 492 488 486 484 482 480",
    ("guided", False, 0.0): "105 648 910 477 819 502 286 734 996 993 989 984 914 995 990 987 982 926",
    ("guided", False, 6000.0): "105 477 286 491 424 76 36 415 497 494 421 418 417 492 485 480 478 474",
    ("pareto", True, 0.0): "105 648 910 477 819 502 286 734 0 470 948 180 654 2 478 958 184 662",
    ("pareto", True, 6000.0): "105 477 286 491 424 76 36 415 0 480 184 364 70 2 492 190 372 74",
    ("pareto", False, 0.0): "105 648 910 477 819 502 286 734 36 494 167 738 424 9 508 170 740 474",
    ("pareto", False, 6000.0): "105 477 286 491 424 76 36 415 41 280 108 413 167 33 363 123 451 276",
}


@pytest.mark.parametrize(("method", "rows", "max_flops"), RECORDED)
def test_a_recorded_search_asks_for_what_it_asked_for_when_it_was_recorded(method, rows, max_flops):
    domain, limits = Line(n=1000, rows=rows), {"max_flops": max_flops}
    searched(method, 18, domain, seed=107, limits=limits, **SHORT[method])
    assert " ".join(map(str, domain.read)) == RECORDED[method, rows, max_flops]


def test_the_pareto_front_equals_the_slow_definition_for_two_and_three_objectives():
    for n_objectives in (2, 3):
        values = np.random.default_rng(0).integers(0, 12, (200, n_objectives)).astype(float)
        at_least, more = values[:, None] >= values[None], values[:, None] > values[None]
        beaten = (at_least.all(2) & more.any(2)).any(0)
        front = pareto_front(*values.T)
        assert {*map(tuple, values[front])} == {*map(tuple, values[~beaten])}
        assert (np.diff(values[front, 0]) <= 0).all()


@pytest.mark.parametrize("queries", [10, 30, 50])
def test_evolution_mutates_after_half_of_a_small_budget(queries):
    domain, _ = searched("evolution", queries, domain=Line(n=1000), **methods.sizes_by_budget(queries))
    assert len(domain.parents) >= queries // 2
    asked = Search("search", "nasbench201", "cifar10", "evolution", queries, 100).resolved()
    assert asked.settings["population"] == queries // 2


@pytest.mark.parametrize("queries", [100, 200, 206])
def test_the_sizes_of_recorded_budgets_are_those_of_their_rows(queries):
    assert methods.sizes_by_budget(queries) == {"population": 50, "tournament": 10}


def test_a_limit_that_few_obey_is_reached_by_ever_smaller_mutations():
    domain, _ = searched("random", queries=3, domain=Line(n=20_000), limits={"max_flops": 1055.0})
    assert max(domain.read) <= 5


def test_a_limit_that_nothing_obeys_names_the_smallest():
    for limits, words in (
        ({"max_flops": 999.0}, "the smallest one found has 1,000 multiply-adds, got 999"),
        ({"max_flops": 5.0, "max_params": 3.0}, "1,000 multiply-adds and 10 parameters, got 5 and 3"),
    ):
        with pytest.raises(UserError, match=words):
            searched("random", limits=limits)


def test_the_oldest_dies_however_good_it_is():
    domain, trials, asked = Line(), Trials(), []
    task = Task(domain, 1000, 100)
    for n in range(61):
        asked += METHODS["evolution"](task, trials, 1, population=10, tournament=10)
        trials.tell(n, asked[-1], {"accuracy": 99.0 if n == 0 else 50.0 + n / 1000})
    assert domain.parents == [asked[0], *asked[10:60]]


def test_evolution_mutates_the_best_of_its_contest():
    domain, _ = searched("evolution", queries=60, population=20, tournament=20)
    assert min(domain.parents) > 150


@pytest.mark.parametrize("predictor", ["np", "backwards"])
def test_top_k_is_sorting_by_prediction(predictor):
    domain, _ = searched("top-k", predictor=predictor, first=15)
    first, rest = domain.read[:15], domain.read[15:]
    assert Backwards.trained == first
    others = [n for n in range(0, 200, 2) if n // 2 not in domain.keys(first)]
    assert domain.keys(rest) == [n // 2 for n in sorted(others, reverse=predictor == "np")[:25]]


def test_methods_begin_with_the_same_random_architectures():
    reads = [searched(method)[0].read for method in OF_ANY_DOMAIN]
    assert all(read[:20] == reads[0][:20] for read in reads)


def test_guided_search_trains_on_all_it_knows_and_finds_what_random_search_does_not():
    domain, answers = searched("guided", domain=Line(n=2000), first=20, step=10)
    assert Backwards.trained == domain.read[:30]
    assert answers[-1].best == max(domain.read)
    assert min(domain.read[20:]) > 1900 > np.mean(searched("random", domain=Line(n=2000))[0].read[20:])


def test_pareto_search_asks_for_all_sizes_and_guided_search_for_the_best():
    spread = {method: np.ptp(searched(method, first=20)[0].read[20:]) for method in ("pareto", "guided")}
    assert spread["pareto"] > 150 > spread["guided"]


def test_the_first_of_every_front_come_before_what_a_smaller_one_beats():
    accuracy = np.array([1.0, 5.0, 3.0, 4.0])
    assert sorted(by_front(np.stack([-np.arange(4.0), accuracy], 1))[:2].tolist()) == [0, 1]


def test_what_has_no_prediction_comes_last_and_ends_no_search():
    accuracy = np.array([np.nan, 2.0, np.nan, 3.0])
    order = by_front(np.stack([-np.arange(4.0), accuracy], 1)).tolist()
    assert (sorted(order[:2]), sorted(order[2:])) == ([1, 3], [0, 2])


def test_top_k_ends_where_all_that_it_draws_is_known(monkeypatch):
    monkeypatch.setattr(Line, "graphs", lambda self, numbers, form: np.stack(numbers))
    domain, answers = searched("top-k", queries=9, domain=Line(n=4, rows=False), first=2)
    assert len(answers) == len(domain.read) == 2


def test_tpe_searches_the_choices_of_a_space_and_finds_what_random_search_does_not():
    pytest.importorskip("optuna")
    space = ChoiceSpace({f"stage{i}.kernel": [3, 5, 7] for i in range(8)})

    class Whole(WholeSpace):
        def accuracy(self, architecture):
            return 50.0 + sum(space.assignment(architecture).values())

    found = {}
    for method in ("random", "tpe"):
        answers = list(loop.search(Task(Whole(space), 60, 100), METHODS[method]))
        found[method] = [answer.accuracy for answer in answers]
        assert len({answer.candidate for answer in answers}) == 60
    assert np.mean(found["tpe"][40:]) > np.mean(found["random"][40:]) + 1
    with pytest.raises(UserError, match="tpe needs a space with a fixed number of choices, got mobilenetv3"):
        METHODS["tpe"](Task(WholeSpace(spaces.get("mobilenetv3")), 9, 100), Trials(), 1)


@pytest.mark.parametrize("name", ["nasbench101", "nasbench201", "nasbenchmacro"])
def test_the_choices_of_a_notation_make_the_same_architecture_again(name):
    space = spaces.get(name)
    choices, encode, decode = choices_of(space)
    architecture = space.sample(np.random.default_rng(5))
    assignment = encode(architecture)
    assert all(assignment[place] in values for place, values in choices.items())
    assert decode(assignment).notation == architecture.notation
    assert max(map(len, choices.values())) == {"nasbench101": 3, "nasbench201": 5, "nasbenchmacro": 3}[name]


def test_tpe_asks_again_where_its_choices_are_no_cell_of_the_space():
    pytest.importorskip("optuna")
    space = spaces.get("nasbench101")

    class Whole(WholeSpace):
        def accuracy(self, architecture):
            return 50.0 + architecture.notation.count("conv3x3")

    answers = list(loop.search(Task(Whole(space), 40, 100), METHODS["tpe"]))
    accuracies = [answer.accuracy for answer in answers]
    assert len({answer.candidate for answer in answers}) == 40
    assert np.mean(accuracies[20:]) > np.mean(accuracies[:10]) + 0.5
    with pytest.raises(UserError, match="must be connected and have at most 9 edges"):
        space.architecture(dict.fromkeys(space.choices, 0) | {f"vertex {v}": "conv1x1" for v in range(1, 6)})


@pytest.fixture
def small(nasbench201):
    """The 1,000 first rows of a table."""
    full = nasbench201.table
    columns = {name: column[:1000] for name, column in full.columns.items()}
    table = Table(full.source, full.kind, columns, full.validation[:1000], full.test[:1000])
    return SimpleNamespace(
        space=nasbench201.space, table=table, dataset="cifar10", test=nasbench201.test[:1000],
        validation=nasbench201.validation[:1000], graphs=cache(lambda form: nasbench201.space.graphs(table, form)),
    )  # fmt: skip


def test_a_row_is_mutated_into_another_row_and_missing_ones_into_near_ones(small, rng):
    pool = Pool(small)
    assert len(pool) == len(set(pool.keys(pool.rows))) < 1000
    children = [pool.mutate(7, rng) for _ in range(40)]
    assert set(children) <= set(pool.rows)
    edits = [(small.graphs("raw").ops[child] != small.graphs("raw").ops[7]).sum() for child in children]
    strangers = [(small.graphs("raw").ops[pool.sample(rng)] != small.graphs("raw").ops[7]).sum() for _ in range(40)]
    assert np.mean(edits) < np.mean(strangers) - 1


def test_a_row_says_what_was_found_on_the_way(small):
    task = Task(Pool(small), 20, 100)
    row = found.report(task, list(loop.search(task, METHODS["random"])))
    n, validation, test = row["curve"][-1]
    assert row["queries"] == 20 >= n
    assert (validation, test) == (row["validation_accuracy"], row["test_accuracy"])
    assert row["regret"] == pytest.approx(float(small.test.max()) - test)
    assert row["multiply_adds"] in [adds for adds, _ in row["front"]]
    parsed = small.space.parse(row["architecture"])
    assert small.space.count(parsed) == (row["parameters"], row["multiply_adds"])


def test_the_smallest_mobilenet_is_found_where_a_limit_asks_for_it(monkeypatch):
    try:
        mobilenet = spaces.get("mobilenetv3")
        space = WholeSpace(mobilenet, mobilenet.oracle())
    except UserError as missing:
        pytest.skip(str(missing))
    _, adds = space.count(space.space.parse("|".join(["k3e3 k3e3"] * 5)))
    monkeypatch.setattr(methods, "ATTEMPTS", 600)
    task = Task(space, 1, 100, at_most(max_flops=1.02 * adds))
    (answer,) = loop.search(task, METHODS["random"])
    assert space.count(answer.candidate)[1] <= 1.02 * adds
    assert 60 < answer.accuracy < 85
    with pytest.raises(UserError, match=f"has {adds:,} multiply-adds, got 1"):
        Task(space, 2, 100, at_most(max_flops=1.0)).draw()


@pytest.fixture
def hypernas(monkeypatch, tmp_path, capsys):
    """Call `hypernas search` over a toy table -> exit code, lines of stdout, lines of stderr."""
    monkeypatch.setenv("HYPERNAS_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(searching, "domain", lambda space, dataset, oracle: Line())
    monkeypatch.setattr(searching, "settings_of", lambda name: {"epochs": 200})
    monkeypatch.setattr(searching, "arguments", lambda like, progress, device: {"epochs": like.settings["epochs"]})

    def call(*words):
        with pytest.raises(SystemExit) as stop:
            main([*COMMAND, *(str(word) for word in words)], prog_name="hypernas")
        out = capsys.readouterr()
        return stop.value.code, out.out.splitlines(), out.err.splitlines()

    return call


def test_a_recorded_search_is_read_and_not_done_again(hypernas, tmp_path):
    code, out, _ = hypernas("--seed", "0:2", "--max-flops", "1900", "--json")
    rows = [json.loads(line) for line in out]
    assert (code, [row["seed"] for row in rows]) == (0, [0, 1])
    assert {row["settings"]["max_flops"] for row in rows} == {1900.0}
    assert rows[0]["settings"]["predictor"] == "np"
    assert {*rows[0]} >= {"device", "version", "commit", "seconds", "started", "source", "curve", "front"}
    file = tmp_path / "results" / "search.jsonl"
    before = file.read_bytes()
    again = hypernas("--seed", "0:2", "--max-flops", "1900", "--json")[1]
    assert again == [line.replace('"state": "trained"', '"state": "recorded"') for line in out]
    assert file.read_bytes() == before
    assert hypernas("--seed", "0", "--method", "random")[0] == 0
    assert len(file.read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--method annealing", "a search method must be one of random, evolution, top-k, guided, pareto, ensemble"),
        ("--predictor guess", "predictor must be one of backwards, hypernas-p, np, got 'guess'"),
        ("--method random --predictor np", "a setting of random must be one of .*, got 'predictor'"),
        ("--queries 1", "queries"),
        ("--first 9", "first must be from 2 to the 8 queries, got 9"),
        ("--max-flops 0", "max-flops"),
        ("--max-flops nan", "max_flops must be a finite number, got nan|must be at least 0, got nan"),
        ("--max-flops 10", "the smallest one found has 1,000 multiply-adds, got 10"),
        ("--max-params few", "max-params"),
        ("--oracle crystal", "oracle must be one of table, surrogate, got crystal"),
        ("--seed 3:3", "seed must hold at least one number"),
        ("--seed -1", "seed must be from 0 to 4294967295, got -1"),
        ("--set step=0", "step must be at least 1, got 0"),
        ("--set colour=1", "a setting of guided must be one of"),
        ("--method evolution --set population=8", "population must be less than the 8 queries, or evolution is random"),
        ("--first 4 --set first=4", "a setting must be given once, got 'first' twice"),
        ("--profile huge", "profile must be one of"),
    ],
)
def test_a_mistake_is_one_sentence_exit_code_2_and_no_file(hypernas, tmp_path, words, told):
    code, out, err = hypernas(*words.split())
    assert (code, out, len(err)) == (2, [], 1)
    assert re.search(told, err[0])
    assert list(tmp_path.iterdir()) == []


def test_a_space_without_surrogate_has_a_table_only():
    with pytest.raises(UserError, match="oracle must be table for nasbench201"):
        searching.domain("nasbench201", "cifar10", "surrogate")


def test_a_whole_space_of_which_only_a_table_is_there_names_the_option_that_searches_it(tmp_path, monkeypatch, capsys):
    space, rng = spaces.get("mobilenetv3"), np.random.default_rng(0)
    monkeypatch.setenv("HYPERNAS_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HYPERNAS_RESULTS", str(tmp_path / "results"))
    columns = {"notation": [space.sample(rng).notation for _ in range(12)], "parameters": range(12)}
    columns |= {name: np.linspace(50, 80, 12) for name in ("validation_0", "test_0")}
    write_labelled(
        tmp_path / "benchmarks" / "mobilenetv3.parquet", columns, {"images": "digits", "epochs": 1, "seeds": 1}
    )
    command = "search --space mobilenetv3 --method random --queries 8".split()

    def call(*words):
        with pytest.raises(SystemExit) as stop:
            main([*command, *words], prog_name="hypernas")
        return stop.value.code, capsys.readouterr()

    searching.domain.cache_clear()
    code, said = call()
    (sentence,) = said.err.splitlines()
    assert (code, said.out) == (2, "")
    assert "no mobilenetv3 surrogate is present" in sentence
    words = re.search("`(--oracle table .*)` searches the rows of the table that is present", sentence)[1]
    code, said = call(*words.split())
    assert (code, said.out.startswith("random  mobilenetv3/digits  seed 0  8 queries  best 8")) == (0, True)


@pytest.fixture
def rows():
    """Two seeds of one search, as `results.flat` has them."""
    place = {"space": "nasbench201", "dataset": "cifar10", "method": "random", "n_train": 4, "queries": 4}
    one = {**place, "seed": 0, "curve": "[[1, 80.0, 81.0], [3, 90.0, 92.0]]", "elsewhere": "{}"}
    two = {**place, "seed": 1, "curve": "[[1, 70.0, 71.0]]", "elsewhere": '{"cifar100": [null, 70.0]}'}
    accuracy = {"validation_accuracy": [90.0, 70.0], "test_accuracy": [92.0, 71.0]}
    return pd.DataFrame([one, two]).assign(**accuracy)


def test_curves_hold_the_best_so_far_after_every_query_over_the_seeds(rows):
    curves = found.curves(rows)
    assert curves["queries"].tolist() == [1, 2, 3, 4]
    assert curves["mean"].tolist() == [75.0, 75.0, 80.0, 80.0]
    assert (curves["low"] <= curves["mean"]).all()
    assert (curves["n_seeds"] == 2).all()
    with pytest.raises(UserError, match="one row a method"):
        found.curves(rows.assign(seed=0))
    assert (curves["n_random"] == 0).all()
    guided = found.curves(rows.assign(method="guided", predictor="np", first=0))
    assert (guided["n_random"] == 2).all()
    assert comparisons.best_so_far(guided).lines[0].get_xdata().tolist() == [2, 3, 4]
    assert len(comparisons.best_so_far(curves).lines) == 1
    assert found.curves(rows[:0]).empty


def test_the_table_of_accuracies_has_the_papers_lines_and_ours(rows):
    lines = found.accuracies(rows, "nasbench201").set_index("method")
    assert lines.loc["hypernas, quoted", "cifar10 test"] == "94.37 ± 0.00"
    assert lines.loc["pinat, quoted", "ImageNet16-120 validation"] == "45.95 ± 0.21"
    assert lines.loc["random", "cifar10 test"] == "81.50 ± 14.85"
    assert lines.loc["random", "cifar100 test"] == "70.00"
    assert lines.loc["random", "cifar100 validation"] == "–"
    assert len(found.accuracies(rows[:0], "nasbench201")) == 2
    assert list(found.accuracies(rows[:0], "darts").set_index("method").columns) == ["searched on", "queries", "seeds"]


def test_a_search_is_found_by_its_settings():
    place = ("search", "nasbench201", "cifar10", "guided", 20, 0)
    assert Search(*place).key() == Search(*place, settings={"max_flops": 0, "step": "10"}).key()
    assert Search(*place).key() != Search(*place, settings={"max_flops": "5e8"}).key()


def test_queries_to_reach_counts_up_to_the_mean_end_of_another_method():
    ends = {"evolution": [(1, 90.0), (9, 92.0)], "bayesian": [(1, 90.0), (3, 92.5)], "random": [(1, 90.0), (8, 91.0)]}
    rows = pd.DataFrame(
        {
            "space": "toy",
            "method": method,
            "seed": seed,
            "queries": 10,
            "validation_accuracy": curve[-1][1],
            "curve": json.dumps([[query, accuracy, accuracy] for query, accuracy in curve]),
        }
        for method, curve in ends.items()
        for seed in (0, 1)
    )
    lines = found.queries_to_reach(rows, "evolution").set_index("method")
    assert lines["queries"].to_dict() == {"evolution": 9.0, "bayesian": 3.0, "random": np.inf}
    assert lines["share"].to_dict() == {"evolution": 1.0, "bayesian": 1.0, "random": 0.0}
    assert set(lines["level"]) == {92.0}
