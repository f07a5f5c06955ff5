"""The cell view: an architecture as a sequence of cells, one of them a layered graph."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from hypernas.view.widgets.view import View, WrongInput

NEEDED = ("operations", "cells", "sequence")


def checked_drawing(drawing: Any) -> dict[str, Any]:
    """`drawing`, if it can be drawn. Raises WrongInput with the rule, the value and what to do."""
    if not isinstance(drawing, Mapping) or any(name not in drawing for name in NEEDED):
        got = ", ".join(map(str, drawing)) if isinstance(drawing, Mapping) else type(drawing).__name__
        raise WrongInput(
            f"a drawing must have {', '.join(NEEDED)}, got {got or 'an empty one'}; hypernas.view.drawings makes one"
        )
    cells, sequence = drawing["cells"], list(drawing["sequence"])
    if not sequence or any(not 0 <= u < len(cells) for u in sequence):
        raise WrongInput(f"a sequence must name the {len(cells)} cells at least once, got {sequence}")
    for cell in cells:
        unknown = [op for op in cell["ops"] if op not in drawing["operations"]]
        if unknown:
            raise WrongInput(f"an operation must be one of {', '.join(drawing['operations'])}, got {unknown[0]!r}")
        n = len(cell["ops"])
        if len(cell["position"]) != n or not n:
            raise WrongInput(f"every node of a cell must have a position, got {len(cell['position'])} for {n} nodes")
        wrong = [edge[:2] for edge in cell["edges"] if not 0 <= edge[0] < edge[1] < n]
        if wrong:
            raise WrongInput(
                f"an edge must go from a node to a later one of the {n}, got {wrong[0][0]} -> {wrong[0][1]}"
            )
    return dict(drawing)


class CellView(View):
    """One drawing, or several to choose from by their `title`.

    A drawing is a dict: `operations` (name -> colour), `cells` (each `kind`, `ops`, `position`, `edges`), `sequence`,
    and where known `notation`, `title`, `details`. Bad input shows a sentence in place of the view.
    """

    def __init__(self, drawings: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
        several = [drawings] if isinstance(drawings, Mapping) else drawings
        try:
            if isinstance(several, str) or not isinstance(several, Sequence):
                raise WrongInput(f"a cell view needs a drawing or a list of drawings, got {type(drawings).__name__}")
            if not several:
                raise WrongInput("a cell view needs at least one drawing, got none")
            data: dict[str, Any] = {"kind": "cell", "drawings": [checked_drawing(each) for each in several]}
        except WrongInput as error:
            data = {"kind": "cell", "sentence": f"Nothing to draw: {error}."}
        super().__init__(data=data)

    def instead(self) -> str:
        drawings = self.data.get("drawings", [])
        lines = [f"<code>{html.escape(d['notation'])}</code>" for d in drawings if d.get("notation")]
        return "<br>".join(lines) or super().instead()
