"""Execute notebooks with many parameters, listed in a YAML file: `hypernas grid book/grid.yml`.

    output: notebooks              # folder of the executed notebooks, beside this file
    parameters: {profile: quick}   # of every notebook that has them
    runs:
      - notebook: ../notebooks/*.ipynb
      - notebook: ../notebooks/nasbench201.ipynb
        parameters: {n_train: [39, 78], seed: 0:5}

Values are written as for `hypernas run -p`. A list means one run for each of its values, so quote a parameter that is a
list itself: `grid: "[1.0, 2.0]"`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hypernas.errors import UserError
from hypernas.lab import notebooks
from hypernas.lab.formats import MISSING, plain, to_do, whole_numbers
from hypernas.lab.leases import ELSEWHERE, Leases, share
from hypernas.lab.markup import Html, markdown_table
from hypernas.lab.notebooks import NotebookFailed
from hypernas.lab.runner import Runner, Workers
from hypernas.training.files import short_digest

KEYS = {"output", "parameters", "runs"}
RUN_KEYS = {"notebook", "parameters"}
# More runs than anyone waits for: a list beyond it is a slip of the keyboard.
MOST_RUNS = 100_000
# Of a name, for one value: enough to tell values apart, few enough that several fit into a file name.
LONGEST_VALUE = 40
# Where an executed notebook says what it was made of.
STAMP = "hypernas"
# What a notebook shows may change with any of these files of the package, and with the rows and tables it ships.
LIBRARY = (".py", ".toml", ".js", ".css", ".svg")
IMPORTED = ("distributed.nanny", "hypernas.lab.notebook_grid", "papermill", "nbformat", "nbclient")
EXECUTED, UNCHANGED, FAILED, NOT_RUN = "executed", "unchanged", "failed", "not run"


@dataclass(frozen=True)
class Execution:
    """A job of the runner: a notebook, its text, its parameters, and the file that it produces.

    `values` are the parameters that the grid names, `changed` those that differ from the notebook's own.
    """

    notebook: Path
    source: str
    values: Mapping[str, Any]
    changed: Mapping[str, Any]
    folder: Path
    name: str = ""

    @property
    def done(self) -> Path:
        return self.folder / f"{self.name}.ipynb"

    @property
    def failed(self) -> Path:
        return self.folder / f"{self.name}.failed.ipynb"

    def names(self) -> list[str]:
        return [self.name]

    def digest(self) -> str:
        """A digest of all that the executed notebook depends on, except the user's own rows and tables."""
        made_from = [self.source, json.dumps(self.changed, sort_keys=True), library_digest()]
        return hashlib.sha256("\0".join(made_from).encode()).hexdigest()

    def stamp(self) -> dict[str, Any]:
        """The record that an existing executed notebook keeps of its execution; empty if there is none."""
        return notebooks.made(self.done, STAMP)

    def seconds(self) -> float | None:
        """How long the last execution took, or None if there was none."""
        seconds = self.stamp().get("seconds")
        return float(seconds) if isinstance(seconds, int | float) else None

    def is_done(self) -> bool:
        return self.stamp().get("digest") == self.digest()


@dataclass(frozen=True)
class Told:
    """The outcome of an execution, its duration, and where the file is."""

    execution: Execution
    state: str
    seconds: float | None = None
    where: str = ""
    reason: str = ""

    def about(self) -> dict[str, Any]:
        return {
            "name": self.execution.name,
            "notebook": str(self.execution.notebook),
            "parameters": dict(self.execution.values),
            "state": self.state,
            "seconds": self.seconds,
            "where": self.where,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Grid:
    """The executions of a file, and which of them are to be run."""

    path: Path
    executions: list[Execution]
    missing: list[Execution]
    folder: Path

    def cost(self, workers: Workers) -> str:
        """Return a sentence that says how many notebooks are to be run, on what, and for about how long."""
        n, total = len(self.missing), len(self.executions)
        if not n:
            return f"{total} of {total} notebooks are executed already and would not change"
        workers = workers.at_most(n)
        taken = [execution.seconds() for execution in self.missing]
        known = [seconds for seconds in taken if seconds is not None]
        seconds = None
        if len(known) == n:
            seconds = sum(known) / workers.workers
        return to_do(n, total, "notebooks to run", str(workers), seconds, "their last runs", "would not change")


@cache
def library_digest() -> str:
    """Return the SHA-256 over the library and over the rows and tables that the project ships."""
    # Here, since the package of tables imports torch, which a worker that executes notebooks does not need.
    from hypernas.data.catalogue import shipped

    package = Path(__file__).resolve().parents[1]
    files = [path for path in package.rglob("*") if path.suffix in LIBRARY and "__pycache__" not in path.parts]
    data = shipped() / "data"
    files += [*data.glob("*.csv"), *data.glob("results/*.jsonl")]
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.name}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def read(
    path: Path,
    folder: Path | None = None,
    given: Mapping[str, str] | None = None,
    only: Mapping[str, str] | None = None,
    force: bool = False,
) -> Grid:
    """Return the grid of a file after checking it, so that all errors are reported before the first notebook runs.

    `given` replaces common parameters. `only` keeps the runs with these values, or with this `notebook`. Raise
    UserError if the file is not a grid, for wrong parameters, and for files that would be replaced although no grid
    made them.
    """
    content = _content(path)
    base = path.parent
    folder = folder or base / str(content.get("output") or "executed")
    common = {**_mapping(content.get("parameters") or {}, "parameters"), **(given or {})}
    executions: list[Execution] = []
    known_anywhere: set[str] = set()
    for run in content["runs"]:
        own = _mapping(run.get("parameters") or {}, "parameters of a run")
        for notebook in _notebooks(base, run.get("notebook")):
            known = notebooks.parameters_of(notebook)
            known_anywhere |= known.keys()
            shared = {name: value for name, value in common.items() if name in known}
            executions += _executions(notebook, known, {**shared, **own}, folder)
            if len(executions) > MOST_RUNS:
                raise UserError(f"a grid must have at most {MOST_RUNS:,} runs, {path} has more")
    if unknown := common.keys() - known_anywhere:
        raise UserError(f"a parameter must be one of a notebook, {path} has none with {sorted(unknown)[0]!r}")
    executions = _named(executions)
    executions = [execution for execution in executions if _matches(execution, only or {})]
    if not executions:
        raise UserError(f"a grid must have a run, {path} has none" + (" with that choice" if only else ""))
    missing = [execution for execution in executions if force or not execution.is_done()]
    if not force:
        for execution in missing:
            if not execution.stamp():
                notebooks.check_replaces_its_own(execution.done, execution.changed)
    return Grid(path, executions, missing, folder)


def _content(path: Path) -> dict[str, Any]:
    """The file, every value in it as text, so that one spelling holds here and on the command line."""
    import yaml

    rule = f"a grid of notebooks must be a YAML file with the keys {', '.join(sorted(KEYS))}"
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{rule}, {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{rule}, {path} is none: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not content.keys() <= KEYS:
        wrong = sorted(content.keys() - KEYS)[0] if isinstance(content, dict) else type(content).__name__
        raise UserError(f"{rule}, {path} has {wrong!r}")
    runs = content.get("runs")
    listed = runs if isinstance(runs, list) else [None]
    if not all(isinstance(run, dict) and run.keys() <= RUN_KEYS for run in listed):
        raise UserError(f"runs must be a list of {' and '.join(sorted(RUN_KEYS))}, {path} has {runs!r}"[:500])
    return content


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{what} must be names with values, got {value!r}")
    return value


def _notebooks(base: Path, pattern: Any) -> list[Path]:
    """The notebooks that a run names, by a path or a pattern beside the file of the grid."""
    if not isinstance(pattern, str) or not pattern:
        raise UserError(f"the notebook of a run must be a path or a pattern, got {pattern!r}")
    parent = Path(os.path.normpath(base / pattern)).parent
    name = Path(pattern).name
    found = [parent / name]
    if "*" in name:
        found = sorted(parent.glob(name))
    if not found:
        raise UserError(f"the notebook of a run must be there, no file matches {base / pattern}")
    return found


def _executions(
    notebook: Path, known: Mapping[str, notebooks.Parameter], asked: Mapping[str, Any], folder: Path
) -> Iterator[Execution]:
    """One execution for every combination of the values that a run lists, the last parameter innermost."""
    source = notebook.read_text(encoding="utf-8")
    lists: dict[str, list[Any]] = {}
    for name, value in asked.items():
        parameter = notebooks.known_parameter(notebook, known, name)
        lists[name] = [parameter.checked(one) for one in _listed(parameter, value)]
    if math.prod(map(len, lists.values())) > MOST_RUNS:
        raise UserError(f"a grid must have at most {MOST_RUNS:,} runs, {notebook.name} has more")
    for combination in product(*lists.values()):
        values = dict(zip(lists, combination, strict=True))
        changed = {name: value for name, value in values.items() if not known[name].is_default(value)}
        yield Execution(notebook, source, values, changed, folder)


def _listed(parameter: notebooks.Parameter, value: Any) -> list[Any]:
    """The values of a parameter, as text: whole numbers may be a range."""
    listed = value if isinstance(value, list) else [value]
    if not listed or not all(isinstance(one, str) for one in listed):
        raise UserError(f"{parameter.name} must be a value or a list of values, got {value!r}; a list is quoted")
    if parameter.kind is not int:
        return listed
    return [number for one in listed for number in whole_numbers(parameter.name, one)]


def _named(executions: Sequence[Execution]) -> list[Execution]:
    """Each under a name of its own: the notebook's, with the values in which its runs differ."""
    together: dict[Path, list[Execution]] = {}
    for execution in executions:
        together.setdefault(execution.notebook, []).append(execution)
    by_name: dict[str, Execution] = {}
    for execution in executions:
        name = _name(execution, together[execution.notebook])
        named = dataclasses.replace(execution, name=notebooks.checked_name(name))
        if name in by_name:
            raise UserError(
                f"the runs of a grid must differ, two are called {name!r}: "
                f"{by_name[name].notebook} with {dict(by_name[name].values)} and "
                f"{execution.notebook} with {dict(execution.values)}"
            )
        by_name[name] = named
    return list(by_name.values())


def _name(execution: Execution, alike: Sequence[Execution]) -> str:
    parts = [execution.notebook.stem]
    for name, value in execution.values.items():
        if any(other.values.get(name) != value for other in alike):
            parts.append(f"{name}-{_value_in_a_name(value)}")
    name = "_".join(parts)
    if len(name.encode()) <= notebooks.LONGEST_NAME:
        return name
    return f"{execution.notebook.stem}_{short_digest(json.dumps(execution.values, sort_keys=True), 8)}"


def _value_in_a_name(value: Any) -> str:
    """A value as part of a file name; one that such a name cannot hold is told apart by its digest.

    >>> _value_in_a_name(1.5), _value_in_a_name("cifar10")
    ('1.5', 'cifar10')
    """
    text = str(value)
    plain_text = re.sub(r"[^\w.+-]+", "-", text).strip("-.")[:LONGEST_VALUE]
    return plain_text if plain_text == text else f"{plain_text}-{short_digest(text, 8)}".lstrip("-")


def _matches(execution: Execution, only: Mapping[str, str]) -> bool:
    values = {"notebook": execution.notebook.stem, **execution.values}
    return all(str(values.get(name)).lower() == text.lower() for name, text in only.items())


# --- execution ---


def execute(job: Execution) -> str:
    """Run a job: return the executed notebook as text. Raise NotebookFailed with what ran until then."""
    return notebooks.execute(job.notebook, job.source, job.changed, job.name)


def carry_out(grid: Grid, workers: Workers | None = None, force: bool = False) -> Iterator[Told]:
    """Yield the outcome of every execution, starting with those that need no run; a failure does not stop the others.

    Only this process writes files: an executed notebook appears complete, under its name, once it is done. At the end,
    even after an interruption, `report.md` in the folder lists the outcome of each.
    """
    workers = (workers or Workers()).at_most(len(grid.missing))
    started = datetime.now(UTC)
    told: dict[str, Told] = {}
    try:
        for one in _outcomes(grid, workers, force):
            told[one.execution.name] = one
            yield one
    finally:
        lines = [told.get(execution.name) or Told(execution, NOT_RUN) for execution in grid.executions]
        notebooks.write(grid.folder / "report.md", report(grid, lines, str(workers), started))


def _outcomes(grid: Grid, workers: Workers, force: bool) -> Iterator[Told]:
    absent = {execution.name for execution in grid.missing}
    yield from [_unchanged(execution) for execution in grid.executions if execution.name not in absent]
    if not grid.missing:
        return
    # The longest first, so that none is left alone at the end; one whose time nobody knows may be long.
    last = {job.name: job.seconds() for job in grid.missing}
    jobs = sorted(grid.missing, key=lambda job: -(last[job.name] or math.inf))

    def recorded(job: Execution) -> Told | None:
        return _unchanged(job) if not force and job.is_done() else None

    with Runner(workers, IMPORTED) as runner, Leases(grid.folder / ".leases") as leases:
        for done in share(runner, leases, execute, jobs, recorded):
            job = done.job
            if done.where == ELSEWHERE:
                yield done.result
            elif done.error is None:
                _keep(job, done.result, done.seconds, done.where)
                yield Told(job, EXECUTED, done.seconds, done.where)
            else:
                yield _failure(job, done.error, done.seconds, done.where)


def _unchanged(job: Execution) -> Told:
    return Told(job, UNCHANGED, job.seconds(), str(job.stamp().get("where", "")))


def _keep(job: Execution, text: str, seconds: float, where: str) -> None:
    """Write an executed notebook, with a stamp of what it was made of."""
    notebook = json.loads(text)
    notebook["metadata"][STAMP] = {"digest": job.digest(), "seconds": round(seconds, 2), "where": where}
    notebooks.write(job.done, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
    job.failed.unlink(missing_ok=True)


def _failure(job: Execution, error: Exception, seconds: float, where: str) -> Told:
    reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}".splitlines()[0]
    if isinstance(error, NotebookFailed):
        reason = error.reason
        if error.notebook:
            notebooks.write(job.failed, error.notebook)
    return Told(job, FAILED, seconds or None, where, reason)


def report(grid: Grid, told: Sequence[Told], workers: str, started: datetime) -> str:
    """Return a page in Markdown: how many notebooks ran, failed or were skipped, then a line for each."""
    took = (datetime.now(UTC) - started).total_seconds()
    lines = []
    for one in told:
        # A file name is text in the table, and an address in the link.
        name = Html(f"[{plain(one.execution.name)}]({quote(_shown_file(one).name)})")
        parameters = ", ".join(f"{key} {value}" for key, value in one.execution.values.items())
        seconds = MISSING if one.seconds is None else f"{one.seconds:.1f}"
        lines.append([name, parameters or MISSING, one.state, seconds, one.where or MISSING, one.reason or MISSING])
    head = ["notebook", "parameters", "state", "seconds", "where", "error"]
    text = f"# Notebooks of {plain(grid.path.name)}\n\n"
    text += f"{counts(told)}; {started:%Y-%m-%d %H:%M} UTC, {took:.0f} s on {workers}.\n\n"
    return text + markdown_table(head, lines)


def _shown_file(one: Told) -> Path:
    return one.execution.failed if one.state == FAILED else one.execution.done


def counts(told: Iterable[Told]) -> str:
    """Return a sentence with the number in each state.

    >>> counts([])
    '0 executed, 0 unchanged, 0 failed, 0 not run'
    """
    states = [one.state for one in told]
    return ", ".join(f"{states.count(state)} {state}" for state in (EXECUTED, UNCHANGED, FAILED, NOT_RUN))
