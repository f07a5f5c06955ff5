"""Search methods, which decide what to query next given the results so far.

A method is a function `(task, trials, n, **its settings) -> candidates`. It returns at most about `n` candidates: as
many as it can name before it needs a result, and none if it has nothing more to propose. It keeps no state. Everything
it needs is in `trials`, so a search can continue from a file of trials as well as in memory. It sees no accuracy except
those in `trials`, so a search costs exactly the trials that are counted. What it may do without a trial is a `Task`.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch

from hypernas import predictors
from hypernas.errors import UserError
from hypernas.search.domains import Candidate, Domain
from hypernas.search.pareto import by_front

# Draws, or repeats in a row, after which there is nothing new within the limits.
ATTEMPTS = 1000
ACCURACY = "accuracy"
WORDS = {"params": "parameters", "flops": "multiply-adds"}
COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}
Values = Mapping[str, float]
Predict = Callable[[Sequence[Candidate]], np.ndarray]
Method = Callable[..., list[Candidate]]


@dataclass(frozen=True)
class Limit:
    """A limit on a quantity of an architecture, such as `params <= 3000000`."""

    name: str
    sign: str
    bound: float

    def allows(self, value: float) -> bool:
        """Return whether a value is within the limit."""
        return bool(COMPARE[self.sign](value, self.bound))

    def excess(self, value: float) -> float:
        """Return how far a value is beyond the bound, relative to the bound; at most 0 if it is allowed."""
        over = value - self.bound if self.sign in ("<", "<=") else self.bound - value
        return over / (abs(self.bound) or 1.0)


def at_most(max_flops: float = 0.0, max_params: float = 0.0) -> list[Limit]:
    """Return the limits of a recorded search; 0 means no limit."""
    bounds = {"flops": max_flops, "params": max_params}
    return [Limit(name, "<=", bound) for name, bound in bounds.items() if bound]


@dataclass(frozen=True)
class Objective:
    """A quantity to maximise, or to minimise if `sign` is -1."""

    name: str
    sign: int = 1


class Trials:
    """The results of a search, in order.

    `answers` holds every answer, as often as it was given, and `labelled` one for each function. `taken` holds all
    functions asked for, including those that wait for a result or whose trial failed.
    """

    def __init__(self) -> None:
        self.answers: list[tuple[Candidate, Values]] = []
        self.labelled: dict[int, tuple[Candidate, Values]] = {}
        self.taken: set[int] = set()

    def tell(
        self,
        key: int,
        candidate: Candidate,
        values: Values,
    ) -> None:
        """Record the values of a candidate; `key` is that of its function."""
        self.taken.add(key)
        self.answers.append((candidate, values))
        self.labelled.setdefault(key, (candidate, values))


@dataclass(eq=False)
class Task:
    """What a method may do without a trial: draw and mutate architectures within the limits, and predict.

    `measures` (name -> function of a candidate) are quantities that need no trial; parameters (`params`) and
    multiply-adds (`flops`) are always among them. All others are reported by trials and predicted, each by its own
    predictor with the same `settings`.
    """

    domain: Domain
    queries: int
    seed: int = 0
    limits: Sequence[Limit] = ()
    objectives: Sequence[Objective] = (Objective(ACCURACY),)
    measures: Mapping[str, Callable[[Candidate], float]] = field(default_factory=dict)
    graph_form: str = "contracted"
    settings: dict[str, Any] = field(default_factory=dict)
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        counted = {
            "params": lambda candidate: self.domain.count(candidate)[0],
            "flops": lambda candidate: self.domain.count(candidate)[1],
        }
        self.measures = counted | dict(self.measures)
        self._known_limits = [limit for limit in self.limits if limit.name in self.measures]

    @property
    def told(self) -> list[str]:
        """The names of the quantities that a trial must report, objectives first."""
        objectives = [objective.name for objective in self.objectives]
        limits = [limit.name for limit in self.limits]
        return [name for name in dict.fromkeys(objectives + limits) if name not in self.measures]

    def measure(
        self,
        name: str,
        candidates: Sequence[Candidate],
    ) -> np.ndarray:
        """Return the quantity `name`, which needs no trial, for each candidate (n,)."""
        return np.array([self.measures[name](candidate) for candidate in candidates], float)

    def excess(self, candidate: Candidate) -> float:
        """Return how far a candidate is beyond the limit that it breaks most; at most 0 if it is within all limits."""
        return max((limit.excess(self.measures[limit.name](candidate)) for limit in self._known_limits), default=0.0)

    def fits(self, candidate: Candidate) -> bool:
        """Return whether a candidate is within all limits that need no trial."""
        return all(limit.allows(self.measures[limit.name](candidate)) for limit in self._known_limits)

    def draw(self) -> Candidate:
        """Return a random architecture within the limits.

        If none of a hundred draws fits, mutate the one closest to the limits, again and again. Raise UserError, naming
        the extreme values found, if that fails too.
        """
        candidate = smallest = self.domain.sample(self.rng)
        for attempt in range(ATTEMPTS):
            if self.fits(candidate):
                return candidate
            smallest = min(smallest, candidate, key=self.excess)
            far = attempt < ATTEMPTS // 10
            candidate = self.domain.sample(self.rng) if far else self.domain.mutate(smallest, self.rng)
        least, given = [], []
        for limit in self._known_limits:
            least.append(f"{self.measures[limit.name](smallest):,} {WORDS.get(limit.name, limit.name)}")
            given.append(f"{limit.bound:,.15g}")
        has, got = " and ".join(least), " and ".join(given)
        extreme = "largest" if all(limit.sign in (">", ">=") for limit in self._known_limits) else "smallest"
        raise UserError(f"a limit must leave an architecture, and the {extreme} one found has {has}, got {got}")

    def mutate(self, candidate: Candidate) -> Candidate:
        """Return a mutation within the limits, or a random architecture if ten mutations break them."""
        for _ in range(10):
            child = self.domain.mutate(candidate, self.rng)
            if self.fits(child):
                return child
        return self.draw()

    def new(
        self,
        candidates: Sequence[Candidate],
        taken: set[int] | dict[int, Any],
    ) -> list[Candidate]:
        """Return the first of `candidates` for each function that is not `taken`, in the order of the last of each."""
        by_key: dict[int, Candidate] = {}
        keyed = list(zip(self.domain.keys(candidates), candidates, strict=True))
        # From the end, so that the first candidate of a function is the one that stays, at the place of the last.
        # Recorded searches depend on this order: it decides between equal predictions.
        for key, candidate in reversed(keyed):
            by_key[key] = candidate
        return [candidate for key, candidate in reversed(by_key.items()) if key not in taken]

    def start(
        self,
        trials: Trials,
        n: int,
    ) -> list[Candidate]:
        """Return random architectures of new functions until there are `n` trials, or fewer if nothing new is drawn.

        Return at least one if there are fewer than two labels to learn from.
        """
        lacking = n - len(trials.taken)
        if len(trials.labelled) < 2:
            lacking = max(lacking, 1)
        drawn: dict[int, Candidate] = {}
        repeats = 0
        while len(drawn) < lacking and repeats < ATTEMPTS:
            candidate = self.draw()
            (key,) = self.domain.keys([candidate])
            is_new = key not in trials.taken and key not in drawn
            repeats = 0 if is_new else repeats + 1
            if is_new:
                drawn[key] = candidate
        return list(drawn.values())

    def fit(
        self,
        predictor: str,
        trials: Trials,
        members: int = 1,
    ) -> list[Predict]:
        """Train `members` predictors that differ in the seed on all labelled candidates. Return a function for each.

        The function maps candidates to objectives (n, objectives), larger is better. Candidates predicted to break a
        limit get -inf.
        """
        labelled = list(trials.labelled.values())
        graphs = self.domain.graphs([candidate for candidate, _ in labelled], self.graph_form)
        seeds = range(self.seed, self.seed + members)
        fitted: dict[str, Sequence[Any]] = {}
        for name in self.told:
            labels = torch.tensor([values[name] for _, values in labelled], dtype=torch.float64)
            if members == 1:
                fitted[name] = [predictors.get(predictor)(**self.settings, seed=self.seed).fit(graphs, labels)]
            else:
                fitted[name] = predictors.fit_many(
                    predictor, self.settings, [graphs] * members, [labels] * members, list(seeds)
                )
        return [partial(self._predicted, {name: fitted[name][m] for name in fitted}) for m in range(members)]

    def _predicted(
        self,
        fitted: Mapping[str, Any],
        candidates: Sequence[Candidate],
    ) -> np.ndarray:
        graphs = self.domain.graphs(candidates, self.graph_form)
        told = {name: np.asarray(method.predict(graphs), np.float64) for name, method in fitted.items()}
        return self.values(candidates, told)

    def values(
        self,
        candidates: Sequence[Candidate],
        told: Mapping[str, np.ndarray],
    ) -> np.ndarray:
        """Return objectives (n, objectives), larger is better, from the columns `told` by trials or predicted.

        Candidates beyond a limit that needs a trial get -inf.
        """
        columns = []
        for objective in self.objectives:
            known = objective.name in self.measures
            column = self.measure(objective.name, candidates) if known else told[objective.name]
            columns.append(objective.sign * column)
        values = np.stack(columns, 1)
        for limit in self.limits:
            if limit.name not in self.measures:
                values[[not limit.allows(value) for value in told[limit.name]]] = -np.inf
        return values

    def answered(self, answers: Sequence[tuple[Candidate, Values]]) -> np.ndarray:
        """Return the objectives of some answers."""
        told = {name: np.array([values[name] for _, values in answers], float) for name in self.told}
        return self.values([candidate for candidate, _ in answers], told)


def order(values: np.ndarray) -> np.ndarray:
    """Return row indices of objectives, best first: by the single objective, or front by front if there are several."""
    return np.argsort(-values[:, 0], kind="stable") if values.shape[1] == 1 else by_front(values)


def n_random(first: int, queries: int) -> int:
    """Return the number of random queries with which a predictor-based search begins: `first`, or half if `first` is 0.

    >>> n_random(156, 206), n_random(0, 200)
    (156, 100)
    """
    return first or max(2, queries // 2)


def sizes_by_budget(queries: int) -> dict[str, int]:
    """Return the sizes of evolution: a population of as many random queries as other methods, at most 50.

    A fifth of it competes in a tournament. A population as large as the budget would never be mutated, and the search
    would be random. The sizes are ours.

    >>> sizes_by_budget(206), sizes_by_budget(30)
    ({'population': 50, 'tournament': 10}, {'population': 15, 'tournament': 3})
    """
    population = min(50, n_random(0, queries))
    return {"population": population, "tournament": max(2, population // 5)}


def own_settings(method: str, queries: int) -> dict[str, Any]:
    """Return a method's keyword arguments with the defaults for `queries`. Raise UserError if the method is unknown."""
    if method not in METHODS:
        raise UserError(f"a search method must be one of {', '.join(METHODS)}, got {method!r}")
    parameters = inspect.signature(METHODS[method]).parameters.values()
    own = {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    return own | (sizes_by_budget(queries) if method == "evolution" else {})


def random_search(
    task: Task,
    trials: Trials,
    n: int,
) -> list[Candidate]:
    """Propose a random architecture."""
    return [task.draw()]


def evolution(
    task: Task,
    trials: Trials,
    n: int,
    *,
    population: int = 50,
    tournament: int = 10,
) -> list[Candidate]:
    """Regularised evolution (Real et al. 2019): mutate the best of a random few; the oldest dies."""
    candidate = task.draw()
    alive = trials.answers[-population:]
    if len(alive) < population:
        return [candidate]
    contest = [alive[i] for i in task.rng.choice(population, min(tournament, population), replace=False)]
    winner, _ = contest[order(task.answered(contest))[0]]
    return [task.mutate(winner)]


def top_k(
    task: Task,
    trials: Trials,
    n: int,
    *,
    predictor: str = "np",
    first: int = 0,
    candidates: int = 2000,
) -> list[Candidate]:
    """Train once on `first` random architectures, then query the others from the highest prediction down.

    The others are all rows of a table, or `candidates` random architectures of a whole space.
    """
    n_first = n_random(first, task.queries)
    if drawn := task.start(trials, n_first):
        return drawn
    rows = task.domain.rows
    others = task.new([task.draw() for _ in range(candidates)] if rows is None else rows, trials.taken)
    if not others:
        return []
    beginning = Trials()
    beginning.labelled = dict(islice(trials.labelled.items(), n_first))
    (predict,) = task.fit(predictor, beginning)
    ranked = [others[i] for i in order(predict(others))]
    return [candidate for candidate in ranked if task.fits(candidate)]


def guided(
    task: Task, trials: Trials, n: int, *,
    predictor: str = "np", first: int = 0, step: int = 10, population: int = 50, generations: int = 5,
) -> list[Candidate]:  # fmt: skip
    """Predictor-guided search with iterative sampling: train, query the `step` best predictions, train again.

    In a table, all rows are predicted. In a whole space, evolution on predictions looks for the best for `generations`
    rounds, starting from the best labelled architectures and as many random ones.

    NOTE[PAPER]: paper says how many queries a search takes and not what it does with them; we retrain every `step`
    queries, with sizes of our own; because a predictor errs most where it has no labels yet, at the top.
    """
    if drawn := task.start(trials, n_random(first, task.queries)):
        return drawn
    (predict,) = task.fit(predictor, trials)
    found = breed(task, trials, predict, population, generations)
    return list(islice(filter(task.fits, found), step))


def ensemble(
    task: Task,
    trials: Trials,
    n: int,
    *,
    predictor: str = "hypernas-p",
    first: int = 0,
    step: int = 10,
    members: int = 3,
    population: int = 50,
    generations: int = 5,
) -> list[Candidate]:
    """As `guided`, but with an ensemble of `members` that differ in the seed; each names its best candidate in turn.

    The members agree near the labels and differ far from them. A batch therefore mixes candidates that are predicted to
    be good with candidates that are uncertain: Thompson sampling with an ensemble in place of a posterior.
    """
    if drawn := task.start(trials, n_random(first, task.queries)):
        return drawn
    members_predict = task.fit(predictor, trials, members)

    def mean(candidates: Sequence[Candidate]) -> np.ndarray:
        return np.mean([predict(candidates) for predict in members_predict], 0)

    rows = task.domain.rows
    if rows is None:
        found = breed(task, trials, mean, population, generations)
    else:
        found = task.new(rows, trials.taken)
    found = [candidate for candidate in found if task.fits(candidate)]
    if not found:
        return []
    rankings = [iter(order(predict(found)).tolist()) for predict in members_predict]
    batch: list[int] = []
    for ranking in islice(cycle(rankings), min(n, step, len(found))):
        batch.append(next(place for place in ranking if place not in batch))
    return [found[place] for place in batch]


def breed(
    task: Task,
    trials: Trials,
    predict: Predict,
    population: int,
    generations: int,
) -> list[Candidate]:
    """Return new architectures, most promising first: all rows of a table, or what evolution on predictions finds."""
    if task.domain.rows is not None:
        return _ranked(task.new(task.domain.rows, trials.taken), predict)
    labelled = list(trials.labelled.values())
    parents = [labelled[i][0] for i in order(task.answered(labelled))[:population]]
    found = [task.draw() for _ in range(population)]
    for _ in range(generations):
        found = _ranked(task.new([*found, *map(task.mutate, parents)], trials.taken), predict)
        if not found:
            break
        parents = found[:population]
    return found


def _ranked(candidates: list[Candidate], predict: Predict) -> list[Candidate]:
    return [candidates[i] for i in order(predict(candidates))] if candidates else []


def tpe(
    task: Task,
    trials: Trials,
    n: int,
) -> list[Candidate]:
    """The tree-structured Parzen estimator of Optuna, with Optuna's defaults, over the choices of a space."""
    from hypernas.search.parzen import suggest

    return [suggest(task, trials)]


def bayesian(
    task: Task,
    trials: Trials,
    n: int,
    *,
    first: int = 10,
    step: int = 10,
    parents: int = 15,
    fresh: int = 300,
) -> list[Candidate]:
    """Bayesian optimisation with a Gaussian process on random networks and paths of the graph, updated every `step`.

    Candidates are mutations of the best `parents` and `fresh` random architectures. No network is trained, so a
    proposal takes seconds.
    """
    from hypernas.search.bayesian import suggest

    return task.start(trials, first) or suggest(task, trials, min(n, step), parents, fresh)


METHODS: dict[str, Method] = {
    "random": random_search,
    "evolution": evolution,
    "top-k": top_k,
    "guided": guided,
    "pareto": guided,
    "ensemble": ensemble,
    "bayesian": bayesian,
    "tpe": tpe,
}
# `pareto` is `guided` for every size: those come first that no smaller one is predicted to beat, of all sizes alike.
OBJECTIVES = {"pareto": (Objective("flops", -1), Objective(ACCURACY))}
