"""How well a table's own training labels rank its test accuracies, which is the most one can ask of a predictor.

The numbers are stored in `ceilings.toml`, because not every reader has the tables; a test recomputes them.
"""

from __future__ import annotations

from functools import cache

from hypernas.training.files import toml_beside


@cache
def ceilings() -> dict[str, dict[str, float]]:
    """Return space -> dataset -> Kendall tau between training labels and test accuracies, over all labelled rows.

    Tables whose labels are their test accuracies are left out: their ceiling is 1.
    """
    return toml_beside(__file__, "ceilings.toml")


def ceiling(space: str, dataset: str) -> float | None:
    """Return the ceiling of a table, or None if it is unknown."""
    return ceilings().get(space, {}).get(dataset)
