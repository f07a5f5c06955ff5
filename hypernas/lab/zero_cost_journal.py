"""Scores of a long run, kept in the user cache line by line, so that a stop loses none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from hypernas.data.catalogue import cache_directory
from hypernas.errors import UserError
from hypernas.lab.rows import canonical_json

Score = tuple[float | None, float]  # None where it is not finite; seconds


class ScoreJournal:
    """`scores` by id, those of the file that `identity` names and those added; without `keep` there is no file."""

    def __init__(self, identity: Any, keep: bool = True) -> None:
        name = hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:24]
        self.path = cache_directory() / "zero_cost" / f"{name}.jsonl" if keep else None
        content = self.path.read_bytes() if self.path and self.path.exists() else b""
        self.scores: dict[int, Score] = dict(filter(None, map(_parsed, content.splitlines())))
        self.torn = content[-1:] not in (b"", b"\n")

    def add(self, scores: Mapping[int, Score]) -> None:
        """Raises UserError where the file cannot be written."""
        self.scores.update(scores)
        if not self.path:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lines = "".join(f"{json.dumps([i, *score])}\n" for i, score in scores.items())
            with self.path.open("ab") as file:
                file.write(("\n" * self.torn + lines).encode())
            self.torn = False
        except OSError as error:
            raise UserError(f"{self.path} must be writable, got {error.strerror}: set $XDG_CACHE_HOME") from error


def _parsed(line: bytes) -> tuple[int, Score] | None:
    """None for a line that a kill tore."""
    try:
        identity, value, seconds = json.loads(line)
    except (ValueError, TypeError):
        return None
    return identity, (value, seconds)
