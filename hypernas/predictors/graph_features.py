"""Graph features (GRAF, Kadlecova et al. 2024): what can be counted in the graph, and two regressors on it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hypernas.errors import UserError
from hypernas.graph import GraphBatch
from hypernas.predictors.shared.features import FeaturePredictor
from hypernas.predictors.shared.graph_statistics import GraphStatistics

REGRESSORS = ("both", "forest", "gaussian-process")


class Mean:
    """The mean of several regressors.

    That a Gaussian process ends at a bound of its kernel is no news: the bounds are a prior.
    """

    def __init__(self, regressors: list[Any]) -> None:
        self.regressors = regressors

    def fit(self, x: np.ndarray, y: np.ndarray) -> Mean:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            for regressor in self.regressors:
                regressor.fit(x, y)
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.mean([regressor.predict(x) for regressor in self.regressors], 0)


@dataclass(kw_only=True, eq=False)
class GraphFeatures(FeaturePredictor):
    """The mean of extremely randomised trees and a Gaussian process on `GraphStatistics`, or one of them.

    The features are GRAF's; this pair of regressors and their settings are ours, chosen on seeds that no row has.
    """

    regressor: str = "both"
    n_trees: int = 300

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.regressor not in REGRESSORS:
            raise UserError(f"regressor must be one of {', '.join(REGRESSORS)}, got {self.regressor!r}")

    def new_features(self, graphs: GraphBatch) -> GraphStatistics:
        return GraphStatistics(graphs)

    def new_model(self) -> Mean:
        chosen = {"forest": [self.forest], "gaussian-process": [self.process], "both": [self.forest, self.process]}
        return Mean([new() for new in chosen[self.regressor]])

    def forest(self) -> ExtraTreesRegressor:
        return ExtraTreesRegressor(self.n_trees, random_state=self.seed)

    def process(self) -> Any:
        kernel = ConstantKernel(1.0) * RBF(10.0, (1.0, 1e3)) + WhiteKernel(0.1, (1e-3, 1.0))
        return make_pipeline(StandardScaler(), GaussianProcessRegressor(kernel, random_state=self.seed))

    def size(self) -> int:
        """Nodes of all trees, and coefficients of the process."""
        return sum(
            sum(tree.tree_.node_count for tree in regressor.estimators_)
            if isinstance(regressor, ExtraTreesRegressor)
            else len(regressor[-1].alpha_) + len(regressor[-1].kernel_.theta)
            for regressor in self.model.regressors
        )


METHODS = {"graph-features": GraphFeatures}
