"""MobileNetV3 as Once-For-All searches it: 5 stages of 2 to 4 inverted residual blocks (Cai et al. 2020, width 1.0)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import Any, ClassVar

import numpy as np
import torch

from hypernas.data import Table, find
from hypernas.errors import MissingTable, UserError
from hypernas.graph import NORMAL, Architecture, Cell, GraphBatch
from hypernas.method.target_network import Program, count
from hypernas.spaces.base import SearchSpace, check_cells_per_stage, check_graph_form
from hypernas.spaces.blocks import once_for_all
from hypernas.spaces.blocks.once_for_all import (
    DEPTHS,
    EXPANSIONS,
    KERNELS,
    LAYERS,
    LONGEST,
    SQUEEZES,
    STAGES,
    Stage,
)
from hypernas.spaces.mbconv import biases

INPUT, OUTPUT, EXPAND, DEPTHWISE, SQUEEZE, PROJECT = 0, 1, 2, 5, 8, 9
RESOLUTION, CLASSES = 224, 1000
NODES = 2 + 4 * LONGEST
BLOCKS = {f"k{kernel}e{expansion}": (kernel, expansion) for kernel, expansion in product(KERNELS, EXPANSIONS)}
NAMES = {block: name for name, block in BLOCKS.items()}
# What an operation chooses, by its id.
KERNEL_OF = np.array([0] * DEPTHWISE + [*KERNELS] + [0] * 2)
EXPANSION_OF = np.array([0] * EXPAND + [*EXPANSIONS] + [0] * 5)


@lru_cache(8192)
def stage_cell(blocks: Stage, squeeze: bool) -> Cell:
    """The cell of a stage: of each block (kernel, expansion) the nodes expand, depthwise, [squeeze-excite], project.

    A node reads the sum of its inputs, and every block but the first has a residual connection, so that what follows
    the second block reads both. The projection reads the depthwise convolution and its gate.

    NOTE[PAPER]: paper says five normal cells, one a stage, and nothing of the nodes; we make every layer with weights a
    node; because the hypernetwork makes the weights of a node from its features.
    """
    ops, edges, read = [INPUT], [], [0]
    for i, (kernel, expansion) in enumerate(blocks):
        first = len(ops)
        ops += [EXPAND + EXPANSIONS.index(expansion), DEPTHWISE + KERNELS.index(kernel), *[SQUEEZE] * squeeze, PROJECT]
        last = len(ops) - 1
        edges += [(x, first) for x in read] + [(x, x + 1) for x in range(first, last)] + [(first + 1, last)]
        read = [*read, last] if i else [last]
    adjacency = np.zeros((len(ops) + 1, len(ops) + 1), int)
    for x, y in [*edges, *((x, len(ops)) for x in read)]:
        adjacency[x, y] = 1
    return Cell((*ops, OUTPUT), tuple(tuple(row) for row in adjacency.tolist()))


def check_depths(depths: Sequence[int]) -> None:
    if len(depths) != STAGES:
        raise UserError(f"a mobilenetv3 architecture must have {STAGES} stages, got {len(depths)}")
    for stage, depth in enumerate(depths, 1):
        if depth not in DEPTHS:
            raise UserError(f"a stage must have {DEPTHS[0]} to {DEPTHS[-1]} blocks, got {depth} in stage {stage}")


class MobileNetV3(SearchSpace):
    name = "mobilenetv3"
    ops = ("input", "output", *(f"expand_{e}" for e in EXPANSIONS), *(f"depthwise_{k}x{k}" for k in KERNELS),
           "squeeze_excite", "project_1x1")  # fmt: skip
    datasets = ("imagenet",)
    macro = "stem, fixed block, 5 stages of 2 to 4 inverted residual blocks, last convolutions, classifier"
    defaults: ClassVar[dict[str, Any]] = {"n_layers": 6, "width": 72, "hyper_layers": 3, "hyper_width": 96,
                                          "cells_per_stage": LONGEST}  # fmt: skip

    def encode(self, ks: np.ndarray, e: np.ndarray, d: np.ndarray) -> GraphBatch:
        """Kernels and expansions (B, 20), 4 a stage, and depths (B, 5) -> GraphBatch."""
        b = len(d)
        ops, adjacency = np.zeros((b, STAGES, NODES), np.int64), np.zeros((b, STAGES, NODES, NODES), np.uint8)
        mask = np.zeros((b, STAGES, NODES), bool)
        for stage, depth in product(range(STAGES), DEPTHS):
            cell = stage_cell(((KERNELS[0], EXPANSIONS[0]),) * depth, SQUEEZES[stage])
            rows, layers = np.flatnonzero(d[:, stage] == depth)[:, None], np.arange(depth) + stage * LONGEST
            n, nodes = len(cell.ops), np.array(cell.ops)
            ops[rows, stage, np.arange(n)] = nodes
            ops[rows, stage, np.flatnonzero(nodes == EXPAND)] += np.searchsorted(EXPANSIONS, e[rows, layers])
            ops[rows, stage, np.flatnonzero(nodes == DEPTHWISE)] += np.searchsorted(KERNELS, ks[rows, layers])
            adjacency[rows[:, 0], stage, :n, :n], mask[rows[:, 0], stage, :n] = np.array(cell.adjacency), True
        kind, sequence = torch.full((b, STAGES), NORMAL), torch.arange(STAGES).repeat(b, 1)
        return GraphBatch(*map(torch.from_numpy, (ops, adjacency, mask)), kind, sequence, self)  # type: ignore[call-arg]

    def decode(self, graphs: GraphBatch) -> tuple[np.ndarray, np.ndarray]:
        """GraphBatch -> kernels and expansions (B, 20), 0 for layers beyond a stage's depth."""
        ops = graphs.ops.cpu().numpy()
        ks, e = np.zeros((2, len(ops), LAYERS), np.int64)
        for layer in range(LAYERS):
            stage, i = divmod(layer, LONGEST)
            first = 1 + i * (3 + SQUEEZES[stage])
            if first + 1 < ops.shape[2]:
                e[:, layer], ks[:, layer] = EXPANSION_OF[ops[:, stage, first]], KERNEL_OF[ops[:, stage, first + 1]]
        return ks, e

    def architecture(self, stages: Sequence[Stage]) -> Architecture:
        """Five stages, each its blocks (kernel, expansion) in order -> the Architecture."""
        cells = tuple(stage_cell(tuple(stage), squeeze) for stage, squeeze in zip(stages, SQUEEZES, strict=True))
        notation = "|".join(" ".join(NAMES[block] for block in stage) for stage in stages)
        return Architecture(cells, tuple(range(STAGES)), notation)

    def stages(self, architecture: Architecture) -> tuple[Stage, ...]:
        """The blocks (kernel, expansion) of each stage. Raises UserError for an architecture outside the space."""
        found = []
        for cell in architecture.cells:
            kernels = [KERNELS[op - DEPTHWISE] for op in cell.ops if DEPTHWISE <= op < SQUEEZE]
            expansions = [EXPANSIONS[op - EXPAND] for op in cell.ops if EXPAND <= op < DEPTHWISE]
            found.append(tuple(zip(kernels, expansions, strict=False)))
        check_depths([len(stage) for stage in found])
        if architecture.sequence != tuple(range(STAGES)) or self.architecture(found).cells != architecture.cells:
            raise UserError(f"a mobilenetv3 architecture must be {STAGES} chains of blocks, got other nodes or edges")
        return tuple(found)

    def from_ofa(self, ks: Sequence[int], e: Sequence[int], d: Sequence[int], r: int = RESOLUTION) -> Architecture:
        """Once-For-All's lists -> Architecture: kernels and expansions of 20 layers, 4 a stage, depths of 5 stages.

        What stands at the layers beyond a stage's depth is passed over. Raises UserError for lists of another length,
        a depth, kernel or expansion that is not of the space, and another resolution.
        """
        for name, values, n in (("ks", ks, LAYERS), ("e", e, LAYERS), ("d", d, STAGES)):
            if len(values) != n:
                raise UserError(f"{name} must list {n} numbers, got {len(values)}")
        if r != RESOLUTION:
            raise UserError(f"resolution must be {RESOLUTION}, got {r}; count(architecture, resolution) takes others")
        check_depths(d)
        stages = []
        for stage, depth in enumerate(d):
            layers = range(stage * LONGEST, stage * LONGEST + depth)
            for what, values, choices in (("kernel", ks, KERNELS), ("expansion", e, EXPANSIONS)):
                wrong = next((i for i in layers if values[i] not in choices), None)
                if wrong is not None:
                    rule = f"{what} must be one of {', '.join(map(str, choices))}"
                    raise UserError(f"{rule}, got {values[wrong]} at layer {wrong + 1}")
            stages.append(tuple((int(ks[i]), int(e[i])) for i in layers))
        return self.architecture(stages)

    def to_ofa(self, architecture: Architecture) -> dict[str, Any]:
        """The inverse of `from_ofa`: `ks` and `e` with 0 for unused layers, `d`, `r`."""
        stages = self.stages(architecture)
        padded = [block for stage in stages for block in (*stage, *[(0, 0)] * (LONGEST - len(stage)))]
        ks, e = (list(values) for values in zip(*padded, strict=True))
        return {"ks": ks, "e": e, "d": [len(stage) for stage in stages], "r": RESOLUTION}

    def parse(self, notation: str) -> Architecture:
        """`k3e4 k7e6|k5e3 k5e3 k5e3|...`: the blocks of five stages by kernel and expansion."""
        stages = [stage.split() for stage in notation.split("|")]
        if len(stages) != STAGES:
            form = f"{STAGES} stages of blocks as k3e4 k7e6|k5e3 k5e3 k5e3|..."
            raise UserError(f"a mobilenetv3 architecture lists {form}, got {notation!r}")
        for op in (name for stage in stages for name in stage):
            if op not in BLOCKS:
                raise UserError(f"operation must be one of {', '.join(BLOCKS)}, got {op!r}")
        check_depths([len(stage) for stage in stages])
        return self.architecture([tuple(BLOCKS[name] for name in stage) for stage in stages])

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Depths, kernels and expansions each uniform, as Once-For-All samples."""
        blocks, depths = tuple(BLOCKS.values()), rng.choice(DEPTHS, STAGES)
        return self.architecture([tuple(blocks[i] for i in rng.integers(len(blocks), size=n)) for n in depths])

    def mutate(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """A stage gets another depth, random blocks where it grows, or one block another kernel or expansion."""
        stages = [list(stage) for stage in self.stages(architecture)]
        stage, change, shift = stages[rng.integers(STAGES)], rng.integers(3), int(rng.integers(1, 3))
        if change == 0:
            depth = DEPTHS[(DEPTHS.index(len(stage)) + shift) % len(DEPTHS)]
            new = [tuple(BLOCKS.values())[i] for i in rng.integers(len(BLOCKS), size=2)]
            stage[:] = (stage + new)[:depth]
        else:
            i = rng.integers(len(stage))
            kernel, expansion = stage[i]
            if change == 1:
                kernel = KERNELS[(KERNELS.index(kernel) + shift) % len(KERNELS)]
            else:
                expansion = EXPANSIONS[(EXPANSIONS.index(expansion) + shift) % len(EXPANSIONS)]
            stage[i] = (kernel, expansion)
        return self.architecture([tuple(stage) for stage in stages])

    def canonical(self, architecture: Architecture, graph_form: str = "contracted") -> Architecture:
        """The architecture itself: every node lies on a path from input to output, none is a skip connection."""
        check_graph_form(graph_form)
        return self.architecture(self.stages(architecture))

    def graphs(self, table: Table, graph_form: str) -> GraphBatch:
        return self.encode(*(table.columns[name] for name in ("ks", "e", "d")))

    def build(
        self,
        architecture: Architecture,
        channels: int = once_for_all.CHANNELS,
        cells_per_stage: int = LONGEST,
        stem_stride: int = 2,
    ) -> Program:
        """The network as a Program; of each stage the first `cells_per_stage` blocks are built."""
        check_cells_per_stage(cells_per_stage, LONGEST)
        return once_for_all.network(self.stages(architecture), channels, cells_per_stage, stem_stride)

    def count(self, architecture: Architecture, resolution: int = RESOLUTION) -> tuple[int, int]:
        """Trainable parameters and multiply-adds of the ImageNet network, as Once-For-All counts them."""
        parameters, adds = count(self.build(architecture), (3, resolution, resolution), CLASSES)
        blocks = once_for_all.network_blocks(self.stages(architecture))
        return parameters + sum(biases(block) for stage in blocks for block in stage), adds

    def check(self, table: Table) -> str:
        """Count every architecture of the table again. Raises UserError for the first row that differs."""
        for row, lists in enumerate(zip(*(table.columns[n].tolist() for n in ("ks", "e", "d")), strict=True)):
            counted = self.count(self.from_ofa(*lists))
            stated = int(table.columns["parameters"][row]), int(table.columns["multiply_adds"][row])
            if counted != stated:
                raise UserError(f"row {row} must have {counted} parameters and multiply-adds, the table says {stated}")
        return f"parameters and multiply-adds equal those counted from the architecture in all {len(table):,} rows"

    def table(self, dataset: str) -> Table:
        """The measured subnets; their one accuracy is label and truth."""
        columns = once_for_all.read_measured(_present("ofa-measured", "mobilenetv3/ofa_mbv3_measured.csv"))
        accuracy = columns.pop("accuracy")
        what = f"{len(accuracy):,} Once-For-All MobileNetV3 subnets with measured ImageNet top-1"
        how = "weights inherited from the supernet, search traces and not a uniform sample"
        return Table(f"{what} ({how})", "measured", columns, accuracy, accuracy)

    def oracle(self, resolution: int = RESOLUTION) -> once_for_all.AccuracyPredictor:
        """The official accuracy predictor: `predict(architectures)` in percent, a surrogate."""
        path = _present("ofa-predictor", "mobilenetv3/ofa_accuracy_predictor.npz")
        return once_for_all.AccuracyPredictor(path, self.decode, resolution)


def _present(name: str, file: str) -> Any:
    path = find(name)
    if path is None:
        raise MissingTable(f"{name} is not present; put {file} under $HYPERNAS_DATA, see `hypernas data list`")
    return path


space = MobileNetV3()
