"""A plan for many programs at once, with room for those of every step of a training.

A turn has room for as many layers as any step needs. What a step does not fill reads a spare value of zeros, and
nothing reads what it makes. So a GPU can record the work of one step and play it again for every other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hypernas.fast.plans import Arena, Bank, Plan, Read, Sources, Turn, cut
from hypernas.fast.sheets import known, sheet
from hypernas.method.target_network import Layer, Program


@dataclass(frozen=True)
class Table:
    """Programs end to end. Over all layers: `line`, which says turn, kernel size and bank (rows of `lines`), and
    the place of the weights; over all reads: the kind (rows of `kinds`), the layer and the value read."""

    layers: list[Layer]
    lines: np.ndarray
    line: np.ndarray
    places: np.ndarray
    arenas: np.ndarray
    kinds: np.ndarray
    kind: np.ndarray
    reader: np.ndarray
    value: np.ndarray
    outputs: np.ndarray
    first_layer: np.ndarray
    first_value: np.ndarray
    first_read: np.ndarray

    @classmethod
    def of(cls, programs: Sequence[Program]) -> Table:
        sheets = [sheet(program) for program in programs]
        first_layer, first_read = (_starts([len(getattr(s, of)) for s in sheets]) for of in ("turns", "reads"))
        first_value = first_layer[:-1] + np.arange(len(programs))
        distinct, turn = np.unique(np.concatenate([s.turns for s in sheets]), return_inverse=True)
        rank = np.empty(len(distinct), np.int64)
        rank[sorted(range(len(distinct)), key=lambda i: known[distinct[i]])] = np.arange(len(distinct))
        turn, arenas = rank[turn], np.concatenate([s.arenas for s in sheets])
        kernels, banks = (np.concatenate([getattr(s, of) for s in sheets]) for of in ("kernels", "banks"))
        lines, line = np.unique(np.stack([turn, kernels, banks], 1), axis=0, return_inverse=True)
        shifts = zip(sheets, first_layer, first_value, strict=False)
        reader, value, port, start, stop = np.concatenate([s.reads + [i, v, 0, 0, 0] for s, i, v in shifts]).T
        input_ = reader * 2 + port
        again = np.r_[False, input_[1:] == input_[:-1]] & (start == 0)
        kinds, kind = np.unique(
            np.stack([turn[reader], port, start, again, arenas[value], stop], 1), axis=0, return_inverse=True
        )
        layers = [layer for program in programs for layer in program.layers]
        places, outputs = np.concatenate([s.places for s in sheets]), np.array([s.output for s in sheets])
        return cls(layers, lines, line.ravel(), places, arenas, kinds, kind.ravel(), reader, value, outputs,
                   first_layer, first_value, first_read)  # fmt: skip

    def counts(self, of: np.ndarray, n_kinds: int, first: np.ndarray) -> np.ndarray:
        """(S*n, K): how often each of K kinds stands in each program."""
        program = np.repeat(np.arange(len(first) - 1), np.diff(first))
        found = np.bincount(program * n_kinds + of, minlength=(len(first) - 1) * n_kinds)
        return found.reshape(-1, n_kinds)


class Frame:
    """A plan with room for each of `steps` (S, b), the programs that run together, of a table of S sets of n programs.

    `plan` and `sources` read their places from `places` on the device, which a step begins by writing with
    `fill`, a host tensor. `side` is the larger one of the stem's maps.
    """

    def __init__(
        self,
        table: Table,
        steps: Sequence[np.ndarray],
        side: int | None = None,
        device: str = "cpu",
    ) -> None:
        self.table = table
        self.s, self.b = steps[0].shape
        self.n = len(table.outputs) // self.s
        first = self.n * np.arange(self.s)[:, None]
        bank = table.lines[:, 2] + 1
        lines = table.counts(table.line, len(table.lines), table.first_layer)
        banks = table.counts(bank[table.line], int(bank.max()) + 1, table.first_layer)
        kinds = table.counts(table.kind, len(table.kinds), table.first_read)
        self.room, self.kind_room = (
            np.max([of[step + first].sum((0, 1)) for step in steps], axis=0) for of in (lines, kinds)
        )
        self.bank_width = np.max([banks[step + first].sum(1).max(0) for step in steps], axis=0)[1:]
        self._settle()
        self._lay_out()
        self.places = torch.from_numpy(self.blank.copy()).to(device)
        self.plan, self.sources = self._plan(side), self._sources()

    @classmethod
    def of(cls, programs: Sequence[Program], s: int = 1, side: int | None = None, device: str = "cpu") -> Frame:
        """The frame of a single step, S*b programs seed by seed, with its places filled in: nothing else has room."""
        index = _in_order(s, len(programs) // s)
        frame = cls(Table.of(programs), [index], side, device)
        frame.places.copy_(frame.fill(index))
        return frame

    def owners(self) -> list[list[tuple[int, int]]]:
        """Whose each weight of each bank of a frame `of` programs is: the number of the program, and of its layer."""
        chosen, items, which = self._layers(_in_order(self.s, self.b))
        line = self.table.line[items]
        bank, place = self.table.lines[line, 2], self.in_bank[line] + _rank(line)
        order = np.lexsort((place, bank))
        layer = items - self.table.first_layer[chosen][which]
        return [
            list(zip(which[rows].tolist(), layer[rows].tolist(), strict=True))
            for kind in np.flatnonzero(self.bank_width)
            for rows in [order[bank[order] == kind]]
        ]

    def _layers(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The programs of a step in the table, their layers there, and which of these programs each layer is of."""
        chosen = (index + self.n * np.arange(self.s)[:, None]).ravel()
        lengths = np.diff(self.table.first_layer)[chosen]
        return chosen, _ranges(self.table.first_layer, chosen), np.repeat(np.arange(len(chosen)), lengths)

    def _settle(self) -> None:
        """Where each line of layers stands in its turn, and each turn in its arena."""
        table, turn = self.table, self.table.lines[:, 0]
        made = np.arange(len(table.line)) + np.repeat(np.arange(self.s * self.n), np.diff(table.first_layer)) + 1
        arena_of = np.empty(turn[-1] + 1, np.int64)
        arena_of[turn[table.line]] = table.arenas[made]
        self.made, stems = made, int(table.arenas[0])
        total = np.bincount(turn, self.room, turn[-1] + 1).astype(np.int64)
        sizes = {stems: self.s * self.b}
        self.turn_start = np.empty(len(total), np.int64)
        for t, arena in enumerate(arena_of.tolist()):
            self.turn_start[t] = sizes.get(arena, 0)
            sizes[arena] = int(self.turn_start[t] + total[t])
        first_of_turn, before = np.searchsorted(turn, np.arange(len(total))), _starts(self.room)[:-1]
        self.base = before - before[first_of_turn][turn]
        self.turn_size, self.arena_of, self.spare = total, arena_of, sizes
        self.first_of_turn = np.r_[first_of_turn, len(turn)]

    def _lay_out(self) -> None:
        """Offsets of everything in `places`, and what it holds where a step fills nothing."""
        table, room, kind_room = self.table, self.room, self.kind_room
        t, port, start, again, arena, _ = table.kinds.T
        firsts = list(zip(t, port, strict=True))
        alone = dict.fromkeys(firsts, 0)
        for key, begins in zip(firsts, (start == 0) & (again == 0) & (kind_room > 0), strict=True):
            alone[key] += int(begins)
        self.whole = np.array([alone[key] == 1 for key in firsts]) & (start == 0) & (again == 0)
        length = np.where(self.whole, self.turn_size[t], kind_room)
        length[kind_room == 0] = 0
        self.slots_at = _starts(length)
        self.rows_at = self.slots_at[-1] + _starts(np.where(self.whole, 0, length))
        bank = table.lines[:, 2]
        self.bank_at = self.rows_at[-1] + self.s * 4 * _starts(self.bank_width)
        self.in_bank, sizes = np.zeros(len(bank), np.int64), np.zeros(len(self.bank_width), np.int64)
        for kind in np.flatnonzero(self.bank_width).tolist():
            here = np.flatnonzero(bank == kind)
            starts = _starts(room[here])
            self.in_bank[here], sizes[kind] = starts[:-1], starts[-1]
        self.order_at = self.bank_at[-1] + _starts(sizes)
        self.last_at = self.order_at[-1]
        self.blank = np.zeros(self.last_at + self.s * self.b, np.int64)
        self.blank[: self.slots_at[-1]] = np.repeat([self.spare[a] for a in arena.tolist()], length)

    def fill(self, index: np.ndarray) -> Tensor:
        """The places of the programs index (S, b) of one of the steps, for `places`."""
        table, out, seeds = self.table, self.blank.copy(), np.repeat(np.arange(self.s), self.b)
        chosen, items, which = self._layers(index)
        seed, line = seeds[which], table.line[items]
        rank = _rank(line)
        row = self.base[line] + rank
        slot, rows = np.empty(len(table.arenas), np.int64), np.empty(len(table.line), np.int64)
        slot[table.first_value[chosen]] = np.arange(len(chosen))
        slot[self.made[items]], rows[items] = self.turn_start[table.lines[line, 0]] + row, row
        reads = _ranges(table.first_read, chosen)
        kind, reader = table.kind[reads], rows[table.reader[reads]]
        place, whole = _rank(kind), self.whole[kind]
        out[self.slots_at[kind] + np.where(whole, reader, place)] = slot[table.value[reads]]
        some = ~whole
        out[self.rows_at[kind[some]] + place[some]] = reader[some]
        bank = table.lines[line, 2]
        own = bank >= 0
        items, which, line, bank, rank, seed = (each[own] for each in (items, which, line, bank, rank, seed))
        source = seed * self.bank_width[bank] + _rank(bank * self.s + seed)
        out[self.order_at[bank] + self.in_bank[line] + rank] = source
        at = self.bank_at[bank] + 4 * source
        out[at] = which % self.b
        out[at[:, None] + [1, 2, 3]] = table.places[items]
        out[self.last_at :] = slot[table.first_value[chosen] + table.outputs[chosen]]
        return torch.from_numpy(out)

    def _plan(self, side: int | None) -> Plan:
        """Turns and banks over views of `places`."""
        table = self.table
        example = np.empty(len(table.lines), np.int64)
        example[table.line] = np.arange(len(table.line))
        kinds = np.flatnonzero(self.bank_width).tolist()
        banks = []
        for kind in kinds:
            layer = table.layers[example[np.flatnonzero(table.lines[:, 2] == kind)[0]]]
            scale = known[kind][2]
            small = layer if side is None else cut(layer, -(-side // scale) if scale else 1)
            banks.append(Bank(layer, small))
        reads: list[list[Read]] = [[] for _ in self.turn_size]
        for k in np.flatnonzero(self.kind_room).tolist():
            t, port, start, _, arena, stop = table.kinds[k].tolist()
            slots = self.places[self.slots_at[k] : self.slots_at[k + 1]]
            rows = None if self.whole[k] else self.places[self.rows_at[k] : self.rows_at[k + 1]]
            reads[t].append(Read(known[arena], slots, rows, port, start, stop))
        turns = []
        for t, (lo, hi) in enumerate(pairwise(self.first_of_turn.tolist())):
            if not (size := int(self.turn_size[t])):
                continue
            runs = []
            for line in range(lo, hi):
                bank = int(table.lines[line, 2])
                if bank >= 0 and self.room[line]:
                    at = int(self.in_bank[line])
                    runs.append((kinds.index(bank), at, at + int(self.room[line])))
            makes, start = known[self.arena_of[t]], int(self.turn_start[t])
            turns.append(Turn(table.layers[example[lo]], size, tuple(reads[t]), makes, start, tuple(runs)))
        sizes: dict[Arena, int] = {known[arena]: size + 1 for arena, size in self.spare.items()}
        output = known[table.arenas[table.first_value[0] + table.outputs[0]]]
        last = self.places[self.last_at :]
        return Plan(tuple(turns), tuple(banks), sizes, known[table.arenas[0]], output, last)

    def _sources(self) -> Sources:
        """Where the weights of each bank come from, over views of `places`."""
        order, parts = [], []
        for kind in np.flatnonzero(self.bank_width).tolist():
            at, end = self.bank_at[kind : kind + 2].tolist()
            parts.append(self.places[at:end].view(self.s, -1, 4))
            order.append(self.places[self.order_at[kind] : self.order_at[kind + 1]])
        edges = bool((self.table.places[:, 1] != self.table.places[:, 2]).any())
        return Sources(tuple(parts), tuple(order), edges)


def _in_order(s: int, b: int) -> np.ndarray:
    """The step (S, b) of all programs of a table."""
    return np.arange(b)[None].repeat(s, 0)


def _starts(lengths: Any) -> np.ndarray:
    """Where each of K parts begins that stand end to end, and the end of the last (K + 1,)."""
    return np.r_[0, np.cumsum(lengths)].astype(np.int64)


def _ranges(first: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The numbers first[i], ..., first[i + 1] - 1 for each i in `chosen`, end to end."""
    lengths = first[chosen + 1] - first[chosen]
    return np.repeat(first[chosen] - _starts(lengths)[:-1], lengths) + np.arange(lengths.sum())


def _rank(group: np.ndarray) -> np.ndarray:
    """How many equal numbers stand before each one."""
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    rank = np.empty(len(group), np.int64)
    rank[order] = np.arange(len(group)) - np.repeat(begins, np.diff(np.r_[begins, len(group)]))
    return rank
