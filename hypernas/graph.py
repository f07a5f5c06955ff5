"""Architectures as padded tensors, the form that all modules exchange, and as torch_geometric graphs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hypernas import canonical
from hypernas.errors import UserError

if TYPE_CHECKING:
    from torch_geometric.data import Data

# Kinds of cells.
NORMAL, REDUCTION = 0, 1
# Edges are counted in a byte.
MAX_COUNT = 255
# The names under which the tensors of a batch are saved.
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
                backward = count != 0 and j <= i
                # An edge that goes back would be a cycle, and a cell is run node by node in this order.
                if backward or not 0 <= count <= MAX_COUNT:
                    rule = f"adjacency must be upper triangular with counts from 0 to {MAX_COUNT}"
                    place = f"{count} at row {i}, column {j}"
                    raise UserError(f"{rule}, got {place}; list the nodes in topological order")

    @classmethod
    def with_edges(
        cls,
        ops: Iterable[int],
        adjacency: np.ndarray | Tensor,
        kind: int = NORMAL,
    ) -> Cell:
        """Return the cell with operations (N,) and edge counts (N, N)."""
        rows = [tuple(row) for row in adjacency.tolist()]
        return cls(tuple(ops), tuple(rows), kind)


@dataclass(frozen=True)
class Architecture:
    """Unique cells and the sequence in which the network stacks them.

    `notation` is the architecture as its search space writes it.
    """

    cells: tuple[Cell, ...]
    sequence: tuple[int, ...]
    notation: str = ""

    def __post_init__(self) -> None:
        wrong = [i for i in self.sequence if not 0 <= i < len(self.cells)]
        if wrong or not self.sequence:
            raise UserError(f"sequence must index the {len(self.cells)} cells at least once, got {self.sequence}")

    def to_pyg(self) -> list[Data]:
        """Return a torch_geometric graph for each unique cell.

        A graph has `x` (N,), the operations, `edge_index` (2, edges) and `count` (edges,).
        """
        from torch_geometric.data import Data

        graphs = []
        for cell in self.cells:
            adjacency = torch.tensor(cell.adjacency)
            edge_index = adjacency.nonzero().T.contiguous()
            graph = Data(x=torch.tensor(cell.ops), edge_index=edge_index, num_nodes=len(cell.ops), kind=cell.kind)
            source, target = edge_index
            # Contracted graphs have parallel edges, which an edge_index alone does not tell from single ones.
            graph.count = adjacency[source, target]
            graph.sequence = torch.tensor(self.sequence)
            graph.notation = self.notation
            graphs.append(graph)
        return graphs

    @staticmethod
    def from_pyg(graphs: Sequence[Data]) -> Architecture:
        """Return the architecture of these graphs, inverting `to_pyg`. A graph without `count` has single edges."""
        cells = []
        for graph in graphs:
            adjacency = torch.zeros(graph.num_nodes, graph.num_nodes, dtype=torch.long)
            source, target = graph.edge_index
            count = getattr(graph, "count", None)
            adjacency[source, target] = 1 if count is None else count
            cells.append(Cell.with_edges(graph.x.tolist(), adjacency, int(graph.kind)))
        first = graphs[0]
        return Architecture(tuple(cells), tuple(first.sequence.tolist()), first.notation)


@dataclass(frozen=True, eq=False)
class GraphBatch:
    """B architectures as tensors, each with at most U unique cells of at most N nodes, stacked into C cells.

    `ops (B, U, N)` int64, `adjacency (B, U, N, N)` uint8 edge counts, `mask (B, U, N)` bool, `kind (B, U)` int64,
    `sequence (B, C)` int64 index of the unique cell at each position, padded with -1. If known, the batch also holds
    its `space`, its `graph_form` and, as a sentence, the `source` of the accuracies.
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
        """Return the architectures at `index`: a slice, integers (B',), a mask (B,), or one integer, a batch of one."""
        if isinstance(index, int | np.integer):
            size = len(self)
            if not -size <= index < size:
                raise IndexError(f"index must be below {size}, got {index}")
            # A batch of one keeps its first axis, so that whatever takes a batch takes it.
            index = [int(index)]
        return self._with([field[index] for field in self.tensors()])

    def _with(self, tensors: Sequence[Tensor]) -> GraphBatch:
        """Other tensors; what is known of them stays."""
        ops, adjacency, mask, kind, sequence = tensors
        return replace(self, ops=ops, adjacency=adjacency, mask=mask, kind=kind, sequence=sequence)

    def tensors(self) -> tuple[Tensor, ...]:
        """Return the five tensors in the order of `TENSORS`."""
        return self.ops, self.adjacency, self.mask, self.kind, self.sequence

    def to(self, device: str | torch.device) -> GraphBatch:
        """Return the same architectures on `device`."""
        return self._with([field.to(device) for field in self.tensors()])

    def trimmed(self) -> GraphBatch:
        """Return the same architectures without nodes, unique cells and positions that none of them uses."""
        n = int(self.mask.any(0).any(0).sum())
        u = int(self.sequence.max()) + 1
        # Positions are filled from the left.
        c = int((self.sequence >= 0).any(0).sum())
        return replace(
            self,
            ops=self.ops[:, :u, :n],
            adjacency=self.adjacency[:, :u, :n, :n],
            mask=self.mask[:, :u, :n],
            kind=self.kind[:, :u],
            sequence=self.sequence[:, :c],
        )

    def architecture(self, i: int) -> Architecture:
        """Return the i-th architecture. This inverts `collate`, except that the notation and unused cells are lost."""
        cells = []
        for u in range(int(self.sequence[i].max()) + 1):
            n = int(self.mask[i, u].sum())
            # A cell has as many nodes as its mask; the rest is padding.
            kind = int(self.kind[i, u])
            ops = self.ops[i, u, :n].tolist()
            cells.append(Cell.with_edges(ops, self.adjacency[i, u, :n, :n], kind))
        positions = self.sequence[i].tolist()
        return Architecture(tuple(cells), tuple(u for u in positions if u >= 0))

    def distinct(self) -> tuple[Tensor, Tensor]:
        """Return the rows (F,) of the distinct architectures, and for each architecture (B,) its index among them."""
        _, first, inverse = np.unique(self.function_ids(), return_index=True, return_inverse=True)
        return torch.from_numpy(first), torch.from_numpy(inverse)

    def function_ids(self) -> np.ndarray:
        """Return an integer (B,) per architecture, equal for isomorphic ones and, but for collisions, no others."""
        arrays = [field.cpu().numpy() for field in self.tensors()]
        return canonical.function_ids(*arrays)


def collate(
    architectures: Sequence[Architecture],
    space: Any = None,
    graph_form: str = "",
) -> GraphBatch:
    """Return the architectures as one GraphBatch, padded to the largest size along each axis.

    `graph_form` is the form that all of them have, if known. Raise UserError for anything that is not an architecture
    and for an operation that the space does not have.
    """
    given = architectures if isinstance(architectures, list | tuple) else [architectures]
    for one in given:
        if not isinstance(one, Architecture):
            raise UserError(f"collate needs a list of architectures, got {one!r:.80}")
    if not architectures:
        raise UserError("collate needs at least one architecture, got none")
    cells = [cell for architecture in architectures for cell in architecture.cells]
    # An operation beyond the space would be looked up outside the embedding table, far from this mistake.
    largest = max(max(cell.ops) for cell in cells)
    if space is not None and largest >= len(space.ops):
        raise UserError(f"operations must be from 0 to {len(space.ops) - 1} for {space.name}, got {largest}")
    b = len(architectures)
    u = max(len(architecture.cells) for architecture in architectures)
    n = max(len(cell.ops) for cell in cells)
    c = max(len(architecture.sequence) for architecture in architectures)
    ops = np.zeros((b, u, n), np.int64)
    adjacency = np.zeros((b, u, n, n), np.uint8)
    mask = np.zeros((b, u, n), bool)
    kind = np.zeros((b, u), np.int64)
    # -1 stands where a network has fewer cells than the longest one.
    sequence = np.full((b, c), -1, np.int64)
    for i, architecture in enumerate(architectures):
        sequence[i, : len(architecture.sequence)] = architecture.sequence
        for j, cell in enumerate(architecture.cells):
            size = len(cell.ops)
            ops[i, j, :size] = cell.ops
            mask[i, j, :size] = True
            adjacency[i, j, :size, :size] = cell.adjacency
            kind[i, j] = cell.kind
    return GraphBatch(
        torch.from_numpy(ops),
        torch.from_numpy(adjacency),
        torch.from_numpy(mask),
        torch.from_numpy(kind),
        torch.from_numpy(sequence),
        space=space,
        graph_form=graph_form,
    )
