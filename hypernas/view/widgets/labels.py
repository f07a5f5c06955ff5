"""How many labels? Predicted against true ranks, for each number of labels with saved predictions."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from hypernas.view.widgets.view import View, WrongInput


class HowManyLabels(View):
    """A scatter plot for each method, at the number of labels chosen by a slider.

    `truth` are the true heights of the dots, from 0 for the worst of `total` architectures to 1,000 for the best.
    `runs[name][n_train]` is a dict: `tau`, `regret` in percentage points, `places` (predicted heights of the same dots)
    and `first` (true heights of the first choices).
    """

    def __init__(
        self,
        total: int,
        truth: Sequence[int],
        runs: Mapping[str, Mapping[int, Mapping[str, Any]]],
    ) -> None:
        sizes = sorted({size for of_method in runs.values() for size in of_method})
        if not sizes:
            error = WrongInput("predictions of at least one method must be kept, got none")
            super().__init__(data={"kind": "labels", "sentence": f"Nothing to show: {error}."})
            return
        methods = []
        for name, of_method in runs.items():
            shown = {str(size): dict(run) for size, run in of_method.items()}
            methods.append({"name": name, "runs": shown})
        data = {
            "kind": "labels",
            "total": total,
            "sizes": sizes,
            "truth": list(truth),
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
