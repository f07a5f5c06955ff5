"""Images that are trained on, changed at random: moved, mirrored, a square of them blank."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

MARGIN = 4


def augmented(images: Tensor, rng: np.random.Generator, cutout: int = 16) -> Tensor:
    """images (M, C, H, W) -> the same shape: each moved by up to 4 pixels, mirrored or not, and with a square of side
    `cutout` set to 0 whose middle lies anywhere in it (DeVries and Taylor 2017), 0 for none.

    What moves in from beyond the border is 0, the mean colour of standardised images.
    """
    m, c, h, w = images.shape
    moved = rng.integers(2 * MARGIN + 1, size=(2, m, 1))
    rows, columns = moved[0] + np.arange(h), moved[1] + np.arange(w)
    mirrored = rng.random((m, 1)) < 0.5
    columns = np.where(mirrored, columns[:, ::-1], columns)
    middle = rng.integers([[[h]], [[w]]], size=(2, m, 1))
    blank = [np.abs(2 * (np.arange(n) - at) + 1) < cutout for n, at in zip((h, w), middle, strict=True)]
    rows, columns, hole = (
        torch.from_numpy(np.ascontiguousarray(each)).to(images.device)
        for each in (rows, columns, blank[0][:, :, None] & blank[1][:, None, :])
    )
    at = torch.arange(m, device=images.device)[:, None, None, None]
    channel = torch.arange(c, device=images.device)[:, None, None]
    padded = F.pad(images, (MARGIN,) * 4)
    return padded[at, channel, rows[:, None, :, None], columns[:, None, None, :]].masked_fill(hole[:, None], 0.0)
