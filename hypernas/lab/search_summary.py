"""The results of searches: the row of one, and many rows as best-so-far curves and beside the paper's Table 7."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hypernas.errors import UserError
from hypernas.lab.benchmark import Benchmark
from hypernas.lab.rows import Row, paper_figures
from hypernas.lab.summary import interval
from hypernas.search.domains import Pool
from hypernas.search.loop import Answer
from hypernas.search.methods import Task, n_random
from hypernas.search.pareto import pareto_front

if TYPE_CHECKING:
    import pandas as pd

WHO = ["method", "predictor", "first"]


def report(task: Task, answers: Sequence[Answer]) -> Row:
    """Return what a search found, and how. Test accuracies are read only here and influence nothing.

    `curve` has a line [queries, validation accuracy, test accuracy] for every new best. `front` has a line
    [multiply-adds, validation accuracy] for every queried architecture that no smaller one beats. `elsewhere` has the
    accuracies [validation, test] of the found architecture on the other datasets of the space, null if a table has
    none.
    """
    last = answers[-1]
    architecture = task.domain.architecture(last.best)
    parameters, adds = task.domain.count(last.best)
    return {
        "queries": last.n,
        "validation_accuracy": last.best_accuracy,
        "test_accuracy": _test(task, last.best),
        "regret": _regret(task, last.best),
        "architecture": task.domain.space.canonical(architecture, "raw").notation,
        "parameters": parameters,
        "multiply_adds": adds,
        "curve": _curve(task, answers),
        "front": _front(task, answers),
        "elsewhere": _elsewhere(task, last.best),
    }


def _curve(task: Task, answers: Sequence[Answer]) -> list[tuple[int, float, float | None]]:
    curve = []
    for answer in answers:
        if answer.candidate == answer.best:
            curve.append((answer.n, answer.accuracy, _test(task, answer.best)))
    return curve


def _front(task: Task, answers: Sequence[Answer]) -> list[tuple[int, float]]:
    adds = [task.domain.count(answer.candidate)[1] for answer in answers]
    accuracy = [answer.accuracy for answer in answers]
    # The front is of what is the larger the better, and multiply-adds are the smaller the better.
    front = pareto_front(-np.array(adds, float), accuracy)
    return [(int(adds[i]), accuracy[i]) for i in front]


def _finite(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def _test(task: Task, candidate: Any) -> float | None:
    if not isinstance(task.domain, Pool):
        return None
    return _finite(task.domain.benchmark.test[candidate])


def _regret(task: Task, candidate: Any) -> float | None:
    """The best test accuracy of the table less that of the found architecture."""
    if not isinstance(task.domain, Pool):
        return None
    test = np.asarray(task.domain.benchmark.test)
    return _finite(np.nanmax(test) - test[candidate])


def _elsewhere(task: Task, row: Any) -> dict[str, tuple[float | None, float | None]]:
    """Accuracies of the same row in the tables of the space's other datasets that are present and have all rows."""
    if not isinstance(task.domain, Pool):
        return {}
    here = task.domain.benchmark
    elsewhere = {}
    for dataset in here.space.datasets:
        if dataset == here.dataset:
            continue
        try:
            there = Benchmark(here.space.name, dataset)
        # Not everybody has the tables of all datasets.
        except UserError:
            continue
        if len(there.test) == len(here.test):
            elsewhere[dataset] = (_shown_validation(there, row), _finite(there.test[row]))
    return elsewhere


def _shown_validation(benchmark: Benchmark, row: Any) -> float | None:
    """The validation accuracy of a row where the table has one that is not its test accuracy."""
    table = benchmark.table
    if "validation" in table.columns:
        return _finite(table.columns["validation"][row])
    return None if table.validation is table.test else _finite(benchmark.validation[row])


def curves(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the best validation accuracy after every query over seeds, from rows of searches (`results.flat`).

    There is a line for each method, predictor, first and number of queries: `n_seeds`, mean, 95 % t interval low, high.
    `n_random` is the number of random queries at the beginning, 0 without a predictor. Raise UserError if two rows
    share these and the seed, because different settings must not be averaged.
    """
    import pandas as pd

    rows = _with_who(rows)
    frames = []
    for who, runs in _searches(rows, WHO):
        if runs["seed"].duplicated().any():
            rule = "one row a method, predictor, first and seed is needed"
            raise UserError(f"{rule}, got two for {tuple(who.values())}: choose one")
        by_seed = [best_so_far(row) for row in runs.to_dict("records")]
        # A search that ended early keeps its best.
        values = pd.DataFrame(by_seed).ffill(axis=1)
        intervals = [interval(values[query]) for query in values]
        frame = pd.DataFrame(intervals, columns=["low", "high"])
        frame["queries"] = values.columns
        frame["mean"] = values.mean().to_numpy()
        frame = frame.assign(**who, n_seeds=len(runs))
        first = who["first"]
        is_guided = first == first  # a method without a predictor has nan
        frame["n_random"] = n_random(int(first), len(values.columns)) if is_guided else 0
        frames.append(frame)
    columns = [*WHO, "n_seeds", "n_random", "queries", "mean", "low", "high"]
    if not frames:
        return pd.DataFrame(columns=columns)
    return pd.concat(frames, ignore_index=True)[columns]


def _with_who(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with all columns that tell searches apart; rows of methods without a predictor have not all."""
    missing = [name for name in WHO if name not in rows]
    return rows.reindex(columns=[*rows.columns, *missing])


def _searches(rows: pd.DataFrame, by: list[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Searches that agree in all of `by`: what these are, and their rows."""
    who: Any
    for who, runs in rows.groupby(by, dropna=False, sort=False):
        yield dict(zip(by, who, strict=True)), runs


def best_so_far(row: Any) -> dict[int, float]:
    """Return number of queries -> validation accuracy of the best architecture so far, from a row of a search."""
    curve = row["curve"]
    steps = json.loads(curve) if isinstance(curve, str) else curve
    # A step is [queries, validation accuracy, test accuracy].
    values = np.array([step[1] for step in steps], float)
    starts = [step[0] for step in steps]
    queries = np.arange(1, row["queries"] + 1)
    step_at = np.searchsorted(starts, queries, side="right") - 1
    best = values[step_at]
    return dict(zip(queries.tolist(), best.tolist(), strict=True))


def queries_to_reach(rows: pd.DataFrame, goal: str) -> pd.DataFrame:
    """Return how many queries each search needs for the mean accuracy that the method `goal` ends with, by space.

    Columns `space, method, predictor, first`, `level` (validation accuracy in percent), the median number of `queries`
    over seeds (infinite if less than half of them reach it), and the `share` of seeds that do.
    """
    import pandas as pd

    lines = []
    for space, there in _with_who(rows).groupby("space", sort=False):
        level = there.loc[there["method"] == goal, "validation_accuracy"].mean()
        for who, runs in _searches(there, WHO):
            needed = [_first_at(best_so_far(row), level) for row in runs.to_dict("records")]
            line = {"space": space, **who, "level": level}
            lines.append(line | {"queries": np.median(needed), "share": np.isfinite(needed).mean()})
    return pd.DataFrame(lines, columns=["space", *WHO, "level", "queries", "share"])


def _first_at(best: dict[int, float], level: float) -> float:
    """Return the first number of queries whose best accuracy is at least `level`, infinity if there is none."""
    return next((float(queries) for queries, accuracy in best.items() if accuracy >= level), math.inf)


def fronts(rows: pd.DataFrame) -> pd.DataFrame:
    """Return `million multiply-adds` and `validation accuracy, %` of all points on the fronts of rows of searches."""
    import pandas as pd

    points = []
    for text in rows.get("front", ()):
        for adds, accuracy in json.loads(text):
            points.append((adds / 1e6, accuracy))
    return pd.DataFrame(points, columns=["million multiply-adds", "validation accuracy, %"], dtype=float)


def accuracies(rows: pd.DataFrame, space: str) -> pd.DataFrame:
    """Return rows of searches in the form of Table 7, below the paper's: mean ± std over seeds by dataset and part.

    On datasets other than the one searched, the same architecture was looked up at the end.
    """
    import pandas as pd

    rows = _with_who(rows[rows["space"] == space])
    lines = _quoted(space)
    for dataset in rows["dataset"].unique():
        searches = rows[rows["dataset"] == dataset]
        for who, runs in _searches(searches, [*WHO, "n_train"]):
            parts = (who["method"], who["predictor"])
            name = ", ".join(str(part) for part in parts if part == part)
            line = {"method": name, "searched on": dataset, "queries": who["n_train"], "seeds": str(len(runs))}
            by_seed = pd.DataFrame([_everywhere(row) for row in runs.to_dict("records")])
            for column in by_seed:
                line[str(column)] = _mean(by_seed[column].to_numpy(float))
            lines.append(line)
    if not lines:
        return pd.DataFrame(columns=["method", "searched on", "queries", "seeds"])
    table = pd.DataFrame(lines).replace("–", None)
    # A column that holds nothing, or the same dataset in every line, is left out.
    table = table.dropna(axis=1, how="all")
    if "searched on" in table and table["searched on"].nunique(dropna=False) == 1:
        table = table.drop(columns="searched on")
    return table.fillna("–")


def _everywhere(row: Any) -> dict[str, float | None]:
    """`<dataset> validation` and `<dataset> test` of a row, of the dataset searched and of the others."""
    here = {row["dataset"]: (row["validation_accuracy"], row["test_accuracy"])}
    accuracies = {}
    for dataset, (validation, test) in (here | json.loads(row["elsewhere"])).items():
        accuracies[f"{dataset} validation"] = validation
        accuracies[f"{dataset} test"] = test
    return accuracies


def _mean(values: np.ndarray) -> str:
    known = values[np.isfinite(values)]
    if not len(known):
        return "–"
    mean = f"{known.mean():.2f}"
    if len(known) == 1:
        return mean
    return f"{mean} ± {known.std(ddof=1):.2f}"


def _quoted(space: str) -> list[dict[str, Any]]:
    """The lines of the paper's own table for a space."""
    lines: dict[str, dict[str, Any]] = {}
    for part in ("validation", "test"):
        mean = paper_figures("search", f"{part}_accuracy")
        std = paper_figures("search", f"{part}_accuracy_std")
        both = mean.merge(std, on=["space", "dataset", "method"], suffixes=("", "_std"))
        both = both[both["space"] == space]
        for row in both.to_dict("records"):
            name = f"{row['method']}, quoted"
            plain = {"method": name, "searched on": "–", "queries": int(row["n_train"]), "seeds": "3"}
            line = lines.setdefault(name, plain)
            line[f"{row['dataset']} {part}"] = f"{row['paper']:.2f} ± {row['paper_std']:.2f}"
    return list(lines.values())
