"""How well a table's own training labels rank its test accuracies: no predictor of those labels can be asked for more.

The numbers are kept in `ceilings.toml`, since not every reader has the tables; a test computes them anew.
"""

from __future__ import annotations

from functools import cache

from hypernas.training.files import toml_beside


@cache
def ceilings() -> dict[str, dict[str, float]]:
    """space -> dataset -> Kendall tau between the training labels and the test accuracies, over all labelled rows.

    Tables whose labels are their test accuracies have none: there it is 1.
    """
    return toml_beside(__file__, "ceilings.toml")


def ceiling(space: str, dataset: str) -> float | None:
    """The ceiling of a table, None where none is known."""
    return ceilings().get(space, {}).get(dataset)
