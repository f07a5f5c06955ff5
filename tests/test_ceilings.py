"""The noise ceiling of a table: what its own training labels reach."""

import os

import numpy as np
import pytest

from hypernas.lab.benchmark import Benchmark
from hypernas.lab.ceilings import ceiling, ceilings
from hypernas.lab.metrics import kendall_tau


@pytest.mark.parametrize("space", ceilings())
def test_a_kept_ceiling_is_what_the_official_table_gives(space):
    if "HYPERNAS_DATA" not in os.environ:
        pytest.skip("the official tables are not present: set HYPERNAS_DATA")
    for dataset in ceilings()[space]:
        benchmark = Benchmark(space, dataset)
        labels, truth = benchmark.validation.numpy(), benchmark.test.numpy()
        known = np.isfinite(labels) & np.isfinite(truth)
        assert ceiling(space, dataset) == pytest.approx(kendall_tau(labels[known], truth[known]), abs=1e-4)


def test_where_labels_are_the_test_accuracies_no_ceiling_is_said():
    assert ceiling("mobilenetv3", "imagenet") is None
    assert set(ceilings()) == {"nasbench101", "nasbench201"}
