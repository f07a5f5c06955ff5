"""A plan for many programs at once: which of their layers run as one, and where their values lie.

Layers at the same cell and depth and of the same shape form a turn. The values of one shape lie side by side in an
arena; a layer reads places of arenas and writes a place of one. Nothing here computes; `batched.py` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from hypernas.target import Layer, Program
from hypernas.target.sheets import known, sheet

Arena = tuple[int, int]


@dataclass(frozen=True)
class Read:
    """R values of an arena, by place, that layers of a turn, by row, add to channels [start, stop) of their input.

    `rows` is None where each layer reads one value, in order; `port` 1 is the second input of a gate.
    """

    arena: Arena
    slots: Tensor
    rows: Tensor | None
    port: int
    start: int
    stop: int


@dataclass(frozen=True)
class Turn:
    """`size` layers that run as one, like `layer` but for inputs, weights and kernel size; they write [start, ...) of
    the arena `makes`. `kernels`: (bank, start, stop) of each run of equal kernel size."""

    layer: Layer
    size: int
    reads: tuple[Read, ...]
    makes: Arena
    start: int
    kernels: tuple[tuple[int, int, int], ...]

    @property
    def stop(self) -> int:
        return self.start + self.size


@dataclass(frozen=True)
class Bank:
    """n weights of one shape, in the order in which they are used: those of layer `layers[i]` of program `programs[i]`.

    `places` (n, 3): cell, node, node, the same node twice for the layer of a node. `runs` is the layer as it runs: like
    `layer`, but for the taps of its kernel that never meet a pixel.
    """

    layer: Layer
    runs: Layer
    programs: np.ndarray
    layers: np.ndarray
    places: np.ndarray


@dataclass(frozen=True)
class Plan:
    """`turns` in an order in which they can run, `banks` of weights, the arenas' `sizes`, that of the stems, which lie
    first there, and what the programs give: places `last` (A,) of one arena. With `spare` the last place of every arena
    is one of zeros."""

    turns: tuple[Turn, ...]
    banks: tuple[Bank, ...]
    sizes: dict[Arena, int]
    stems: Arena
    output: Arena
    last: Tensor
    spare: bool = False


@dataclass(frozen=True)
class Sources:
    """The nodes that weights are made from, seed by seed: for each bank the architecture, cell, node and node (S, W, 4)
    of at most W weights a seed, and which of these S*W each of the bank's own is, `order` (n,). `edges`: whether the
    two nodes can differ."""

    places: tuple[Tensor, ...]
    order: tuple[Tensor, ...]
    edges: bool

    @classmethod
    def of(cls, plan: Plan, s: int, b: int) -> Sources:
        """Those of a plan for S*b programs."""
        places, order = zip(*(_by_seed(bank, s, b) for bank in plan.banks), strict=True)
        return cls(places, order, any(bool((bank.places[:, 1] != bank.places[:, 2]).any()) for bank in plan.banks))


def _by_seed(bank: Bank, s: int, b: int) -> tuple[Tensor, Tensor]:
    """The weights of a bank laid out by seed, padded at the end.

    Returns their architecture, cell, node and node (S, longest, 4), and the place of each of the n in (S * longest).
    """
    seed = bank.programs // b
    order = np.argsort(seed, kind="stable")
    counts = np.bincount(seed, minlength=s)
    longest = counts.max()
    flat = np.empty(len(seed), np.int64)
    flat[order] = seed[order] * longest + np.arange(len(seed)) - np.repeat(np.cumsum(counts) - counts, counts)
    places = np.zeros((s * longest, 4), np.int64)
    places[flat] = np.concatenate([(bank.programs % b)[:, None], bank.places], 1)
    return torch.from_numpy(places).view(s, longest, 4), torch.from_numpy(flat)


def plan(programs: Sequence[Program], device: str = "cpu", side: int | None = None) -> Plan:
    """Group the layers of A programs into turns, and give every value its place.

    With the larger `side` of the stem's maps, kernels are cut to the taps that can meet a pixel.
    """
    return _Joined(programs, device).plan(side)


def cut(layer: Layer, side: int) -> Layer:
    """The layer without the taps of its kernel that only meet padding on maps of at most `side` pixels a side."""
    taps = min(layer.kernel, 2 * ((side - 1) // layer.dilation) + 1)
    around = layer.dilation * (layer.kernel - taps) // 2
    centred = 2 * layer.padding == layer.dilation * (layer.kernel - 1)
    return replace(layer, kernel=taps, padding=layer.padding - around) if centred else layer


class _Joined:
    """The sheets of A programs end to end: `items` are their layers, `values` the stems' and one a layer."""

    def __init__(self, programs: Sequence[Program], device: str) -> None:
        self.programs, self.device = programs, device
        self.sheets = [sheet(program) for program in programs]
        lengths = [len(s.turns) for s in self.sheets]
        self.program = np.repeat(np.arange(len(programs)), lengths)
        self.first_item = np.cumsum(lengths) - lengths
        self.first_value = self.first_item + np.arange(len(programs))
        self.arenas = np.concatenate([s.arenas for s in self.sheets])
        self._sort()
        self._settle()

    def _sort(self) -> None:
        """`turn` and `row` of every item; `order`: the items by turn and kernel size; turn t is bounds[t:t+2] of it."""
        distinct, turn = np.unique(np.concatenate([s.turns for s in self.sheets]), return_inverse=True)
        rank = np.empty(len(distinct), np.int64)
        rank[sorted(range(len(distinct)), key=lambda i: known[distinct[i]])] = np.arange(len(distinct))
        self.turn = rank[turn]
        self.order = np.lexsort((np.concatenate([s.kernels for s in self.sheets]), self.turn))
        bounds = np.searchsorted(self.turn[self.order], np.arange(len(distinct) + 1))
        self.bounds, self.counts = bounds.tolist(), np.diff(bounds)
        self.row = np.empty(len(self.order), np.int64)
        self.row[self.order] = np.arange(len(self.order)) - np.repeat(bounds[:-1], self.counts)

    def _settle(self) -> None:
        """`slot` of every value in its arena: stems first, then turn by turn, from where its `starts` say."""
        self.slot = np.empty(len(self.arenas), np.int64)
        self.slot[self.first_value] = np.arange(len(self.programs))
        self.sizes = {known[self.arenas[0]]: len(self.programs)}
        self.starts = []
        made = np.arange(len(self.program)) + self.program + 1
        for lo, hi in pairwise(self.bounds):
            values = made[self.order[lo:hi]]
            arena = known[self.arenas[values[0]]]
            start = self.sizes.get(arena, 0)
            self.starts.append((arena, start))
            self.slot[values] = np.arange(start, start + hi - lo)
            self.sizes[arena] = start + hi - lo

    def plan(self, side: int | None) -> Plan:
        reads, (kernels, banks) = self._reads(), self._banks(side)
        turns = []
        for t, (lo, hi) in enumerate(pairwise(self.bounds)):
            turns.append(Turn(self._layer(self.order[lo]), hi - lo, reads[t], *self.starts[t], kernels[t]))
        last = self.first_value + [s.output for s in self.sheets]
        places = torch.from_numpy(self.slot[last]).to(self.device)
        return Plan(tuple(turns), banks, self.sizes, known[self.arenas[0]], known[self.arenas[last[0]]], places)

    def _layer(self, item: int) -> Layer:
        a = self.program[item]
        return self.programs[a].layers[item - self.first_item[a]]

    def _reads(self) -> list[tuple[Read, ...]]:
        """The reads of each turn; those that come first to their layer apart, so that most of them are whole."""
        shifts = zip(self.sheets, self.first_item, self.first_value, strict=True)
        item, value, port, start, stop = np.concatenate([s.reads + [i, v, 0, 0, 0] for s, i, v in shifts]).T
        input_ = item * 2 + port
        again = np.r_[False, input_[1:] == input_[:-1]] & (start == 0)
        keys = np.stack([self.turn[item], port, start, again, self.arenas[value], stop])
        order = np.lexsort((self.row[item], *keys[::-1]))
        keys, rows = keys[:, order], self.row[item][order]
        slots_there = torch.from_numpy(self.slot[value][order]).to(self.device)
        rows_there = torch.from_numpy(rows).to(self.device)
        found: list[list[Read]] = [[] for _ in self.counts]
        for lo, hi in pairwise(_cuts(keys)):
            t, port_, start_, _, arena, stop_ = keys[:, lo].tolist()
            whole = hi - lo == self.counts[t] and bool((rows[lo:hi] == np.arange(hi - lo)).all())
            rows_read = None if whole else rows_there[lo:hi]
            found[t].append(Read(known[arena], slots_there[lo:hi], rows_read, port_, start_, stop_))
        return [tuple(reads) for reads in found]

    def _banks(self, side: int | None) -> tuple[list[tuple[tuple[int, int, int], ...]], tuple[Bank, ...]]:
        """The runs of equal kernel size of each turn, and the bank of each kind of weight."""
        bank = np.concatenate([s.banks for s in self.sheets])[self.order]
        places = np.concatenate([s.places for s in self.sheets])
        kinds = [kind for kind in np.unique(bank).tolist() if kind >= 0]
        filled = dict.fromkeys(kinds, 0)
        kernels = []
        for lo, hi in pairwise(self.bounds):
            runs = []
            for a, b in pairwise(_cuts(bank[None, lo:hi])) if bank[lo] >= 0 else ():
                kind = int(bank[lo + a])
                runs.append((kinds.index(kind), filled[kind], filled[kind] + b - a))
                filled[kind] += b - a
            kernels.append(tuple(runs))
        banks = []
        for kind in kinds:
            items = self.order[bank == kind]
            program = self.program[items]
            layer, scale = self._layer(items[0]), known[kind][2]
            small = layer if side is None else cut(layer, -(-side // scale) if scale else 1)
            banks.append(Bank(layer, small, program, items - self.first_item[program], places[items]))
        return kernels, tuple(banks)


def _cuts(keys: np.ndarray) -> list[int]:
    """Where the columns of keys (K, n) change, with both ends."""
    return np.flatnonzero(np.r_[True, (keys[:, 1:] != keys[:, :-1]).any(0), True]).tolist()
