"""How many labels? Places predicted against places in truth, for each number of labels that predictions are kept of."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

import numpy as np

from hypernas.lab.metrics import kendall_tau, regret
from hypernas.view.widgets.builder import places
from hypernas.view.widgets.view import View, WrongInput

# Dots of a cloud: enough to show its shape, few enough for a page.
N_DOTS = 250
# How many of a predictor's first choices one would train.
FIRST = 10
# Places are sent as thousandths of the table, finer than a dot.
THOUSAND = 1000


def _heights(scores: np.ndarray) -> np.ndarray:
    """Scores (B,) -> 0 for the worst to 1,000 for the best."""
    place = places(scores)
    return np.round(THOUSAND * (len(place) - place) / (len(place) - 1)).astype(int)


def run(predicted: np.ndarray, accuracy: np.ndarray, test: np.ndarray, dots: np.ndarray) -> dict[str, Any]:
    """Kendall tau and regret of the best of the first ten over the cells `test`, and the places of `dots`.

    Regret is in percentage points: the accuracy of the best cell of the test set less that of the best one chosen.
    """
    first = test[np.argsort(-predicted[test], kind="stable")[:FIRST]]
    return {
        "tau": round(float(kendall_tau(predicted[test], accuracy[test])), 4),
        "regret": round(regret(predicted[test], accuracy[test], FIRST), 4),
        "places": _heights(predicted)[dots].tolist(),
        "first": _heights(accuracy)[first].tolist(),
    }


class HowManyLabels(View):
    """`runs[name][n_train]` holds predictions (B,) and the cells of the test set, of a table of `accuracy` (B,)."""

    def __init__(self, accuracy: np.ndarray, runs: Mapping[str, Mapping[int, tuple[np.ndarray, np.ndarray]]]) -> None:
        sizes = sorted({size for of_method in runs.values() for size in of_method})
        if not sizes:
            error = WrongInput("predictions of at least one method must be kept, got none")
            super().__init__(data={"kind": "labels", "sentence": f"Nothing to show: {error}."})
            return
        dots = np.sort(np.random.default_rng(0).permutation(len(accuracy))[:N_DOTS])
        methods = []
        for name, of_method in runs.items():
            shown = {}
            for size, (predicted, test) in of_method.items():
                shown[str(size)] = run(predicted, accuracy, test, dots)
            methods.append({"name": name, "runs": shown})
        data = {
            "kind": "labels",
            "total": len(accuracy),
            "sizes": sizes,
            "truth": _heights(accuracy)[dots].tolist(),
            "methods": methods,
        }
        super().__init__(data=data)

    def instead(self) -> str:
        if "sentence" in self.data:
            return super().instead()
        rows = ""
        for method in self.data["methods"]:
            for size, shown in method["runs"].items():
                rows += f"<tr><td>{html.escape(method['name'])}</td><td>{size}</td><td>{shown['tau']:.3f}</td>"
                rows += f"<td>{shown['regret']:.2f}</td></tr>"
        return f"<table><tr><th>method</th><th>labels</th><th>Kendall tau</th><th>regret@10</th></tr>{rows}</table>"
