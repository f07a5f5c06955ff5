"""Files that are whole or not there: written under a name that says whose they are, then renamed."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """The temporary file beside `path` to write to: it takes that name at the end, or is gone after an error.

    What processes that are no longer there have left half written for `path` is removed first. An OSError names `path`,
    also that of a full disk, which says no name, and never the temporary one.
    """
    remove_leftovers(path)
    temporary = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Remove what was left half written for `path` on this machine by processes that are no longer there."""
    start = f".{path.name}.{platform.node()}."
    # A folder that is not there or cannot be read is told by whoever writes to it.
    with suppress(OSError):
        for leftover in path.parent.iterdir():
            # The file's name ends with the process that wrote it.
            number = leftover.name.removeprefix(start)
            if leftover.name.startswith(start) and number.isdecimal() and not is_alive(int(number)):
                leftover.unlink(missing_ok=True)


def is_alive(process: int) -> bool:
    """Whether this machine has a process of that number."""
    try:
        # Signal 0 only asks.
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    # Alive, but another user's; or a number that no process can have here, and so another machine's.
    except (PermissionError, OverflowError):
        return True
    return True
