"""Recorded rows: one JSON object a line, keyed by its experiment, never half written."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from hypernas.data.catalogue import checkout, folder_of_variable
from hypernas.errors import UserError
from hypernas.lab.formats import number
from hypernas.lab.summary import METRICS, PLACE, STATISTICS, summary
from hypernas.lab.tables import digest_of_row

if TYPE_CHECKING:
    import pandas as pd

# What a table is about, the first of these that its rows have, and what stands beside it.
HEADLINES = {"kendall_tau": "kendall_tau_unseen", "validation_accuracy": "test_accuracy", "test_accuracy": ""}
KEY = ("table", "space", "dataset", "method", "n_train", "seed", "profile", "protocol", "settings")
Row = dict[str, Any]
Identity = tuple[str, str | None]


def results_directory() -> Path:
    """`$HYPERNAS_RESULTS`, else `data/results` of the checkout or of the working directory."""
    return folder_of_variable("HYPERNAS_RESULTS") or (checkout() or Path.cwd()) / "data" / "results"


def canonical_json(value: Any) -> str:
    """One text for one value: keys sorted, no spaces, no NaN.

    >>> canonical_json({"q": 1.5, "epochs": 20})
    '{"epochs":20,"q":1.5}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def row_key(row: Mapping[str, Any]) -> str:
    """What a row is an answer to: its experiment, the whole settings object included."""
    return canonical_json([row[name] for name in KEY])


def row_identity(row: Mapping[str, Any]) -> Identity:
    """What no two rows share: the experiment and the digest of the table, None where that is not known."""
    return row_key(row), digest_of_row(row)


class Results:
    """The rows of one results file.

    A change writes the whole file to a temporary name and renames it, under a lock between processes:
    whenever a writer is killed, the old file or the new one stands.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    @classmethod
    def of(cls, table: str) -> Results:
        """The file of `table` in the results directory."""
        if not re.fullmatch(r"[a-z0-9_]+", table):
            raise UserError(f"a table's name must be small letters, digits and _, got {table!r}")
        return cls(results_directory() / f"{table}.jsonl")

    def _read(self) -> dict[Identity, Row]:
        """Identity -> row in the file's order; of two rows with one identity the later one counts."""
        if not self.path.exists():
            return {}
        rows: dict[Identity, Row] = {}
        for count, line in enumerate(self.path.read_bytes().splitlines(), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                rows[row_identity(row)] = row
            except (ValueError, KeyError, TypeError) as error:
                where = f"line {count} of {self.path}"
                raise UserError(f"a line of results must be one whole row, {where} is not: mend it") from error
        return rows

    def rows(self) -> list[Row]:
        return list(self._read().values())

    def find(self, key: str, table_digest: str | None = None) -> Row | None:
        """The row of an experiment on the table with this digest; without one, on whatever table it was made."""
        rows = self._read()
        if table_digest is not None:
            return rows.get((key, table_digest))
        return next((row for (question, _), row in rows.items() if question == key), None)

    def require_writable(self) -> None:
        """Raise UserError where the file could not be written, before time is spent on a row for it."""
        folder = self.path.parent
        while not folder.exists():
            folder = folder.parent
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise UserError(f"the results directory must be writable, {folder} is not: set $HYPERNAS_RESULTS")

    def add(self, row: Mapping[str, Any], replace: bool = False) -> Row:
        """Record `row` and return the row that now stands under its key.

        A row already recorded stays, so that of two processes with one experiment the first counts;
        with `replace` the new one supersedes it. NaN and infinite numbers are recorded as null.
        """
        new = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        key = row_identity(new)
        self.require_writable()
        path = self.path.resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            rows = self._read()
            if key in rows and not replace:
                return rows[key]
            rows.pop(key, None)
            rows[key] = new
            temporary = path.with_name(f".{path.name}.tmp")
            try:
                with temporary.open("w", encoding="utf-8") as file:
                    file.writelines(json.dumps(each, allow_nan=False) + "\n" for each in rows.values())
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
        return new


def flat(rows: Iterable[Row]) -> pd.DataFrame:
    """Rows as a frame, one column a field and one a setting (lists as JSON text)."""
    import pandas as pd

    plain = [{**row, **row["settings"], "table_digest": digest_of_row(row)} for row in rows]
    for row in plain:
        del row["settings"]
        row.update({k: canonical_json(v) for k, v in row.items() if isinstance(v, list | dict)})
    columns = [*PLACE, "graph_form", "profile", "protocol", "source", "seed", "seconds", *METRICS]
    return pd.DataFrame(plain, columns=list(dict.fromkeys([*columns, *(k for row in plain for k in row)])))


def frame(name: str) -> pd.DataFrame:
    """All rows of a table."""
    return flat(Results.of(name).rows())


def paper_figures(name: str, metric: str = "kendall_tau") -> pd.DataFrame:
    """Figures of a table in `data/paper.csv`: space, dataset, method, n_train, paper, paper_source."""
    import pandas as pd

    path = (checkout() or Path.cwd()) / "data" / "paper.csv"
    columns = {"value": "paper", "source": "paper_source"}
    if not path.is_file():
        return pd.DataFrame(columns=[*PLACE, *columns.values()])
    figures = pd.read_csv(path)
    figures = figures[(figures["table"] == name) & (figures["metric"] == metric)].copy()
    figures["value"] = pd.to_numeric(figures["value"])
    return figures.rename(columns=columns)[[*PLACE, *columns.values()]]


def table(name: str) -> pd.DataFrame:
    """Ours beside the paper's figures (`summary`), a line for each method, n_train, graph form, profile and setting.

    Of Kendall tau, or of the accuracies of a table that has none. Raises UserError for a table that nobody knows.
    """
    rows = frame(name)
    metric = next((each for each in HEADLINES if each in rows and rows[each].notna().any()), "kendall_tau")
    metrics = METRICS if metric in METRICS else [each for each in (metric, HEADLINES[metric]) if each]
    figures = paper_figures(name, metric)
    if rows.empty and figures.empty:
        known = sorted(path.stem for path in results_directory().glob("*.jsonl"))
        raise UserError(f"the table must be a recorded one ({', '.join(known) or 'none yet'}), got {name!r}")
    lines = summary(rows, figures, metrics, first=(*PLACE, "graph_form", "profile", "protocol"))
    return lines if lines["protocol"].nunique() > 1 else lines.drop(columns="protocol")


def headline(lines: pd.DataFrame) -> str:
    """The metric that lines of `summary` are about."""
    return next((name for name in HEADLINES if f"{name}_mean" in lines), "kendall_tau")


def markdown(lines: pd.DataFrame, metric: str = "", hide: Iterable[str] = ()) -> str:
    """`summary` as Markdown without the columns `hide`: ours as `mean ± std (n)`, its interval, the quoted figure.

    `metric` is by default what the lines are about.
    """
    metric = metric or headline(lines)

    def ours(line: Mapping[Any, Any], of: str) -> str:
        mean, std = (number(line[f"{of}_{how}"], of) for how in ("mean", "std"))
        return mean if mean == "–" else mean + (f" ± {std}" if std != "–" else "") + f" ({line['n_seeds']})"

    def text(value: Any) -> str:
        if value is None or value != value or str(value) in ("<NA>", "nan"):
            return "–"
        return f"{value:g}" if isinstance(value, float) else str(value).replace("|", "\\|")

    if lines.empty:
        return "No rows yet."
    beside = [name for name in [HEADLINES.get(metric, "")] if f"{name}_mean" in lines]
    quoted = lines["paper"].notna().any()
    hidden = {"n_seeds", "seconds", "paper", "paper_source", *hide}
    shown = [c for c in lines.columns if c not in hidden and not c.endswith(tuple(f"_{how}" for how in STATISTICS))]
    head = [*shown, f"{metric} (n seeds)", "95 % interval", *(name.removeprefix("kendall_tau_") for name in beside)]
    head += ["paper", "source of the paper's figure"] if quoted else []
    out = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for line in lines.to_dict("records"):
        low, high = (number(line[f"{metric}_{how}"], metric) for how in ("low", "high"))
        cells = [text(line[column]) for column in shown]
        cells += [ours(line, metric), f"{low} to {high}" if low != "–" else "–", *(ours(line, of) for of in beside)]
        cells += [number(line["paper"], metric), text(line["paper_source"])] if quoted else []
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out)
