"""Graph features (GRAF, Kadlecova et al. 2024): numbers counted in the graph, and two regressors on them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, combinations
from typing import Any

import numpy as np

from hypernas.graph import GraphBatch
from hypernas.predictors.shared.features import FeaturePredictor, repeats, varying, with_cells

# Of so many operations all 255 sets are features; of more there would be too many.
ALL_SUBSETS = 8


class Mean:
    """Average the predictions of several regressors."""

    def __init__(self, regressors: list[Any]) -> None:
        self.regressors = regressors

    def fit(self, x: np.ndarray, y: np.ndarray) -> Mean:
        from sklearn.exceptions import ConvergenceWarning

        with warnings.catch_warnings():
            # That a Gaussian process ends at a bound of its kernel is no news: the bounds are a prior.
            warnings.simplefilter("ignore", ConvergenceWarning)
            for regressor in self.regressors:
                regressor.fit(x, y)
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.mean([regressor.predict(x) for regressor in self.regressors], 0)


@dataclass(kw_only=True, eq=False)
class GraphFeatures(FeaturePredictor):
    """The mean of extremely randomised trees and a Gaussian process on `GraphStatistics`.

    The features are GRAF's. The pair of regressors and its settings are ours, chosen on seeds that no recorded row
    uses.
    """

    n_trees: int = 300

    def new_features(self, graphs: GraphBatch) -> GraphStatistics:
        return GraphStatistics(graphs)

    def new_model(self) -> Mean:
        # Here, as in `ridge.py`.
        from sklearn.ensemble import ExtraTreesRegressor
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        forest = ExtraTreesRegressor(self.n_trees, random_state=self.seed)
        # Features have deviation 1: a length scale from one deviation up, at most as much noise as signal.
        kernel = ConstantKernel(1.0) * RBF(10.0, (1.0, 1e3)) + WhiteKernel(0.1, (1e-3, 1.0))
        process = GaussianProcessRegressor(kernel, random_state=self.seed)
        return Mean([forest, make_pipeline(StandardScaler(), process)])

    def size(self) -> int:
        """Return the number of nodes in all trees plus the number of coefficients of the process."""
        forest, (_, process) = self.model.regressors
        nodes = sum(tree.tree_.node_count for tree in forest.estimators_)
        return nodes + len(process.alpha_) + len(process.kernel_.theta)


class GraphStatistics:
    """The features of GRAF (Kadlecova et al. 2024) for the cells in which the training graphs differ.

    For each operation, the number of nodes that have it; for inputs and outputs, only if that number varies. Then, for
    each set of inner operations, with the nodes of all other inner operations removed: the shortest and the longest
    path from input to output, the number of edges that leave the inputs, that enter the outputs, and in total, and the
    average number per node. Inner operations are those that stand between two nodes somewhere in the training graphs;
    all others belong to inputs and outputs. Parallel edges count separately.

    Two things differ from GRAF. Its operations sit on edges or nodes, depending on the space; here they are always
    nodes. And the number of times that the network repeats a cell is a feature here.
    """

    def __init__(self, graphs: GraphBatch) -> None:
        self.columns = varying(graphs)
        # More edges than any path of the training graphs has.
        self.far = graphs.ops.shape[2]
        self.inner = [_inner_operations(graphs, u) for u in self.columns]
        pairs = zip(self.columns, self.inner, strict=True)
        self.outer = [_outer_operations(graphs, u, inner) for u, inner in pairs]

    def __call__(self, graphs: GraphBatch) -> np.ndarray:
        """Return the features (B, F), float32."""
        graphs = with_cells(graphs, self.columns)
        times = repeats(graphs).numpy()
        features = []
        for u, inner, outer in zip(self.columns, self.inner, self.outer, strict=True):
            # A cell that the sequence leaves out has no nodes.
            present = times[:, u, None] > 0
            mask = graphs.mask[:, u].numpy() & present
            ops = np.where(mask, graphs.ops[:, u], -1)
            edges = _between(graphs.adjacency[:, u].numpy(), mask)
            features.append(times[:, u])
            for op in [*inner, *outer]:
                features.append((ops == op).sum(1))
            end = mask & ~np.isin(ops, inner)
            for operations in subsets(inner):
                kept = end | np.isin(ops, operations)
                features += _describe(edges, end, kept, self.far)
        return np.stack(features, 1).astype(np.float32)


def subsets(operations: Iterable[int]) -> list[tuple[int, ...]]:
    """Return all non-empty sets of the operations; of more than 8, only the singles, the pairs and the whole set.

    >>> subsets([2, 3, 5])
    [(2,), (3,), (5,), (2, 3), (2, 5), (3, 5), (2, 3, 5)]
    """
    members = sorted(operations)
    n = len(members)
    # 2^n sets: eight operations have 255, twelve would have 4,095.
    sizes = range(1, n + 1) if n <= ALL_SUBSETS else (1, 2, n)
    return list(chain.from_iterable(combinations(members, size) for size in sizes))


def _inner_operations(graphs: GraphBatch, u: int) -> list[int]:
    """The operations that somewhere in cell u have both a node before and a node after them."""
    edges = graphs.adjacency[:, u] > 0
    # Nodes with an edge in and an edge out.
    between = edges.any(1) & edges.any(2)
    operations = graphs.ops[:, u][between].unique()
    return operations.tolist()


def _outer_operations(
    graphs: GraphBatch,
    u: int,
    inner: list[int],
) -> list[int]:
    """The other operations that not all graphs have on equally many nodes of cell u."""
    absent = ~graphs.mask[:, u]
    ops = graphs.ops[:, u].masked_fill(absent, -1)
    others = []
    for op in ops.unique().tolist():
        times = (ops == op).sum(1)
        if op not in (-1, *inner) and len(times.unique()) > 1:
            others.append(op)
    return others


def _between(edges: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Edge counts (B, N, N) of which both ends are among the nodes (B, N) alone."""
    return edges * nodes[:, :, None] * nodes[:, None]


def _describe(
    edges: np.ndarray,
    end: np.ndarray,
    kept: np.ndarray,
    far: int,
) -> list[np.ndarray]:
    """The features of a set of operations, (B,), of the edge counts (B, N, N) between the nodes `kept`.

    They are shortest path, longest path, input degree, output degree, edges and mean degree. Inputs and outputs are
    among the nodes `end`. Without a path the shortest has `far` edges, and the longest has -1.
    """
    n = end.shape[1]
    # An input has no edge in, an output none out; a node without any edge is an input.
    source = end & ~edges.any(1)
    sink = end & ~edges.any(2) & ~source
    edges = _between(edges, kept)
    # Lengths from the nearest and the furthest input; -n keeps what no input reaches below 0 whatever is added.
    shortest = np.where(source, 0, far)
    longest = np.where(source, 0, -n)
    for j in range(1, n):
        fed = edges[:, :j, j] > 0
        shorter = np.where(fed, shortest[:, :j] + 1, far)
        longer = np.where(fed, longest[:, :j] + 1, -n)
        shortest[:, j] = np.minimum(shortest[:, j], shorter.min(1))
        longest[:, j] = np.maximum(longest[:, j], longer.max(1))
    total = edges.sum((1, 2))
    return [
        np.where(sink, shortest, far).min(1),
        np.where(sink, longest, -1).max(1).clip(-1),
        (edges.sum(2) * source).sum(1),
        (edges.sum(1) * sink).sum(1),
        total,
        total / kept.sum(1).clip(1),
    ]


METHODS = {"graph-features": GraphFeatures}
