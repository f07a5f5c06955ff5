"""How a recorded number was made: commit, version, machine."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path

import torch

LIBRARY = Path(__file__).parents[1]


@cache
def commit() -> str:
    """Return the short hash of the checkout, with `+dirty` if the library differs from it, or `unknown` outside git."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(LIBRARY), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        if not git("ls-files", "__init__.py", "errors.py"):
            return "unknown"
        dirty = "+dirty" if git("status", "--porcelain", "--", ".") else ""
        return git("rev-parse", "--short", "HEAD") + dirty
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def version() -> str:
    """Return the version of the installed library."""
    try:
        return metadata.version("hypernas")
    except metadata.PackageNotFoundError:
        return "unknown"


def device_name(device: str) -> str:
    """Return the model of the GPU, or the model of the CPU and the number of threads."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        model = found[1] if found else model
    return f"{model}, {torch.get_num_threads()} threads"


def stamp(device: str) -> dict[str, str]:
    """Return what every row records about its making: device, version, commit, and the current time as `started`."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    return {"device": device_name(device), "version": version(), "commit": commit(), "started": started}
