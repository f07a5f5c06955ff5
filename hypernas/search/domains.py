"""The set of candidates of a search: the rows of a benchmark table, or every architecture of a space."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from hypernas.errors import UserError
from hypernas.graph import Architecture, GraphBatch, collate
from hypernas.predictors.shared.features import count

# The rank among the nearest rows of the one that replaces a mutation which the table lacks, on average.
NEAREST = 10
Candidate = Any  # hashable


def function_id(space: Any, architecture: Architecture) -> int:
    """Return an integer that is equal for architectures that compute the same function."""
    batch = collate([space.canonical(architecture)], space)
    return int(batch.function_ids()[0])


class Pool:
    """The rows of a benchmark table that have a label; a candidate is a row number.

    A query reads the label of one row. Rows that compute the same function cost one query and return the label of the
    row that was queried first.
    """

    def __init__(self, benchmark: Any) -> None:
        self.benchmark = benchmark
        self.space = benchmark.space
        self.source = benchmark.table.source
        has_label = np.isfinite(np.asarray(benchmark.validation))
        self.rows: list[int] = np.flatnonzero(has_label).tolist()
        labelled = benchmark.graphs("contracted")[self.rows]
        ids = labelled.function_ids().tolist()
        self._key = dict(zip(self.rows, ids, strict=True))
        self._rows_by_key = defaultdict(list)
        for row, key in self._key.items():
            self._rows_by_key[key].append(row)
        self._counts: dict[int, tuple[int, int]] = {}

    def __len__(self) -> int:
        """Return the number of different functions."""
        return len(self._rows_by_key)

    def sample(self, rng: np.random.Generator) -> Candidate:
        return self.rows[rng.integers(len(self.rows))]

    def mutate(self, row: int, rng: np.random.Generator) -> int:
        """Return a mutation that is in the table, or else one of the nearest rows, on average the tenth nearest."""
        child = self.space.mutate(self.architecture(row), rng)
        twins = self._rows_by_key.get(function_id(self.space, child))
        if twins:
            return twins[rng.integers(len(twins))]
        code = self._codes[self._place[row]]
        distance = (self._codes != code).sum(1)
        # Equally near rows stand in random order; the row itself is the first, and a rank at least 1.
        order = np.lexsort((rng.random(len(distance)), distance))
        rank = int(rng.geometric(1 / NEAREST))
        last = len(order) - 1
        return self.rows[order[min(rank, last)]]

    @cached_property
    def _place(self) -> dict[int, int]:
        return {row: place for place, row in enumerate(self.rows)}

    @cached_property
    def _codes(self) -> np.ndarray:
        """Operations and edges of the raw graphs, a line a row: two rows are as far apart as they differ in these."""
        raw = self.benchmark.graphs("raw")[self.rows]
        parts = (raw.ops.to(torch.uint8), raw.adjacency, raw.sequence.to(torch.uint8))
        return torch.cat([part.flatten(1) for part in parts], 1).numpy()

    def keys(self, rows: Sequence[int]) -> list[int]:
        return [self._key[row] for row in rows]

    def graphs(self, rows: Sequence[int], graph_form: str) -> GraphBatch:
        return self.benchmark.graphs(graph_form)[list(rows)]

    def architecture(self, row: int) -> Architecture:
        return self.benchmark.graphs("raw").architecture(row)

    def candidate(self, architecture: Architecture) -> Candidate:
        """Return the row of an architecture. Raise UserError if the table does not contain it."""
        rows = self._rows_by_key.get(function_id(self.space, architecture))
        if not rows:
            raise UserError(f"an architecture must be one of the table's, got {architecture.notation}")
        # Rows of one function may have costs of their own, so that the very row is looked for first.
        notation = self.space.canonical(architecture, "raw").notation
        return next((row for row in rows if self.architecture_text(row) == notation), rows[0])

    def architecture_text(self, row: int) -> str:
        return self.space.canonical(self.architecture(row), "raw").notation

    def count(self, row: int) -> tuple[int, int]:
        """Return parameters and multiply-adds of the network of a row. They are computed once."""
        if row not in self._counts:
            self._counts[row] = self.space.count(self.architecture(row))
        return self._counts[row]

    def column(self, name: str) -> np.ndarray | None:
        """Return the values (rows of the table,) of a column or a measured cost, or None if neither has this name."""
        column = self.benchmark.table.columns.get(name)
        if column is None:
            column = self.space.hardware(self.benchmark.dataset).get(name)
        if column is None or np.ndim(column) != 1:
            return None
        column = np.asarray(column)
        return column.astype(float) if np.issubdtype(column.dtype, np.number) else None

    def accuracy(self, row: int) -> float:
        """Return the label in percent."""
        return float(self.benchmark.validation[row])


class WholeSpace:
    """Every architecture of a space; a candidate is an architecture.

    A surrogate, `oracle`, provides accuracies if given.
    """

    rows = None

    def __init__(self, space: Any, oracle: Any = None) -> None:
        self.space, self._oracle = space, oracle
        self.source: str = "" if oracle is None else oracle.source
        self._key: dict[Architecture, int] = {}

    def sample(self, rng: np.random.Generator) -> Candidate:
        return self.space.sample(rng)

    def mutate(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        return self.space.mutate(architecture, rng)

    def keys(self, architectures: Sequence[Architecture]) -> list[int]:
        new = [one for one in dict.fromkeys(architectures) if one not in self._key]
        if new:
            ids = self.graphs(new, "contracted").function_ids().tolist()
            self._key.update(zip(new, ids, strict=True))
        return [self._key[one] for one in architectures]

    def graphs(self, architectures: Sequence[Architecture], graph_form: str) -> GraphBatch:
        canonical = [self.space.canonical(one, graph_form) for one in architectures]
        return collate(canonical, self.space, graph_form)

    def architecture(self, architecture: Architecture) -> Architecture:
        return architecture

    def candidate(self, architecture: Architecture) -> Candidate:
        return architecture

    def count(self, architecture: Architecture) -> tuple[int, int]:
        return count(self.space, architecture)

    def accuracy(self, architecture: Architecture) -> float:
        """Return the surrogate's prediction in percent."""
        return float(self._oracle.predict([architecture])[0])


# `keys` are equal for candidates that compute the same function; `rows` is None where they cannot be listed.
Domain = Pool | WholeSpace
