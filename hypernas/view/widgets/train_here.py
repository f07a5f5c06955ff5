"""The controls of a live notebook: choose q, train, see the point.

They use ipywidgets because a kernel does the work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as controls


class TrainHere:
    """A button that calls `train(q=, reading=, n_train=, progress=)` and passes the row to `add`.

    `progress(done, total)` moves the bar.
    """

    def __init__(
        self,
        train: Callable[..., Any],
        add: Callable[[Any], None],
        sizes: Sequence[int],
    ) -> None:
        self.train = train
        self.add = add
        # From the paper's 1.5 a step beyond the recorded values, which go from 0.5 to 3, on either side.
        self.q = controls.FloatSlider(
            1.5,
            min=0.25,
            max=4,
            step=0.25,
            description="q",
            continuous_update=False,
        )
        narrow = {"width": "40px"}
        self.less = controls.Button(description="◀", tooltip="smaller q", layout=narrow)
        self.more = controls.Button(description="▶", tooltip="larger q", layout=narrow)
        self.reading = controls.Dropdown(options=["printed", "text"], description="reading")
        self.n_train = controls.Dropdown(options=list(sizes), description="n_train")
        self.button = controls.Button(description="Train here", button_style="primary", icon="play")
        self.bar = controls.IntProgress(0, min=0, max=1, layout={"width": "160px"})
        self.said = controls.Label("trains in this notebook's kernel, in seconds")
        self.less.on_click(lambda _: self.step(-1))
        self.more.on_click(lambda _: self.step(1))
        self.button.on_click(self.press)
        # On a narrow screen the controls go on in the next line.
        wrap = {"flex_flow": "row wrap"}
        choice = [self.less, self.q, self.more, self.reading, self.n_train]
        training = [self.button, self.bar, self.said]
        self.box = controls.VBox(
            [
                controls.HBox(choice, layout=wrap),
                controls.HBox(training, layout=wrap),
            ]
        )

    def step(self, by: int) -> None:
        moved = self.q.value + by * self.q.step
        self.q.value = min(self.q.max, max(self.q.min, moved))

    def progress(self, done: int, total: int) -> None:
        self.bar.max = total
        self.bar.value = done
        self.said.value = f"epoch {done} of {total}"

    def press(self, _: Any = None) -> None:
        """Train with the chosen settings; errors are shown beside the bar."""
        self.button.disabled = True
        self.bar.value = 0
        self.bar.bar_style = ""
        self.said.value = "training"
        try:
            row = self.train(
                q=self.q.value,
                reading=self.reading.value,
                n_train=self.n_train.value,
                progress=self.progress,
            )
            self.add(row)
            self.said.value = f"q = {row['q']:g}: Kendall tau {row['kendall_tau']:.3f}"
            self.bar.bar_style = "success"
        # Whatever goes wrong, a reader sees a sentence instead of a traceback in a log that nobody opens.
        except Exception as error:
            self.said.value = f"Nothing was added: {error}"
            self.bar.bar_style = "danger"
        finally:
            self.button.disabled = False
