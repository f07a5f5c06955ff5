"""A search space from a plain dictionary of choices. You write no graph: every choice becomes an operation."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hypernas.data import Table
from hypernas.errors import MissingTable, UserError
from hypernas.graph import Architecture, Cell
from hypernas.method.target_network import Program
from hypernas.spaces.base import SearchSpace, other_choice

# The operation of every cell's last node.
OUTPUT = 0
# The last part of a name that says how often a cell stands in the sequence, and no operation.
DEPTH = "depth"
# For sentences about what is no architecture.
FORM = 'a JSON object such as {"stage1.kernel": 3, "stage1.depth": 2}'
# Name of a choice -> its value.
Assignment = dict[str, Any]


class ChoiceSpace(SearchSpace):
    """A space of named choices, such as `{"stage1.kernel": [3, 5, 7], "stage1.depth": [2, 3], "stage2.kernel": [5]}`.

    The first part of a name is its stage. A stage is a cell: its choices are operations in a chain, in the order of the
    dictionary. `stage1.depth` sets how often the cell is repeated. A name with a number in the middle,
    `stage1.2.kernel`, is a choice for the second layer of its stage alone; then each layer is a cell of its own, and
    depth sets how many there are. Choices whose names end alike share their operations, so what is learned about
    `kernel=5` in one stage carries over to the others. A name without a dot is a stage with one choice.

    `layout` is the order of the stages in the network, by default that of the dictionary; a stage may occur in it more
    than once. `choices` may also be a ConfigurationSpace of the package ConfigSpace, without conditions.

    `count(assignment) -> (parameters, multiply-adds)` and
    `build(assignment, channels, cells_per_stage, stem_stride) -> Program` are optional. Without `build`, the
    hypernetwork, zero-cost proxies and `hypernas label` are unavailable; everything else works.

    Write your own graph (see `nasbenchmacro.py`) if you need parallel operations or residual connections, identities
    that vanish, so that equivalent architectures are recognised, or one node for each layer with weights, as the
    hypernetwork requires.

    >>> space = ChoiceSpace({"a.kernel": [3, 5], "a.depth": [1, 2], "b.kernel": [3, 5]})
    >>> space.parse({"a.kernel": 5, "a.depth": 2, "b.kernel": 3}).sequence
    (0, 0, 1)
    """

    datasets = ("labels",)
    accepts = (str, Mapping)

    def __init__(
        self,
        choices: Mapping[str, Sequence[Any]] | Any,
        layout: Sequence[str] | None = None,
        name: str = "choices",
        count: Callable[[Assignment], tuple[int, int]] | None = None,
        build: Callable[..., Program] | None = None,
    ) -> None:
        self.name, self._count, self._build = name, count, build
        self.choices = _checked_choices(_from_config_space(choices))
        self.stages = tuple(dict.fromkeys(_stage(key) for key in self.choices))
        rule = f"layout must hold every stage ({', '.join(self.stages)}) at least once and no other"
        if not isinstance(layout, list | tuple | None):
            raise UserError(f"{rule}, as a list, got {layout!r}")
        self.layout = tuple(layout or self.stages)
        if {*map(str, self.layout)} != set(self.stages):
            raise UserError(f"{rule}, got {', '.join(map(str, self.layout))}")
        operations = [_operation(key, value) for key, values in self.choices.items() for value in values]
        # Depth is seen in the sequence; as an operation it would be told twice.
        plain = [operation for operation in operations if not operation.startswith(f"{DEPTH}=")]
        # The input node of a cell names its stage, so that a stage can be known again by its graph.
        self.ops = ("output", *self.stages, *dict.fromkeys(plain))
        self.macro = f"stages {', '.join(self.layout)}"
        for stage in self.stages:
            self._check_layers(stage)

    def _check_layers(self, stage: str) -> None:
        """Layers are numbered from 1, and a depth never asks for more of them than there are."""
        layers = self._numbered_layers(stage)
        # A stage without a choice of depth is as deep as its numbered layers.
        depths = self.choices.get(f"{stage}.{DEPTH}", [len(layers) or 1])
        if any(type(depth) is not int or depth < 1 for depth in depths):
            raise UserError(f"{stage}.{DEPTH} must be whole numbers from 1 up, got {list(depths)}")
        if layers and layers != list(range(1, max(depths) + 1)):
            rule = f"layers of {stage} must be numbered from 1 to the greatest depth {max(depths)}"
            raise UserError(f"{rule}, got {', '.join(map(str, layers))}")

    def _numbered_layers(self, stage: str) -> list[int]:
        """The layers of a stage that have choices of their own."""
        layers = {_layer(key) for key in self.choices if _stage(key) == stage}
        return sorted(layer for layer in layers if layer)

    def _cell_keys(
        self,
        assignment: Assignment,
        stage: str,
    ) -> list[list[str]]:
        """The names of the choices in each cell of a stage, without depth."""
        own = [key for key in self.choices if _stage(key) == stage and not _is_depth(key)]
        layers = self._numbered_layers(stage)
        if not layers:
            return [own]
        depth = assignment.get(f"{stage}.{DEPTH}", len(layers))
        cells = []
        for layer in layers[:depth]:
            cells.append([key for key in own if _layer(key) in (0, layer)])
        return cells

    def active(self, assignment: Assignment) -> Assignment:
        """Return the choices that matter, in dictionary order; choices for layers beyond a stage's depth do not."""
        matter: set[str] = set()
        for stage in self.stages:
            for keys in self._cell_keys(assignment, stage):
                matter.update(keys)
        return {key: assignment[key] for key in self.choices if key in matter or _is_depth(key)}

    def architecture(self, assignment: Assignment) -> Architecture:
        """Return the architecture with these values, one for each active choice."""
        cells: list[Cell] = []
        places: dict[str, list[int]] = {}
        for stage in self.stages:
            first = len(cells)
            for keys in self._cell_keys(assignment, stage):
                operations = [_operation(key, assignment[key]) for key in keys]
                cells.append(self._cell(stage, operations))
            places[stage] = list(range(first, len(cells)))
            # One cell for all layers of a stage: depth says how often it is repeated.
            if len(places[stage]) == 1:
                places[stage] *= assignment.get(f"{stage}.{DEPTH}", 1)
        sequence = tuple(place for stage in self.layout for place in places[stage])
        return Architecture(tuple(cells), sequence, json.dumps(self.active(assignment)))

    def _cell(
        self,
        stage: str,
        operations: Sequence[str],
    ) -> Cell:
        """A chain: the stage's input, its operations in order, the output."""
        ops = [self.ops.index(name) for name in (stage, *operations)]
        ops.append(OUTPUT)
        return Cell.with_edges(ops, np.eye(len(ops), k=1, dtype=int))

    def assignment(self, architecture: Architecture) -> Assignment:
        """Return the value of each active choice, the inverse of `architecture`. Raise UserError outside the space."""
        values: Assignment = {}
        inputs = [cell.ops[0] for cell in architecture.cells]
        for stage in self.stages:
            own = [place for place, op in enumerate(inputs) if op == self.ops.index(stage)]
            # A stage that stands in the layout twice has each of its layers twice in the sequence.
            repeats = self.layout.count(stage)
            layers = [place for place in architecture.sequence if place in own]
            values[f"{stage}.{DEPTH}"] = len(layers) // repeats
            for keys, place in zip(self._cell_keys(values, stage), own, strict=False):
                operations = architecture.cells[place].ops[1:-1]
                for key, op in zip(keys, operations, strict=False):
                    for value in self.choices[key]:
                        if op == self.ops.index(_operation(key, value)):
                            values[key] = value
        # A stage without a choice of depth has none, and a wrong depth is no choice.
        for key in [key for key, value in values.items() if value not in self.choices.get(key, ())]:
            del values[key]
        try:
            inside = self.architecture(values)
        except KeyError:
            inside = None
        if inside is None or (inside.cells, inside.sequence) != (architecture.cells, architecture.sequence):
            raise UserError(f"a {self.name} architecture must be chains of its choices, got other nodes or edges")
        return self.active(values)

    def parse(self, notation: str | Mapping[str, Any]) -> Architecture:
        """Return the architecture given as a JSON object or dictionary with a value for each active choice.

        Values of choices that are not active are ignored.
        """
        given = self._object(notation) if isinstance(notation, str) else notation
        for key in given:
            if key not in self.choices:
                raise UserError(f"a choice must be one of {', '.join(self.choices)}, got {key!r}")
        values = {key: self._value(key, value) for key, value in given.items()}
        try:
            return self.architecture(values)
        except KeyError as missing:
            raise UserError(f"every choice must have a value, got none for {missing.args[0]}") from None

    def _object(self, text: str) -> dict[str, Any]:
        try:
            given = json.loads(text)
        except (ValueError, RecursionError):
            given = None
        if not isinstance(given, dict):
            rule = f"a {self.name} architecture is written as {FORM}"
            raise UserError(f"{rule}, got {text[:80]!r}")
        return given

    def _value(
        self,
        key: str,
        given: Any,
    ) -> Any:
        """The choice that `given` means: equal to it, or written the same, as in a CSV file."""
        # True and 1 are equal in Python, and not meant to be.
        truth = isinstance(given, bool)
        like = [value for value in self.choices[key] if isinstance(value, bool) == truth]
        # An equal value wins over one that is only written alike, such as "3" for 3.
        same = [value for value in like if value == given]
        written = [value for value in self.choices[key] if str(value) == str(given)]
        if not same and not written:
            choices = ", ".join(map(str, self.choices[key]))
            raise UserError(f"operation must be one of {choices}, got {given!r} for {key}")
        return (same or written)[0]

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draw every choice uniformly at random."""
        return self.architecture(self._drawn(rng))

    def _drawn(self, rng: np.random.Generator) -> Assignment:
        drawn = {}
        for key, values in self.choices.items():
            drawn[key] = values[rng.integers(len(values))]
        return drawn

    def mutate(
        self,
        architecture: Architecture,
        rng: np.random.Generator,
    ) -> Architecture:
        """Change the value of one active choice. If that adds layers, draw their values at random."""
        values = self.assignment(architecture)
        # Choices with one value cannot be changed.
        free = [key for key in values if len(self.choices[key]) > 1]
        if not free:
            raise UserError(f"{self.name} must have a choice to change, got one value for each")
        key = free[rng.integers(len(free))]
        values[key] = other_choice(values[key], self.choices[key], rng)
        return self.architecture(self._drawn(rng) | values)

    def canonical(
        self,
        architecture: Architecture,
        graph_form: str = "contracted",
    ) -> Architecture:
        """Return the architecture itself, because nothing is known that could be pruned or contracted."""
        return self.architecture(self.assignment(architecture))

    def written(self) -> dict[str, Any]:
        # Functions of one's own, and what a subclass adds, cannot be written down.
        if self._build or self._count or type(self) is not ChoiceSpace:
            return {}
        choices = {key: list(values) for key, values in self.choices.items()}
        return {"choices": choices, "layout": list(self.layout)}

    def provides(self, member: str) -> bool:
        given = {"build": self._build, "network": self._build, "count": self._count or self._build}
        return given[member] is not None if member in given else super().provides(member)

    def build(
        self,
        architecture: Architecture,
        channels: int = 16,
        cells_per_stage: int = 3,
        stem_stride: int = 1,
    ) -> Program:
        if self._build is None:
            return super().build(architecture)
        return self._build(self.assignment(architecture), channels, cells_per_stage, stem_stride)

    def count(self, architecture: Architecture) -> tuple[int, int]:
        if self._count is None:
            return super().count(architecture)
        return self._count(self.assignment(architecture))

    def table(self, dataset: str) -> Table:
        remedy = 'give your labels, a table of notation and accuracy, as Benchmark(space, "labels.csv")'
        raise MissingTable(f"{self.name} has no table of its own: {remedy}")


def read_choices(path: str | Path) -> ChoiceSpace:
    """Return the space of a YAML or JSON file, named like the file: choices by name, or `choices:` beside `layout:`.

    Raise UserError if the file cannot be read or holds something else.
    """
    path = Path(path).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} must be a readable text file, got {type(error).__name__}") from error
    return from_written(json_or_yaml(text, path), path.stem)


def from_written(content: Any, name: str) -> ChoiceSpace:
    """Return the space called `name` from a dictionary of choices, or from one with `choices` and `layout`."""
    if isinstance(content, dict) and isinstance(content.get("choices"), dict):
        return ChoiceSpace(content["choices"], content.get("layout"), name)
    return ChoiceSpace(content, name=name)


def json_or_yaml(text: str, path: Path) -> Any:
    """Return the content of a JSON file, by its suffix, or of a YAML file. Raise UserError if it cannot be parsed."""
    if path.suffix == ".json":
        try:
            return json.loads(text)
        except ValueError as error:
            raise UserError(f"{path} must be whole JSON, got {error}") from error
    try:
        import yaml
    except ImportError as error:
        raise UserError(f"{path} needs the package pyyaml, which is not installed: pip install pyyaml") from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        told = " ".join(str(error).split())
        raise UserError(f"{path} must be whole YAML, got {told}") from error


def _from_config_space(choices: Any) -> Any:
    """The choices of a ConfigurationSpace by name; anything else as it is."""
    if isinstance(choices, Mapping) and not type(choices).__module__.startswith("ConfigSpace"):
        return choices
    if not type(choices).__module__.startswith("ConfigSpace"):
        raise UserError(f"choices must be a dictionary of lists by name, got {type(choices).__name__}")
    found = {}
    for name, parameter in dict(choices).items():
        values = [*getattr(parameter, "choices", getattr(parameter, "sequence", ()))]
        if not values and hasattr(parameter, "lower") and isinstance(parameter.lower, int):
            values = [*range(parameter.lower, parameter.upper + 1)]
        if not values:
            raise UserError(f"{name} must be a choice among some values, got a {type(parameter).__name__}")
        found[name] = values
    return found


def _checked_choices(choices: Mapping[Any, Any]) -> dict[str, tuple[Any, ...]]:
    """The choices as tuples. Raises UserError for names and values that are none."""
    if not choices:
        raise UserError("choices must hold at least one name with its values, got none")
    checked = {}
    for key, values in choices.items():
        if not isinstance(key, str) or not all(key.split(".")):
            raise UserError(f"a choice must have a name such as stage1.kernel, got {key!r}")
        if not isinstance(values, (list, tuple, range)) or not values:
            raise UserError(f"{key} must list its values, as [3, 5, 7], got {values!r}")
        wrong = [value for value in values if not isinstance(value, (str, int, float, bool))]
        if wrong or len({str(value) for value in values}) < len(values):
            raise UserError(f"{key} must list different numbers or words, got {list(values)!r}")
        checked[key] = tuple(values)
    return checked


def _stage(key: str) -> str:
    return key.split(".")[0]


def _is_depth(key: str) -> bool:
    return key.endswith(f".{DEPTH}")


def _layer(key: str) -> int:
    """The number in the middle of `stage1.2.kernel`, 0 for a choice of all layers."""
    middle = key.split(".")[1:-1]
    return int(middle[0]) if middle and middle[0].isdecimal() else 0


def _operation(key: str, value: Any) -> str:
    """`stage1.2.kernel`, 3 -> `kernel=3`."""
    stage, *parts = key.split(".")
    named = [part for part in parts if not part.isdecimal()]
    name = ".".join(named) or stage
    return f"{name}={value}"
