"""Recorded rows: one JSON object a line, keyed by its experiment, never half written."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from hypernas.errors import UserError
from hypernas.formats import number

if TYPE_CHECKING:
    import pandas as pd

KEY = ("table", "space", "dataset", "method", "n_train", "seed", "profile", "protocol", "settings")
METRICS = ("kendall_tau", "kendall_tau_unseen", "spearman_rho")
STATISTICS = ("mean", "std", "low", "high")
FACTS = {*METRICS, "table", "seed", "seconds", "seeds_together", "n_test", "n_parameters", "target_accuracy"}
FACTS |= {"target_test_accuracy", "history", "device", "version", "commit", "started"}
PLACE = ["space", "dataset", "method", "n_train"]

Row = dict[str, Any]


def checkout() -> Path | None:
    """The folder of the source checkout this module lies in, None for an installed copy."""
    root = Path(__file__).resolve().parents[1]
    return root if (root / "pyproject.toml").is_file() else None


def results_directory() -> Path:
    """`$HYPERNAS_RESULTS`, else `data/results` of the checkout or of the working directory."""
    chosen = os.environ.get("HYPERNAS_RESULTS")
    return Path(chosen) if chosen else (checkout() or Path.cwd()) / "data" / "results"


def canonical_json(value: Any) -> str:
    """One text for one value: keys sorted, no spaces, no NaN.

    >>> canonical_json({"q": 1.5, "epochs": 20})
    '{"epochs":20,"q":1.5}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def row_key(row: Mapping[str, Any]) -> str:
    """What a row is an answer to: its experiment, the whole settings object included."""
    return canonical_json([row[name] for name in KEY])


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

    def _read(self) -> dict[str, Row]:
        """Key -> row in the file's order; of two rows with one key the later one counts."""
        if not self.path.exists():
            return {}
        rows: dict[str, Row] = {}
        for count, line in enumerate(self.path.read_bytes().splitlines(), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                rows[row_key(row)] = row
            except (ValueError, KeyError, TypeError) as error:
                where = f"line {count} of {self.path}"
                raise UserError(f"a line of results must be one whole row, {where} is not: mend it") from error
        return rows

    def rows(self) -> list[Row]:
        return list(self._read().values())

    def find(self, key: str) -> Row | None:
        return self._read().get(key)

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
        key = row_key(new)
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
            with temporary.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(each, allow_nan=False) + "\n" for each in rows.values())
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        return new


def flat(rows: Iterable[Row]) -> pd.DataFrame:
    """Rows as a frame, one column a field and one a setting (lists as JSON text)."""
    import pandas as pd

    plain = [{**row, **row["settings"]} for row in rows]
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


def told_apart(rows: pd.DataFrame, first: Iterable[str]) -> list[str]:
    """The columns `first`, and after them each other one in which rows differ that agree in all before it."""
    chosen = list(first)
    for column in rows.columns:
        if column not in FACTS | {*chosen} and (rows.groupby(chosen, dropna=False)[column].nunique(False) > 1).any():
            chosen.append(column)
    return chosen


def interval(values: pd.Series) -> tuple[float, float]:
    """Bootstrap interval (95 %) of the mean of a series; NaN for less than two values."""
    from hypernas.metrics import bootstrap_interval

    known = values.dropna()
    return bootstrap_interval(known.to_numpy()) if len(known) > 1 else (math.nan, math.nan)


def summary(
    rows: pd.DataFrame, figures: pd.DataFrame, metrics: Sequence[str] = METRICS, first: Iterable[str] = PLACE
) -> pd.DataFrame:
    """Rows averaged over their seeds beside figures (`paper`, `paper_source`) that agree in what both name.

    Columns: `first`, every setting in which rows differ that agree in these, of each metric mean, std (NaN for one
    seed) and the 95 % bootstrap interval low, high of the mean; n_seeds of the first metric, seconds, paper,
    paper_source. Figures without a run of ours stand with n_seeds 0.
    """
    import pandas as pd

    rows = rows.assign(**{name: None for name in first if name not in rows})
    by, lines = told_apart(rows, first), []
    for place, part in rows.groupby(by, dropna=False, sort=False):
        line = dict(zip(by, place, strict=True))
        for metric in metrics:
            values = part[metric].astype(float) if metric in part else pd.Series(dtype=float)
            found = (values.mean(), values.std(), *interval(values))
            line |= {f"{metric}_{how}": value for how, value in zip(STATISTICS, found, strict=True)}
        seeds = part.loc[part[metrics[0]].notna(), "seed"] if metrics[0] in part else part["seed"].iloc[:0]
        lines.append(line | {"n_seeds": seeds.nunique(), "seconds": part["seconds"].mean()})
    columns = [*by, *(f"{metric}_{how}" for metric in metrics for how in STATISTICS), "n_seeds", "seconds"]
    ours, figures = pd.DataFrame(lines, columns=columns), figures.copy()
    for side in (ours, figures):
        side["n_train"] = side["n_train"].astype("Int64")
    joined = ours.merge(figures, on=[name for name in by if name in figures], how="outer")
    joined["n_seeds"] = joined["n_seeds"].fillna(0).astype(int)
    return joined.sort_values(by).reset_index(drop=True)


def table(name: str) -> pd.DataFrame:
    """Ours beside the paper's Kendall tau (`summary`): one line a method, n_train, graph form, profile and settings.

    Raises UserError for a table that nobody knows.
    """
    rows, figures = frame(name), paper_figures(name)
    if rows.empty and figures.empty:
        known = sorted(path.stem for path in results_directory().glob("*.jsonl"))
        raise UserError(f"the table must be a recorded one ({', '.join(known) or 'none yet'}), got {name!r}")
    return summary(rows, figures, first=(*PLACE, "graph_form", "profile"))


def markdown(lines: pd.DataFrame, metric: str = "kendall_tau") -> str:
    """`summary` as Markdown: ours as `mean ± std (n)`, its interval, and the quoted figure where there is one."""

    def ours(line: Mapping[Any, Any], of: str) -> str:
        mean, std = (number(line[f"{of}_{how}"], of) for how in ("mean", "std"))
        return mean if mean == "–" else mean + (f" ± {std}" if std != "–" else "") + f" ({line['n_seeds']})"

    def text(value: Any) -> str:
        if value is None or value != value or str(value) in ("<NA>", "nan"):
            return "–"
        return f"{value:g}" if isinstance(value, float) else str(value).replace("|", "\\|")

    if lines.empty:
        return ""
    unseen = ["kendall_tau_unseen"] * (metric == "kendall_tau")
    quoted = lines["paper"].notna().any()
    ends = tuple(f"_{how}" for how in STATISTICS)
    hidden = {"n_seeds", "seconds", "paper", "paper_source"}
    shown = [column for column in lines.columns if column not in hidden and not column.endswith(ends)]
    head = [*shown, f"{metric} (n seeds)", "95 % interval", *["unseen"] * len(unseen)]
    head += ["paper", "source of the paper's figure"] if quoted else []
    out = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for line in lines.to_dict("records"):
        low, high = (number(line[f"{metric}_{how}"], metric) for how in ("low", "high"))
        cells = [text(line[column]) for column in shown]
        cells += [ours(line, metric), f"{low} to {high}" if low != "–" else "–", *(ours(line, of) for of in unseen)]
        cells += [number(line["paper"], metric), text(line["paper_source"])] if quoted else []
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out)
