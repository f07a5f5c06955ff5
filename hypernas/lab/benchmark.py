"""A search space together with a table of accuracies."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hypernas import spaces
from hypernas.canonical import check_graph_form
from hypernas.data import Table
from hypernas.data.labelled import find_labelled, provenance_of, read_labelled
from hypernas.data.own_labels import is_labels, read_labels
from hypernas.errors import MissingTable, UserError
from hypernas.graph import GraphBatch
from hypernas.spaces.base import SearchSpace, graphs_of_notations
from hypernas.training.settings import checked, typed


def _read(space: SearchSpace, dataset: str) -> tuple[str, Table]:
    """The table of `dataset`; one that the space does not know may be the images of the labelled table."""
    path = find_labelled(space.name) if dataset not in space.datasets else None
    if path is not None and provenance_of(path)["images"] == dataset:
        return dataset, read_labelled(path)
    return dataset, space.read(dataset)


def _first_present(space: SearchSpace) -> tuple[str, Table]:
    """The first dataset of the space whose table is present, else the labelled table."""
    missing: list[MissingTable] = []
    for dataset in space.datasets:
        try:
            return dataset, space.read(dataset)
        except MissingTable as error:
            missing.append(error)
    path = find_labelled(space.name)
    if path is None:
        first = missing[0]
        if "hypernas label" in str(first):
            raise first
        raise MissingTable(f"{first}, and `hypernas label --space {space.name}` makes a small one") from first
    return provenance_of(path)["images"], read_labelled(path)


def _distinct(space: SearchSpace, table: Table) -> Table:
    """Labels of a user, each notation as the space writes it, once.

    Raises UserError for a notation that the space cannot read, and for one with two accuracies.
    """
    first: dict[str, int] = {}
    for row, notation in enumerate(table.columns["notation"].tolist()):
        try:
            written = space.parse(notation).notation
        except UserError as error:
            raise UserError(f"{error} (row {row} of {table.source})") from error
        same = first.setdefault(written, row)
        if table.test[same] != table.test[row]:
            values = f"{table.test[same]:g} in row {same} and {table.test[row]:g} in row {row}"
            raise UserError(f"an architecture must have one accuracy, got {values} for {written}: keep one of them")
    rows = np.array([*first.values()])
    columns = {name: column[rows] for name, column in table.columns.items()} | {"notation": np.array([*first])}
    return Table(table.source, table.kind, columns, table.validation[rows], table.test[rows])


class Benchmark:
    """All architectures of a space with their accuracies on one dataset, in percent.

    `validation` (B,) is the training label, `test` (B,) the accuracy to predict; `table.source` names the table.
    `dataset` is one of the space's datasets, or the images of a table made by `hypernas label`. It defaults to the
    first of the space's datasets whose table is installed, or else to that of the labelled table.

    Instead of a dataset you may pass your own labels: a `Table`, a DataFrame with the columns `notation` and
    `accuracy`, or the path of a CSV, Parquet or JSON lines file with these. `space` is a name, the path of a file that
    provides a space, or a space. Raise UserError for an unknown space or dataset, and for a missing or damaged table.
    """

    def __init__(self, space: str | Path | SearchSpace, dataset: Any = None) -> None:
        self.space = spaces.get(space)
        if dataset is None:
            self.dataset, self.table = _first_present(self.space)
        elif isinstance(dataset, Table):
            self.dataset, self.table = "labels", dataset
        elif is_labels(dataset):
            self.dataset = Path(dataset).stem if isinstance(dataset, (str, Path)) else "labels"
            self.table = _distinct(self.space, read_labels(dataset))
        else:
            self.dataset, self.table = _read(self.space, dataset)
        self.validation = torch.from_numpy(np.asarray(self.table.validation, dtype=np.float64))
        self.test = torch.from_numpy(np.asarray(self.table.test, dtype=np.float64))
        self._graphs: dict[str, GraphBatch] = {}

    def __len__(self) -> int:
        return len(self.test)

    def graphs(self, graph_form: str = "contracted") -> GraphBatch:
        """Return all architectures as graphs; `graph_form` is raw, pruned or contracted."""
        check_graph_form(graph_form)
        if graph_form not in self._graphs:
            # The space's own `graphs` reads its official table; labels of any origin are read by their notation.
            if "notation" in self.table.columns:
                graphs = graphs_of_notations(self.space, self.table, graph_form)
            else:
                graphs = self.space.graphs(self.table, graph_form)
            source = f"{self.dataset}, {self.table.source}"
            self._graphs[graph_form] = replace(graphs, graph_form=graph_form, source=source)
        return self._graphs[graph_form]

    @cached_property
    def function_ids(self) -> np.ndarray:
        """Return an integer (B,) for each architecture, equal for those that compute the same function.

        These are the architectures with equal contracted graphs.
        """
        return self.graphs("contracted").function_ids()

    def split(self, n_train: int, seed: int) -> tuple[Tensor, Tensor]:
        """Return the indices (n_train,) to train on, drawn from the rows with a label, and the others, to test on."""
        n_train, seed = typed("n_train", n_train, int), checked("seed", typed("seed", seed, int))
        pool = np.flatnonzero(np.isfinite(self.table.validation))
        if not 2 <= n_train <= len(pool):
            rule = f"n_train must be at least 2 and at most {len(pool)} for {self.space.name} {self.dataset}"
            raise UserError(f"{rule}, got {n_train}")
        train = np.random.default_rng(seed).permutation(pool)[:n_train]
        rest = np.ones(len(self), bool)
        rest[train] = False
        return torch.from_numpy(train), torch.from_numpy(np.flatnonzero(rest & np.isfinite(self.table.test)))
