"""Ridge regression on one-hot features: the baseline that any predictor worth training must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hypernas.graph import GraphBatch
from hypernas.predictors.shared.features import FeaturePredictor, OneHot

if TYPE_CHECKING:
    from sklearn.linear_model import RidgeCV

# From hardly any to so much that all predictions are near the mean.
PENALTIES = tuple(float(penalty) for penalty in np.logspace(-2, 4, 13))


@dataclass(kw_only=True, eq=False)
class Ridge(FeaturePredictor):
    """A linear model on `OneHot`, with the penalty in `PENALTIES` that has the smallest leave-one-out error.

    Nothing is random, so all seeds give the same result.
    """

    def new_features(self, graphs: GraphBatch) -> OneHot:
        return OneHot(graphs)

    def new_model(self) -> RidgeCV:
        # Here, since importing it takes a second that a page of recorded rows need not wait.
        from sklearn.linear_model import RidgeCV

        return RidgeCV(PENALTIES)

    def size(self) -> int:
        """Return the number of coefficients, including the intercept."""
        return len(self.model.coef_) + 1


METHODS = {"ridge": Ridge}
