"""NAS-Bench-101: a cell of at most 7 vertices and 9 edges, stacked 3 x 3 times (Ying et al. 2019)."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import numpy as np
import torch

from hypernas.canonical import simplify
from hypernas.data import Table, find, load_npz
from hypernas.errors import MissingTable, UserError
from hypernas.graph import NORMAL, REDUCTION, Architecture, Cell, GraphBatch
from hypernas.method.target_network import Program, ProgramWriter, count
from hypernas.spaces.base import SearchSpace, check_cells_per_stage
from hypernas.spaces.blocks.channels import alive, cell_parameters, connected, write_cell

VERTICES, EDGES = 7, 9
INPUT, OUTPUT, CONV3, CONV1, POOL, DOWNSAMPLE = range(6)
KERNELS = (0, 0, 3, 1, 0, 0)
STACKS, CELLS_PER_STACK, STEM_CHANNELS = 3, 3, 128
TEST_IMAGES = 9984
SOURCES = ("nasbench101-fetched", "nasbench101")
# The operations of a cell share its channels: of the usual four each would have one, and nothing is learned.
ON_DIGITS = {"channels": 8, "image_batch": 64}

# Max pooling of 2 x 2 with stride 2 between two stacks.
DOWNSAMPLING = Cell((INPUT, DOWNSAMPLE, OUTPUT), ((0, 1, 0), (0, 0, 1), (0, 0, 0)), REDUCTION)


class NASBench101(SearchSpace):
    name = "nasbench101"
    ops = ("input", "output", "conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3", "maxpool2x2")
    datasets = ("cifar10",)
    macro = "stem, 3 stacks of 3 cells with max pooling between, classifier"
    defaults: ClassVar[dict[str, Any]] = {"n_layers": 6, "width": 72, "hyper_layers": 3, "hyper_width": 96}
    profiles: ClassVar[dict[str, dict[str, Any]]] = {"paper": {"cells_per_stage": CELLS_PER_STACK}}
    networks: ClassVar[dict[str, dict[str, Any]]] = {"quick": ON_DIGITS, "standard": ON_DIGITS}
    _sequence = ((0,) * CELLS_PER_STACK + (1,)) * (STACKS - 1) + (0,) * CELLS_PER_STACK
    _short = tuple(name.removesuffix("-bn-relu") for name in ops)

    def encode(self, n_vertices: np.ndarray, adj_bits: np.ndarray, ops: np.ndarray, graph_form: str) -> GraphBatch:
        """The table's columns -> GraphBatch: n_vertices (B,), edge x -> y as bit x + y(y-1)/2 of adj_bits (B,), inner
        operations (B, 5) as 0 conv3x3, 1 conv1x1, 2 maxpool3x3.

        Pruned as the official code does; nothing is left to contract, so `contracted` equals `pruned`.
        """
        b, last = len(n_vertices), n_vertices.astype(np.int64) - 1
        adjacency = np.zeros((b, VERTICES, VERTICES), np.uint8)
        for y in range(VERTICES):
            for x in range(y):
                adjacency[:, x, y] = (adj_bits >> (x + y * (y - 1) // 2)) & 1
        nodes = np.full((b, VERTICES), INPUT)
        nodes[:, 1:-1] = np.where(np.arange(1, VERTICES - 1) < last[:, None], ops + np.int64(CONV3), 0)
        mask = np.arange(VERTICES) <= last[:, None]
        nodes[np.arange(b), last] = OUTPUT
        rows = np.flatnonzero(~connected(adjacency, last)) if graph_form != "raw" else np.empty(0, int)
        if len(rows):
            ends, into = last[rows], adjacency[rows, :, last[rows]]
            nodes[rows, ends], nodes[rows, -1] = 0, OUTPUT
            adjacency[rows, :, ends] = 0
            adjacency[rows, :, -1] = into
            nodes[rows], adjacency[rows], mask[rows] = simplify(nodes[rows], adjacency[rows], None, None, graph_form)
            if not adjacency[rows].any((1, 2)).all():
                raise UserError("a nasbench101 cell must lead from input to output, got a disconnected one")
        return self._stack(nodes, adjacency, mask)

    def _stack(self, ops: np.ndarray, adjacency: np.ndarray, mask: np.ndarray) -> GraphBatch:
        """Cells (B, N) -> the whole networks, the downsampling between."""
        b, n = len(ops), len(DOWNSAMPLING.ops)
        down = np.zeros((VERTICES, VERTICES), np.uint8)
        down[:n, :n] = DOWNSAMPLING.adjacency
        down_ops = np.array(DOWNSAMPLING.ops + (0,) * (VERTICES - n))
        return GraphBatch(
            torch.from_numpy(np.stack([ops, np.broadcast_to(down_ops, ops.shape)], 1)),
            torch.from_numpy(np.stack([adjacency, np.broadcast_to(down, adjacency.shape)], 1)),
            torch.from_numpy(np.stack([mask, np.broadcast_to(np.arange(VERTICES) < n, mask.shape)], 1)),
            torch.tensor([NORMAL, REDUCTION]).expand(b, 2),
            torch.tensor(self._sequence).expand(b, -1),
            self,
        )

    def _columns(self, architecture: Architecture) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The columns of one architecture. Raises UserError for a cell outside the space."""
        cell = architecture.cells[0]
        n = len(cell.ops)
        edges = [(x, y) for y in range(n) for x in range(y) if cell.adjacency[x][y]]
        if not 2 <= n <= VERTICES:
            raise UserError(f"a nasbench101 cell must have from 2 to {VERTICES} vertices, got {n}")
        if len(edges) > EDGES:
            raise UserError(f"a nasbench101 cell must have at most {EDGES} edges, got {len(edges)}")
        if cell.ops[0] != INPUT or cell.ops[-1] != OUTPUT or set(cell.ops[1:-1]) - {CONV3, CONV1, POOL}:
            raise UserError(
                f"a nasbench101 cell must be input, operations among {', '.join(self.ops[CONV3:DOWNSAMPLE])}, output, "
                f"got {', '.join(self.ops[op] if op < len(self.ops) else str(op) for op in cell.ops)}"
            )
        ops = np.zeros((1, VERTICES - 2), np.int64)
        ops[0, : n - 2] = np.array(cell.ops[1:-1]) - CONV3
        bits = sum(1 << (x + y * (y - 1) // 2) for x, y in edges)
        return np.array([n]), np.array([bits]), ops

    def _architecture(self, graphs: GraphBatch) -> Architecture:
        plain = graphs.architecture(0)
        return Architecture(plain.cells, plain.sequence, self.format(plain.cells[0]))

    def canonical(self, architecture: Architecture, graph_form: str = "contracted") -> Architecture:
        """The architecture without the vertices that lie on no path from input to output."""
        return self._architecture(self.encode(*self._columns(architecture), graph_form))

    def format(self, cell: Cell) -> str:
        """Each vertex after the input with the vertices it reads: `conv3x3(0)|maxpool3x3(0,1)|output(1,2)`."""
        reads = (",".join(str(x) for x in range(y) if cell.adjacency[x][y]) for y in range(len(cell.ops)))
        return "|".join(f"{self._short[op]}({x})" for op, x in zip(cell.ops, reads, strict=True) if op != INPUT)

    def parse(self, notation: str) -> Architecture:
        """`conv3x3(0)|maxpool3x3(0,1)|output(1,2)` -> the raw Architecture; vertex 0 is the input."""
        parts = [re.fullmatch(r"([\w-]+)\((\d+(?:,\d+)*)?\)", part.strip()) for part in notation.split("|")]
        if not all(parts):
            form = "conv3x3(0)|conv1x1(0,1)|output(1,2)"
            raise UserError(f"a nasbench101 cell lists its vertices as {form}, got {notation!r}")
        found = [(part[1].removesuffix("-bn-relu"), part[2]) for part in parts if part]
        named = self._short[OUTPUT:DOWNSAMPLE]
        for name, _ in found:
            if name not in named:
                raise UserError(f"operation must be one of {', '.join(named)}, got {name!r}")
        n = len(found) + 1
        adjacency = np.zeros((n, n), int)
        for y, (_, sources) in enumerate(found, 1):
            for x in map(int, (sources or "").split(",") if sources else ()):
                if x >= y:
                    raise UserError(f"vertex {y} must read vertices before it, got {x} in {notation!r}")
                adjacency[x, y] = 1
        rows = tuple(tuple(row) for row in adjacency.tolist())
        cell = Cell((INPUT, *(self._short.index(name) for name, _ in found)), rows)
        columns = self._columns(Architecture((cell,), (0,)))
        self.encode(*columns, "pruned")
        return self._architecture(self.encode(*columns, "raw"))

    def sample(self, rng: np.random.Generator) -> Architecture:
        """A random matrix of 7 vertices and random operations, pruned, drawn again until it is inside the space."""
        while True:
            bits, ops = rng.integers(1 << 21, size=1), rng.integers(3, size=(1, VERTICES - 2))
            found = self._inside(np.array([VERTICES]), bits, ops)
            if found is not None:
                return found

    def _inside(self, n_vertices: np.ndarray, bits: np.ndarray, ops: np.ndarray) -> Architecture | None:
        """The pruned architecture, None where it is disconnected or has too many edges."""
        try:
            architecture = self._architecture(self.encode(n_vertices, bits, ops, "pruned"))
            self._columns(architecture)
        except UserError:
            return None
        return architecture

    def mutate(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """One edge is added or removed, one operation changes, or a new vertex is put between two vertices.

        Drawn again until the pruned result is another architecture inside the space.
        """
        architecture = self.canonical(architecture)
        cell = architecture.cells[0]
        while True:
            ops, edges = list(cell.ops), np.array(cell.adjacency)
            change, n = rng.integers(3), len(ops)
            x, y = np.sort(rng.choice(n, 2, replace=False))
            if change == 0:
                edges[x, y] ^= 1
            elif change == 1 and n > 2:
                v = int(rng.integers(1, n - 1))
                ops[v] = CONV3 + (ops[v] - CONV3 + int(rng.integers(1, 3))) % 3
            elif change == 2 and n < VERTICES:
                ops.insert(y, int(rng.integers(CONV3, POOL + 1)))
                edges = np.insert(np.insert(edges, y, 0, 0), y, 0, 1)
                edges[x, y] = edges[y, y + 1] = 1
            rows = tuple(tuple(row) for row in edges.tolist())
            try:
                other = self.canonical(Architecture((Cell(tuple(ops), rows),), (0,)))
            except UserError:
                continue
            if other.notation != architecture.notation:
                return other

    def graphs(self, table: Table, graph_form: str) -> GraphBatch:
        return self.encode(table.columns["n_vertices"], table.columns["adj_bits"], table.columns["ops"], graph_form)

    def build(
        self, architecture: Architecture, channels: int = 16, cells_per_stage: int = 3, stem_stride: int = 1
    ) -> Program:
        """The network as a Program. With fewer than 3 cells a stack, the first ones of each stack are built."""
        check_cells_per_stage(cells_per_stage, CELLS_PER_STACK)
        self._columns(architecture)
        cell = architecture.cells[0]
        edges, kernels = alive(np.array(cell.adjacency, bool)), [KERNELS[op] for op in cell.ops]
        writer = ProgramWriter(channels, stem_stride, position=0)
        x, c_in = writer.relu(writer.stem(), channels), channels
        for stack in range(STACKS):
            start, width = stack * (CELLS_PER_STACK + 1), channels * 2**stack
            if stack:
                writer.position = start - 1
                x = writer.max_pool((x,), c_in, kernel=2, stride=2, padding=0)
            for writer.position in range(start, start + cells_per_stage):
                x = write_cell(writer, edges, kernels, x, c_in, width)
                c_in = width
        return writer.finish(x, norm_last=False)

    def count(self, architecture: Architecture) -> tuple[int, int]:
        """Trainable parameters and multiply-adds of the table's network: stem of 128 channels, 32 x 32 images."""
        return count(self.build(architecture, STEM_CHANNELS), image=(3, 32, 32), n_classes=10)

    def trainable_parameters(self, graphs: GraphBatch) -> np.ndarray:
        """Parameters (B,) of the network of each pruned architecture with the table's stem of 128 channels."""
        ops, adjacency = graphs.ops[:, 0].numpy(), graphs.adjacency[:, 0].numpy()
        last, kernel = graphs.mask[:, 0].sum(1).numpy() - 1, np.array(KERNELS)[ops]
        total, c_in = np.full(len(ops), (3 * 3 * 3 + 2) * STEM_CHANNELS), STEM_CHANNELS
        for stack in range(STACKS):
            width = STEM_CHANNELS * 2**stack
            first, others = (cell_parameters(adjacency, last, kernel, c, width) for c in (c_in, width))
            total, c_in = total + first + (CELLS_PER_STACK - 1) * others, width
        return total + (c_in + 1) * 10

    def check(self, table: Table) -> str:
        """Recompute what the table states of every architecture. Raises UserError for the first row that differs."""
        stated = table.columns.get("trainable_parameters")
        if stated is None:
            raise UserError(f"a table to check must state trainable parameters, this one does not: {table.source}")
        counted = self.trainable_parameters(self.graphs(table, "pruned"))
        wrong = np.flatnonzero(counted != stated)
        if len(wrong):
            row = wrong[0]
            raise UserError(f"row {row} must have {counted[row]} trainable parameters, the table says {stated[row]}")
        return f"trainable parameters equal those recomputed from the graph in all {len(stated):,} rows"

    def table(self, dataset: str) -> Table:
        """The table that `hypernas data fetch` made of the official file, else the compact one."""
        path = next((path for path in map(find, SOURCES) if path is not None), None)
        if path is None:
            raise MissingTable("no nasbench101 table is present; `hypernas data fetch nasbench101` brings one")
        b = (None,)
        arrays = load_npz(path, {"n_vertices": b, "adj_bits": b, "ops": (None, 5), "trainable_parameters": b,
                                 "test_correct_sum3": b, "val_index": b, "val_correct": (None, 4)})  # fmt: skip
        test = arrays["test_correct_sum3"] / (3 * TEST_IMAGES) * 100
        validation = np.full(len(test), np.nan)
        validation[arrays["val_index"]] = arrays["val_correct"][:, 3] / TEST_IMAGES * 100
        columns = {name: arrays[name] for name in ("n_vertices", "adj_bits", "ops", "trainable_parameters")}
        labelled = f"{len(test):,} cells, {np.isfinite(validation).sum():,} of them with validation accuracy"
        source = f"official NAS-Bench-101 accuracies after 108 epochs ({labelled})"
        return Table(source, "measured", columns, validation, test)


space = NASBench101()
