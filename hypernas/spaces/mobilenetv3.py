"""MobileNetV3 as Once-For-All searches it: 5 stages of 2 to 4 inverted residual blocks (Cai et al. 2020, width 1.0)."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from hypernas.data import Table, load_npz
from hypernas.data.catalogue import required
from hypernas.errors import UserError
from hypernas.graph import Architecture, Cell, GraphBatch, collate
from hypernas.method.target_network import Program
from hypernas.spaces.base import SearchSpace, check_cells_per_stage, check_operation
from hypernas.spaces.mbconv import (
    HARD_SWISH,
    RELU,
    Block,
    activated_stem,
    biases,
    block_keys,
    divisible,
    write_block,
    write_last,
)
from hypernas.spaces.programs import ProgramWriter, count

# What may be chosen.
KERNELS, EXPANSIONS, DEPTHS = (3, 5, 7), (3, 4, 6), (2, 3, 4)
# Searched stages, and the most blocks in one of them.
STAGES, LONGEST = 5, 4
LAYERS = STAGES * LONGEST
# Name -> (kernel, expansion), and back.
BLOCKS = {f"k{kernel}e{expansion}": (kernel, expansion) for kernel, expansion in product(KERNELS, EXPANSIONS)}
NAMES = {block: name for name, block in BLOCKS.items()}
# The table is of ImageNet.
RESOLUTION, CLASSES = 224, 1000

# Operations of the graph; a stage with squeeze-and-excitation has four nodes a block, one without has three.
INPUT, OUTPUT, EXPAND, DEPTHWISE, SQUEEZE, PROJECT = 0, 1, 2, 5, 8, 9

# The network at width 1.0: channels of the stem, of each stage, of the last two convolutions.
CHANNELS, WIDTHS, LAST = 16, (24, 40, 80, 112, 160), (960, 1280)
# Of the first block of each stage, and of the same on images too small to be halved five times.
STRIDES, SMALL_STRIDES = (2, 2, 2, 1, 2), (1, 2, 1, 1, 2)
# Which stages have squeeze-and-excitation, and their activations, as published.
SQUEEZES = (False, True, False, True, True)
ACTIVATIONS = (RELU, RELU, HARD_SWISH, HARD_SWISH, HARD_SWISH)

# The official accuracy predictor.
RESOLUTIONS = tuple(range(112, 225, 16))
# It reads 20 kernels and 20 expansions as one-hots of three, and the resolution; three of its layers are hidden.
PREDICTOR_LAYERS = 4

# Column of the table -> column of the file and the type of its numbers.
COLUMNS: dict[str, tuple[str, type]] = {
    "ks": ("ks", int),
    "e": ("e", int),
    "d": ("d", int),
    "resolution": ("r", int),
    "accuracy": ("top1_mean", float),
    "evaluations": ("n_evals", int),
    "parameters": ("params", int),
    "multiply_adds": ("macs", int),
}
# The blocks (kernel, expansion) of a stage in order.
Stage = tuple[tuple[int, int], ...]


@lru_cache(8192)
def stage_cell(blocks: Stage, squeeze: bool) -> Cell:
    """Return the cell of a stage. A block (kernel, expansion) has nodes expand, depthwise, [squeeze-excite], project.

    A node sums its inputs. Every block except the first has a residual connection, so the node after the second block
    reads both that block and its input. The projection reads the depthwise convolution and its gate.

    NOTE[PAPER]: paper says five normal cells, one a stage, and nothing of the nodes; we make every layer with weights a
    node; because the hypernetwork makes the weights of a node from its features.
    """
    ops, edges, read = [INPUT], [], [0]
    for i, (kernel, expansion) in enumerate(blocks):
        first = len(ops)
        # Kernel and expansion are operations: the graph has the same edges whatever they are.
        ops += [EXPAND + EXPANSIONS.index(expansion), DEPTHWISE + KERNELS.index(kernel)]
        ops += [SQUEEZE] * squeeze + [PROJECT]
        last = len(ops) - 1
        edges += [(source, first) for source in read]
        edges += [(node, node + 1) for node in range(first, last)]
        edges.append((first + 1, last))
        # The first block of a stage changes the map, so it has no residual connection.
        read = [*read, last] if i else [last]
    output = len(ops)
    edges += [(source, output) for source in read]
    adjacency = np.zeros((output + 1, output + 1), int)
    for source, target in edges:
        adjacency[source, target] = 1
    return Cell.with_edges([*ops, OUTPUT], adjacency)


def check_depths(depths: Sequence[int]) -> None:
    """Raise UserError if the number of stages or of the blocks in a stage is outside the space."""
    if len(depths) != STAGES:
        raise UserError(f"a mobilenetv3 architecture must have {STAGES} stages, got {len(depths)}")
    for stage, depth in enumerate(depths, 1):
        if depth not in DEPTHS:
            raise UserError(f"a stage must have {DEPTHS[0]} to {DEPTHS[-1]} blocks, got {depth} in stage {stage}")


class MobileNetV3(SearchSpace):
    """The search space of Once-For-All's MobileNetV3."""

    name = "mobilenetv3"
    ops = (
        "input",
        "output",
        *(f"expand_{expansion}" for expansion in EXPANSIONS),
        *(f"depthwise_{kernel}x{kernel}" for kernel in KERNELS),
        "squeeze_excite",
        "project_1x1",
    )
    datasets = ("imagenet",)
    macro = "stem, fixed block, 5 stages of 2 to 4 inverted residual blocks, last convolutions, classifier"
    accepts = (str, Mapping)
    defaults: ClassVar[dict[str, Any]] = {
        "n_layers": 6,
        "width": 72,
        "hyper_layers": 3,
        "hyper_width": 96,
        "cells_per_stage": LONGEST,
    }

    def architecture(self, stages: Sequence[Stage]) -> Architecture:
        """Return the architecture of five stages, each a sequence of blocks (kernel, expansion)."""
        cells = tuple(stage_cell(tuple(stage), squeeze) for stage, squeeze in zip(stages, SQUEEZES, strict=True))
        written = []
        for stage in stages:
            written.append(" ".join(NAMES[block] for block in stage))
        return Architecture(cells, tuple(range(STAGES)), "|".join(written))

    def stages(self, architecture: Architecture) -> tuple[Stage, ...]:
        """Return the blocks (kernel, expansion) of each stage.

        Raise UserError if the architecture is outside the space.
        """
        stages = []
        for cell in architecture.cells:
            kernels = [KERNELS[op - DEPTHWISE] for op in cell.ops if DEPTHWISE <= op < SQUEEZE]
            expansions = [EXPANSIONS[op - EXPAND] for op in cell.ops if EXPAND <= op < DEPTHWISE]
            stages.append(tuple(zip(kernels, expansions, strict=False)))
        check_depths([len(stage) for stage in stages])
        if architecture.sequence != tuple(range(STAGES)) or self.architecture(stages).cells != architecture.cells:
            raise UserError(f"a mobilenetv3 architecture must be {STAGES} chains of blocks, got other nodes or edges")
        return tuple(stages)

    def from_ofa(
        self,
        ks: Any,
        e: Any,
        d: Any,
        r: Any = RESOLUTION,
        wid: Any = None,
    ) -> Architecture:
        """Return the architecture in Once-For-All's lists: kernels and expansions of 20 layers, depths of 5 stages.

        Each stage has 4 layers, of which it uses the first. A single number stands for all layers. Numbers may be
        floats and lists may be text, as in a CSV file. Values for layers beyond a stage's depth, including None, are
        ignored. Raise UserError for a list of the wrong length, for a depth, kernel or expansion outside the space, and
        for another resolution or a width `wid` other than 1.0.
        """
        ks, e, d = whole_numbers("ks", ks, LAYERS), whole_numbers("e", e, LAYERS), whole_numbers("d", d, STAGES)
        (resolution,) = whole_numbers("r", r, 1)
        if resolution != RESOLUTION:
            remedy = "count(architecture, resolution) takes others"
            raise UserError(f"resolution must be {RESOLUTION}, got {resolution}; {remedy}")
        if wid is not None and str(wid) not in ("1", "1.0", "None"):
            raise UserError(f"wid must be 1.0, the width of this supernet, got {wid!r}")
        check_depths(d)
        stages = []
        for stage, depth in enumerate(d):
            layers = range(stage * LONGEST, stage * LONGEST + depth)
            _check_layers("kernel", ks, layers, KERNELS)
            _check_layers("expansion", e, layers, EXPANSIONS)
            stages.append(tuple((ks[i], e[i]) for i in layers))
        return self.architecture(stages)

    def to_ofa(self, architecture: Architecture) -> dict[str, Any]:
        """Return Once-For-All's lists, the inverse of `from_ofa`: `ks` and `e` with 0 for unused layers, `d`, `r`."""
        ks: list[int] = []
        e: list[int] = []
        stages = self.stages(architecture)
        for stage in stages:
            unused = [0] * (LONGEST - len(stage))
            ks += [kernel for kernel, _ in stage] + unused
            e += [expansion for _, expansion in stage] + unused
        return {"ks": ks, "e": e, "d": [len(stage) for stage in stages], "r": RESOLUTION}

    def parse(self, notation: str | Mapping[str, Any]) -> Architecture:
        """Return the architecture in `k3e4 k7e6|k5e3 k5e3 k5e3|...`: the blocks of five stages by kernel and expansion.

        Once-For-All's dictionary of `ks`, `e`, `d` and optionally `r` and `wid` is read too, also as JSON.
        """
        if isinstance(notation, str) and notation.lstrip().startswith("{"):
            notation = _json_object(notation)
        if isinstance(notation, Mapping):
            return self._from_mapping(notation)
        stages = [stage.split() for stage in notation.split("|")]
        if len(stages) != STAGES:
            form = f"{STAGES} stages of blocks as k3e4 k7e6|k5e3 k5e3 k5e3|..."
            raise UserError(f"a mobilenetv3 architecture lists {form}, got {notation!r}")
        for stage in stages:
            for block in stage:
                check_operation(block, BLOCKS)
        check_depths([len(stage) for stage in stages])
        return self.architecture([tuple(BLOCKS[name] for name in stage) for stage in stages])

    def _from_mapping(self, lists: Mapping[str, Any]) -> Architecture:
        unknown = set(lists) - {"ks", "e", "d", "r", "wid"}
        missing = {"ks", "e", "d"} - set(lists)
        if unknown or missing:
            rule = "a dictionary of Once-For-All must have ks, e and d, and may have r and wid"
            raise UserError(f"{rule}, got {', '.join(map(str, lists)) or 'none'}")
        return self.from_ofa(**lists)

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draw depths, kernels and expansions uniformly at random, as Once-For-All does."""
        depths = rng.choice(DEPTHS, STAGES)
        stages = [tuple(_draw_blocks(rng, depth)) for depth in depths]
        return self.architecture(stages)

    def mutate(
        self,
        architecture: Architecture,
        rng: np.random.Generator,
    ) -> Architecture:
        """Change one stage's depth, adding random blocks if it grows, or one block's kernel or expansion."""
        stages = [list(stage) for stage in self.stages(architecture)]
        stage = stages[rng.integers(STAGES)]
        change, shift = rng.integers(3), int(rng.integers(1, 3))
        if change == 0:
            depth = _shifted(len(stage), DEPTHS, shift)
            stage[:] = (stage + _draw_blocks(rng, 2))[:depth]
        else:
            i = rng.integers(len(stage))
            kernel, expansion = stage[i]
            if change == 1:
                stage[i] = (_shifted(kernel, KERNELS, shift), expansion)
            else:
                stage[i] = (kernel, _shifted(expansion, EXPANSIONS, shift))
        return self.architecture([tuple(stage) for stage in stages])

    def canonical(
        self,
        architecture: Architecture,
        graph_form: str = "contracted",
    ) -> Architecture:
        """Return the architecture itself: every node lies on a path from input to output, none is a skip connection."""
        return self.architecture(self.stages(architecture))

    def graphs(
        self,
        table: Table,
        graph_form: str,
    ) -> GraphBatch:
        lists = zip(*(table.columns[name].tolist() for name in ("ks", "e", "d")), strict=True)
        return collate([self.from_ofa(ks, e, d) for ks, e, d in lists], self)

    def build(
        self,
        architecture: Architecture,
        channels: int = CHANNELS,
        cells_per_stage: int = LONGEST,
        stem_stride: int = 2,
    ) -> Program:
        """Return the network as a Program with the first `cells_per_stage` blocks of each stage.

        Stage s has the nodes input, those of its blocks, output. The fixed block takes its weights from the input of
        the first stage and the edge that leaves it; the last convolutions take theirs from the output of the last stage
        and the edge that enters it.

        NOTE[PAPER]: paper says nothing of how a network for 224 x 224 pixels meets smaller images; we drop the strides
        of the first and third stage too where stem_stride is 1; because 32-fold reduction leaves a digit one pixel.
        """
        check_cells_per_stage(cells_per_stage, LONGEST)
        stages = self.stages(architecture)
        writer = ProgramWriter(channels, stem_stride, position=0)
        fixed = Block(3, channels, channels)
        x = write_block(writer, activated_stem(writer), channels, fixed, [(0, 0), (0, 0, 1)])
        c_in = channels
        for writer.position, blocks in enumerate(network_blocks(stages, channels, stem_stride == 1)):
            squeeze = SQUEEZES[writer.position]
            for i, block in enumerate(blocks[:cells_per_stage]):
                keys = block_keys(writer.position, 1 + i * (3 + squeeze), squeeze)
                x = write_block(writer, x, c_in, block, list(keys))
                c_in = block.c_out
        output = 1 + len(stages[-1]) * (3 + SQUEEZES[-1])
        last = [_scaled(width, channels) for width in LAST]
        return write_last(writer, x, (c_in, *last), [(STAGES - 1, output), (STAGES - 1, output - 1, output)])

    def count(
        self,
        architecture: Architecture,
        resolution: int = RESOLUTION,
    ) -> tuple[int, int]:
        """Return trainable parameters and multiply-adds of the ImageNet network, as Once-For-All counts them."""
        parameters, adds = count(self.build(architecture), (3, resolution, resolution), CLASSES)
        blocks = network_blocks(self.stages(architecture))
        return parameters + sum(biases(block) for stage in blocks for block in stage), adds

    def table(self, dataset: str) -> Table:
        """Return the measured subnets. Their one accuracy is both label and truth."""
        columns = read_measured(required("ofa-measured", "mobilenetv3 table"))
        accuracy = columns.pop("accuracy")
        what = f"{len(accuracy):,} Once-For-All MobileNetV3 subnets with measured ImageNet top-1"
        how = "weights inherited from the supernet, search traces and not a uniform sample"
        return Table(f"{what} ({how})", "measured", columns, accuracy, accuracy)

    def oracle(self) -> AccuracyPredictor:
        """Return the official accuracy predictor, a surrogate with `predict(architectures)` in percent."""
        return AccuracyPredictor(required("ofa-predictor", "mobilenetv3 surrogate"), self.to_ofa)


def whole_numbers(
    name: str,
    values: Any,
    n: int,
) -> list[int]:
    """Return `n` whole numbers from a list, from one number for all, or from their text; None and NaN become 0.

    >>> whole_numbers("d", "[2, 3.0]", 2), whole_numbers("ks", 7, 3), whole_numbers("e", [4.0, None], 2)
    ([2, 3], [7, 7, 7], [4, 0])
    """
    if isinstance(values, str):
        values = re.findall(r"[^\s,;\[\]()]+", values)
    if isinstance(values, (int, float, np.number)):
        values = [values] * n
    if not isinstance(values, (list, tuple, np.ndarray)) or len(values) != n:
        told = len(values) if isinstance(values, (list, tuple, np.ndarray)) else repr(values)[:80]
        raise UserError(f"{name} must list {n} numbers, got {told}")
    return [_whole_number(name, value) for value in values]


def _whole_number(name: str, value: Any) -> int:
    try:
        number = 0.0 if value is None or value == "None" else float(value)
    except (TypeError, ValueError):
        number = math.inf
    if math.isnan(number):
        return 0
    if not number.is_integer():
        raise UserError(f"{name} must list whole numbers, got {repr(value)[:80]}")
    return int(number)


def _check_layers(
    what: str,
    values: Sequence[int],
    layers: Sequence[int],
    choices: Sequence[int],
) -> None:
    for layer in layers:
        if values[layer] not in choices:
            rule = f"{what} must be one of {', '.join(map(str, choices))}"
            raise UserError(f"{rule}, got {values[layer]} at layer {layer + 1}")


def _json_object(text: str) -> Mapping[str, Any]:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"a mobilenetv3 architecture in braces must be whole JSON, got {text[:80]!r}") from error


def _shifted(
    choice: int,
    choices: Sequence[int],
    shift: int,
) -> int:
    """The choice `shift` places further on, around the end."""
    return choices[(choices.index(choice) + shift) % len(choices)]


def _draw_blocks(rng: np.random.Generator, n: int) -> list[tuple[int, int]]:
    blocks = tuple(BLOCKS.values())
    return [blocks[i] for i in rng.integers(len(blocks), size=n)]


def _scaled(width: float, channels: int) -> int:
    """A width of the published network at a stem of `channels`. Half the stem divides it, as 8 does at 16 channels."""
    return divisible(width * channels / CHANNELS, max(1, channels // 2))


def network_blocks(
    stages: Sequence[Stage],
    channels: int = CHANNELS,
    small: bool = False,
) -> list[list[Block]]:
    """Return the blocks of each stage for a stem of `channels`.

    If `small`, images keep their size in stages 1 and 3.
    """
    divisor, c_in = max(1, channels // 2), channels
    network: list[list[Block]] = []
    for s, stage in enumerate(stages):
        width = _scaled(WIDTHS[s], channels)
        stride = (SMALL_STRIDES if small else STRIDES)[s]
        blocks: list[Block] = []
        for kernel, expansion in stage:
            middle = divisible(c_in * expansion, divisor)
            # Squeeze-and-excitation is a quarter as wide as what it gates.
            squeeze = divisible(middle // 4, divisor) if SQUEEZES[s] else 0
            blocks.append(Block(kernel, middle, width, 1 if blocks else stride, squeeze, ACTIVATIONS[s]))
            c_in = width
        network.append(blocks)
    return network


def read_measured(path: str | Path) -> dict[str, np.ndarray]:
    """Return the measured subnets: `ks` and `e` (B, 20), `d` (B, 5), 0 for unused layers, and their measurements (B,).

    These are `accuracy` in percent, `parameters`, `multiply_adds`, `evaluations`, `resolution`.
    """
    with Path(path).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = {}
    for name, (column, kind) in COLUMNS.items():
        values = np.array([[kind(value) for value in row[column].split()] for row in rows])
        columns[name] = values[:, 0] if values.shape[1] == 1 else values
    return columns


class AccuracyPredictor:
    """The official accuracy predictor, a query oracle: four linear layers on one-hot kernels, expansions, resolution.

    It is a surrogate, not a measurement: a model of the accuracy of 16,000 subnets on 10,000 images held out of
    ImageNet's training set. Its Kendall tau with the measured subnets is 0.88, but its values are 5.9 points higher.
    `lists` returns the kernels and expansions of an architecture. Raise UserError if the file is damaged.
    """

    source = "the official Once-For-All accuracy predictor (a surrogate, not measured)"

    def __init__(
        self,
        path: str | Path,
        lists: Callable[[Architecture], Mapping[str, Any]],
    ) -> None:
        names = [f"{2 * i}_{part}" for i in range(PREDICTOR_LAYERS) for part in ("weight", "bias")]
        self.arrays = {name: torch.from_numpy(array) for name, array in load_npz(path, names).items()}
        self.lists = lists

    def predict(self, architectures: Sequence[Architecture]) -> Tensor:
        """Return the ImageNet top-1 accuracy (B,) in percent."""
        lists = [self.lists(architecture) for architecture in architectures]
        ks, e = (np.array([one[name] for one in lists]) for name in ("ks", "e"))
        x = torch.from_numpy(features(ks, e))
        for i in range(PREDICTOR_LAYERS):
            x = torch.addmm(self.arrays[f"{2 * i}_bias"], x.relu(), self.arrays[f"{2 * i}_weight"].T)
        return x[:, 0].double() * 100


def features(ks: np.ndarray, e: np.ndarray) -> np.ndarray:
    """Return one-hot features (B, 128) float32 of kernels and expansions (B, 20), 0 for none, and resolution.

    >>> features(np.array([[7] + [0] * 19]), np.array([[3] + [0] * 19])).nonzero()[1].tolist()
    [2, 60, 127]
    """
    b = len(ks)
    kernels = (ks[..., None] == np.array(KERNELS)).reshape(b, -1)
    expansions = (e[..., None] == np.array(EXPANSIONS)).reshape(b, -1)
    resolutions = np.tile(np.array(RESOLUTIONS) == RESOLUTION, (b, 1))
    return np.concatenate([kernels, expansions, resolutions], 1).astype(np.float32)


space = MobileNetV3()
