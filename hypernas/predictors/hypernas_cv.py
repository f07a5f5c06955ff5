"""HyperNAS with the preference q that ranks best in a cross-validation of the training labels."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hypernas.graph import GraphBatch
from hypernas.predictors.hypernas import HyperNAS
from hypernas.training.labels import LabelScale
from hypernas.training.predictor import fit_together
from hypernas.training.settings import flat_keywords
from hypernas.training.training_set import accuracies

# Those of the paper's ablation that are not far behind the others on the preference page.
PREFERENCES = (1.25, 1.5, 2.0)
FOLDS = 5
# Sets the draw of the folds apart from all else that is drawn from a seed.
FOLD_STREAM = 0xF0


@flat_keywords
@dataclass(kw_only=True, eq=False)
class CrossValidatedHyperNAS(HyperNAS):
    """HyperNAS, trained with the q of `PREFERENCES` that ranks best in a five-fold cross-validation of its labels.

    The Kendall tau of the labels held out, averaged over the folds, judges a q. After `fit`, `q` is the chosen one.
    """

    chosen_q: float = field(default=0.0, init=False)

    def fit(self, graphs: GraphBatch, accuracy: Any, scale: LabelScale | None = None) -> Any:
        """Choose q and train on all labels. Fewer than four cannot be split, and leave q as it was given."""
        labels = accuracies(accuracy)
        # A ranking needs two labels a fold.
        n_folds = min(FOLDS, len(labels) // 2)
        if n_folds > 1:
            taus = self._taus(graphs, labels, n_folds)
            self.chosen_q = max(taus, key=taus.__getitem__)
            self.preference = replace(self.preference, q=self.chosen_q)
        return super().fit(graphs, labels, scale)

    def _taus(self, graphs: GraphBatch, labels: Tensor, n_folds: int) -> dict[float, float]:
        """The mean Kendall tau of each q on labels held out. All trainings run at once, so all have equally many."""
        shuffled = np.random.default_rng([self.seed, FOLD_STREAM]).permutation(len(labels))
        # Labels that fill no fold are always trained on.
        held_out = shuffled[: len(labels) // n_folds * n_folds].reshape(n_folds, -1)
        trained_on = [np.setdiff1d(shuffled, fold) for fold in held_out]
        settings = self.settings() | {"checkpoint": None, "progress": False}
        methods = [HyperNAS(**settings | {"q": q}) for q in PREFERENCES for _ in range(n_folds)]
        sets = [graphs[rows] for rows in trained_on] * len(PREFERENCES)
        known = [labels[rows] for rows in trained_on] * len(PREFERENCES)
        fitted = iter(fit_together(methods, sets, known))
        taus = {}
        for q in PREFERENCES:
            of_folds = [_kendall_tau(next(fitted).predict(graphs[fold]), labels[fold]) for fold in held_out]
            taus[q] = float(np.mean(of_folds))
        return taus


def _kendall_tau(predicted: Tensor, labels: Tensor) -> float:
    """The share of pairs in the right order less the share in the wrong one; equal ones are in neither."""
    orders = [torch.sign(values[:, None] - values).double() for values in (predicted, labels)]
    n = len(labels)
    return float((orders[0] * orders[1]).sum()) / (n * (n - 1))


METHODS = {"hypernas-cv": CrossValidatedHyperNAS}
