"""Yardsticks for a machine: seconds, ratios of alternating runs, memory, the speed of a large matrix product."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from hypernas.errors import UserError

PROCESS = Path("/proc/self")


def seconds_of(work: Callable[[], Any]) -> float:
    """Return the wall seconds of one call, including the GPU's work."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def paired_ratio(
    slow: Callable[[], Any],
    fast: Callable[[], Any],
    pairs: int = 3,
) -> float:
    """Return the time of `slow` over that of `fast`, the median of `pairs` pairs.

    The two alternate, A B A B, so that drifts in the machine's speed cancel.
    """
    if pairs < 1:
        raise UserError(f"pairs must be at least 1, got {pairs}")
    return statistics.median(seconds_of(slow) / seconds_of(fast) for _ in range(pairs))


def sgemm_rate(device: str = "cpu") -> float:
    """Return the FLOP per second of a large float32 product, 2048 wide or 8192 on a GPU, as the machine's yardstick."""
    n = 2048 if device == "cpu" else 8192
    a = torch.randn(n, n, device=device)
    return 2 * n**3 / min(seconds_of(lambda: a @ a) for _ in range(6))


def peak_memory(work: Callable[[], Any], device: str = "cpu") -> float:
    """Return the bytes that `work` adds to memory at its peak; NaN if the system does not report it.

    On a CPU, this is the memory of the process as counted by Linux.
    """
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return float(torch.cuda.max_memory_allocated() - before)
    try:
        (PROCESS / "clear_refs").write_text("5")
        resident = _status("VmRSS")
    except OSError:
        work()
        return math.nan
    work()
    return max(0.0, _status("VmHWM") - resident)


def _status(name: str) -> float:
    """A line of the process's status, bytes."""
    (line,) = (line for line in (PROCESS / "status").read_text().splitlines() if line.startswith(f"{name}:"))
    return float(line.split()[1]) * 1024
