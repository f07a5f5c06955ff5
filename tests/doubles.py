"""Small things in the place of large ones: a benchmark with its space and methods, and tables that may be absent."""

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hypernas import predictors
from hypernas.data import Table
from hypernas.errors import MissingTable, UserError
from hypernas.lab import experiment as experiments


class ToyBenchmark:
    """30 architectures, each a number that is its accuracy too."""

    n = 30

    def __init__(self, space, dataset):
        if dataset != "toyset":
            raise UserError(f"dataset must be toyset, got {dataset!r}")
        self.inputs = torch.arange(self.n, dtype=torch.float64)
        self.validation = self.test = self.inputs
        self.function_ids = np.arange(self.n)
        self.table = self.labelled()

    def labelled(self):
        return Table("a toy table", "measured", {}, self.validation.numpy(), self.test.numpy())

    def graphs(self, graph_form):
        return self.inputs

    def split(self, n_train, seed):
        if not 2 <= n_train <= self.n:
            raise UserError(f"n_train must be from 2 to {self.n} for toy, got {n_train}")
        order = np.random.default_rng(seed).permutation(self.n)
        return order[:n_train], order[n_train:]


class TwinBenchmark(ToyBenchmark):
    """40 architectures in 20 pairs of twins; accuracy is a linear function of three numbers."""

    n = 40

    def __init__(self, space, dataset):
        super().__init__(space, dataset)
        numbers = np.random.default_rng(0).normal(size=(20, 3)).repeat(2, 0)
        self.inputs = torch.from_numpy(numbers)
        self.validation = self.test = self.inputs @ torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64) + 90
        self.function_ids = np.arange(self.n) // 2
        self.table = self.labelled()


def one_of(what, known):
    """A function name -> what `known` holds under it; UserError for another name."""

    def get(name):
        if name not in known:
            raise UserError(f"{what} must be one of {', '.join(known)}, got {name!r}")
        return known[name]

    return get


@contextmanager
def toy_world(monkeypatch, results, benchmark, methods, **defaults):
    """Experiments know `methods` by name and the space `toy` with `defaults` alone, and record rows under `results`."""
    space = SimpleNamespace(defaults=defaults, profiles={}, networks={})
    monkeypatch.setenv("HYPERNAS_RESULTS", str(results))
    monkeypatch.setattr(experiments, "Benchmark", benchmark)
    monkeypatch.setattr(predictors, "get", one_of("method", methods))
    monkeypatch.setattr(predictors, "can_fit_many", lambda name: False)
    monkeypatch.setattr(experiments, "spaces", SimpleNamespace(get=one_of("search space", {"toy": space})))
    experiments.forget_tables()
    yield
    experiments.forget_tables()


def present(space, dataset):
    """The table of a space; the test is skipped, with the sentence that says what brings it, where it is not here."""
    try:
        return space.read(dataset)
    except MissingTable as missing:
        pytest.skip(str(missing))
