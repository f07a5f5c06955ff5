"""Recorded rows: one JSON object a line, keyed by its experiment, never half written."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
from filelock import FileLock

from hypernas.data.catalogue import checkout, folder_of_variable, shipped
from hypernas.errors import UserError
from hypernas.lab.formats import MISSING, number
from hypernas.lab.schema import FIELDS, FREE_TABLES, KEY, METRICS, fault
from hypernas.lab.summary import PLACE, STATISTICS, summary
from hypernas.lab.tables import digest_of_row
from hypernas.training.files import written

if TYPE_CHECKING:
    import pandas as pd

# What a table is about, the first of these that its rows have, and what stands beside it.
HEADLINES = {"kendall_tau": "kendall_tau_unseen", "validation_accuracy": "test_accuracy", "test_accuracy": ""}
Row = dict[str, Any]
# What no two rows share: the experiment as text, and the digest of the table, None where that is not known.
Identity = tuple[str, str | None]
UNKNOWN: Identity = ("", None)


def shipped_results() -> Path:
    """Return the folder of published rows: `data/results` of the checkout, or the read-only copy of an installation."""
    return shipped() / "data" / "results"


def results_directory() -> Path:
    """Return the folder of your own rows: `$HYPERNAS_RESULTS`, or else one in the user's data folder."""
    named = folder_of_variable("HYPERNAS_RESULTS")
    if named is not None:
        return named
    if _alone():
        return shipped_results()
    own = platformdirs.user_data_path("hypernas") / "results"
    # Without a home, as in some containers, there is no such folder and the path begins with "~".
    return own if own.is_absolute() else Path.cwd() / "hypernas-results"


def _alone() -> bool:
    """Whether `$HYPERNAS_LAYERED` is 0: own rows are then the only ones, and without a folder of them the shipped."""
    return os.environ.get("HYPERNAS_LAYERED") == "0"


def record_into_checkout() -> None:
    """From now on, record rows among the published ones. Raise UserError outside a checkout."""
    if checkout() is None:
        raise UserError("--record writes into data/results of a checkout, and this is an installed copy: leave it out")
    os.environ["HYPERNAS_RESULTS"] = str(shipped_results())


def canonical_json(value: Any) -> str:
    """Return the unique JSON text of a value: keys sorted, no spaces, no NaN.

    >>> canonical_json({"q": 1.5, "epochs": 20})
    '{"epochs":20,"q":1.5}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def row_key(row: Mapping[str, Any]) -> str:
    """Return what a row answers: its experiment, including the complete settings."""
    return canonical_json([row[name] for name in KEY])


def row_identity(row: Mapping[str, Any]) -> Identity:
    """Return key and table digest, under which a row is stored."""
    return row_key(row), digest_of_row(row)


@dataclass(frozen=True)
class _Content:
    """The rows of one file: by identity, in the file's order, and the first of each experiment."""

    rows: dict[Identity, Row]
    first: dict[str, Row]


# Content of each file by what `stat` says of it: a grid asks for a thousand rows, and reads the file once.
_contents: dict[Path, tuple[tuple[int, ...], _Content]] = {}


def _content(path: Path) -> _Content:
    """What a file holds now. Raises UserError with the number of the first line that is no row."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return _Content({}, {})
    signature = (state.st_ino, state.st_size, state.st_mtime_ns)
    known = _contents.get(path)
    if known is not None and known[0] == signature:
        return known[1]
    content = _Content({}, {})
    for count, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        rule = f"a line of results must be one whole row, line {count} of {path} is not"
        try:
            row = json.loads(line)
            reason = fault(row)
            identity = UNKNOWN if reason else row_identity(row)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{rule}: mend it") from error
        if reason:
            raise UserError(f"{rule}, {reason}: mend it")
        # Of two rows with one identity the later one counts.
        content.rows[identity] = row
        content.first.setdefault(identity[0], row)
    _contents[path] = signature, content
    return content


class Results:
    """The rows of one results file, layered over those of the files `below`, which are read-only.

    Every change writes the whole file under a temporary name and renames it, under a lock between processes. If a
    writer is killed, either the old or the new file remains.
    """

    def __init__(self, path: str | Path, below: Iterable[Path] = ()) -> None:
        self.path, self.below = Path(path), tuple(below)

    @classmethod
    def of(cls, table: str) -> Results:
        """Return the rows of `table` in the results directory, over the published ones."""
        if not re.fullmatch(r"[a-z0-9_]+", table):
            raise UserError(f"a table's name must be small letters, digits and _, got {table!r}")
        name = f"{table}.jsonl"
        own = results_directory() / name
        published = shipped_results() / name
        if _alone() or own.resolve() == published.resolve():
            return cls(own)
        return cls(own, [published])

    def _layers(self) -> list[_Content]:
        """Own rows first, as they count before the shipped ones."""
        return [_content(path) for path in (self.path, *self.below)]

    def rows(self) -> list[Row]:
        """Return all rows, published ones first; your own row replaces a published one with the same identity."""
        merged: dict[Identity, Row] = {}
        for content in reversed(self._layers()):
            merged.update(content.rows)
        return [dict(row) for row in merged.values()]

    def find(self, key: str, table_digest: str | None = None) -> Row | None:
        """Return the row of an experiment on the table with this digest, or on any table if no digest is given."""
        for content in self._layers():
            if table_digest is None:
                row = content.first.get(key)
            else:
                row = content.rows.get((key, table_digest))
            if row is not None:
                return dict(row)
        return None

    def require_writable(self) -> None:
        """Raise UserError if the file cannot be written, before time is spent on a row for it."""
        folder = self.path.parent
        while not folder.exists():
            folder = folder.parent
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise UserError(f"the results directory must be writable, {folder} is not: set $HYPERNAS_RESULTS")

    def add(self, row: Mapping[str, Any], replace: bool = False) -> Row:
        """Record `row` and return the row that is now stored under its identity."""
        return self.add_all([row], replace)[0]

    def add_all(self, rows: Iterable[Mapping[str, Any]], replace: bool = False) -> list[Row]:
        """Record all rows in one write, or none. Return the rows that are now stored under their identities.

        Rows that are already recorded stay, so of two processes with the same experiment the first counts; with
        `replace`, the new row replaces the old. NaN and infinite numbers are recorded as null.
        """
        new = {row_identity(row): row for row in map(_recordable, rows)}
        self.require_writable()
        path = self.path.resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            # Read under the lock: another process may have written since.
            old = _content(path).rows
            added = dict(new)
            if not replace:
                added = {identity: row for identity, row in new.items() if identity not in old}
            if added:
                kept = [row for identity, row in old.items() if identity not in added]
                _write(path, [*kept, *added.values()])
            standing = {**old, **added}
        return [dict(standing[identity]) for identity in new]


def _recordable(row: Mapping[str, Any]) -> Row:
    """A row without NaN. Raises UserError for a field that the schema does not describe."""
    unknown = row.keys() - FIELDS.keys()
    if unknown and row.get("table") not in FREE_TABLES:
        raise UserError(f"a field of a row must be described in hypernas/lab/schema.py, got {min(unknown)!r}")
    recordable = dict(row)
    for name, value in row.items():
        # JSON has no NaN and no infinity.
        if isinstance(value, float) and not math.isfinite(value):
            recordable[name] = None
    return recordable


def _write(path: Path, rows: Iterable[Row]) -> None:
    """The whole file anew."""
    with (
        written(path, "free space or set $HYPERNAS_RESULTS") as temporary,
        temporary.open("w", encoding="utf-8") as file,
    ):
        file.writelines(json.dumps(row, allow_nan=False) + "\n" for row in rows)
        file.flush()
        os.fsync(file.fileno())


def flat(rows: Iterable[Row]) -> pd.DataFrame:
    """Return rows as a frame with one column per field and one per setting (lists as JSON text)."""
    import pandas as pd

    # These columns are there even where no row is, in this order.
    columns = [*PLACE, "graph_form", "profile", "protocol", "source", "seed", "seconds", *METRICS]
    lines = []
    for row in rows:
        line = {**row, **row["settings"], "table_digest": digest_of_row(row)}
        del line["settings"]
        for name, value in line.items():
            # A list in a cell could be neither grouped by nor compared.
            if isinstance(value, list | dict):
                line[name] = canonical_json(value)
        columns += line
        lines.append(line)
    return pd.DataFrame(lines, columns=list(dict.fromkeys(columns)))


def tables() -> list[str]:
    """Return the names of the tables that have rows, your own or published."""
    folders = [results_directory()]
    if not _alone():
        folders.append(shipped_results())
    names: set[str] = set()
    for folder in folders:
        names.update(path.stem for path in folder.glob("*.jsonl"))
    return sorted(names)


def frame(name: str) -> pd.DataFrame:
    """Return all rows of a table as a frame."""
    return flat(Results.of(name).rows())


def paper_figures(name: str, metric: str = "kendall_tau") -> pd.DataFrame:
    """Return the figures of a table in `data/paper.csv`: space, dataset, method, n_train, paper, paper_source."""
    import pandas as pd

    path = shipped() / "data" / "paper.csv"
    columns = {"value": "paper", "source": "paper_source"}
    if not path.is_file():
        return pd.DataFrame(columns=[*PLACE, *columns.values()])
    figures = pd.read_csv(path)
    figures = figures[figures["table"] == name]
    figures = figures[figures["metric"] == metric].rename(columns=columns)
    # Figures of another metric may be words, and make the whole column text.
    figures["paper"] = pd.to_numeric(figures["paper"])
    return figures[[*PLACE, *columns.values()]]


def table(name: str) -> pd.DataFrame:
    """Return a `summary` beside the paper's figures, a line for each method, n_train, graph form, profile and setting.

    It is about Kendall tau, or about accuracies if the table has no tau. Raise UserError if the table is unknown.
    """
    rows = frame(name)
    filled = rows.dropna(axis=1, how="all").columns
    metric = next((name for name in HEADLINES if name in filled), "kendall_tau")
    metrics = list(METRICS)
    if metric not in METRICS:
        metrics = [name for name in (metric, HEADLINES[metric]) if name]
    figures = paper_figures(name, metric)
    if rows.empty and figures.empty:
        known = tables()
        raise UserError(f"the table must be a recorded one ({', '.join(known) or 'none yet'}), got {name!r}")
    lines = summary(rows, figures, metrics, first=(*PLACE, "graph_form", "profile", "protocol"))
    return lines if lines["protocol"].nunique() > 1 else lines.drop(columns="protocol")


def headline(lines: pd.DataFrame) -> str:
    """Return the metric that the lines of a `summary` are about."""
    return next((name for name in HEADLINES if f"{name}_mean" in lines), "kendall_tau")


def markdown(lines: pd.DataFrame) -> str:
    """Return a `summary` as Markdown: ours as `mean ± std (n)`, its interval, the quoted figure."""
    metric = headline(lines)
    if lines.empty:
        return "No rows yet."
    beside = HEADLINES.get(metric, "")
    if f"{beside}_mean" not in lines:
        beside = ""
    is_quoted = lines["paper"].notna().any()
    hidden = {"n_seeds", "seconds", "paper", "paper_source"}
    statistics = tuple(f"_{statistic}" for statistic in STATISTICS)
    shown = [name for name in lines.columns if name not in hidden and not name.endswith(statistics)]
    head = [*shown, f"{metric} (n seeds)", "95 % interval"]
    if beside:
        head.append(beside.removeprefix("kendall_tau_"))
    if is_quoted:
        head += ["paper", "source of the paper's figure"]
    table = [head, ["---"] * len(head)]
    for line in lines.to_dict("records"):
        low = number(line[f"{metric}_low"], metric)
        high = number(line[f"{metric}_high"], metric)
        cells = [_cell(line[name]) for name in shown]
        cells += [_mean_and_spread(line, metric), MISSING if low == MISSING else f"{low} to {high}"]
        if beside:
            cells.append(_mean_and_spread(line, beside))
        if is_quoted:
            cells += [number(line["paper"], metric), _cell(line["paper_source"])]
        table.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in table)


def _mean_and_spread(line: Mapping[Any, Any], metric: str) -> str:
    """`0.788 ± 0.012 (10)`; no deviation of a single seed."""
    mean = number(line[f"{metric}_mean"], metric)
    if mean == MISSING:
        return mean
    std = number(line[f"{metric}_std"], metric)
    spread = "" if std == MISSING else f" ± {std}"
    return f"{mean}{spread} ({line['n_seeds']})"


def _cell(value: Any) -> str:
    # As text, because pandas has a missing value of its own that compares with nothing.
    if value is None or str(value) in ("<NA>", "nan"):
        return MISSING
    if isinstance(value, float):
        return f"{value:g}"
    return str(value).replace("|", "\\|")
