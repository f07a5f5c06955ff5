"""DARTS: a normal and a reduction cell with four nodes and seven operations, stacked to 20 cells (Liu et al. 2019)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from hypernas.canonical import simplify
from hypernas.data import Table
from hypernas.data.catalogue import required
from hypernas.errors import UserError
from hypernas.graph import NORMAL, REDUCTION, Architecture, Cell, GraphBatch
from hypernas.method.target_network import Program
from hypernas.spaces import genotypes
from hypernas.spaces.base import SearchSpace, check_cells_per_stage
from hypernas.spaces.genotypes import EDGES, INPUTS, NODES, OPERATIONS, Genotype
from hypernas.spaces.programs import ProgramWriter, count
from hypernas.spaces.trainable_network import AuxiliaryHead, TrainableNetwork

# The table's name among the data sources.
SOURCE = "nasbench301-records"
# Operations of the nodes that are not searched: the two inputs of a cell, a sum, its output.
BEFORE_LAST, LAST, SUM, OUTPUT = range(4)
# The searched operations are numbered from here.
FIRST_OPERATION = 4
# Of the cells in order, with as many normal ones before, between and after the two reduction cells.
CELLS_PER_STAGE, STAGES = 6, 3
# The stem of the CIFAR-10 network has this many times the channels of a node.
STEM_MULTIPLIER = 3
# A skip connection of stride 2 is two convolutions, so only one of stride 1 is an identity that can be contracted.
SKIP = FIRST_OPERATION + OPERATIONS.index("skip_connect")
IDENTITY = FIRST_OPERATION + len(OPERATIONS)
# In the raw graph of a cell: the nodes of its eight operations, the sums they feed, the nodes that hold its states.
OPERATION_NODES = np.array([INPUTS + 3 * (e // 2) + e % 2 for e in range(EDGES)])
# A sum follows the second of its two operations.
SUM_NODES = OPERATION_NODES[1::2] + 1
# What an operation can read: both inputs, then the sums before it.
STATE_NODES = np.array([BEFORE_LAST, LAST, *SUM_NODES])
# Nodes of a raw cell, the output behind the last sum.
SIZE = int(SUM_NODES[-1]) + 2
# Channels of a node in the first cells, and classes, as published.
CHANNELS = {"cifar10": 36, "imagenet": 48}
CLASSES = {"cifar10": 10, "imagenet": 1000}


def network_sequence() -> tuple[int, ...]:
    """Return for each of the 20 cells whether it is the normal or the reduction cell."""
    return ((0,) * CELLS_PER_STAGE + (1,)) * (STAGES - 1) + (0,) * CELLS_PER_STAGE


class DARTS(SearchSpace):
    """The search space of DARTS.

    NOTE[PAPER]: paper says nothing of the graph of a DARTS cell; we take a node for each of the two inputs, the
    eight operations, the four sums and the output; because the cell's output joins the sums, so that a graph without
    them could not tell which operations share one.

    NOTE[PAPER]: paper says normal and reduction cells in sequence, not of which network; we take the 20 cells of the
    CIFAR-10 network, though the networks of NAS-Bench-301 have 8; because the found cells are trained in that one.
    """

    name = "darts"
    ops = ("c_{k-2}", "c_{k-1}", "sum", "output", *OPERATIONS)
    datasets = ("cifar10",)
    accepts = (object,)
    macro = "stem, 20 cells of which those at 1/3 and 2/3 halve the map, classifier"
    defaults: ClassVar[dict[str, Any]] = {"n_layers": 3, "width": 144, "hyper_layers": 2, "hyper_width": 128}
    _sequence = network_sequence()

    def encode(
        self,
        edges: np.ndarray,
        graph_form: str,
    ) -> GraphBatch:
        """Return a GraphBatch from the edges (B, 2, 8, 2) of normal and reduction cell, each an (operation, state).

        Every node feeds the output, so `pruned` equals `raw`. `contracted` removes identities; a skip connection of
        stride 2 is not one.
        """
        b = len(edges)
        operation = edges[..., 0].reshape(-1, EDGES)
        state = edges[..., 1].reshape(-1, EDGES)
        # Cells of an architecture stand in turn: normal, reduction.
        reduces = np.arange(2 * b)[:, None] % 2 == REDUCTION
        nodes = np.full((2 * b, SIZE), SUM)
        nodes[:, [BEFORE_LAST, LAST, -1]] = BEFORE_LAST, LAST, OUTPUT
        # A reduction cell halves what it reads from outside; its own sums are small already.
        strided = reduces & (state < INPUTS)
        identity = (operation + FIRST_OPERATION == SKIP) & ~strided
        # Identities have a number of their own for `simplify`, and get the usual one back below.
        nodes[:, OPERATION_NODES] = np.where(identity, IDENTITY, operation + FIRST_OPERATION)
        adjacency = np.zeros((2 * b, SIZE, SIZE), np.uint8)
        adjacency[np.arange(2 * b)[:, None], STATE_NODES[state], OPERATION_NODES] = 1
        adjacency[:, OPERATION_NODES, np.repeat(SUM_NODES, 2)] = 1
        adjacency[:, SUM_NODES, -1] = 1
        ops, counts, mask = simplify(nodes, adjacency, None, IDENTITY, graph_form, n_inputs=INPUTS)
        ops = np.where(ops == IDENTITY, SKIP, ops)
        size = ops.shape[1]
        return GraphBatch(
            torch.from_numpy(ops.reshape(b, 2, size)),
            torch.from_numpy(counts.reshape(b, 2, size, size)),
            torch.from_numpy(mask.reshape(b, 2, size)),
            torch.tensor([NORMAL, REDUCTION]).expand(b, 2).contiguous(),
            torch.tensor(self._sequence).expand(b, -1).contiguous(),
            self,
        )

    def parse(self, notation: Any) -> Architecture:
        """Return the raw architecture from any notation of `genotypes.parse`, such as the text that DARTS prints."""
        return self._architecture(_edges(genotypes.parse(notation)), "raw")

    def genotype(self, architecture: Architecture) -> Genotype:
        """Return the genotype of an architecture.

        Raise UserError if it has no notation and is not a raw graph of the space.
        """
        if architecture.notation:
            return genotypes.parse(architecture.notation)
        return _genotype(self._decode(architecture))

    def _decode(self, architecture: Architecture) -> np.ndarray:
        wrong = UserError("a darts architecture without notation must be in raw form, got other nodes or edges")
        if [cell.kind for cell in architecture.cells] != [NORMAL, REDUCTION]:
            raise wrong
        edges = np.zeros((1, 2, EDGES, 2), np.int64)
        for i, cell in enumerate(architecture.cells):
            if len(cell.ops) != SIZE:
                raise wrong
            edges[0, i, :, 0] = np.array(cell.ops)[OPERATION_NODES] - FIRST_OPERATION
            edges[0, i, :, 1] = np.array(cell.adjacency)[STATE_NODES][:, OPERATION_NODES].argmax(0)
        if not 0 <= edges[..., 0].min() <= edges[..., 0].max() < len(OPERATIONS):
            raise wrong
        if self.encode(edges, "raw").architecture(0).cells != architecture.cells:
            raise wrong
        return edges[0]

    def _architecture(
        self,
        edges: np.ndarray,
        graph_form: str,
    ) -> Architecture:
        plain = self.encode(edges[None], graph_form).architecture(0)
        return Architecture(plain.cells, plain.sequence, str(_genotype(edges)))

    def canonical(
        self,
        architecture: Architecture,
        graph_form: str = "contracted",
    ) -> Architecture:
        """Return the architecture with identities contracted."""
        return self._architecture(_edges(self.genotype(architecture)), graph_form)

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draw for every node two of the states before it, and an operation for each."""
        # Node i can read the two inputs and the i sums before it.
        pairs = [rng.choice(INPUTS + node, 2, replace=False) for _ in range(2) for node in range(NODES)]
        operations = rng.integers(len(OPERATIONS), size=(2, EDGES))
        states = np.reshape(pairs, (2, EDGES))
        return self._architecture(np.stack([operations, states], -1), "raw")

    def mutate(
        self,
        architecture: Architecture,
        rng: np.random.Generator,
    ) -> Architecture:
        """Give one edge of one cell another operation or another input.

        The edges of the first node always read both inputs.
        """
        edges = _edges(self.genotype(architecture))
        cell, edge = rng.integers(2), rng.integers(EDGES)
        # The first node has two states to read and reads both, so only its operations can change.
        if edge >= 2 and rng.integers(2):
            taken = edges[cell, [edge, edge ^ 1], 1]  # by this edge and the other one of its node
            free = np.setdiff1d(np.arange(INPUTS + edge // 2), taken)
            edges[cell, edge, 1] = rng.choice(free)
        else:
            shift = rng.integers(1, len(OPERATIONS))
            edges[cell, edge, 0] = (edges[cell, edge, 0] + shift) % len(OPERATIONS)
        return self._architecture(edges, "raw")

    def build(
        self,
        architecture: Architecture,
        channels: int = 36,
        cells_per_stage: int = 6,
        stem_stride: int = 1,
    ) -> Program:
        """Return the network as a Program. With fewer than 6 cells a stage, each stage keeps its first ones."""
        return cifar_network(architecture, channels, cells_per_stage, stem_stride).program

    def full(
        self,
        architecture: Architecture,
        images: str = "cifar10",
        channels: int | None = None,
    ) -> DartsProgram:
        """Return the published network: 20 cells of 36 channels for cifar10, 14 cells of 48 for imagenet."""
        if images not in CHANNELS:
            raise UserError(f"images must be one of {', '.join(CHANNELS)} for a full darts network, got {images!r}")
        channels = channels or CHANNELS[images]
        if images == "imagenet":
            return imagenet_network(architecture, channels, 4)
        return cifar_network(architecture, channels, CELLS_PER_STAGE)

    def network(  # type: ignore[override]  # its size is that of the public network, not `build`'s
        self,
        architecture: Architecture,
        n_classes: int | None = None,
        c_image: int = 3,
        images: str = "cifar10",
        channels: int | None = None,
        auxiliary: bool = True,
    ) -> TrainableNetwork:
        """Return the published network ready for training, with auxiliary head and drop path, for colour images."""
        made = self.full(architecture, images, channels)
        n_classes = n_classes or CLASSES.get(images, 10)
        c = made.program.layers[made.auxiliary - 1].c_out
        head = AuxiliaryHead(c, n_classes, large=images == "imagenet") if auxiliary else None
        return TrainableNetwork(made.program, c_image, n_classes, made.paths, head, made.auxiliary)

    def count(
        self,
        architecture: Architecture,
        images: str = "cifar10",
        channels: int | None = None,
    ) -> tuple[int, int]:
        """Return trainable parameters and multiply-adds of the published network, without its auxiliary head."""
        side = 224 if images == "imagenet" else 32
        program = self.full(architecture, images, channels).program
        return count(program, (3, side, side), CLASSES.get(images, 10))

    def graphs(
        self,
        table: Table,
        graph_form: str,
    ) -> GraphBatch:
        return self.encode(table.columns["edges"], graph_form)

    def table(self, dataset: str) -> Table:
        """Return the 725 random genotypes with the surrogate's accuracy and their zero-cost scores."""
        columns, accuracy = _records(required(SOURCE, "darts table"))
        source = (
            f"NAS-Bench-301 v1.0 surrogate: validation accuracy on CIFAR-10 that it predicts for {len(accuracy)} "
            "random genotypes, none of them measured; it is the label and what is predicted"
        )
        return Table(source, "surrogate", columns, accuracy, accuracy)


def _edges(genotype: Genotype) -> np.ndarray:
    """(2, 8, 2): operation and state of each edge of both cells."""
    cells = []
    for cell in (genotype.normal, genotype.reduce):
        cells.append([(OPERATIONS.index(operation), state) for operation, state in cell])
    return np.array(cells)


def _genotype(edges: np.ndarray) -> Genotype:
    cells = []
    for cell in edges.tolist():
        cells.append(tuple((OPERATIONS[operation], state) for operation, state in cell))
    return Genotype(*cells)


def _records(path: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """`edges (B, 2, 8, 2)` and the scores (B,) by name, accuracy (B,) in percent."""
    records = list(json.loads(path.read_text(encoding="utf-8"))["cifar10"].values())
    # Cells are text, with round brackets that JSON does not know.
    cells = [json.loads(record["arch"].replace("(", "[").replace(")", "]")) for record in records]
    # The file has (state, operation), an edge here is (operation, state).
    columns = {"edges": np.array(cells, np.int64)[..., ::-1].copy()}
    for name, value in records[0].items():
        if isinstance(value, dict):
            columns[name] = np.array([record[name]["score"] for record in records], np.float64)
    return columns, np.array([record["val_accuracy"] for record in records], np.float64)


@dataclass
class CellWriter:
    """Write cells one after another; `states` are the values, with their channels, that the next cell reads.

    `paths` are the values that drop path may drop: those of all operations except identities. `auxiliary` is the value
    of the last reduction cell, which the auxiliary head reads.
    """

    writer: ProgramWriter
    states: tuple[tuple[int, int], tuple[int, int]]
    halved: bool = False
    paths: set[int] = field(default_factory=set)
    auxiliary: int = 0

    def write(
        self,
        cell: Cell,
        c: int,
    ) -> None:
        """Write one cell with c channels per node, after bringing its two inputs to c channels.

        NOTE[PAPER]: paper says one weight per node, and a separable convolution has four; we make those of its first
        convolution from the mean of the node and of what it reads, those of its last from the mean of the node and of
        what it feeds, those between from the node; because then no two are equal and the graph keeps one node per
        operation.
        """
        reduces = cell.kind == REDUCTION
        values = [0] * len(cell.ops)
        for node, op in enumerate(cell.ops):
            sources = tuple(i for i in range(node) if cell.adjacency[i][node])
            inputs = tuple(values[i] for i in sources)
            if op in (BEFORE_LAST, LAST):
                value = self._input(op, c)
            elif op == SUM:
                value = self.writer.add(inputs, c)
            elif op == OUTPUT:
                value = self.writer.concat(inputs, NODES * c)
            else:
                strided = reduces and cell.ops[sources[0]] in (BEFORE_LAST, LAST)
                ends = (node, sources[0], cell.adjacency[node].index(1))
                name = OPERATIONS[op - FIRST_OPERATION]
                value = self._operation(name, inputs[0], c, 2 if strided else 1, ends)
            values[node] = value
        # The next cell reads this one and the one before it.
        self.states = self.states[1], (values[-1], NODES * c)
        if reduces:
            self.auxiliary = values[-1]
        self.halved = reduces

    def _input(
        self,
        which: int,
        c: int,
    ) -> int:
        """One of the two inputs at c channels, the older one also at the size of the newer."""
        value, c_in = self.states[which]
        position = self.writer.position
        if which == BEFORE_LAST and self.halved:
            return self._halve(value, c_in, c, (position, BEFORE_LAST), (position, BEFORE_LAST, LAST))
        return self.writer.conv((value,), c_in, c, 1, 1, (position, which))

    def _halve(
        self,
        value: int,
        c_in: int,
        c: int,
        *weights: tuple[int, ...],
    ) -> int:
        """Two 1 x 1 convolutions of stride 2, the second one pixel further, each of half of the channels."""
        moved = self.writer.plain("shift", value, c_in)
        even = self.writer.conv((value,), c_in, c // 2, 1, 2, weights[0])
        odd = self.writer.conv((moved,), c_in, c - c // 2, 1, 2, weights[1])
        return self.writer.concat((even, odd), c)

    def _operation(
        self,
        name: str,
        x: int,
        c: int,
        stride: int,
        ends: tuple[int, int, int],
    ) -> int:
        """An operation on value x, at `ends` = node, what it reads, what it feeds; ReLU, convolution, normalisation."""
        writer, position = self.writer, self.writer.position
        node, source, target = ends
        first, last = (position, node, source), (position, node, target)
        kernel = 5 if name.endswith("5x5") else 3
        pointwise = partial(writer.conv, c_in=c, c_out=c, kernel=1, stride=1, relu=False)
        depthwise = partial(writer.depthwise, c=c, kernel=kernel, relu=True, norm=False)
        if name == "skip_connect":
            # An identity writes no layer: what reads it reads its input.
            if stride == 1:
                return x
            y = self._halve(x, c, c, first, last)
        elif name == "max_pool_3x3":
            y = writer.max_pool((x,), c, kernel, stride, 1)
        elif name == "avg_pool_3x3":
            y = writer.pool((x,), c, kernel, stride, 1)
        elif name.startswith("dil_conv"):
            y = depthwise(x, stride=stride, weight=first, dilation=2)
            y = pointwise((y,), weight=last)
        else:
            y = depthwise(x, stride=stride, weight=first)
            y = pointwise((y,), weight=(position, node))
            y = depthwise(y, stride=1, weight=(position, node, node))
            y = pointwise((y,), weight=last)
        self.paths.add(y)
        return y


@dataclass(frozen=True)
class DartsProgram:
    """The layers of a network, the values that drop path may drop, and the value that the auxiliary head reads."""

    program: Program
    paths: frozenset[int]
    auxiliary: int


def cifar_network(
    architecture: Architecture,
    channels: int,
    cells_per_stage: int,
    stem_stride: int = 1,
) -> DartsProgram:
    """Return the network for CIFAR-10: 20 cells with 6 a stage. Its stem has 3 times the channels of a node."""
    _check_size(channels, cells_per_stage)
    writer = ProgramWriter(STEM_MULTIPLIER * channels, stem_stride)
    stem = (writer.stem(), STEM_MULTIPLIER * channels)
    cells = CellWriter(writer, (stem, stem))
    return _stack(cells, architecture, channels, cells_per_stage)


def imagenet_network(
    architecture: Architecture,
    channels: int,
    cells_per_stage: int,
) -> DartsProgram:
    """Return the network for ImageNet: 14 cells with 4 a stage, after three convolutions of stride 2."""
    _check_size(channels, cells_per_stage)
    writer = ProgramWriter(channels // 2, stem_stride=2)
    half = writer.conv((writer.stem(),), channels // 2, channels, 3, 2, (0, BEFORE_LAST, BEFORE_LAST))
    whole = writer.conv((half,), channels, channels, 3, 2, (0, LAST, LAST))
    cells = CellWriter(writer, ((half, channels), (whole, channels)), halved=True)
    return _stack(cells, architecture, channels, cells_per_stage)


def positions(cells_per_stage: int) -> Sequence[int]:
    """Return the positions, in the sequence of 20, of the cells of a smaller network: the first ones of each stage."""
    places = []
    for i in range(len(network_sequence())):
        place = i % (CELLS_PER_STAGE + 1)
        if place < cells_per_stage or place == CELLS_PER_STAGE:
            places.append(i)
    return places


def _stack(
    cells: CellWriter,
    architecture: Architecture,
    channels: int,
    cells_per_stage: int,
) -> DartsProgram:
    c = channels
    for cells.writer.position in positions(cells_per_stage):
        cell = architecture.cells[architecture.sequence[cells.writer.position]]
        c *= 2 if cell.kind == REDUCTION else 1
        cells.write(cell, c)
    # The widest 1 x 1 convolution reads four joined nodes; depthwise kernels have one input channel.
    heads = ((1, c, NODES * c), (3, c, 1), (5, c, 1))
    program = cells.writer.finish(cells.states[1][0], norm_last=False, heads=heads)
    return DartsProgram(program, frozenset(cells.paths), cells.auxiliary)


def _check_size(channels: int, cells_per_stage: int) -> None:
    if channels < 2:
        raise UserError(f"channels must be at least 2, a reduction makes them in two halves, got {channels}")
    check_cells_per_stage(cells_per_stage, CELLS_PER_STAGE)


space = DARTS()
