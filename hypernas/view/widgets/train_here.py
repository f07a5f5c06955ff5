"""The controls of a live notebook: choose q, train, see the point. ipywidgets, because a kernel does the work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as controls


class TrainHere:
    """`train(q=, reading=, n_train=, progress=)` -> a row, which `add` takes; `progress(done, total)` moves the bar."""

    def __init__(self, train: Callable[..., Any], add: Callable[[Any], None], sizes: Sequence[int]) -> None:
        self.train, self.add = train, add
        self.q = controls.FloatSlider(1.5, min=0.25, max=4, step=0.25, description="q", continuous_update=False)
        self.less = controls.Button(description="◀", tooltip="smaller q", layout={"width": "40px"})
        self.more = controls.Button(description="▶", tooltip="larger q", layout={"width": "40px"})
        self.reading = controls.Dropdown(options=["printed", "text"], description="reading")
        self.n_train = controls.Dropdown(options=list(sizes), description="n_train")
        self.button = controls.Button(description="Train here", button_style="primary", icon="play")
        self.bar = controls.IntProgress(0, min=0, max=1, layout={"width": "160px"})
        self.said = controls.Label("trains in this notebook's kernel, in seconds")
        self.less.on_click(lambda _: self.step(-1))
        self.more.on_click(lambda _: self.step(1))
        self.button.on_click(self.press)
        wrap = {"flex_flow": "row wrap"}
        first = controls.HBox([self.less, self.q, self.more, self.reading, self.n_train], layout=wrap)
        self.box = controls.VBox([first, controls.HBox([self.button, self.bar, self.said], layout=wrap)])

    def step(self, by: int) -> None:
        self.q.value = min(self.q.max, max(self.q.min, self.q.value + by * self.q.step))

    def progress(self, done: int, total: int) -> None:
        self.bar.max, self.bar.value = total, done
        self.said.value = f"epoch {done} of {total}"

    def press(self, _: Any = None) -> None:
        """Train with what is chosen; what goes wrong is said beside the bar."""
        self.button.disabled = True
        self.bar.value, self.bar.bar_style, self.said.value = 0, "", "training"
        try:
            chosen = {"q": self.q.value, "reading": self.reading.value, "n_train": self.n_train.value}
            row = self.train(**chosen, progress=self.progress)
            self.add(row)
            self.said.value = f"q = {row['q']:g}: Kendall tau {row['kendall_tau']:.3f}"
            self.bar.bar_style = "success"
        except Exception as error:
            self.said.value = f"Nothing was added: {error}"
            self.bar.bar_style = "danger"
        finally:
            self.button.disabled = False
