"""Searches as experiments: what is searched, by what, under which limits, and the row of what was found."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from hypernas import predictors, spaces
from hypernas.benchmark import Benchmark
from hypernas.errors import UserError
from hypernas.experiments import Experiment, arguments, settings_of
from hypernas.oracles import Pool, WholeSpace
from hypernas.plots import pareto_front
from hypernas.provenance import stamp
from hypernas.results import Row
from hypernas.search import METHODS, Answer, Task, search

if TYPE_CHECKING:
    import pandas as pd

TABLE = "search"
LIMITS = {"max_flops": 0.0, "max_params": 0.0}


@cache
def domain(space: str, dataset: str, oracle: str) -> Pool | WholeSpace:
    """What is searched. Raises UserError for a table or a surrogate that is not there."""
    if oracle == "table":
        return Pool(Benchmark(space, dataset))
    chosen = spaces.get(space)
    if not hasattr(chosen, "oracle"):
        raise UserError(f"oracle must be table for {space}, which has no surrogate of its whole space, got {oracle!r}")
    if dataset not in chosen.datasets:
        raise UserError(f"dataset must be one of {', '.join(chosen.datasets)} for {space}, got {dataset!r}")
    return WholeSpace(chosen)


def oracle_of(space: str) -> str:
    """What answers the queries by default: the surrogate of a whole space where there is one, else the table."""
    return "surrogate" if hasattr(spaces.get(space), "oracle") else "table"


def first_dataset(space: str, oracle: str | None = None) -> str:
    """The dataset that is searched by default."""
    whole = (oracle or oracle_of(space)) == "surrogate"
    return spaces.get(space).datasets[0] if whole else Benchmark(space).dataset


def own_settings(method: str) -> dict[str, Any]:
    """A search method's keyword arguments and their defaults. Raises UserError for an unknown method."""
    if method not in METHODS:
        raise UserError(f"a search method must be one of {', '.join(METHODS)}, got {method!r}")
    parameters = inspect.signature(METHODS[method]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


@dataclass(frozen=True)
class Search(Experiment):
    """One question: what does `method` find with `n_train` queries?

    Settings are the method's own, those of its `predictor`, the limits and the `oracle`: the table of the dataset, or
    the surrogate of the whole space where there is one. All of them are recorded but the predictor's defaults.
    """

    @property
    def predictor(self) -> str | None:
        """The name of the predictor, None for a method without one. Raises UserError for an unknown one."""
        name = self.settings.get("predictor", own_settings(self.method).get("predictor"))
        if name is not None and name not in predictors.names():
            raise UserError(f"predictor must be one of {', '.join(predictors.names())}, got {name!r}")
        return name

    def always(self) -> dict[str, Any]:
        """The settings that every row has."""
        return {"oracle": oracle_of(self.space), **LIMITS, **own_settings(self.method)}

    def accepted(self) -> dict[str, Any]:
        own = self.always()
        return (settings_of(self.predictor) if "predictor" in own and self.predictor else {}) | own

    def resolved(self) -> Search:
        """The same search with its settings. Raises UserError for a wrong name, type or range."""
        found = super().resolved()
        return dataclasses.replace(found, settings=self.always() | dict(found.settings))

    def task(self, device: str = "cpu") -> Task:
        """The task of this resolved search, nothing asked yet. Raises UserError for a device that cannot be used."""
        keywords: dict[str, Any] = {}
        if name := self.predictor:
            known = settings_of(name)
            settings = {key: value for key, value in self.settings.items() if key in known}
            like = Experiment(self.table, self.space, self.dataset, name, self.n_train, self.seed, settings=settings)
            keywords = arguments(like, False, device)
            predictors.get(name)(**keywords, seed=self.seed)
        limits = {name: self.settings[name] for name in LIMITS}
        found = domain(self.space, self.dataset, self.settings["oracle"])
        return Task(found, self.n_train, self.seed, **limits, graph_form=self.settings["graph_form"], settings=keywords)

    def check(self, device: str = "cpu") -> None:
        task, own = self.task(device), own_settings(self.method)
        if self.protocol != "clean":
            raise UserError(f"protocol must be clean for a search, got {self.protocol!r}")
        if isinstance(task.domain, Pool) and self.n_train > len(task.domain):
            rule = f"queries must be at most {len(task.domain)}, the different architectures of the table"
            raise UserError(f"{rule}, got {self.n_train}")
        for name, default in own.items():
            least = 0 if name == "first" else 1
            if type(default) is int and self.settings[name] < least:
                raise UserError(f"{name} must be at least {least}, got {self.settings[name]}")
        task.first(self.settings.get("first", 0))
        task.draw()

    @property
    def together(self) -> bool:
        return False

    def answers(self, task: Task, progress: bool = False) -> Iterator[Answer]:
        """Every query of this resolved search with the best so far."""
        own = {name: self.settings[name] for name in own_settings(self.method)}
        return search(task, METHODS[self.method](task, **own), progress)

    @staticmethod
    def measure(group: list[Search], progress: bool, device: str) -> Iterator[Row]:
        for each in group:
            made, start, task = stamp(device), time.perf_counter(), each.task(device)
            answers = list(each.answers(task, progress))
            seconds = {"seconds": round(time.perf_counter() - start, 3), "seeds_together": 1}
            yield {**dataclasses.asdict(each), **report(task, answers), **seconds, **made, "source": task.domain.source}


def live(method: str, queries: int, *, space: str, dataset: str, seed: int = 0, **settings: Any) -> Row:
    """A row as in the results, of the quick profile where nothing else is said; it is not recorded."""
    asked = Search(TABLE, space, dataset, method, queries, seed, "quick", settings=settings).resolved()
    asked.check()
    return next(asked.measure([asked], False, "cpu"))


def report(task: Task, answers: Sequence[Answer]) -> Row:
    """What a search found, and how; test accuracies are read here for the first time, and decide nothing.

    `curve` has a line [queries, validation accuracy, test accuracy] for every new best, `front` a line [multiply-adds,
    validation accuracy] for everything asked that nothing smaller beats, `elsewhere` the accuracies of the found
    architecture on the other datasets of the space, [validation, test], null where a table has none.
    """
    space, last = task.domain.space, answers[-1]
    found = task.domain.architecture(last.best)
    parameters, adds = task.domain.count(last.best)
    better = [each for each in answers if each.candidate == each.best]
    sizes = np.array([task.domain.count(each.candidate)[1] for each in answers], float)
    front = [(int(sizes[i]), answers[i].accuracy) for i in pareto_front(sizes, np.array([a.accuracy for a in answers]))]
    return {
        "queries": last.n,
        "validation_accuracy": last.best_accuracy,
        "test_accuracy": _test(task, last.best),
        "regret": _regret(task, last.best),
        "architecture": space.canonical(found, "raw").notation,
        "parameters": parameters,
        "multiply_adds": adds,
        "curve": [(each.n, each.accuracy, _test(task, each.best)) for each in better],
        "front": front,
        "elsewhere": _elsewhere(task, last.best),
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _test(task: Task, candidate: Any) -> float | None:
    return _finite(task.domain.benchmark.test[candidate]) if isinstance(task.domain, Pool) else None


def _regret(task: Task, candidate: Any) -> float | None:
    """The best test accuracy of the table less that of the found architecture."""
    if not isinstance(task.domain, Pool):
        return None
    test = np.asarray(task.domain.benchmark.test)
    return _finite(np.nanmax(test) - test[candidate])


def _elsewhere(task: Task, row: Any) -> dict[str, tuple[float | None, float | None]]:
    """Accuracies of the same row in the tables of the space's other datasets that are present and have all rows."""
    if not isinstance(task.domain, Pool):
        return {}
    here, found = task.domain.benchmark, {}
    for dataset in here.space.datasets:
        try:
            there = here if dataset == here.dataset else Benchmark(here.space.name, dataset)
        except UserError:
            continue
        if there is not here and len(there.test) == len(here.test):
            has_own = there.table.validation is not there.table.test
            validation = there.table.columns.get("validation", there.validation if has_own else None)
            found[dataset] = (None if validation is None else _finite(validation[row]), _finite(there.test[row]))
    return found


def curves(rows: pd.DataFrame, part: str = "validation_accuracy") -> pd.DataFrame:
    """Rows of searches (`results.flat`) -> a line for each row and number of queries, the best so far as `part`."""
    import pandas as pd

    frames, place = [], {"validation_accuracy": 1, "test_accuracy": 2}[part]
    for row in rows.to_dict("records"):
        steps = json.loads(row["curve"])
        at = np.searchsorted([step[0] for step in steps], np.arange(1, row["queries"] + 1), side="right") - 1
        line = {name: row.get(name) for name in ("space", "dataset", "method", "predictor", "seed")}
        values = np.array([step[place] for step in steps], float)[at]
        frames.append(pd.DataFrame({**line, "queries": np.arange(1, row["queries"] + 1), part: values}))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["method", "queries", part])


def elsewhere(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of searches with a column `<dataset> validation` and `<dataset> test` for each of the space's datasets."""
    import pandas as pd

    def lines() -> Iterable[dict[str, Any]]:
        for row in rows.to_dict("records"):
            own = {row["dataset"]: (row["validation_accuracy"], row["test_accuracy"])}
            for dataset, pair in (own | json.loads(row["elsewhere"])).items():
                for part, value in zip(("validation", "test"), pair, strict=True):
                    row[f"{dataset} {part}"] = value
            yield row

    return pd.DataFrame(list(lines()))
