"""Benchmark tables made by `hypernas label`: a parquet file that includes its provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hypernas.data import Table, schema
from hypernas.data.catalogue import checkout, folder_of_variable, shipped
from hypernas.errors import MissingTable, UserError
from hypernas.training.files import written

# Where in a Parquet file's metadata the provenance stands.
KEY = b"hypernas"
# What is read of the provenance, and its type.
PROVENANCE = {"images": str, "epochs": int, "seeds": int}
# A damaged provenance must not make the reader ask for a billion columns.
MOST_SEEDS = 1000


def place(space: str) -> Path:
    """Return the default path for the table of `space`, in `data/benchmarks` of the checkout or working directory."""
    return (checkout() or Path.cwd()) / "data" / "benchmarks" / f"{space}.parquet"


def find_labelled(space: str) -> Path | None:
    """Return the table of `space` in `$HYPERNAS_DATA/benchmarks`, at `place` or shipped, or None if there is none."""
    folder = folder_of_variable("HYPERNAS_DATA")
    # A table under $HYPERNAS_DATA comes first, then one of one's own, then the one in the wheel.
    places = [place(space)]
    if checkout() is None:
        places.append(shipped() / "data" / "benchmarks" / f"{space}.parquet")
    if folder is not None:
        places.insert(0, folder / "benchmarks" / f"{space}.parquet")
    return next((path for path in places if path.is_file()), None)


def write_labelled(
    path: Path,
    columns: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> None:
    """Write the table under a temporary name and rename it. Raise UserError if the folder cannot be written to."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table(dict(columns)).replace_schema_metadata({KEY: json.dumps(provenance).encode()})
    with written(path, "free space or choose --out") as temporary:
        pyarrow.parquet.write_table(table, temporary, compression="zstd")


def provenance_of(path: Path) -> dict[str, Any]:
    """Return how the table at `path` was made. Raise UserError if `hypernas label` did not write it."""
    import pyarrow
    import pyarrow.parquet

    try:
        metadata = pyarrow.parquet.read_schema(path).metadata or {}
        provenance = json.loads(metadata[KEY])
    except (OSError, pyarrow.ArrowException, KeyError, ValueError, RecursionError) as error:
        raise _not_ours(path, type(error).__name__) from error
    if not isinstance(provenance, dict):
        raise _not_ours(path, f"provenance that is a {type(provenance).__name__}")
    for name, kind in PROVENANCE.items():
        if type(provenance.get(name)) is not kind:
            raise _not_ours(path, f"{name} {provenance.get(name)!r} in its provenance")
    if not 1 <= provenance["seeds"] <= MOST_SEEDS:
        raise _not_ours(path, f"{provenance['seeds']} seeds in its provenance")
    return provenance


def _not_ours(path: Path, told: str) -> UserError:
    rule = f"{path} must be a table that `hypernas label` wrote, but it is truncated, altered or of other making"
    return UserError(f"{rule} ({told}): make it again or remove it")


def read_labelled(path: Path) -> Table:
    """Return the table at `path`: validation accuracy of the first run, mean test accuracy of all runs, in percent.

    `columns` holds `notation` (B,), `validation_runs` and `test_runs` (B, S), `parameters` (B,). Raise UserError if the
    file is damaged.
    """
    import pyarrow
    import pyarrow.parquet

    made = provenance_of(path)
    try:
        table = pyarrow.parquet.read_table(path)
        values = {name: table[name].to_pylist() for name in dict.fromkeys(table.column_names)}
    except (OSError, pyarrow.ArrowException, KeyError, ValueError) as error:
        raise _not_ours(path, type(error).__name__) from error

    def numbers(
        name: str,
        low: float,
        high: float,
    ) -> np.ndarray:
        return schema.numbers(str(path), name, values[schema.column(str(path), values, name)], low, high)

    schema.filled(str(path), table.num_rows)
    notation = schema.texts(str(path), "notation", values[schema.column(str(path), values, "notation")])
    columns = {"notation": notation, "parameters": numbers("parameters", 0, 1e15).astype(np.int64)}
    for part in ("validation", "test"):
        runs = [numbers(f"{part}_{seed}", *schema.PERCENT) for seed in range(made["seeds"])]
        columns[f"{part}_runs"] = np.stack(runs, 1)
    source = (
        f"{len(notation)} architectures trained by `hypernas label` on {made['images']} for "
        f"{made['epochs']} epochs, {made['seeds']} seeds each"
    )
    return Table(source, "re-trained", columns, columns["validation_runs"][:, 0], columns["test_runs"].mean(1))


def read_own(space: str, images: str) -> Table:
    """Return the labelled table of a space on `images`. Raise MissingTable if there is none."""
    path = find_labelled(space)
    if path is None or provenance_of(path)["images"] != images:
        command = f"hypernas label --space {space}"
        raise MissingTable(f"no {space} table of {images} is present; `{command} --images {images}` makes one")
    return read_labelled(path)
