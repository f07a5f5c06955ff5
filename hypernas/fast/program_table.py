"""Programs as arrays, so that a few NumPy calls plan thousands of layers; the oracle is `method.target_network.run`.

A layer is planned by what it is: an `op` is all layers that run as one, because they are at the same cell and depth and
have the same operation and shape; a `group` of weights has one shape; a `buffer` holds values of one shape. Because
arrays hold numbers, each of these keys gets a number when it is first seen. That number depends on what this process
has seen before, so a table ranks its keys in their own order. Otherwise the order of sums, and with it the last bits,
would depend on what ran before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np

from hypernas.method.target_network import Layer, Program

# Kernel size and dilation are kept as one number, size * MOST_DILATION + dilation; no space dilates by 16 or more.
MOST_DILATION = 16
# Fields that layers which run as one may differ in: where they read and write, and of convolutions the kernel.
PLACE_FIELDS = ("inputs", "weight", "position")
# A convolution is a matrix on small maps, whatever its kernel, so layers of different kernels share one product.
KERNEL_FIELDS = ("kernel", "padding", "dilation")
# Fields that do not change what the weights of a layer are.
AROUND_WEIGHTS = ("relu", "norm", "relu_after")
# All other fields of a layer.
SHAPE_FIELDS = tuple(f.name for f in fields(Layer) if f.name not in PLACE_FIELDS)
# Programs that are kept as arrays: more than any training set has, a few kB each.
PROGRAMS_KEPT = 16_384

# Every key ever seen in this process, and its number; worker threads may plan at the same time.
keys: list[Any] = []
numbers: dict[Any, int] = {}
_lock = Lock()


def number(key: Any) -> int:
    """Return the number of a key, which is its index in `keys`."""
    with _lock:
        if key not in numbers:
            numbers[key] = len(keys)
            keys.append(key)
        return numbers[key]


def ranked(key_numbers: np.ndarray) -> tuple[list[Any], np.ndarray]:
    """Return the distinct keys among key numbers (L,), in their own order, and the index of each (L,) among them."""
    distinct, inverse = np.unique(key_numbers, return_inverse=True)
    order = sorted(range(len(distinct)), key=lambda i: keys[distinct[i]])
    rank = np.empty(len(distinct), np.int64)
    rank[order] = np.arange(len(distinct))
    return [keys[distinct[i]] for i in order], rank[inverse]


@dataclass(frozen=True)
class ProgramArrays:
    """A program as arrays.

    For each of its L layers: the numbers of its op and of its group of weights (-1: none), its `kernels`, and the
    source (cell, node, node) of its weights. For each of its L + 1 values: the number of the buffer. Its reads are rows
    (layer, value, port, start, stop).
    """

    ops: np.ndarray
    groups: np.ndarray
    kernels: np.ndarray
    places: np.ndarray
    buffers: np.ndarray
    reads: np.ndarray
    output: int


@lru_cache(PROGRAMS_KEPT)
def program_arrays(program: Program) -> ProgramArrays:
    """Return the arrays of a program."""
    # Of each value: how much smaller its map is than the stem's (0: a single pixel), its cell and its depth there.
    scales = [1]
    depths = [(-1, 0)]
    buffers = [number((program.channels, 1))]
    ops, groups, places, reads = [], [], [], []
    for i, layer in enumerate(program.layers):
        scale = scales[layer.inputs[0]]
        scales.append(0 if layer.op == "mean" else scale * layer.stride)
        buffers.append(number((layer.c_out, scales[-1])))
        # A layer stands one deeper than the deepest value it reads of its own cell.
        cell, depth = max(depths[value] for value in layer.inputs)
        depths.append((layer.position, depth + 1 if cell == layer.position else 0))
        ops.append(number((*depths[-1], layer.op, _shape(layer, KERNEL_FIELDS if layer.op == "conv" else ()), scale)))
        groups.append(number(("group", _shape(layer, AROUND_WEIGHTS), scale)) if layer.weight is not None else -1)
        places.append((layer.weight[0], layer.weight[1], layer.weight[-1]) if layer.weight else (0, 0, 0))
        widths = [program.layers[value - 1].c_out if value else program.channels for value in layer.inputs]
        reads += [(i, *read) for read in _reads(layer, widths)]
    return ProgramArrays(
        np.array(ops, np.int64),
        np.array(groups, np.int64),
        np.array([layer.kernel * MOST_DILATION + layer.dilation for layer in program.layers], np.int64),
        np.array(places, np.int64).reshape(-1, 3),
        np.array(buffers, np.int64),
        np.array(reads, np.int64).reshape(-1, 5),
        program.output,
    )


def _shape(layer: Layer, without: Sequence[str]) -> tuple[Any, ...]:
    """What layers have in common that run as one, but for some fields."""
    return tuple(getattr(layer, name) for name in SHAPE_FIELDS if name not in without)


def _reads(layer: Layer, widths: Sequence[int]) -> Iterator[tuple[int, int, int, int]]:
    """(value, port, start, stop) of each input of a layer: the channels that it is added to."""
    start = 0
    for j, (value, width) in enumerate(zip(layer.inputs, widths, strict=True)):
        if layer.op == "concat":
            yield value, 0, start, start + width
            start += width
        else:
            yield value, j if layer.op == "gate" else 0, 0, layer.c_in


@dataclass(frozen=True)
class ProgramTable:
    """Programs end to end, with their ops, groups and buffers ranked in their own order.

    For each layer: `line`, which gives op, kernel and group (rows of `lines`), and the source of the weights. For each
    value: the buffer. For each read: the kind (rows of `kinds`: op, port, start, whether the op's input has been read
    before, buffer, stop), the layer that reads and the value read. `first_...` is where each program begins.
    """

    layers: list[Layer]
    group_keys: list[Any]
    buffer_keys: list[Any]
    lines: np.ndarray
    line: np.ndarray
    places: np.ndarray
    buffers: np.ndarray
    kinds: np.ndarray
    kind: np.ndarray
    reader: np.ndarray
    value: np.ndarray
    outputs: np.ndarray
    first_layer: np.ndarray
    first_value: np.ndarray
    first_read: np.ndarray

    @classmethod
    def of(cls, programs: Sequence[Program]) -> ProgramTable:
        arrays = [program_arrays(program) for program in programs]
        first_layer = starts([len(a.ops) for a in arrays])
        first_read = starts([len(a.reads) for a in arrays])
        first_value = first_layer[:-1] + np.arange(len(programs))  # A program has one value more than layers.
        _, op = ranked(np.concatenate([a.ops for a in arrays]))
        buffer_keys, buffers = ranked(np.concatenate([a.buffers for a in arrays]))
        # -1 for layers without weights, which have no rank among the groups.
        group = np.concatenate([a.groups for a in arrays])
        has_weights = group >= 0
        group_keys, group[has_weights] = ranked(group[has_weights])
        kernels = np.concatenate([a.kernels for a in arrays])
        lines, line = np.unique(np.stack([op, kernels, group], 1), axis=0, return_inverse=True)
        shifted = [
            a.reads + [layer, value, 0, 0, 0]
            for a, layer, value in zip(arrays, first_layer[:-1], first_value, strict=True)
        ]
        reader, value, port, start, stop = np.concatenate(shifted).T
        # All inputs of a layer enter port 0, but for the second one of a gate.
        input_ = reader * 2 + port
        again = np.r_[False, input_[1:] == input_[:-1]] & (start == 0)
        read_kinds = np.stack([op[reader], port, start, again, buffers[value], stop], 1)
        kinds, kind = np.unique(read_kinds, axis=0, return_inverse=True)
        return cls(
            layers=[layer for program in programs for layer in program.layers],
            group_keys=group_keys,
            buffer_keys=buffer_keys,
            lines=lines,
            line=line.ravel(),
            places=np.concatenate([a.places for a in arrays]),
            buffers=buffers,
            kinds=kinds,
            kind=kind.ravel(),
            reader=reader,
            value=value,
            outputs=np.array([a.output for a in arrays]),
            first_layer=first_layer,
            first_value=first_value,
            first_read=first_read,
        )

    def counts(
        self,
        kind: np.ndarray,
        n_kinds: int,
        first: np.ndarray,
    ) -> np.ndarray:
        """Return how often each of K kinds occurs in each program (P, K), whose entries of `kind` begin at `first`."""
        n_programs = len(first) - 1
        # The program of each entry; together with its kind one number, which bincount counts.
        program = np.repeat(np.arange(n_programs), np.diff(first))
        return np.bincount(program * n_kinds + kind, minlength=n_programs * n_kinds).reshape(-1, n_kinds)


def starts(lengths: Any) -> np.ndarray:
    """Return where each of K consecutive parts begins, and where the last one ends (K + 1,)."""
    return np.r_[0, np.cumsum(lengths)].astype(np.int64)
