"""Claims about hypernas.lab.metrics."""

import numpy as np
import pytest

from hypernas.errors import UserError
from hypernas.lab import metrics


def slow_tau_b(a, b):
    concordant = discordant = ties_a = ties_b = 0
    for i in range(len(a)):
        for j in range(i):
            x, y = np.sign(a[i] - a[j]), np.sign(b[i] - b[j])
            concordant += x * y > 0
            discordant += x * y < 0
            ties_a += x == 0
            ties_b += y == 0
    pairs = len(a) * (len(a) - 1) / 2
    return (concordant - discordant) / np.sqrt((pairs - ties_a) * (pairs - ties_b))


def test_kendall_tau_equals_counting_every_pair():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 12, 60), rng.integers(0, 9, 60)
    assert metrics.kendall_tau(a, b) == pytest.approx(slow_tau_b(a, b), abs=1e-12)
    assert (metrics.kendall_tau([1, 2], [3, 4]), metrics.kendall_tau([1, 2], [4, 3])) == (1, -1)


@pytest.mark.parametrize("measure", [metrics.kendall_tau, metrics.spearman_rho])
def test_rank_correlations_see_only_the_order(measure):
    a = np.random.default_rng(1).normal(size=40)
    assert measure(a, np.exp(a)) == pytest.approx(1)
    assert measure(a, -a) == pytest.approx(-1)


@pytest.mark.parametrize("measure", [metrics.kendall_tau, metrics.spearman_rho])
def test_a_constant_prediction_ranks_nothing(measure):
    assert measure([5.0, 5.0, 5.0], [1.0, 2.0, 3.0]) == 0


def test_spearman_rho_counts_ties_at_their_mean_rank():
    assert metrics.spearman_rho([1, 1, 2, 3], [1, 2, 3, 4]) == pytest.approx(0.9486833)


def test_kendall_tau_of_a_whole_benchmark_is_quick():
    a = np.random.default_rng(2).normal(size=400_000)
    assert metrics.kendall_tau(a, a) == pytest.approx(1)


def test_regret_is_what_the_best_k_guesses_miss():
    predicted, true = [0.9, 0.5, 0.1], [90.0, 94.0, 95.0]
    assert [metrics.regret(predicted, true, k) for k in (1, 2, 3)] == [5.0, 1.0, 0.0]


def test_students_interval_covers_the_mean_as_often_as_it_says():
    """Of five normal values, where a percentile bootstrap covers it 83 times in a hundred."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        low, high = metrics.student_interval(rng.normal(size=5))
        covered += low <= 0 <= high
    assert 0.93 < covered / 2000 < 0.97


def test_there_is_no_interval_of_one_value_or_of_a_constant():
    assert np.isnan(metrics.student_interval([0.7])).all()
    assert np.isnan(metrics.student_interval([10440.0] * 5)).all()


def test_a_paired_difference_removes_what_the_runs_share():
    shared = np.linspace(0, 10, 20)
    gain = np.tile([0.4, 0.6], 10)
    mean, low, high = metrics.paired_difference(shared + gain, shared)
    assert mean == pytest.approx(0.5)
    assert 0.44 < low < 0.5 < high < 0.56


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ([1.0, np.nan], [1.0, 2.0], "a must be finite, got 1 NaN"),
        ([1.0, 2.0], [1.0, np.inf], "b must be finite"),
        ([1.0, 2.0], [1.0, 2.0, 3.0], "same length, got 2 and 3"),
        ([1.0], [1.0], "at least 2 values, got 1"),
        ([], [], "at least 2 values, got 0"),
        ([[1.0, 2.0]], [1.0, 2.0], "one axis"),
    ],
)
@pytest.mark.parametrize("measure", [metrics.kendall_tau, metrics.spearman_rho, metrics.paired_difference])
def test_bad_numbers_are_a_user_error(measure, a, b, words):
    with pytest.raises(UserError, match=words):
        measure(a, b)


def test_regret_and_intervals_name_the_bad_setting():
    with pytest.raises(UserError, match="k must be from 1 to 2, the number of architectures, got 3"):
        metrics.regret([1, 2], [1, 2], k=3)
