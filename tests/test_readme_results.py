"""The README's table of results says what the recorded rows say."""

import re
from pathlib import Path

import pytest

from hypernas import results

ROOT = Path(__file__).parents[1]
LINE = re.compile(r"^\| (\d+) \| (.+) \|$", re.MULTILINE)
COLUMNS = ("np", "hypernas-p", "hypernas")


def lines() -> list[tuple[int, list[str]]]:
    text = (ROOT / "README.md").read_text().split("## What reproduces")[1].split("\n## ")[0]
    return [(int(n), cells.split(" | ")) for n, cells in LINE.findall(text)]


def test_the_table_has_lines():
    assert len(lines()) >= 3


@pytest.mark.parametrize(("n_train", "cells"), lines())
def test_every_figure_of_the_table_is_recorded(n_train: int, cells: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HYPERNAS_RESULTS", str(ROOT / "data" / "results"))
    rows = results.frame("few_shot").query(
        "space == 'nasbench201' and dataset == 'cifar10' and graph_form == 'contracted' and n_train == @n_train"
        " and profile == 'standard'"
    )
    paper = results.paper_figures("few_shot").query("space == 'nasbench201' and n_train == @n_train")
    for method, cell in zip(COLUMNS, cells, strict=False):
        tau = rows.loc[rows["method"] == method, "kendall_tau"]
        assert cell == (f"{tau.mean():.3f} ± {tau.std():.3f}" if len(tau) else "–")
    for method, cell in zip(("np", "hypernas"), cells[3:], strict=True):
        quoted = paper.loc[(paper["method"] == method) & (paper["dataset"] == "cifar10"), "paper"]
        assert cell == (f"{quoted.iloc[0]:.3f}" if len(quoted) else "–")
