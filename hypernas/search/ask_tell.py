"""Ask and tell: a search whose trials you run yourself, kept in memory or in a journal that several processes share."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hypernas import predictors, spaces
from hypernas.errors import UserError
from hypernas.graph import Architecture
from hypernas.search.domains import Candidate, Domain, Pool, WholeSpace
from hypernas.search.journal import Journal, Record
from hypernas.search.loop import ask, bound
from hypernas.search.methods import (
    ACCURACY,
    COMPARE,
    METHODS,
    Limit,
    Objective,
    Task,
    Trials,
    own_settings,
)
from hypernas.search.pareto import pareto_front
from hypernas.training.settings import checked, resolve, typed

if TYPE_CHECKING:
    import pandas as pd

# A search by a predictor begins with a fifth of its trials at random, from 10 to 50: fewer teach it
# nothing, and more leave little to ask for by prediction. Nobody has compared other shares.
FIRST_SHARE, FEWEST_FIRST, MOST_FIRST = 5, 10, 50
DEFAULT_QUERIES = 100
DEFAULT_PREDICTOR = "hypernas-p"
MOST_FAILURES = 3
Measure = Callable[[Architecture], float]


@dataclass
class Trial:
    """One architecture of a search. `state` is waiting, told or failed, and `worker` is who asked for it."""

    number: int
    architecture: Architecture
    worker: str = ""
    state: str = "waiting"
    values: dict[str, float] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class Plan:
    """The definition of a search, which is the first line of its journal. Only `queries` may change later."""

    space: str
    dataset: str
    method: str
    predictor: str
    objectives: Sequence[str]
    constraints: Mapping[str, str]
    queries: int
    seed: int
    graph_form: str
    settings: Mapping[str, Any]
    predictor_settings: Mapping[str, Any]

    @classmethod
    def read(cls, journal: str | Path) -> Plan:
        """Return the plan of a journal. Raise UserError if the file is not a journal."""
        path = Path(journal).expanduser()
        if not path.is_file():
            raise UserError(f"a journal must be a file, got {journal}: begin a search that writes it")
        try:
            return cls(**_first_record(path)["search"])
        except (KeyError, TypeError) as error:
            raise _no_plan(journal) from error


def _first_record(path: Path) -> Record:
    return next(iter(Journal(path).new()), {})


def _no_plan(journal: str | Path) -> UserError:
    return UserError(f"a journal must begin with its search, {journal} does not: begin a new one")


def parse_objective(text: str) -> Objective:
    """Parse an objective: `accuracy` is maximised, `-latency` is minimised.

    >>> parse_objective("-latency")
    Objective(name='latency', sign=-1)
    """
    name = text.removeprefix("-").strip()
    if not name.isidentifier():
        raise UserError(f"an objective must be a name such as accuracy, or -latency for a small one, got {text!r}")
    return Objective(name, -1 if text.startswith("-") else 1)


def parse_limit(name: str, text: str) -> Limit:
    """Parse the constraint `<3e6` on the quantity `params`.

    >>> parse_limit("params", "<3e6")
    Limit(name='params', sign='<', bound=3000000.0)
    """
    match = re.fullmatch(r"\s*(<=|>=|<|>)\s*(\S+)\s*", text)
    try:
        number = float(match[2]) if match else math.nan
    except ValueError:
        number = math.nan
    if match is None or not math.isfinite(number) or not name.isidentifier():
        signs = ", ".join(COMPARE)
        raise UserError(
            f"a constraint must be a name, one of {signs} and a number, such as params<3e6, got {name}{text}"
        )
    return Limit(name, match[1], number)


class Search:
    """A search whose trials you run yourself: `ask` for architectures, then `tell` the result of each.

    `space` is a name, a search space, or a `Benchmark`. A benchmark restricts the search to its rows, and its numeric
    columns need no trial. `objectives` are maximised, those with a minus sign minimised; `constraints` limit what an
    architecture may be: `{"params": "<3e6"}`. Parameters (`params`), multiply-adds (`flops`) and what `measures`
    computes from an architecture need no trial; everything else comes from `tell` and is predicted. With a `journal`,
    the search continues from what is recorded there, in any number of processes. `queries` is the number of trials and
    may be raised at any time.

    Raise UserError for a wrong name, type or range, and for a journal of another search.

    >>> search = Search("nasbench201", method="random", queries=2, constraints={"params": "<1e6"})
    >>> for architecture in search.ask(2):
    ...     search.tell(architecture, accuracy=90.0)
    >>> len(search.table()), search.ask()
    (2, [])
    """

    def __init__(
        self, space: Any, predictor: str = DEFAULT_PREDICTOR, objectives: Sequence[str] = (ACCURACY,),
        constraints: Mapping[str, str] | None = None, *,
        method: str = "ensemble", queries: int = DEFAULT_QUERIES, seed: int = 0, graph_form: str = "contracted",
        measures: Mapping[str, Measure] | None = None, journal: str | Path | None = None, worker: str = "",
        **settings: Any,
    ) -> None:  # fmt: skip
        self.domain, dataset = _domain(space)
        own, learned = _settings(self.domain.space, method, predictor, queries, settings)
        self.plan = Plan(
            self.domain.space.name, dataset, method, predictor if "predictor" in own else "", list(objectives),
            dict(constraints or {}), queries, checked("seed", typed("seed", seed, int)),
            checked("graph_form", graph_form), own, learned,
        )  # fmt: skip
        self.worker = worker
        self._given = settings
        self.trials: dict[int, Trial] = {}
        self._known = Trials()
        self._journal = Journal(journal) if journal is not None else None
        self._begun = False
        self._measures = dict(measures or {})
        self._cache: dict[tuple[str, Candidate], float] = {}
        self.task = self._new_task()
        with self._up_to_date():
            pass

    @classmethod
    def open(cls, journal: str | Path, space: Any = None, **others: Any) -> Search:
        """Continue the search recorded in a journal.

        Pass what the journal cannot hold: a Benchmark as `space`, `measures`, `worker`. You may also raise `queries`.
        """
        plan = Plan.read(journal)
        if plan.dataset and space is None:
            raise UserError(f"a journal of a table needs it: space=Benchmark({plan.space!r}, {plan.dataset!r})")
        given: dict[str, Any] = {
            "queries": plan.queries,
            "method": plan.method,
            "seed": plan.seed,
            "graph_form": plan.graph_form,
            "journal": journal,
        }
        given |= others
        if space is None:
            # A space of choices stands in the journal itself, so that others need no file of it.
            written = _first_record(Path(journal).expanduser()).get("choices")
            space = spaces.restored(plan.space, written, str(journal), "name its file in $HYPERNAS_PLUGINS or space=")
        predictor = plan.predictor or DEFAULT_PREDICTOR
        return cls(space, predictor, plan.objectives, plan.constraints, **given)

    def _new_task(self) -> Task:
        plan = self.plan
        objectives = [parse_objective(text) for text in plan.objectives]
        if not objectives:
            raise UserError("a search must have an objective such as accuracy, got none")
        limits = [parse_limit(name, text) for name, text in plan.constraints.items()]
        measures = {name: self._measure_of(name) for name in self._measures}
        quantities: list[Objective | Limit] = [*objectives, *limits]
        for quantity in quantities:
            column = self.domain.column(quantity.name) if isinstance(self.domain, Pool) else None
            if column is not None:
                measures.setdefault(quantity.name, column.__getitem__)
        return Task(
            self.domain, plan.queries, plan.seed, limits, objectives, measures, plan.graph_form,
            dict(plan.predictor_settings),
        )  # fmt: skip

    def _measure_of(self, name: str) -> Callable[[Candidate], float]:
        """A measure of an architecture as one of a candidate, computed once each. It must give finite numbers."""

        def measure(candidate: Candidate) -> float:
            if (name, candidate) not in self._cache:
                architecture = self.domain.architecture(candidate)
                self._cache[name, candidate] = _finite(name, self._measures[name](architecture))
            return self._cache[name, candidate]

        return measure

    @contextmanager
    def _up_to_date(self) -> Iterator[None]:
        """What all others wrote is read, and nobody writes meanwhile."""
        if self._journal is None:
            yield
            return
        with self._journal.lock():
            for record in self._journal.new():
                self._begun = self._begun or "search" in record
                if not self._begun:
                    raise _no_plan(self._journal.path)
                self._apply(record)
            if not self._begun:
                beginning: Record = {"search": asdict(self.plan)}
                if choices := self.domain.space.written():
                    beginning["choices"] = choices
                self._journal.append([beginning])
                self._begun = True
            yield

    def _write(self, records: Sequence[Record]) -> None:
        """To the journal first: what stands there was asked or told, whatever happens to this process."""
        if self._journal is not None:
            self._journal.append(records)
        for record in records:
            self._apply(record)

    def _apply(self, record: Record) -> None:
        if "search" in record:
            self._adopt(record["search"])
            return
        architecture = self.domain.space.parse(record["architecture"])
        candidate, key = self._identified(architecture)
        if "asked" in record:
            self.trials.setdefault(key, Trial(record["asked"], architecture, record.get("worker", "")))
            self._known.taken.add(key)
            return
        trial = self.trials.setdefault(key, Trial(len(self.trials), architecture, record.get("worker", "")))
        self._known.taken.add(key)
        trial.state = "failed" if "failed" in record else "told"
        trial.values, trial.reason = record.get("told", {}), record.get("failed", "")
        if trial.state == "told":
            self._known.tell(key, candidate, trial.values)

    def _adopt(self, written: Record) -> None:
        """Go on with the plan of the journal. Raises UserError where this search was asked to be another one."""
        mine, given = asdict(self.plan), self._given
        if written.keys() != mine.keys() or type(written["queries"]) is not int:
            raise _no_plan(self._journal.path if self._journal else "")
        for name, value in written.items():
            if name in ("settings", "predictor_settings") and isinstance(value, dict):
                mine[name] = {key: given.get(key, one) for key, one in value.items()}
            if name != "queries" and mine.get(name) != value:
                rule = f"a journal belongs to one search, and {name} is {value!r} in this one"
                raise UserError(f"{rule}, got {mine.get(name)!r}: choose another journal")
        self.plan = Plan(**{**written, "queries": self.plan.queries})
        self.task.settings = dict(self.plan.predictor_settings)

    def _identified(self, architecture: Architecture) -> tuple[Candidate, int]:
        candidate = self.domain.candidate(architecture)
        return candidate, self.domain.keys([candidate])[0]

    def ask(self, n: int = 1) -> list[Architecture]:
        """Return `n` architectures to try, or fewer if the queries are spent or nothing new is left.

        None is returned twice. Trials that this `worker` received but has not reported come first, so a worker that was
        killed resumes where it was.
        """
        if n < 1:
            raise UserError(f"the number of architectures to ask for must be at least 1, got {n}")
        with self._up_to_date():
            mine = [trial.architecture for trial in self.waiting() if self.worker and trial.worker == self.worker]
            n_new = min(n - len(mine), self.plan.queries - len(self.trials))
            if n_new > 0:
                mine += self._ask_new(n_new)
        return mine[:n]

    def _ask_new(self, n: int) -> list[Architecture]:
        # A stream of its own for every place of the journal: whoever asks there gets the same answer.
        self.task.rng = np.random.default_rng([self.plan.seed, len(self.trials)])
        method = bound(self.plan.method, dict(self.plan.settings))
        candidates = ask(self.task, method, self._known, n, n)
        architectures = [self.domain.architecture(candidate) for candidate in candidates]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._write(
            [
                {"asked": number, "architecture": self.notation(architecture), "worker": self.worker, "time": now}
                for number, architecture in enumerate(architectures, len(self.trials))
            ]
        )
        return architectures

    def notation(self, architecture: Architecture) -> str:
        """Return the architecture as text."""
        return architecture.notation or self.domain.space.canonical(architecture, "raw").notation

    def tell(self, architecture: Architecture | str, failed: str = "", **values: float) -> None:
        """Report the result of a trial: a value for everything that needs a trial, or the reason why it `failed`.

        Further values are recorded too. Architectures that were not asked for count as trials. Reporting the same
        result again changes nothing. Raise UserError for a missing, unknown or infinite value, and for a second,
        different result.
        """
        asked: Architecture
        asked = self.domain.space.parse(architecture) if isinstance(architecture, str) else architecture
        missing = [name for name in self.task.told if name not in values]
        if missing and not failed:
            raise UserError(
                f"a trial must be told {', '.join(self.task.told)}, got no {missing[0]}: or tell it as failed"
            )
        numbers = {name: _finite(name, value) for name, value in values.items()}
        record: Record = {"architecture": self.notation(asked), "worker": self.worker}
        record |= {"failed": failed} if failed else {"told": numbers}
        with self._up_to_date():
            _, key = self._identified(asked)
            trial = self.trials.get(key)
            if trial is None or trial.state == "waiting":
                self._write([record])
            elif trial.values != record.get("told", {}) or trial.reason != failed:
                told = trial.reason or trial.values
                raise UserError(f"a trial must be told once, {record['architecture']} was told {told}")

    def waiting(self) -> list[Trial]:
        """Return the trials that were asked for and have no result yet."""
        return [trial for trial in self.trials.values() if trial.state == "waiting"]

    def run(self, evaluate: Callable[[Architecture], Any] | None = None, batch: int = 10) -> Search:
        """Spend all queries: `evaluate` returns the accuracy of an architecture, or a dictionary of values.

        It must be a dictionary if a trial needs more than one value. By default, a benchmark provides its labels. A
        trial that raises an exception has failed; after three failures in a row, the search stops with the last
        exception.
        """
        evaluate = evaluate or self._label
        in_a_row = 0
        while architectures := self.ask(batch):
            for architecture in architectures:
                try:
                    said = evaluate(architecture)
                    self.tell(architecture, **(said if isinstance(said, Mapping) else {self.task.told[0]: said}))
                    in_a_row = 0
                except Exception as error:
                    in_a_row += 1
                    self.tell(architecture, failed=f"{type(error).__name__}: {error}")
                    if in_a_row == MOST_FAILURES:
                        raise
        return self

    def _label(self, architecture: Architecture) -> float:
        if not isinstance(self.domain, Pool):
            raise UserError("run needs a function of an architecture, but for a Benchmark, whose labels are known")
        return self.domain.accuracy(self.domain.candidate(architecture))

    def _objectives(self, trials: Sequence[Trial]) -> np.ndarray:
        answers = [(self._identified(trial.architecture)[0], trial.values) for trial in trials]
        return self.task.answered(answers)

    def front(self) -> list[Trial]:
        """Return the successful trials within all limits that no other trial beats, sorted by the first objective."""
        told = [trial for trial in self.trials.values() if trial.state == "told"]
        if not told:
            return []
        values = self._objectives(told)
        allowed = [i for i in np.flatnonzero(np.isfinite(values).all(1)) if self._fits(told[i])]
        return [told[allowed[i]] for i in pareto_front(*values[allowed].T)] if allowed else []

    def _fits(self, trial: Trial) -> bool:
        return self.task.fits(self._identified(trial.architecture)[0])

    @property
    def best(self) -> Trial:
        """The successful trial within the limits that is best in the first objective.

        Raise UserError if there is none.
        """
        front = self.front()
        if not front:
            raise UserError("a search must be told a trial within its constraints first, got none")
        return front[0]

    def table(self) -> pd.DataFrame:
        """Return all trials in the order in which they were asked for: number, architecture, state, all values."""
        import pandas as pd

        rows = []
        for trial in self.trials.values():
            about = {"number": trial.number, "architecture": self.notation(trial.architecture), "state": trial.state}
            rows.append({**about, **trial.values})
        names = ["number", "architecture", "state", *self.task.told]
        return pd.DataFrame(rows, columns=list(dict.fromkeys([*names, *(name for row in rows for name in row)])))


def _domain(space: Any) -> tuple[Domain, str]:
    """What is searched, and the dataset of a benchmark."""
    if isinstance(space, str | Path):
        space = spaces.get(space)
    if hasattr(space, "validation"):
        return Pool(space), space.dataset
    return WholeSpace(space), ""


def _finite(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{name} must be a finite number, got {value!r}: tell a trial without one as failed")
    return number


def _settings(
    space: Any, method: str, predictor: str, queries: int, given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of the method and those of its predictor, all that are not given by their defaults."""
    if method not in METHODS or method == "pareto":
        known = ", ".join(name for name in METHODS if name != "pareto")
        raise UserError(f"a search method must be one of {known}, got {method!r}")
    if type(queries) is not int or queries < 2:
        raise UserError(f"queries must be a whole number of at least 2, got {queries!r}")
    own = own_settings(method, queries)
    if "first" in own:
        own["first"] = max(2, min(MOST_FIRST, max(FEWEST_FIRST, queries // FIRST_SHARE), queries // 2))
    learned: dict[str, Any] = {}
    accepted: dict[str, Any] = {}
    if "predictor" in own:
        if predictor not in predictors.names():
            raise UserError(f"predictor must be one of {', '.join(predictors.names())}, got {predictor!r}")
        own["predictor"] = predictor
        accepted = predictors.settings_of(predictor)
    for name, value in given.items():
        if name in own:
            own[name] = typed(name, value, type(own[name]))
            if own[name] < 1:
                raise UserError(f"{name} must be at least 1, got {own[name]}")
    others = {name: value for name, value in given.items() if name not in own}
    if accepted:
        learned = resolve(predictor, "standard", accepted, getattr(space, "defaults", {}), others)
        learned.pop("graph_form")
    elif others:
        raise UserError(f"a setting of {method} must be one of {', '.join(own) or 'none'}, got {next(iter(others))!r}")
    return own, learned
