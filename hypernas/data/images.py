"""Auxiliary images, on which target networks are trained: real images, mixtures, and two controls."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hypernas.data import own_images
from hypernas.data.catalogue import find, get_source, load_npz, remedy
from hypernas.errors import UserError

# Of the 1,797 digits the first 80 %.
N_DIGITS_TRAIN = 1437
# Images and labels in turn, those for training first.
FASHION_MNIST = ("fashion-mnist", "fashion-mnist-labels", "fashion-mnist-test", "fashion-mnist-test-labels")
# Images (M, C, H, W) and their labels (M,).
Labelled = tuple[np.ndarray, np.ndarray]


class Kind(NamedTuple):
    """The images that a target network must fit: their size (channels, side, side) and number of classes."""

    channels: int
    side: int
    n_classes: int


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


def image_names() -> list[str]:
    """Return the names that `load_images` accepts; several joined by `+` make a mixture."""
    return sorted(_LOADERS)


def check_images(name: str) -> list[str]:
    """Return the parts of the mixture `name`, usually one. Raise UserError if one is unknown or repeated."""
    if own_images.is_own(name):
        return [name]
    parts = name.split("+")
    # A mixture of a set with itself would give each class two numbers.
    different = set(parts)
    if len(different) < len(parts) or not different <= set(_LOADERS):
        known = ", ".join(image_names())
        raise UserError(f"images must be one of {known}, different ones joined by +, or a path, got {name!r}")
    return parts


def kind_of(name: str) -> Kind:
    """Return the kind of the auxiliary images `name` without loading them. Raise UserError if the name is unknown."""
    if own_images.is_own(name):
        own = _own(name)
        return Kind(own.train_images.shape[1], own.train_images.shape[2], own.n_classes)
    parts = [_LOADERS[part][1] for part in check_images(name)]
    channels, sides, classes = zip(*parts, strict=True)
    return Kind(max(channels), min(sides), sum(classes))


def load_images(name: str, n_images: int = 0) -> Images:
    """Return the auxiliary images `name`, with all or the first `n_images` of its training images.

    `digits` are always available, `cifar10` and `fashion-mnist` if their files are installed. `a+b` has the images of
    both, resized to the smaller side, and the classes of both. `digits-random-labels` and `noise` are controls without
    anything to learn. A path is a folder with one folder of images per class, or an npz file. Smaller sets are prefixes
    of larger ones and are standardised like the full set. Raise UserError for another name, a missing or altered file,
    or if there are fewer than `n_images`.
    """
    parts = check_images(name)
    loaded = [_own(part) if own_images.is_own(part) else _LOADERS[part][0]() for part in parts]
    images = loaded[0] if len(parts) == 1 else _mixture(loaded, kind_of(name))
    n = len(images.train_labels)
    if not 0 <= n_images <= n:
        raise UserError(f"n_images must be from 1 to {n} for {name}, or 0 for all, got {n_images}")
    if not n_images:
        return images
    # Seed 0 always: which images they are is no part of a training's chance.
    order = np.random.default_rng(0).permutation(n)
    chosen = torch.from_numpy(order[:n_images])
    return replace(
        images,
        train_images=images.train_images[chosen],
        train_labels=images.train_labels[chosen],
        source=f"{images.source}; {n_images:,} of those for training",
    )


@lru_cache(2)
def _own(name: str) -> Images:
    """Images of one's own, by their path."""
    train, test, source = own_images.read_own(name)
    return _standardised(name, source, train, test)


# The two sets that were asked for last are kept: most trainings of a process share theirs.
load_once = lru_cache(2)(load_images)


def _standardised(
    name: str,
    source: str,
    train: Labelled,
    test: Labelled,
) -> Images:
    """Images from two pairs of images (M, C, H, W) and labels (M,)."""
    mean = train[0].mean(axis=(0, 2, 3), keepdims=True, dtype=np.float64)
    deviation = train[0].std(axis=(0, 2, 3), keepdims=True, dtype=np.float64)

    def tensors(images: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
        # A channel of one colour stays 0 instead of 0 / 0.
        scaled = (images - mean) / np.maximum(deviation, 1e-8)
        return torch.from_numpy(scaled.astype(np.float32)), torch.from_numpy(labels.astype(np.int64))

    n_classes = int(train[1].max()) + 1
    return Images(name, *tensors(*train), *tensors(*test), n_classes=n_classes, source=source)


def _missing(name: str, mend: str) -> UserError:
    """The error for images whose files are not here."""
    return UserError(f"images {name!r} need a file that is not here: {mend}, or take images 'digits'")


def _digits() -> Images:
    """1,797 digits of 8 x 8 pixels from scikit-learn, split 1437 / 360 by a fixed permutation."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    # scikit-learn keeps the digits writer by writer; in that order the test images would be those of other hands.
    order = np.random.default_rng(0).permutation(len(digits.target))
    images, labels = digits.images[order][:, None], digits.target[order]
    source = "scikit-learn's digits: 8 x 8 grey images, 1,437 for training and 360 for test"
    train = images[:N_DIGITS_TRAIN], labels[:N_DIGITS_TRAIN]
    test = images[N_DIGITS_TRAIN:], labels[N_DIGITS_TRAIN:]
    return _standardised("digits", source, train, test)


def _cifar10() -> Images:
    """CIFAR-10 images from a local npz file with uint8 images (M, 32, 32, 3)."""
    path = find("cifar10")
    if path is None:
        raise _missing("cifar10", remedy(get_source("cifar10")))
    arrays = load_npz(path, ("x_train", "y_train", "x_test", "y_test"))
    # Stored with the colours last.
    train = arrays["x_train"].transpose(0, 3, 1, 2), arrays["y_train"]
    test = arrays["x_test"].transpose(0, 3, 1, 2), arrays["y_test"]
    n_train, n_test = len(train[1]), len(test[1])
    source = f"CIFAR-10 from JPEG copies: {n_train:,} images for training, {n_test:,} for test"
    return _standardised("cifar10", source, train, test)


def _fashion_mnist() -> Images:
    """Fashion-MNIST from its four IDX files; a border of two pixels makes 32 x 32 of 28 x 28, which can be halved."""
    found = {name: find(name) for name in FASHION_MNIST}
    missing = [f"`hypernas data fetch {name}`" for name, path in found.items() if path is None]
    if missing:
        commands = ", ".join(missing)
        raise _missing("fashion-mnist", f"{commands}, install Debian's dataset-fashion-mnist")
    parts = [_idx(name, path, 1 if "labels" in name else 3) for name, path in found.items() if path is not None]
    for name, shown, labels in zip(FASHION_MNIST[::2], parts[::2], parts[1::2], strict=True):
        if shown.shape[1:] != (28, 28) or labels.shape != shown.shape[:1]:
            got = f"{shown.shape} and {labels.shape}"
            raise UserError(f"{name} must hold images of 28 x 28 and a label each, got {got}: replace its files")
    # 28 x 28 pixels become 32 x 32, which can be halved to the end.
    margin = (2, 2)
    images = [np.pad(part, ((0, 0), margin, margin))[:, None] for part in parts[::2]]
    n_train, n_test = map(len, images)
    source = f"Fashion-MNIST: {n_train:,} images for training, {n_test:,} for test"
    return _standardised("fashion-mnist", source, (images[0], parts[1]), (images[1], parts[3]))


def _idx(
    name: str,
    path: Path,
    n_axes: int,
) -> np.ndarray:
    """The array of a gzipped IDX file: 0, 0, 8, number of axes, each length in four bytes, the values."""
    mend = remedy(get_source(name), path)
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} must be a whole gzip file, got {error}: {mend}") from error
    start = 4 + 4 * n_axes
    begun = content.startswith(bytes([0, 0, 8, n_axes])) and len(content) > start
    shape = np.frombuffer(content, ">u4", n_axes, 4).tolist() if begun else []
    if not begun or len(content) - start != math.prod(shape):
        rule = f"{path} must be a whole IDX file of bytes with {n_axes} axes"
        raise UserError(f"{rule}, got {len(content):,} bytes of another form: {mend}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _digits_random_labels() -> Images:
    """The digits with their labels dealt out anew, once and for all: as many of each class, and none to learn."""
    source = "scikit-learn's digits with their labels permuted"
    return _dealt_out(replace(_digits(), name="digits-random-labels", source=source))


def _noise() -> Images:
    """Gaussian images of the digits' shape, with the digits' labels permuted."""
    digits = _digits()
    rng = np.random.default_rng(2)
    # Another seed than that of the labels, so that they are independent.
    train = rng.standard_normal(digits.train_images.shape, dtype=np.float32)
    test = rng.standard_normal(digits.test_images.shape, dtype=np.float32)
    noise = replace(digits, name="noise", train_images=torch.from_numpy(train), test_images=torch.from_numpy(test))
    source = "Gaussian noise of 8 x 8 pixels with random labels, 1,437 images for training and 360 for test"
    return _dealt_out(replace(noise, source=source))


def _dealt_out(images: Images) -> Images:
    # Seeds 0, 1 and 2 belong to the digits' order, the dealing of labels and the noise: none repeats another.
    rng = np.random.default_rng(1)
    train = images.train_labels[rng.permutation(len(images.train_labels))]
    test = images.test_labels[rng.permutation(len(images.test_labels))]
    return replace(images, train_labels=train, test_labels=test)


def _mixture(parts: Sequence[Images], kind: Kind) -> Images:
    """All images of the parts in a fixed random order, of the smallest side and the most channels, classes in a row."""
    # The classes of a part are numbered after those of the parts before it.
    n_classes = [part.n_classes for part in parts[:-1]]
    offsets = np.cumsum([0, *n_classes]).tolist()

    def joined(which: str) -> Labelled:
        all_images, all_labels = [], []
        for part, offset in zip(parts, offsets, strict=True):
            resized = F.adaptive_avg_pool2d(getattr(part, f"{which}_images"), kind.side)
            # Grey images beside coloured ones get the same value in each channel.
            all_images.append(resized.expand(-1, kind.channels, -1, -1))
            all_labels.append(getattr(part, f"{which}_labels") + offset)
        images = torch.cat(all_images).numpy()
        labels = torch.cat(all_labels).numpy()
        order = np.random.default_rng(0).permutation(len(labels))
        return images[order], labels[order]

    name = "+".join(part.name for part in parts)
    source = "; ".join(part.source for part in parts)
    source += f"; all resized to {kind.side} x {kind.side}"
    return _standardised(name, source, joined("train"), joined("test"))


# Name -> what loads it, and its kind, which is known without loading it.
_LOADERS: dict[str, tuple[Callable[[], Images], Kind]] = {
    "cifar10": (_cifar10, Kind(3, 32, 10)),
    "digits": (_digits, Kind(1, 8, 10)),
    "digits-random-labels": (_digits_random_labels, Kind(1, 8, 10)),
    "fashion-mnist": (_fashion_mnist, Kind(1, 32, 10)),
    "noise": (_noise, Kind(1, 8, 10)),
}
