"""Costs are ratios of runs in turn; these tests are about what is counted, never about how long it took."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hypernas import predictors, spaces
from hypernas.errors import UserError
from hypernas.graph import collate
from hypernas.lab import costs, timing, training_costs
from hypernas.lab.rows import Results
from hypernas.method.encoder import GlobalEncoder
from hypernas.spaces.programs import count

WAYS = ("forward", "backward")


def test_a_ratio_is_slow_over_fast(monkeypatch):
    """The middle of 8 / 2, 9 / 1 and 6 / 3, in turn."""
    clock = iter([8.0, 2.0, 9.0, 1.0, 6.0, 3.0])
    monkeypatch.setattr(timing, "seconds_of", lambda work: next(clock))
    assert timing.paired_ratio(lambda: None, lambda: None, pairs=3) == 4


def test_no_pairs_is_a_mistake():
    with pytest.raises(UserError, match="pairs must be at least 1, got 0"):
        timing.paired_ratio(lambda: None, lambda: None, pairs=0)


def test_flop_count_every_node_of_every_position_once_and_no_padding(architecture):
    """Cells of 3 and 2 nodes stand four times in all: 11 nodes, 12 products of (1 x 72) and (72 x 72) each."""
    graphs = collate([architecture((0, 0, 1, 0), (3, 2))])
    by_hand = 1_368_576.0
    assert costs.encoder_flop(graphs) == by_hand
    longer = collate([architecture((0, 0, 1, 0), (3, 2)), architecture((0,) * 9, (8, 4))])
    assert costs.encoder_flop(longer[:1]) == by_hand


def test_flop_are_those_that_the_encoder_s_own_products_take(architecture):
    """Counted while it runs: products with the weights, and those with the edges, which the estimate leaves out."""
    graphs = collate([architecture((0, 0), (5, 5))])
    encoder = GlobalEncoder(5, n_layers=2, width=16)
    with FlopCounterMode(display=False) as counted:
        encoder.gcn[0][0](torch.zeros(1, 5, 16), torch.zeros(2, 1, 5, 5))
    edges = 2 * (2 * 5 * 5 * 16)
    assert costs.encoder_flop(graphs, n_layers=2, width=16) == 2 * 2 * (counted.get_total_flops() - edges)


def test_flop_grow_with_layers_and_width_as_the_products_do():
    graphs = costs.sampled("nasbench201", 3)
    assert costs.encoder_flop(graphs, n_layers=12) == 2 * costs.encoder_flop(graphs)
    assert costs.encoder_flop(graphs, width=144) == 4 * costs.encoder_flop(graphs)


def test_sampled_architectures_are_the_same_for_the_same_seed():
    a, b, c = (costs.sampled("nasbench201", 4, seed) for seed in (1, 1, 2))
    assert torch.equal(a.ops, b.ops)
    assert a.ops.shape != c.ops.shape or not torch.equal(a.ops, c.ops)


def test_scoring_is_told_by_the_second_and_against_the_paper_s_14_ms(monkeypatch):
    """30 architectures in two seconds are 15 a second; one in 14 ms, as in Table 11, would be 71.4."""
    monkeypatch.setattr(costs, "seconds_of", lambda work: work() is None or 2.0)
    monkeypatch.setattr(costs, "sgemm_rate", lambda device: 1e9)
    graphs = costs.sampled("nasbench201", 30)
    rates = costs.scoring(graphs)
    assert rates["per_second"] == 15
    assert rates["over_paper"] == pytest.approx(0.21)
    assert rates["sgemm_share"] == pytest.approx(costs.encoder_flop(graphs) / 2 / 1e9)


def test_a_training_is_told_as_the_plain_loop_over_the_fast_pass(monkeypatch):
    """A clock that runs as each engine says: 8 s for the plain loop, 2 s for the fast pass."""
    monkeypatch.setattr(training_costs, "epoch", lambda *given, engine, **settings: engine)
    monkeypatch.setattr(timing, "seconds_of", {"plain": 8.0, "fast": 2.0}.__getitem__)
    assert training_costs.training_ratio(n=4, pairs=3) == 4


def test_both_engines_and_all_methods_can_be_timed():
    assert training_costs.training_ratio(n=2, pairs=1) > 1
    graphs = costs.sampled("nasbench201", 6)
    assert costs.latency("np", graphs, repeats=2) > 0


def test_two_orders_of_summation_agree_as_far_as_a_last_bit_matters():
    found = training_costs.agreement(4, epochs=1, nudges=1)
    assert found["fast_and_plain"] > 0.999
    assert found["fast_and_plain_float64"] > 0.999
    assert torch.get_default_dtype() == torch.float32
    assert 0.999 < found["rounding"] <= 1
    graphs, _ = training_costs._training_set(3)
    models = []
    for kind in (training_costs.HyperNAS, training_costs.Nudged):
        torch.manual_seed(3)
        models.append(kind().new_model(graphs))
    there, here = models
    for a, b in zip(there.parameters(), here.parameters(), strict=True):
        assert torch.all(a != b)
        torch.testing.assert_close(a, b, rtol=2e-7, atol=1e-44)


def test_a_peak_counts_what_is_given_back_before_the_end():
    held = timing.peak_memory(lambda: torch.ones(16, 1 << 20).sum())
    assert held >= 0.9 * 4 * 16 * (1 << 20)


def test_without_the_system_s_count_the_peak_is_not_a_number(monkeypatch, tmp_path):
    monkeypatch.setattr(timing, "PROCESS", tmp_path / "absent")
    done = []
    assert timing.peak_memory(lambda: done.append(1)) != timing.peak_memory(lambda: done.append(2))
    assert done == [1, 2]


def test_parts_of_a_step_are_all_there():
    found = training_costs.parts(n=3, repeats=1, image_batch=8)
    ways = [f"{part}, {way}" for part in ("encoder", "weight generation", "target networks") for way in WAYS]
    assert sorted(found) == sorted([*ways, "plan of the networks"])
    assert min(found.values()) > 0


# The cell with the most weights: a 3 x 3 convolution on every edge.
LARGEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"


def test_the_model_does_not_grow_with_the_target_network():
    space, models, targets = spaces.get("nasbench201"), [], []
    graphs = collate([space.canonical(space.parse(LARGEST))], space)
    for channels in (4, 8):
        method = predictors.get("hypernas")(channels=channels, c_max=4, cells_per_stage=5)
        (program,) = method.programs(graphs)
        targets.append(count(program, (1, 8, 8), 10)[0])
        models.append(sum(p.numel() for p in method.new_model(graphs).parameters()))
    assert models[1] - models[0] < 5000
    assert targets[1] > 3 * targets[0]


def test_a_bench_of_one_part_is_recorded_beside_that_of_all(monkeypatch, tmp_path):
    monkeypatch.setenv("HYPERNAS_RESULTS", str(tmp_path))
    parts = {"training": lambda *asked: {"training_fast_over_plain": 7.0}, "scoring": lambda *asked: {"scoring_x": 1.0}}
    monkeypatch.setattr(costs, "PARTS", parts)
    everything, scoring = costs.bench(2, 1), costs.bench(2, 1, part="scoring")
    assert {*everything} - {*scoring} == {"training_fast_over_plain"}
    costs.record(everything, 2, 1, "cpu")
    costs.record(scoring, 2, 1, "cpu", "scoring")
    costs.record(scoring, 2, 1, "cpu", "scoring")
    rows = Results.of("bench").rows()
    assert [row["settings"].get("part") for row in rows] == [None, "scoring"]
    assert rows[0]["training_fast_over_plain"] == 7
    assert rows[0]["settings"]["machine"] == rows[0]["device"]


def test_a_longer_fast_run_is_counted_by_the_epoch(monkeypatch):
    """On a GPU the fast pass takes many epochs, and the ratio is that of one."""
    taken = []
    monkeypatch.setattr(training_costs, "epoch", lambda *asked, **settings: taken.append(settings) or (lambda: None))
    monkeypatch.setattr(training_costs, "paired_ratio", lambda slow, fast, pairs: 2.0)
    on_cpu, on_gpu = (training_costs.training_ratio(4, 1, device=device) for device in ("cpu", "cuda"))
    assert [settings.get("epochs", 1) for settings in taken] == [1, 1, 1, training_costs.EPOCHS_OF_A_RECORD]
    assert on_gpu == on_cpu * training_costs.EPOCHS_OF_A_RECORD


def test_a_device_that_is_not_there_is_a_mistake_before_anything_is_measured(monkeypatch):
    monkeypatch.setattr(costs, "PARTS", {"training": pytest.fail, "scoring": pytest.fail})
    for device in ("foo", "cuda:99"):
        with pytest.raises(UserError, match=f"device must be one that this machine has .*, got '{device}'"):
            costs.bench(2, 1, device)
