"""What predictors on a table of features share: a scikit-learn regressor behind the contract of a predictor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hypernas.graph import GraphBatch
from hypernas.predictors.shared.counts import counts
from hypernas.training.labels import LabelScale
from hypernas.training.predictor import FittedPredictor, labels_of

CHUNK = 20_000


@dataclass(kw_only=True, eq=False)
class FeaturePredictor(FittedPredictor):
    """A regressor on features of the graph. A subclass adds its settings, `new_features`, `new_model` and `size`.

    With `counts` the logarithms of the parameters and multiply-adds are features too; the search space counts them one
    architecture at a time, which takes minutes for a table of many thousands.
    """

    counts: bool = False

    features: Any = field(default=None, init=False, repr=False)

    def new_features(self, graphs: GraphBatch) -> Any:
        """A function GraphBatch -> features (B, F), chosen by the training graphs."""
        raise NotImplementedError

    def new_model(self) -> Any:
        """A regressor with scikit-learn's `fit` and `predict`."""
        raise NotImplementedError

    def size(self) -> int:
        """How many numbers the fitted regressor consists of."""
        raise NotImplementedError

    def inputs(self, graphs: GraphBatch) -> np.ndarray:
        """What the regressor reads (B, F)."""
        features = self.features(graphs)
        return np.concatenate([features, np.log(counts(graphs))], 1) if self.counts else features

    def fit(self, graphs: GraphBatch, accuracy: Tensor, scale: LabelScale | None = None) -> Any:
        """Fit to n architectures and their accuracy (n,), percent; `scale` is by default that of these labels."""
        labels = labels_of(self, graphs, accuracy, scale).numpy()
        self.features = self.new_features(graphs)
        self.model = self.new_model().fit(self.inputs(graphs), labels)
        self.n_parameters = self.size()
        return self

    def score(self, graphs: GraphBatch) -> Tensor:
        parts = [graphs[i : i + CHUNK] for i in range(0, len(graphs), CHUNK)]
        scores = np.concatenate([self.model.predict(self.inputs(part)) for part in parts])
        return torch.from_numpy(scores).to(torch.get_default_dtype())
