"""Tables and images as plain arrays, from files that are checked before they are read."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hypernas.errors import UserError
from hypernas.sources import Source, check, find, get_source, remedy, sources, status

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


Labelled = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Table:
    """A benchmark table: encodings and accuracies of its B architectures, in percent.

    `validation` (B,) float64 is the label a predictor is trained on, `test` (B,) float64 the one it is judged
    by; `columns` holds the encodings, B rows each; `source` is a sentence that says which table this is.
    """

    source: str
    kind: Literal["measured", "re-trained", "surrogate"]
    columns: Mapping[str, np.ndarray]
    validation: np.ndarray
    test: np.ndarray

    def __len__(self) -> int:
        return len(self.test)


@dataclass(frozen=True)
class Images:
    """Auxiliary images, standardised by the mean and deviation of each channel of the training images.

    train_images (M, C, H, W) float32, train_labels (M,) int64 in 0..n_classes-1; the same for test.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    n_classes: int
    source: str


def load_npz(path: str | Path, required: Mapping[str, int | tuple[int | None, ...]]) -> dict[str, np.ndarray]:
    """Read the `required` arrays of an npz file, without pickle.

    `required` gives for each array its number of axes, or its shape with None for any length. Raises
    UserError for a missing, truncated or altered file, a missing array, one of Python objects, a wrong shape.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            arrays = {name: file[name] for name in required if name in file.files}
    except FileNotFoundError as error:
        raise UserError(f"a table must be a file, found none at {path}: see `hypernas data list`") from error
    except Exception as error:  # a damaged file can raise anything
        raise UserError(
            f"{path} must be a whole npz file of plain arrays, but it is truncated or altered "
            f"({type(error).__name__}): replace it with a good copy"
        ) from error
    for name, shape in required.items():
        if name not in arrays:
            raise UserError(f"{path} must hold the array {name!r}, which it lacks: get a good copy")
        _check_shape(path, name, arrays[name], shape)
    return arrays


def _check_shape(path: Path, name: str, array: np.ndarray, shape: int | tuple[int | None, ...]) -> None:
    """Raise UserError where `array` has not the number of axes or the shape asked for."""
    if isinstance(shape, int):
        good, rule = array.ndim == shape, f"{shape} axes"
    else:
        good = array.ndim == len(shape) and all(
            length in (None, n) for length, n in zip(shape, array.shape, strict=True)
        )
        rule = f"shape ({', '.join('any' if length is None else str(length) for length in shape)})"
    if not good:
        raise UserError(
            f"{name} in {path} must have {rule}, got shape {array.shape}: replace the file with a good copy"
        )


class _Record:
    """Stands in for the record classes of analog-nasbench: attributes and no behaviour."""

    architecture: Any = None
    baseline_accuracy: Any = None


class _RecordUnpickler(pickle.Unpickler):
    """Admits the two record classes of analog-nasbench, both as `_Record`, and no other name."""

    admitted = frozenset({"Architecture", "DriftMeasurement"})

    def find_class(self, module: str, name: str) -> type:
        if module == "analognasbench.data" and name in self.admitted:
            return _Record
        raise pickle.UnpicklingError(f"{module}.{name} is not admitted")


def read_analog(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read NAS-Bench-201 re-trained on CIFAR-10 from the data file of analog-nasbench 0.1.3.

    Returns op ids (15625, 6) int64 and baseline accuracy (15625,) float64, percent, in the file's order. Ids
    are 0 skip, 1 none, 2 conv3x3, 3 conv1x1, 4 avgpool; edges are (0,1), (0,2), (0,3), (1,2), (1,3), (2,3).
    The checksum is compared before a byte is interpreted, and no class but the record's own is admitted.
    Raises UserError for any other file.
    """
    source, path = get_source("analog-nasbench"), Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} must be readable, got {error.strerror}: {remedy(source)}") from error
    check(source, path, content)
    op_ids, accuracy = _analog_records(content)
    different = len(np.unique(op_ids, axis=0)) if op_ids.shape == (15625, 6) else 0
    if different != 15625 or not np.isfinite(accuracy).all():
        raise UserError(
            f"{path} must hold 15625 different cells of 6 operations with finite accuracies, "
            f"got {op_ids.shape}: {remedy(source)}"
        )
    return op_ids, accuracy


def _analog_records(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Op ids (B, 6) and accuracies (B,) of a pickled dict of records. Raises UserError for anything else."""
    try:
        records = list(_RecordUnpickler(io.BytesIO(content)).load().values())
        op_ids = np.array([record.architecture for record in records], dtype=np.int64)
        accuracy = np.array([record.baseline_accuracy for record in records], dtype=np.float64)
    except Exception as error:  # a damaged pickle can raise anything
        mend = remedy(get_source("analog-nasbench"))
        raise UserError(f"analog-nasbench must hold its plain records, got {error}: {mend}") from error
    return op_ids, accuracy


def image_names() -> list[str]:
    """Names that `load_images` knows."""
    return sorted(_LOADERS)


def load_images(name: str) -> Images:
    """The auxiliary images `name`: `digits` (always there) or `cifar10` (where its file is found).

    Raises UserError for another name and for a missing or altered file.
    """
    if name not in _LOADERS:
        raise UserError(f"images must be one of {', '.join(image_names())}, got {name!r}")
    return _LOADERS[name]()


def _standardised(name: str, source: str, train: Labelled, test: Labelled) -> Images:
    """Images from two pairs of images (M, C, H, W) and labels (M,)."""
    mean = train[0].mean(axis=(0, 2, 3), keepdims=True, dtype=np.float64)
    deviation = train[0].std(axis=(0, 2, 3), keepdims=True, dtype=np.float64)

    def tensors(images: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
        scaled = ((images - mean) / np.maximum(deviation, 1e-8)).astype(np.float32)
        return torch.from_numpy(scaled), torch.from_numpy(labels.astype(np.int64))

    n_classes = int(train[1].max()) + 1
    return Images(name, *tensors(*train), *tensors(*test), n_classes=n_classes, source=source)


def _digits() -> Images:
    """1,797 digits of 8 x 8 pixels from scikit-learn, split 1437 / 360 by a fixed permutation."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images, labels = digits.images[order][:, None], digits.target[order]
    source = "scikit-learn's digits: 8 x 8 grey images, 1,437 for training and 360 for test"
    return _standardised("digits", source, (images[:1437], labels[:1437]), (images[1437:], labels[1437:]))


def _cifar10() -> Images:
    """CIFAR-10 images from a local npz file with uint8 images (M, 32, 32, 3)."""
    path = find("cifar10")
    if path is None:
        mend = remedy(get_source("cifar10"))
        raise UserError(f"images 'cifar10' need a file that is not here: {mend}, or take images 'digits'")
    images = (None, 32, 32, 3)
    arrays = load_npz(path, {"x_train": images, "y_train": 1, "x_test": images, "y_test": 1})
    train, test = ((arrays[f"x_{part}"].transpose(0, 3, 1, 2), arrays[f"y_{part}"]) for part in ("train", "test"))
    for shown, labels in (train, test):
        if len(shown) != len(labels):
            raise UserError(f"{path} must hold as many labels as images, got {len(labels)} and {len(shown)}")
    source = f"CIFAR-10 from JPEG copies: {len(train[1]):,} images for training, {len(test[1]):,} for test"
    return _standardised("cifar10", source, train, test)


_LOADERS: dict[str, Callable[[], Images]] = {"digits": _digits, "cifar10": _cifar10}
