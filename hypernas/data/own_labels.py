"""Labels that a user measured: a table of notation and accuracy, in memory or in a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hypernas.data import Table, schema
from hypernas.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

# Fewer labels than this say nothing about any ranking.
FEWEST_LABELS = 5
SUFFIXES = (".csv", ".parquet", ".jsonl")


def is_labels(labels: Any) -> bool:
    """Return whether `labels` is a table of labels or the path of one, as opposed to the name of a dataset."""
    return not isinstance(labels, str) or labels.lower().endswith(SUFFIXES)


def read_labels(labels: str | Path | Mapping[str, Any] | pd.DataFrame) -> Table:
    """Return labels from a DataFrame, a dictionary of columns, or a CSV, Parquet or JSON lines file as a table.

    They need the columns `notation` and `accuracy`. The accuracy is both label and truth. Other numeric columns are
    kept under their names, for constraints and objectives; `notation` stays as it is. Raise UserError for a missing
    column, an invalid notation or accuracy, or fewer than five labels.
    """
    import pandas as pd

    if isinstance(labels, (str, Path)):
        path = Path(labels).expanduser()
        frame, name = _read_file(path), str(path)
    elif isinstance(labels, (Mapping, pd.DataFrame)):
        frame, name = pd.DataFrame(labels), "the given table"
    else:
        rule = "a dataset must be a name, and labels a DataFrame, a dictionary of columns or a file"
        raise UserError(f"{rule}, got {type(labels).__name__}")
    for column in ("notation", "accuracy"):
        schema.column(name, frame.columns, column)
    schema.filled(name, len(frame), FEWEST_LABELS)
    accuracy = schema.numbers(name, "accuracy", frame["accuracy"].tolist())
    columns: dict[str, Any] = {"notation": np.array([*frame["notation"], None], dtype=object)[:-1]}
    for column in frame.columns:
        if column not in ("notation", "accuracy") and pd.api.types.is_numeric_dtype(frame[column]):
            columns[str(column)] = frame[column].to_numpy()
    return Table(f"{len(frame)} labels of {name}", "measured", columns, accuracy, accuracy)


def read_columns(path: Path, columns: list[str]) -> pd.DataFrame:
    """Read columns of a CSV, Parquet or JSON lines file. Raise UserError if it cannot be read or lacks one of them."""
    frame = _read_file(path)
    for column in columns:
        schema.column(str(path), frame.columns, column)
    return frame[columns]


def _read_file(path: Path) -> pd.DataFrame:
    """The columns of a file. A notation of digits alone stays text."""
    import pandas as pd

    try:
        if path.suffix.lower() == ".csv":
            return pd.read_csv(path, dtype={"notation": str}, skipinitialspace=True)
        if path.suffix.lower() == ".parquet":
            return pd.read_parquet(path)
        lines = path.read_text(encoding="utf-8").splitlines()
        return pd.DataFrame([_object(line) for line in lines if line.strip()])
    except FileNotFoundError as error:
        raise UserError(f"labels must be in a file, found none at {path}") from error
    except Exception as error:  # a damaged file can raise anything
        told = " ".join(str(error).split())[:200]
        raise UserError(f"{path} must be a whole table of labels, got {type(error).__name__}: {told}") from error


def _object(line: str) -> dict[str, Any]:
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError(f"a line that is no object: {line[:80]}")
    return row
