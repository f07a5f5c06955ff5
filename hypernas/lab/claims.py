"""Claims, listed in `claims.toml`, held against recorded rows: paired runs, an interval, and the sentence it allows."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypernas.errors import UserError
from hypernas.lab.findings import estimate
from hypernas.lab.formats import number
from hypernas.lab.metrics import bootstrap_interval
from hypernas.lab.rows import paper_figures
from hypernas.lab.summary import FACTS, PLACE, told_apart

if TYPE_CHECKING:
    import pandas as pd

# With m pairs of equals all differences have one sign with probability 2^(1-m): 1/4 for three, 1/16 for five.
FEWEST_PAIRS = 5
WHERE = ("space", "dataset", "n_train")
ANSWERS = HOLDS, FAILS, UNCLEAR, FEW, NONE = "holds", "does not hold", "not clear", "too few pairs", "no rows yet"


@dataclass(frozen=True)
class Claim:
    """`one` side of a page's rows is higher in `metric` than the `other`, or than the figures `paper` less `margin`."""

    page: str
    says: str
    source: str
    one: Mapping[str, Any]
    other: Mapping[str, Any] = field(default_factory=dict)
    paper: Mapping[str, str] = field(default_factory=dict)
    metric: str = "kendall_tau"
    margin: float = 0.0


@cache
def claims() -> list[Claim]:
    """Every claim, in the order of the pages."""
    pages = tomllib.loads(Path(__file__).with_name("claims.toml").read_text(encoding="utf-8"))
    return [Claim(page, **entry) for page, entries in pages.items() for entry in entries]


def _side(rows: pd.DataFrame, choice: Mapping[str, Any], metric: str) -> pd.DataFrame:
    """The rows that have the chosen values and the metric; none where nobody recorded such a column."""
    if not {*choice, metric} <= {*rows.columns}:
        return rows.iloc[:0].assign(**dict.fromkeys([*choice, metric]))
    chosen = rows[metric].notna()
    for name, value in choice.items():
        chosen &= rows[name] == value
    return rows[chosen]


def pairs(rows: pd.DataFrame, claim: Claim) -> pd.DataFrame:
    """Every run of the claim's one side with its partner: what the run is, its seed, and `difference`.

    Partners agree in seed, and so in the training set, and in every setting that both have and the claim does not name.
    A quoted figure is the partner of every seed. Raises UserError where a run has two partners.
    """
    one = _side(rows, claim.one, claim.metric)
    settings = [name for name in rows.columns if name not in FACTS | {*claim.one, *claim.other}]
    if claim.paper:
        figures = paper_figures(claim.paper["table"], claim.metric)
        other = figures[figures["method"] == claim.paper["method"]].rename(columns={"paper": claim.metric})
        shared, kept = [name for name in PLACE if name != "method"], ["seed", *settings]
    else:
        other = _side(rows, claim.other, claim.metric)
        both_have = {name for name in settings if one[name].notna().any() and other[name].notna().any()}
        shared = kept = ["seed", *(name for name in settings if name in both_have | {*PLACE})]
    if one.empty or other.empty:
        return one.iloc[:0].assign(difference=0.0)
    if one.duplicated(kept).any() or other.duplicated(shared).any():
        raise UserError(f"a run must have one partner, got two for {claim.says!r}: name more settings in the claim")
    both = one[[*kept, claim.metric]].merge(other[[*shared, claim.metric]], on=shared, suffixes=("", "_other"))
    both = both.assign(**{name: value for name, value in claim.one.items() if name in WHERE})
    both["difference"] = both.pop(claim.metric).astype(float) - both.pop(f"{claim.metric}_other").astype(float)
    return both


def _answer(differences: pd.Series, margin: float) -> dict[str, Any]:
    """The mean difference with its 95 % bootstrap interval, and what may be said."""
    n = len(differences)
    line: dict[str, Any] = dict.fromkeys(("difference", "low", "high"), math.nan)
    line |= {"n_seeds": n, "each": differences.tolist()} | ({"difference": differences.mean()} if n else {})
    if n > 1:
        line["low"], line["high"] = bootstrap_interval(differences.to_numpy())
    if n < FEWEST_PAIRS:
        return line | {"answer": FEW if n else NONE}
    return line | {"answer": HOLDS if line["low"] > -margin else FAILS if line["high"] < -margin else UNCLEAR}


def _lines(claim: Claim, found: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The claim as a whole, and then at each place.

    As a whole it is judged on average over all places, where a seed counts once in each space and dataset; figures are
    reached where the place farthest below them reaches its own, `worst`.
    """
    if found.empty:
        yield {"where": "", "worst": ""} | _answer(found["difference"], claim.margin)
        return
    by, places = told_apart(found.drop(columns="difference"), ["space", "n_train"]), []
    for place, part in found.groupby(by, dropna=False, sort=False):
        where = ", ".join(str(value) for value in place if value == value)
        places.append({"where": where, "worst": ""} | _answer(part["difference"], claim.margin))
    if claim.paper:
        worst = min(places, key=lambda line: line["difference"])
        yield worst | {"where": "", "worst": worst["where"]}
    else:
        each = found.groupby(["space", "dataset", "seed"])["difference"].mean()
        yield {"where": "", "worst": ""} | _answer(each, claim.margin)
    yield from places


def answers(rows: pd.DataFrame, page: str) -> pd.DataFrame:
    """The claims of a page: one line for the whole, its `where` empty, and one a place.

    Columns `page, says, source, metric, margin, where, worst, n_seeds, difference, low, high, each, answer`; `each`
    lists the differences behind the interval.
    """
    import pandas as pd

    asked = [claim for claim in claims() if claim.page == page]
    if not asked:
        raise UserError(f"the page must be one of {', '.join({c.page: 0 for c in claims()})}, got {page!r}")
    said = ["page", "says", "source", "metric", "margin"]
    found = [
        {name: getattr(claim, name) for name in said} | line
        for claim in asked
        for line in _lines(claim, pairs(rows, claim))
    ]
    return pd.DataFrame(found)


def on_average(found: pd.DataFrame) -> pd.DataFrame:
    """Of `answers` the line of each claim that takes all places together."""
    return found[found["where"] == ""]


def in_words(found: pd.DataFrame) -> str:
    """`answers` as Markdown: each claim with its answer as a whole, and below it the places by answer."""
    text = ""
    for _, lines in found.groupby("says", sort=False):
        whole, places = lines.iloc[0].to_dict(), lines.iloc[1:]
        text += f"\n**{whole['says']}** ({whole['source']}): {_said(whole)}.\n\n"
        for answer in ANSWERS if len(places) > 1 else ():
            chosen = places[places["answer"] == answer].to_dict("records")
            there = [f"{line['where']} ({_numbers(line)})" for line in chosen]
            text += f"- {answer} at {'; '.join(there)}\n" if there else ""
    return text


def briefly(found: pd.DataFrame) -> str:
    """`answers` as a Markdown list, a line a claim as a whole."""
    lines = on_average(found).to_dict("records")
    return "\n".join(f"- {line['says']}: {_said(line)}." for line in lines)


def overview(found: pd.DataFrame) -> str:
    """`on_average` of any pages as a Markdown table, each claim with a link to its page."""
    text = "| claim | page | answer | difference |\n|" + " --- |" * 4 + "\n"
    for line in found.to_dict("records"):
        metric = line["metric"].removeprefix("kendall_").replace("_", " ")
        numbers = f"{_numbers(line)} ({metric})" if line["n_seeds"] else "–"
        text += f"| {line['says']} ({line['source']}) | [{line['page']}]({line['page']}.ipynb) | "
        text += f"{line['answer']} | {numbers} |\n"
    return text


def _said(line: Mapping[Any, Any]) -> str:
    """The answer with its numbers, and the place where it is that of one."""
    where = f" at {line['worst']}, the lowest place" if line["worst"] else ""
    return f"*{line['answer']}*, {_numbers(line)}{where}" if line["n_seeds"] else f"*{NONE}*"


def _numbers(line: Mapping[Any, Any]) -> str:
    """`+0.012, +0.003 to +0.020, 10 seeds`, without an interval for a single seed."""
    n, metric = line["n_seeds"], line["metric"]
    return f"{estimate(line, metric)}, {n} seeds" if n > 1 else f"{number(line['difference'], metric, True)}, 1 seed"
