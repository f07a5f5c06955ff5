"""Searches as experiments: what is searched, by which method, within which limits, and the row of the result."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from hypernas import predictors, spaces
from hypernas.errors import MissingTable, UserError
from hypernas.lab.benchmark import Benchmark
from hypernas.lab.experiment import Experiment, arguments, settings_of
from hypernas.lab.provenance import stamp
from hypernas.lab.rows import Row
from hypernas.lab.search_summary import report
from hypernas.lab.tables import sentence_digest
from hypernas.search.domains import Pool, WholeSpace
from hypernas.search.loop import Answer, bound, search
from hypernas.search.methods import ACCURACY, OBJECTIVES, Objective, Task, at_most, n_random, own_settings

TABLE = "search"
LIMITS = {"max_flops": 0.0, "max_params": 0.0}


@cache
def domain(
    space: str,
    dataset: str,
    oracle: str,
) -> Pool | WholeSpace:
    """Return the candidates of a search. Raise UserError if the table or surrogate is not available."""
    if oracle == "table":
        return Pool(Benchmark(space, dataset))
    whole = spaces.get(space)
    if not whole.provides("oracle"):
        raise UserError(f"oracle must be table for {space}, which has no surrogate of its whole space, got {oracle!r}")
    if dataset not in whole.datasets:
        raise UserError(f"dataset must be one of {', '.join(whole.datasets)} for {space}, got {dataset!r}")
    try:
        return WholeSpace(whole, whole.oracle())
    except MissingTable as error:
        raise _or_table(error, space) from error


def _or_table(error: MissingTable, space: str) -> MissingTable:
    """The sentence of a surrogate that is not there; it names a table where one is."""
    try:
        present = Benchmark(space).dataset
    except UserError:
        return error
    words = f"`--oracle table --dataset {present}` searches the rows of the table that is present"
    return MissingTable(f"{error}; {words}")


def oracle_of(space: str) -> str:
    """Return the default source of accuracies: the surrogate of a whole space if there is one, or else the table."""
    return "surrogate" if spaces.get(space).provides("oracle") else "table"


def first_dataset(space: str, oracle: str | None = None) -> str:
    """Return the default dataset to search."""
    whole = (oracle or oracle_of(space)) == "surrogate"
    return spaces.get(space).datasets[0] if whole else Benchmark(space).dataset


@dataclass(frozen=True)
class Search(Experiment):
    """One question: what does `method` find with `n_train` queries?

    Settings are the method's own, those of its `predictor`, the limits and the `oracle`: the table of the dataset, or
    the surrogate of the whole space if there is one. All are recorded except the predictor's defaults.
    """

    @property
    def own_settings(self) -> dict[str, Any]:
        return own_settings(self.method, self.n_train)

    @property
    def predictor(self) -> str | None:
        """The name of the predictor, or None if the method has none. Raise UserError if it is unknown."""
        name = self.settings.get("predictor", self.own_settings.get("predictor"))
        if name is not None and name not in predictors.names():
            raise UserError(f"predictor must be one of {', '.join(predictors.names())}, got {name!r}")
        return name

    def always(self) -> dict[str, Any]:
        """The settings that every row has."""
        return {"oracle": oracle_of(self.space), **LIMITS, **self.own_settings}

    def accepted(self) -> dict[str, Any]:
        own = self.always()
        return (settings_of(self.predictor) if "predictor" in own and self.predictor else {}) | own

    def resolved(self) -> Search:
        """Return the same search with its settings. Raise UserError for a wrong name, type or range."""
        resolved = super().resolved()
        settings = self.always() | dict(resolved.settings)
        return Search(**{**vars(resolved), "settings": settings})

    def task(self, device: str = "cpu") -> Task:
        """Return the task of this resolved search, before any query. Raise UserError if the device cannot be used."""
        keywords: dict[str, Any] = {}
        if name := self.predictor:
            known = settings_of(name)
            settings = {key: value for key, value in self.settings.items() if key in known}
            like = Experiment(self.table, self.space, self.dataset, name, self.n_train, self.seed, settings=settings)
            keywords = arguments(like, False, device)
            predictors.get(name)(**keywords, seed=self.seed)
        return Task(
            domain(self.space, self.dataset, self.settings["oracle"]),
            self.n_train,
            self.seed,
            limits=at_most(**{name: self.settings[name] for name in LIMITS}),
            objectives=OBJECTIVES.get(self.method, (Objective(ACCURACY),)),
            graph_form=self.settings["graph_form"],
            settings=keywords,
        )

    def table_digest(self) -> str | None:
        if self.settings["oracle"] == "table":
            return super().table_digest()
        try:
            return sentence_digest(domain(self.space, self.dataset, self.settings["oracle"]).source)
        except MissingTable:
            return None

    def check(self, device: str = "cpu") -> None:
        """Raise UserError if this resolved search cannot run."""
        if self.protocol != "clean":
            raise UserError(f"protocol must be clean for a search, got {self.protocol!r}")
        task = self.task(device)
        if isinstance(task.domain, Pool) and self.n_train > len(task.domain):
            rule = f"queries must be at most {len(task.domain)}, the different architectures of the table"
            raise UserError(f"{rule}, got {self.n_train}")
        self._check_sizes()
        task.draw()

    def _check_sizes(self) -> None:
        for name, default in self.own_settings.items():
            least = 0 if name == "first" else 1
            if type(default) is int and self.settings[name] < least:
                raise UserError(f"{name} must be at least {least}, got {self.settings[name]}")
        first = self.settings.get("first", 0)
        if first and not 2 <= first <= self.n_train:
            raise UserError(f"first must be from 2 to the {self.n_train} queries, got {first}")
        if self.method == "evolution" and self.settings["population"] >= self.n_train:
            rule = f"population must be less than the {self.n_train} queries, or evolution is random search"
            raise UserError(f"{rule}, got {self.settings['population']}: {n_random(0, self.n_train)} is a good size")

    @property
    def together(self) -> bool:
        return False

    def answers(self, task: Task, progress: bool = False) -> Iterator[Answer]:
        """Yield every query of this resolved search with the best so far."""
        own = {name: self.settings[name] for name in self.own_settings}
        return search(task, bound(self.method, own), progress)

    @staticmethod
    def measure(
        group: list[Search],
        progress: bool,
        device: str,
    ) -> Iterator[Row]:
        """Yield the row of each resolved search."""
        for asked in group:
            made, start, task = stamp(device), time.perf_counter(), asked.task(device)
            answers = list(asked.answers(task, progress))
            seconds = {"seconds": round(time.perf_counter() - start, 3), "seeds_together": 1}
            yield {
                **dataclasses.asdict(asked),
                **report(task, answers),
                **seconds,
                **made,
                "source": task.domain.source,
                "table_digest": asked.table_digest(),
            }


def live(
    method: str,
    queries: int,
    *,
    space: str,
    dataset: str,
    seed: int = 0,
    **settings: Any,
) -> Row:
    """Return a row as in the results, by default of the quick profile. It is not recorded."""
    asked = Search(TABLE, space, dataset, method, queries, seed, "quick", settings=settings).resolved()
    asked.check()
    return next(asked.measure([asked], False, "cpu"))
