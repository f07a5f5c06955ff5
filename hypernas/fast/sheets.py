"""A program as arrays, so that many programs are planned by a few operations on long arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np

from hypernas.method.target_network import Layer, Program

OWN = ("inputs", "weight", "position")
OF_A_KERNEL = ("kernel", "padding", "dilation")
MOST_DILATION = 16
AROUND_A_KERNEL = ("relu", "norm", "relu_after")
ALIKE = tuple(f.name for f in fields(Layer) if f.name not in OWN)
known: list[Any] = []
_numbers: dict[Any, int] = {}
_lock = Lock()


def number(key: Any) -> int:
    """One small number for one key, which stands in `known` there."""
    with _lock:
        if key not in _numbers:
            _numbers[key] = len(known)
            known.append(key)
        return _numbers[key]


@dataclass(frozen=True)
class Sheet:
    """A program as arrays over its L layers: the number of the turn of each, of its bank of weights (-1: none), its
    kernel's size and dilation as one number, the place (cell, node, node) of its weights; over its L + 1 values: the
    number of the arena; and its reads, rows (layer, value, port, start, stop)."""

    turns: np.ndarray
    banks: np.ndarray
    kernels: np.ndarray
    places: np.ndarray
    arenas: np.ndarray
    reads: np.ndarray
    output: int


@lru_cache(16384)
def sheet(program: Program) -> Sheet:
    """The arrays of a program. A turn is a cell, a depth in it, an operation and a shape; an arena the channels of a
    value and how much smaller than the stem's its map is."""
    scales, depths = [1], [(-1, 0)]
    arenas = [number((program.channels, 1))]
    turns, banks, places, reads = [], [], [], []
    for i, layer in enumerate(program.layers):
        scale = scales[layer.inputs[0]]
        before = max(depths[v] for v in layer.inputs)
        depths.append((layer.position, before[1] + 1 if before[0] == layer.position else 0))
        alike = {name: getattr(layer, name) for name in ALIKE}
        kept = tuple(v for name, v in alike.items() if layer.op != "conv" or name not in OF_A_KERNEL)
        scales.append(0 if layer.op == "mean" else scale * layer.stride)
        arenas.append(number((layer.c_out, scales[-1])))
        turns.append(number((*depths[-1], layer.op, kept, scale)))
        signature = tuple(v for name, v in alike.items() if name not in AROUND_A_KERNEL)
        banks.append(number(("bank", signature, scale)) if layer.weight is not None else -1)
        places.append((layer.weight[0], layer.weight[1], layer.weight[-1]) if layer.weight else (0, 0, 0))
        widths = [program.layers[v - 1].c_out if v else program.channels for v in layer.inputs]
        reads += [(i, *read) for read in _reads(layer, widths)]
    return Sheet(
        np.array(turns, np.int64),
        np.array(banks, np.int64),
        np.array([layer.kernel * MOST_DILATION + layer.dilation for layer in program.layers], np.int64),
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
