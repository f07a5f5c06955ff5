"""Grids of experiments on several processes: rows are recorded as they come, a failure stops nothing else."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

import torch

from hypernas.lab.experiment import Experiment, run_many
from hypernas.lab.grids import recorded
from hypernas.lab.rows import Row

Part = list[Experiment]


class Failure(NamedTuple):
    """Experiments that have no row, and why."""

    experiments: Part
    reason: str


def parts(
    experiments: Sequence[Experiment], together: int | None = None, force: bool = False, device: str = "cpu"
) -> list[Part]:
    """The experiments that have no row, or all with `force`, in parts for one process each.

    A part differs in the seed only and has at most `together` seeds. Raises UserError for the first experiment that
    could not run.
    """
    run_many(experiments, force, device=device)  # checks all of them; what it returns is not asked for a row
    rows = [None] * len(experiments) if force else recorded(list(experiments), here=True)
    missing = [each.resolved() for each, row in zip(experiments, rows, strict=True) if row is None]
    found = []
    for _, alike in groupby(missing, key=lambda each: replace(each, seed=0).key()):
        seeds = list(alike)
        size = together or len(seeds)
        found += [seeds[i : i + size] for i in range(0, len(seeds), size)]
    return found


def sweep(todo: Sequence[Part], workers: int, threads: int = 1, **options: Any) -> Iterator[Row | Failure]:
    """Every row as it is recorded, and every failure; a process a part, `workers` of them at a time.

    `options` are those of `run_many`. A single worker is this process. Where the iteration is left, the processes are
    ended; what is recorded stays.
    """
    if workers == 1:
        torch.set_num_threads(threads)
        for part in todo:
            yield from _rows(part, options)
        return
    waiting, context = deque(todo), get_context("spawn")
    running: dict[Any, Any] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                here, there = context.Pipe(duplex=False)
                process = context.Process(target=_work, args=(there, waiting[0], threads, options), daemon=True)
                process.start()
                there.close()
                running[here] = process, {each.seed: each for each in waiting.popleft()}
            for pipe in wait(list(running)):
                yield from _heard(pipe, running)
    finally:
        for process, _ in running.values():
            process.terminate()


def _heard(pipe: Any, running: dict[Any, Any]) -> Iterator[Row | Failure]:
    """What a process says; one that says no more has done its part, or was killed before its end."""
    process, left = running[pipe]
    try:
        said = pipe.recv()
    except EOFError:
        del running[pipe]
        process.join()
        if left:
            yield Failure(list(left.values()), f"its process ended with code {process.exitcode}")
        return
    for seed in [each.seed for each in said.experiments] if isinstance(said, Failure) else [said["seed"]]:
        left.pop(seed, None)
    yield said


def _rows(part: Part, options: dict[str, Any]) -> Iterator[Row | Failure]:
    """The rows of a part; seeds that do not train together fail one by one."""
    for group in [part] if part[0].together else [[each] for each in part]:
        try:
            yield from run_many(group, progress=False, **options)
        except Exception as error:
            yield Failure(group, f"{type(error).__name__}: {error}".splitlines()[0])


def _work(pipe: Connection, part: Part, threads: int, options: dict[str, Any]) -> None:
    """A process: send what `_rows` gives. It ends with the process that started it, which also minds Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    for said in _rows(part, options):
        pipe.send(said)


def _leave_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
