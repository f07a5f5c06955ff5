"""Convert an official file of trained modules to our compact table, in one pass and with bounded memory.

A record is JSON: hash, epochs, adjacency matrix as text, operations, and a ModelMetrics protocol buffer in base64.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hypernas.data.tfrecord import records
from hypernas.errors import UserError
from hypernas.training.files import written

# Epochs after which the official runs were evaluated, each a training of its own.
EPOCHS = (4, 12, 36, 108)
# Trainings of each module at each number of epochs.
RUNS = 3
# Images behind an accuracy, 39 batches of 256: the official evaluation drops the rest of the 10,000.
IMAGES = 9984
# As the official file writes them; a row of the table holds their numbers.
OPS = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")
# A row of the table: vertices, adjacency bits, five operations, trainable parameters.
MODULE = struct.Struct("<BIBBBBBi")
# Protocol buffers hold a double as eight bytes, the least first.
DOUBLE = struct.Struct("<d")
# Field number -> its values in order; a repeated field has several.
Fields = dict[int, list[Any]]


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


def protobuf(data: bytes) -> Fields:
    """Return the fields of a protocol buffer message: number -> values, as int (varint), float (double) or bytes.

    Raise ValueError if the bytes are not such a message.

    >>> protobuf(bytes([0x10, 0x96, 0x01]))
    {2: [150]}
    """
    fields: Fields = {}
    i = 0
    try:
        while i < len(data):
            key, i = _varint(data, i)
            value: Any
            # The lowest three bits of a key are the wire type, the rest is the number of the field.
            if key & 7 == 0:
                value, i = _varint(data, i)
            elif key & 7 == 1:
                value, i = DOUBLE.unpack_from(data, i)[0], i + 8
            elif key & 7 == 2:
                length, i = _varint(data, i)
                value, i = data[i : i + length], i + length
            elif key & 7 == 5:
                value, i = data[i : i + 4], i + 4
            else:
                raise ValueError(f"wire type {key & 7}")
            fields.setdefault(key >> 3, []).append(value)
    except (IndexError, struct.error) as error:
        raise ValueError("cut short") from error
    if i > len(data):
        raise ValueError("cut short")
    return fields


class Modules:
    """The modules read so far and their runs, growing row by row."""

    def __init__(self) -> None:
        self.rows: dict[bytes, int] = {}
        self.modules: list[bytes] = []
        # Plain arrays hold the 5 million runs in 60 MB; as Python numbers they would take some ten times that.
        self.runs = array("B")
        self.seconds, self.validation, self.test = array("d"), array("H"), array("H")
        self.duplicates = 0

    def add(self, payload: bytes) -> None:
        """Add one record. A duplicate is counted and skipped. Raise ValueError if the record is malformed."""
        name, epochs, matrix, operations, encoded = json.loads(payload)
        metrics = protobuf(base64.b64decode(encoded, validate=True))
        final = protobuf(metrics[1][2])
        seconds, validation, test = final[2][-1], _correct(final[4][-1]), _correct(final[5][-1])
        module = _module(matrix, operations.split(","), metrics[2][-1])
        row = self.rows.setdefault(bytes.fromhex(name), len(self.modules))
        if row == len(self.modules):
            self.modules.append(module)
            self.runs.extend([0] * len(EPOCHS))
            for values in (self.seconds, self.validation, self.test):
                values.extend([0] * (len(EPOCHS) * RUNS))
        # The official file lists a module once a run, each time with its whole description.
        elif self.modules[row] != module:
            raise ValueError(f"module {name} is described in two ways")
        cell = row * len(EPOCHS) + _index("epochs", epochs, EPOCHS)
        start, taken = cell * RUNS, self.runs[cell]
        run = (seconds, validation, test)
        if run in ((self.seconds[i], self.validation[i], self.test[i]) for i in range(start, start + taken)):
            self.duplicates += 1
            return
        if taken == RUNS:
            raise ValueError(f"module {name} has more than {RUNS} runs of {epochs} epochs")
        self.seconds[start + taken], self.validation[start + taken], self.test[start + taken] = run
        self.runs[cell] += 1

    def columns(self) -> dict[str, np.ndarray]:
        """Return the arrays of the compact table, rows sorted by hash.

        Raise ValueError if runs of 108 epochs are missing.
        """
        shape = (len(self.modules), len(EPOCHS))
        # Labels and truth are those of 108 epochs; a file that ends early lacks some.
        short = np.flatnonzero(np.array(self.runs).reshape(shape)[:, -1] < RUNS)
        if len(short) or not self.modules:
            raise ValueError(
                f"{len(short):,} of {len(self.modules):,} modules have fewer than {RUNS} runs of 108 epochs"
            )
        names = sorted(self.rows)
        order = np.array([self.rows[name] for name in names])
        kinds = [("n", "u1"), ("bits", "<u4"), ("ops", "u1", 5), ("parameters", "<i4")]
        modules = np.frombuffer(b"".join(self.modules), np.dtype(kinds))[order]
        seconds, validation, test = (
            np.array(values).reshape(*shape, RUNS)[order] for values in (self.seconds, self.validation, self.test)
        )
        return {
            "module_hash": np.frombuffer(b"".join(names), np.uint8).reshape(-1, 16),
            "n_vertices": modules["n"], "adj_bits": modules["bits"], "ops": modules["ops"],
            "trainable_parameters": modules["parameters"],
            "test_correct_sum3": test[:, -1].sum(1).astype(np.uint16), "test_correct": test[:, -1],
            "val_index": np.arange(len(names), dtype=np.uint32), "val_correct": validation[:, :, 0],
            "val_correct_108": validation[:, -1], "val_train_time_108": seconds[:, -1, 0].astype(np.float32),
        }  # fmt: skip


def _index(
    what: str,
    value: Any,
    known: tuple[Any, ...],
) -> int:
    if value not in known:
        raise ValueError(f"{what} must be one of {', '.join(map(str, known))}, got {value!r}")
    return known.index(value)


def _correct(accuracy: float) -> int:
    """Images named right, of the 9,984 that an accuracy counts."""
    correct = round(accuracy * IMAGES)
    # An accuracy is a share of whole images: anything else means that the field was read wrongly.
    if not 0 <= correct <= IMAGES or abs(accuracy * IMAGES - correct) > 0.01:
        raise ValueError(f"accuracy {accuracy} is no share of {IMAGES:,} images")
    return correct


def _module(
    matrix: str,
    operations: list[str],
    parameters: int,
) -> bytes:
    """A module packed into a row of the table: vertices, edges as bits, inner operations, trainable parameters."""
    n = math.isqrt(len(matrix))
    if n * n != len(matrix) or n != len(operations) or not 2 <= n <= 7 or set(matrix) - {"0", "1"}:
        raise ValueError(f"adjacency {matrix!r} does not fit the operations {','.join(operations)}")
    bits = 0
    for x in range(n):
        for y in range(n):
            if matrix[x * n + y] == "1":
                if y <= x:
                    raise ValueError(f"adjacency {matrix!r} is not upper triangular")
                bits |= 1 << (x + y * (y - 1) // 2)
    # 255 stands for no vertex.
    ops = [_index("operation", op, OPS) for op in operations[1:-1]] + [255] * (7 - n)
    return MODULE.pack(n, bits, *ops, parameters)


def convert(
    official: Path,
    table: Path,
    progress: Callable[[int], object] = lambda n: None,
) -> int:
    """Convert the `official` file to the compact table `table`. Return the number of duplicates.

    The table is written under a temporary name and renamed. `progress` is called with the number of bytes of each part.
    Raise UserError if the file is damaged or the disk is full.
    """
    modules = Modules()
    place = "its beginning"
    try:
        for position, payload in records(official, progress):
            place = f"the record at byte {position:,}"
            modules.add(payload)
        place = "the whole"
        columns = modules.columns()
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error, binascii.Error) as error:
        if isinstance(error, UserError):
            raise
        rule = f"{official} must hold three runs of every module"
        raise UserError(f"{rule}, but {place} cannot be read ({error}): fetch it again") from error
    # Renamed when whole, so that an interrupted conversion leaves no table that looks like one.
    with written(table, "free space and repeat the command") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **columns)  # type: ignore[arg-type]
    return modules.duplicates
