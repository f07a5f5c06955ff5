"""Build a cell of NAS-Bench-201 by clicks, and see its three graph forms, its accuracy and its predicted ranks."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence

import numpy as np

from hypernas.view.widgets.view import View, WrongInput

# A place fits in 16 bits; a table of more cells than that is none that a page could hold.
MOST_PLACES = 2**16
# Steps of an accuracy in a percentage point: as fine as 16 bits allow up to 100 %.
STEPS = 500


def packed(numbers: np.ndarray) -> str:
    """Encode whole numbers below 65,536 as base64 of two bytes each, little-endian; `js/6_builder.js` decodes them."""
    return b64encode(np.asarray(numbers).astype("<u2").tobytes()).decode()


def places(scores: np.ndarray) -> np.ndarray:
    """Return the rank of each score, 1 for the highest; equal scores share the best of their ranks.

    >>> places(np.array([0.2, 0.9, 0.9, 0.5])).tolist()
    [4, 1, 1, 3]
    """
    ascending = np.sort(-np.asarray(scores))
    return 1 + np.searchsorted(ascending, -np.asarray(scores), side="left")


class CellBuilder(View):
    """All cells of a space with six edges, each identified by the operations on its edges.

    `edge_ops` (B, E) are the names of operations, one row a cell; `accuracy` (B,) is in percent; `functions` (B,) is
    equal for cells that compute the same function; `predicted` has each predictor's scores (B,), equal for equal
    functions. `operations` are all names with their colours, `edges` the ends of each edge, `first` the initial cell.
    """

    def __init__(
        self,
        edge_ops: np.ndarray,
        accuracy: np.ndarray,
        functions: np.ndarray,
        predicted: Mapping[str, np.ndarray],
        operations: Mapping[str, str],
        edges: Sequence[tuple[int, int]],
        first: Sequence[str] = (),
    ) -> None:
        choices = sorted(set(edge_ops.flat), key=list(operations).index)
        try:
            order = self._in_order(edge_ops, choices)
        except WrongInput as error:
            super().__init__(data={"kind": "builder", "sentence": f"Nothing to build: {error}."})
            return
        # A function is named by the place of its first cell in a list of all functions.
        _, first_cell, function = np.unique(functions[order], return_index=True, return_inverse=True)
        methods = []
        for name, scores in predicted.items():
            of_cells = places(np.asarray(scores)[order])
            methods.append({"name": name, "places": packed(of_cells[first_cell])})
        data = {
            "kind": "builder",
            "choices": choices,
            "operations": dict(operations),
            "edges": [list(edge) for edge in edges],
            "first": list(first) or edge_ops[order[0]].tolist(),
            "truth": packed(np.round(accuracy[order] * STEPS)),
            "steps": STEPS,
            "functions": packed(function),
            "methods": methods,
        }
        super().__init__(data=data)

    @staticmethod
    def _in_order(edge_ops: np.ndarray, choices: Sequence[str]) -> np.ndarray:
        """The rows in the order of their codes, of which the first edge is the highest digit."""
        digits = np.vectorize(list(choices).index)(edge_ops)
        codes = np.ravel_multi_index(tuple(digits.T), (len(choices),) * edge_ops.shape[1])
        n = len(choices) ** edge_ops.shape[1]
        if n >= MOST_PLACES or not np.array_equal(np.sort(codes), np.arange(n)):
            raise WrongInput(f"each of the {n:,} cells must be there once, got {len(codes):,}")
        return np.argsort(codes)
