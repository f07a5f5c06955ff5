"""Rows of experiments: which are recorded, which train at once, and where; each is recorded as soon as it exists."""

from __future__ import annotations

import dataclasses
import logging
import statistics
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from hypernas.data.catalogue import cache_directory
from hypernas.errors import UserError
from hypernas.lab.experiment import Experiment, checkpoint_for, clean_checkpoints, recorded_row
from hypernas.lab.formats import to_do
from hypernas.lab.leases import ELSEWHERE, Leases, share
from hypernas.lab.rows import Results, Row, results_directory
from hypernas.lab.runner import Runner, Workers
from hypernas.training.recorder import on_gpu
from hypernas.training.settings import check_device

# How many models train at once where they can: on two cores nine take a fifth less time each than three.
MODELS_AT_ONCE = {"cpu": 10, "cuda": 64}
# Rows that agree in these take about as long.
LIKE = ("space", "method", "n_train", "profile")


class Outcome(NamedTuple):
    """A row, and whether it was trained now or recorded before; or experiments without a row, and the reason."""

    row: Row | None
    trained: bool = False
    experiments: tuple[Experiment, ...] = ()
    error: Exception | None = None


@dataclass(frozen=True)
class Training:
    """A job of the runner: experiments that train at once on a device."""

    experiments: tuple[Experiment, ...]
    device: str
    progress: bool = False

    def names(self) -> list[str]:
        """Return the name of each experiment's work, for all processes that share the results."""
        return [f"{experiment.key()} {experiment.table_digest()}" for experiment in self.experiments]


def train_together(job: Training) -> list[Row]:
    """Run a job and return its rows."""
    group = list(job.experiments)
    return list(group[0].measure(group, job.progress, job.device))


def run_many(
    experiments: Iterable[Experiment], force: bool = False, progress: bool = True, device: str = "cpu"
) -> Iterator[Row]:
    """Yield the row of every experiment, recorded ones first; the others are recorded as soon as they exist.

    With `force`, all are trained. Raise UserError before the first training if an experiment cannot run.
    """
    outcomes = carry_out(plan(experiments, force, device), progress=progress)
    return (outcome.row for outcome in outcomes if outcome.row is not None)


@dataclass(frozen=True)
class Plan:
    """Resolved experiments and those that are to be trained, all checked before the first training."""

    planned: list[Experiment]
    missing: list[Experiment]
    force: bool
    device: str

    def seconds(self) -> float | None:
        """The estimated time for the missing experiments one after another, from similar recorded rows, or None."""
        typical: dict[tuple[object, ...], float] = {}
        for table in {experiment.table for experiment in self.missing}:
            taken: dict[tuple[object, ...], list[float]] = {}
            for row in Results.of(table).rows():
                if row.get("seconds"):
                    taken.setdefault(_kind(row), []).append(row["seconds"])
            typical |= {kind: statistics.median(seconds) for kind, seconds in taken.items()}
        known = [typical.get(_kind(vars(experiment))) for experiment in self.missing]
        return None if None in known else sum(seconds for seconds in known if seconds is not None)

    def cost(self, workers: Workers) -> str:
        """Return a sentence that says how many rows are to be trained, on what, and for about how long."""
        n, total = len(self.missing), len(self.planned)
        if not n:
            return f"{total} of {total} rows are recorded already"
        seconds = self.seconds()
        if seconds is not None:
            seconds /= workers.workers
        where = f"{workers} ({self.device})"
        return to_do(n, total, "rows to compute", where, seconds, "rows like them", "are recorded already")


def _kind(place: Mapping[str, Any]) -> tuple[object, ...]:
    """What a row, or the `vars` of an experiment, has in common with those that take as long; of proxies `n` too."""
    return (*(place[name] for name in LIKE), place["settings"].get("n"))


def plan(experiments: Iterable[Experiment], force: bool = False, device: str = "cpu") -> Plan:
    """Return what is recorded and what is to be trained. Raise UserError if an experiment cannot run."""
    check_device(device)
    planned = [experiment.resolved() for experiment in experiments]
    missing = [experiment for experiment in planned if force or recorded_row(experiment) is None]
    for experiment in missing:
        experiment.check(device)
    for store in {experiment.table: Results.of(experiment.table) for experiment in missing}.values():
        store.require_writable()
    return Plan(planned, missing, force, device)


def carry_out(
    plan: Plan,
    workers: Workers | None = None,
    progress: bool = True,
    together: int | None = None,
    keep_going: bool = False,
) -> Iterator[Outcome]:
    """Yield the row of every experiment of a plan, recorded ones first.

    At most `together` models train at once, by default as many as suit the device. With `keep_going`, an experiment
    that fails is reported and does not stop the others. If several processes have the same experiments and results,
    each trains a part, and none trains a row twice.
    """
    if not plan.force:
        tell_of_other_tables(plan.missing)
    absent = {id(experiment) for experiment in plan.missing}
    for experiment in plan.planned:
        if id(experiment) not in absent:
            yield Outcome(recorded_row(experiment))
    most = together or MODELS_AT_ONCE["cuda" if on_gpu(plan.device) else "cpu"]
    if not plan.missing:
        _remove_leftovers(plan, most)
        return
    clean_checkpoints()
    groups = training_groups(plan.planned, plan.missing, most, plan.device)
    jobs = [Training(group, plan.device, progress) for group in groups]

    def recorded(job: Training) -> list[Row] | None:
        """The rows of a job, where another process has recorded all of them."""
        if plan.force:
            return None
        rows = [recorded_row(experiment) for experiment in job.experiments]
        return None if None in rows else rows  # type: ignore[return-value]

    enough = None if workers is None else workers.at_most(len(jobs))
    with Runner(enough) as runner, Leases(results_directory() / ".leases") as leases:
        for done in share(runner, leases, train_together, jobs, recorded):
            if done.error is not None:
                if not keep_going:
                    raise done.error
                yield Outcome(None, experiments=done.job.experiments, error=done.error)
            elif done.where == ELSEWHERE:
                yield from [Outcome(row) for row in done.result]
            else:
                yield from [Outcome(row, trained=True) for row in _record(done.job, done.result, plan.force)]


def _record(job: Training, rows: list[Row], force: bool) -> list[Row]:
    """Record the rows of a job in one write a table, so that a kill leaves all of a group or none of it."""
    for experiment, row in zip(job.experiments, rows, strict=True):
        if row.get("table_digest") != experiment.table_digest():
            raise UserError(f"a worker must have the same table as this process, one has {row.get('source')!r}")
    standing = []
    for table in dict.fromkeys(row["table"] for row in rows):
        standing += Results.of(table).add_all([row for row in rows if row["table"] == table], replace=force)
    _forget(list(job.experiments), job.device)
    return standing


def _remove_leftovers(plan: Plan, most: int) -> None:
    """What a kill left between recording the last rows and removing the files of their training."""
    leases = results_directory() / ".leases"
    # Rows can be read where nothing can be written.
    with suppress(OSError):
        if any(leases.glob("*.holder")):
            Leases(leases).clean()
        if any((cache_directory() / "checkpoints").glob("*.pt")):
            for group in _groups(plan.planned, most):
                for trained in [group] if group[0].together else [[experiment] for experiment in group]:
                    _forget(trained, plan.device)


def _forget(trained: list[Experiment], device: str) -> None:
    """Remove the state of a training whose rows are recorded."""
    checkpoint = checkpoint_for(trained, device)
    if checkpoint is not None:
        checkpoint.path.unlink(missing_ok=True)


def tell_of_other_tables(missing: Iterable[Experiment]) -> None:
    """Warn in one sentence if experiments without a row have one from another table."""
    others = [row for row in (Results.of(each.table).find(each.key()) for each in missing) if row is not None]
    if others:
        sources = "; ".join(dict.fromkeys(str(row.get("source")) for row in others))
        plural = "rows were" if len(others) > 1 else "row was"
        logging.getLogger("hypernas").warning(
            "%d recorded %s made from another table (%s) than the one that is here, and will be trained anew.",
            len(others), plural, sources,
        )  # fmt: skip


def training_groups(
    planned: list[Experiment], missing: list[Experiment], most: int, device: str
) -> Iterator[tuple[Experiment, ...]]:
    """Yield the missing experiments in groups that train at once.

    The groups are formed from everything planned, so an interrupted run trains the same models together as an
    uninterrupted one and gives the same digits. If a training was interrupted with some of its rows recorded, all of it
    runs again.
    """
    absent = {id(experiment) for experiment in missing}
    for group in _groups(planned, most):
        left = [experiment for experiment in group if id(experiment) in absent]
        if not left:
            continue
        if not left[0].together:
            yield from ((experiment,) for experiment in left)
            continue
        whole = checkpoint_for(group, device)
        yield tuple(group) if whole is not None and whole.path.exists() else tuple(left)


def _groups(planned: list[Experiment], most: int) -> Iterator[list[Experiment]]:
    """The experiments that may train at once: those that differ in the seed only, and together with these, up to `most`
    models, others that differ in what each of many models may have of its own."""
    kinds: dict[str, dict[str, list[Experiment]]] = {}
    for each in planned:
        kinds.setdefault(each.family(), {}).setdefault(dataclasses.replace(each, seed=0).key(), []).append(each)
    for variants in kinds.values():
        group: list[Experiment] = []
        for seeds in variants.values():
            if group and len(group) + len(seeds) > most:
                yield group
                group = []
            group = group + seeds
        yield group


def run(experiment: Experiment, force: bool = False, progress: bool = True, device: str = "cpu") -> Row:
    """Return the row of one experiment.

    It is read if recorded, unless `force`; otherwise it is trained and recorded.
    """
    (row,) = run_many([experiment], force, progress, device)
    return row
