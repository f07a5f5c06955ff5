"""Writes the pages that are queries: paper beside ours from recorded rows, and what the paper leaves open."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from hypernas.errors import UserError
from hypernas.lab import formats
from hypernas.lab import rows as results

ROOT = Path(__file__).resolve().parents[1]
GENERATED = "<!-- Written by book/generate.py; a change here is lost at the next build. -->\n\n"
SHOWN = {
    "space", "dataset", "method", "n_train", "graph_form", "profile", "n_seeds", "seconds", "paper",
    "paper_source",
}  # fmt: skip
METRICS = {*results.METRICS, *results.HEADLINES, *results.HEADLINES.values()}
STATISTICS = {f"{name}_{how}" for name in METRICS for how in results.STATISTICS}


@dataclass(frozen=True)
class Note:
    """One `NOTE[PAPER]` tag: where it stands and what it says."""

    file: str
    line: int
    text: str


def notes(library: Path) -> Iterator[Note]:
    """Every NOTE[PAPER] in the Python files of a folder, in order; a note ends with its paragraph."""
    for path in sorted(library.rglob("*.py")):
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            if "NOTE[PAPER]:" not in line:
                continue
            words = [line.partition("NOTE[PAPER]:")[2]]
            for more in lines[number + 1 :] if '"""' not in words[0] else ():
                plain = more.strip().removeprefix("#").strip()
                is_code = line.lstrip().startswith("#") and not more.lstrip().startswith("#")
                if not plain or plain.startswith('"""') or "NOTE[PAPER]:" in plain or is_code:
                    break
                words.append(plain)
                if '"""' in plain:
                    break
            text = re.sub(r"\s+", " ", " ".join(words)).replace('"""', "").strip()
            yield Note(path.relative_to(library.parent).as_posix(), number + 1, text)


def notes_page(found: list[Note]) -> str:
    """A page with every note as three sentences: what the paper says, what we do, why."""
    page = GENERATED + "# What the paper leaves open\n\n"
    page += (
        "The paper does not say everything that a program must decide. Each such place carries a tag in the "
        f"code, and this page lists all {len(found)} of them.\n"
    )
    file = ""
    for note in found:
        if note.file != file:
            file = note.file
            page += f"\n## `{file}`\n"
        parts = re.fullmatch(r"paper (.*?);? we (.*?);? because (.*)", note.text)
        page += f"\nLine {note.line}\n"
        if parts is None:
            page += f": {note.text}\n"
            continue
        for lead, part in zip(("The paper", "We", "Because"), parts.groups(), strict=True):
            page += f": **{lead}** {part.rstrip('.;')}.\n"
    return page


def number(value: Any, metric: str = "kendall_tau") -> str:
    return formats.number(None if pd.isna(value) else value, metric)


def ours(line: Mapping[str, Any], metric: str = "kendall_tau") -> str:
    """Mean ± standard deviation over the seeds."""
    mean, std = line[f"{metric}_mean"], line[f"{metric}_std"]
    return number(mean, metric) if pd.isna(std) else f"{number(mean, metric)} ± {number(std, metric)}"


def comment(line: Mapping[str, Any], metric: str = "kendall_tau") -> str:
    """Our mean and its interval against the paper's figure, in words and numbers."""
    if not line["n_seeds"]:
        return "quoted only"
    seeds = f"{line['n_seeds']} seed" + "s" * (line["n_seeds"] > 1)
    if pd.isna(line["paper"]):
        return seeds
    gap = line[f"{metric}_mean"] - line["paper"]
    if line[f"{metric}_low"] <= line["paper"] <= line[f"{metric}_high"]:
        return f"{seeds}, the figure lies in the 95 % interval"
    return f"{seeds}, {number(abs(gap), metric)} {'above' if gap > 0 else 'below'}"


def markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def place_table(lines: pd.DataFrame) -> str:
    """Paper, ours, comment for one space and dataset; a setting equal in all rows has no column."""
    run, metric = lines[lines["n_seeds"] > 0], results.headline(lines)
    beside = [name for name in [results.HEADLINES[metric]] if f"{name}_mean" in lines]
    settings = ["profile", *(name for name in lines.columns if name not in SHOWN | STATISTICS)]
    fields = ["method", "n_train", "graph_form", *(name for name in settings if run[name].nunique(dropna=False) > 1)]
    rows = []
    for line in lines.to_dict("records"):
        row = ["–" if pd.isna(line[name]) else str(line[name]) for name in fields]
        row += [number(line["paper"], metric), ours(line, metric), *(ours(line, name) for name in beside)]
        rows.append([*row, comment(line, metric)])
    head = [name.replace("graph_form", "graph") for name in fields]
    others = [f"ours, {name.removeprefix('kendall_tau_').replace('_', ' ')}" for name in beside]
    return markdown([*head, "paper", "ours", *others, "comment"], rows)


def quoted_table(lines: pd.DataFrame) -> str:
    """Method, size and figure for a space and dataset without a run of ours."""
    rows = [[str(line["method"]), str(line["n_train"]), number(line["paper"]), str(line["paper_source"])]
            for line in lines.to_dict("records")]  # fmt: skip
    return markdown(["method", "n_train", "figure", "source"], rows)


def provenance(rows: pd.DataFrame) -> str:
    """Where the rows come from: table of labels, profiles, precisions, devices, versions, commits, hours."""
    said = ""
    for name in ("source", "profile", "protocol", "precision", "target_precision", "device", "version", "commit"):
        values = sorted(map(str, rows[name].dropna().unique())) if name in rows else []
        said += f"; {name} {', '.join(values[:4])}" if values else ""
        said += f" and {len(values) - 4} more" if len(values) > 4 else ""
    return f"{len(rows)} rows, {rows['seconds'].sum() / 3600:.1f} hours of training{said}.\n"


def reproduction_page(names: list[str], quoted_only: list[str]) -> str:
    """All recorded tables beside the paper's figures."""
    page = GENERATED + "# Paper and ours\n\n"
    page += (
        "Kendall tau over every architecture of the table that is not in the training set, mean ± standard "
        "deviation over seeds; *unseen* leaves out the test rows that are the same function as a training "
        "row ({term}`kendall_tau_unseen`); the comment says whether the paper's figure lies in the 95 % bootstrap "
        "interval of our mean, else how far our mean is from it. "
        "Of searches it is the validation accuracy of what was found, in percent, and its test accuracy. "
        "The numbers are the recorded rows in `data/results`; `hypernas table few_shot` prints them.\n"
    )
    for name in names:
        recorded = results.frame(name)
        page += f"\n## {name}\n"
        for (space, dataset), lines in results.table(name).groupby(["space", "dataset"]):
            of_place = recorded[(recorded["space"] == space) & (recorded["dataset"] == dataset)]
            if of_place.empty:
                body = ":::{dropdown} Quoted figures, without a run of ours\n" + quoted_table(lines) + ":::\n"
            else:
                body = place_table(lines) + "\n" + provenance(of_place)
            page += f"\n### {space}, {dataset}\n\n{body}"
    if quoted_only:
        page += (
            "\n## Elsewhere\n\nTables of the paper whose figures stand on pages of their own: "
            + ", ".join(quoted_only)
            + ".\n"
        )
    return page


def front_table(lines: pd.DataFrame) -> str:
    """The table of the front page: HyperNAS on NAS-Bench-201, CIFAR-10, the best graph form a line."""
    chosen = lines[
        (lines["space"] == "nasbench201") & (lines["dataset"] == "cifar10") & (lines["method"] == "hypernas")
    ]
    rows = []
    for n_train, group in chosen.groupby("n_train"):
        for line in group.sort_values("graph_form").to_dict("records"):
            form = "–" if pd.isna(line["graph_form"]) else str(line["graph_form"])
            rows.append([str(n_train), form, number(line["paper"]), ours(line), comment(line)])
    return GENERATED + markdown(["n_train", "graph", "paper", "ours", "comment"], rows)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "book", help="folder of the pages")
    output = parser.parse_args().output
    recorded = {path.stem for path in results.results_directory().glob("*.jsonl")} - {
        "bench"
    }  # times, on a page of its own
    quoted = pd.read_csv(ROOT / "data" / "paper.csv")
    names = sorted(recorded | {"few_shot"})
    write(output / "notes_paper.md", notes_page(list(notes(ROOT / "hypernas"))))
    others = sorted(set(quoted["table"]) - set(names))
    write(output / "reproduction.md", reproduction_page(names, others))
    try:
        front = front_table(results.table("few_shot"))
    except UserError:
        front = GENERATED + "No rows are recorded yet.\n"
    write(output / "_parts" / "front.md", front)


if __name__ == "__main__":
    main()
