"""Experiments: train a predictor on a few rows of a benchmark, rank all others, record one row."""

from __future__ import annotations

import dataclasses
import inspect
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch

from hypernas import predictors, spaces
from hypernas.data.catalogue import cache_directory
from hypernas.data.images import kind_of
from hypernas.errors import MissingTable, UserError
from hypernas.lab.benchmark import Benchmark
from hypernas.lab.metrics import kendall_tau, spearman_rho
from hypernas.lab.provenance import commit, stamp, version
from hypernas.lab.rows import Results, Row, canonical_json, row_key, table
from hypernas.lab.tables import digest
from hypernas.predictors import runs_networks, settings_of
from hypernas.predictors.shared.generating import told_of_networks
from hypernas.training.files import short_digest
from hypernas.training.labels import LabelScale
from hypernas.training.loop import Checkpoint
from hypernas.training.settings import PROFILES, checked, resolve, typed

__all__ = ["PROFILES", "Experiment", "Results", "settings_of", "table"]

# Settings of any experiment, recorded where they are chosen.
OF_AN_EXPERIMENT = {"n_test": 0}
SAVE_SECONDS = 60.0
KEEP_CHECKPOINTS_DAYS = 30


@dataclass(frozen=True)
class Experiment:
    """One question to a predictor: after `n_train` labels of this benchmark, how well does it rank the rest?

    `settings` are those that differ from the defaults; `resolved()` has all of them.
    """

    table: str
    space: str
    dataset: str
    method: str
    n_train: int
    seed: int
    profile: str = "standard"
    protocol: str = "clean"
    settings: Mapping[str, Any] = field(default_factory=dict)

    def resolved(self) -> Experiment:
        """Return the same experiment with all its settings. Raise UserError for a wrong name, type or range."""
        kinds = {"n_train": int, "seed": int, "profile": str, "protocol": str}
        plain = {name: checked(name, typed(name, getattr(self, name), kind)) for name, kind in kinds.items()}
        accepted, space = self.accepted(), spaces.get(self.space)
        defaults = space.defaults | space.profiles.get(self.profile, {})
        if self.predictor and runs_networks(self.predictor):
            defaults = defaults | space.networks.get(self.profile, {})
        settings = resolve(self.method, self.profile, accepted, defaults, self.settings)
        return dataclasses.replace(self, **plain, settings=settings)

    @property
    def predictor(self) -> str | None:
        """The name of the predictor that learns from the labels."""
        return self.method

    def key(self) -> str:
        """The key of the recorded row: the canonical JSON of the resolved experiment."""
        return row_key(dataclasses.asdict(self.resolved()))

    def table_digest(self) -> str | None:
        """The digest of the installed table that answers the experiment, or None if no table is installed."""
        return _table_digest(self.space, self.dataset)

    def accepted(self) -> dict[str, Any]:
        """Return the settings that may be chosen, with defaults.

        `n_test` rows of the test set are ranked, 0 for all.
        """
        return OF_AN_EXPERIMENT | settings_of(self.method)

    def check(self, device: str = "cpu") -> None:
        """Raise UserError if this resolved experiment cannot run."""
        predictors.get(self.method)(**arguments(self, False, device), seed=self.seed)
        benchmark_of(self.space, self.dataset).split(self.n_train, self.seed)

    @property
    def together(self) -> bool:
        """Whether several seeds can run at once; those of the plain engine run one after another."""
        return predictors.can_fit_many(self.method) and self.settings.get("engine") != "plain"

    def family(self) -> str:
        """What resolved experiments must share to train at once."""
        if not self.together:
            return dataclasses.replace(self, seed=0).key()
        own = predictors.settings_of_each(self.method)
        shared = {name: value for name, value in self.settings.items() if name not in own}
        if "images" in own and "images" in self.settings:
            shared["images"] = kind_of(self.settings["images"])
        return canonical_json({**dataclasses.asdict(self), "table": "", "seed": 0, "settings": shared})

    @staticmethod
    def measure(
        group: list[Any],
        progress: bool,
        device: str,
    ) -> Iterator[Row]:
        """Yield the rows of resolved experiments that differ only in the seed."""
        benchmark = benchmark_of(group[0].space, group[0].dataset)
        graphs = benchmark.graphs(group[0].settings["graph_form"])
        made = stamp(device)
        start, checkpoint = time.perf_counter(), checkpoint_for(group, device)
        fitted, tests = _train(group, graphs, progress, device, checkpoint)
        share = (time.perf_counter() - start + (checkpoint.seconds if checkpoint else 0)) / len(group)
        ids = np.asarray(benchmark.function_ids)
        for experiment, predictor, test in zip(group, fitted, tests, strict=True):
            start = time.perf_counter()
            test = np.asarray(test)
            predicted = np.asarray(predictor.predict(graphs[test]), dtype=np.float64)
            wall = share + time.perf_counter() - start
            truth = np.asarray(benchmark.test)[test]
            train = np.asarray(benchmark.split(experiment.n_train, experiment.seed)[0])
            unseen = ~np.isin(ids[test], ids[train])
            yield {
                **dataclasses.asdict(experiment),
                "kendall_tau": kendall_tau(predicted, truth),
                "kendall_tau_unseen": kendall_tau(predicted[unseen], truth[unseen]) if unseen.sum() > 1 else None,
                "spearman_rho": spearman_rho(predicted, truth),
                **told_of_networks(predictor, graphs, test, experiment.seed),
                "n_test": len(test),
                "seconds": round(wall, 3),
                "seeds_together": len(group),
                "n_parameters": int(predictor.n_parameters),
                **made,
                "source": benchmark.table.source,
                "table_digest": experiment.table_digest(),
            }


@cache
def benchmark_of(space: str, dataset: str) -> Benchmark:
    """Return a benchmark, which is opened once for all experiments of a process."""
    return Benchmark(space, dataset)


@cache
def _table_digest(space: str, dataset: str) -> str | None:
    try:
        return digest(benchmark_of(space, dataset).table)
    except MissingTable:
        return None


def forget_tables() -> None:
    """Reopen every table on its next use, because one may have been written in the meantime."""
    benchmark_of.cache_clear()
    _table_digest.cache_clear()


def recorded_row(experiment: Experiment) -> Row | None:
    """Return the row of a resolved experiment on the installed table, or on any table if none is installed."""
    return Results.of(experiment.table).find(experiment.key(), experiment.table_digest())


def checkpoint_for(group: list[Experiment], device: str) -> Checkpoint | None:
    """Return where a training of minutes saves its state, named by experiment, seeds and code; None if nowhere."""
    folder = cache_directory() / "checkpoints"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if not os.access(folder, os.W_OK):
        return None
    name = canonical_json([[each.key() for each in group], version(), commit(), device])
    return Checkpoint(folder / f"{short_digest(name)}.pt", every=SAVE_SECONDS)


def clean_checkpoints() -> None:
    """Remove abandoned checkpoints and the partial files of killed processes."""
    try:
        for path in (cache_directory() / "checkpoints").glob("*.pt*"):
            age_days = (time.time() - path.stat().st_mtime) / 86400
            half_written = path.suffix != ".pt" and age_days > 1 / 24
            if half_written or age_days > KEEP_CHECKPOINTS_DAYS:
                path.unlink(missing_ok=True)
    except OSError:
        return  # a cache that cannot be read cannot be cleaned, and stops nothing


def arguments(
    experiment: Experiment,
    progress: Any,
    device: str,
    checkpoint: Checkpoint | None = None,
) -> dict[str, Any]:
    """Return the keyword arguments of the method, except its seed. Raise UserError if it cannot use the device."""
    accepted = inspect.signature(predictors.get(experiment.method)).parameters
    if device != "cpu" and "device" not in accepted:
        raise UserError(f"device must be cpu for {experiment.method}, got {device!r}")
    extra = {"progress": progress, "device": device, "checkpoint": checkpoint}
    settings = {k: v for k, v in experiment.settings.items() if k not in ("graph_form", *OF_AN_EXPERIMENT)}
    return settings | {name: value for name, value in extra.items() if name in accepted}


def _split(experiment: Experiment) -> tuple[Any, Any]:
    """Training and test indices; the protocol `pinat` tests on all rows, those of the training set among them.

    With `n_test` these are so many of them, drawn by the seed.
    """
    benchmark = benchmark_of(experiment.space, experiment.dataset)
    train, test = benchmark.split(experiment.n_train, experiment.seed)
    if experiment.protocol == "pinat":
        test = torch.isfinite(torch.as_tensor(benchmark.test)).nonzero()[:, 0]
    if n_test := experiment.settings.get("n_test", 0):
        chosen = np.random.default_rng([experiment.seed, n_test]).permutation(len(test))[:n_test]
        test = test[torch.from_numpy(np.sort(chosen))]
    return train, test


def _train(
    group: list[Experiment],
    graphs: Any,
    progress: bool,
    device: str,
    checkpoint: Checkpoint | None,
) -> tuple[list[Any], list[Any]]:
    """Fit experiments that may train at once -> predictors, test indices.

    The protocol `pinat` puts labels on the scale of all validation labels of the table.
    """
    first, benchmark = group[0], benchmark_of(group[0].space, group[0].dataset)
    splits = [_split(each) for each in group]
    sets = [graphs[train] for train, _ in splits]
    labels = [benchmark.validation[train] for train, _ in splits]
    seeds = [each.seed for each in group]
    keywords = arguments(first, progress, device, checkpoint)
    scale = (LabelScale.whole(benchmark.validation),) if first.protocol == "pinat" else ()
    if len(group) > 1:
        own = [{**each.accepted(), **each.settings} for each in group]
        extra = _of_each(own)
        fitted = predictors.fit_many(first.method, keywords, sets, labels, seeds, *scale, **extra)
    else:
        fitted = [predictors.get(first.method)(**keywords, seed=seeds[0]).fit(sets[0], labels[0], *scale)]
    return fitted, [test for _, test in splits]


def _of_each(settings: list[dict[str, Any]]) -> dict[str, Any]:
    """The settings in which experiments that train at once differ, as `fit_many` takes them; nothing where none do."""
    differ = set()
    for own in settings:
        differ |= {name for name, value in own.items() if value != settings[0][name]}
    if not differ:
        return {}
    of_each = []
    for own in settings:
        of_each.append({name: own[name] for name in sorted(differ)})
    return {"of_each": of_each}
