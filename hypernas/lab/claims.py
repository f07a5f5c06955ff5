"""Test the claims in `claims.toml` against recorded rows: paired runs, an interval in each space, and a badge.

This is the only place that compares two methods. Verdict boxes, the claims page, the front page and the README all
print what `answers` returns.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from hypernas.errors import UserError
from hypernas.lab.metrics import ROUNDING, student_interval
from hypernas.lab.rows import Results, paper_figures
from hypernas.lab.summary import FACTS, PLACE, told_apart
from hypernas.training.files import toml_beside

if TYPE_CHECKING:
    import pandas as pd

# With m pairs of equals all differences have one sign with probability 2^(1-m): 1/4 for three, 1/16 for five.
FEWEST_PAIRS = 5
# Rank correlations whose whole interval lies within this of zero are called equal: less than what two trainings of the
# benchmark's own networks differ by. Accuracies have no such margin; their spread differs from table to table.
EQUIVALENCE_MARGIN = {"kendall_tau": 0.01, "kendall_tau_unseen": 0.01, "spearman_rho": 0.01}
WHERE = ("space", "dataset", "n_train")
# Other methods are not re-trained to be counted: a number of parameters is a fact and needs no pairs.
COUNTED = ("n_parameters",)

# What one space, or one size, says.
HIGHER, LOWER, EQUIVALENT, CEILING = "higher", "lower", "equivalent", "ceiling"
UNCLEAR, FEW, NONE = "unclear", "too few pairs", "no rows yet"
# What all spaces together say of the claim.
HOLDS, PARTLY, NO, OPEN = "holds", "partly", "no", "open"
BADGES = HOLDS, PARTLY, NO, OPEN, EQUIVALENT, CEILING
# A line of `answers` is about the whole claim, about a space over its sizes, or about one size.
CLAIM, SPACE, SIZE = "claim", "space", "size"
# What a line tells in figures.
NUMBERS = ("n_seeds", "difference", "low", "high", "differences")


@dataclass(frozen=True)
class Claim:
    """`one` side of a page's rows is higher in `metric` than the `other`, or than the figures `paper` minus `margin`.

    The metric `label_factor` says how many times the labels of `one` the `other` needs for the same Kendall tau; the
    claim is a factor of at least `least`. A claim about cost names what `hypernas bench` has `measured`, which must be
    at least `least`.
    """

    page: str
    says: str
    source: str
    one: Mapping[str, Any] = field(default_factory=dict)
    other: Mapping[str, Any] = field(default_factory=dict)
    paper: Mapping[str, str] = field(default_factory=dict)
    metric: str = "kendall_tau"
    margin: float = 0.0
    least: float = 0.0
    measured: str = ""

    @property
    def threshold(self) -> float:
        """The value that a difference must exceed for the claim to hold."""
        return self.least - self.margin


@cache
def claims() -> list[Claim]:
    """Return all claims in the order of the pages."""
    every: list[Claim] = []
    for page, entries in toml_beside(__file__, "claims.toml").items():
        every += [Claim(page, **entry) for entry in entries]
    return every


# --- pairs ---


def _side(rows: pd.DataFrame, choice: Mapping[str, Any], metric: str) -> pd.DataFrame:
    """The rows that have the chosen values and the metric; none where nobody recorded such a column."""
    needed = [*choice, metric]
    if not set(needed) <= set(rows.columns):
        return rows.iloc[:0].assign(**dict.fromkeys(needed))
    wanted = rows[metric].notna()
    for name, value in choice.items():
        wanted &= rows[name] == value
    return rows[wanted]


def _partners(rows: pd.DataFrame, claim: Claim, metric: str) -> pd.DataFrame:
    """The runs of both sides side by side: columns of `one`, its `metric`, and `metric`_other."""
    one = _side(rows, claim.one, metric)
    settings = [name for name in rows.columns if name not in FACTS | {*claim.one, *claim.other}]
    if claim.paper:
        figures = paper_figures(claim.paper["table"], metric)
        other = figures[figures["method"] == claim.paper["method"]].rename(columns={"paper": metric})
        # A quoted figure has no seed and no settings: it is the partner of every seed at its place, and of every size
        # where the paper does not say of how many labels it is.
        shared = [name for name in PLACE if name != "method" and other[name].notna().all()]
        kept = ["seed", *settings]
    else:
        other = _side(rows, claim.other, metric)
        both_have = one[settings].notna().any() & other[settings].notna().any()
        kept = ["seed", *(name for name in settings if name in PLACE or both_have[name])]
        shared = kept
    if one.empty or other.empty:
        return one.iloc[:0].assign(**{f"{metric}_other": 0.0})
    is_ambiguous = one.duplicated(kept).any() or other.duplicated(shared).any()
    if is_ambiguous:
        raise UserError(f"a run must have one partner, got two for {claim.says!r}: name more settings in the claim")
    return one[[*kept, metric]].merge(other[[*shared, metric]], on=shared, suffixes=("", "_other"))


def pairs(rows: pd.DataFrame, claim: Claim) -> pd.DataFrame:
    """Return every run of the claim's one side with its partner: what the run is, its seed, and `difference`.

    Partners have the same seed, and therefore the same training set, and agree in every setting that both have and that
    the claim does not name. A quoted figure is the partner of every seed. Raise UserError if a run has two partners.
    """
    if claim.measured:
        return _measurements(claim.measured)
    if claim.metric == "label_factor":
        return _label_factors(_partners(rows, claim, "kendall_tau"))
    both = _partners(rows, claim, claim.metric)
    # Where the claim itself names a place, the pairs no longer have it as a column.
    named = {name: value for name, value in claim.one.items() if name in WHERE}
    both = both.assign(**named)
    one = both.pop(claim.metric).astype(float)
    other = both.pop(f"{claim.metric}_other").astype(float)
    return both.assign(difference=one - other)


def _measurements(name: str) -> pd.DataFrame:
    """The newest value of `hypernas bench` of this name, or its repeated values on each set of images."""
    import pandas as pd

    columns = ["space", "dataset", "n_train", "seed", "difference"]
    rows = [row for row in Results.of("bench").rows() if name in row]
    if not rows:
        return pd.DataFrame(columns=columns)
    newest = max(rows, key=lambda row: row["started"])
    value = newest[name]
    by_images = value if isinstance(value, Mapping) else {newest["dataset"]: [value]}
    lines = []
    for images, repeats in by_images.items():
        lines += [(newest["space"], images, newest["n_train"], place, one) for place, one in enumerate(repeats)]
    return pd.DataFrame(lines, columns=columns)


def _label_factors(both: pd.DataFrame) -> pd.DataFrame:
    """Pairs with Kendall taus -> pairs whose `difference` is the factor in labels that the other side needs.

    Each seed's curve of the other side, tau against the logarithm of the labels, is read backwards at the tau of the
    one side. Sizes at the ends of the curve are left out: beyond them there is nothing to read.
    """
    import pandas as pd

    factors = []
    for _, curve in both.groupby(["space", "dataset", "seed"]):
        curve = curve.sort_values("n_train")
        labels = np.log2(curve["n_train"].to_numpy(float))
        # More labels cannot truly hurt: a dip is noise, and a curve must rise to be read backwards.
        taus = np.maximum.accumulate(curve["kendall_tau_other"].to_numpy(float))
        reached = curve["kendall_tau"].to_numpy(float)
        needed = np.interp(reached, taus, labels)
        factor = 2 ** (needed - labels)
        factors.append(curve.assign(difference=factor).iloc[1:-1])
    if not factors:
        return both.assign(difference=0.0)
    return pd.concat(factors).drop(columns=["kendall_tau", "kendall_tau_other"])


# --- answers ---


def judged(differences: pd.Series, claim: Claim) -> dict[str, Any]:
    """Return the mean difference with its Student's t interval, and what follows from it.

    Needs `FEWEST_PAIRS` pairs.
    """
    values = differences.to_numpy(float)
    low, high = student_interval(values)
    line: dict[str, Any] = {
        "n_seeds": len(values),
        "difference": values.mean() if len(values) else math.nan,
        "differences": values.tolist(),
        "low": low,
        "high": high,
    }
    line["answer"] = _answer(line, claim)
    return line


def _answer(line: Mapping[str, Any], claim: Claim) -> str:
    if not line["n_seeds"]:
        return NONE
    if line["n_seeds"] < FEWEST_PAIRS and claim.metric not in COUNTED:
        return FEW
    low = line["low"]
    high = line["high"]
    if math.isnan(low):
        # All pairs differ by the same: by nothing where both sides always end at the table's best.
        low = high = line["difference"]
        if abs(low) < ROUNDING and not claim.margin:
            return CEILING
    if low > claim.threshold:
        return HIGHER
    if high < claim.threshold:
        return LOWER
    within = EQUIVALENCE_MARGIN.get(claim.metric, 0.0)
    if -within < low and high < within:
        return EQUIVALENT
    return UNCLEAR


def badge(answers_of_spaces: Collection[str]) -> str:
    """Combine the answers of the spaces into one badge.

    >>> badge([HIGHER, HIGHER]), badge([HIGHER, LOWER]), badge([EQUIVALENT, LOWER]), badge([HIGHER, FEW])
    ('holds', 'partly', 'no', 'open')
    """
    kinds = set(answers_of_spaces)
    if not kinds or kinds & {FEW, NONE}:
        return OPEN
    if kinds == {HIGHER}:
        return HOLDS
    if HIGHER in kinds:
        return PARTLY
    if LOWER in kinds:
        return NO
    if UNCLEAR in kinds:
        return OPEN
    return CEILING if kinds == {CEILING} else EQUIVALENT


def _size_lines(claim: Claim, pairs: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """A line for each space and size, and for each setting in which runs of one size differ."""
    by = told_apart(pairs.drop(columns="difference"), ["space", "n_train"])
    for place, part in pairs.groupby(by, dropna=False, sort=False):
        where = ", ".join(str(value) for value in place if value == value)
        about = {"level": SIZE, "space": place[0], "where": where}
        yield about | judged(part["difference"], claim)


def _space_lines(claim: Claim, pairs: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """A line for each space and dataset, in which a seed counts once, as the mean over its sizes."""
    several = pairs.groupby("space")["dataset"].nunique().max() > 1
    for (space, dataset), part in pairs.groupby(["space", "dataset"], sort=False):
        where = f"{space}, {dataset}" if several else str(space)
        by_seed = part.groupby("seed")["difference"].mean()
        about = {"level": SPACE, "space": space, "where": where}
        yield about | judged(by_seed, claim)


def _claim_line(claim: Claim, units: list[dict[str, Any]]) -> dict[str, Any]:
    """The claim as a whole: a badge, and numbers only where one space, or one size, stands for it.

    An average over spaces hides opposite signs, so there is none.
    """
    whole: dict[str, Any] = {"level": CLAIM, "space": "", "where": "", "n_seeds": 0, "differences": []}
    whole |= dict.fromkeys(("difference", "low", "high"), math.nan)
    if claim.paper and units:
        # Sizes with too few seeds are shown and decide nothing; the size farthest below its figure is the one to tell.
        units = [unit for unit in units if unit["answer"] != FEW] or units
        lowest = min(units, key=lambda unit: unit["difference"])
        whole |= {name: lowest[name] for name in ("where", *NUMBERS)}
    elif len(units) == 1:
        whole |= {name: units[0][name] for name in NUMBERS}
    whole["answer"] = badge([unit["answer"] for unit in units])
    return whole


def answers(rows: pd.DataFrame, page: str) -> pd.DataFrame:
    """Return the answers to the claims of a page: one line for the whole (`level` claim), one per space, one per size.

    Columns
    `page, says, source, metric, margin, level, space, where, n_seeds, difference, low, high, differences, answer`;
    `differences` lists the values behind the interval. `answer` is one of `BADGES` for the whole, and below it one of
    the constants from `HIGHER` to `NONE`. Raise UserError if the page has no claims.
    """
    import pandas as pd

    asked = [claim for claim in claims() if claim.page == page]
    if not asked:
        known = dict.fromkeys(claim.page for claim in claims())
        raise UserError(f"the page must be one of {', '.join(known)}, got {page!r}")
    lines = []
    for claim in asked:
        about = {name: getattr(claim, name) for name in ("page", "says", "source", "metric", "margin")}
        runs = pairs(rows, claim)
        spaces: list[dict[str, Any]] = []
        sizes: list[dict[str, Any]] = []
        if len(runs):
            spaces += _space_lines(claim, runs)
            sizes += _size_lines(claim, runs)
        # A figure of the paper is about one size, a comparison of two methods about a space.
        whole = _claim_line(claim, sizes if claim.paper else spaces)
        lines += [about | line for line in (whole, *spaces, *sizes)]
    return pd.DataFrame(lines)
