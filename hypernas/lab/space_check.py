"""What every search space promises, as checks that explain in a sentence what is broken: `hypernas check space`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from hypernas.canonical import GRAPH_FORMS
from hypernas.data import Table
from hypernas.errors import MissingTable, UserError
from hypernas.graph import Architecture, Cell, collate
from hypernas.method.target_network import TargetHead, run
from hypernas.spaces.base import SearchSpace
from hypernas.spaces.programs import count

N_SAMPLES = 20
# Rows of a table that are read one by one; a smaller table is read whole.
N_ROWS = 60
# The smallest networks: enough to run, too small to wait for.
SIZE = {"channels": 4, "cells_per_stage": 1, "stem_stride": 1}
IMAGE = (3, 16, 16)
N_CLASSES = 5
NO_NOTATIONS = (
    "",
    "nonsense",
    5,
    None,
    b"x",
    "|conv9x9~0|+|none~0|none~1|+|none~0|none~1|none~2|",
    "conv9x9(0)|output(1)",
)


class Broken(Exception):
    """A promise that a space breaks, explained in a sentence."""


@dataclass(frozen=True)
class Finding:
    """One promise and how it is broken; "" if it is kept."""

    promise: str
    broken: str


@dataclass
class Subject:
    """A space and the objects that all checks use."""

    space: SearchSpace
    samples: list[Architecture]
    rng: np.random.Generator

    def ids(self, architectures: Sequence[Architecture]) -> list[int]:
        return collate(architectures, self.space).function_ids().tolist()

    def cost(self, architecture: Architecture, **size: int) -> tuple[int, int]:
        return count(self.space.build(architecture, **SIZE | size), IMAGE, N_CLASSES)


Promise = Callable[[Subject], None]
PROMISES: dict[str, Promise] = {}


def promise(sentence: str) -> Callable[[Promise], Promise]:
    """Register a check under the promise that it tests."""

    def register(check: Promise) -> Promise:
        PROMISES[sentence] = check
        return check

    return register


def require(kept: bool, sentence: str) -> None:
    """Raise Broken with the sentence unless the promise is kept."""
    if not kept:
        raise Broken(sentence)


def findings(space: SearchSpace) -> Iterator[Finding]:
    """Yield the result of each check, with a fixed seed. Any error counts as a broken promise."""
    try:
        subject = subject_of(space)
    except Exception as error:  # a space of the user can raise anything
        yield Finding("it can be sampled", _told(error))
        return
    for sentence, check in PROMISES.items():
        subject.rng = np.random.default_rng(1)
        try:
            check(subject)
            yield Finding(sentence, "")
        except Broken as broken:
            yield Finding(sentence, str(broken))
        except Exception as error:  # a space of the user can raise anything
            yield Finding(sentence, _told(error))


def subject_of(space: SearchSpace) -> Subject:
    """Return a space with sampled architectures, the same on every call."""
    rng = np.random.default_rng(0)
    return Subject(space, [space.sample(rng) for _ in range(N_SAMPLES)], rng)


def _told(error: Exception) -> str:
    return f"it raises {type(error).__name__}: {' '.join(str(error).split())}"


def refuses(call: Callable[[], Any]) -> str:
    """Return the sentence of the UserError that a call must raise."""
    try:
        call()
    except UserError as error:
        return str(error)
    raise Broken("it must raise a UserError, and raises none")


@promise("it says what it is: name, operations, datasets, defaults, macro structure")
def says_what_it_is(subject: Subject) -> None:
    space = subject.space
    require(len(set(space.ops)) == len(space.ops), f"operations must differ, got {space.ops}")
    require(bool(space.datasets), "datasets must name at least one, got none")
    require(isinstance(space.defaults, dict), f"defaults must be a dictionary, got {space.defaults!r}")
    require(bool(space.macro), "macro must describe the network in words, got none")


@promise("samples are inside the space and differ")
def samples_differ(subject: Subject) -> None:
    require(len(set(subject.samples)) > 1, f"{N_SAMPLES} samples must not all be equal")
    n_ops = len(subject.space.ops)
    for architecture in subject.samples:
        again = subject.space.parse(architecture.notation)
        require(again == architecture, f"parse must invert the notation, it does not for {architecture.notation!r}")
        largest = max(max(cell.ops) for cell in architecture.cells)
        require(largest < n_ops, f"operations must be from 0 to {n_ops - 1}, got {largest}")


@promise("the same generator gives the same architectures")
def is_reproducible(subject: Subject) -> None:
    first, again = np.random.default_rng(7), np.random.default_rng(7)
    for _ in range(5):
        a, b = subject.space.sample(first), subject.space.sample(again)
        require(a == b, "two samples of one seed must be equal")
        same = subject.space.mutate(a, first) == subject.space.mutate(b, again)
        require(same, "two mutations of one seed must be equal")


@promise("a mutation is another architecture inside the space")
def mutates(subject: Subject) -> None:
    for architecture in subject.samples:
        child = subject.space.mutate(architecture, subject.rng)
        require(child != architecture, f"a mutation must differ, it does not for {architecture.notation!r}")
        require(subject.space.parse(child.notation) == child, f"parse must read a mutation, got {child.notation!r}")


@promise("canonical is idempotent and keeps the sequence, in every graph form")
def is_canonical(subject: Subject) -> None:
    canonical = subject.space.canonical
    for architecture in subject.samples:
        for form in GRAPH_FORMS:
            once = canonical(architecture, form)
            where = f"{form} form of {architecture.notation!r}"
            require(canonical(once, form) == once, f"canonical must change nothing the second time, {where}")
            require(once.sequence == architecture.sequence, f"canonical must keep the sequence, {where}")
    refuses(lambda: canonical(subject.samples[0], "no form"))


@promise("cleaner graph forms are never larger")
def cleaning_shrinks(subject: Subject) -> None:
    for architecture in subject.samples:
        sizes = [len(subject.space.canonical(architecture, form).cells[0].ops) for form in GRAPH_FORMS]
        require(sizes == sorted(sizes, reverse=True), f"nodes must not grow from raw to contracted, got {sizes}")


@promise("a graph alone, without its notation, is read again")
def reads_graphs(subject: Subject) -> None:
    space = subject.space
    for architecture in subject.samples:
        raw = space.canonical(architecture, "raw")
        bare = collate([raw], space).architecture(0)
        same = subject.ids([space.canonical(bare)]) == subject.ids([space.canonical(architecture)])
        require(same, f"canonical must read the raw graph of {architecture.notation!r}")


@promise("an architecture that is not of the space is refused")
def refuses_foreign_architectures(subject: Subject) -> None:
    chain = tuple(tuple(int(j == i + 1) for j in range(11)) for i in range(11))
    foreign = Architecture((Cell((0,) + (1,) * 10, chain), Cell((0, 1), ((0, 1), (0, 0)))), (0, 1))
    refuses(lambda: subject.space.canonical(foreign))


@promise("what is no notation is refused, and a wrong word is named")
def refuses_other_notations(subject: Subject) -> None:
    for notation in NO_NOTATIONS:
        refuses(partial(subject.space.parse, notation))
    notation = subject.samples[0].notation
    told = []
    for word in dict.fromkeys(re.findall(r"[\w-]+", notation)):
        changed = notation.replace(word, "fourier", 1)
        told.append(refuses(partial(subject.space.parse, changed)))
    require(any("fourier" in sentence for sentence in told), "a sentence must name the wrong word, none does")


@promise("an unknown dataset is refused")
def refuses_unknown_datasets(subject: Subject) -> None:
    told = refuses(lambda: subject.space.read("no-dataset"))
    require("no-dataset" in told, f"the sentence must name the dataset, got {told}")


@promise("graphs of its table are its parsed architectures, and accuracies are percents")
def reads_its_table(subject: Subject) -> None:
    space = subject.space
    try:
        table = space.read(space.datasets[0])
    except MissingTable:
        return
    require(bool(table.source), "the source of a table must be said")
    test = table.test[np.isfinite(table.test)]
    require(len(test) > 0 and 0 <= test.min() and test.max() <= 100, "accuracies must be from 0 to 100 percent")
    rows = subject.rng.choice(len(table), min(N_ROWS, len(table)), replace=False)
    columns = {name: column[rows] for name, column in table.columns.items()}
    few = Table(table.source, table.kind, columns, table.validation[rows], table.test[rows])
    raw = space.graphs(few, "raw")
    require(raw.space is space, "graphs must know their space")
    for form in GRAPH_FORMS:
        together = space.graphs(few, form).function_ids().tolist()
        alone = [space.canonical(raw.architecture(i), form) for i in range(len(rows))]
        require(together == subject.ids(alone), f"graphs must equal canonical row by row, in {form} form")
    parsed = [space.parse(architecture.notation) for architecture in alone]
    require(subject.ids([space.canonical(a) for a in parsed]) == together, "parse must read the notation of every row")


@promise("built networks run, and every weight names a node of its cell")
def builds(subject: Subject) -> None:
    space = subject.space
    if not space.provides("build"):
        return
    torch.manual_seed(0)
    for architecture in subject.samples[:5]:
        for form in GRAPH_FORMS:
            cleaned = space.canonical(architecture, form)
            program = space.build(cleaned, **SIZE)
            head = TargetHead(IMAGE[0], program.channels, program.c_last, N_CLASSES, 1)
            weights = {
                layer.weight: torch.randn(layer.weight_shape) for layer in program.convs if layer.weight is not None
            }
            logits = run(program, weights, head, torch.randn(2, *IMAGE))
            where = f"{form} form of {architecture.notation!r}"
            require(
                logits.shape == (2, N_CLASSES) and bool(torch.isfinite(logits).all()), f"logits must be finite, {where}"
            )
            require(len(weights) == len(program.convs), f"two layers must not share the key of a weight, {where}")
            for key in weights:
                position, *nodes = key
                n = len(cleaned.cells[cleaned.sequence[position]].ops)
                require(max(nodes) < n, f"a weight must name one of {n} nodes, got {key}, {where}")


@promise("a network is an ordinary module from images to logits")
def is_a_module(subject: Subject) -> None:
    if not subject.space.provides("build"):
        return
    torch.manual_seed(0)
    network = subject.space.network(subject.samples[0], n_classes=N_CLASSES).eval()
    with torch.no_grad():
        logits = network(torch.randn(2, 3, 32, 32))
    require(isinstance(network, torch.nn.Module), f"network must be a torch.nn.Module, got {type(network).__name__}")
    require(tuple(logits.shape) == (2, N_CLASSES), f"logits must be (2, {N_CLASSES}), got {tuple(logits.shape)}")


@promise("cleaned networks cost no more, wider and deeper ones no less")
def costs_are_in_order(subject: Subject) -> None:
    space = subject.space
    if not space.provides("build"):
        return
    for architecture in subject.samples[:5]:
        raw, pruned = (subject.cost(space.canonical(architecture, form)) for form in ("raw", "pruned"))
        where = f"parameters and multiply-adds of {architecture.notation!r}"
        require(_no_more(pruned, raw), f"pruning must not add cost, got {raw}, {pruned}: {where}")
        small, wide = subject.cost(architecture), subject.cost(architecture, channels=2 * SIZE["channels"])
        require(wide > small, f"more channels must cost more, got {small}, {wide}: {where}")


def _no_more(pruned: tuple[int, int], raw: tuple[int, int]) -> bool:
    return 0 < pruned[0] <= raw[0] and 0 < pruned[1] <= raw[1]


@promise("parameters and multiply-adds are counted, and cleaning does not raise them")
def counts(subject: Subject) -> None:
    space = subject.space
    if not space.provides("count") and not space.provides("build"):
        return
    for architecture in subject.samples[:3]:
        raw, pruned = (space.count(space.canonical(architecture, form)) for form in ("raw", "pruned"))
        require(_no_more(pruned, raw), f"pruning must not add cost, got {raw}, {pruned}")


TEMPLATE = '''"""@NAME@: say in a line what is searched."""

from hypernas.errors import UserError
from hypernas.graph import Architecture, Cell
from hypernas.spaces.base import SearchSpace, check_operation, other_choice

# What may be chosen for each of the layers. Without any graph work, a dictionary does it too:
#     from hypernas.spaces.choice import ChoiceSpace
#     space = ChoiceSpace({"layer1.kernel": [3, 5], "layer2.kernel": [3, 5]}, name="@NAME@")
CHOICES = ("conv3x3", "conv5x5", "pool3x3")
LAYERS = 4


class Space(SearchSpace):
    name = "@NAME@"  # as the file
    ops = ("input", "output", *CHOICES)  # a node holds the place of its operation in this list
    macro = "stem, 4 layers in a row, classifier"

    def architecture(self, choices):
        """Layers by name -> the Architecture: a cell each, input -> operation -> output."""
        for choice in choices:
            check_operation(choice, CHOICES)
        if len(choices) != LAYERS:
            raise UserError(f"a {self.name} architecture must have {LAYERS} layers, got {len(choices)}")
        chain = ((0, 1, 0), (0, 0, 1), (0, 0, 0))  # adjacency[i][j] counts the edges from node i to node j
        cells = tuple(Cell((0, self.ops.index(choice), 1), chain) for choice in choices)
        return Architecture(cells, tuple(range(LAYERS)), "|".join(choices))

    def choices(self, architecture):
        """The inverse of `architecture`; it refuses what is not of the space."""
        names = [self.ops[cell.ops[1]] for cell in architecture.cells if cell.ops[1] < len(self.ops)]
        inside = self.architecture(names)
        if (inside.cells, inside.sequence) != (architecture.cells, architecture.sequence):
            raise UserError(f"a {self.name} architecture must be {LAYERS} layers in a row, got other nodes or edges")
        return names

    def parse(self, notation):
        return self.architecture(notation.split("|"))

    def sample(self, rng):
        return self.architecture([CHOICES[i] for i in rng.integers(len(CHOICES), size=LAYERS)])

    def mutate(self, architecture, rng):
        choices = self.choices(architecture)
        layer = rng.integers(LAYERS)
        choices[layer] = other_choice(choices[layer], CHOICES, rng)
        return self.architecture(choices)

    def canonical(self, architecture, graph_form="contracted"):
        """Nothing can be left out here; where there are identities, `hypernas.graph.simplify` contracts them."""
        return self.architecture(self.choices(architecture))

    # `build` and `count` are optional: see hypernas/spaces/nasbenchmacro.py for one that builds networks.


space = Space()
'''


def template(name: str) -> str:
    """Return the source of a new space called `name`. Raise UserError if a Python file cannot have this name."""
    if not name.isidentifier() or name != name.lower():
        raise UserError(f"a space must be named in small letters, digits and _, as my_space, got {name!r}")
    return TEMPLATE.replace("@NAME@", name)
