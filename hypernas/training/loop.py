"""The one training loop: gradient accumulation over architectures, Adam with a schedule, checkpoints, progress."""

from __future__ import annotations

import logging
import math
import pickle
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from hypernas.errors import UserError

# A loss to minimise, and what of it is written into the history.
Logged = tuple[Tensor, dict[str, Tensor]]
# Architectures (S, b) of a step and a generator a seed -> their loss.
StepLoss = Callable[[Tensor, list[np.random.Generator]], Logged]

# Set the draws of an order of architectures apart from all else that is drawn from a seed. Changing them changes
# every recorded number.
ORDER_IN_EPOCH = 0x4E
ORDER_FOR_GOOD = 0x6E
# What torch.load raises for a file that is none of its own, that was cut short, or that holds more than tensors.
UNREADABLE = (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError, LookupError)


@dataclass(frozen=True)
class Schedule:
    """Settings of the paper (Supplement 7): Adam 1e-3, halved at 50 % and 75 %, gradients over 10 architectures.

    If `regroup` is false, each step has the same architectures in every epoch, and only the order of the steps changes.
    """

    epochs: int = 200
    learning_rate: float = 1e-3
    accumulate: int = 10
    halve_at: tuple[float, ...] = (0.5, 0.75)
    weight_decay: float = 0.0
    regroup: bool = True

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0."""
        # Counting the passed milestones gives the rate without any state, so that a resumed run has the same one.
        halvings = sum(epoch >= share * self.epochs for share in self.halve_at)
        return self.learning_rate * 0.5**halvings

    def optimizer(self, parameters: Sequence[Tensor], recorded: bool = False) -> torch.optim.Optimizer:
        """Return an Adam optimiser. A step `recorded` on a GPU reads its learning rate from a tensor."""
        rate: float | Tensor = self.learning_rate
        if recorded:
            rate = torch.tensor(self.learning_rate, device=parameters[0].device)
        # One kernel for all parameters: a model of a hundred small tensors would else spend its time on starting them.
        return torch.optim.Adam(parameters, rate, weight_decay=self.weight_decay, fused=True, capturable=recorded)

    def begin(self, epoch: int, optimizer: torch.optim.Optimizer) -> None:
        """Set the learning rate of an epoch."""
        for group in optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                # A recorded step reads this very tensor, so it is written to and not replaced.
                group["lr"].fill_(self.rate(epoch))
            else:
                group["lr"] = self.rate(epoch)

    def steps(
        self,
        epoch: int,
        n: int,
        seeds: Sequence[int],
    ) -> tuple[list[np.random.Generator], tuple[Tensor, ...]]:
        """Return the architectures (S, b) of each step of an epoch over n, and the generators for all further draws."""
        # New generators an epoch, from its number: a training that resumes needs no state of a generator.
        generators = [np.random.default_rng([seed, epoch, ORDER_IN_EPOCH]) for seed in seeds]
        if self.regroup:
            return generators, self._split(generators, n)
        steps = self._split([np.random.default_rng([seed, ORDER_FOR_GOOD]) for seed in seeds], n)
        order = np.random.default_rng([epoch, ORDER_FOR_GOOD]).permutation(len(steps))
        return generators, tuple(steps[i] for i in order)

    def _split(self, generators: Sequence[np.random.Generator], n: int) -> tuple[Tensor, ...]:
        """An order of n architectures from each of S generators, in steps (S, b)."""
        orders = np.stack([generator.permutation(n) for generator in generators])
        return torch.from_numpy(orders).split(self.accumulate, dim=1)

    def all_steps(self, n: int, seeds: Sequence[int]) -> Iterator[Tensor]:
        """Yield the architectures (S, b) of every step of the whole training."""
        for epoch in range(self.epochs):
            yield from self.steps(epoch, n, seeds)[1]


@dataclass(frozen=True)
class CosineSchedule(Schedule):
    """A schedule whose learning rate falls to zero along a half cosine."""

    def rate(self, epoch: int) -> float:
        return self.learning_rate * (1 + math.cos(math.pi * epoch / self.epochs)) / 2


@dataclass
class Checkpoint:
    """A file that saves a training after an epoch, at most once in `every` seconds, and from which it resumes.

    `seconds` is the time that earlier processes spent on the training, known after resuming. With `anew`, a finished
    training starts again, but an interrupted one still resumes. If the file cannot be written, training warns once and
    continues, unless the file is `needed`.
    """

    path: Path
    every: float = 0.0
    anew: bool = False
    needed: bool = False
    seconds: float = field(default=0.0, init=False)
    failed: bool = field(default=False, init=False)


class Steps(Protocol):
    """An object that can run the steps of a training in place of its loss, such as `training.recorder.Recorder`."""

    def step(
        self,
        optimizer: torch.optim.Optimizer,
        index: Tensor,
        generators: list[np.random.Generator],
    ) -> list[dict[str, Tensor]]: ...


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
    recorder: Steps | None = None,
) -> list[dict[str, Any]]:
    """Minimise `loss(index (S, b), generators)` over n architectures for S seeds at once.

    Return one dictionary an epoch. The order of the architectures and the draws of images depend only on (seed, epoch),
    so a run that resumes from `checkpoint` gives the same bits as one that was never interrupted. `identity` names the
    model and the data that the file belongs to. The file keeps all `parameters`, also those without a gradient, such as
    running statistics. `micro_batch` splits the architectures of a step and accumulates their gradients (1 is the
    paper's loop). On a GPU, a `recorder` can run the steps in place of `loss`.

    With a checkpoint, the first Ctrl-C or SIGTERM stops the training after the current epoch, which is saved; the
    second stops it at once. Raise UserError if the loss is no longer finite, or if the checkpoint is damaged, belongs
    to another training, or is needed and cannot be written.
    """
    learned = [parameter for parameter in parameters if parameter.requires_grad]
    optimizer = schedule.optimizer(learned, recorded=True) if recorder is not None else schedule.optimizer(learned)
    advance = recorder.step if recorder is not None else partial(descend, loss, micro_batch or n)
    history: list[dict[str, Any]] = []
    # What a checkpoint must share with this call, or resuming would silently mix two trainings.
    fingerprint = {"schedule": repr(schedule), "seeds": list(seeds), "n": n, "identity": identity}
    if checkpoint is not None:
        # Imported here and below: a training without a checkpoint touches no file.
        from hypernas.training.files import remove_leftovers

        remove_leftovers(checkpoint.path)
        if checkpoint.path.exists():
            history = _resume(checkpoint, parameters, optimizer, fingerprint, schedule.epochs)
    started = saved = time.monotonic()
    with _stopping(checkpoint is not None) as stop:
        for epoch in _bar(range(len(history), schedule.epochs), len(history), schedule.epochs, progress):
            schedule.begin(epoch, optimizer)
            generators, steps = schedule.steps(epoch, n, seeds)
            logs = []
            for step in steps:
                logs += advance(optimizer, step, generators)
                _check_finite(logs[-1], epoch, schedule.rate(epoch))
            # Once an epoch a GPU is waited for, so that a training that went wrong ends here at the latest.
            _check_finite(logs[-1], epoch, schedule.rate(epoch), wait=True)
            history.append({"epoch": epoch} | _means(logs))
            if checkpoint is None:
                continue
            now = time.monotonic()
            if stop.requested or now - saved >= checkpoint.every:
                saved = now
                told = {"history": history, "seconds": checkpoint.seconds + now - started}
                _save(checkpoint, parameters, optimizer, fingerprint, told)
            if stop.requested and epoch + 1 < schedule.epochs:
                stop.leave()
    return history


def descend(
    loss: StepLoss,
    micro_batch: int,
    optimizer: torch.optim.Optimizer,
    index: Tensor,
    generators: Any,
) -> list[dict[str, Tensor]]:
    """Take one step on the architectures index (S, b), at most `micro_batch` at a time. Return the log of each part."""
    optimizer.zero_grad(set_to_none=True)
    logs = []
    for part in index.split(micro_batch, dim=1):
        value, log = loss(part, generators)
        # The parts' gradients add up to that of the whole step, whatever their sizes.
        share = part.shape[1] / index.shape[1]
        (value * share).backward()
        logs.append(log)
    optimizer.step()
    return logs


def _means(logs: Sequence[dict[str, Tensor]]) -> dict[str, Any]:
    """The mean of each logged value over the steps of an epoch."""
    means = {}
    for name in logs[0]:
        values = torch.stack([log[name] for log in logs])
        means[name] = values.mean(0).tolist()
    return means


def _check_finite(
    log: dict[str, Tensor],
    epoch: int,
    rate: float,
    wait: bool = False,
) -> None:
    """Raise UserError for a step whose loss is nan or infinite: all that comes after it would be.

    To look at a value on a GPU means to `wait` for it, which is done once an epoch.
    """
    for name, value in log.items():
        if not name.startswith("loss") or (value.device.type != "cpu" and not wait):
            continue
        if not bool(torch.isfinite(value).all()):
            got = f"{name} {value.flatten().tolist()[0]:g} in epoch {epoch + 1} with a learning rate of {rate:g}"
            raise UserError(f"a training must keep a finite loss, got {got}; lower it, or check the labels")


class _Stop:
    """The first signal that asked for the end of a training."""

    def __init__(self) -> None:
        self.number: int | None = None

    @property
    def requested(self) -> bool:
        return self.number is not None

    def leave(self) -> None:
        """End the program as the signal would have."""
        if self.number == signal.SIGINT:
            raise KeyboardInterrupt
        # The exit code of a program that a signal has ended, as shells count it.
        raise SystemExit(128 + int(self.number or 0))


@contextmanager
def _stopping(wanted: bool) -> Iterator[_Stop]:
    """Ctrl-C and SIGTERM under it are kept for the end of an epoch; a second one acts at once.

    Only the main thread of a process hears signals; in any other nothing changes.
    """
    stop = _Stop()
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def request(number: int, frame: Any) -> None:
        stop.number = number
        logging.getLogger("hypernas").warning("stopping after this epoch, which is kept; once more to stop at once")
        _restore(before)

    for number in before:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        _restore(before)


def _restore(handlers: dict[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        # None stands for a handler that was not set by Python.
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _bar(
    epochs: range,
    done: int,
    total: int,
    progress: Any,
) -> Any:
    """The epochs, with a bar on the terminal, or with `progress(epochs done, total)` called after each."""
    if callable(progress):
        return _told(epochs, total, progress)
    if not progress:
        return epochs
    from tqdm.auto import tqdm

    return tqdm(epochs, initial=done, total=total, unit="epoch", leave=False)


def _told(
    epochs: range,
    total: int,
    tell: Callable[[int, int], Any],
) -> Iterator[int]:
    for epoch in epochs:
        yield epoch
        tell(epoch + 1, total)


def _save(
    checkpoint: Checkpoint,
    parameters: Sequence[Tensor],
    optimizer: torch.optim.Optimizer,
    fingerprint: dict[str, Any],
    told: dict[str, Any],
) -> None:
    """PyTorch tells of a place that cannot be written in several ways."""
    from hypernas.training.files import replaced

    state = {"parameters": [parameter.detach() for parameter in parameters], "optimizer": optimizer.state_dict()}
    try:
        with replaced(checkpoint.path) as temporary:
            torch.save(state | told | {"fingerprint": fingerprint}, temporary)
    except (OSError, RuntimeError) as error:
        rule = f"{checkpoint.path} must be writable, got {error}: free space or check its folder"
        if checkpoint.needed:
            raise UserError(rule) from error
        # Once: a full disk would else fill the terminal too.
        if not checkpoint.failed:
            warnings.warn(f"{rule}; training goes on and could not be resumed", stacklevel=3)
        checkpoint.failed = True


def _resume(
    checkpoint: Checkpoint,
    parameters: Sequence[Tensor],
    optimizer: torch.optim.Optimizer,
    fingerprint: dict[str, Any],
    epochs: int,
) -> list[dict[str, Any]]:
    """The history of a training that was stopped, whose state goes into parameters and optimizer."""
    path = checkpoint.path
    try:
        with warnings.catch_warnings(action="ignore"):  # a pickle in its place is refused, with one sentence
            state = torch.load(path, weights_only=True, map_location="cpu")
    except UNREADABLE as error:
        raise UserError(f"a checkpoint must be a file of this library, {path} cannot be read; delete it") from error
    if not isinstance(state, dict) or state.get("fingerprint") != fingerprint:
        raise UserError(f"a checkpoint must be of the same settings and data, {path} is not; delete it or move it")
    # A finished training that is asked for anew begins from the start; an unfinished one still goes on.
    if checkpoint.anew and len(state["history"]) == epochs:
        return []
    with torch.no_grad():
        for parameter, saved in zip(parameters, state["parameters"], strict=True):
            parameter.copy_(saved)
    optimizer.load_state_dict(state["optimizer"])
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            # The state was read onto the CPU, and a recorded step needs its rate on the device.
            group["lr"] = group["lr"].to(parameters[0].device)
    checkpoint.seconds = state["seconds"]
    return state["history"]
