"""Leases on work, visible to all processes that share a folder, so that two machines do not do the same work."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from filelock import FileLock, Timeout

from hypernas.lab.runner import Done, Runner
from hypernas.training.files import short_digest

# Seconds until work that other processes have taken is looked at again.
LOOK_AGAIN_SECONDS = 1.0
# Where work was done that this process did not do.
ELSEWHERE = "another process"


class Leases:
    """Leases in a folder, one small file each, which names the lock of its holder.

    They last as long as that lock is held: until the context ends, or the system frees the lock of a killed process.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: set[Path] = set()
        self._holder = folder / f"{uuid4().hex}.holder"
        self._lock = FileLock(self._holder)

    def __enter__(self) -> Leases:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.clean()
        # Under the lock of the folder, since who cleans takes a holder without a lock for a dead one.
        with FileLock(self.folder / ".lock"):
            self._lock.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self._give_back(list(self._held))
        self._lock.release()
        self._holder.unlink(missing_ok=True)

    def clean(self) -> None:
        """Remove what holders that are gone have left."""
        with FileLock(self.folder / ".lock"):
            for path in self.folder.glob("*.lease"):
                if not self._taken(path):
                    path.unlink(missing_ok=True)
            for holder in self.folder.glob("*.holder"):
                _is_held(holder)

    def take(self, names: Iterable[str]) -> bool:
        """Take all of the work called `names`, or none of it if another process holds a part."""
        paths = self._paths(names)
        with FileLock(self.folder / ".lock"):
            if any(path not in self._held and self._taken(path) for path in paths):
                return False
            for path in paths:
                path.write_text(self._holder.name, encoding="utf-8")
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

    def _taken(self, path: Path) -> bool:
        try:
            holder = path.read_text(encoding="utf-8")
        except OSError:
            return False
        # A process that was killed while it wrote may have left nothing.
        return bool(holder) and _is_held(self.folder / holder)


def _is_held(holder: Path) -> bool:
    """Whether a process has the lock of this holder; if none has, the file goes."""
    try:
        with FileLock(holder, timeout=0):
            pass
    except Timeout:
        return True
    holder.unlink(missing_ok=True)
    return False


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
