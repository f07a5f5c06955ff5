"""Convert an official file of trained modules to our compact table, in one pass and with bounded memory.

The file is a sequence of TFRecords. A record is JSON: hash, epochs, adjacency matrix as text, operations, and a
ModelMetrics protocol buffer in base64. Its checksum as a whole has been compared, so nothing in it is checked again.
"""

from __future__ import annotations

import base64
import json
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hypernas.training.files import written

# Of the numbers of epochs after which official runs were evaluated, the one whose accuracies are labels and truth.
EPOCHS = 108
# Images behind an accuracy, 39 batches of 256: the official evaluation drops the rest of the 10,000.
IMAGES = 9984
# As the official file writes them; a row of the table holds their numbers.
OPS = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")
# Eight bytes of length, the least first, and four of a checksum; another checksum follows the payload.
HEADER, END = struct.Struct("<QI"), 4
# Protocol buffers hold a double as eight bytes, the least first.
DOUBLE = struct.Struct("<d")


def payloads(path: Path, progress: Callable[[int], object]) -> Iterator[bytes]:
    """Yield the payload of each TFRecord of a file; `progress` is called with the number of bytes of each."""
    with path.open("rb") as file:
        while header := file.read(HEADER.size):
            length, _ = HEADER.unpack(header)
            yield file.read(length)
            file.read(END)
            progress(HEADER.size + length + END)


def _varint(data: bytes, i: int) -> tuple[int, int]:
    """The number at byte i, and where it ends."""
    value = shift = 0
    while True:
        byte = data[i]
        # Seven bits a byte, the lowest first; the eighth bit says that another byte follows.
        value |= (byte & 0x7F) << shift
        i, shift = i + 1, shift + 7
        if byte < 0x80:
            return value, i


def protobuf(data: bytes) -> dict[int, list[Any]]:
    """Return the fields of a protocol buffer message: number -> values in order, as int, float (double) or bytes.

    >>> protobuf(bytes([0x10, 0x96, 0x01]))
    {2: [150]}
    """
    fields: dict[int, list[Any]] = {}
    i = 0
    while i < len(data):
        key, i = _varint(data, i)
        value: Any
        # The lowest three bits of a key are the wire type, the rest is the number of the field.
        wire_type = key & 7
        if wire_type == 1:
            (value,) = DOUBLE.unpack_from(data, i)
            i += DOUBLE.size
        else:
            value, i = _varint(data, i)
        if wire_type == 2:
            # The number was the length of what follows.
            end = i + value
            value, i = data[i:end], end
        fields.setdefault(key >> 3, []).append(value)
    return fields


def _module(matrix: str, operations: list[str], parameters: int) -> tuple[Any, ...]:
    """A row of the table: vertices, edges as bits, inner operations, trainable parameters."""
    n = len(operations)
    bits = 0
    for y in range(n):
        for x in range(y):
            edge = int(matrix[x * n + y])
            bits |= edge << (x + y * (y - 1) // 2)
    # 255 stands for no vertex.
    ops = [OPS.index(op) for op in operations[1:-1]] + [255] * (7 - n)
    return n, bits, ops, parameters


def convert(official: Path, table: Path, progress: Callable[[int], object] = lambda n: None) -> None:
    """Convert the `official` file to the compact table `table`, rows sorted by hash.

    The table is written under a temporary name and renamed. `progress` is called with the number of bytes of each part.
    Raise UserError if the disk is full.
    """
    modules = {}
    runs: defaultdict[str, list[Any]] = defaultdict(list)
    for payload in payloads(official, progress):
        name, epochs, matrix, operations, encoded = json.loads(payload)
        if epochs != EPOCHS:
            continue
        metrics = protobuf(base64.b64decode(encoded))
        # Of the three evaluations of a run, at its beginning, halfway and at its end, the last.
        final = protobuf(metrics[1][2])
        (seconds,), (validation,), (test,) = final[2], final[4], final[5]
        run = seconds, round(validation * IMAGES), round(test * IMAGES)
        # The official file lists a module once a run, each time with its whole description, and some runs twice.
        (parameters,) = metrics[2]
        modules[name] = _module(matrix, operations.split(","), parameters)
        if run not in runs[name]:
            runs[name].append(run)
    names = sorted(modules)
    rows = [modules[name] for name in names]
    n_vertices, bits, ops, parameters = zip(*rows, strict=True)
    # (B, 3, 3): three runs, of each the seconds, and images named right in validation and test.
    correct = np.array([runs[name] for name in names])
    _, validation, test = np.moveaxis(correct, 2, 0)
    # A column for 4, 12, 36 and 108 epochs each, as in the compact table of others; only the last is known.
    val_correct = np.zeros((len(names), 4), np.uint16)
    val_correct[:, -1] = validation[:, 0]
    columns = {
        "module_hash": np.array([list(bytes.fromhex(name)) for name in names], np.uint8),
        "n_vertices": np.array(n_vertices, np.uint8),
        "adj_bits": np.array(bits, np.uint32),
        "ops": np.array(ops, np.uint8),
        "trainable_parameters": np.array(parameters, np.int32),
        "test_correct_sum3": test.sum(1).astype(np.uint16),
        "val_index": np.arange(len(names), dtype=np.uint32),
        "val_correct": val_correct,
    }
    # Renamed when whole, so that an interrupted conversion leaves no table that looks like one.
    with written(table, "free space and repeat the command") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **columns)  # type: ignore[arg-type]
