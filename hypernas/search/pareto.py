"""Pareto fronts: the only place in the library that decides what dominates what."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Its multiples, modulo 1, fill an interval evenly however few of them are taken.
GOLDEN = (5**0.5 - 1) / 2


def pareto_front(*columns: np.ndarray | Sequence[float]) -> np.ndarray:
    """Return the indices of the rows that no other row dominates, sorted by the first column, largest first.

    Each of `columns` (n,) is an objective to maximise; negate a cost. A row dominates another if it is at least as good
    in every objective. Of equal rows, the first stays.

    >>> cost, accuracy = np.array([1.0, 2.0, 3.0, 3.0]), np.array([5.0, 4.0, 6.0, 7.0])
    >>> pareto_front(-cost, accuracy).tolist()
    [0, 3]
    """
    values = np.array(columns, float).T
    # Sorted by the first objective, then by the others: whatever beats a row stands before it.
    order = np.lexsort(-values.T[::-1])
    if values.shape[1] == 2:
        # Of two objectives a row need only be better in the second than all before it.
        second = values[order, 1]
        best = np.maximum.accumulate(second)
        best_before = np.concatenate([[-np.inf], best[:-1]])
        return order[second > best_before]
    front: list[int] = []
    for row in order.tolist():
        beaten = (values[front] >= values[row]).all(1)
        if not beaten.any():
            front.append(row)
    return np.array(front, int)


def by_front(values: np.ndarray) -> np.ndarray:
    """Return the indices (n,) of the rows of `values` (n, objectives), most promising first: front by front.

    The first few of a front are spread along it, so a batch covers all sizes evenly. Rows that are not finite come
    last.
    """
    finite = np.isfinite(values).all(1)
    left = np.flatnonzero(finite)
    last = np.flatnonzero(~finite)
    order: list[int] = []
    while len(left):
        front = pareto_front(*values[left].T)
        multiples = np.arange(len(front)) * GOLDEN
        spread = np.argsort(multiples % 1)
        rows = left[front[spread]]
        order += rows.tolist()
        left = np.delete(left, front)
    return np.array([*order, *last], int)
