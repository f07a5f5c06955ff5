"""Writes what is a query of recorded rows: the findings of the front page and of the README, all rows, the open points.

`python book/generate.py` writes the parts of the book; with `--readme` it also rewrites the README's table of findings
between its two markers.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from hypernas.lab import findings, pages
from hypernas.lab import rows as results
from hypernas.lab.formats import plain
from hypernas.lab.provenance import commit
from hypernas.lab.schema import FACTS
from hypernas.view.comparisons import learning_curves, paired_strips
from hypernas.view.style import Picture, use_style
from hypernas.view.widgets.view import inline_json

ROOT = Path(__file__).resolve().parents[1]
GENERATED = "<!-- Written by book/generate.py; a change here is lost at the next build. -->\n\n"
BEGIN, END = "<!-- findings: written by book/generate.py from the recorded rows -->\n", "<!-- end of findings -->"
# The columns of the page of all rows; the CSV file beside it has every setting too.
SHOWN = (
    "table", "space", "dataset", "method", "n_train", "seed", "graph_form", "kendall_tau",
    "kendall_tau_unseen", "target_test_accuracy", "test_accuracy", "seconds",
)  # fmt: skip
DIGITS = {"seconds": 1, "target_test_accuracy": 2, "validation_accuracy": 2, "test_accuracy": 2}
# Long texts of a row that a table of numbers is not the place for.
NOT_IN_THE_CSV = ["history", "curve", "front", "elsewhere"]


# --- what the paper leaves open ---


@dataclass(frozen=True)
class Note:
    """One `NOTE[PAPER]` tag: where it stands and what it says."""

    file: str
    line: int
    text: str


# Formulas as the code writes them, and as a page does.
FORMULAS = {
    "|e|^3 / (2 u^2)": r"$\lvert e\rvert^3/(2u^2)$",
    "on e^2": "on $e^2$",
    "u^2 + 1e-4": "$u^2 + 10^{-4}$",
    "|": r"\|",
}

# The first of these that a note's file name or text contains is its topic; the last takes the rest.
TOPICS = {
    "The loss and the training": ("loss", "training/", "epoch", "learning rate", "seeds"),
    "The hypernetwork and its target networks": ("hypernetwork", "target", "images", "weights", "ghn"),
    "The graph of an architecture": ("spaces/", "graph", "encoder", "canonical"),
    "Search": ("search",),
    "Comparison with others": ("",),
}


def notes(library: Path) -> Iterator[Note]:
    """Every NOTE[PAPER] in the Python files of a folder, in order; a note ends with its paragraph."""
    for path in sorted(library.rglob("*.py")):
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            if "NOTE[PAPER]:" in line:
                text = _paragraph(lines, number)
                yield Note(path.relative_to(library.parent).as_posix(), number + 1, text)


def _paragraph(lines: list[str], number: int) -> str:
    """The text of the note that begins in a line, up to the end of its paragraph, docstring or comment."""
    line = lines[number]
    words = [line.partition("NOTE[PAPER]:")[2]]
    for more in lines[number + 1 :] if '"""' not in words[0] else ():
        text = more.strip().removeprefix("#").strip()
        is_code = line.lstrip().startswith("#") and not more.lstrip().startswith("#")
        if not text or text.startswith('"""') or "NOTE[PAPER]:" in text or is_code:
            break
        words.append(text)
        if '"""' in text:
            break
    return re.sub(r"\s+", " ", " ".join(words)).replace('"""', "").strip()


def topic(note: Note) -> str:
    text = f"{note.file} {note.text}".lower()
    return next(name for name, words in TOPICS.items() if any(word in text for word in words))


def notes_page(open_points: list[Note]) -> str:
    """A page with every note by topic, a row each: what the paper says, what we do, why."""
    page = GENERATED + "# What the paper leaves open\n\n"
    page += (
        "The paper does not say everything that a program must decide. Each such place carries a tag in the "
        f"code, and this page lists all {len(open_points)} of them. These are measured in this book: the "
        "[form of the graph](notebooks/graph_form.ipynb), the [reading of q](notebooks/preference.ipynb), the "
        "[cubed error](notebooks/task_sharing.ipynb), and [E, the epoch, pooling, the regressor's width, the heads' "
        "start and the stem](notebooks/sensitivity.ipynb).\n"
    )
    for name in TOPICS:
        page += f"\n## {name}\n\n| The paper | We | Because |\n| --- | --- | --- |\n"
        for note in open_points:
            if topic(note) == name:
                page += _note(note)
    return page


def _note(note: Note) -> str:
    """A row of the table: what the paper says, what we do, why, and below it where the code says so."""
    text = note.text
    for code, formula in FORMULAS.items():
        text = text.replace(code, formula)
    parts = re.fullmatch(r"paper (.*?);? we (.*?);? because (.*)", text)
    said = parts.groups() if parts else (text, "", "")
    paper, we, because = (part.rstrip(".;") for part in said)
    return f"| {paper} | {we} | {because} <br>`{note.file}`, line {note.line} |\n"


# --- all rows ---


def all_rows() -> pd.DataFrame:
    """Every recorded row of every table, one frame."""
    frames = [results.frame(name) for name in results.tables() if name != "bench"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=SHOWN)


def _value(name: str, value: Any) -> Any:
    if value is None or value != value or value is pd.NA:
        return None
    return round(float(value), DIGITS.get(name, 4)) if isinstance(value, float) else value


def differing(rows: pd.DataFrame) -> pd.Series:
    """For each row of a table, its settings that are not the most frequent ones, such as `q=1.0 learn_u=False`."""
    own = [name for name in rows.columns if name not in {*FACTS, *SHOWN, *NOT_IN_THE_CSV, "source", "table_digest"}]
    words = pd.Series("", index=rows.index)
    for name in own:
        values = rows[name].dropna()
        if values.astype(str).nunique() > 1:
            usual = values.astype(str).mode()[0]
            for index, value in values.items():
                if str(value) not in (usual, ""):
                    words[index] += f" {name}={value:g}" if isinstance(value, float) else f" {name}={value}"
    return words.str.strip()


def rows_page(rows: pd.DataFrame) -> str:
    """A page on which the rows can be filtered; the rows are data in it, never markup."""
    settings = [differing(part) for _, part in rows.groupby("table", sort=False)]
    rows = rows.assign(settings=pd.concat(settings) if settings else "")
    columns = [name for name in (*SHOWN, "settings") if name in rows]
    # A column of text is a list of its different words, and a row holds the place of its own: half the page.
    words: list[list[str] | None] = []
    shown = {}
    for name in columns:
        values = [_value(name, value) for value in rows[name].astype(object)]
        known = list(dict.fromkeys(value for value in values if isinstance(value, str)))
        places = {value: place for place, value in enumerate(known)}
        words.append(known or None)
        shown[name] = [places.get(value, value) for value in values]
    lines = list(zip(*shown.values(), strict=True))
    data = inline_json({"columns": columns, "words": words, "rows": lines})
    return (
        f"{GENERATED}# All recorded runs\n\n"
        f"{len(rows):,} runs. Filter them here, or take them all with every setting as a "
        '<a href="_static/rows.csv" download>CSV file</a>; `hypernas table few_shot` prints means.\n\n'
        "```{raw} html\n"
        f'<div id="hn-rows"></div><script type="application/json" id="hn-rows-data">{data}</script>\n'
        "```\n"
    )


# --- the front page ---


def hero() -> str:
    """Left what each ingredient is worth, right the learning curves of NAS-Bench-201, side by side."""
    use_style()
    ingredients = pages.wording()["ingredients"]
    several = {name: pages.Page(name) for name in dict.fromkeys(ingredient["page"] for ingredient in ingredients)}
    parts, names = [], []
    for ingredient in ingredients:
        lines = several[ingredient["page"]].spaces(ingredient["says"])
        parts.append(lines)
        names += [ingredient["name"]] * len(lines)
    lines = pd.concat(parts, ignore_index=True)
    left = Picture(
        paired_strips(lines, names),
        "What each ingredient is worth: gain in Kendall tau. A dot is one seed, both sides on the same training set; "
        "bars are 95 % intervals. Blue higher, red lower, green equal to within 0.01, grey undecided.",
    )
    page = pages.Page("nasbench201")
    rows = page.standard[page.standard["method"].isin(["np", "hypernas", "graph-features"])]
    paper = pages.quoted("few_shot", "nasbench201", ["np", "hypernas"])
    # Half the width of the page, so that its letters are as large as those beside it.
    curves = learning_curves(rows, ["method", "graph_form"], paper=paper, width=6.2)
    right = Picture(
        curves,
        "NAS-Bench-201: the graph moves the curve, HyperNAS instead of NP hardly does. Hollow marks are the paper's "
        "figures; dashed lines the graph as the benchmark writes it. Nearly all hypernetwork runs use 8 × 8 digits and "
        "small networks.",
    )
    return f'<div class="hn-hero">{left._repr_html_()}{right._repr_html_()}</div>'


def front(rows: pd.DataFrame) -> str:
    """The generated part of the front page: counts and links, hero figure, findings."""
    links = [
        f"{len(rows):,} recorded runs",
        f"built {datetime.now(UTC):%d %B %Y} from commit {plain(commit())}",
        '<a href="https://arxiv.org/abs/2509.18151">the paper</a>',
        '<a href="rows.html">all rows</a>',
        '<a href="_static/rows.csv" download>CSV</a>',
        '<a href="_downloads/hypernas-book.zip" download>this book as a zip</a>',
        '<a href="references.html">cite</a>',
    ]
    html = f'<p class="hn-links">{" &#183; ".join(links)}</p>{hero()}{findings.findings_html()}'
    return f"{GENERATED}```{{raw}} html\n{html}\n```\n"


def readme(text: str) -> str:
    """The README with its table of findings as the recorded rows have it now."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{findings.findings_markdown()}\n{END}{rest.split(END)[1]}"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "book", help="folder of the pages")
    parser.add_argument("--readme", action="store_true", help="rewrite the README's table too")
    arguments = parser.parse_args()
    output = arguments.output
    rows = all_rows()
    write(output / "notes_paper.md", notes_page(list(notes(ROOT / "hypernas"))))
    write(output / "rows.md", rows_page(rows))
    csv = rows.drop(columns=NOT_IN_THE_CSV, errors="ignore").to_csv(index=False)
    write(output / "_static" / "rows.csv", csv)
    write(output / "_parts" / "front.md", front(rows))
    if arguments.readme:
        path = ROOT / "README.md"
        write(path, readme(path.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
