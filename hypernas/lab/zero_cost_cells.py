"""The architectures that zero-cost proxies are asked about, and what their scores are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, cached_property

import numpy as np
import torch

from hypernas import spaces
from hypernas.errors import UserError
from hypernas.graph import Architecture
from hypernas.lab.benchmark import Benchmark
from hypernas.lab.metrics import kendall_tau, spearman_rho
from hypernas.lab.rows import Row

PUBLISHED = 500
Score = tuple[float | None, float]  # None where it is not finite; seconds


@cache
def benchmarks(space: str) -> tuple[Benchmark, ...]:
    """The benchmark of each dataset of the space whose table is present. Raises UserError where there is none."""
    found = []
    for dataset in spaces.get(space).datasets:
        try:
            found.append(Benchmark(space, dataset))
        except UserError:
            continue
    return tuple(found) or (Benchmark(space),)


class Cells:
    """The first n architectures of a fixed permutation of a benchmark's rows; twins have one of the `ids` (n,)."""

    def __init__(self, benchmark: Benchmark, n: int, graph_form: str) -> None:
        pool = np.flatnonzero(np.isfinite(benchmark.test.numpy()))
        if not 2 <= n <= len(pool):
            raise UserError(f"n must be from 2 to {len(pool)} for {benchmark.space.name}, got {n}")
        self.benchmark, self.graph_form = benchmark, graph_form
        self.rows = np.random.default_rng(0).permutation(pool)[:n]
        self.graphs = benchmark.graphs(graph_form)[torch.from_numpy(self.rows)]
        self.ids: list[int] = self.graphs.function_ids().tolist()

    def architectures(self) -> dict[int, Architecture]:
        """One architecture for each different id."""
        first = {identity: i for i, identity in reversed([*enumerate(self.ids)])}
        return {identity: self.graphs.architecture(first[identity]) for identity in dict.fromkeys(self.ids)}

    @cached_property
    def _all_ids(self) -> np.ndarray:
        return self.benchmark.graphs(self.graph_form).function_ids()

    @cached_property
    def _published(self) -> dict[str, np.ndarray]:
        """The scores of others by method, where the space has some."""
        found = self.benchmark.space.published_scores(self.benchmark.dataset)
        return {name.replace("_", ""): values for name, values in found.items()}

    def published(self, method: str) -> dict[int, float]:
        """The score of others that the table holds of a method, for every id that it holds one of."""
        if method not in self._published:
            return {}
        scores = self._published[method]
        known = np.isfinite(scores)
        return dict(zip(self._all_ids[known].tolist(), scores[known].tolist(), strict=True))


def repeated(chosen: Sequence[Cells], method: str) -> float | None:
    """Spearman rho between the scores that two datasets' tables hold of a method: how far others' repeat themselves."""
    tables = [table for table in (cells.published(method) for cells in chosen) if table][:2]
    both = [i for i in dict.fromkeys(chosen[0].ids) if all(i in table for table in tables)][:PUBLISHED]
    return spearman_rho(*([table[i] for i in both] for table in tables)) if len(tables) == 2 and len(both) > 1 else None


def judged(cells: Cells, method: str, scores: Mapping[int, Score]) -> Row:
    """Rank correlations of the finite scores with test accuracy, and of `PUBLISHED` different ones with others' scores.

    Seconds are those of the different architectures; twins are scored once and ranked each.
    """
    values = np.array([scores[identity][0] for identity in cells.ids], dtype=np.float64)
    finite = np.isfinite(values)
    ours, truth = values[finite], cells.benchmark.test.numpy()[cells.rows[finite]]
    different, others = [*dict.fromkeys(cells.ids)], cells.published(method)
    both = [(scores[i][0], others[i]) for i in different if i in others and scores[i][0] is not None][:PUBLISHED]
    seconds = [scores[identity][1] for identity in different]
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
