"""Checks for columns of tables that others made; each value is checked once, when the table is read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import numpy as np

from hypernas.errors import UserError

# Least and greatest accuracy: percents in the whole library.
PERCENT = (0.0, 100.0)


def column(
    table: str,
    columns: Iterable[str],
    name: str,
) -> str:
    """Return `name` if it is one of the columns. Otherwise raise UserError that lists them."""
    present = [str(known) for known in columns]
    if name not in present:
        told = ", ".join(present)[:200] or "none"
        raise UserError(f"{table} must have a column {name!r}, got {told}")
    return name


def numbers(
    table: str,
    name: str,
    values: Sequence[Any],
    low: float = -math.inf,
    high: float = math.inf,
) -> np.ndarray:
    """Return finite numbers from `low` to `high` as float64 (B,).

    Raise UserError for the first row with anything else.
    """
    # The rule as a sentence says it.
    kind = "finite numbers" if math.isinf(high) else f"numbers from {low:g} to {high:g}"
    array = np.empty(len(values), np.float64)
    for row, value in enumerate(values):
        number = _number(value)
        if not low <= number <= high or math.isinf(number):
            told = repr(value)[:80]
            raise UserError(f"{name} of {table} must hold {kind}, got {told} in row {row}")
        array[row] = number
    return array


def _number(value: Any) -> float:
    """A plain number, NaN for anything else; True and False are no numbers."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        return math.nan
    return float(value)


def texts(
    table: str,
    name: str,
    values: Sequence[Any],
) -> np.ndarray:
    """Return non-empty texts as an array of str (B,). Raise UserError for the first row with anything else."""
    for row, value in enumerate(values):
        if not isinstance(value, str) or not value.strip():
            told = repr(value)[:80]
            raise UserError(f"{name} of {table} must hold text, got {told} in row {row}")
    return np.array([str(value) for value in values], dtype=np.str_)


def filled(
    table: str,
    n_rows: int,
    least: int = 1,
) -> None:
    """Raise UserError if a table has fewer than `least` rows."""
    if n_rows < least:
        raise UserError(f"{table} must have at least {least} rows, got {n_rows}")
