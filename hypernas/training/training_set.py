"""The training set of a fitted predictor, and the conversion of other architectures to its form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hypernas.canonical import GRAPH_FORMS
from hypernas.errors import UserError
from hypernas.graph import Architecture, GraphBatch, collate

# The beginning of the sentences about anything else.
ACCEPTED = "predict takes a GraphBatch, an architecture, its notation, or a list of these"
# Enough random architectures that together they have all that can be simplified in the space.
PROBES = 32


@dataclass(frozen=True)
class TrainingSet:
    """The n architectures that a predictor was fitted to and their accuracy (n,) in percent.

    If known, the graphs also hold their space, their form and the table they come from.
    """

    graphs: GraphBatch
    accuracy: Tensor

    @property
    def space(self) -> str | None:
        """The name of the search space, if known."""
        return None if self.graphs.space is None else self.graphs.space.name

    @cached_property
    def graph_form(self) -> str:
        """The form of the graphs, as they state it or inferred from them; empty if their space is unknown."""
        if self.graphs.graph_form or self.graphs.space is None:
            return self.graphs.graph_form
        return _form_by_look(self.graphs, self.graphs.space)

    def readable(self, given: Any) -> GraphBatch:
        """Return the argument of `predict` as a batch in the graph form of the training set.

        `given` is a GraphBatch, an Architecture, a notation (in some spaces a dictionary), or a sequence of
        architectures and notations. Raise UserError if it belongs to another space or cannot be converted to the
        training set's graph form.
        """
        if not isinstance(given, GraphBatch):
            return self._collated([given] if isinstance(given, Architecture | str | Mapping) else given)
        space = self.graphs.space
        # Without a space nothing can be converted or checked, so graphs are taken as they are.
        if space is None or len(given) == 0:
            return given
        if given.space is not None and given.space.name != space.name:
            raise UserError(f"predict needs architectures of {space.name}, as fit had, got those of {given.space.name}")
        wanted = self.graph_form
        if given.graph_form == wanted or _has_one_form(space):
            return given
        if given.graph_form:
            return _simplified(given, space, wanted)
        return _of_unknown_form(given, space, wanted)

    def _collated(self, given: Any) -> GraphBatch:
        """Architectures or notations as graphs in the form of the training set."""
        if not isinstance(given, Sequence):
            raise UserError(f"{ACCEPTED}, got {type(given).__name__}")
        space, wanted = self.graphs.space, self.graph_form
        architectures = []
        for item in given:
            if isinstance(item, str | Mapping) and space is not None:
                item = space.parse(item)
            if not isinstance(item, Architecture):
                raise UserError(f"{ACCEPTED}, got one of {type(item).__name__}")
            architectures.append(space.canonical(item, wanted) if wanted else item)
        return collate(architectures, space, wanted) if architectures else self.graphs[:0]


def _canonical(
    given: GraphBatch,
    space: Any,
    graph_form: str,
) -> GraphBatch:
    """The same architectures in `graph_form`; equal graphs are converted once.

    Raises UserError where the space cannot read one, which without its notation must be raw in most spaces.
    """
    # A table has many equal graphs, and a space converts them one at a time.
    first, inverse = given.distinct()
    architectures = [space.canonical(given.architecture(i), graph_form) for i in first.tolist()]
    return collate(architectures, space, graph_form)[inverse]


def _simplified(
    given: GraphBatch,
    space: Any,
    wanted: str,
) -> GraphBatch:
    """Graphs of a known form, simplified to the one that is wanted."""
    if GRAPH_FORMS.index(given.graph_form) < GRAPH_FORMS.index(wanted):
        try:
            return _canonical(given, space, wanted)
        except UserError:
            pass
    rule = f"predict needs {wanted} graphs, as fit had"
    remedy = "give raw graphs or architectures with their notation"
    raise UserError(f"{rule}, got {given.graph_form} ones, from which these cannot be made: {remedy}")


def _of_unknown_form(
    given: GraphBatch,
    space: Any,
    wanted: str,
) -> GraphBatch:
    """Graphs that do not say their form: raw ones are simplified, contracted ones are known by what they lack."""
    try:
        return _canonical(given, space, wanted)
    except UserError as error:
        if wanted == "contracted" and not _has_more_to_contract(given, space):
            return given
        remedy = "give raw graphs, or say the form: collate(architectures, space, graph_form)"
        raise UserError(f"predict needs {wanted} graphs, as fit had, got others ({error}): {remedy}") from error


def _form_by_look(graphs: GraphBatch, space: Any) -> str:
    """The simplest form in which these graphs already are."""
    try:
        for form in reversed(GRAPH_FORMS):
            if np.array_equal(_canonical(graphs, space, form).function_ids(), graphs.function_ids()):
                return form
    except UserError:
        # Most spaces read raw graphs alone.
        return "pruned" if _has_more_to_contract(graphs, space) else "contracted"
    return "raw"


def _has_more_to_contract(graphs: GraphBatch, space: Any) -> bool:
    """Whether a cell has an operation that no contracted cell of its kind has."""
    contracted_away = _operations(space, "pruned") - _operations(space, "contracted")
    kinds = graphs.kind[..., None].expand_as(graphs.ops)
    present = torch.stack([kinds[graphs.mask], graphs.ops[graphs.mask]], 1).unique(dim=0)
    return any((kind, op) in contracted_away for kind, op in present.tolist())


@lru_cache
def _operations(space: Any, graph_form: str) -> frozenset[tuple[int, int]]:
    """The operations of random architectures in this form, each with the kind of its cell."""
    rng = np.random.default_rng(0)
    architectures = [space.canonical(space.sample(rng), graph_form) for _ in range(PROBES)]
    return frozenset((cell.kind, op) for one in architectures for cell in one.cells for op in cell.ops)


@lru_cache
def _has_one_form(space: Any) -> bool:
    """Whether no architecture of the space has anything to simplify, so that its graph forms are one."""
    # Any seed does, as long as the answer is the same in every process.
    rng = np.random.default_rng(0)
    for _ in range(PROBES):
        architecture = space.sample(rng)
        raw, contracted = (space.canonical(architecture, form).cells for form in ("raw", "contracted"))
        if raw != contracted:
            return False
    return True


def accuracies(values: Any) -> Tensor:
    """Return labels as float64, by position. They may be a column with any index or type, a list, an array or a tensor.

    Raise UserError if a value is not a number.

    >>> accuracies(["91.5", 90])
    tensor([91.5000, 90.0000], dtype=torch.float64)
    """
    if isinstance(values, Tensor):
        return values.detach().cpu().double()
    try:
        return torch.from_numpy(np.array(values, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise UserError(f"accuracies must be numbers, got {type(values).__name__} with others: {error}") from error
