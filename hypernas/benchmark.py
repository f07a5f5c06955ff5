"""A search space and the table of accuracies that goes with it."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from hypernas import spaces
from hypernas.errors import UserError
from hypernas.graph import GraphBatch


class Benchmark:
    """All architectures of a space with their accuracies on one dataset, in percent.

    `validation` (B,) is the training label, `test` (B,) what is predicted; `table.source` says which table it is.
    Raises UserError for an unknown space or dataset, or a table that is missing or damaged.
    """

    def __init__(self, space: str, dataset: str) -> None:
        self.space = spaces.get(space)
        self.dataset = dataset
        self.table = self.space.read(dataset)
        self.validation = torch.from_numpy(np.asarray(self.table.validation, dtype=np.float64))
        self.test = torch.from_numpy(np.asarray(self.table.test, dtype=np.float64))
        self._graphs: dict[str, GraphBatch] = {}

    def __len__(self) -> int:
        return len(self.test)

    def graphs(self, graph_form: str = "contracted") -> GraphBatch:
        """All architectures as graphs; `graph_form` is raw, pruned or contracted."""
        if graph_form not in self._graphs:
            self._graphs[graph_form] = self.space.graphs(self.table, graph_form)
        return self._graphs[graph_form]

    @cached_property
    def function_ids(self) -> np.ndarray:
        """An integer (B,), equal for architectures that compute the same function (equal contracted graphs)."""
        return self.graphs("contracted").function_ids()

    def split(self, n_train: int, seed: int) -> tuple[Tensor, Tensor]:
        """Indices (n_train,) to train on, drawn among the rows with a label, and all others to test on."""
        pool = np.flatnonzero(np.isfinite(self.table.validation))
        if not 2 <= n_train <= len(pool):
            rule = f"n_train must be at least 2 and at most {len(pool)} for {self.space.name} {self.dataset}"
            raise UserError(f"{rule}, got {n_train}")
        train = np.random.default_rng(seed).permutation(pool)[:n_train]
        rest = np.ones(len(self), bool)
        rest[train] = False
        return torch.from_numpy(train), torch.from_numpy(np.flatnonzero(rest & np.isfinite(self.table.test)))
