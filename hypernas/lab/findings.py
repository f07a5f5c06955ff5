"""The table of findings of the front page and of the README, from the claims that `verdicts.toml` lists for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hypernas.lab import claims
from hypernas.lab.formats import estimate, number, plain
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
    sides = [[side.get(size) for size in asked["n_train"]] for side in (figures, means)]
    paper, here = (" / ".join(number(value) for value in side) for side in sides)
    return paper, here


def findings() -> list[dict[str, str]]:
    """The table of findings: `claim`, `page`, `paper`, `ours` and `verdict`, in the paper's order."""
    entries = wording()["front"]
    pages = {name: Page(name) for name in dict.fromkeys(entry["page"] for entry in entries)}
    lines = []
    for entry in entries:
        page = pages[entry["page"]]
        answers = [page.answer(says) for says in entry["says"]]
        paper = entry.get("paper", "")
        if "taus" in entry:
            paper, ours = _taus(page.rows, entry["taus"])
        else:
            labels = entry.get("labels", [""] * len(answers))
            unit = entry.get("unit", "")
            parts = [f"{label} {_spaces_in_brief(lines, unit)}" for label, lines in zip(labels, answers, strict=True)]
            ours = "; ".join(part.strip() for part in parts)
        badges = list(dict.fromkeys(lines.iloc[0]["answer"] for lines in answers))
        verdict = badges[0] if len(badges) == 1 else _joined(badges)
        lines.append({"claim": entry["claim"], "page": entry["page"], "paper": paper, "ours": ours, "verdict": verdict})
    return lines


def _spaces_in_brief(lines: pd.DataFrame, unit: str) -> str:
    """The estimates of a claim's spaces without their seeds; a lone space goes without its name."""
    units = lines[lines["level"] == claims.SPACE].to_dict("records")
    said = []
    for line in units:
        name = f"{display_name(line['space'])} " if len(units) > 1 else ""
        decided = line["answer"] != claims.FEW
        text = estimate(line, line["metric"]) if decided else number(line["difference"], line["metric"], sign=True)
        text += unit if unit == "×" else f" {unit}" if unit else ""
        text += "" if decided else f" ({line['n_seeds']} seeds)"
        said.append(name + text)
    return ", ".join(said) or claims.NONE


def _joined(badges: Sequence[str]) -> str:
    """One badge for several claims of a line: partly where they disagree on whether it holds, else the weakest."""
    if claims.HOLDS in badges or claims.PARTLY in badges:
        return claims.PARTLY
    return next(badge for badge in (claims.OPEN, claims.NO, claims.EQUIVALENT, claims.CEILING) if badge in badges)


UNTESTED = (
    "97.60 % on CIFAR-10, 82.4 % on ImageNet",
    "97.60, 82.4",
    "nothing here trained such networks",
    "not tested",
)


def findings_html() -> Html:
    """The table of findings for the book, each claim a link to its page."""
    rows = []
    for line in findings():
        link = Html(f'<a href="notebooks/{line["page"]}.html">{plain(line["claim"])}</a>')
        rows.append([link, line["paper"], line["ours"], badge_html(line["verdict"])])
    claim, paper, ours, verdict = UNTESTED
    rows.append([claim, paper, ours, badge_html(verdict)])
    return html_table(["claim", "paper", "ours", "verdict"], rows)


def findings_markdown() -> str:
    """The same for the README."""
    lines = [[line[name] for name in ("claim", "paper", "ours", "verdict")] for line in findings()]
    rows = [[*(Html(text) for text in line[:3]), Html(f"**{line[3]}**")] for line in [*lines, UNTESTED]]
    return markdown_table(["claim", "paper", "ours", "verdict"], rows)
