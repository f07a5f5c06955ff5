"""Pareto fronts: the one place of the library that says what beats what."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Its multiples, modulo 1, fill an interval evenly however few of them are taken.
GOLDEN = (5**0.5 - 1) / 2


def pareto_front(*columns: np.ndarray | Sequence[float]) -> np.ndarray:
    """Indices of the rows that no other row beats, in order of the first column, the largest first.

    Each of `columns` (n,) is an objective, the larger the better: negate a cost. A row beats another where it is at
    least as good in every objective; of equal rows the first stays.

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
    """Rows of `values` (n, objectives), the most promising first -> indices (n,): front after front.

    The first few of a front lie all along it, so that a batch holds all sizes alike. What is not finite comes last.
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
