"""A plan for many programs at once: which of their layers run as one, and where their values lie.

Layers at the same cell and depth and of the same shape form a turn. The values of one shape lie side by side in an
arena; a layer reads places of arenas and writes a place of one. Nothing here computes; `batched.py` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hypernas.target import Layer, Program

Arena = tuple[int, int]
OWN = ("inputs", "weight", "position")
OF_A_KERNEL = ("kernel", "padding")
AROUND_A_KERNEL = ("relu", "norm", "relu_after")
ALIKE = tuple(f.name for f in fields(Layer) if f.name not in OWN)
ids: dict[Any, int] = {}
known: list[Any] = []


def intern(key: Any) -> int:
    """One small number for one key."""
    if ids.setdefault(key, len(known)) == len(known):
        known.append(key)
    return ids[key]


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

    `places` (n, 3): cell, node, node, the same node twice for the layer of a node.
    """

    layer: Layer
    scale: int
    programs: np.ndarray
    layers: np.ndarray
    places: np.ndarray


@dataclass(frozen=True)
class Plan:
    """`turns` in an order in which they can run, `banks` of weights, the arenas' `sizes`, that of the stems, which lie
    first there, and what the programs give: places `last` (A,) of one arena."""

    turns: tuple[Turn, ...]
    banks: tuple[Bank, ...]
    sizes: dict[Arena, int]
    stems: Arena
    output: Arena
    last: Tensor


@dataclass(frozen=True)
class Sheet:
    """A program as arrays over its L layers and its R reads: what `plan` joins for many programs."""

    turns: np.ndarray
    banks: np.ndarray
    kernels: np.ndarray
    places: np.ndarray
    arenas: np.ndarray
    reads: np.ndarray
    output: int


@lru_cache(16384)
def sheet(program: Program) -> Sheet:
    """Reads are rows (layer, value, port, start, stop)."""
    scales, depths = [1], [(-1, 0)]
    arenas = [intern((program.channels, 1))]
    turns, banks, places, reads = [], [], [], []
    for i, layer in enumerate(program.layers):
        scale = scales[layer.inputs[0]]
        before = max(depths[v] for v in layer.inputs)
        depths.append((layer.position, before[1] + 1 if before[0] == layer.position else 0))
        alike = {name: getattr(layer, name) for name in ALIKE}
        kept = tuple(v for name, v in alike.items() if layer.op != "conv" or name not in OF_A_KERNEL)
        scales.append(0 if layer.op == "mean" else scale * layer.stride)
        arenas.append(intern((layer.c_out, scales[-1])))
        turns.append(intern((*depths[-1], layer.op, kept, scale)))
        signature = tuple(v for name, v in alike.items() if name not in AROUND_A_KERNEL)
        banks.append(intern(("bank", signature, scale)) if layer.weight is not None else -1)
        places.append((layer.weight[0], layer.weight[1], layer.weight[-1]) if layer.weight else (0, 0, 0))
        widths = [program.layers[v - 1].c_out if v else program.channels for v in layer.inputs]
        reads += [(i, *read) for read in _reads(layer, widths)]
    return Sheet(
        np.array(turns, np.int64),
        np.array(banks, np.int64),
        np.array([layer.kernel for layer in program.layers], np.int64),
        np.array(places, np.int64).reshape(-1, 3),
        np.array(arenas, np.int64),
        np.array(reads, np.int64).reshape(-1, 5),
        program.output,
    )


def _reads(layer: Layer, widths: Sequence[int]) -> Iterator[tuple[int, int, int, int]]:
    """(value, port, start, stop) of each input of a layer."""
    at = 0
    for j, (value, width) in enumerate(zip(layer.inputs, widths, strict=True)):
        if layer.op == "concat":
            yield value, 0, at, at + width
            at += width
        else:
            yield value, j if layer.op == "gate" else 0, 0, layer.c_in


def plan(programs: Sequence[Program], device: str = "cpu") -> Plan:
    """Group the layers of A programs into turns, and give every value its place."""
    sheets = [sheet(program) for program in programs]
    lengths = np.array([len(s.turns) for s in sheets])
    items = np.repeat(np.arange(len(sheets)), lengths)
    first_item = np.cumsum(lengths) - lengths
    first_value = first_item + np.arange(len(sheets))
    distinct, turn = np.unique(np.concatenate([s.turns for s in sheets]), return_inverse=True)
    rank = np.empty(len(distinct), np.int64)
    rank[sorted(range(len(distinct)), key=lambda i: known[distinct[i]])] = np.arange(len(distinct))
    turn = rank[turn]
    order = np.lexsort((np.concatenate([s.kernels for s in sheets]), turn))
    bounds = np.searchsorted(turn[order], np.arange(len(distinct) + 1)).tolist()
    row = np.empty(len(order), np.int64)
    row[order] = np.arange(len(order)) - np.repeat(bounds[:-1], np.diff(bounds))
    arenas = np.concatenate([s.arenas for s in sheets])
    slot = np.empty(len(arenas), np.int64)
    slot[first_value] = np.arange(len(sheets))
    sizes = {known[arenas[0]]: len(sheets)}
    made = np.arange(len(items)) + items + 1
    starts = []
    for lo, hi in pairwise(bounds):
        values = made[order[lo:hi]]
        arena = known[arenas[values[0]]]
        starts.append((arena, sizes.get(arena, 0)))
        slot[values] = sizes.get(arena, 0) + np.arange(hi - lo)
        sizes[arena] = sizes.get(arena, 0) + hi - lo
    reads = _grouped_reads(sheets, first_item, first_value, turn, row, slot, arenas, np.diff(bounds), device)
    kernels, banks = _banks(sheets, programs, items, first_item, order, bounds)
    layers = [programs[a].layers[i - first_item[a]] for i in order[bounds[:-1]] for a in [items[i]]]
    turns = tuple(
        Turn(layer, int(hi - lo), reads[t], *starts[t], kernels[t])
        for t, (layer, lo, hi) in enumerate(zip(layers, bounds[:-1], bounds[1:], strict=True))
    )
    last = first_value + np.array([s.output for s in sheets])
    return Plan(turns, banks, sizes, known[arenas[0]], known[arenas[last[0]]], torch.from_numpy(slot[last]).to(device))


def _grouped_reads(sheets, first_item, first_value, turn, row, slot, arenas, sizes, device) -> list[tuple[Read, ...]]:
    """The reads of each turn; those that come first to their layer apart, so that most of them are whole."""
    each = [s.reads + [f, v, 0, 0, 0] for s, f, v in zip(sheets, first_item, first_value, strict=True)]
    item, value, port, start, stop = np.concatenate(each).T
    place = item * 2 + port
    again = np.zeros(len(item), np.int64)
    again[1:] = place[1:] == place[:-1]
    keys = np.stack([turn[item], port, start, again * (start == 0), arenas[value], stop])
    order = np.lexsort((row[item], *keys[::-1]))
    keys = keys[:, order]
    cuts = np.flatnonzero(np.r_[True, (keys[:, 1:] != keys[:, :-1]).any(0), True])
    slots, rows = slot[value][order], row[item][order]
    slots_there, rows_there = torch.from_numpy(slots).to(device), torch.from_numpy(rows).to(device)
    found: list[list[Read]] = [[] for _ in sizes]
    for lo, hi in pairwise(cuts):
        t, port_, start_, _, arena, stop_ = (int(k) for k in keys[:, lo])
        whole = hi - lo == sizes[t] and bool((rows[lo:hi] == np.arange(hi - lo)).all())
        found[t].append(
            Read(known[arena], slots_there[lo:hi], None if whole else rows_there[lo:hi], port_, start_, stop_)
        )
    return [tuple(reads) for reads in found]


def _banks(sheets, programs, items, first_item, order, bounds) -> tuple[list[tuple], tuple[Bank, ...]]:
    """The runs of equal kernel size of each turn, and the bank of each kind of weight."""
    bank = np.concatenate([s.banks for s in sheets])[order]
    kinds = [int(k) for k in np.unique(bank) if k >= 0]
    filled = dict.fromkeys(kinds, 0)
    kernels = []
    for lo, hi in pairwise(bounds):
        runs = []
        if bank[lo] >= 0:
            cuts = np.flatnonzero(np.r_[True, bank[lo + 1 : hi] != bank[lo : hi - 1], True])
            for a, b in pairwise(cuts):
                k = int(bank[lo + a])
                runs.append((kinds.index(k), filled[k], filled[k] + int(b - a)))
                filled[k] += int(b - a)
        kernels.append(tuple(runs))
    places = np.concatenate([s.places for s in sheets])
    banks = []
    for k in kinds:
        item = order[bank == k]
        program, layer = items[item], item - first_item[items[item]]
        example = programs[program[0]].layers[layer[0]]
        banks.append(Bank(example, known[k][-1], program, layer, places[item]))
    return kernels, tuple(banks)
