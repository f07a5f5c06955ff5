"""Your own images: a folder with one folder of pictures per class, or an npz file of arrays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hypernas.errors import UserError

# Pictures of other sizes are resized to the side of CIFAR-10, which all spaces can halve often enough.
SIDE = 32
# Of images that come without a split of their own.
TEST_SHARE = 0.2
# What Pillow reads in any installation.
ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"}
# Names of the arrays of an npz file: not yet split, or split already.
WHOLE = ("images", "labels")
PARTS = ("x_train", "y_train", "x_test", "y_test")
# Images (M, C, H, W) and their labels (M,).
Labelled = tuple[np.ndarray, np.ndarray]


def is_own(name: str) -> bool:
    """Return whether a name of images is a path."""
    return "/" in name or "\\" in name or name.endswith(".npz")


def read_own(name: str) -> tuple[Labelled, Labelled, str]:
    """Return training and test images (M, C, H, W) with labels (M,), and a sentence that describes them.

    An npz file holds `x_train`, `y_train`, `x_test`, `y_test`, or `images` and `labels`, of which a fixed fifth becomes
    the test set. Images are (M, H, W), (M, H, W, C) or (M, C, H, W) with one or three channels. The classes of a folder
    are its subfolders, sorted by name. Raise UserError for anything else.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        train, test = _split(path, *_read_folder(path))
    elif path.is_file():
        train, test = _read_npz(path)
    else:
        raise UserError(f"images of one's own must be a folder of class folders or an npz file, {path} is neither")
    source = f"own images {path.name}: {len(train[1]):,} for training, {len(test[1]):,} for test"
    return train, test, source


def _split(
    path: Path,
    images: np.ndarray,
    labels: np.ndarray,
) -> tuple[Labelled, Labelled]:
    """Images for training and a fifth for test."""
    _check(path, images, labels)
    # One seed for all readers, so that no image changes sides between two runs.
    order = np.random.default_rng(0).permutation(len(labels))
    n_test = int(TEST_SHARE * len(labels))
    test = order[:n_test]
    train = order[n_test:]
    return (images[train], labels[train]), (images[test], labels[test])


def _read_npz(path: Path) -> tuple[Labelled, Labelled]:
    try:
        # NumPy leaves a file open that it was given by name and that is damaged.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in (*WHOLE, *PARTS) if name in file.files}
    except Exception as error:  # a damaged file can raise anything
        raise UserError(f"{path} must be a whole npz file of plain arrays, got {type(error).__name__}") from error
    present = set(arrays)
    if present.issuperset(WHOLE):
        images, labels = _pair(path, arrays, *WHOLE)
        return _split(path, images, labels)
    if not present.issuperset(PARTS):
        either = " and ".join(WHOLE)
        held = ", ".join(sorted(arrays)) or "none of these"
        raise UserError(f"{path} must hold {either}, or {', '.join(PARTS)}, got {held}")
    train = _pair(path, arrays, *PARTS[:2])
    test = _pair(path, arrays, *PARTS[2:])
    _check(path, *train)
    _check(path, *test)
    return train, test


def _pair(
    path: Path,
    arrays: Mapping[str, np.ndarray],
    x: str,
    y: str,
) -> Labelled:
    """The arrays called `x` and `y`, channels first."""
    images = arrays[x]
    labels = arrays[y]
    if images.ndim not in (3, 4) or labels.ndim != 1:
        rule = f"{x} and {y} in {path} must have 3 or 4 axes and one"
        raise UserError(f"{rule}, got {images.shape} and {labels.shape}")
    return _channels_first(path, images), labels


def _channels_first(path: Path, images: np.ndarray) -> np.ndarray:
    if images.ndim == 3:
        return images[:, None]
    # Colours first, as PyTorch has them, or last, as pictures are read.
    if images.shape[1] in (1, 3):
        return images
    if images.shape[3] in (1, 3):
        return images.transpose(0, 3, 1, 2)
    raise UserError(f"images of {path} must have one or three channels, got shape {images.shape}")


def _read_folder(path: Path) -> Labelled:
    """All pictures of all class folders, grey ones in three channels too."""
    try:
        from PIL import Image
    except ImportError as error:
        raise UserError("pictures need Pillow: pip install 'hypernas[book]'") from error
    # Hidden folders, such as .git, are no classes.
    folders = [folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith(".")]
    classes = sorted(folders)
    pictures: list[np.ndarray] = []
    labels: list[int] = []
    for label, folder in enumerate(classes):
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in ENDINGS)
        if not files:
            kinds = ", ".join(sorted(ENDINGS))
            raise UserError(f"a class folder must hold pictures ({kinds}), {folder} holds none")
        pictures += [_picture(Image, file) for file in files]
        labels += [label] * len(files)
    if len(classes) < 2:
        raise UserError(f"a folder of images must hold a folder for each of two classes or more, {path} does not")
    return np.stack(pictures), np.array(labels)


def _picture(image: Any, file: Path) -> np.ndarray:
    try:
        with image.open(file) as opened:
            resized = opened.convert("RGB").resize((SIDE, SIDE))
            return np.asarray(resized, np.uint8).transpose(2, 0, 1)
    except Exception as error:  # a damaged picture can raise anything
        raise UserError(f"a picture must be whole, {file} is not ({error}): remove or mend it") from error


def _check(
    path: Path,
    images: np.ndarray,
    labels: np.ndarray,
) -> None:
    """Raise UserError for images (M, C, H, W) and labels (M,) that no target network can be trained on."""
    n = len(images)
    if n != len(labels) or n < 2:
        raise UserError(f"{path} must hold a label an image and two or more, got {len(labels)} and {n}")
    height, width = images.shape[2:]
    # Target networks halve the map twice.
    if height != width or height % 4:
        raise UserError(f"images of {path} must be square with sides of a multiple of 4, got {images.shape[2:]}")
    whole = np.issubdtype(labels.dtype, np.integer)
    if not whole or labels.min() < 0:
        first = labels[:3].tolist()
        raise UserError(f"labels of {path} must be whole numbers from 0 up, got {first}")
    if not np.isfinite(images).all():
        raise UserError(f"images of {path} must be finite numbers, some are not")
