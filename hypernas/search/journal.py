"""The journal of a search: JSON lines that survive kills and that several processes and machines can continue."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from hypernas.errors import UserError

Record = dict[str, Any]
# A record is the plan of the search, or an architecture with what was asked or told of it.
FIELDS = {
    "search": dict,
    "choices": dict,
    "architecture": str,
    "worker": str,
    "asked": int,
    "told": dict,
    "failed": str,
}
EVENTS = {"asked", "told", "failed"}


class Journal:
    """An append-only file with one JSON object a line.

    Whoever holds the `lock` and has read to the end knows everything. A line counts once it ends with a newline. If a
    process is killed while writing, the next writer removes its partial line. Several machines may share the file on a
    disk that supports locks.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self._read_until = 0

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep all other processes from reading and writing."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(f"{self.path}.lock")
            with lock:
                yield
        except OSError as error:
            raise UserError(f"the journal {self.path} must be a file that can be written, got {error}") from error

    def new(self) -> list[Record]:
        """Return the records written since the last call. Raise UserError if a line is not a record."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._read_until)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        if not whole and self._read_until == 0 and not _may_be_torn(content):
            raise UserError(f"a journal must begin with its search, {self.path} does not: choose another file")
        records = [self._parsed(line) for line in whole.splitlines()]
        self._read_until += len(whole)
        return records

    def _parsed(self, line: bytes) -> Record:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            start = line[:60].decode(errors="replace")
            raise UserError(f"a line of {self.path} must be JSON, got {start!r}: mend or delete it") from error
        if not isinstance(record, dict):
            raise UserError(f"a line of {self.path} must be a JSON object, got {record!r:.60}: mend or delete it")
        if fault := _fault(record):
            raise UserError(f"a line of {self.path} must be a record of a search, got {fault}: mend or delete it")
        return record

    def append(self, records: Sequence[Record]) -> None:
        """Write records after the last complete line, and return once they are on disk. Call it under `lock`."""
        text = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records).encode()
        with self.path.open("ab") as file:
            # Under the lock all whole lines have been read, so whatever stands behind them is torn.
            file.truncate(self._read_until)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        self._read_until += len(text)


def _may_be_torn(content: bytes) -> bool:
    """Whether a file without a whole line may be a journal whose first line was cut by a kill."""
    start = b'{"search": {'
    return content[: len(start)] == start[: len(content)]


def _fault(record: Record) -> str:
    """What is wrong with a record, empty where nothing is."""
    for name, kind in FIELDS.items():
        if name in record and type(record[name]) is not kind:
            return f"{name} {record[name]!r:.60}"
    if "search" in record:
        return ""
    if "architecture" not in record:
        return "one without an architecture"
    if not EVENTS & record.keys():
        return "one that says neither asked, told nor failed"
    for name, value in record.get("told", {}).items():
        if type(value) not in (int, float) or not math.isfinite(value):
            return f"{name} {value!r:.60}"
    return ""
