"""Boosted trees on one-hot features, the baseline that needs neither a graph network nor a GPU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import GradientBoostingRegressor

from hypernas.errors import UserError
from hypernas.graph import GraphBatch
from hypernas.predictors.shared.cell_columns import ordered, repeats, varying, with_cells
from hypernas.predictors.shared.features import FeaturePredictor
from hypernas.training.predictor import n_operations


class OneHot:
    """Operation of each node, edge of each pair of nodes, counts of operations, repeats; parameters where known.

    Nodes stand in the canonical order of their cell, so that isomorphic cells are equal rows. The logarithm of the
    number of parameters is added where the space counts those of a whole batch; for others, and for multiply-adds,
    there is the setting `counts`.
    """

    def __init__(self, graphs: GraphBatch) -> None:
        self.columns, self.n_ops, self.n_nodes = varying(graphs), n_operations(graphs), graphs.ops.shape[2]

    def __call__(self, graphs: GraphBatch) -> np.ndarray:
        """The features (B, F), float32."""
        graphs = with_cells(graphs, self.columns)
        ops, adjacency, mask = ordered(graphs, self.columns)
        b, u, n = ops.shape
        if n > self.n_nodes:
            raise UserError(f"trees need cells of at most {self.n_nodes} nodes, as in the training set, got {n}")
        one_hot = np.zeros((b, u, self.n_nodes, self.n_ops), np.float32)
        one_hot[:, :, :n] = (ops[..., None] == np.arange(self.n_ops)) * mask[..., None]
        edges = np.zeros((b, u, self.n_nodes, self.n_nodes), np.float32)
        edges[:, :, :n, :n] = adjacency
        above = edges[:, :, *np.triu_indices(self.n_nodes, 1)]
        parts = [one_hot, above, one_hot.sum(2), repeats(graphs)[:, list(self.columns)].numpy()]
        parameters = graphs.space.trainable_parameters(graphs) if graphs.space is not None else None
        if parameters is not None:
            parts.append(np.log(parameters))
        return np.concatenate([part.reshape(b, -1).astype(np.float32) for part in parts], 1)


@dataclass(kw_only=True, eq=False)
class Trees(FeaturePredictor):
    """Gradient boosting on `OneHot`, as XGBoost and LightGBM are used for it; sizes are ours.

    scikit-learn's histogram trees, which are nearer to those two, need a few hundred labels to be as good.
    """

    n_trees: int = 200
    learning_rate: float = 0.1
    depth: int = 4
    subsample: float = 0.5

    def new_features(self, graphs: GraphBatch) -> OneHot:
        return OneHot(graphs)

    def new_model(self) -> GradientBoostingRegressor:
        return GradientBoostingRegressor(
            n_estimators=self.n_trees, learning_rate=self.learning_rate, max_depth=self.depth,
            subsample=self.subsample, max_features="sqrt", random_state=self.seed,
        )  # fmt: skip

    def size(self) -> int:
        """Nodes of all trees."""
        return sum(tree.tree_.node_count for tree in self.model.estimators_[:, 0])


METHODS = {"trees": Trees}
