"""Files of the package, and files that are either complete or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import hashlib
import os
import platform
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hypernas.errors import UserError


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path`. On success it is renamed to `path`; after an error it is removed.

    First removes what processes that have died left half written for `path`. An OSError always names `path`, never the
    temporary file; even the error of a full disk, which by itself names no file.
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


@contextmanager
def written(path: Path, remedy: str) -> Iterator[Path]:
    """As `replaced`, in a folder that is made if it is missing. Raise UserError, with a `remedy`, if that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as temporary:
            yield temporary
    except OSError as error:
        raise UserError(f"{path} must be writable, got {error.strerror or error}: {remedy}") from error


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files for `path` of processes that no longer run on this machine."""
    start = f".{path.name}.{platform.node()}."
    # A folder that is not there or cannot be read is told by whoever writes to it.
    with suppress(OSError):
        for leftover in path.parent.iterdir():
            # The file's name ends with the process that wrote it.
            number = leftover.name.removeprefix(start)
            if leftover.name.startswith(start) and number.isdecimal() and not is_alive(int(number)):
                leftover.unlink(missing_ok=True)


def is_alive(process: int) -> bool:
    """Return whether a process with this number runs on this machine."""
    try:
        # Signal 0 only asks.
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    # Alive, but another user's; or a number that no process can have here, and so another machine's.
    except (PermissionError, OverflowError):
        return True
    return True


def toml_beside(module: str, name: str) -> dict[str, Any]:
    """Read the TOML file `name` in the folder of a module, given as its `__file__`."""
    return tomllib.loads(Path(module).with_name(name).read_text(encoding="utf-8"))


def short_digest(text: str, letters: int = 24) -> str:
    """Return a digest of a text that fits into the name of a file."""
    return hashlib.sha256(text.encode()).hexdigest()[:letters]
