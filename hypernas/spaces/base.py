"""What the library expects of a search space: four required methods, and working defaults for everything else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from difflib import get_close_matches
from functools import wraps
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from hypernas.canonical import check_graph_form
from hypernas.data import Table
from hypernas.data.labelled import read_own
from hypernas.errors import UserError
from hypernas.graph import NORMAL, Architecture, Cell, GraphBatch, collate
from hypernas.method.target_network import Program
from hypernas.spaces.programs import count
from hypernas.spaces.trainable_network import TrainableNetwork

# A public member whose name is this near to one of the base class is taken for a slip of the pen.
TYPO_SIMILARITY = 0.8
# Architectures are drawn and hashed so many at once.
DRAWN_AT_ONCE = 64
# A space is taken for exhausted after so many times its known architectures without a new one.
IN_VAIN = 5


class SearchSpace(ABC):
    """Base class of search spaces. A file provides an instance of a subclass as `space`, named like the file.

    A subclass must define its `name`, its operations `ops`, a description `macro` of its structure, and the methods
    `parse`, `sample`, `mutate` and `canonical`. The hypernetwork, zero-cost proxies and `hypernas label` also need
    `build`. `defaults` are settings of predictors for this space, `profiles` add more for each profile, and `networks`
    more for methods that run networks. `accepts` lists the types that `parse` takes.
    """

    name: str
    ops: tuple[str, ...]
    macro: str
    datasets: tuple[str, ...] = ("digits",)
    defaults: ClassVar[dict[str, Any]] = {}
    profiles: ClassVar[dict[str, dict[str, Any]]] = {}
    networks: ClassVar[dict[str, dict[str, Any]]] = {}
    accepts: tuple[type, ...] = (str,)

    def __init_subclass__(cls, **options: Any) -> None:
        """Reject misspelled members, and make the required methods check their arguments."""
        super().__init_subclass__(**options)
        known = {*vars(SearchSpace), *SearchSpace.__annotations__}
        for name in vars(cls):
            # A misspelled optional member would never be called, and its default would be used without a word.
            near = get_close_matches(name, known - {name}, 1, TYPO_SIMILARITY)
            if not name.startswith("_") and name not in known and near:
                raise UserError(f"a search space has no {name!r}, got one in {cls.__name__}: is {near[0]!r} meant?")
        for name, guard in GUARDS.items():
            if name in vars(cls):
                setattr(cls, name, guard(vars(cls)[name]))

    @abstractmethod
    def parse(self, notation: Any) -> Architecture:
        """Return the raw architecture written as `notation`. Raise UserError if it is not a valid one."""

    @abstractmethod
    def sample(self, rng: Any) -> Architecture:
        """Return a random architecture; `rng` is a NumPy generator or a seed."""

    @abstractmethod
    def mutate(self, architecture: Architecture, rng: Any) -> Architecture:
        """Return another architecture of the space, one change away."""

    @abstractmethod
    def canonical(self, architecture: Architecture, graph_form: str = "contracted") -> Architecture:
        """Return the architecture in one of `GRAPH_FORMS`. Raise UserError if it is outside the space."""

    def provides(self, member: str) -> bool:
        """Return whether the space overrides an optional member such as `build`, `oracle` or `check`."""
        return getattr(type(self), member) is not getattr(SearchSpace, member)

    def written(self) -> dict[str, Any]:
        """Return the whole space as JSON, from which `spaces.restored` rebuilds it; empty if the space is code."""
        return {}

    def build(
        self,
        architecture: Architecture,
        channels: int = 16,
        cells_per_stage: int = 3,
        stem_stride: int = 1,
    ) -> Program:
        """Return the network as a Program: a stem of `channels` and the first `cells_per_stage` cells of each stage."""
        raise UserError(f"the method must be one that runs no networks for {self.name}, which builds none")

    def network(
        self,
        architecture: Architecture,
        n_classes: int = 10,
        c_image: int = 3,
        **size: Any,
    ) -> TrainableNetwork:
        """Return the network as an ordinary PyTorch module: images (M, c_image, H, W) -> logits (M, n_classes).

        `size` are the arguments of `build`. Weights are drawn from PyTorch's generator.
        """
        return TrainableNetwork(self.build(architecture, **size), c_image, n_classes)

    def count(self, architecture: Architecture) -> tuple[int, int]:
        """Return trainable parameters and multiply-adds, by default of the built network on 32 x 32 colour images."""
        return count(self.build(architecture), (3, 32, 32), 10)

    def graphs(self, table: Table, graph_form: str) -> GraphBatch:
        """Return all architectures of a table, by default those in its column `notation`."""
        return graphs_of_notations(self, table, graph_form)

    def read(self, dataset: str) -> Table:
        """Return the table of `dataset`, one of `datasets`.

        Raise UserError for another one, MissingTable if it is not installed.
        """
        if dataset not in self.datasets:
            raise UserError(f"dataset must be one of {', '.join(self.datasets)} for {self.name}, got {dataset!r}")
        return self.table(dataset)

    def table(self, dataset: str) -> Table:
        """Return the table of a known dataset, by default the one that `hypernas label` created."""
        return read_own(self.name, dataset)

    def check(self, table: Table) -> str:
        """Count every architecture of a table again. Return a sentence that says what agrees.

        Raise UserError for the first row that differs, and for a table that does not state both counts.
        """
        if "parameters" not in table.columns or "multiply_adds" not in table.columns:
            rule = "a table can be checked where it states parameters of its architectures"
            raise UserError(f"{rule}, {self.name} does not")
        graphs = self.graphs(table, "raw")
        counts = zip(table.columns["parameters"].tolist(), table.columns["multiply_adds"].tolist(), strict=True)
        for row, stated in enumerate(counts):
            counted = self.count(graphs.architecture(row))
            if counted != stated:
                raise UserError(f"row {row} must have {counted} parameters and multiply-adds, the table says {stated}")
        return f"parameters and multiply-adds equal those counted from the architecture in all {len(table):,} rows"

    def trainable_parameters(self, graphs: GraphBatch) -> np.ndarray | None:
        """Return the trainable parameters (B,) of a whole batch, or None if the space only counts them one by one."""
        return None

    def published_scores(self, dataset: str) -> dict[str, np.ndarray]:
        """Return published zero-cost scores (B,) for the table of `dataset` by name, NaN where unknown."""
        return {}

    def hardware(self, dataset: str) -> dict[str, np.ndarray]:
        """Return measured costs (B,) of the architectures in the table of `dataset` by name, such as latencies."""
        return {}

    def oracle(self) -> Any:
        """Return a surrogate of the whole space with `predict(architectures)` in percent."""
        raise UserError(f"oracle must be table for {self.name}, which has no surrogate of its whole space")


def graphs_of_notations(
    space: SearchSpace,
    table: Table,
    graph_form: str,
) -> GraphBatch:
    """Return the architectures in the column `notation` of a table. Raise UserError that names the first bad row."""
    architectures = []
    for row, notation in enumerate(table.columns["notation"].tolist()):
        try:
            architectures.append(space.canonical(space.parse(notation), graph_form))
        except UserError as error:
            raise UserError(f"{error} (notation in row {row} of {table.source})") from error
    return collate(architectures, space, graph_form)


def draw_distinct(
    space: SearchSpace,
    n: int,
    seed: int,
) -> list[Architecture]:
    """Return n architectures by the space's sampler, no two of one function; fewer if drawing finds no more."""
    rng = np.random.default_rng(seed)
    first: dict[int, Architecture] = {}
    in_vain = 0
    while len(first) < n and in_vain <= IN_VAIN * (len(first) + DRAWN_AT_ONCE):
        before = len(first)
        drawn = [space.sample(rng) for _ in range(DRAWN_AT_ONCE)]
        functions = collate([space.canonical(one) for one in drawn], space).function_ids().tolist()
        for function, architecture in zip(functions, drawn, strict=True):
            first.setdefault(function, architecture)
        in_vain = 0 if len(first) > before else in_vain + DRAWN_AT_ONCE
    return list(first.values())[:n]


def with_second_cell(
    ops: np.ndarray,
    adjacency: np.ndarray,
    mask: np.ndarray,
    second: Cell,
    sequence: Sequence[int],
    space: SearchSpace,
) -> GraphBatch:
    """Return networks of one searched cell (B, N), (B, N, N), (B, N) and a fixed `second` cell, all in a `sequence`."""
    b, n = mask.shape
    # The fixed cell is padded to the width of the searched one.
    size = len(second.ops)
    second_ops, second_adjacency = np.zeros(n, ops.dtype), np.zeros((n, n), adjacency.dtype)
    second_ops[:size] = second.ops
    second_adjacency[:size, :size] = second.adjacency

    def beside(first: np.ndarray, other: np.ndarray) -> Tensor:
        return torch.from_numpy(np.stack([first, np.broadcast_to(other, first.shape)], 1))

    return GraphBatch(
        beside(ops, second_ops),
        beside(adjacency, second_adjacency),
        beside(mask, np.arange(n) < size),
        torch.tensor([NORMAL, second.kind]).expand(b, 2).contiguous(),
        torch.tensor(sequence).expand(b, -1).contiguous(),
        space,
    )


def check_cells_per_stage(cells_per_stage: int, most: int) -> None:
    """Raise UserError if `cells_per_stage` is not between 1 and `most`."""
    if not 1 <= cells_per_stage <= most:
        raise UserError(f"cells_per_stage must be from 1 to {most}, got {cells_per_stage}")


def check_operation(operation: Any, operations: Collection[Any]) -> None:
    """Raise UserError if `operation` is not one of `operations`."""
    if operation not in operations:
        raise UserError(f"operation must be one of {', '.join(map(str, operations))}, got {operation!r}")


def other_choice(
    choice: Any,
    choices: Sequence[Any],
    rng: np.random.Generator,
) -> Any:
    """Return one of the `choices` other than `choice`, uniformly at random."""
    # A step of 1 to n - 1 places around the ring never ends where it began.
    return choices[(choices.index(choice) + int(rng.integers(1, len(choices)))) % len(choices)]


def generator(rng: Any) -> np.random.Generator:
    """Return `rng` if it is a NumPy generator, or a new generator seeded with it. Raise UserError for anything else."""
    if isinstance(rng, np.random.Generator):
        return rng
    if not isinstance(rng, (int, np.integer)) or rng < 0:
        raise UserError(f"rng must be a numpy.random.Generator or a seed from 0 up, got {rng!r}")
    return np.random.default_rng(rng)


def _guard_parse(parse: Callable[..., Architecture]) -> Callable[..., Architecture]:
    @wraps(parse)
    def guarded(self: SearchSpace, notation: Any) -> Architecture:
        if not isinstance(notation, self.accepts):
            told = f"{notation!r}"[:80]
            raise UserError(
                f"a {self.name} architecture must be written as text, got {told} ({type(notation).__name__})"
            )
        return parse(self, notation)

    return guarded


def _guard_sample(sample: Callable[..., Architecture]) -> Callable[..., Architecture]:
    @wraps(sample)
    def guarded(
        self: SearchSpace,
        rng: Any,
        *more: Any,
        **named: Any,
    ) -> Architecture:
        return sample(self, generator(rng), *more, **named)

    return guarded


def _guard_mutate(mutate: Callable[..., Architecture]) -> Callable[..., Architecture]:
    @wraps(mutate)
    def guarded(self: SearchSpace, architecture: Architecture, rng: Any) -> Architecture:
        return mutate(self, architecture, generator(rng))

    return guarded


def _guard_canonical(canonical: Callable[..., Architecture]) -> Callable[..., Architecture]:
    @wraps(canonical)
    def guarded(self: SearchSpace, architecture: Architecture, graph_form: str = "contracted") -> Architecture:
        check_graph_form(graph_form)
        return canonical(self, architecture, graph_form)

    return guarded


# Required method -> what checks its arguments in every space, ours and others'.
GUARDS = {"parse": _guard_parse, "sample": _guard_sample, "mutate": _guard_mutate, "canonical": _guard_canonical}
