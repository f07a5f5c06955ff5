"""Images of one's own: a folder with a folder of pictures for each class, or an npz file of arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hypernas.errors import UserError

# Pictures of other sizes are resized to the side of CIFAR-10, which all spaces can halve often enough.
SIDE = 32
# A fifth is for test, as of the digits.
TEST_SHARE = 0.2
ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"}
WHOLE = ("images", "labels")
PARTS = ("x_train", "y_train", "x_test", "y_test")
Labelled = tuple[np.ndarray, np.ndarray]


def is_own(name: str) -> bool:
    """Whether the name of images is a path."""
    return "/" in name or "\\" in name or name.endswith(".npz")


def read_own(name: str) -> tuple[Labelled, Labelled, str]:
    """Training and test images (M, C, H, W) with labels (M,), and a sentence on what they are.

    An npz file holds `x_train`, `y_train`, `x_test`, `y_test`, or `images` and `labels`, of which a fifth, the same
    whenever it is read, is for test; images are (M, H, W), (M, H, W, C) or (M, C, H, W) with one or three channels. The
    classes of a folder are its folders in order of their names. Raises UserError for anything else.
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
    _check(path, images, labels)
    order = np.random.default_rng(0).permutation(len(labels))
    n_test = int(TEST_SHARE * len(labels))
    test, train = order[:n_test], order[n_test:]
    return (images[train], labels[train]), (images[test], labels[test])


def _read_npz(path: Path) -> tuple[Labelled, Labelled]:
    try:
        with np.load(path, allow_pickle=False) as file:
            present = {*WHOLE, *PARTS} & {*file.files}
            arrays = {name: file[name] for name in present}
    except Exception as error:  # a damaged file can raise anything
        raise UserError(f"{path} must be a whole npz file of plain arrays, got {type(error).__name__}") from error
    names = WHOLE if {*WHOLE} <= arrays.keys() else PARTS
    if not {*names} <= arrays.keys():
        held = ", ".join(sorted(arrays)) or "none of these"
        raise UserError(f"{path} must hold {' and '.join(WHOLE)}, or {', '.join(PARTS)}, got {held}")
    pairs = []
    for name, name_of_labels in zip(names[::2], names[1::2], strict=True):
        images, labels = arrays[name], arrays[name_of_labels]
        if images.ndim not in (3, 4) or labels.ndim != 1:
            got = f"{images.shape} and {labels.shape}"
            raise UserError(f"{name} and {name_of_labels} in {path} must have 3 or 4 axes and one, got {got}")
        pairs.append((_channels_first(path, images), labels))
    if names is WHOLE:
        return _split(path, *pairs[0])
    for images, labels in pairs:
        _check(path, images, labels)
    train, test = pairs
    return train, test


def _channels_first(path: Path, images: np.ndarray) -> np.ndarray:
    if images.ndim == 3:
        return images[:, None]
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
    # Hidden folders are those of other programs, such as .ipynb_checkpoints.
    folders = [folder for folder in path.iterdir() if folder.is_dir()]
    classes = sorted(folder for folder in folders if not folder.name.startswith("."))
    pictures: list[np.ndarray] = []
    labels: list[int] = []
    for label, folder in enumerate(classes):
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in ENDINGS)
        if not files:
            endings = ", ".join(sorted(ENDINGS))
            raise UserError(f"a class folder must hold pictures ({endings}), {folder} holds none")
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
    n, n_labels = len(images), len(labels)
    if n != n_labels or n < 2:
        raise UserError(f"{path} must hold a label an image and two or more, got {n_labels} and {n}")
    height, width = images.shape[2:]
    # Target networks halve their maps twice.
    if height != width or height % 4:
        raise UserError(f"images of {path} must be square with sides of a multiple of 4, got {height, width}")
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise UserError(f"labels of {path} must be whole numbers from 0 up, got {labels[:3].tolist()}")
    if not np.isfinite(images).all():
        raise UserError(f"images of {path} must be finite numbers, some are not")
