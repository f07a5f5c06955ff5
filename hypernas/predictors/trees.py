"""Boosted trees on one-hot features, a baseline that needs neither a graph network nor a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypernas.graph import GraphBatch
from hypernas.predictors.shared.features import FeaturePredictor, OneHot

if TYPE_CHECKING:
    from sklearn.ensemble import GradientBoostingRegressor


@dataclass(kw_only=True, eq=False)
class Trees(FeaturePredictor):
    """Gradient boosting on `OneHot`, in the role of XGBoost and LightGBM; the sizes are ours.

    scikit-learn's histogram trees are closer to those two, but need a few hundred labels to do as well.
    """

    n_trees: int = 200
    learning_rate: float = 0.1
    depth: int = 4
    subsample: float = 0.5

    def new_features(self, graphs: GraphBatch) -> OneHot:
        return OneHot(graphs)

    def new_model(self) -> GradientBoostingRegressor:
        # Here, since a process that only hands out the work need not wait for scikit-learn.
        from sklearn.ensemble import GradientBoostingRegressor

        return GradientBoostingRegressor(
            n_estimators=self.n_trees,
            learning_rate=self.learning_rate,
            max_depth=self.depth,
            subsample=self.subsample,
            # Each split sees a few features only, since many of them say nearly the same.
            max_features="sqrt",
            random_state=self.seed,
        )

    def size(self) -> int:
        """Return the number of nodes in all trees."""
        return sum(tree.tree_.node_count for tree in self.model.estimators_[:, 0])


METHODS = {"trees": Trees}
