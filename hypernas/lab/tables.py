"""Which table a row was made from: a digest of its labels and architectures, part of every row's identity.

Rows recorded before digests existed name their table by the sentence `source`; `known_tables.json` maps such sentences
to digests. Later rows store the digest themselves, so that file needs no additions.
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
from hypernas.training.files import short_digest

KNOWN = Path(__file__).with_name("known_tables.json")
# Hexadecimal digits of a digest: 64 bits, enough to tell a few thousand tables apart.
DIGITS = 16


def digest(table: Table) -> str:
    """Return an identifier of a table's labels and architectures, independent of column names and storage.

    >>> table = Table("", "measured", {"op": np.array([1, 2])}, np.array([90.0, 91.0]), np.array([90.5, 91.5]))
    >>> renamed = Table("", "measured", {"ops": np.array([1, 2], np.uint8)}, table.validation, table.test)
    >>> shuffled = Table("", "measured", table.columns, table.validation[::-1], table.test)
    >>> digest(table) == digest(renamed), digest(table) == digest(shuffled)
    (True, False)
    """
    labels = [_column_digest(np.asarray(values)) for values in (table.validation, table.test)]
    architectures = sorted(_column_digest(column) for column in table.columns.values())
    return short_digest(" ".join(labels + architectures), DIGITS)


def sentence_digest(source: str) -> str:
    """Return the digest of a source without a table, such as a surrogate, from the sentence that names it."""
    return short_digest(source, DIGITS)


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
    """Return the digest that a row states, or that of the table in its `source`, or None if it is unknown."""
    stated = row.get("table_digest")
    if stated:
        return str(stated)
    return _known().get(f"{row.get('space')} {row.get('dataset')}", {}).get(str(row.get("source")))
