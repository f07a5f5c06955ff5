"""Benchmark tables that `hypernas label` made: a parquet file with its provenance inside."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hypernas.data import Table
from hypernas.data.catalogue import checkout
from hypernas.errors import MissingTable, UserError

KEY = b"hypernas"


def place(space: str) -> Path:
    """Where the table of `space` is written by default: `data/benchmarks` of the checkout or the working directory."""
    return (checkout() or Path.cwd()) / "data" / "benchmarks" / f"{space}.parquet"


def find_labelled(space: str) -> Path | None:
    """The table of `space`, first under `$HYPERNAS_DATA/benchmarks`, then at `place`; None where there is none."""
    folder = os.environ.get("HYPERNAS_DATA")
    places = [*([Path(folder) / "benchmarks" / f"{space}.parquet"] if folder else []), place(space)]
    return next((path for path in places if path.is_file()), None)


def write_labelled(path: Path, columns: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
    """Write the table to a temporary name and rename it. Raises UserError where the folder cannot be written to."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table(dict(columns)).replace_schema_metadata({KEY: json.dumps(provenance).encode()})
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(table, temporary, compression="zstd")
        os.replace(temporary, path)
    except OSError as error:
        told = error.strerror or error
        raise UserError(f"{path} must be writable, got {told}: free space or choose --out") from error
    finally:
        temporary.unlink(missing_ok=True)


def provenance_of(path: Path) -> dict[str, Any]:
    """How the table at `path` was made. Raises UserError for a file that `hypernas label` did not write."""
    import pyarrow
    import pyarrow.parquet

    try:
        metadata = pyarrow.parquet.read_schema(path).metadata or {}
        return json.loads(metadata[KEY])
    except (OSError, pyarrow.ArrowException, KeyError, ValueError) as error:
        raise UserError(
            f"{path} must be a table that `hypernas label` wrote, but it is truncated, altered or of other making "
            f"({type(error).__name__}): make it again or remove it"
        ) from error


def read_labelled(path: Path) -> Table:
    """The table at `path`: validation accuracy of the first run, mean test accuracy of all, percent.

    `columns` holds `notation` (B,), `validation_runs` and `test_runs` (B, S), `parameters` (B,). Raises UserError for a
    damaged file.
    """
    import pyarrow
    import pyarrow.parquet

    made = provenance_of(path)
    try:
        table = pyarrow.parquet.read_table(path)
        runs = {part: [f"{part}_{seed}" for seed in range(made["seeds"])] for part in ("validation", "test")}
        columns = {"notation": np.array(table["notation"].to_pylist()), "parameters": table["parameters"].to_numpy()}
        for part, names in runs.items():
            columns[f"{part}_runs"] = np.stack([table[name].to_numpy() for name in names], 1)
    except (OSError, pyarrow.ArrowException, KeyError, ValueError) as error:
        raise UserError(f"{path} must be a whole table of `hypernas label`, got {error}: make it again") from error
    source = (
        f"{len(columns['notation'])} architectures trained by `hypernas label` on {made['images']} for "
        f"{made['epochs']} epochs, {made['seeds']} seeds each"
    )
    return Table(source, "re-trained", columns, columns["validation_runs"][:, 0], columns["test_runs"].mean(1))


def read_own(space: str, images: str) -> Table:
    """The table of a space that has none but its own on `images`. Raises MissingTable where there is none."""
    path = find_labelled(space)
    if path is None or provenance_of(path)["images"] != images:
        command = f"hypernas label --space {space}"
        raise MissingTable(f"no {space} table of {images} is present; `{command} --images {images}` makes one")
    return read_labelled(path)
