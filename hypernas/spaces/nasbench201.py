"""NAS-Bench-201: six edges between four nodes, five operations, one cell stacked 3 x 5 times (Dong & Yang 2020)."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import numpy as np
import torch

from hypernas.data import Table, find, load_npz, read_analog
from hypernas.errors import UserError
from hypernas.graph import NORMAL, REDUCTION, Architecture, Cell, GraphBatch, simplify
from hypernas.target import Program, ProgramWriter

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
INPUT, OUTPUT, NONE, SKIP, CONV1, CONV3, POOL = range(7)
ANALOG_EDGES = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
ANALOG_OPS = (SKIP, NONE, CONV3, CONV1, POOL)
STAGES, CELLS_PER_STAGE = 3, 5


def _edge_graph() -> np.ndarray:
    """The raw adjacency (8, 8): input, one node an edge, output; edge i->j feeds every edge j->k."""
    adjacency = np.zeros((8, 8), np.int64)
    for a, (i, j) in enumerate(EDGES):
        adjacency[0, 1 + a] = i == 0
        adjacency[1 + a, 7] = j == 3
        for b, (k, _) in enumerate(EDGES):
            adjacency[1 + a, 1 + b] = k == j
    return adjacency


# ResNet basic block with stride 2: input -> conv3x3 -> conv3x3 -> output, input -> average pool -> conv1x1 -> output.
REDUCTION_CELL = Cell(
    ops=(INPUT, CONV3, CONV3, POOL, CONV1, OUTPUT),
    adjacency=(
        (0, 1, 0, 1, 0, 0),
        (0, 0, 1, 0, 0, 0),
        (0, 0, 0, 0, 0, 1),
        (0, 0, 0, 0, 1, 0),
        (0, 0, 0, 0, 0, 1),
        (0, 0, 0, 0, 0, 0),
    ),
    kind=REDUCTION,
)


class NASBench201:
    name = "nasbench201"
    ops = ("input", "output", "none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    datasets = ("cifar10", "cifar100", "ImageNet16-120")
    macro = "stem, 3 stages of 5 cells with a residual reduction block between, classifier"
    defaults: ClassVar[dict[str, Any]] = {"n_layers": 6, "width": 72, "hyper_layers": 3, "hyper_width": 96}
    _sequence = ((0,) * CELLS_PER_STAGE + (1,)) * (STAGES - 1) + (0,) * CELLS_PER_STAGE
    _raw = _edge_graph()

    def encode(self, edge_ops: np.ndarray, graph_form: str) -> GraphBatch:
        """Operations (B, 6) of the edges, ids into `ops` -> GraphBatch."""
        b = len(edge_ops)
        nodes = np.concatenate([np.full((b, 1), INPUT), edge_ops, np.full((b, 1), OUTPUT)], 1).astype(np.int64)
        raw = np.broadcast_to(self._raw, (b, 8, 8))
        ops, adjacency, mask = simplify(nodes, raw, NONE, SKIP, graph_form)
        reduction = np.zeros((8, 8), np.uint8)
        reduction[:6, :6] = REDUCTION_CELL.adjacency
        reduction_ops = np.array(REDUCTION_CELL.ops + (0, 0))
        return GraphBatch(
            torch.from_numpy(np.stack([ops, np.broadcast_to(reduction_ops, (b, 8))], 1)),
            torch.from_numpy(np.stack([adjacency, np.broadcast_to(reduction, (b, 8, 8))], 1)),
            torch.from_numpy(np.stack([mask, np.broadcast_to(np.arange(8) < 6, (b, 8))], 1)),
            torch.tensor([NORMAL, REDUCTION]).expand(b, 2).contiguous(),
            torch.tensor(self._sequence).expand(b, -1).contiguous(),
            self,
        )

    def parse(self, notation: str) -> Architecture:
        """`|nor_conv_3x3~0|+|none~0|skip_connect~1|+|...|` -> the raw Architecture."""
        found = re.findall(r"\|([^|~]+)~(\d)", notation)
        if [int(i) for _, i in found] != [i for i, _ in EDGES]:
            raise UserError(
                f"a nasbench201 cell lists 6 edges as |op~0|+|op~0|op~1|+|op~0|op~1|op~2|, got {notation!r}"
            )
        for op, _ in found:
            if op not in self.ops[NONE:]:
                raise UserError(f"operation must be one of {', '.join(self.ops[NONE:])}, got {op!r}")
        edge_ops = np.array([[self.ops.index(op) for op, _ in found]])
        if self.format(edge_ops[0]) != notation.strip():
            raise UserError(f"a nasbench201 cell is written {self.format(edge_ops[0])}, got {notation!r}")
        return self._architecture(edge_ops, "raw")

    def format(self, edge_ops: np.ndarray) -> str:
        """Operations (6,) of the edges -> the space's notation."""
        name = [f"{self.ops[op]}~{i}" for op, (i, _) in zip(edge_ops, EDGES, strict=True)]
        return f"|{name[0]}|+|{name[1]}|{name[2]}|+|{name[3]}|{name[4]}|{name[5]}|"

    def _architecture(self, edge_ops: np.ndarray, graph_form: str) -> Architecture:
        architecture = self.encode(edge_ops, graph_form).architecture(0)
        return Architecture(architecture.cells, architecture.sequence, self.format(edge_ops[0]))

    def _edge_ops(self, architecture: Architecture) -> np.ndarray:
        if architecture.notation:
            return np.array([[self.ops.index(op) for op in re.findall(r"\|([^|~]+)~", architecture.notation)]])
        cell = architecture.cells[0]
        if not np.array_equal(cell.adjacency, self._raw) or min(cell.ops[1:7]) < NONE:
            raise UserError("a nasbench201 architecture without notation must be in raw form, got other nodes or edges")
        return np.array([cell.ops[1:7]])

    def sample(self, rng: np.random.Generator) -> Architecture:
        return self._architecture(rng.integers(NONE, POOL + 1, (1, 6)), "raw")

    def mutate(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """One edge gets another operation."""
        edge_ops = self._edge_ops(architecture)
        edge, shift = rng.integers(6), rng.integers(1, 5)
        edge_ops[0, edge] = NONE + (edge_ops[0, edge] - NONE + shift) % 5
        return self._architecture(edge_ops, "raw")

    def canonical(self, architecture: Architecture, graph_form: str = "contracted") -> Architecture:
        """The architecture's function: pruned, and with skip connections contracted."""
        return self._architecture(self._edge_ops(architecture), graph_form)

    def graphs(self, table: Table, graph_form: str) -> GraphBatch:
        return self.encode(table.columns["edge_ops"], graph_form)

    def build(
        self, architecture: Architecture, channels: int = 16, cells_per_stage: int = 5, stem_stride: int = 1
    ) -> Program:
        """The network as a Program. With fewer than 5 cells a stage, the first ones of each stage are built."""
        if not 1 <= cells_per_stage <= CELLS_PER_STAGE:
            raise UserError(f"cells_per_stage must be from 1 to {CELLS_PER_STAGE}, got {cells_per_stage}")
        writer = ProgramWriter(channels, stem_stride)
        x = writer.stem()
        for stage in range(STAGES):
            start = stage * (CELLS_PER_STAGE + 1)
            width = channels * 2**stage
            if stage:
                x = self._cell(writer, architecture, start - 1, x, width // 2, width)
            for position in range(start, start + cells_per_stage):
                x = self._cell(writer, architecture, position, x, width, width)
        return writer.finish(x)

    @staticmethod
    def _cell(writer: ProgramWriter, architecture: Architecture, position: int, x: int, c_in: int, c_out: int) -> int:
        """Write the cell at a position; it reads value `x`, and a node sums what its incoming edges carry."""
        cell = architecture.cells[architecture.sequence[position]]
        writer.position = position
        values: list[tuple[int, ...]] = [()] * len(cell.ops)
        stride = 2 if cell.kind == REDUCTION else 1
        for node, op in enumerate(cell.ops):
            inputs = tuple(
                v for i in range(node) for v in values[i] * cell.adjacency[i][node] if cell.adjacency[i][node]
            )
            from_input = cell.kind == REDUCTION and cell.adjacency[0][node]
            width, step = (c_in, stride) if from_input else (c_out, 1)
            if op == INPUT:
                values[node] = (x,)
            elif not inputs or op == NONE:
                values[node] = ()
            elif op in (SKIP, OUTPUT):
                values[node] = inputs
            elif op == POOL and cell.kind == REDUCTION:
                values[node] = (writer.pool(inputs, width, kernel=2, stride=2, padding=0),)
            elif op == POOL:
                values[node] = (writer.pool(inputs, width, kernel=3, stride=1, padding=1),)
            elif op == CONV1 and cell.kind == REDUCTION:
                values[node] = (writer.conv(inputs, c_in, c_out, 1, 1, (position, node), relu=False, norm=False),)
            else:
                kernel = 3 if op == CONV3 else 1
                values[node] = (writer.conv(inputs, width, c_out, kernel, step, (position, node)),)
        return writer.add(values[-1], c_out) if values[-1] else writer.zero(x, c_out)

    def read(self, dataset: str) -> Table:
        """The official table where it is found, else the embedded re-trained one."""
        if dataset not in self.datasets:
            raise UserError(f"dataset must be one of {', '.join(self.datasets)} for nasbench201, got {dataset!r}")
        path = find("nasbench201")
        if path is not None:
            return self._official(path, dataset)
        if dataset != "cifar10":
            raise UserError(
                f"the embedded nasbench201 table holds cifar10 only, got {dataset!r}; "
                "put nasbench201/nasbench201.npz under $HYPERNAS_DATA, see `hypernas data list`"
            )
        path = find("analog-nasbench")
        if path is None:
            raise UserError("no nasbench201 table is present; `pip install analog-nasbench==0.1.3` brings one")
        ids, accuracy = read_analog(path)
        edge_ops = np.array(ANALOG_OPS)[ids][:, [ANALOG_EDGES.index(edge) for edge in EDGES]]
        source = "embedded table of the package analog-nasbench 0.1.3 (all 15,625 cells re-trained on CIFAR-10)"
        return Table(source, "re-trained", {"edge_ops": edge_ops}, accuracy, accuracy)

    def _official(self, path: Any, dataset: str) -> Table:
        n = 5 ** len(EDGES)
        accuracies = {"test200": (n, 3), "val200_cifar10": (n,), "val200_in16_partial": (n,)}
        arrays = load_npz(path, {"ops": (n, 6), "op_names": 1, **accuracies})
        ids = np.array([self.ops.index(str(name)) for name in arrays["op_names"]])
        test = arrays["test200"][:, self.datasets.index(dataset)].astype(np.float64)
        validation = arrays["val200_cifar10"].astype(np.float64) if dataset == "cifar10" else test
        note = "validation accuracy" if dataset == "cifar10" else "test accuracy, the table has no validation accuracy"
        source = f"official NAS-Bench-201 accuracies after 200 epochs (label for training: {note})"
        return Table(source, "measured", {"edge_ops": ids[arrays["ops"]]}, validation, test)


space = NASBench201()
