"""The table of findings for the front page and the README, from the claims that `verdicts.toml` lists for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hypernas.lab import claims
from hypernas.lab.formats import UNSIGNED, estimate, number, plain, repeats
from hypernas.lab.markup import Html, html_table, markdown_table
from hypernas.lab.pages import Page, badge_html, display_name, quoted, wording

if TYPE_CHECKING:
    import pandas as pd


def _taus(rows: pd.DataFrame, asked: Mapping[str, Any]) -> tuple[str, str]:
    """The paper's Kendall taus at some sizes, and ours, as `.678 / .688`."""
    choice = {name: value for name, value in asked.items() if name != "n_train"}
    ours = rows[rows["profile"] == "standard"]
    for name, value in choice.items():
        ours = ours[ours[name] == value]
    means = ours.groupby("n_train")["kendall_tau"].mean()
    figures = quoted("few_shot", asked["space"], [asked["method"]]).set_index("n_train")["paper"]
    sizes = asked["n_train"]
    paper = [number(figures.get(size)) for size in sizes]
    here = [number(means.get(size)) for size in sizes]
    return " / ".join(paper), " / ".join(here)


def findings() -> list[dict[str, str]]:
    """Return the table of findings: `claim`, `page`, `paper`, `ours` and `verdict`, in the order of the paper."""
    entries = wording()["front"]
    names = dict.fromkeys(entry["page"] for entry in entries)
    pages = {name: Page(name) for name in names}
    return [_finding(entry, pages[entry["page"]]) for entry in entries]


def _finding(entry: Mapping[str, Any], page: Page) -> dict[str, str]:
    """One line of the table from its entry of `verdicts.toml`."""
    answers = [page.answer(says) for says in entry["says"]]
    paper = entry.get("paper", "")
    if "taus" in entry:
        paper, ours = _taus(page.rows, entry["taus"])
    else:
        ours = _in_brief(entry, answers)
    badges = list(dict.fromkeys(claim.iloc[0]["answer"] for claim in answers))
    return {
        "claim": entry["claim"],
        "page": entry["page"],
        "paper": paper,
        "ours": ours,
        "verdict": badges[0] if len(badges) == 1 else _joined(badges),
    }


def _in_brief(entry: Mapping[str, Any], answers: Sequence[pd.DataFrame]) -> str:
    """The claims of an entry after each other, each under its label where it has one."""
    labels = entry.get("labels", [""] * len(answers))
    parts = []
    for label, claim in zip(labels, answers, strict=True):
        numbers = _spaces_in_brief(claim, entry.get("unit", ""))
        parts.append(f"{label} {numbers}".strip())
    return "; ".join(parts)


def _spaces_in_brief(lines: pd.DataFrame, unit: str) -> str:
    """The estimates of a claim's spaces; with too few seeds the mean alone and how many. A lone space has no name."""
    spaces = lines[lines["level"] == claims.SPACE].to_dict("records")
    in_one_space = len({line["space"] for line in spaces}) == 1
    said = []
    for line in spaces:
        metric = line["metric"]
        are_few = line["answer"] == claims.FEW
        text = estimate(line, metric)
        if are_few:
            text = number(line["difference"], metric, sign=metric not in UNSIGNED)
        if unit:
            text += unit if unit == "×" else f" {unit}"
        if are_few:
            text += f" ({repeats(line['n_seeds'], metric)})"
        if len(spaces) > 1:
            # Two lines of one space differ in what stands behind its name.
            *_, dataset = line["where"].split(", ")
            place = dataset if in_one_space else line["space"]
            text = f"{display_name(place)} {text}"
        said.append(text)
    return ", ".join(said) or claims.NONE


def _joined(badges: Sequence[str]) -> str:
    """One badge for several claims of a line: partly where they disagree on whether it holds, else the weakest."""
    if claims.HOLDS in badges or claims.PARTLY in badges:
        return claims.PARTLY
    weakest_first = (claims.OPEN, claims.NO, claims.EQUIVALENT, claims.CEILING)
    return next(badge for badge in weakest_first if badge in badges)


UNTESTED = (
    "97.60 % on CIFAR-10, 82.4 % on ImageNet",
    "97.60, 82.4",
    "nothing here trained such networks",
    "not tested",
)


def findings_html() -> Html:
    """Return the table of findings for the book; each claim links to its page."""
    rows = []
    for line in findings():
        link = Html(f'<a href="notebooks/{line["page"]}.html">{plain(line["claim"])}</a>')
        rows.append([link, line["paper"], line["ours"], badge_html(line["verdict"])])
    claim, paper, ours, verdict = UNTESTED
    rows.append([claim, paper, ours, badge_html(verdict)])
    return html_table(["claim", "paper", "ours", "verdict"], rows)


def findings_markdown() -> str:
    """Return the table of findings for the README.

    It is not escaped, because all of it is our own words and numbers.
    """
    columns = ["claim", "paper", "ours", "verdict"]
    lines = [[line[column] for column in columns] for line in findings()]
    rows = []
    for *cells, verdict in [*lines, UNTESTED]:
        row = [*cells, f"**{verdict}**"]
        rows.append([Html(cell) for cell in row])
    return markdown_table(columns, rows)
