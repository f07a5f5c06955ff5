"""Save the records of a long run in a file, one a line, so that an interruption loses none."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypernas.errors import UserError
from hypernas.training.files import replaced


class Journal:
    """The `records` of the run named by `identity`: those in the file at `path`, and those added.

    No path means no file. The first line of the file is the identity. A line that was cut off by a kill is ignored.
    Raise UserError, ending with `remedy`, if the file is not a journal, belongs to another run, or cannot be written;
    the file stays as it was.
    """

    def __init__(self, path: Path | None, identity: Any, remedy: str) -> None:
        self.path, self.remedy = path, remedy
        self.records: list[Any] = []
        if path is None:
            return
        whole = _parsed(path, remedy)
        if whole and whole[0] != identity:
            raise UserError(f"{path} belongs to other settings, {whole[0]}: delete it or {remedy}")
        self.records = whole[1:]
        # Anew and without torn lines, so that what is added does not continue one of them.
        with self._told(), replaced(path) as temporary:
            _write(temporary, "wb", [identity, *self.records])

    def add(self, records: Iterable[Any]) -> None:
        """Add records, and append them to the file if there is one."""
        records = list(records)
        if self.path is not None:
            with self._told():
                _write(self.path, "ab", records)
        self.records += records

    def remove(self) -> None:
        """Remove the file if there is one."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """A write that fails is one sentence."""
        try:
            yield
        except OSError as error:
            rule = f"{self.path} must be writable, got {error.strerror}"
            raise UserError(f"{rule}: free space or {self.remedy}") from error


def _write(path: Path, mode: str, records: Iterable[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open(mode) as file:
        file.write("".join(json.dumps(record) + "\n" for record in records).encode())
        file.flush()
        os.fsync(file.fileno())


def _parsed(path: Path, remedy: str) -> list[Any]:
    """All whole lines. Raises UserError for a file whose first line is none: that line is never torn, since a journal
    begins under a temporary name."""
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_bytes().splitlines()):
        try:
            records.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            if number == 0:
                raise UserError(
                    f"{path} must be a journal of an earlier run, got another file: delete it or {remedy}"
                ) from error
    return records
