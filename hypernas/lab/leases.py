"""Leases on work, visible to all processes that share a folder, so that two machines do not do the same work."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from filelock import FileLock

from hypernas.lab.runner import Done, Runner
from hypernas.training.files import is_alive, short_digest

# A lease that nobody has renewed for so many seconds is free: its holder was killed or lost the folder.
EXPIRY_SECONDS = 180.0
# Four renewals fit into that time, so that one or two may come late.
RENEWAL_SECONDS = 40.0
# Seconds until work that other processes have taken is looked at again.
LOOK_AGAIN_SECONDS = 1.0
# Where work was done that this process did not do.
ELSEWHERE = "another process"


class Leases:
    """Leases in a folder, one small file each, which a thread renews until the context ends and returns them."""

    def __init__(
        self, folder: Path, expiry_seconds: float = EXPIRY_SECONDS, renewal_seconds: float = RENEWAL_SECONDS
    ) -> None:
        self.folder, self.expiry_seconds, self.renewal_seconds = folder, expiry_seconds, renewal_seconds
        self._held: set[Path] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> Leases:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.clean()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._give_back(list(self._held))

    def clean(self) -> None:
        """Remove the leases whose holders are gone."""
        with FileLock(self.folder / ".lock"):
            now = self._now()
            for path in self.folder.glob("*.lease"):
                if not self._taken(path, now):
                    path.unlink(missing_ok=True)

    def take(self, names: Iterable[str]) -> bool:
        """Take all of the work called `names`, or none of it if another process holds a part."""
        paths = self._paths(names)
        with FileLock(self.folder / ".lock"):
            now = self._now()
            if any(path not in self._held and self._taken(path, now) for path in paths):
                return False
            for path in paths:
                path.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}), encoding="utf-8")
                self._held.add(path)
        return True

    def give_back(self, names: Iterable[str]) -> None:
        """Return the leases on the work called `names`."""
        self._give_back(self._paths(names))

    def _paths(self, names: Iterable[str]) -> list[Path]:
        return [self.folder / f"{short_digest(name)}.lease" for name in names]

    def _give_back(self, paths: Iterable[Path]) -> None:
        for path in paths:
            self._held.discard(path)
            path.unlink(missing_ok=True)

    def _now(self) -> float:
        """The time by the clock of the folder's file system, the one that dates every lease."""
        clock = self.folder / ".clock"
        clock.write_text("", encoding="utf-8")
        return clock.stat().st_mtime

    def _taken(self, path: Path, now: float) -> bool:
        try:
            holder = json.loads(path.read_text(encoding="utf-8"))
            age = now - path.stat().st_mtime
        except (OSError, ValueError):
            return False
        if holder.get("host") == socket.gethostname() and not is_alive(int(holder.get("pid", 0))):
            return False
        return age < self.expiry_seconds

    def _renew(self) -> None:
        while not self._over.wait(self.renewal_seconds):
            for path in list(self._held):
                try:
                    os.utime(path)
                except OSError:
                    continue  # the folder may be away for a moment; the next renewal comes


class Named(Protocol):
    """A job with a name that all processes that share its results know."""

    def names(self) -> list[str]: ...


def share(
    runner: Runner,
    leases: Leases,
    work: Callable[[Any], Any],
    jobs: Iterable[Named],
    recorded: Callable[[Any], Any],
) -> Iterator[Done]:
    """Run each job once among all processes with these leases, and yield it as `runner.map` does.

    A job that another process has done comes with the result of `recorded`, which may be None. Its lease is held until
    the next job is requested, so the caller has recorded the result by then.
    """
    waiting = deque(jobs)
    while waiting:
        elsewhere: list[Named] = []
        known: list[Done] = []
        for done in runner.map(work, _free(waiting, leases, recorded, elsewhere, known)):
            yield done
            leases.give_back(done.job.names())
        yield from known
        waiting.extend(elsewhere)
        if waiting:
            time.sleep(LOOK_AGAIN_SECONDS)


def _free(
    waiting: deque[Named],
    leases: Leases,
    recorded: Callable[[Any], Any],
    elsewhere: list[Named],
    known: list[Done],
) -> Iterator[Named]:
    """The jobs that no other process is at, each taken as it is drawn; what others have done since goes to `known`."""
    while waiting:
        job = waiting.popleft()
        if not leases.take(job.names()):
            elsewhere.append(job)
            continue
        result = recorded(job)
        if result is None:
            yield job
            continue
        leases.give_back(job.names())
        known.append(Done(job, result, where=ELSEWHERE))
