"""What recorded rows say: methods and graph forms compared over the same seeds, in numbers and in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from hypernas.lab.formats import number
from hypernas.lab.metrics import paired_difference
from hypernas.lab.summary import FACTS, PLACE

if TYPE_CHECKING:
    import pandas as pd

PAPER = "Do the paper's figures reproduce?"
CONTRACTION = "Does contracting the graph help?"
ADDED = {
    "Does the hypernetwork help?": ("hypernas", "hypernas-p"),
    "Does the global encoding help?": ("hypernas-p", "np"),
}


def provenance(rows: pd.DataFrame, work: str = "training") -> str:
    """Where rows of `results.frame` come from, as a Markdown list; empty where there are none."""
    if rows.empty:
        return ""
    text = f"- {len(rows)} rows, {rows['seconds'].sum():,.0f} seconds of {work}\n"
    for name in ("source", "profile", "seed", "device", "version", "commit"):
        values = sorted(rows[name].dropna().unique()) if name in rows else []
        if values:
            text += f"- {name}: {', '.join(map(str, values))}\n"
    days = sorted({started[:10] for started in rows["started"]}) if "started" in rows else []
    return text + (f"- date: {' to '.join(dict.fromkeys([days[0], days[-1]]))}\n" if days else "")


def usual(rows: pd.DataFrame) -> pd.DataFrame:
    """Of rows of one space and dataset (`results.frame`) those that belong in one figure.

    Runs of the `quick` profile are left out; of a method whose rows differ in more than graph form, size and
    seed, those with its most frequent settings stay, so that no mean is taken over unlike runs.
    """
    full = rows[rows["profile"] != "quick"]
    settings = [name for name in full.columns if name not in FACTS | {*PLACE, "graph_form"}]
    kind = full.groupby(settings, dropna=False).ngroup()
    most = kind.groupby(full["method"]).agg(lambda kinds: kinds.mode().iloc[0])
    return full[kind == full["method"].map(most)]


def comparisons(rows: pd.DataFrame, quoted: pd.DataFrame, metric: str = "kendall_tau") -> pd.DataFrame:
    """Paired differences of `usual` rows, and of these from the quoted figures (`results.paper_figures`).

    One line a question, subject and n_train: `question, subject, n_train, n_seeds, difference, low, high`, the
    mean difference of `metric` and its 95 % bootstrap interval over the seeds that both sides have, at least two.
    A quoted figure has no spread and counts as exact.
    """
    import pandas as pd

    runs = rows.pivot_table(metric, ["n_train", "seed"], ["method", "graph_form"])
    figures = quoted.set_index(["method", "n_train"])["paper"]
    found = []
    for question, subject, run, other in _pairs(list(runs.columns)):
        if other is None:
            sizes = runs.index.get_level_values("n_train")
            against = pd.Series([figures.get((run[0], size)) for size in sizes], runs.index, float)
        else:
            against = runs[other]
        pairs = pd.DataFrame({"a": runs[run], "b": against}).dropna()
        for size, pair in pairs.groupby("n_train"):
            if len(pair) > 1:
                difference = paired_difference(pair["a"].to_numpy(), pair["b"].to_numpy())
                found.append((question, subject, size, len(pair), *difference))
    columns = ["question", "subject", "n_train", "n_seeds", "difference", "low", "high"]
    return pd.DataFrame(found, columns=columns)


def _pairs(runs: list[Any]) -> Iterator[tuple[str, str, Any, Any]]:
    """(question, subject, run, other run) over (method, graph form); a quoted figure is None."""
    for method, form in runs:
        yield PAPER, f"{method}, {form} graph", (method, form), None
    for question, (method, without) in ADDED.items():
        for form in ("contracted", "pruned", "raw"):
            if {(method, form), (without, form)} <= {*runs}:
                yield question, f"{method} over {without}, {form} graph", (method, form), (without, form)
    for method, form in runs:
        if form == "contracted" and (method, "raw") in runs:
            yield CONTRACTION, f"{method}, contracted over raw", (method, form), (method, "raw")


def in_words(found: pd.DataFrame) -> str:
    """`comparisons` as Markdown: under each question how often which answer, and a sentence a subject and answer."""
    if found.empty:
        return "Nothing can be compared yet: no two sides have rows of the same two seeds.\n"
    answers = {1: "higher", 0: "no clear difference", -1: "lower"}
    fewest, most = found["n_seeds"].min(), found["n_seeds"].max()
    text = f"Differences over {fewest if fewest == most else f'{fewest} to {most}'} seeds.\n"
    for question, part in found.groupby("question", sort=False):
        sign = (part["low"] > 0).astype(int) - (part["high"] < 0)
        counts = ", ".join(f"{(sign == way).sum()} {answer}" for way, answer in answers.items())
        text += f"\n**{question}** Of {len(part)} comparisons: {counts}.\n\n"
        for subject in part["subject"].unique():
            for way, answer in answers.items():
                lines = part[(part["subject"] == subject) & (sign == way)]
                where = [f"{line['n_train']} ({estimate(line)})" for line in lines.to_dict("records")]
                if where:
                    text += f"- {subject}: {answer} at {', '.join(where)}.\n"
    return text


def estimate(line: Mapping[Any, Any], metric: str = "kendall_tau") -> str:
    """`difference, low to high` of a line with these three, each with its sign."""
    middle, low, high = (number(line[name], metric, sign=True) for name in ("difference", "low", "high"))
    return f"{middle}, {low} to {high}"
