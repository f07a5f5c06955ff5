"""Steps of a training that a GPU records once and plays again, since there starting the work takes longer than it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hypernas.training.loop import Logged, descend

# The architectures of a step and the generators -> its kind, and its inputs on the host.
Draw = Callable[[Tensor, list[np.random.Generator]], tuple[Hashable, Sequence[Tensor]]]


class Recorder:
    """Runs the steps of a training on a GPU, each as the record of all its work, played again on other inputs.

    `draw(index (S, b), generators)` gives the kind of a step and its inputs on the host, of the same shapes for all of
    one kind; `loss(*inputs)` is what `train` minimises, from the same on the device and without a look at any value on
    the host. The first step of each kind runs as it is, the next one is recorded. Without a GPU all run as they are.
    """

    def __init__(
        self,
        draw: Draw,
        loss: Callable[..., Logged],
        device: str,
    ) -> None:
        self.draw = draw
        self.loss = loss
        self.device = device
        self.plays = on_gpu(device)
        self.inputs: dict[Hashable, list[Tensor]] = {}
        self.records: dict[Hashable, tuple[Any, dict[str, Tensor]]] = {}
        self.memory: Any = None

    def step(
        self,
        optimizer: torch.optim.Optimizer,
        index: Tensor,
        generators: list[np.random.Generator],
    ) -> list[dict[str, Tensor]]:
        """One step on the architectures index (S, b); returns its log."""
        kind, drawn = self.draw(index, generators)
        if kind not in self.inputs or not self.plays:
            self.inputs[kind] = [tensor.to(self.device) for tensor in drawn]
            return [self._run(optimizer, kind)]
        for there, here in zip(self.inputs[kind], drawn, strict=True):
            # Into the same memory that the record reads; pinned, so that the copy runs beside the host.
            there.copy_(here.pin_memory(), non_blocking=True)
        if kind not in self.records:
            try:
                self.records[kind] = self._record(optimizer, kind)
            except RuntimeError as error:
                self.plays = False
                warnings.warn(f"a step could not be recorded ({error}); training goes on without, slower", stacklevel=2)
                return [self._run(optimizer, kind)]
        graph, log = self.records[kind]
        graph.replay()
        # The next replay writes into the same places.
        return [{name: value.clone() for name, value in log.items()}]

    def _record(self, optimizer: torch.optim.Optimizer, kind: Hashable) -> tuple[Any, dict[str, Tensor]]:
        """The work of a step of this kind, which is not done yet; no two records are played at the same time."""
        # One pool for all records, since only one of them plays at a time.
        self.memory = self.memory or torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, self.memory, torch.cuda.current_stream()):
            log = self._run(optimizer, kind)
        return graph, log

    def _run(self, optimizer: torch.optim.Optimizer, kind: Hashable) -> dict[str, Tensor]:
        inputs = self.inputs[kind]
        # All architectures of a step are one part, which the inputs already hold.
        (log,) = descend(lambda *_: self.loss(*inputs), 1, optimizer, torch.empty(1, 1), None)
        return log


def on_gpu(device: str) -> bool:
    """Whether a device is one that can record its work."""
    return device.startswith("cuda")


@contextmanager
def own_stream(device: str) -> Iterator[None]:
    """Work on a GPU under it has a stream of its own, as a `Recorder` needs; without one nothing changes."""
    if not on_gpu(device):
        yield
        return
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream(device).wait_stream(stream)
