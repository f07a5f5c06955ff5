"""Average rows of experiments over their seeds, and over nothing else in which they differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from hypernas.lab.metrics import paired_difference, student_interval
from hypernas.lab.schema import FACTS, METRICS

if TYPE_CHECKING:
    import pandas as pd

STATISTICS = ("mean", "std", "low", "high")
PLACE = ["space", "dataset", "method", "n_train"]
# Fewer pairs say nothing about which of two methods ranks better.
LEAST_PAIRS = 5


def told_apart(rows: pd.DataFrame, first: Iterable[str]) -> list[str]:
    """Return the columns `first`, then every other column in which rows differ that agree in all previous ones."""
    columns = list(first)
    for column in rows.columns:
        # What is the same in all rows tells none apart; to see that is cheaper than to group.
        if column in FACTS or column in columns or rows[column].nunique(False) < 2:
            continue
        values = rows.groupby(columns, dropna=False)[column].nunique(False)
        if (values > 1).any():
            columns.append(column)
    return columns


def interval(values: pd.Series) -> tuple[float, float]:
    """Return Student's 95 % t interval of the mean of a series; NaN for fewer than two values."""
    return student_interval(values.dropna().to_numpy(float))


def _statistics(part: pd.DataFrame, metric: str) -> dict[str, float]:
    """Mean, deviation and interval of a metric over rows that differ in the seed alone."""
    import pandas as pd

    values = part[metric].astype(float) if metric in part else pd.Series(dtype=float)
    low, high = interval(values)
    return {
        f"{metric}_mean": values.mean(),
        f"{metric}_std": values.std(),
        f"{metric}_low": low,
        f"{metric}_high": high,
    }


def summary(
    rows: pd.DataFrame,
    figures: pd.DataFrame | None = None,
    metrics: Sequence[str] = tuple(METRICS),
    first: Iterable[str] = PLACE,
) -> pd.DataFrame:
    """Return rows averaged over seeds, beside the `figures` (`paper`, `paper_source`) that agree in all shared columns.

    Columns: `first`; every setting in which rows differ that agree in these; mean, std (NaN for one seed) and the 95 %
    Student's t interval low, high of each metric; n_seeds of the first metric; seconds, paper, paper_source. Figures
    without a run of ours have n_seeds 0.
    """
    import pandas as pd

    rows = rows.assign(**{name: None for name in first if name not in rows})
    by = told_apart(rows, first)
    lines = []
    for place, part in rows.groupby(by, dropna=False, sort=False):
        line = dict(zip(by, place, strict=True))
        for metric in metrics:
            line |= _statistics(part, metric)
        measured = part[part[metrics[0]].notna()] if metrics[0] in part else part.iloc[:0]
        lines.append(line | {"n_seeds": measured["seed"].nunique(), "seconds": part["seconds"].mean()})
    statistics = [f"{metric}_{statistic}" for metric in metrics for statistic in STATISTICS]
    ours = pd.DataFrame(lines, columns=[*by, *statistics, "n_seeds", "seconds"])
    if figures is None:
        figures = pd.DataFrame(columns=[*PLACE, "paper", "paper_source"])
    figures = figures.copy()
    for side in (ours, figures):
        side["n_train"] = side["n_train"].astype("Int64")
    joined = ours.merge(figures, on=[name for name in by if name in figures], how="outer")
    joined["n_seeds"] = joined["n_seeds"].fillna(0).astype(int)
    return joined.sort_values(by).reset_index(drop=True)


def best_rivals(rows: pd.DataFrame, method: str, metric: str = "kendall_tau") -> pd.DataFrame:
    """Return how a method compares with the best of all others, in each space and at each number of labels.

    The best is the method and setting with the highest mean among those that share five seeds with `method`, which is
    in its favour. Columns: space, dataset, n_train, pairs, tau, rival, setting (words that tell it from the same method
    in other settings), rival_tau, difference, low, high. The difference is paired by seed; low, high are its 95 %
    Student's t interval.
    """
    import pandas as pd

    lines: list[dict[str, Any]] = []
    places = rows.groupby(["space", "dataset", "n_train"], sort=False)
    for (space, dataset, n_train), here in places:
        of_method = here["method"] == method
        # A seed may be recorded twice, judged by all architectures and by some of them.
        own = here[of_method].groupby("seed")[metric].mean()
        others = here[~of_method]
        best: dict[str, Any] = {}
        variant = others[:0]
        for _, rival in others.groupby(told_apart(others, ["method"]), dropna=False):
            by_seed = rival.groupby("seed")[metric].mean()
            both = pd.DataFrame({"own": own, "rival": by_seed}).dropna()
            mean = both["rival"].mean()
            if len(both) < LEAST_PAIRS or mean <= best.get("rival_tau", -1):
                continue
            difference, low, high = paired_difference(both["own"], both["rival"])
            best = {"pairs": len(both), "tau": both["own"].mean(), "rival_tau": mean}
            best |= {"difference": difference, "low": low, "high": high}
            variant = rival
        if best:
            name = variant["method"].iloc[0]
            differs = told_apart(others[others["method"] == name], ["method"])[1:]
            values = [variant[key].iloc[0] for key in differs]
            setting = ", ".join(value for value in values if isinstance(value, str))
            place = {
                "space": space,
                "dataset": dataset,
                "n_train": n_train,
            }
            lines.append(place | {"rival": name, "setting": setting} | best)
    return pd.DataFrame(lines)
