"""Every recorded row is found by its key, whatever the classes of the library look like today."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from hypernas.lab.experiment import Experiment
from hypernas.lab.rows import row_key
from hypernas.lab.search_experiment import Search

RESULTS = Path(__file__).parents[1] / "data" / "results"
NAMES = {field.name for field in fields(Experiment)}
# Rows of NAS-Bench-101 from before its networks had a default width of their own: found only by what they say.
BEFORE_A_DEFAULT = {"channels", "image_batch"}


def recorded(file):
    """The rows of experiments and searches; measurements of speed and of proxies have keys of another making."""
    rows = [json.loads(line) for line in (RESULTS / file).read_text().splitlines() if line.strip()]
    return [row for row in rows if ("queries" in row or "kendall_tau_unseen" in row) and row.get("n_train")]


def asked_again(row):
    """The experiment that a row answers, as a command would ask for it today."""
    kind = Search if "queries" in row else Experiment
    return kind(**{name: row[name] for name in NAMES})


@pytest.mark.parametrize("table", ["auxiliary_data", "encoder", "few_shot", "precision", "preference", "search"])
def test_every_recorded_row_is_found_by_its_key(table):
    rows = recorded(f"{table}.jsonl")
    assert rows
    lost = []
    for row in rows:
        again = asked_again(row).resolved()
        added = {name for name in again.settings if name not in row["settings"]}
        if row["space"] == "nasbench101" and added and added <= BEFORE_A_DEFAULT:
            continue
        if again.key() != row_key(row):
            lost.append((row["method"], row["settings"]))
    assert lost == []
