"""The cells of a GraphBatch that tell architectures apart, with their nodes in an order that isomorphic cells share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from hypernas.canonical import node_ids
from hypernas.graph import GraphBatch

Columns = tuple[int, ...]


def varying(graphs: GraphBatch) -> Columns:
    """The unique cells in which architectures differ, all of them where none does.

    A cell that all share, such as the downsampling block of a cell-based space, says nothing about their order.
    """
    fields = (graphs.ops, graphs.mask, graphs.kind, graphs.adjacency, repeats(graphs))
    shape = (*graphs.kind.shape, -1)
    differ = torch.cat([(field != field[:1]).reshape(shape) for field in fields], 2).any(2).any(0)
    return tuple(differ.nonzero()[:, 0].tolist()) or tuple(range(shape[1]))


def repeats(graphs: GraphBatch) -> torch.Tensor:
    """How often (B, U) each unique cell stands in the sequence."""
    return torch.stack([(graphs.sequence == u).sum(1) for u in range(graphs.kind.shape[1])], 1)


def with_cells(graphs: GraphBatch, columns: Columns) -> GraphBatch:
    """The same architectures with room for the cells `columns`, empty ones where none of them has so many."""
    more = max(0, max(columns) + 1 - graphs.kind.shape[1])
    ops, mask = (F.pad(field, (0, 0, 0, more)) for field in (graphs.ops, graphs.mask))
    adjacency, kind = F.pad(graphs.adjacency, (0, 0, 0, 0, 0, more)), F.pad(graphs.kind, (0, more))
    return replace(graphs, ops=ops, adjacency=adjacency, mask=mask, kind=kind)


def ordered(graphs: GraphBatch, columns: Columns) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The cells `columns` as ops (B, U, N), adjacency (B, U, N, N), mask (B, U, N), nodes in their canonical order.

    That is by depth, the longest path from a node without inputs; then by place in the graph, whatever the operations;
    then by operation. So it stays topological, and isomorphic cells become equal arrays. Cells that the sequence leaves
    out have no nodes.
    """
    chosen = list(columns)
    mask = (graphs.mask[:, chosen] & (repeats(graphs)[:, chosen, None] > 0)).numpy()
    b, u, n = mask.shape
    ops = (graphs.ops[:, chosen].numpy() * mask).reshape(b * u, n)
    adjacency = (graphs.adjacency[:, chosen].numpy() * mask[..., None]).reshape(b * u, n, n)
    flat = mask.reshape(b * u, n)
    depth = np.zeros((b * u, n), np.int64)
    for j in range(1, n):
        depth[:, j] = np.where(adjacency[:, :j, j] > 0, depth[:, :j] + 1, 0).max(1)
    place = node_ids(np.zeros((b * u, n), np.uint64), adjacency, flat).T
    operation = node_ids(ops.astype(np.uint64), adjacency, flat).T
    order = np.lexsort((operation, place, np.where(flat, depth, n)))
    rows = np.arange(b * u)[:, None]
    moved = adjacency[rows[:, :, None], order[:, :, None], order[:, None, :]]
    return ops[rows, order].reshape(b, u, n), moved.reshape(b, u, n, n), mask
