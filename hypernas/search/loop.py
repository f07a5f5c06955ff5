"""Ask and tell in memory: the next new candidates of a method, and a whole search with immediate answers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from hypernas.search.domains import Candidate
from hypernas.search.methods import ACCURACY, ATTEMPTS, METHODS, Method, Task, Trials


def bound(method: str, settings: dict[str, Any]) -> Method:
    """Return a method with its settings fixed, a function `(task, trials, n) -> candidates`."""
    return partial(METHODS[method], **settings)


def ask(task: Task, method: Method, trials: Trials, most: int, least: int = 1) -> list[Candidate]:
    """Return between `least` and `most` candidates whose functions are new, or fewer if there are no more.

    They count as taken from now on. Candidates that the method proposes again are answered from memory and cost no
    trial.
    """
    asked: list[Candidate] = []
    repeats = 0
    while len(asked) < least and repeats < ATTEMPTS:
        proposed = method(task, trials, most - len(asked))
        if not proposed:
            break
        for candidate in proposed[: most - len(asked)]:
            (key,) = task.domain.keys([candidate])
            if key not in trials.taken:
                trials.taken.add(key)
                asked.append(candidate)
                repeats = 0
                continue
            repeats += 1
            if key in trials.labelled:
                trials.answers.append((candidate, trials.labelled[key][1]))
    return asked


class Answer(NamedTuple):
    """The n-th query: the candidate, its accuracy in percent, and the best so far."""

    n: int
    candidate: Candidate
    accuracy: float
    best: Candidate
    best_accuracy: float


def search(task: Task, method: Method, progress: bool = False) -> Iterator[Answer]:
    """Run a method until its queries are spent, and yield every query with the best so far.

    The search ends early if the method proposes nothing more, or only known candidates.
    """
    from tqdm import tqdm

    trials = Trials()
    best: Candidate = None
    best_accuracy, n = -np.inf, 0
    with tqdm(total=task.queries, unit="query", disable=not progress) as bar:
        while batch := ask(task, method, trials, task.queries - n):
            for candidate in batch:
                n += 1
                accuracy = task.domain.accuracy(candidate)
                trials.tell(task.domain.keys([candidate])[0], candidate, {ACCURACY: accuracy})
                if accuracy > best_accuracy:
                    best, best_accuracy = candidate, accuracy
                bar.update()
                yield Answer(n, candidate, accuracy, best, best_accuracy)
            if n == task.queries:
                return
