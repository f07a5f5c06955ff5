"""The networks of DARTS: how a cell's graph becomes layers, and how cells are stacked (Liu et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypernas.errors import UserError
from hypernas.graph import REDUCTION, Architecture, Cell
from hypernas.method.target_network import Program, ProgramWriter
from hypernas.spaces.genotypes import NODES, OPERATIONS

BEFORE_LAST, LAST, SUM, OUTPUT = range(4)
FIRST_OPERATION = 4
# Of the cells in order, with as many normal ones before, between and after the two reduction cells.
CELLS_PER_STAGE, STAGES = 6, 3
STEM_MULTIPLIER = 3


@dataclass
class CellWriter:
    """Writes cells one after another; `states` are the values, and their channels, that the next cell reads.

    `paths` are the values of all operations but identities, which drop path may drop; `auxiliary` is the value of the
    last reduction cell, where the auxiliary head reads.
    """

    writer: ProgramWriter
    states: tuple[tuple[int, int], tuple[int, int]]
    halved: bool = False
    paths: set[int] = field(default_factory=set)
    auxiliary: int = 0

    def write(self, cell: Cell, c: int) -> None:
        """One cell of c channels a node, with its two inputs brought to c channels first.

        NOTE[PAPER]: paper says one weight a node, and a separable convolution has four; we make those of its first
        convolution from the mean of the node and of what it reads, those of its last from the mean of the node and of
        what it feeds, those between from the node; because then no two are equal and the graph keeps one node an
        operation.
        """
        reduces, values = cell.kind == REDUCTION, [0] * len(cell.ops)
        for node, op in enumerate(cell.ops):
            sources = tuple(i for i in range(node) if cell.adjacency[i][node])
            inputs = tuple(values[i] for i in sources)
            if op in (BEFORE_LAST, LAST):
                values[node] = self._input(op, c)
            elif op == SUM:
                values[node] = self.writer.add(inputs, c)
            elif op == OUTPUT:
                values[node] = self.writer.concat(inputs, NODES * c)
            else:
                stride = 2 if reduces and cell.ops[sources[0]] in (BEFORE_LAST, LAST) else 1
                ends = (node, sources[0], cell.adjacency[node].index(1))
                values[node] = self._operation(OPERATIONS[op - FIRST_OPERATION], inputs[0], c, stride, ends)
        self.states = self.states[1], (values[-1], NODES * c)
        self.auxiliary = values[-1] if reduces else self.auxiliary
        self.halved = reduces

    def _input(self, which: int, c: int) -> int:
        """One of the two inputs at c channels, the older one also at the size of the newer."""
        (value, c_in), position = self.states[which], self.writer.position
        if which == BEFORE_LAST and self.halved:
            return self._halve(value, c_in, c, (position, BEFORE_LAST), (position, BEFORE_LAST, LAST))
        return self.writer.conv((value,), c_in, c, 1, 1, (position, which))

    def _halve(self, value: int, c_in: int, c: int, *weights: tuple[int, ...]) -> int:
        """Two 1 x 1 convolutions of stride 2, the second one pixel further, each of half of the channels."""
        moved = self.writer.shift(value, c_in)
        even = self.writer.conv((value,), c_in, c // 2, 1, 2, weights[0])
        odd = self.writer.conv((moved,), c_in, c - c // 2, 1, 2, weights[1])
        return self.writer.concat((even, odd), c)

    def _operation(self, name: str, x: int, c: int, stride: int, ends: tuple[int, int, int]) -> int:
        """An operation on value x, at `ends` = node, what it reads, what it feeds; ReLU, convolution, normalisation."""
        writer, position, (node, source, target) = self.writer, self.writer.position, ends
        first, last = (position, node, source), (position, node, target)
        if name == "skip_connect" and stride == 1:
            return x
        kernel = 5 if name.endswith("5x5") else 3
        if name == "skip_connect":
            y = self._halve(x, c, c, first, last)
        elif name == "max_pool_3x3":
            y = writer.max_pool((x,), c, kernel, stride, 1)
        elif name == "avg_pool_3x3":
            y = writer.pool((x,), c, kernel, stride, 1)
        elif name.startswith("dil_conv"):
            y = writer.depthwise(x, c, kernel, stride, first, dilation=2, relu=True, norm=False)
            y = writer.conv((y,), c, c, 1, 1, last, relu=False)
        else:
            y = writer.depthwise(x, c, kernel, stride, first, relu=True, norm=False)
            y = writer.conv((y,), c, c, 1, 1, (position, node), relu=False)
            y = writer.depthwise(y, c, kernel, 1, (position, node, node), relu=True, norm=False)
            y = writer.conv((y,), c, c, 1, 1, last, relu=False)
        self.paths.add(y)
        return y


@dataclass(frozen=True)
class DartsProgram:
    """A network's layers, the values that drop path may drop, the value that the auxiliary head reads."""

    program: Program
    paths: frozenset[int]
    auxiliary: int


def cifar(architecture: Architecture, channels: int, cells_per_stage: int, stem_stride: int = 1) -> DartsProgram:
    """The network for CIFAR-10: 20 cells where there are 6 a stage; the stem has 3 times the channels of a node."""
    _check(channels, cells_per_stage)
    writer = ProgramWriter(STEM_MULTIPLIER * channels, stem_stride)
    stem = writer.stem(), STEM_MULTIPLIER * channels
    return _stack(CellWriter(writer, (stem, stem)), architecture, channels, cells_per_stage)


def imagenet(architecture: Architecture, channels: int, cells_per_stage: int) -> DartsProgram:
    """The network for ImageNet: 14 cells where there are 4 a stage; three convolutions of stride 2 before them."""
    _check(channels, cells_per_stage)
    writer = ProgramWriter(channels // 2, stem_stride=2)
    half = writer.conv((writer.stem(),), channels // 2, channels, 3, 2, (0, BEFORE_LAST, BEFORE_LAST))
    whole = writer.conv((half,), channels, channels, 3, 2, (0, LAST, LAST))
    cells = CellWriter(writer, ((half, channels), (whole, channels)), halved=True)
    return _stack(cells, architecture, channels, cells_per_stage)


def sequence() -> tuple[int, ...]:
    """Of the 20 cells, which are the normal and which the reduction cell."""
    return ((0,) * CELLS_PER_STAGE + (1,)) * (STAGES - 1) + (0,) * CELLS_PER_STAGE


def positions(cells_per_stage: int) -> Sequence[int]:
    """The places in the sequence of 20 of the cells of a network with fewer: the first ones of each stage."""
    stage = CELLS_PER_STAGE + 1
    return [i for i in range(len(sequence())) if i % stage < cells_per_stage or i % stage == CELLS_PER_STAGE]


def _stack(cells: CellWriter, architecture: Architecture, channels: int, cells_per_stage: int) -> DartsProgram:
    c = channels
    for cells.writer.position in positions(cells_per_stage):
        cell = architecture.cells[architecture.sequence[cells.writer.position]]
        c *= 2 if cell.kind == REDUCTION else 1
        cells.write(cell, c)
    heads = ((1, c, NODES * c), (3, c, 1), (5, c, 1))
    program = cells.writer.finish(cells.states[1][0], norm_last=False, heads=heads)
    return DartsProgram(program, frozenset(cells.paths), cells.auxiliary)


def _check(channels: int, cells_per_stage: int) -> None:
    if channels < 2:
        raise UserError(f"channels must be at least 2, a reduction makes them in two halves, got {channels}")
    if not 1 <= cells_per_stage <= CELLS_PER_STAGE:
        raise UserError(f"cells_per_stage must be from 1 to {CELLS_PER_STAGE}, got {cells_per_stage}")
