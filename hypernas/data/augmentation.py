"""Random augmentation of training images: shifts, flips and cutout."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Pixels by which an image is moved at most.
MARGIN = 4


def augmented(
    images: Tensor,
    rng: np.random.Generator,
    cutout: int = 16,
) -> Tensor:
    """Return images (M, C, H, W), each shifted by up to 4 pixels, flipped at random, and with one square set to 0.

    The square has side `cutout` (0 for none) and its centre lies anywhere in the image (DeVries and Taylor 2017).
    Pixels shifted in from outside are 0, the mean colour of standardised images.
    """
    m, c, h, w = images.shape
    # Rows and columns that are read, in an image with a margin around it.
    moved = rng.integers(2 * MARGIN + 1, size=(2, m, 1))
    rows = moved[0] + np.arange(h)
    columns = moved[1] + np.arange(w)
    # Half of the images are mirrored.
    mirrored = rng.random((m, 1)) < 0.5
    columns = np.where(mirrored, columns[:, ::-1], columns)
    # The middle may lie at the border, so that the square is cut off there, as in the original code.
    middle = rng.integers([[[h]], [[w]]], size=(2, m, 1))
    blank_rows = _near(middle[0], h, cutout)
    blank_columns = _near(middle[1], w, cutout)
    hole = blank_rows[:, :, None] & blank_columns[:, None, :]

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(images.device)

    # One indexing with four index tensors moves, mirrors and cuts all images at once.
    image = torch.arange(m, device=images.device)[:, None, None, None]
    channel = torch.arange(c, device=images.device)[:, None, None]
    row = tensor(rows)[:, None, :, None]
    column = tensor(columns)[:, None, None, :]
    padded = F.pad(images, (MARGIN,) * 4)
    return padded[image, channel, row, column].masked_fill(tensor(hole)[:, None], 0.0)


def _near(
    middle: np.ndarray,
    n: int,
    side: int,
) -> np.ndarray:
    """Which of n places (M, n) lie in the span of length `side` around `middle` (M, 1)."""
    # Doubled, so that a square of even side, whose middle lies between two pixels, needs no fractions.
    twice_the_distance = np.abs(2 * (np.arange(n) - middle) + 1)
    return twice_the_distance < side
