"""Costs are ratios of runs in turn; these tests are about what is counted, never about how long it took."""

import time

import pytest
import torch

from hypernas import costs
from hypernas.errors import UserError


def test_a_ratio_is_slow_over_fast():
    found = costs.paired_ratio(lambda: time.sleep(0.05), lambda: None, pairs=3)
    assert found["low"] <= found["ratio"] <= found["high"]
    assert found["slow_seconds"] >= 0.05
    assert found["ratio"] > 1


def test_no_pairs_is_a_mistake():
    with pytest.raises(UserError, match="pairs must be at least 1, got 0"):
        costs.paired_ratio(lambda: None, lambda: None, pairs=0)


def test_flop_count_real_nodes_alone():
    graphs = costs.sampled("nasbench201", 5)
    trimmed = costs.encoder_flop(graphs.trimmed())
    nodes = sum(len(a.cells[u].ops) for a in (graphs.architecture(i) for i in range(len(graphs))) for u in a.sequence)
    assert costs.encoder_flop(graphs) == trimmed == nodes * 6 * 2 * 2 * 72 * 72


def test_flop_grow_with_layers_and_width_as_the_products_do():
    graphs = costs.sampled("nasbench201", 3)
    assert costs.encoder_flop(graphs, n_layers=12) == 2 * costs.encoder_flop(graphs)
    assert costs.encoder_flop(graphs, width=144) == 4 * costs.encoder_flop(graphs)


def test_sampled_architectures_are_the_same_for_the_same_seed():
    a, b, c = (costs.sampled("nasbench201", 4, seed) for seed in (1, 1, 2))
    assert torch.equal(a.ops, b.ops)
    assert a.ops.shape != c.ops.shape or not torch.equal(a.ops, c.ops)


def test_scoring_reports_the_rate_it_measured():
    found = costs.scoring(costs.sampled("nasbench201", 30))
    assert found["per_second"] == pytest.approx(30 / found["seconds"])
    assert found["over_paper"] == pytest.approx(found["per_second"] * 0.014)


def test_both_engines_and_all_methods_can_be_timed():
    found = costs.training_ratio(n=2, pairs=1)
    assert found["milliseconds_per_architecture"] == pytest.approx(500 * found["fast_seconds"])
    graphs = costs.sampled("nasbench201", 6)
    assert costs.latency("np", graphs, repeats=2) > 0
