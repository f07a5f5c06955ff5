"""The experiments of each page, listed in `grids.toml`: the same list for its notebook and for `hypernas grid`."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import groupby, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypernas.errors import UserError
from hypernas.lab.experiment import OF_AN_EXPERIMENT, Experiment
from hypernas.lab.recording import run_many
from hypernas.lab.rows import Results, Row, flat, row_key
from hypernas.lab.search_experiment import TABLE, Search
from hypernas.lab.tables import digest_of_row

if TYPE_CHECKING:
    import pandas as pd

PLACES = ("table", "space", "dataset", "method", "n_train")
RECORDED_PROFILES = ("standard", "paper")
# Development has seeds from 100 on; nothing is tuned on these.
RECORDED_SEEDS = range(10)


@cache
def _blocks() -> dict[str, list[dict[str, Any]]]:
    return tomllib.loads(Path(__file__).with_name("grids.toml").read_text(encoding="utf-8"))


def names() -> list[str]:
    return list(_blocks())


def grid(name: str, profile: str = "standard", only: Mapping[str, str] | None = None) -> list[Experiment]:
    """All experiments of a page, seeds innermost; of these those whose place or setting has the text that `only` says.

    Raises UserError for an unknown name, and where none is left.

    >>> len(grid("nasbench101", only={"method": "np", "n_train": "100"}))
    10
    """
    if name not in _blocks():
        raise UserError(f"the grid must be one of {', '.join(names())}, got {name!r}")
    found: list[Experiment] = []
    for block in _blocks()[name]:
        given = {"table": "few_shot", "dataset": "cifar10", **block}
        kind = Search if given["table"] == TABLE else Experiment
        lists = {key: value if isinstance(value, list) else [value] for key, value in given.items() if key != "seeds"}
        for combination in product(*lists.values()):
            settings = dict(zip(lists, combination, strict=True))
            place = {key: settings.pop(key) for key in PLACES}
            if all(str({**place, **settings}.get(key)).lower() == text.lower() for key, text in (only or {}).items()):
                first = kind(**place, seed=0, profile=profile, settings=settings)
                first = first if kind is Search else _shared(first)
                found += [dataclasses.replace(first, seed=seed) for seed in range(given["seeds"])]
    if not found:
        chosen = ", ".join(f"{key}={text}" for key, text in (only or {}).items())
        raise UserError(f"a choice must leave experiments of the grid {name}, got none with {chosen}")
    return found


def _shared(experiment: Experiment) -> Experiment:
    """The experiment of few_shot where no setting but the number of rows ranked differs from the method's own."""
    own = experiment.accepted() | dict(dataclasses.replace(experiment, settings={}).resolved().settings)
    chosen = {name: value for name, value in experiment.settings.items() if value != own[name]}
    plain = {*chosen} <= {*OF_AN_EXPERIMENT}
    return dataclasses.replace(experiment, table="few_shot", settings=chosen) if plain else experiment


def recorded(experiments: list[Experiment], here: bool = False) -> list[Row | None]:
    """The recorded row of each experiment, None where there is none.

    A page shows a row whatever table it was made from, and says which. With `here` only a row of the table that is
    present counts, where one is: the others would be trained anew.
    """
    rows: dict[tuple[str, str | None], Row] = {}
    for table in {experiment.table for experiment in experiments}:
        for row in Results.of(table).rows():
            question = row_key(row)
            rows.setdefault((question, None), row)
            rows.setdefault((question, digest_of_row(row)), row)
    places = {tuple(row[name] for name in (*PLACES, "profile")) for row in rows.values()}
    answers: list[Row | None] = []
    for alike, group in groupby(experiments, key=lambda experiment: dataclasses.replace(experiment, seed=0)):
        if tuple(getattr(alike, name) for name in (*PLACES, "profile")) not in places:
            answers += [None for _ in group]
            continue
        resolved = alike.resolved()
        digest = resolved.table_digest() if here else None
        answers += [rows.get((row_key({**vars(resolved), "seed": each.seed}), digest)) for each in group]
    return answers


def every_seed(experiments: list[Experiment]) -> list[Experiment]:
    """The experiments with all seeds that anybody may have recorded, not just as many as their page computes.

    Two pages that compare the same methods at one place so have the same rows, and say the same.
    """
    first_seeds = [experiment for experiment in experiments if experiment.seed == 0]
    return [dataclasses.replace(experiment, seed=seed) for experiment in first_seeds for seed in RECORDED_SEEDS]


def rows(name: str, profile: str = "paper") -> pd.DataFrame:
    """The recorded rows of a page, each with every setting the page is about: those of the profile `standard`, and with
    `profile` `paper` those of it too."""
    asked = {key for block in _blocks()[name] for key in block} - {*PLACES, *OF_AN_EXPERIMENT, "seeds"}
    found = []
    for each in RECORDED_PROFILES if profile == "paper" else ("standard",):
        experiments = every_seed(grid(name, each))
        for experiment, row in zip(experiments, recorded(experiments), strict=True):
            if row is not None:
                own = {key: value for key, value in experiment.accepted().items() if key in asked}
                found.append({**row, "settings": own | row["settings"]})
    return flat(found)


def state(name: str, profile: str = "standard") -> str:
    """How much of a page is recorded, and what computes the rest, as one sentence."""
    experiments = grid(name, profile)
    n, total = sum(row is not None for row in recorded(experiments)), len(experiments)
    command = f"`hypernas grid {name}`"
    if n == total:
        return f"All {total} rows of this page are recorded; {command} is the list of them."
    if not n:
        return f"None of the {total} rows of this page is recorded yet: {command} computes them."
    return f"{n} of the {total} rows of this page are recorded; {command} computes the others."


def plan(experiments: list[Experiment]) -> Iterator[str]:
    """One line for the experiments that differ in the seed only: what they are, and how many are recorded."""
    groups: dict[str, list[bool]] = {}
    for experiment, row in zip(experiments, recorded(experiments, here=True), strict=True):
        settings = "".join(f" {key}={value}" for key, value in experiment.settings.items())
        place = f"{experiment.table}  {experiment.space}/{experiment.dataset}  {experiment.method}"
        groups.setdefault(f"{place}{settings}  n_train {experiment.n_train}", []).append(row is not None)
    yield from (f"{line}: {sum(done)} of {len(done)} seeds recorded" for line, done in groups.items())


def record(name: str, profile: str = "standard", device: str = "cpu") -> None:
    """Compute the rows of a page that are missing, each recorded at once; nothing in the `quick` profile."""
    if profile in RECORDED_PROFILES:
        for _ in run_many(grid(name, profile), device=device):
            pass
