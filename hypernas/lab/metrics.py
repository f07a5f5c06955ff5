"""Rank correlations, regret and Student's t intervals, on plain numbers."""

from __future__ import annotations

import numpy as np

# SciPy loads `scipy.stats`, a second and a half of every command, when it is first asked for.
import scipy
from numpy.typing import ArrayLike

from hypernas.errors import UserError

# Values that differ by less, relative to their size, are one value written twice.
ROUNDING = 1e-9


def _values(values: ArrayLike, name: str) -> np.ndarray:
    """Return `values` as a finite (n,) float64 array. Raises UserError where they are not."""
    if hasattr(values, "detach"):
        # A tensor may lie on a GPU or carry a gradient, and NumPy takes neither.
        values = values.detach().cpu().numpy()
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise UserError(f"{name} must have one axis, got shape {array.shape}: flatten it first")
    if len(array) < 2:
        raise UserError(f"{name} must hold at least 2 values, got {len(array)}: give more")
    finite = np.isfinite(array)
    if not finite.all():
        bad = len(array) - np.count_nonzero(finite)
        raise UserError(f"{name} must be finite, got {bad} NaN or infinite of {len(array)}: leave these out")
    return array


def _pair(
    a: ArrayLike,
    b: ArrayLike,
    names: tuple[str, str] = ("a", "b"),
) -> tuple[np.ndarray, np.ndarray]:
    """Return two finite float64 arrays of the same length (n,). Raises UserError otherwise."""
    first = _values(a, names[0])
    second = _values(b, names[1])
    if len(first) != len(second):
        rule = f"{' and '.join(names)} must have the same length"
        got = f"got {len(first)} and {len(second)}"
        raise UserError(f"{rule}, {got}: give one value of each for every architecture")
    return first, second


def _constant(values: np.ndarray) -> bool:
    return bool(np.ptp(values) == 0)


def kendall_tau(a: ArrayLike, b: ArrayLike) -> float:
    """Return Kendall's tau-b of a (n,) and b (n,), accounting for ties, in O(n log n).

    If one side is constant, no pair is ordered and tau is 0.

    >>> round(kendall_tau([1, 2, 3, 4], [1, 2, 4, 3]), 6)
    0.666667
    """
    first, second = _pair(a, b)
    if _constant(first) or _constant(second):
        return 0.0
    # Nobody reads the p-value here. The exact one takes O(n^2), and the other divides by zero where n is 2.
    method = "exact" if len(first) == 2 else "asymptotic"
    result = scipy.stats.kendalltau(first, second, variant="b", method=method)
    return float(result.statistic)


def spearman_rho(a: ArrayLike, b: ArrayLike) -> float:
    """Return Spearman's rho of a (n,) and b (n,) with mean ranks for ties; 0 if one side is constant.

    >>> round(spearman_rho([1, 2, 3, 4], [1, 2, 4, 3]), 6)
    0.8
    """
    first, second = _pair(a, b)
    if _constant(first) or _constant(second):
        return 0.0
    ranks = scipy.stats.rankdata(first), scipy.stats.rankdata(second)
    return float(np.corrcoef(*ranks)[0, 1])


def regret(
    predicted: ArrayLike,
    true: ArrayLike,
    k: int = 1,
) -> float:
    """Return the best of `true` minus the best of `true` among the k highest predictions, in the units of `true`.

    predicted (n,), true (n,) -> float >= 0; equal predictions keep their order.
    """
    guess, truth = _pair(predicted, true, ("predicted", "true"))
    n = len(guess)
    if not 1 <= k <= n:
        raise UserError(f"k must be from 1 to {n}, the number of architectures, got {k}")
    order = np.argsort(-guess, kind="stable")
    best = truth[order[:k]].max()
    return float(truth.max() - best)


def student_interval(values: ArrayLike) -> tuple[float, float]:
    """Return Student's 95 % t interval (low, high) for the mean of `values` (m,), in their units.

    It is exact for any number of normal values; a percentile bootstrap of three to ten values is too narrow. NaN if
    there is no spread: for fewer than two values, and for equal values.

    >>> low, high = student_interval([0.01, 0.02, 0.03])
    >>> round(low, 3), round(high, 3)
    (-0.005, 0.045)
    """
    if len(np.atleast_1d(values)) < 2:
        return np.nan, np.nan
    sample = _values(values, "values")
    # Differences of equal parameter counts or of runs that all found the best cell: rounding is not a spread.
    largest = float(np.abs(sample).max())
    smallest_spread = ROUNDING * max(1.0, largest)
    if np.ptp(sample) <= smallest_spread:
        return np.nan, np.nan
    low, high = scipy.stats.t.interval(0.95, len(sample) - 1, sample.mean(), scipy.stats.sem(sample))
    return float(low), float(high)


def paired_difference(a: ArrayLike, b: ArrayLike) -> tuple[float, float, float]:
    """Return (mean, low, high) of a - b over paired runs (m,), (m,), with the 95 % Student's t interval."""
    first, second = _pair(a, b)
    difference = first - second
    low, high = student_interval(difference)
    return float(difference.mean()), low, high
