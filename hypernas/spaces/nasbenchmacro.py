"""NAS-Bench-Macro: eight layers in a row, each one of three blocks (Su et al. 2021)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from hypernas.data import Table
from hypernas.data.catalogue import required
from hypernas.errors import UserError
from hypernas.graph import NORMAL, REDUCTION, Architecture, Cell, GraphBatch, collate
from hypernas.method.target_network import Program
from hypernas.spaces.base import SearchSpace, check_cells_per_stage, check_operation, other_choice
from hypernas.spaces.mbconv import RELU, Block, activated_stem, block_keys, convolve, write_block, write_last
from hypernas.spaces.programs import ProgramWriter

# The table's name among the data sources.
SOURCE = "nasbenchmacro"
# Layers of each stage; the first one of a stage halves the map and doubles the channels.
STAGES = (2, 3, 3)
LAYERS = sum(STAGES)
# Which of the eight layers halve the map.
HALVES = tuple(i == 0 for layers in STAGES for i in range(layers))
# Channels of the stem and of the last convolution in the network that the table trained.
STEM_CHANNELS, LAST_CHANNELS = 32, 1280
# As the table writes the block of a layer.
CHOICES = "012"
# Kernel and expansion of the choices 1 and 2; choice 0 is the identity.
BLOCKS = {1: (3, 3), 2: (5, 6)}
# Operations of the nodes, in the order of `ops`.
INPUT, OUTPUT, SKIP, HALVE, EXPAND3, EXPAND6, DEPTHWISE3, DEPTHWISE5, PROJECT = range(9)
# With the usual four channels nothing is learned on digits.
ON_DIGITS = {"channels": 8}


@cache
def layer_cell(
    choice: int,
    halves: bool,
    graph_form: str,
) -> Cell:
    """Return the cell of one layer. Only the identity of a layer that keeps its resolution can be contracted."""
    ops: tuple[int, ...]
    if choice:
        ops = (INPUT, EXPAND3 + choice - 1, DEPTHWISE3 + choice - 1, PROJECT, OUTPUT)
    elif halves:
        ops = (INPUT, HALVE, OUTPUT)
    else:
        ops = (INPUT, OUTPUT) if graph_form == "contracted" else (INPUT, SKIP, OUTPUT)
    edges = np.eye(len(ops), k=1, dtype=int)
    if choice and not halves:
        edges[0, -1] = 1  # the residual
    return Cell.with_edges(ops, edges, REDUCTION if halves else NORMAL)


class NASBenchMacro(SearchSpace):
    """Networks written as the digits of their layers: 0 identity, 1 MB 3x3 expansion 3, 2 MB 5x5 expansion 6.

    Each layer is a separate cell: input, expand, depthwise, project, output, with the residual as an edge from input to
    output. An identity is a skip connection, or a 1 x 1 convolution if the layer halves the resolution.
    """

    name = "nasbenchmacro"
    ops = ("input", "output", "skip_connect", "halve_1x1", "expand_3", "expand_6", "depthwise_3x3", "depthwise_5x5",
           "project_1x1")  # fmt: skip
    macro = "stem, 8 layers in stages of 2, 3 and 3, the first of each of which halves the map, classifier"
    datasets = ("cifar10",)
    defaults: ClassVar[dict[str, Any]] = {"cells_per_stage": max(STAGES)}
    networks: ClassVar[dict[str, dict[str, Any]]] = {"quick": ON_DIGITS, "standard": ON_DIGITS}

    def _architecture(
        self,
        choices: Sequence[int],
        graph_form: str,
    ) -> Architecture:
        layers = zip(choices, HALVES, strict=True)
        cells = tuple(layer_cell(choice, halves, graph_form) for choice, halves in layers)
        notation = "".join(map(str, choices))
        return Architecture(cells, tuple(range(LAYERS)), notation)

    def choices(self, architecture: Architecture) -> list[int]:
        """Return the choice of each layer. Raise UserError if the architecture is outside the space."""
        if len(architecture.cells) != LAYERS:
            raise UserError(f"a {self.name} architecture must have {LAYERS} cells, got {len(architecture.cells)}")
        choices = []
        for cell in architecture.cells:
            choices.append(2 if EXPAND6 in cell.ops else int(EXPAND3 in cell.ops))
        forms = [self._architecture(choices, form) for form in ("raw", "contracted")]
        if (architecture.cells, architecture.sequence) not in [(form.cells, form.sequence) for form in forms]:
            raise UserError(f"a {self.name} architecture must be {LAYERS} layers in a row, got other nodes or edges")
        return choices

    def parse(self, notation: str) -> Architecture:
        """`02012100`, the choice of each layer -> the raw Architecture."""
        text = notation.strip()
        if not set(text) <= set(CHOICES):
            check_operation(text, CHOICES)
        if len(text) != LAYERS:
            rule = f"a {self.name} architecture lists the choices of its {LAYERS} layers as 02012100"
            raise UserError(f"{rule}, got {len(text)} in {text!r}")
        return self._architecture([int(choice) for choice in text], "raw")

    def sample(self, rng: np.random.Generator) -> Architecture:
        return self._architecture(rng.integers(len(CHOICES), size=LAYERS).tolist(), "raw")

    def mutate(
        self,
        architecture: Architecture,
        rng: np.random.Generator,
    ) -> Architecture:
        """Change the choice of one layer."""
        choices = self.choices(architecture)
        layer = int(rng.integers(LAYERS))
        choices[layer] = other_choice(choices[layer], range(len(CHOICES)), rng)
        return self._architecture(choices, "raw")

    def canonical(
        self,
        architecture: Architecture,
        graph_form: str = "contracted",
    ) -> Architecture:
        """Return the architecture with its identities contracted; there is nothing to prune."""
        return self._architecture(self.choices(architecture), graph_form)

    def build(
        self,
        architecture: Architecture,
        channels: int = STEM_CHANNELS,
        cells_per_stage: int = max(STAGES),
        stem_stride: int = 1,
    ) -> Program:
        """Return the network as a Program with the first `cells_per_stage` layers of each stage."""
        check_cells_per_stage(cells_per_stage, max(STAGES))
        choices = self.choices(architecture)
        writer = ProgramWriter(channels, stem_stride)
        x, width, place = activated_stem(writer, RELU), channels, 0
        for layer, choice in enumerate(choices):
            # Place of the layer in its stage; layers beyond `cells_per_stage` are not built.
            place = 0 if HALVES[layer] else place + 1
            if place >= cells_per_stage:
                continue
            writer.position = layer
            stride = 2 if HALVES[layer] else 1
            if choice:
                kernel, expansion = BLOCKS[choice]
                block = Block(kernel, expansion * width, stride * width, stride)
                x = write_block(writer, x, width, block, list(block_keys(layer, 1, False)))
            elif HALVES[layer]:
                x = convolve(writer, x, (width, 2 * width, 1, 2), "", (layer, 1))
            width *= stride
        # The last convolution has no node, so it takes the weights that its output node names.
        key = (LAYERS - 1, len(architecture.cells[-1].ops) - 1)
        return write_last(writer, x, (width, LAST_CHANNELS * channels // STEM_CHANNELS), [key], RELU)

    def graphs(
        self,
        table: Table,
        graph_form: str,
    ) -> GraphBatch:
        rows = table.columns["choices"].tolist()
        return collate([self._architecture(choices, graph_form) for choices in rows], self)

    def table(self, dataset: str) -> Table:
        """Return all 6,561 networks: the label is the first of their three runs, the truth the mean of the others."""
        columns, runs = _records(required(SOURCE, "nasbenchmacro table"))
        source = (
            f"official NAS-Bench-Macro test accuracies on CIFAR-10 of all {len(runs):,} networks "
            "(label: the first of three runs, truth: the mean of the other two; there is no validation accuracy)"
        )
        first, others = runs[:, 0], runs[:, 1:]
        return Table(source, "measured", columns, first, others.mean(1))


def _records(path: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """`choices (B, 8)`, `parameters` and `multiply_adds` (B,), test accuracies (B, 3) in percent, by notation."""
    content = json.loads(path.read_text(encoding="utf-8"))
    records = dict(sorted(content.items()))
    columns = {
        "choices": np.array([[int(choice) for choice in notation] for notation in records], np.int64),
        "parameters": np.array([int(record["params"]) for record in records.values()]),
        "multiply_adds": np.array([int(record["flops"]) for record in records.values()]),
    }
    return columns, np.array([record["test_acc"] for record in records.values()], np.float64)


space = NASBenchMacro()
