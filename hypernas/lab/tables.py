"""Which table a row was made from: a digest of its labels and architectures, part of every row's identity.

Rows recorded before there was a digest name their table by the sentence `source`; `known_tables.json` holds the digest
of every table that such a sentence stands for. Later rows state theirs, so that nothing has to be added to it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hypernas.data import Table

KNOWN = Path(__file__).with_name("known_tables.json")
# Hexadecimal digits of a digest: 64 bits, enough to tell a few thousand tables apart.
DIGITS = 16


def digest(table: Table) -> str:
    """A name for the labels and the architectures of a table, whatever its columns are called or how they are stored.

    >>> table = Table("", "measured", {"op": np.array([1, 2])}, np.array([90.0, 91.0]), np.array([90.5, 91.5]))
    >>> renamed = Table("", "measured", {"ops": np.array([1, 2], np.uint8)}, table.validation, table.test)
    >>> shuffled = Table("", "measured", table.columns, table.validation[::-1], table.test)
    >>> digest(table) == digest(renamed), digest(table) == digest(shuffled)
    (True, False)
    """
    labels = [_column_digest(np.asarray(values)) for values in (table.validation, table.test)]
    architectures = sorted(_column_digest(column) for column in table.columns.values())
    return hashlib.sha256(" ".join(labels + architectures).encode()).hexdigest()[:DIGITS]


def sentence_digest(source: str) -> str:
    """The digest of what has no table: a surrogate, whose file has a checksum of its own, goes by its sentence."""
    return hashlib.sha256(source.encode()).hexdigest()[:DIGITS]


def _column_digest(column: np.ndarray) -> str:
    # Text, and objects such as the dictionaries of choices that a space of one's own may have for notations.
    if column.dtype.kind in "USO":
        content = json.dumps(column.tolist(), sort_keys=True, default=str).encode()
    else:
        # One width for all numbers, so that a column stored in fewer bytes is still the same column.
        wide = np.float64 if column.dtype.kind == "f" else np.int64
        content = np.ascontiguousarray(column, wide).tobytes()
    return hashlib.sha256(content + str(column.shape).encode()).hexdigest()


@cache
def _known() -> dict[str, dict[str, str]]:
    return json.loads(KNOWN.read_text(encoding="utf-8")) if KNOWN.exists() else {}


def digest_of_row(row: Mapping[str, Any]) -> str | None:
    """The digest that a row states, else that of the table its `source` names; None where nobody knows it."""
    stated = row.get("table_digest")
    if stated:
        return str(stated)
    return _known().get(f"{row.get('space')} {row.get('dataset')}", {}).get(str(row.get("source")))
