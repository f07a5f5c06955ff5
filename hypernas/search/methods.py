"""Search: methods that ask for one accuracy after the other, and the counter that answers.

A method is a generator: it yields an architecture and is sent its accuracy. It has no other way to learn one, so that a
search costs the queries that are counted and no more. What a method may do without a query is a `Task`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch

from hypernas import predictors
from hypernas.errors import UserError
from hypernas.search.oracles import Candidate, Domain
from hypernas.search.pareto import pareto_front

ATTEMPTS = 1000
GOLDEN = (5**0.5 - 1) / 2
Labelled = dict[int, tuple[Candidate, float]]  # function -> one architecture with it, its accuracy
Asking = Generator[Candidate, float, Any]
Predict = Callable[[Sequence[Candidate]], np.ndarray]
Rank = Callable[["Task", np.ndarray, Sequence[Candidate]], np.ndarray]


def n_random(first: int, queries: int) -> int:
    """How many random queries a search with a predictor begins with: `first`, or half of all where it is 0.

    >>> n_random(156, 206), n_random(0, 200)
    (156, 100)
    """
    return first or max(2, queries // 2)


@dataclass(eq=False)
class Task:
    """What a method may do without a query: draw and change architectures within the limits, and predict.

    `max_flops` multiply-adds and `max_params` parameters, 0 for no limit; `settings` are those of the predictor.
    """

    domain: Domain
    queries: int
    seed: int = 0
    max_flops: float = 0.0
    max_params: float = 0.0
    graph_form: str = "contracted"
    settings: dict[str, Any] = field(default_factory=dict)
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def excess(self, candidate: Candidate) -> float:
        """How many times the stricter limit an architecture is; at most 1 for one within both."""
        if not (self.max_flops or self.max_params):
            return 0.0
        parameters, adds = self.domain.count(candidate)
        return max(n / limit for n, limit in ((parameters, self.max_params), (adds, self.max_flops)) if limit)

    def fits(self, candidate: Candidate) -> bool:
        return self.excess(candidate) <= 1

    def draw(self) -> Candidate:
        """A random architecture within the limits: where a hundred are too large, ever smaller mutations of the least.

        Raises UserError where none is found, and says how small the smallest is.
        """
        candidate = smallest = self.domain.sample(self.rng)
        for attempt in range(ATTEMPTS):
            if self.fits(candidate):
                return candidate
            smallest = min(smallest, candidate, key=self.excess)
            far = attempt < ATTEMPTS // 10
            candidate = self.domain.sample(self.rng) if far else self.domain.mutate(smallest, self.rng)
        parameters, adds = self.domain.count(smallest)
        limits = [("multiply-adds", adds, self.max_flops), ("parameters", parameters, self.max_params)]
        least = " and ".join(f"{n:,} {what}" for what, n, limit in limits if limit)
        given = " and ".join(f"{limit:,.0f}" for _, _, limit in limits if limit)
        raise UserError(f"a limit must leave an architecture, and the smallest one found has {least}, got {given}")

    def mutate(self, candidate: Candidate) -> Candidate:
        """A mutation within the limits; a random architecture where ten are not."""
        for _ in range(10):
            child = self.domain.mutate(candidate, self.rng)
            if self.fits(child):
                return child
        return self.draw()

    def first(self, n: int) -> int:
        """`n_random`. Raises UserError for one too many or too few."""
        if n and not 2 <= n <= self.queries:
            raise UserError(f"first must be from 2 to the {self.queries} queries, got {n}")
        return n_random(n, self.queries)

    def start(self, n: int) -> Generator[Candidate, float, Labelled]:
        """Ask for `n` different random architectures."""
        labelled: Labelled = {}
        while len(labelled) < n:
            yield from self.ask(labelled, self.draw())
        return labelled

    def ask(self, labelled: Labelled, candidate: Candidate) -> Asking:
        """Ask for one architecture and keep the answer."""
        accuracy = yield candidate
        labelled.setdefault(self.domain.keys([candidate])[0], (candidate, accuracy))

    def new(self, candidates: Sequence[Candidate], labelled: Labelled) -> list[Candidate]:
        """Of `candidates` one of each function that has no label."""
        found = dict(zip(reversed(self.domain.keys(candidates)), reversed(candidates), strict=True))
        return [candidate for key, candidate in reversed(found.items()) if key not in labelled]

    def fit(self, predictor: str, labelled: Labelled) -> Predict:
        """Train a predictor on what has a label -> a function architectures -> accuracies, percent."""
        candidates, accuracies = zip(*labelled.values(), strict=True)
        fitted = predictors.get(predictor)(**self.settings, seed=self.seed)
        fitted.fit(self.domain.graphs(candidates, self.graph_form), torch.tensor(accuracies, dtype=torch.float64))
        return lambda those: np.asarray(fitted.predict(self.domain.graphs(those, self.graph_form)), np.float64)


def random_search(task: Task) -> Asking:
    """One random architecture after the other."""
    while True:
        yield task.draw()


def evolution(task: Task, *, population: int = 50, tournament: int = 10) -> Asking:
    """Regularised evolution (Real et al. 2019): mutate the best of a few at random; the oldest dies. Sizes are ours."""
    alive: deque[tuple[float, Candidate]] = deque(maxlen=population)
    while True:
        candidate = task.draw()
        if len(alive) == population:
            contest = task.rng.choice(population, min(tournament, population), replace=False)
            candidate = task.mutate(max((alive[i] for i in contest), key=lambda each: each[0])[1])
        alive.append(((yield candidate), candidate))


def top_k(task: Task, *, predictor: str = "np", first: int = 0, candidates: int = 2000) -> Asking:
    """Train on `first` random architectures, then ask for the others from the highest prediction down.

    The others are all rows of a table, or `candidates` random architectures of a whole space.
    """
    labelled = yield from task.start(task.first(first))
    rows = task.domain.rows
    others = task.new([task.draw() for _ in range(candidates)] if rows is None else rows, labelled)
    if not others:
        return
    for i in np.argsort(-task.fit(predictor, labelled)(others), kind="stable"):
        if task.fits(others[i]):
            yield others[i]


def guided(
    task: Task, *, predictor: str = "np", first: int = 0, step: int = 10, population: int = 50, generations: int = 5
) -> Asking:
    """Predictor-guided search with iterative sampling: train, ask for the `step` best by prediction, train again.

    All rows of a table are predicted. In a whole space evolution by prediction looks for the best: from the best
    labelled architectures and as many random ones, `generations` times.

    NOTE[PAPER]: paper says how many queries a search takes and not what it does with them; we train anew every `step`
    queries, and all sizes are ours; because a predictor errs most where no label is yet, at the top.
    """
    breed = partial(_bred, rank=by_prediction, population=population, generations=generations)
    yield from _rounds(task, predictor, task.first(first), step, breed)


def pareto(
    task: Task, *, predictor: str = "np", first: int = 0, step: int = 10, population: int = 50, generations: int = 5
) -> Asking:
    """As `guided`, for every size: those come first that no smaller one is predicted to beat, of all sizes alike."""
    breed = partial(_bred, rank=by_front, population=population, generations=generations)
    yield from _rounds(task, predictor, task.first(first), step, breed)


def _rounds(task: Task, predictor: str, first: int, step: int, breed: Callable[..., list[Candidate]]) -> Asking:
    labelled = yield from task.start(first)
    while chosen := list(islice(filter(task.fits, breed(task, task.fit(predictor, labelled), labelled)), step)):
        for candidate in chosen:
            yield from task.ask(labelled, candidate)


def _bred(
    task: Task, predict: Predict, labelled: Labelled, *, rank: Rank, population: int, generations: int
) -> list[Candidate]:
    """New architectures, the most promising first: all rows of a table, what evolution finds in a whole space."""
    if task.domain.rows is not None:
        found = task.new(task.domain.rows, labelled)
        return [found[i] for i in rank(task, predict(found), found)] if found else []
    known, accuracies = zip(*labelled.values(), strict=True)
    parents = [known[i] for i in rank(task, np.array(accuracies), known)[:population]]
    found = [task.draw() for _ in range(population)]
    for _ in range(generations):
        if not (found := task.new([*found, *map(task.mutate, parents)], labelled)):
            break
        found = [found[i] for i in rank(task, predict(found), found)]
        parents = found[:population]
    return found


def by_prediction(task: Task, accuracy: np.ndarray, candidates: Sequence[Candidate]) -> np.ndarray:
    return np.argsort(-accuracy, kind="stable")


def by_front(task: Task, accuracy: np.ndarray, candidates: Sequence[Candidate]) -> np.ndarray:
    """Front after front of accuracy against multiply-adds; the first few of a front lie all along it.

    What has no accuracy comes last.
    """
    adds = np.array([task.domain.count(candidate)[1] for candidate in candidates], float)
    order, unknown = [], ~(accuracy > -np.inf)
    left, last = np.flatnonzero(~unknown), np.flatnonzero(unknown)
    while len(left):
        front = pareto_front(adds[left], accuracy[left])
        order += left[front[np.argsort(np.arange(len(front)) * GOLDEN % 1)]].tolist()
        left = np.delete(left, front)
    return np.array([*order, *last], int)


METHODS: dict[str, Callable[..., Asking]] = {
    "random": random_search, "evolution": evolution, "top-k": top_k, "guided": guided, "pareto": pareto,
}  # fmt: skip


class Answer(NamedTuple):
    """The n-th query: what was asked, its accuracy in percent, and the best so far."""

    n: int
    candidate: Candidate
    accuracy: float
    best: Candidate
    best_accuracy: float


def search(task: Task, asking: Asking, progress: bool = False) -> Iterator[Answer]:
    """Answer a method until its queries are spent -> every query with the best so far.

    An architecture whose function was asked for before gets the same answer, and that is no query. The search ends
    early where a method has nothing more to ask, or asks for known ones only.
    """
    from tqdm import tqdm

    known: dict[int, float] = {}
    best: tuple[float, Candidate] = (-np.inf, None)
    repeats = 0
    with tqdm(total=task.queries, unit="query", disable=not progress) as bar, suppress(StopIteration):
        candidate = next(asking)
        while repeats < ATTEMPTS:
            key = task.domain.keys([candidate])[0]
            repeats = repeats + 1 if key in known else 0
            if key not in known:
                known[key] = task.domain.accuracy(candidate)
                best = max(best, (known[key], candidate), key=lambda each: each[0])
                bar.update()
                yield Answer(len(known), candidate, known[key], best[1], best[0])
            if len(known) == task.queries:
                return
            candidate = asking.send(known[key])
