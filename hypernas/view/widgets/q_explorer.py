"""The q explorer: recorded runs over q and, in a live notebook, new runs trained on the spot."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hypernas.view.widgets.q_grid import grid, plain_row, rows_of
from hypernas.view.widgets.view import View, WrongInput

if TYPE_CHECKING:
    import pandas as pd

# The key under which Jupyter finds the live widget of an output.
MIME = "application/vnd.jupyter.widget-view+json"


class QExplorer(View):
    """Runs over q: both loss curves, the task weights, Kendall tau with its interval, the front of both tasks.

    `rows` are rows of experiments (`q, reading, n_train, kendall_tau`, and optionally
    `space, dataset, images, learn_u, target_accuracy, target_test_accuracy, seed, profile, epochs, seconds, history`).
    The profile `live` marks those trained in the notebook. `reference` maps `space dataset, n_train` to
    seed -> Kendall tau without a hypernetwork; a sentence compares runs with it on the same seeds.
    `train(q=, reading=, n_train=, progress=)` -> row adds the button Train here, with `sizes` as choices of n_train.
    """

    def __init__(
        self, rows: pd.DataFrame | Sequence[Mapping[str, Any]], train: Callable[..., Any] | None = None,
        sizes: Sequence[int] = (39, 78, 156), note: str = "",
        reference: Mapping[str, Mapping[int, float]] | None = None,
    ) -> None:  # fmt: skip
        self.note = note
        self.reference = dict(reference or {})
        self.rows: list[dict[str, Any]] = []
        try:
            self.rows = rows_of(rows)
            data = grid(self.rows, note=note, reference=self.reference)
        except WrongInput as error:
            data = {"kind": "explorer", "sentence": f"Nothing to explore: {error}."}
        super().__init__(data=data)
        self.controls: Any = None
        self.box: Any = None
        if train is not None:
            from ipywidgets import VBox

            from hypernas.view.widgets.train_here import TrainHere

            self.controls = TrainHere(train, self.add, sizes)
            self.box = VBox([self.controls.box, self])

    def add(self, row: Mapping[str, Any]) -> None:
        """Add one run and open the view at it. Raise ValueError if the row cannot be shown."""
        plain = plain_row({"profile": "live", **row})
        self.rows.append(plain)
        self.data = grid(self.rows, newest=plain, note=self.note, reference=self.reference)

    def instead(self) -> str:
        if "sentence" in self.data:
            return super().instead()
        lines = "".join(
            f"<tr><td>{run['q']:g}</td><td>{html.escape(run['reading'])}</td><td>{run['n_train']}</td>"
            f"<td>{run['tau']:.3f}</td></tr>"
            for run in self.data["runs"]
        )
        return f"<table><tr><th>q</th><th>reading</th><th>n_train</th><th>Kendall tau</th></tr>{lines}</table>"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is not None and self.box is not None:
            bundle[0][MIME] = {**bundle[0][MIME], "model_id": self.box.model_id}
        return bundle
