"""The one training loop: accumulation over architectures, Adam with halvings, checkpoint and resume, progress."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hypernas.errors import UserError

Logged = tuple[Tensor, dict[str, Tensor]]
StepLoss = Callable[[Tensor, list[np.random.Generator]], Logged]


@dataclass(frozen=True)
class Schedule:
    """Settings of the paper (Supplement 7): Adam 1e-3, halved at 50 % and 75 %, gradients over 10 architectures.

    Without `regroup` the architectures of a step are the same in every epoch, and only the steps change their order.
    """

    epochs: int = 200
    learning_rate: float = 1e-3
    accumulate: int = 10
    halve_at: tuple[float, ...] = (0.5, 0.75)
    weight_decay: float = 0.0
    regroup: bool = True

    def rate(self, epoch: int) -> float:
        return self.learning_rate * 0.5 ** sum(epoch >= share * self.epochs for share in self.halve_at)

    def optimizer(self, parameters: Sequence[Tensor], recorded: bool = False) -> torch.optim.Optimizer:
        """Adam; a step that a GPU has recorded reads its rate from a tensor."""
        rate = torch.tensor(self.learning_rate, device=parameters[0].device) if recorded else self.learning_rate
        return torch.optim.Adam(parameters, rate, weight_decay=self.weight_decay, fused=True, capturable=recorded)

    def begin(self, epoch: int, optimizer: torch.optim.Optimizer) -> None:
        """Set what an epoch has of its own."""
        for group in optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(self.rate(epoch))
            else:
                group["lr"] = self.rate(epoch)

    def steps(self, epoch: int, n: int, seeds: Sequence[int]) -> tuple[list[np.random.Generator], tuple[Tensor, ...]]:
        """The architectures (S, b) of each step of an epoch over n, and the generators that go on from there."""
        generators = [np.random.default_rng([seed, epoch, 0x4E]) for seed in seeds]
        drawn = generators if self.regroup else [np.random.default_rng([seed, 0x6E]) for seed in seeds]
        steps = torch.from_numpy(np.stack([g.permutation(n) for g in drawn])).split(self.accumulate, dim=1)
        if self.regroup:
            return generators, steps
        return generators, tuple(steps[i] for i in np.random.default_rng([epoch, 0x6E]).permutation(len(steps)))

    def all_steps(self, n: int, seeds: Sequence[int]) -> Iterator[Tensor]:
        """The architectures (S, b) of every step of the whole training."""
        for epoch in range(self.epochs):
            yield from self.steps(epoch, n, seeds)[1]


@dataclass(frozen=True)
class CosineSchedule(Schedule):
    """The rate falls to zero along a half cosine."""

    def rate(self, epoch: int) -> float:
        return self.learning_rate * (1 + math.cos(math.pi * epoch / self.epochs)) / 2


@dataclass
class Checkpoint:
    """A file that a training writes at the end of an epoch, `every` so many seconds, and resumes from.

    `seconds` are those that earlier processes have spent on it, known once it is resumed. With `anew` a training that
    is finished begins again, and one that was stopped goes on all the same.
    """

    path: Path
    every: float = 0.0
    anew: bool = False
    seconds: float = field(default=0.0, init=False)


def train(
    parameters: Sequence[Tensor],
    loss: StepLoss,
    n: int,
    schedule: Schedule,
    seeds: Sequence[int],
    *,
    micro_batch: int | None = None,
    checkpoint: Checkpoint | None = None,
    identity: str = "",
    progress: Any = False,
    recorder: Recorder | None = None,
) -> list[dict[str, Any]]:
    """Minimise `loss(index (S, b), generators)` over n architectures for S seeds at once; returns one dict an epoch.

    Every epoch passes over the n architectures in an order drawn from (seed, epoch), and so are the images: a run that
    resumes from `checkpoint` gives the bits of one that was never stopped; `identity` names the model and the data
    that the file belongs to, which keeps all `parameters`, also those without a gradient, such as running statistics.
    `micro_batch` splits a step's architectures, whose gradients accumulate (1 is the paper's loop). On a GPU a
    `recorder` can run the steps in place of `loss`. Raises UserError for a checkpoint that is damaged, belongs to
    another training or cannot be written.
    """
    learned = [p for p in parameters if p.requires_grad]
    optimizer = schedule.optimizer(learned, recorded=True) if recorder is not None else schedule.optimizer(learned)
    advance = recorder.step if recorder is not None else partial(_step, loss, micro_batch or n)
    history: list[dict[str, Any]] = []
    fingerprint = {"schedule": repr(schedule), "seeds": list(seeds), "n": n, "identity": identity}
    if checkpoint is not None and checkpoint.path.exists():
        history = _resume(checkpoint, parameters, optimizer, fingerprint, schedule.epochs)
    started = saved = time.monotonic()
    for epoch in _bar(range(len(history), schedule.epochs), len(history), schedule.epochs, progress):
        schedule.begin(epoch, optimizer)
        generators, steps = schedule.steps(epoch, n, seeds)
        logs = [log for step in steps for log in advance(optimizer, step, generators)]
        history.append({"epoch": epoch} | {k: torch.stack([log[k] for log in logs]).mean(0).tolist() for k in logs[0]})
        if checkpoint is not None and time.monotonic() - saved >= checkpoint.every:
            saved = time.monotonic()
            seconds = checkpoint.seconds + saved - started
            _save(checkpoint.path, parameters, optimizer, fingerprint, {"history": history, "seconds": seconds})
    return history


def _step(
    loss: StepLoss, micro_batch: int, optimizer: torch.optim.Optimizer, index: Tensor, generators: Any
) -> list[dict[str, Tensor]]:
    """One step on the architectures index (S, b); returns the logs of its parts."""
    optimizer.zero_grad(set_to_none=True)
    logs = []
    for part in index.split(micro_batch, dim=1):
        value, log = loss(part, generators)
        (value * (part.shape[1] / index.shape[1])).backward()
        logs.append(log)
    optimizer.step()
    return logs


class Recorder:
    """Runs the steps of a training on a GPU, each as the record of all its work, played again on other inputs.

    `draw(index (S, b), generators)` gives the kind of a step and its inputs on the host, of the same shapes for all of
    one kind; `loss(*inputs)` is what `train` minimises, from the same on the device and without a look at any value on
    the host. The first step of each kind runs as it is, the next one is recorded. Without a GPU all run as they are.
    """

    def __init__(
        self,
        draw: Callable[[Tensor, list[np.random.Generator]], tuple[Hashable, Sequence[Tensor]]],
        loss: Callable[..., Logged],
        device: str,
    ) -> None:
        self.draw, self.loss, self.device, self.plays = draw, loss, device, on_gpu(device)
        self.inputs: dict[Hashable, list[Tensor]] = {}
        self.records: dict[Hashable, tuple[Any, dict[str, Tensor]]] = {}
        self.memory: Any = None

    def step(
        self, optimizer: torch.optim.Optimizer, index: Tensor, generators: list[np.random.Generator]
    ) -> list[dict[str, Tensor]]:
        """One step on the architectures index (S, b); returns its log."""
        kind, drawn = self.draw(index, generators)
        if kind not in self.inputs or not self.plays:
            self.inputs[kind] = [each.to(self.device) for each in drawn]
            return [self._run(optimizer, kind)]
        for there, here in zip(self.inputs[kind], drawn, strict=True):
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
        return [{name: value.clone() for name, value in log.items()}]

    def _record(self, optimizer: torch.optim.Optimizer, kind: Hashable) -> tuple[Any, dict[str, Tensor]]:
        """The work of a step of this kind, which is not done yet; no two records are played at the same time."""
        self.memory = self.memory or torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, self.memory, torch.cuda.current_stream()):
            log = self._run(optimizer, kind)
        return graph, log

    def _run(self, optimizer: torch.optim.Optimizer, kind: Hashable) -> dict[str, Tensor]:
        optimizer.zero_grad(set_to_none=True)
        value, log = self.loss(*self.inputs[kind])
        value.backward()
        optimizer.step()
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


def _bar(epochs: range, done: int, total: int, progress: Any) -> Any:
    """The epochs, with a bar on the terminal, or with `progress(epochs done, total)` called after each."""
    if callable(progress):
        return _told(epochs, total, progress)
    if not progress:
        return epochs
    from tqdm.auto import tqdm

    return tqdm(epochs, initial=done, total=total, unit="epoch", leave=False)


def _told(epochs: range, total: int, tell: Callable[[int, int], Any]) -> Iterator[int]:
    for epoch in epochs:
        yield epoch
        tell(epoch + 1, total)


def _save(path: Path, parameters: Sequence[Tensor], optimizer: Any, fingerprint: dict, told: dict[str, Any]) -> None:
    """Raises UserError where the file cannot be written, of which PyTorch tells in several ways."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    state = {"parameters": [p.detach() for p in parameters], "optimizer": optimizer.state_dict()}
    try:
        torch.save(state | told | {"fingerprint": fingerprint}, temporary)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path} must be writable, got {error}: free space or check its folder") from error
    finally:
        temporary.unlink(missing_ok=True)


def _resume(
    checkpoint: Checkpoint, parameters: Sequence[Tensor], optimizer: Any, fingerprint: dict, epochs: int
) -> list[dict[str, Any]]:
    path = checkpoint.path
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:
        raise UserError(f"a checkpoint must be a file of this library, {path} cannot be read; delete it") from error
    if not isinstance(state, dict) or state.get("fingerprint") != fingerprint:
        raise UserError(f"a checkpoint must be of the same settings and data, {path} is not; delete it or move it")
    if checkpoint.anew and len(state["history"]) == epochs:
        return []
    with torch.no_grad():
        for parameter, saved in zip(parameters, state["parameters"], strict=True):
            parameter.copy_(saved)
    optimizer.load_state_dict(state["optimizer"])
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"] = group["lr"].to(parameters[0].device)
    checkpoint.seconds = state["seconds"]
    return state["history"]
