"""Architectures as the tokens of a transformer: nodes, edges, and where a node stands by the graph's Laplacian."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hypernas.fitting.cell_columns import Columns, ordered
from hypernas.graph import GraphBatch


class Tokens(NamedTuple):
    """The nodes of the cells of B architectures side by side, T each.

    `ops (B, T)`, `cell (B, T)` which cell a node is of, `mask (B, T)`, `adjacency (B, T, T)` edge counts within cells,
    `positions (B, T, P)`.
    """

    ops: Tensor
    cell: Tensor
    mask: Tensor
    adjacency: Tensor
    positions: Tensor


def tokens(graphs: GraphBatch, columns: Columns, n_positions: int) -> Tokens:
    """The unique cells `columns` of each architecture; nodes are in canonical order, so isomorphic ones are equal."""
    ops, adjacency, mask = ordered(graphs, columns)
    b, u, n = ops.shape
    cells = (b * u, n)
    positions = laplacian_positions(adjacency.reshape(*cells, n), mask.reshape(cells), n_positions)
    edges = np.zeros((b, u, n, u, n), np.float32)
    for column in range(u):
        edges[:, column, :, column] = adjacency[:, column]
    return Tokens(
        torch.from_numpy(ops.reshape(b, u * n)),
        torch.arange(u).repeat_interleave(n).expand(b, -1),
        torch.from_numpy(mask.reshape(b, u * n)),
        torch.from_numpy(edges.reshape(b, u * n, u * n)),
        torch.from_numpy(positions.reshape(b, u * n, n_positions)),
    )


def laplacian_positions(adjacency: np.ndarray, mask: np.ndarray, n_positions: int) -> np.ndarray:
    """Edge counts (R, N, N), mask (R, N) -> float32 (R, N, P): the first eigenvectors of each graph's Laplacian.

    L = I - D^-1/2 A D^-1/2 of the undirected graph, eigenvalues ascending, padded with zeros; the first entry of a
    vector that is not zero is positive. Each different matrix is decomposed once.

    >>> edges = np.array([[[0, 1], [0, 0]]])
    >>> laplacian_positions(edges, np.ones((1, 2), bool), 3).astype(float).round(3).tolist()
    [[[0.707, 0.707, 0.0], [0.707, -0.707, 0.0]]]
    """
    out = np.zeros((*mask.shape, n_positions), np.float32)
    sizes = mask.sum(1)
    for n in np.unique(sizes[sizes > 0]):
        rows = np.flatnonzero(sizes == n)
        flat = np.ascontiguousarray(adjacency[rows, :n, :n].astype(np.uint8).reshape(len(rows), -1))
        _, first, inverse = np.unique(flat.view(f"V{n * n}")[:, 0], return_index=True, return_inverse=True)
        edges = flat[first].reshape(-1, n, n).astype(np.float64)
        edges += edges.transpose(0, 2, 1)
        degree = edges.sum(2)
        scale = np.where(degree > 0, degree.clip(1) ** -0.5, 0)
        _, vectors = np.linalg.eigh(np.eye(n) - scale[:, :, None] * edges * scale[:, None])
        leading = np.argmax(np.abs(vectors) > 1e-6, 1)
        sign = np.sign(np.take_along_axis(vectors, leading[:, None], 1))
        kept = (vectors * sign)[:, :, :n_positions]
        out[rows, :n, : kept.shape[2]] = kept[inverse]
    return out
