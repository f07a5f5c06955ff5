"""Once-For-All MobileNetV3, width 1.0 (Cai et al. 2020): the network, measured subnets, the accuracy predictor."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hypernas.data import load_npz
from hypernas.errors import UserError
from hypernas.graph import Architecture, GraphBatch, collate
from hypernas.method.target_network import Program, ProgramWriter
from hypernas.spaces.mbconv import (
    HARD_SWISH,
    RELU,
    Block,
    activated_stem,
    block_keys,
    divisible,
    write_block,
    write_last,
)

KERNELS, EXPANSIONS, DEPTHS = (3, 5, 7), (3, 4, 6), (2, 3, 4)
STAGES, LONGEST = 5, 4
LAYERS = STAGES * LONGEST
CHANNELS, WIDTHS, LAST = 16, (24, 40, 80, 112, 160), (960, 1280)
STRIDES, SMALL_STRIDES = (2, 2, 2, 1, 2), (1, 2, 1, 1, 2)
SQUEEZES = (False, True, False, True, True)
ACTIVATIONS = (RELU, RELU, HARD_SWISH, HARD_SWISH, HARD_SWISH)
RESOLUTIONS = tuple(range(112, 225, 16))
PREDICTOR_WIDTHS = (2 * 3 * LAYERS + len(RESOLUTIONS), 400, 400, 400, 1)
COLUMNS: dict[str, tuple[str, int, type]] = {
    "ks": ("ks", LAYERS, int), "e": ("e", LAYERS, int), "d": ("d", STAGES, int), "resolution": ("r", 1, int),
    "accuracy": ("top1_mean", 1, float), "evaluations": ("n_evals", 1, int), "parameters": ("params", 1, int),
    "multiply_adds": ("macs", 1, int),
}  # fmt: skip
Stage = tuple[tuple[int, int], ...]


def network_blocks(stages: Sequence[Stage], channels: int = CHANNELS, small: bool = False) -> list[list[Block]]:
    """The blocks (kernel, expansion) of each stage at a stem of `channels`.

    Half the stem divides all widths, as 8 does at 16 channels. `small` images keep their size in stages 1 and 3.
    """
    divisor, c_in = max(1, channels // 2), channels
    found: list[list[Block]] = []
    for s, stage in enumerate(stages):
        width, stride = divisible(WIDTHS[s] * channels / CHANNELS, divisor), (SMALL_STRIDES if small else STRIDES)[s]
        found.append([])
        for i, (kernel, expansion) in enumerate(stage):
            middle = divisible(c_in * expansion, divisor)
            squeeze = divisible(middle // 4, divisor) if SQUEEZES[s] else 0
            found[-1].append(Block(kernel, middle, width, 1 if i else stride, squeeze, ACTIVATIONS[s]))
            c_in = width
    return found


def network(stages: Sequence[Stage], channels: int, blocks_per_stage: int, stem_stride: int) -> Program:
    """The whole network: stem, a fixed block, the first blocks of each stage, the last two convolutions.

    Stage s has the nodes input, those of its blocks, output. The fixed block takes its weights from the input of the
    first stage and the edge from there, the last convolutions from the output of the last stage and the edge to it.

    NOTE[PAPER]: paper says nothing of how a network for 224 x 224 pixels meets smaller images; we drop the
    strides of the first and third stage too where stem_stride is 1; because 32-fold reduction leaves a digit one pixel.
    """
    writer, c_in = ProgramWriter(channels, stem_stride, position=0), channels
    x = write_block(writer, activated_stem(writer), channels, Block(3, channels, channels), [(0, 0), (0, 0, 1)])
    for writer.position, blocks in enumerate(network_blocks(stages, channels, stem_stride == 1)):
        squeeze = SQUEEZES[writer.position]
        for i, block in enumerate(blocks[:blocks_per_stage]):
            keys = block_keys(writer.position, 1 + i * (3 + squeeze), squeeze)
            x = write_block(writer, x, c_in, block, list(keys))
            c_in = block.c_out
    output = 1 + len(stages[-1]) * (3 + SQUEEZES[-1])
    last = [divisible(width * channels / CHANNELS, max(1, channels // 2)) for width in LAST]
    return write_last(writer, x, (c_in, *last), [(STAGES - 1, output), (STAGES - 1, output - 1, output)])


def read_measured(path: str | Path) -> dict[str, np.ndarray]:
    """The measured subnets: `ks` and `e` (B, 20), `d` (B, 5), 0 for unused layers; `accuracy` (B,) percent,
    `parameters`, `multiply_adds`, `evaluations`, `resolution` (B,).

    Raises UserError for a file that is truncated or altered.
    """
    found = {}
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for name, (column, width, kind) in COLUMNS.items():
            values = np.array([[kind(value) for value in row[column].split()] for row in rows])
            found[name] = values[:, 0] if width == 1 else values.reshape(len(rows), width)
    except (OSError, ValueError, KeyError, AttributeError, IndexError, csv.Error) as error:
        raise UserError(
            f"{path} must be a whole table of measured subnets, but it is truncated or altered "
            f"({type(error).__name__}): replace it with a good copy"
        ) from error
    return found


class AccuracyPredictor:
    """The official accuracy predictor, a query oracle: four linear layers on one-hot kernels, expansions, resolution.

    A surrogate, no measurement: a model of 16,000 subnets' accuracy on 10,000 images held out of ImageNet's training
    set. With the measured subnets its Kendall tau is 0.88, but its percents lie 5.9 above theirs. `decode` gives the
    kernels and expansions (B, 20) of a GraphBatch. Raises UserError for a damaged file.
    """

    kind = "surrogate"
    source = "the official Once-For-All accuracy predictor (a surrogate, not measured)"

    def __init__(
        self, path: str | Path, decode: Callable[[GraphBatch], tuple[np.ndarray, np.ndarray]], resolution: int = 224
    ) -> None:
        if resolution not in RESOLUTIONS:
            raise UserError(f"resolution must be one of {', '.join(map(str, RESOLUTIONS))}, got {resolution}")
        shapes: dict[str, Any] = {}
        for i, (n_in, n_out) in enumerate(pairwise(PREDICTOR_WIDTHS)):
            shapes |= {f"{2 * i}_weight": (n_out, n_in), f"{2 * i}_bias": (n_out,)}
        self.arrays = {name: torch.from_numpy(array) for name, array in load_npz(path, shapes).items()}
        self.decode, self.resolution = decode, resolution

    def predict(self, architectures: GraphBatch | Architecture | Sequence[Architecture]) -> Tensor:
        """ImageNet top-1 (B,) in percent."""
        if isinstance(architectures, Architecture):
            architectures = [architectures]
        graphs = architectures if isinstance(architectures, GraphBatch) else collate(architectures)
        x = torch.from_numpy(features(*self.decode(graphs), self.resolution))
        for i in range(len(PREDICTOR_WIDTHS) - 1):
            x = torch.addmm(self.arrays[f"{2 * i}_bias"], x.relu(), self.arrays[f"{2 * i}_weight"].T)
        return x[:, 0].double() * 100


def features(ks: np.ndarray, e: np.ndarray, resolution: int) -> np.ndarray:
    """Kernels and expansions (B, 20), 0 for none, -> one-hot (B, 128) float32: kernels, expansions, resolution.

    >>> features(np.array([[7] + [0] * 19]), np.array([[3] + [0] * 19]), 112).nonzero()[1].tolist()
    [2, 60, 120]
    """
    kernels, expansions = (np.array(each)[..., None] for each in (ks, e))
    hot = [(kernels == KERNELS).reshape(len(ks), -1), (expansions == EXPANSIONS).reshape(len(e), -1)]
    return np.concatenate([*hot, np.tile(np.array(RESOLUTIONS) == resolution, (len(ks), 1))], 1).astype(np.float32)
