"""Architectures as padded tensors, one currency between the modules, and as torch_geometric graphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hypernas import canonical as hashing
from hypernas.errors import UserError

if TYPE_CHECKING:
    from torch_geometric.data import Data

NORMAL, REDUCTION = 0, 1
GRAPH_FORMS = ("raw", "pruned", "contracted")
MAX_COUNT = 255
TENSORS = ("ops", "adjacency", "mask", "kind", "sequence")


@dataclass(frozen=True)
class Cell:
    """A directed acyclic graph of operations: `adjacency[i][j]` counts the edges i -> j, nodes in topological order."""

    ops: tuple[int, ...]
    adjacency: tuple[tuple[int, ...], ...]
    kind: int = NORMAL

    def __post_init__(self) -> None:
        n = len(self.ops)
        if n == 0 or min(self.ops) < 0:
            raise UserError(f"operations must be at least one number from 0 up, got {self.ops}")
        if self.kind not in (NORMAL, REDUCTION):
            raise UserError(f"kind must be {NORMAL} (normal) or {REDUCTION} (reduction), got {self.kind}")
        sizes = [len(row) for row in self.adjacency]
        if sizes != [n] * n:
            raise UserError(f"adjacency must be {n} x {n} for {n} operations, got {len(sizes)} rows of {sizes}")
        for i, row in enumerate(self.adjacency):
            for j, count in enumerate(row):
                if not 0 <= count <= MAX_COUNT or (count and j <= i):
                    rule = f"adjacency must be upper triangular with counts from 0 to {MAX_COUNT}"
                    place = f"{count} at row {i}, column {j}"
                    raise UserError(f"{rule}, got {place}; list the nodes in topological order")


@dataclass(frozen=True)
class Architecture:
    """Unique cells and the sequence in which the network stacks them; `notation` is the space's own way to write it."""

    cells: tuple[Cell, ...]
    sequence: tuple[int, ...]
    notation: str = ""

    def __post_init__(self) -> None:
        wrong = [i for i in self.sequence if not 0 <= i < len(self.cells)]
        if wrong or not self.sequence:
            raise UserError(f"sequence must index the {len(self.cells)} cells at least once, got {self.sequence}")

    def to_pyg(self) -> list[Data]:
        """One torch_geometric graph a unique cell: `x` (N,) operations, `edge_index` (2, edges), `count` (edges,)."""
        from torch_geometric.data import Data

        graphs = []
        for cell in self.cells:
            adjacency = torch.tensor(cell.adjacency)
            edge_index = adjacency.nonzero().T.contiguous()
            graph = Data(x=torch.tensor(cell.ops), edge_index=edge_index, num_nodes=len(cell.ops), kind=cell.kind)
            graph.count = adjacency[edge_index[0], edge_index[1]]
            graph.sequence, graph.notation = torch.tensor(self.sequence), self.notation
            graphs.append(graph)
        return graphs

    @staticmethod
    def from_pyg(graphs: Sequence[Data]) -> Architecture:
        """The inverse of `to_pyg`. A graph without `count` has single edges."""
        cells = []
        for graph in graphs:
            adjacency = torch.zeros(graph.num_nodes, graph.num_nodes, dtype=torch.long)
            count = getattr(graph, "count", None)
            adjacency[graph.edge_index[0], graph.edge_index[1]] = 1 if count is None else count
            rows = tuple(tuple(row) for row in adjacency.tolist())
            cells.append(Cell(tuple(graph.x.tolist()), rows, int(graph.kind)))
        return Architecture(tuple(cells), tuple(graphs[0].sequence.tolist()), graphs[0].notation)


@dataclass(frozen=True, eq=False)
class GraphBatch:
    """B architectures as tensors, each with at most U unique cells of at most N nodes, stacked into C cells.

    `ops (B, U, N)` int64, `adjacency (B, U, N, N)` uint8 edge counts, `mask (B, U, N)` bool, `kind (B, U)` int64,
    `sequence (B, C)` int64 index of the unique cell at each position, padded with -1. `space`, `graph_form` and the
    `source` of their accuracies, a sentence, are kept where they are known.
    """

    ops: Tensor
    adjacency: Tensor
    mask: Tensor
    kind: Tensor
    sequence: Tensor
    space: Any = None
    graph_form: str = ""
    source: str = ""

    def __len__(self) -> int:
        return self.ops.shape[0]

    def __getitem__(self, index: Any) -> GraphBatch:
        """The architectures at `index`: a slice, integers (B',), a mask (B,), or one integer, a batch of one."""
        if isinstance(index, int | np.integer):
            size = len(self)
            if not -size <= index < size:
                raise IndexError(f"index must be below {size}, got {index}")
            index = [int(index)]
        fields = [field[index] for field in self.tensors()]
        return replace(self, **dict(zip(TENSORS, fields, strict=True)))

    def tensors(self) -> tuple[Tensor, ...]:
        """The five tensors, in the order of their names in `TENSORS`."""
        return self.ops, self.adjacency, self.mask, self.kind, self.sequence

    def to(self, device: str | torch.device) -> GraphBatch:
        fields = [field.to(device) for field in self.tensors()]
        return replace(self, **dict(zip(TENSORS, fields, strict=True)))

    def padded(self, n: int) -> GraphBatch:
        """The same architectures with room for n nodes a cell, at least as many as they have."""
        more = n - self.ops.shape[2]
        ops, mask = (F.pad(field, (0, more)) for field in (self.ops, self.mask))
        return replace(self, ops=ops, adjacency=F.pad(self.adjacency, (0, more, 0, more)), mask=mask)

    def trimmed(self) -> GraphBatch:
        """The same architectures without the nodes, unique cells and positions that none of them has."""
        n = int(self.mask.any(0).any(0).sum())
        u, c = int(self.sequence.max()) + 1, int((self.sequence >= 0).any(0).nonzero().max()) + 1
        return replace(
            self,
            ops=self.ops[:, :u, :n],
            adjacency=self.adjacency[:, :u, :n, :n],
            mask=self.mask[:, :u, :n],
            kind=self.kind[:, :u],
            sequence=self.sequence[:, :c],
        )

    def architecture(self, i: int) -> Architecture:
        """The i-th architecture, the inverse of `collate` up to its notation and unused cells."""
        cells = []
        for u in range(int(self.sequence[i].max()) + 1):
            n = int(self.mask[i, u].sum())
            adjacency = tuple(tuple(row) for row in self.adjacency[i, u, :n, :n].tolist())
            cells.append(Cell(tuple(self.ops[i, u, :n].tolist()), adjacency, int(self.kind[i, u])))
        return Architecture(tuple(cells), tuple(int(u) for u in self.sequence[i] if u >= 0))

    def distinct(self) -> tuple[Tensor, Tensor]:
        """Rows (F,) of the distinct architectures, and for each architecture (B,) which of these it is."""
        _, first, inverse = np.unique(self.function_ids(), return_index=True, return_inverse=True)
        return torch.from_numpy(first), torch.from_numpy(inverse)

    def function_ids(self) -> np.ndarray:
        """An integer (B,) that is equal for isomorphic architectures and, but for hash collisions, only for those."""
        return hashing.function_ids(*(field.cpu().numpy() for field in self.tensors()))


def collate(architectures: Sequence[Architecture], space: Any = None, graph_form: str = "") -> GraphBatch:
    """Architectures, all in `graph_form` where that is known -> GraphBatch, padded to the largest of each axis.

    Raises UserError for an operation that is not of the space.
    """
    if not architectures:
        raise UserError("collate needs at least one architecture, got none")
    largest = max(max(cell.ops) for a in architectures for cell in a.cells)
    if space is not None and largest >= len(space.ops):
        raise UserError(f"operations must be from 0 to {len(space.ops) - 1} for {space.name}, got {largest}")
    b = len(architectures)
    u = max(len(a.cells) for a in architectures)
    n = max(len(cell.ops) for a in architectures for cell in a.cells)
    c = max(len(a.sequence) for a in architectures)
    ops, mask = np.zeros((b, u, n), np.int64), np.zeros((b, u, n), bool)
    adjacency, kind = np.zeros((b, u, n, n), np.uint8), np.zeros((b, u), np.int64)
    sequence = np.full((b, c), -1, np.int64)
    for i, architecture in enumerate(architectures):
        sequence[i, : len(architecture.sequence)] = architecture.sequence
        for j, cell in enumerate(architecture.cells):
            size = len(cell.ops)
            ops[i, j, :size], mask[i, j, :size] = cell.ops, True
            adjacency[i, j, :size, :size] = cell.adjacency
            kind[i, j] = cell.kind
    arrays = (ops, adjacency, mask, kind, sequence)
    tensors = [torch.from_numpy(array) for array in arrays]
    return GraphBatch(*tensors, space=space, graph_form=graph_form)  # type: ignore[misc]


def simplify(
    ops: np.ndarray, adjacency: np.ndarray, zero: int | None, skip: int | None, graph_form: str, n_inputs: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells (B, N), (B, N, N) whose first nodes are the inputs and last the output -> the same cells by function.

    `pruned` drops `zero` operations and every node that lies on no path from an input to the output; `contracted` also
    replaces each `skip` node by edges from its inputs to its outputs, counted, so that the sum a node receives stays
    the same. Kept nodes move to the front. Returns `ops`, `adjacency`, `mask` (B, N).
    """
    if graph_form not in GRAPH_FORMS:
        raise UserError(f"graph_form must be one of {', '.join(GRAPH_FORMS)}, got {graph_form!r}")
    b, n = ops.shape
    alive = np.ones((b, n), bool) if zero is None or graph_form == "raw" else ops != zero
    if graph_form != "raw":
        edges = adjacency * alive[:, :, None] * alive[:, None, :] > 0
        forward, backward = np.zeros((b, n), bool), np.zeros((b, n), bool)
        forward[:, :n_inputs] = backward[:, -1] = True
        for _ in range(n):
            forward |= (forward[:, :, None] & edges).any(1)
            backward |= (backward[:, None, :] & edges).any(2)
        alive = alive & forward & backward
        alive[:, :n_inputs] = alive[:, -1] = True
    adjacency = adjacency * alive[:, :, None] * alive[:, None, :]
    if graph_form == "contracted" and skip is not None:
        skips = alive & (ops == skip)
        through = adjacency.astype(np.int64)
        hop = adjacency * skips[:, None, :]
        for _ in range(n):
            hop_next = np.matmul(hop, adjacency)
            through = through + hop_next
            hop = hop_next * skips[:, None, :]
        alive = alive & ~skips
        adjacency = through * alive[:, :, None] * alive[:, None, :]
    order = np.argsort(~alive, axis=1, kind="stable")
    rows = np.arange(b)[:, None]
    ops, alive = ops[rows, order], alive[rows, order]
    adjacency = adjacency[rows[:, :, None], order[:, :, None], order[:, None, :]]
    return np.where(alive, ops, 0), adjacency.astype(np.uint8), alive
