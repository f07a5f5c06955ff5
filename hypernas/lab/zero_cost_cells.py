"""The architectures that zero-cost proxies score, and how good their scores are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, cached_property

import numpy as np
import torch

from hypernas import spaces
from hypernas.errors import UserError
from hypernas.graph import Architecture
from hypernas.lab.benchmark import Benchmark
from hypernas.lab.experiment import benchmark_of
from hypernas.lab.metrics import kendall_tau, spearman_rho
from hypernas.lab.rows import Row

# So many different architectures are set beside others' scores: a rank correlation then errs by about 0.04.
PUBLISHED = 500
Score = tuple[float | None, float]  # None where it is not finite; seconds


@cache
def benchmarks(space: str) -> tuple[Benchmark, ...]:
    """Return the benchmark of each dataset of the space whose table is installed. Raise UserError if there is none."""
    present = []
    for dataset in spaces.get(space).datasets:
        try:
            present.append(benchmark_of(space, dataset))
        except UserError:
            continue
    # Where there is none, to ask for the first says which file is missing.
    return tuple(present) or (Benchmark(space),)


class Cells:
    """The first n architectures of a fixed permutation of a benchmark's rows.

    Duplicates share one of the `ids` (n,).
    """

    def __init__(
        self,
        benchmark: Benchmark,
        n: int,
        graph_form: str,
    ) -> None:
        pool = np.flatnonzero(np.isfinite(benchmark.test.numpy()))
        if not 2 <= n <= len(pool):
            raise UserError(f"n must be from 2 to {len(pool)} for {benchmark.space.name}, got {n}")
        self.benchmark = benchmark
        self.graph_form = graph_form
        # Seed 0 whatever the seed of the weights: all methods and seeds score the same architectures.
        self.rows = np.random.default_rng(0).permutation(pool)[:n]
        self.graphs = benchmark.graphs(graph_form)[torch.from_numpy(self.rows)]
        self.ids: list[int] = self.graphs.function_ids().tolist()

    def architectures(self) -> dict[int, Architecture]:
        """Return one architecture for each distinct id."""
        first: dict[int, Architecture] = {}
        for i, identity in enumerate(self.ids):
            if identity not in first:
                first[identity] = self.graphs.architecture(i)
        return first

    @cached_property
    def _all_ids(self) -> np.ndarray:
        return self.benchmark.graphs(self.graph_form).function_ids()

    @cached_property
    def _published(self) -> dict[str, np.ndarray]:
        """The scores of others by method, where the space has some."""
        published = self.benchmark.space.published_scores(self.benchmark.dataset)
        # Tables write `jacob_cov`, proxies here are called `jacobcov`.
        return {name.replace("_", ""): scores for name, scores in published.items()}

    def published(self, method: str) -> dict[int, float]:
        """Return the published score of a method for each id that has one in the table."""
        if method not in self._published:
            return {}
        scores = self._published[method]
        known = np.isfinite(scores)
        ids = self._all_ids[known].tolist()
        return dict(zip(ids, scores[known].tolist(), strict=True))


@cache
def cells_of(space: str, dataset: str, n: int, graph_form: str) -> Cells:
    """Return the architectures of an installed dataset that are scored."""
    return Cells(benchmark_of(space, dataset), n, graph_form)


def repeated(chosen: Sequence[Cells], method: str) -> float | None:
    """Return Spearman's rho between the scores of a method in two datasets' tables: do published scores repeat?"""
    tables = [cells.published(method) for cells in chosen]
    tables = [table for table in tables if table]
    if len(tables) < 2:
        return None
    first, second = tables[:2]
    different = dict.fromkeys(chosen[0].ids)
    both = [identity for identity in different if identity in first and identity in second][:PUBLISHED]
    if len(both) < 2:
        return None
    return spearman_rho([first[identity] for identity in both], [second[identity] for identity in both])


def judged(
    cells: Cells,
    method: str,
    scores: Mapping[int, Score],
) -> Row:
    """Return rank correlations of the finite scores with test accuracy and with published scores.

    The latter use `PUBLISHED` distinct architectures. Seconds are those of the distinct architectures; duplicates are
    scored once and ranked individually.
    """
    values = np.array([scores[identity][0] for identity in cells.ids], dtype=np.float64)
    finite = np.isfinite(values)
    ours = values[finite]
    truth = cells.benchmark.test.numpy()[cells.rows[finite]]
    others = cells.published(method)
    both = []
    seconds = []
    for identity in dict.fromkeys(cells.ids):
        score, took = scores[identity]
        seconds.append(took)
        if score is not None and identity in others:
            both.append((score, others[identity]))
    both = both[:PUBLISHED]
    return {
        "kendall_tau": kendall_tau(ours, truth) if len(ours) > 1 else None,
        "spearman_rho": spearman_rho(ours, truth) if len(ours) > 1 else None,
        "published_rho": spearman_rho(*np.array(both).T) if len(both) > 1 else None,
        "n_published": len(both),
        "n_test": len(ours),
        "n_not_finite": int((~finite).sum()),
        "seconds": round(sum(seconds), 3),
        "seconds_per_architecture": sum(seconds) / len(seconds),
    }
