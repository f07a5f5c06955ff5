"""Pareto fronts."""

from __future__ import annotations

import numpy as np


def pareto_front(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Indices of the rows that no other row beats, x the smaller and y the larger the better, in order of x.

    >>> pareto_front(np.array([1.0, 2.0, 3.0, 3.0]), np.array([5.0, 4.0, 6.0, 7.0])).tolist()
    [0, 3]
    """
    order = np.lexsort((-y, x))
    before = np.maximum.accumulate(np.concatenate([[-np.inf], y[order]]))[:-1]
    return order[y[order] > before]
