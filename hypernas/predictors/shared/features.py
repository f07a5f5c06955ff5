"""Architectures as rows of a feature table, and what the scikit-learn regressors on them share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hypernas.canonical import node_ids
from hypernas.errors import UserError
from hypernas.graph import Architecture, GraphBatch
from hypernas.spaces.base import SearchSpace
from hypernas.training.labels import LabelScale
from hypernas.training.predictor import FittedPredictor, labels_of, n_operations

# Which unique cells of a GraphBatch are described.
Columns = tuple[int, ...]
# Architectures scored at a time, so that memory is bounded.
SCORED_AT_ONCE = 20_000


@dataclass(kw_only=True, eq=False)
class FeaturePredictor(FittedPredictor):
    """A regressor on features of the graph. A subclass adds its settings, `new_features`, `new_model` and `size`.

    With `counts`, the logarithms of parameters and multiply-adds are features too. The search space counts them one
    architecture at a time, which takes minutes for a table of many thousands.
    """

    counts: bool = False

    features: Any = field(default=None, init=False, repr=False)

    def new_features(self, graphs: GraphBatch) -> Any:
        """Return a function GraphBatch -> features (B, F), built from the training graphs."""
        raise NotImplementedError

    def new_model(self) -> Any:
        """Return a regressor with scikit-learn's `fit` and `predict`."""
        raise NotImplementedError

    def size(self) -> int:
        """Return the number of fitted parameters of the regressor."""
        raise NotImplementedError

    def inputs(self, graphs: GraphBatch) -> np.ndarray:
        """Return the input of the regressor (B, F)."""
        features = self.features(graphs)
        if not self.counts:
            return features
        # Sizes differ by factors, so their logarithms are the features.
        sizes = np.log(counts(graphs))
        return np.concatenate([features, sizes], 1)

    def fit(
        self,
        graphs: GraphBatch,
        accuracy: Any,
        scale: LabelScale | None = None,
    ) -> Any:
        """Fit to n architectures and their accuracy (n,) in percent. `scale` defaults to that of these labels."""
        labels = labels_of(self, graphs, accuracy, scale).numpy()
        self.features = self.new_features(graphs)
        self.model = self.new_model().fit(self.inputs(graphs), labels)
        self.n_parameters = self.size()
        return self

    def score(self, graphs: GraphBatch) -> Tensor:
        scores = []
        for start in range(0, len(graphs), SCORED_AT_ONCE):
            part = graphs[start : start + SCORED_AT_ONCE]
            scores.append(self.model.predict(self.inputs(part)))
        together = torch.from_numpy(np.concatenate(scores))
        return together.to(torch.get_default_dtype())


class OneHot:
    """The operation of each node, the edge between each pair, counts of operations, repeats, and perhaps parameters.

    Nodes stand in the canonical order of their cell, so isomorphic cells give equal rows. The logarithm of the number
    of parameters is included if the space can count a whole batch at once. For other spaces, and for multiply-adds, use
    the setting `counts`.
    """

    def __init__(self, graphs: GraphBatch) -> None:
        self.columns = varying(graphs)
        self.n_ops = n_operations(graphs)
        self.n_nodes = graphs.ops.shape[2]

    def __call__(self, graphs: GraphBatch) -> np.ndarray:
        """Return the features (B, F), float32."""
        graphs = with_cells(graphs, self.columns)
        ops, adjacency, mask = ordered(graphs, self.columns)
        b, u, n = ops.shape
        # A cell may have more nodes than any of the training set. Their places were empty there and taught nothing,
        # so they are left out; the counts of operations hold them.
        room = max(n, self.n_nodes)
        one_hot = np.zeros((b, u, room, self.n_ops), np.float32)
        # Padding has operation 0, which the mask takes out.
        is_op = ops[..., None] == np.arange(self.n_ops)
        one_hot[:, :, :n] = is_op * mask[..., None]
        edges = np.zeros((b, u, room, room), np.float32)
        edges[:, :, :n, :n] = adjacency
        # Nodes are in topological order, so that there is nothing below the diagonal.
        source, target = np.triu_indices(self.n_nodes, 1)
        above = edges[:, :, source, target]
        times = repeats(graphs)[:, list(self.columns)].numpy()
        parts = [one_hot[:, :, : self.n_nodes], above, one_hot.sum(2), times]
        if graphs.space is not None:
            parameters = graphs.space.trainable_parameters(graphs)
            if parameters is not None:
                parts.append(np.log(parameters))
        rows = [part.reshape(b, -1) for part in parts]
        return np.concatenate(rows, 1, dtype=np.float32)


# Cells in an order that isomorphic ones share.


def varying(graphs: GraphBatch) -> Columns:
    """Return the unique cells in which architectures differ, or all cells if none differs.

    A cell that all architectures share, such as the downsampling block of a cell-based space, cannot help to rank them.
    """
    b, u = graphs.kind.shape
    differs = torch.zeros(u, dtype=torch.bool)
    for part in (graphs.ops, graphs.mask, graphs.kind, graphs.adjacency, repeats(graphs)):
        unequal = part != part[:1]
        differs |= unequal.reshape(b, u, -1).any(2).any(0)
    columns = differs.nonzero().flatten()
    return tuple(columns.tolist()) or tuple(range(u))


def repeats(graphs: GraphBatch) -> Tensor:
    """Return how often (B, U) each unique cell appears in the sequence."""
    b, u = graphs.kind.shape
    times = torch.zeros(b, u, dtype=torch.int64)
    for cell in range(u):
        times[:, cell] = (graphs.sequence == cell).sum(1)
    return times


def with_cells(graphs: GraphBatch, columns: Columns) -> GraphBatch:
    """Return the same architectures padded with empty cells so that all `columns` exist."""
    n_cells = graphs.kind.shape[1]
    # Zero cells behind the last one: a mask without nodes.
    more = max(0, max(columns) + 1 - n_cells)
    return replace(
        graphs,
        ops=F.pad(graphs.ops, (0, 0, 0, more)),
        adjacency=F.pad(graphs.adjacency, (0, 0, 0, 0, 0, more)),
        mask=F.pad(graphs.mask, (0, 0, 0, more)),
        kind=F.pad(graphs.kind, (0, more)),
    )


def ordered(graphs: GraphBatch, columns: Columns) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the cells `columns` as ops (B, U, N), adjacency (B, U, N, N), mask (B, U, N), nodes in canonical order.

    The order is by depth, the longest path from a node without inputs; then by place in the graph, ignoring operations;
    then by operation. It is therefore topological, and isomorphic cells become equal arrays. Cells that are not in the
    sequence have no nodes.
    """
    index = list(columns)
    present = repeats(graphs)[:, index] > 0
    real = graphs.mask[:, index] & present[..., None]
    b, u, n = real.shape
    # One row a cell, whichever architecture it is of.
    mask = real.reshape(b * u, n).numpy()
    ops = graphs.ops[:, index].reshape(b * u, n).numpy() * mask
    adjacency = graphs.adjacency[:, index].reshape(b * u, n, n).numpy()
    adjacency = adjacency * mask[..., None]
    order = _canonical_order(ops, adjacency, mask)
    ops = np.take_along_axis(ops, order, 1)
    adjacency = np.take_along_axis(adjacency, order[:, :, None], 1)
    adjacency = np.take_along_axis(adjacency, order[:, None, :], 2)
    return ops.reshape(b, u, n), adjacency.reshape(b, u, n, n), real.numpy()


def _canonical_order(
    ops: np.ndarray,
    adjacency: np.ndarray,
    mask: np.ndarray,
) -> np.ndarray:
    """Of cells (R, N), (R, N, N), (R, N): which node (R, N) stands at each place, absent ones last."""
    n = ops.shape[1]
    depth = np.zeros(ops.shape, np.int64)
    for j in range(1, n):
        fed = adjacency[:, :j, j] > 0
        through = np.where(fed, depth[:, :j] + 1, 0)
        depth[:, j] = through.max(1)
    depth = np.where(mask, depth, n)
    labels = ops.astype(np.uint64)
    place = node_ids(np.zeros_like(labels), adjacency, mask).T
    operation = node_ids(labels, adjacency, mask).T
    # The last key counts first.
    return np.lexsort((operation, place, depth))


# Size of a network.


# A search asks about the same architectures again and again; some 30,000 of them take a few MB.
@lru_cache(maxsize=1 << 15)
def count(space: SearchSpace, architecture: Architecture) -> tuple[int, int]:
    """Return the parameters and multiply-adds of one architecture."""
    return space.count(architecture)


def counts(graphs: GraphBatch) -> np.ndarray:
    """Return parameters and multiply-adds (B, 2) as the space counts them. Raise UserError if it cannot count them."""
    if graphs.space is None:
        raise UserError("counting needs to know the search space; pass it to collate, or leave out counts=true")
    pairs = [count(graphs.space, graphs.architecture(i)) for i in range(len(graphs))]
    return np.array(pairs, np.float64)
