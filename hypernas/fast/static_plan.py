"""A plan with room for the programs of every step of a training; its oracle is `method.target_network.run`.

The plan itself computes nothing. An op has room for as many layers as any step needs. Unused places read a spare value
of zeros, and nothing reads their output. All steps therefore have tensors of the same shapes, and a GPU can record one
step and replay it for every other. On a CPU, each step has its own plan without spare room.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from hypernas.fast.plan import BatchedOp, BufferKey, Plan, Read, Sources, WeightGroup, cut
from hypernas.fast.program_table import ProgramTable, starts
from hypernas.method.target_network import Layer, Program

# A source of weights is an architecture, a cell and two nodes, the ends of an edge or one node twice.
SOURCE_WIDTH = 4


class StaticPlan:
    """A plan with room for each of `steps` (S, b), programs that run together, from a table of S sets of n programs.

    All numbers that differ between steps are in one tensor, `places`. A step begins by writing it with `fill`; `plan`
    and `sources` are views of it. `side` is the larger side of the stem's maps.
    """

    def __init__(
        self,
        table: ProgramTable,
        steps: Sequence[np.ndarray],
        side: int | None = None,
        device: str = "cpu",
    ) -> None:
        self.table = table
        self.s, self.b = steps[0].shape
        self.n = len(table.outputs) // self.s
        self._make_room(steps)
        self._place_layers()
        self._place_reads()
        self.places = torch.from_numpy(self.blank.copy()).to(device)
        self.plan = self._plan(side)
        self.sources = self._sources()

    @classmethod
    def of(
        cls,
        programs: Sequence[Program],
        s: int = 1,
        side: int | None = None,
        device: str = "cpu",
    ) -> StaticPlan:
        """Return the plan of a single step, S*b programs seed by seed, with its places filled in and no spare room."""
        # A single step that takes every program once, in order.
        index = _in_order(s, len(programs) // s)
        static_plan = cls(ProgramTable.of(programs), [index], side, device)
        static_plan.places.copy_(static_plan.fill(index))
        return static_plan

    def weight_owners(self) -> list[list[tuple[int, int]]]:
        """Return, for each weight of each group, the number of its program and of its layer in the program.

        This applies to plans made by `of`.
        """
        program, layers, owner = self._layers(_in_order(self.s, self.b))
        line = self.table.line[layers]
        group = self.table.lines[line, 2]
        place = self.in_group[line] + _rank_among_equals(line)
        # The last key counts first: by group, and within a group by place.
        order = np.lexsort((place, group))
        first = self.table.first_layer[program]
        layer = layers - first[owner]
        owners = []
        for kind in self.group_kinds:
            rows = order[group[order] == kind]
            pairs = zip(owner[rows].tolist(), layer[rows].tolist(), strict=True)
            owners.append(list(pairs))
        return owners

    def _in_table(self, index: np.ndarray) -> np.ndarray:
        """The programs index (S, b), counted in each seed's own set, as numbers of the table's programs."""
        first_of_seed = self.n * np.arange(self.s)
        return index + first_of_seed[:, None]

    def _layers(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The programs of a step in the table, their layers there, and the number of the program that owns each."""
        program = self._in_table(index).ravel()
        n_layers = np.diff(self.table.first_layer)[program]
        layers = _ranges(self.table.first_layer, program)
        owner = np.repeat(np.arange(len(program)), n_layers)
        return program, layers, owner

    def _make_room(self, steps: Sequence[np.ndarray]) -> None:
        """How many layers of each line, reads of each kind and weights of each group a step has at most."""
        table = self.table
        group = table.lines[:, 2] + 1  # 0 stands for layers without weights.
        # bincount needs to know how many there are, also where a step has none of the last ones.
        n_groups = int(group.max()) + 1
        lines = table.counts(table.line, len(table.lines), table.first_layer)
        groups = table.counts(group[table.line], n_groups, table.first_layer)
        kinds = table.counts(table.kind, len(table.kinds), table.first_read)
        layers_needed = []
        reads_needed = []
        weights_needed = []
        for step in steps:
            program = self._in_table(step)
            layers_needed.append(lines[program].sum((0, 1)))
            reads_needed.append(kinds[program].sum((0, 1)))
            # Weights are made for all seeds at once, so each seed has as much room as the one that needs most.
            weights_needed.append(groups[program].sum(1).max(0))
        self.room = np.max(layers_needed, axis=0)
        self.kind_room = np.max(reads_needed, axis=0)
        self.group_width = np.max(weights_needed, axis=0)[1:]
        self.group_kinds = np.flatnonzero(self.group_width).tolist()

    def _place_layers(self) -> None:
        """Where each line of layers stands in its op, and each op in its buffer."""
        table = self.table
        op = table.lines[:, 0]
        n_ops = op[-1] + 1
        n_layers = np.diff(table.first_layer)
        # Layer i of a program makes its value i + 1, and each program before it has one value more than layers.
        programs_before = np.repeat(np.arange(self.s * self.n), n_layers)
        self.made = np.arange(len(table.line)) + programs_before + 1
        self.buffer_of = np.empty(n_ops, np.int64)
        self.buffer_of[op[table.line]] = table.buffers[self.made]
        self.op_size = np.bincount(op, self.room, n_ops).astype(np.int64)
        self.op_start = np.empty(n_ops, np.int64)
        # The stems of all networks lie first in their buffer; the spare place comes after all others.
        stems = int(table.buffers[0])
        sizes = Counter({stems: self.s * self.b})
        for i, buffer in enumerate(self.buffer_of.tolist()):
            self.op_start[i] = sizes[buffer]
            sizes[buffer] += int(self.op_size[i])
        self.spare = sizes
        first_of_op = np.searchsorted(op, np.arange(n_ops))
        # The room of all lines before one, less that before its op, is where the line stands in the op.
        before = starts(self.room)[:-1]
        before_op = before[first_of_op]
        self.base = before - before_op[op]
        self.first_of_op = np.r_[first_of_op, len(op)]

    def _place_reads(self) -> None:
        """Offsets of everything in `places`, and what it holds where a step fills nothing."""
        table = self.table
        # Reads of one kind enter one op at the same place from the same buffer.
        op, port, start, again, buffer, _ = table.kinds.T
        has_room = self.kind_room > 0
        # Where an input is read from one buffer alone, whole and once, a layer's read stands in the layer's own row.
        begins = (start == 0) & (again == 0)
        inputs = list(zip(op.tolist(), port.tolist(), strict=True))
        n_buffers: Counter[tuple[int, int]] = Counter()
        for key, counts in zip(inputs, begins & has_room, strict=True):
            n_buffers[key] += bool(counts)
        alone = np.array([n_buffers[key] == 1 for key in inputs])
        self.whole = begins & alone
        length = np.where(self.whole, self.op_size[op], self.kind_room)
        length = np.where(has_room, length, 0)
        # `places` holds, one after another: slots of reads, rows of reads, sources of weights, their order, outputs.
        self.slots_at = starts(length)
        n_rows = np.where(self.whole, 0, length)
        self.rows_at = self.slots_at[-1] + starts(n_rows)
        # Sources of weights are kept seed by seed, each seed with room for as many.
        per_weight = self.s * SOURCE_WIDTH
        self.group_at = self.rows_at[-1] + per_weight * starts(self.group_width)
        group = table.lines[:, 2]
        self.in_group = np.zeros(len(group), np.int64)
        group_sizes = np.zeros(len(self.group_width), np.int64)
        for kind in self.group_kinds:
            lines = np.flatnonzero(group == kind)
            line_starts = starts(self.room[lines])
            self.in_group[lines] = line_starts[:-1]
            group_sizes[kind] = line_starts[-1]
        self.order_at = self.group_at[-1] + starts(group_sizes)
        self.last_at = self.order_at[-1]
        self.blank = np.zeros(self.last_at + self.s * self.b, np.int64)
        spare = [self.spare[key] for key in buffer.tolist()]
        self.blank[: self.slots_at[-1]] = np.repeat(spare, length)

    def fill(self, index: np.ndarray) -> Tensor:
        """Return the places of the programs index (S, b) of one of the steps, to be copied to `places`, on the host."""
        table = self.table
        out = self.blank.copy()
        program, layers, owner = self._layers(index)
        line = table.line[layers]
        rank = _rank_among_equals(line)
        row = self.base[line] + rank
        rows = np.empty(len(table.line), np.int64)
        rows[layers] = row
        # Where each value lies in its buffer; the first value of a program is its stem's.
        slot = np.empty(len(table.buffers), np.int64)
        first = table.first_value[program]
        op = table.lines[line, 0]
        # Stems come first in their buffer, one a program in the order of the step.
        slot[first] = np.arange(len(program))
        slot[self.made[layers]] = self.op_start[op] + row
        self._fill_reads(out, program, rows, slot)
        self._fill_weights(out, layers, owner, rank)
        output = first + table.outputs[program]
        out[self.last_at :] = slot[output]
        return torch.from_numpy(out)

    def _fill_reads(
        self,
        out: np.ndarray,
        program: np.ndarray,
        rows: np.ndarray,
        slot: np.ndarray,
    ) -> None:
        """Which value each read takes, and where its layer does not stand at its own row, which layer reads."""
        reads = _ranges(self.table.first_read, program)
        kind = self.table.kind[reads]
        reader = rows[self.table.reader[reads]]
        place = _rank_among_equals(kind)
        whole = self.whole[kind]
        slots_at = self.slots_at[kind] + np.where(whole, reader, place)
        rows_at = self.rows_at[kind] + place
        value = self.table.value[reads]
        out[slots_at] = slot[value]
        out[rows_at[~whole]] = reader[~whole]

    def _fill_weights(
        self,
        out: np.ndarray,
        layers: np.ndarray,
        owner: np.ndarray,
        rank: np.ndarray,
    ) -> None:
        """What each weight is made from, and which of the weights made each layer has."""
        line = self.table.line[layers]
        group = self.table.lines[line, 2]
        has_weights = group >= 0
        # Layers without weights, such as poolings, have no source.
        columns = (layers, owner, rank, line, group)
        layers, owner, rank, line, group = (column[has_weights] for column in columns)
        seed = owner // self.b
        # A seed's weights of a group stand together, in the order of their layers.
        in_seed = _rank_among_equals(group * self.s + seed)
        source = seed * self.group_width[group] + in_seed
        order_at = self.order_at[group] + self.in_group[line] + rank
        out[order_at] = source
        source_at = self.group_at[group] + SOURCE_WIDTH * source
        out[source_at] = owner % self.b
        cell_and_nodes = source_at[:, None] + [1, 2, 3]
        out[cell_and_nodes] = self.table.places[layers]

    def _plan(self, side: int | None) -> Plan:
        """Ops and weight groups over views of `places`."""
        table = self.table
        # A layer of each line: all layers of a line are equal.
        example = np.empty(len(table.lines), np.int64)
        example[table.line] = np.arange(len(table.line))
        layers = [table.layers[i] for i in example.tolist()]
        groups = self._groups(layers, side)
        ops = self._ops(layers)
        # One place more in each buffer, the spare one.
        sizes: dict[BufferKey, int] = {}
        for buffer, size in self.spare.items():
            sizes[table.buffer_keys[buffer]] = size + 1
        stems = table.buffer_keys[table.buffers[0]]
        last_value = table.first_value[0] + table.outputs[0]
        output = table.buffer_keys[table.buffers[last_value]]
        return Plan(ops, groups, sizes, stems, output, self.places[self.last_at :])

    def _groups(
        self,
        layers: Sequence[Layer],
        side: int | None,
    ) -> tuple[WeightGroup, ...]:
        """The groups of weights, each with its layer, and with that cut to the taps which maps of this size reach."""
        groups = []
        for kind in self.group_kinds:
            first_line = np.flatnonzero(self.table.lines[:, 2] == kind)[0]
            layer = runs = layers[first_line]
            if side is not None:
                scale = self.table.group_keys[kind][2]  # How much smaller the maps are than the stem's; 0: a pixel.
                pixels = -(-side // scale) if scale else 1
                runs = cut(layer, pixels)
            groups.append(WeightGroup(layer, runs))
        return tuple(groups)

    def _ops(self, layers: Sequence[Layer]) -> tuple[BatchedOp, ...]:
        """The ops for which any step has layers."""
        table = self.table
        reads = self._reads()
        ops = []
        for op, (low, high) in enumerate(pairwise(self.first_of_op.tolist())):
            size = int(self.op_size[op])
            if size:
                makes = table.buffer_keys[self.buffer_of[op]]
                start = int(self.op_start[op])
                kernels = self._kernels(low, high)
                ops.append(BatchedOp(layers[low], size, tuple(reads[op]), makes, start, kernels))
        return tuple(ops)

    def _reads(self) -> list[list[Read]]:
        """What each op reads, in as many reads as it has kinds of them."""
        table = self.table
        # A list for each op, filled kind by kind.
        reads: list[list[Read]] = [[] for _ in self.op_size]
        for k in np.flatnonzero(self.kind_room).tolist():
            op, port, start, _, buffer, stop = table.kinds[k].tolist()
            slots = self.places[self.slots_at[k] : self.slots_at[k + 1]]
            rows = None
            if not self.whole[k]:
                rows = self.places[self.rows_at[k] : self.rows_at[k + 1]]
            key = table.buffer_keys[buffer]
            reads[op].append(Read(key, slots, rows, port, start, stop))
        return reads

    def _kernels(
        self,
        low: int,
        high: int,
    ) -> tuple[tuple[int, int, int], ...]:
        """(group, start, stop) of the weights of each line from `low` to `high`, which make up one op."""
        kernels = []
        for line in range(low, high):
            kind = int(self.table.lines[line, 2])
            room = int(self.room[line])
            if kind >= 0 and room:
                group = self.group_kinds.index(kind)
                start = int(self.in_group[line])
                kernels.append((group, start, start + room))
        return tuple(kernels)

    def _sources(self) -> Sources:
        """Where the weights of each group come from, over views of `places`."""
        order, sources = [], []
        for kind in self.group_kinds:
            start, stop = self.group_at[kind : kind + 2].tolist()
            flat = self.places[start:stop]
            sources.append(flat.view(self.s, -1, SOURCE_WIDTH))
            start, stop = self.order_at[kind : kind + 2].tolist()
            order.append(self.places[start:stop])
        _, node, other = self.table.places.T
        edges = bool((node != other).any())
        return Sources(tuple(sources), tuple(order), edges)


def _in_order(s: int, b: int) -> np.ndarray:
    """The step (S, b) of all programs of a table."""
    return np.arange(b)[None].repeat(s, 0)


def _ranges(first: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The numbers first[i], ..., first[i + 1] - 1 for each i of `rows`, end to end."""
    lengths = first[rows + 1] - first[rows]
    # Counting from 0 to the end needs in each range the same shift: its first number less those before it.
    before = starts(lengths)[:-1]
    shift = np.repeat(first[rows] - before, lengths)
    return shift + np.arange(lengths.sum())


def _rank_among_equals(values: np.ndarray) -> np.ndarray:
    """How many equal numbers stand before each one."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    n_equal = np.diff(np.r_[begins, len(values)])
    rank = np.empty(len(values), np.int64)
    # Equal numbers stand together in `order`: the rank is how far each stands from where they begin.
    rank[order] = np.arange(len(values)) - np.repeat(begins, n_equal)
    return rank
