"""The one training loop: accumulation over architectures, Adam with halvings, checkpoint and resume, progress."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hypernas.errors import UserError

StepLoss = Callable[[Tensor, list[np.random.Generator]], tuple[Tensor, dict[str, Tensor]]]


@dataclass(frozen=True)
class Schedule:
    """Settings of the paper (Supplement 7): Adam 1e-3, halved at 50 % and 75 %, gradients over 10 architectures."""

    epochs: int = 200
    learning_rate: float = 1e-3
    accumulate: int = 10
    halve_at: tuple[float, ...] = (0.5, 0.75)
    weight_decay: float = 0.0

    def rate(self, epoch: int) -> float:
        return self.learning_rate * 0.5 ** sum(epoch >= share * self.epochs for share in self.halve_at)

    def optimizer(self, parameters: Sequence[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=self.learning_rate, weight_decay=self.weight_decay, fused=True)

    def begin(self, epoch: int, optimizer: torch.optim.Optimizer) -> None:
        """Set what an epoch has of its own."""
        for group in optimizer.param_groups:
            group["lr"] = self.rate(epoch)


@dataclass
class Checkpoint:
    """A file that a training writes at the end of an epoch, `every` so many seconds, and resumes from.

    `seconds` are those that earlier processes have spent on it, known once it is resumed.
    """

    path: Path
    every: float = 0.0
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
) -> list[dict[str, Any]]:
    """Minimise `loss(index (S, b), generators)` over n architectures for S seeds at once; returns one dict an epoch.

    Every epoch passes over the n architectures in an order drawn from (seed, epoch), and so are the images: a run that
    resumes from `checkpoint` gives the bits of one that was never stopped; `identity` names the model and the data
    that the file belongs to, which keeps all `parameters`, also those without a gradient, such as running statistics.
    `micro_batch` splits a step's architectures, whose gradients accumulate (1 is the paper's loop). Raises UserError
    for a checkpoint that is damaged or belongs to another training.
    """
    optimizer = schedule.optimizer([p for p in parameters if p.requires_grad])
    history: list[dict[str, Any]] = []
    fingerprint = {"schedule": repr(schedule), "seeds": list(seeds), "n": n, "identity": identity}
    if checkpoint is not None and checkpoint.path.exists():
        history = _resume(checkpoint, parameters, optimizer, fingerprint)
    started = saved = time.monotonic()
    for epoch in _bar(range(len(history), schedule.epochs), len(history), schedule.epochs, progress):
        schedule.begin(epoch, optimizer)
        generators = [np.random.default_rng([seed, epoch, 0x4E]) for seed in seeds]
        order = torch.from_numpy(np.stack([g.permutation(n) for g in generators]))
        steps = order.split(schedule.accumulate, dim=1)
        logs = [log for step in steps for log in _step(optimizer, loss, step, micro_batch or n, generators)]
        history.append({"epoch": epoch} | {k: torch.stack([log[k] for log in logs]).mean(0).tolist() for k in logs[0]})
        if checkpoint is not None and time.monotonic() - saved >= checkpoint.every:
            saved = time.monotonic()
            seconds = checkpoint.seconds + saved - started
            _save(checkpoint.path, parameters, optimizer, fingerprint, {"history": history, "seconds": seconds})
    return history


def _step(
    optimizer: torch.optim.Optimizer, loss: StepLoss, index: Tensor, micro_batch: int, generators: Any
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
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    state = {"parameters": [p.detach() for p in parameters], "optimizer": optimizer.state_dict()}
    try:
        torch.save(state | told | {"fingerprint": fingerprint}, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _resume(
    checkpoint: Checkpoint, parameters: Sequence[Tensor], optimizer: Any, fingerprint: dict
) -> list[dict[str, Any]]:
    path = checkpoint.path
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:
        raise UserError(f"a checkpoint must be a file of this library, {path} cannot be read; delete it") from error
    if not isinstance(state, dict) or state.get("fingerprint") != fingerprint:
        raise UserError(f"a checkpoint must be of the same settings and data, {path} is not; delete it or move it")
    with torch.no_grad():
        for parameter, saved in zip(parameters, state["parameters"], strict=True):
            parameter.copy_(saved)
    optimizer.load_state_dict(state["optimizer"])
    checkpoint.seconds = state["seconds"]
    return state["history"]
