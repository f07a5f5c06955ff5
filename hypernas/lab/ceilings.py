"""How well a table's own training labels rank its test accuracies: no predictor of those labels can be asked for more.

The numbers are kept in `ceilings.toml`, since not every reader has the tables; `python -m hypernas.lab.ceilings`
computes those of the tables that are present.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

import numpy as np

from hypernas.errors import MissingTable
from hypernas.lab.benchmark import Benchmark
from hypernas.lab.metrics import kendall_tau

FILE = Path(__file__).with_name("ceilings.toml")
# Tables whose labels are another measurement than their test accuracies; where both are one the ceiling is 1.
TABLES = (("nasbench101", "cifar10"), ("nasbench201", "cifar10"))


@cache
def ceilings() -> dict[str, dict[str, float]]:
    """space -> dataset -> Kendall tau between the training labels and the test accuracies, over all labelled rows."""
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def ceiling(space: str, dataset: str) -> float | None:
    """The ceiling of a table, None where none is known."""
    return ceilings().get(space, {}).get(dataset)


def computed(space: str, dataset: str) -> float:
    """The same from the table itself. Raises MissingTable where it is not present."""
    benchmark = Benchmark(space, dataset)
    if benchmark.table.kind == "re-trained":
        raise MissingTable(f"the ceiling of {space} needs the official table, got {benchmark.table.source}")
    labels = benchmark.validation.numpy()
    truth = benchmark.test.numpy()
    known = np.isfinite(labels) & np.isfinite(truth)
    return kendall_tau(labels[known], truth[known])


def main() -> None:
    text = "# Written by `python -m hypernas.lab.ceilings` from the official tables.\n"
    for space, dataset in TABLES:
        text += f"\n[{space}]\n{dataset} = {computed(space, dataset):.4f}\n"
    FILE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
