"""Architectures as the tokens of a transformer: nodes, edges, and where a node stands by the graph's Laplacian."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hypernas.graph import GraphBatch
from hypernas.predictors.shared.cell_columns import Columns, ordered


class Tokens(NamedTuple):
    """The nodes of the cells of B architectures side by side, T each.

    `ops (B, T)`, `cell (B, T)` which cell a node is of, `mask (B, T)`, `adjacency (B, T, T)` edge counts within cells,
    `positions (B, T, P)` its row of the cell's Laplacian.
    """

    ops: Tensor
    cell: Tensor
    mask: Tensor
    adjacency: Tensor
    positions: Tensor


def tokens(graphs: GraphBatch, columns: Columns, width: int) -> Tokens:
    """The unique cells `columns` of each architecture; nodes are in canonical order, so isomorphic ones are equal.

    Rows of a Laplacian are `width` wide.
    """
    ops, adjacency, mask = ordered(graphs, columns)
    b, u, n = ops.shape
    positions = laplacian(adjacency.reshape(b * u, n, n), width)
    edges = np.zeros((b, u, n, u, n), np.float32)
    for column in range(u):
        edges[:, column, :, column] = adjacency[:, column]
    return Tokens(
        torch.from_numpy(ops.reshape(b, u * n)),
        torch.arange(u).repeat_interleave(n).expand(b, -1),
        torch.from_numpy(mask.reshape(b, u * n)),
        torch.from_numpy(edges.reshape(b, u * n, u * n)),
        torch.from_numpy(positions.reshape(b, u * n, width)),
    )


def laplacian(adjacency: np.ndarray, width: int) -> np.ndarray:
    """Edge counts (R, N, N) of directed graphs -> float32 (R, N, width): their D - A, D the edges that leave a node.

    A row is padded with zeros, or cut where the graph has more nodes than `width`.

    >>> laplacian(np.array([[[0, 1], [0, 0]]]), 3).astype(int).tolist()
    [[[1, -1, 0], [0, 0, 0]]]
    """
    n = adjacency.shape[-1]
    out = np.zeros((*adjacency.shape[:2], max(n, width)), np.float32)
    out[:, :, :n] = -adjacency.astype(np.float32)
    out[:, np.arange(n), np.arange(n)] += adjacency.sum(2)
    return out[:, :, :width]
