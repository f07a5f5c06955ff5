"""The experiments of each page, listed in `grids.toml`, for both its notebook and `hypernas grid`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import groupby, product
from typing import TYPE_CHECKING, Any

from hypernas.errors import UserError
from hypernas.lab.experiment import OF_AN_EXPERIMENT, Experiment
from hypernas.lab.recording import run_many
from hypernas.lab.rows import Results, Row, flat, row_key
from hypernas.lab.search_experiment import TABLE, Search
from hypernas.lab.tables import digest_of_row
from hypernas.training.files import toml_beside

if TYPE_CHECKING:
    import pandas as pd

PLACES = ("table", "space", "dataset", "method", "n_train")
# What most blocks have in common, and leave out.
UNLESS_SAID = {"table": "few_shot", "dataset": "cifar10"}
RECORDED_PROFILES = ("standard", "paper")
# Development has seeds from 100 on; nothing is tuned on these. A page may ask for more.
RECORDED_SEEDS = range(10)


@cache
def _blocks() -> dict[str, list[dict[str, Any]]]:
    return toml_beside(__file__, "grids.toml")


def names() -> list[str]:
    """Return the names of all pages with experiments."""
    return list(_blocks())


def grid(name: str, profile: str = "standard", only: Mapping[str, str] | None = None) -> list[Experiment]:
    """Return all experiments of a page, seeds innermost, restricted to the places or settings in `only`.

    Raise UserError if the name is unknown, or if no experiment is left.

    >>> len(grid("nasbench101", only={"method": "np", "n_train": "100"}))
    10
    """
    if name not in _blocks():
        raise UserError(f"the grid must be one of {', '.join(names())}, got {name!r}")
    only = only or {}
    experiments: list[Experiment] = []
    for block in _blocks()[name]:
        given = {**UNLESS_SAID, **block}
        n_seeds = given.pop("seeds")
        if given.pop("profile", profile) != profile:
            continue
        for values in _combinations(given):
            if _matches(values, only):
                first = _experiment(values, profile)
                experiments += [dataclasses.replace(first, seed=seed) for seed in range(n_seeds)]
    if not experiments:
        choice = ", ".join(f"{key}={text}" for key, text in only.items())
        raise UserError(f"a choice must leave experiments of the grid {name}, got none with {choice}")
    return experiments


def _combinations(block: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every combination of the values that a block lists, the last key innermost."""
    lists = [value if isinstance(value, list) else [value] for value in block.values()]
    for combination in product(*lists):
        yield dict(zip(block, combination, strict=True))


def _matches(values: Mapping[str, Any], only: Mapping[str, str]) -> bool:
    """Whether the values are those of a choice, which came from a command line as text."""
    for key, text in only.items():
        if str(values.get(key)).lower() != text.lower():
            return False
    return True


def _experiment(values: Mapping[str, Any], profile: str) -> Experiment:
    """The first seed of a combination: what is no place is a setting."""
    place = {key: values[key] for key in PLACES}
    settings = {key: value for key, value in values.items() if key not in PLACES}
    if place["table"] == TABLE:
        return Search(**place, seed=0, profile=profile, settings=settings)
    return _shared(Experiment(**place, seed=0, profile=profile, settings=settings))


def _shared(experiment: Experiment) -> Experiment:
    """The experiment of few_shot where no setting but the number of rows ranked differs from the method's own."""
    without_settings = dataclasses.replace(experiment, settings={})
    own = experiment.accepted() | dict(without_settings.resolved().settings)
    differing = {name: value for name, value in experiment.settings.items() if value != own[name]}
    # One question has one row, whichever page asks it: so its table must not depend on the page.
    if differing.keys() <= OF_AN_EXPERIMENT.keys():
        return dataclasses.replace(experiment, table="few_shot", settings=differing)
    return experiment


def _place(row: Any) -> tuple[Any, ...]:
    """Where a row, or the `vars` of an experiment, belongs, but for its settings and seed."""
    return tuple(row[name] for name in (*PLACES, "profile"))


def recorded(experiments: Sequence[Experiment], here: bool = False) -> list[Row | None]:
    """Return the recorded row of each experiment, or None.

    A page shows rows from any table, and says which. With `here`, only rows from the installed table count, if there is
    one, because the others would be trained again.
    """
    rows: dict[tuple[str, str | None], Row] = {}
    for table in {experiment.table for experiment in experiments}:
        for row in Results.of(table).rows():
            question = row_key(row)
            rows.setdefault((question, None), row)
            rows.setdefault((question, digest_of_row(row)), row)
    places = {_place(row) for row in rows.values()}
    answers: list[Row | None] = []
    for alike, group in groupby(experiments, key=lambda experiment: dataclasses.replace(experiment, seed=0)):
        seeds = [experiment.seed for experiment in group]
        # To resolve the settings takes longer than to look whether anything at all is recorded there.
        if _place(vars(alike)) not in places:
            answers += [None] * len(seeds)
            continue
        resolved = alike.resolved()
        digest = resolved.table_digest() if here else None
        for seed in seeds:
            question = row_key({**vars(resolved), "seed": seed})
            answers.append(rows.get((question, digest)))
    return answers


def every_seed(experiments: list[Experiment]) -> list[Experiment]:
    """Return the experiments with every seed that may be recorded, not only those that their page computes.

    Two pages that compare the same methods in the same place therefore have the same rows and state the same numbers.
    """
    every = []
    for experiment in experiments:
        if experiment.seed == 0:
            every += [dataclasses.replace(experiment, seed=seed) for seed in RECORDED_SEEDS]
        elif experiment.seed not in RECORDED_SEEDS:
            every.append(experiment)
    return every


def rows(name: str) -> pd.DataFrame:
    """Return the recorded rows of a page, each with all settings that the page is about."""
    keys = set().union(*_blocks()[name])
    asked = keys - {*PLACES, *OF_AN_EXPERIMENT, "seeds", "profile"}
    completed = []
    for profile in RECORDED_PROFILES:
        experiments = every_seed(grid(name, profile))
        for experiment, row in zip(experiments, recorded(experiments), strict=True):
            if row is None:
                continue
            accepted = experiment.accepted()
            # A row holds the settings of its own table; a default of its method tells it apart from the others here.
            defaults = {key: value for key, value in accepted.items() if key in asked}
            completed.append({**row, "settings": defaults | row["settings"]})
    return flat(completed)


def state(name: str) -> str:
    """Return a sentence that says how much of a page is recorded and how to compute the rest."""
    answers = recorded(grid(name))
    total = len(answers)
    n = total - answers.count(None)
    command = f"`hypernas grid {name}`"
    if n == total:
        return f"All {total} standard rows of this page are recorded; {command} is the list of them."
    if not n:
        return f"None of the {total} standard rows of this page is recorded yet: {command} computes them."
    return f"{n} of the {total} standard rows of this page are recorded; {command} computes the others."


def plan(experiments: Sequence[Experiment]) -> Iterator[str]:
    """Yield a line for each group of experiments that differ only in the seed, with how many are recorded."""
    groups: dict[str, list[bool]] = {}
    answers = recorded(experiments, here=True)
    for experiment, row in zip(experiments, answers, strict=True):
        line = f"{experiment.table}  {experiment.space}/{experiment.dataset}  {experiment.method}"
        for key, value in experiment.settings.items():
            line += f" {key}={value}"
        line += f"  n_train {experiment.n_train}"
        groups.setdefault(line, []).append(row is not None)
    for line, done in groups.items():
        yield f"{line}: {sum(done)} of {len(done)} seeds recorded"


def record(name: str, profile: str = "standard", device: str = "cpu") -> None:
    """Compute and record the missing rows of a page, one by one; the `quick` profile computes nothing."""
    if profile in RECORDED_PROFILES:
        for _ in run_many(grid(name, profile), device=device):
            pass
