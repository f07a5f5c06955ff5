"""Ridge regression on one-hot features: the floor that a predictor worth its training must be above."""

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
    """Linear in `OneHot`; the penalty is the one of `PENALTIES` with the least error left one out.

    There is nothing to draw, so that all seeds give the same.
    """

    def new_features(self, graphs: GraphBatch) -> OneHot:
        return OneHot(graphs)

    def new_model(self) -> RidgeCV:
        # Here, since importing it takes a second that a page of recorded rows need not wait.
        from sklearn.linear_model import RidgeCV

        return RidgeCV(PENALTIES)

    def size(self) -> int:
        """A coefficient a feature, and the intercept."""
        return len(self.model.coef_) + 1


METHODS = {"ridge": Ridge}
