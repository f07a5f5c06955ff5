"""DARTS: a normal and a reduction cell of four nodes, seven operations, stacked to 20 cells (Liu et al. 2019)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from hypernas.canonical import simplify
from hypernas.data import Table, find
from hypernas.data.catalogue import get_source, remedy
from hypernas.errors import MissingTable, UserError
from hypernas.graph import NORMAL, REDUCTION, Architecture, GraphBatch
from hypernas.method.target_network import Program, count
from hypernas.spaces import genotypes
from hypernas.spaces.base import SearchSpace
from hypernas.spaces.blocks import darts_network
from hypernas.spaces.blocks.darts_network import (
    BEFORE_LAST,
    CELLS_PER_STAGE,
    FIRST_OPERATION,
    LAST,
    OUTPUT,
    SUM,
    DartsProgram,
)
from hypernas.spaces.genotypes import EDGES, INPUTS, NODES, OPERATIONS, Genotype
from hypernas.spaces.trainable_network import AuxiliaryHead, TrainableNetwork

SOURCE = "nasbench301-records"
SKIP = FIRST_OPERATION + OPERATIONS.index("skip_connect")
IDENTITY = FIRST_OPERATION + len(OPERATIONS)
# In the raw graph of a cell: the nodes of its eight operations, the sums they feed, the nodes that hold its states.
OPERATION_NODES = np.array([INPUTS + 3 * (e // 2) + e % 2 for e in range(EDGES)])
SUM_NODES = OPERATION_NODES[1::2] + 1
STATE_NODES = np.array([BEFORE_LAST, LAST, *SUM_NODES])
SIZE = int(SUM_NODES[-1]) + 2
CHANNELS = {"cifar10": 36, "imagenet": 48}


class DARTS(SearchSpace):
    """NOTE[PAPER]: paper says nothing of the graph of a DARTS cell; we take a node for each of the two inputs, the
    eight operations, the four sums and the output; because the cell's output joins the sums, so that a graph without
    them could not tell which operations share one.

    NOTE[PAPER]: paper says normal and reduction cells in sequence, not of which network; we take the 20 cells of the
    CIFAR-10 network, though the networks of NAS-Bench-301 have 8; because the found cells are trained in that one.
    """

    name = "darts"
    ops = ("c_{k-2}", "c_{k-1}", "sum", "output", *OPERATIONS)
    datasets = ("cifar10",)
    accepts = (object,)
    macro = "stem, 20 cells of which those at 1/3 and 2/3 halve the map, classifier"
    defaults: ClassVar[dict[str, Any]] = {"n_layers": 3, "width": 144, "hyper_layers": 2, "hyper_width": 128}
    _sequence = darts_network.sequence()

    def encode(self, edges: np.ndarray, graph_form: str) -> GraphBatch:
        """Edges (B, 2, 8, 2) of normal and reduction cell, (operation, state) each -> GraphBatch.

        Every node feeds the output, so nothing is dead and `pruned` equals `raw`; `contracted` has no identities,
        which a skip connection of stride 2 is not.
        """
        b = len(edges)
        operation, state = edges[..., 0].reshape(-1, EDGES), edges[..., 1].reshape(-1, EDGES)
        reduces = np.arange(2 * b)[:, None] % 2 == REDUCTION
        nodes = np.full((2 * b, SIZE), SUM)
        nodes[:, [BEFORE_LAST, LAST, -1]] = BEFORE_LAST, LAST, OUTPUT
        identity = (operation + FIRST_OPERATION == SKIP) & ~(reduces & (state < INPUTS))
        nodes[:, OPERATION_NODES] = np.where(identity, IDENTITY, operation + FIRST_OPERATION)
        adjacency = np.zeros((2 * b, SIZE, SIZE), np.uint8)
        adjacency[np.arange(2 * b)[:, None], STATE_NODES[state], OPERATION_NODES] = 1
        adjacency[:, OPERATION_NODES, np.repeat(SUM_NODES, 2)] = 1
        adjacency[:, SUM_NODES, -1] = 1
        found = simplify(nodes, adjacency, None, IDENTITY, graph_form, n_inputs=INPUTS)
        found = np.where(found[0] == IDENTITY, SKIP, found[0]), *found[1:]
        ops, edge_counts, mask = (torch.from_numpy(array.reshape(b, 2, *array.shape[1:])) for array in found)
        kind = torch.tensor([NORMAL, REDUCTION]).expand(b, 2).contiguous()
        sequence = torch.tensor(self._sequence).expand(b, -1).contiguous()
        return GraphBatch(ops, edge_counts, mask, kind, sequence, self)

    def parse(self, notation: Any) -> Architecture:
        """Any notation of `genotypes.parse`, such as the text that DARTS prints -> the raw Architecture."""
        return self._architecture(_edges(genotypes.parse(notation)), "raw")

    def genotype(self, architecture: Architecture) -> Genotype:
        """The genotype of an architecture. UserError for one without notation that is not a raw graph of the space."""
        return (
            genotypes.parse(architecture.notation) if architecture.notation else _genotype(self._decode(architecture))
        )

    def _decode(self, architecture: Architecture) -> np.ndarray:
        wrong = UserError("a darts architecture without notation must be in raw form, got other nodes or edges")
        if [cell.kind for cell in architecture.cells] != [NORMAL, REDUCTION]:
            raise wrong
        edges = np.zeros((1, 2, EDGES, 2), np.int64)
        for i, cell in enumerate(architecture.cells):
            if len(cell.ops) != SIZE:
                raise wrong
            edges[0, i, :, 0] = np.array(cell.ops)[OPERATION_NODES] - FIRST_OPERATION
            edges[0, i, :, 1] = np.array(cell.adjacency)[STATE_NODES][:, OPERATION_NODES].argmax(0)
        if not 0 <= edges[..., 0].min() <= edges[..., 0].max() < len(OPERATIONS):
            raise wrong
        if self.encode(edges, "raw").architecture(0).cells != architecture.cells:
            raise wrong
        return edges[0]

    def _architecture(self, edges: np.ndarray, graph_form: str) -> Architecture:
        plain = self.encode(edges[None], graph_form).architecture(0)
        return Architecture(plain.cells, plain.sequence, str(_genotype(edges)))

    def canonical(self, architecture: Architecture, graph_form: str = "contracted") -> Architecture:
        """The architecture's function: with identities contracted."""
        return self._architecture(_edges(self.genotype(architecture)), graph_form)

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Every node draws two states before it and an operation for each."""
        states = [rng.choice(INPUTS + i, 2, replace=False) for _ in range(2) for i in range(NODES)]
        operations = rng.integers(len(OPERATIONS), size=(2, EDGES))
        return self._architecture(np.stack([operations, np.reshape(states, (2, EDGES))], -1), "raw")

    def mutate(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """One edge of one cell gets another operation, or reads another state; those of the first node read both."""
        edges = _edges(self.genotype(architecture))
        cell, edge = rng.integers(2), rng.integers(EDGES)
        if edge >= 2 and rng.integers(2):
            free = np.setdiff1d(np.arange(INPUTS + edge // 2), edges[cell, [edge, edge ^ 1], 1])
            edges[cell, edge, 1] = rng.choice(free)
        else:
            shift = rng.integers(1, len(OPERATIONS))
            edges[cell, edge, 0] = (edges[cell, edge, 0] + shift) % len(OPERATIONS)
        return self._architecture(edges, "raw")

    def build(
        self, architecture: Architecture, channels: int = 36, cells_per_stage: int = 6, stem_stride: int = 1
    ) -> Program:
        """The network as a Program. With fewer than 6 cells a stage, the first ones of each stage are built."""
        return darts_network.cifar(architecture, channels, cells_per_stage, stem_stride).program

    def full(self, architecture: Architecture, images: str = "cifar10", channels: int | None = None) -> DartsProgram:
        """The public network: 20 cells of 36 channels for cifar10, 14 cells of 48 for imagenet."""
        if images not in CHANNELS:
            raise UserError(f"images must be one of {', '.join(CHANNELS)} for a full darts network, got {images!r}")
        channels = channels or CHANNELS[images]
        if images == "imagenet":
            return darts_network.imagenet(architecture, channels, 4)
        return darts_network.cifar(architecture, channels, CELLS_PER_STAGE)

    def network(
        self,
        architecture: Architecture,
        n_classes: int | None = None,
        c_image: int = 3,
        images: str = "cifar10",
        channels: int | None = None,
        auxiliary: bool = True,
    ) -> TrainableNetwork:
        """The public network to be trained, with its auxiliary head and drop path, for colour images."""
        made, n_classes = self.full(architecture, images, channels), n_classes or {"imagenet": 1000}.get(images, 10)
        c = made.program.layers[made.auxiliary - 1].c_out
        head = AuxiliaryHead(c, n_classes, large=images == "imagenet") if auxiliary else None
        return TrainableNetwork(made.program, c_image, n_classes, made.paths, head, made.auxiliary)

    def count(
        self, architecture: Architecture, images: str = "cifar10", channels: int | None = None
    ) -> tuple[int, int]:
        """Trainable parameters and multiply-adds of the public network, without its auxiliary head, as published."""
        image, n_classes = ((3, 224, 224), 1000) if images == "imagenet" else ((3, 32, 32), 10)
        return count(self.full(architecture, images, channels).program, image, n_classes)

    def graphs(self, table: Table, graph_form: str) -> GraphBatch:
        return self.encode(table.columns["edges"], graph_form)

    def table(self, dataset: str) -> Table:
        """The 725 random genotypes with the surrogate's accuracy; the columns hold their zero-cost scores too."""
        path = find(SOURCE)
        if path is None:
            raise MissingTable(f"no darts table is present: {remedy(get_source(SOURCE))}")
        columns, accuracy = _records(path)
        source = (
            f"NAS-Bench-301 v1.0 surrogate: validation accuracy on CIFAR-10 that it predicts for {len(accuracy)} "
            "random genotypes, none of them measured; it is the label and what is predicted"
        )
        return Table(source, "surrogate", columns, accuracy, accuracy)


def _edges(genotype: Genotype) -> np.ndarray:
    """(2, 8, 2): operation and state of each edge of both cells."""
    cells = (genotype.normal, genotype.reduce)
    return np.array([[(OPERATIONS.index(operation), state) for operation, state in cell] for cell in cells])


def _genotype(edges: np.ndarray) -> Genotype:
    normal, reduce = (tuple((OPERATIONS[o], s) for o, s in cell) for cell in edges.tolist())
    return Genotype(normal, reduce)


def _records(path: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """`edges (B, 2, 8, 2)` and the scores (B,) by name, accuracy (B,) in percent. UserError for another file."""
    try:
        records = list(json.loads(path.read_text(encoding="utf-8"))["cifar10"].values())
        cells = [json.loads(record["arch"].replace("(", "[").replace(")", "]")) for record in records]
        edges = np.array(cells, np.int64)[..., ::-1].copy()
        accuracy = np.array([record["val_accuracy"] for record in records], np.float64)
        scores = [name for name, value in records[0].items() if isinstance(value, dict)]
        columns = {name: np.array([record[name]["score"] for record in records], np.float64) for name in scores}
        for each in edges:
            _genotype(each)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(
            f"{path} must hold records of genotypes, got {error}: {remedy(get_source(SOURCE), path)}"
        ) from error
    return {"edges": edges, **columns}, accuracy


space = DARTS()
