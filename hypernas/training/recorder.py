"""Training steps that a GPU records once and replays, because launching their work takes longer than doing it."""

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
    """Run the steps of a training on a GPU by recording all work of a step once and replaying it on other inputs.

    `draw(index (S, b), generators)` returns the kind of a step and its inputs on the host; all steps of one kind have
    the same shapes. `loss(*inputs)` is what `train` minimises, computed from the same inputs on the device without
    reading any value on the host. The first step of each kind runs normally and the second is recorded. Without a GPU,
    all steps run normally.
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
        """Take one step on the architectures index (S, b) and return its log."""
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
    """Return whether work on this device can be recorded."""
    return device.startswith("cuda")


@contextmanager
def own_stream(device: str) -> Iterator[None]:
    """Give GPU work its own stream within the `with` block, as a `Recorder` requires. On a CPU this does nothing."""
    if not on_gpu(device):
        yield
        return
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream(device).wait_stream(stream)
