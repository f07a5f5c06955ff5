"""Tables as plain arrays, from files that are checked before they are read. Images are in `images`."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hypernas.data.catalogue import Source, check, find, get_source, load_npz, remedy, sources, status
from hypernas.data.images import Images, image_names, load_images
from hypernas.errors import UserError

__all__ = [
    "Images",
    "Source",
    "Table",
    "find",
    "image_names",
    "load_images",
    "load_npz",
    "read_analog",
    "sources",
    "status",
]


@dataclass(frozen=True)
class Table:
    """A benchmark table: the encodings and accuracies, in percent, of its B architectures.

    Predictors train on `validation` (B,) float64 and are judged by `test` (B,) float64. `columns` holds the encodings,
    B rows each. `source` is a sentence that names the table.
    """

    source: str
    kind: Literal["measured", "re-trained", "surrogate"]
    columns: Mapping[str, np.ndarray]
    validation: np.ndarray
    test: np.ndarray

    def __len__(self) -> int:
        return len(self.test)


class _Record:
    """Stands in for the record classes of analog-nasbench: attributes and no behaviour."""

    # Only these two attributes are ever read; whatever else the file sets is harmless data.
    architecture: Any = None
    baseline_accuracy: Any = None


class _RecordUnpickler(pickle.Unpickler):
    """Admits the two record classes of analog-nasbench, both as `_Record`, and no other name."""

    # A pickle may name any callable of any module; these two names stand for plain data, and nothing else is looked up.
    admitted = frozenset({"Architecture", "DriftMeasurement"})

    def find_class(self, module: str, name: str) -> type:
        if module == "analognasbench.data" and name in self.admitted:
            return _Record
        raise pickle.UnpicklingError(f"{module}.{name} is not admitted")


def read_analog(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read NAS-Bench-201 as re-trained on CIFAR-10 from the data file of analog-nasbench 0.1.3.

    Return op ids (15625, 6) int64 and baseline accuracy (15625,) float64 in percent, in the order of the file. Ids are
    0 skip, 1 none, 2 conv3x3, 3 conv1x1, 4 avgpool; edges are (0,1), (0,2), (0,3), (1,2), (1,3), (2,3). The checksum is
    compared before a byte is interpreted, and the file may contain no class except its record's own. Raise UserError
    for any other file.
    """
    source, path = get_source("analog-nasbench"), Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} must be readable, got {error.strerror}: {remedy(source)}") from error
    check(source, path, content)
    records = list(_RecordUnpickler(io.BytesIO(content)).load().values())
    op_ids = np.array([record.architecture for record in records], np.int64)
    return op_ids, np.array([record.baseline_accuracy for record in records], np.float64)
