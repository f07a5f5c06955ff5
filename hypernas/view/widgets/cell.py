"""The cell view: an architecture as a sequence of cells, one of which is shown as a layered graph."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from hypernas.view.widgets.view import View, WrongInput

# Without these nothing can be drawn; notation, title and details are extras.
NEEDED = ("operations", "cells", "sequence")


def checked_drawing(drawing: Any) -> dict[str, Any]:
    """Return `drawing`. Raise WrongInput, with the rule, the value and what to do, if it cannot be drawn."""
    rule = f"a drawing must have {', '.join(NEEDED)}"
    if not isinstance(drawing, Mapping):
        raise WrongInput(f"{rule}, got {type(drawing).__name__}; hypernas.view.drawings makes one")
    if not drawing.keys() >= set(NEEDED):
        got = ", ".join(map(str, drawing)) or "an empty one"
        raise WrongInput(f"{rule}, got {got}; hypernas.view.drawings makes one")
    cells = drawing["cells"]
    sequence = list(drawing["sequence"])
    numbers = range(len(cells))
    if not sequence or any(u not in numbers for u in sequence):
        raise WrongInput(f"a sequence must name the {len(cells)} cells at least once, got {sequence}")
    for cell in cells:
        _check_cell(cell, drawing["operations"])
    return dict(drawing)


def _check_cell(cell: Mapping[str, Any], operations: Mapping[str, str]) -> None:
    """Raise WrongInput for an unknown operation, a node without a place or an edge that does not go forward."""
    for op in cell["ops"]:
        if op not in operations:
            raise WrongInput(f"an operation must be one of {', '.join(operations)}, got {op!r}")
    n = len(cell["ops"])
    places = len(cell["position"])
    if places != n or not n:
        raise WrongInput(f"every node of a cell must have a position, got {places} for {n} nodes")
    # An edge may have a count and places that it passes behind its two ends.
    for start, end, *_ in cell["edges"]:
        if not 0 <= start < end < n:
            raise WrongInput(f"an edge must go from a node to a later one of the {n}, got {start} -> {end}")


class CellView(View):
    """One drawing, or several to choose from by `title`.

    A drawing is a dict: `operations` (name -> colour), `cells` (each with `kind`, `ops`, `position`, `edges`),
    `sequence`, and optionally `notation`, `title`, `details`. For bad input, the view shows an error in one sentence.
    """

    def __init__(self, drawings: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
        several = [drawings] if isinstance(drawings, Mapping) else drawings
        try:
            if isinstance(several, str) or not isinstance(several, Sequence):
                raise WrongInput(f"a cell view needs a drawing or a list of drawings, got {type(drawings).__name__}")
            if not several:
                raise WrongInput("a cell view needs at least one drawing, got none")
            checked = [checked_drawing(drawing) for drawing in several]
            data: dict[str, Any] = {"kind": "cell", "drawings": checked}
        except WrongInput as error:
            data = {"kind": "cell", "sentence": f"Nothing to draw: {error}."}
        super().__init__(data=data)

    def instead(self) -> str:
        lines = []
        for drawing in self.data.get("drawings", []):
            notation = drawing.get("notation")
            if notation:
                lines.append(f"<code>{html.escape(notation)}</code>")
        return "<br>".join(lines) or super().instead()
