"""Claims about MobileNetV3: counts are those of the published networks, notations invert, wrong input is explained."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from doubles import present
from torch import nn

from hypernas import spaces
from hypernas.errors import UserError
from hypernas.graph import GraphBatch, collate
from hypernas.lab.metrics import kendall_tau
from hypernas.predictors.hypernas import HyperNAS
from hypernas.spaces import mobilenetv3
from hypernas.spaces.programs import map_sizes

SPACE = spaces.get("mobilenetv3")
FULL = {"ks": [7] * 20, "e": [6] * 20, "d": [4] * 5}


@pytest.fixture(scope="module")
def table():
    return present(SPACE, "imagenet")


def rows_of(table, rows):
    return [{name: table.columns[name][row].tolist() for name in ("ks", "e", "d")} for row in rows]


class Gate(nn.Module):
    def __init__(self, c, between):
        super().__init__()
        self.two = nn.Sequential(nn.Conv2d(c, between, 1), nn.ReLU(), nn.Conv2d(between, c, 1), nn.Hardsigmoid())

    def forward(self, x):
        return x * self.two(x.mean((2, 3), keepdim=True))


class Residual(nn.Sequential):
    def forward(self, x):
        y = super().forward(x)
        return x + y if x.shape == y.shape else y


def multiple_of_8(c):
    """The nearest one that is not under 90 % of c."""
    return min((m for m in range(8, c + 9, 8) if m >= 0.9 * c), key=lambda m: (abs(m - c), -m))


def plain_network(ks, e, d):
    """The ImageNet network of torch's own modules, from the widths and strides that Once-For-All publishes."""

    def conv(c_in, c_out, k, stride, act, groups=1):
        layer = nn.Conv2d(c_in, c_out, k, stride, k // 2, groups=groups, bias=False)
        return [layer, nn.BatchNorm2d(c_out), *([act()] if act else [])]

    layers = [*conv(3, 16, 3, 2, nn.Hardswish), Residual(*conv(16, 16, 3, 1, nn.ReLU, 16), *conv(16, 16, 1, 1, None))]
    c_in = 16
    stages = [(24, 2, 0, nn.ReLU), (40, 2, 1, nn.ReLU), (80, 2, 0, nn.Hardswish), (112, 1, 1, nn.Hardswish),
              (160, 2, 1, nn.Hardswish)]  # fmt: skip
    for s, (width, stride, gate, act) in enumerate(stages):
        for i in range(d[s]):
            k, middle = ks[4 * s + i], c_in * e[4 * s + i]
            block = [*conv(c_in, middle, 1, 1, act), *conv(middle, middle, k, 1 if i else stride, act, middle)]
            block += [Gate(middle, multiple_of_8(middle // 4))] * gate
            layers.append(Residual(*block, *conv(middle, width, 1, 1, None)))
            c_in = width
    layers += [*conv(160, 960, 1, 1, nn.Hardswish), nn.AdaptiveAvgPool2d(1), nn.Conv2d(960, 1280, 1, bias=False)]
    return nn.Sequential(*layers, nn.Hardswish(), nn.Flatten(), nn.Linear(1280, 1000))


def counted(network, size):
    """Parameters, and multiply-adds of convolutions and linear layers seen while it runs on one image."""
    adds = []

    def seen(layer, _, y):
        adds.append(y[0].numel() * layer.weight[0].numel())

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(seen)
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, size, size))
    return sum(p.numel() for p in network.parameters()), sum(adds)


@pytest.mark.parametrize("size", [64, 112])
def test_counts_are_those_of_the_network_in_plain_torch(size, rng):
    for lists in (FULL, {name: SPACE.to_ofa(SPACE.sample(rng))[name] for name in ("ks", "e", "d")}):
        assert SPACE.count(SPACE.from_ofa(**lists), size) == counted(plain_network(**lists), size)


def test_counts_are_those_of_the_measured_subnets(table, rng):
    """A sample; `hypernas data check --space mobilenetv3` counts all rows."""
    for row in rng.choice(len(table), 20, replace=False):
        (lists,) = rows_of(table, [row])
        stated = table.columns["parameters"][row], table.columns["multiply_adds"][row]
        assert SPACE.count(SPACE.from_ofa(**lists)) == stated


def test_a_count_that_differs_is_named_with_its_row(table):
    few = {name: column[:3].copy() for name, column in table.columns.items()}
    good = type(table)(table.source, table.kind, few, table.validation[:3], table.test[:3])
    assert SPACE.check(good).endswith("in all 3 rows")
    few["multiply_adds"][2] += 1
    with pytest.raises(UserError, match=r"row 2 must have \(\d+, \d+\) parameters and multiply-adds"):
        SPACE.check(good)


def test_the_whole_table_is_encoded_as_each_of_its_rows(table, rng):
    chosen = rng.choice(len(table), 40, replace=False)
    alone = collate([SPACE.from_ofa(**lists) for lists in rows_of(table, chosen)], SPACE)
    graphs = SPACE.graphs(table, "raw")
    assert len(graphs) == len(table) == 2162
    assert (graphs[chosen].function_ids() == alone.function_ids()).all()
    assert len(np.unique(graphs.function_ids())) == 2162
    for row in chosen:
        lists = SPACE.to_ofa(graphs.architecture(int(row)))
        assert lists["ks"] == table.columns["ks"][row].tolist()
        assert lists["e"] == table.columns["e"][row].tolist()


def test_once_for_all_lists_and_architectures_are_inverse(rng):
    for _ in range(10):
        architecture = SPACE.sample(rng)
        lists = SPACE.to_ofa(architecture)
        assert SPACE.from_ofa(**lists) == architecture
        unused = {name: [value or 9 for value in lists[name]] for name in ("ks", "e")}
        assert SPACE.from_ofa(**lists | unused) == architecture


def test_five_cells_one_a_stage_even_where_stages_are_equal():
    architecture = SPACE.parse("|".join(["k3e3 k5e4"] * 5))
    assert len(architecture.cells) == 5
    assert architecture.sequence == (0, 1, 2, 3, 4)
    assert architecture.cells[0] == architecture.cells[2] != architecture.cells[1]


def test_what_follows_the_second_block_reads_both_by_the_residual_connection():
    cell = SPACE.parse("k3e3 k5e4 k7e6|" + "|".join(["k3e3 k3e3"] * 4)).cells[0]
    names = [SPACE.ops[op] for op in cell.ops]
    reads = {y: [x for x in range(y) if cell.adjacency[x][y]] for y in range(len(names))}
    projections = [i for i, name in enumerate(names) if name == "project_1x1"]
    assert [reads[i] for i, name in enumerate(names) if name.startswith("expand")] == [
        [0], projections[:1], projections[:2]
    ]  # fmt: skip
    assert reads[len(names) - 1] == projections


@pytest.mark.parametrize(("stem_stride", "last"), [(1, (2, 2)), (2, (1, 1))])
def test_a_stem_of_stride_1_keeps_small_images_from_vanishing(stem_stride, last, rng):
    program = SPACE.build(SPACE.sample(rng), channels=4, cells_per_stage=4, stem_stride=stem_stride)
    sizes = map_sizes(program, 8, 8)
    kept = [
        size for size, layer in zip(sizes[1:], program.layers, strict=True) if layer.kernel > 1 and layer.position == 4
    ]
    assert set(kept) == {last}


def test_generated_weights_are_run_alike_one_at_a_time_and_together(rng):
    """Networks of different depths, widths and kernels in one pass."""
    graphs = collate([SPACE.sample(rng) for _ in range(4)], SPACE)
    method = HyperNAS(n_layers=2, width=8, hyper_width=8, channels=2, cells_per_stage=4, stem_stride=1)
    torch.manual_seed(0)
    model = method.new_model(graphs)
    images = torch.randn(1, 4, 6, 1, 8, 8)
    together = method.new_pass([model], [graphs])(torch.arange(4)[None], images)
    method.engine = "plain"
    one = method.new_pass([model], [graphs])
    for a in range(4):
        alone = one(torch.tensor([[a]]), images[:, a : a + 1])
        for ours, theirs in zip(together, alone, strict=True):
            assert torch.allclose(ours[:, a : a + 1], theirs, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"d": [4, 4, 5, 4, 4]}, "a stage must have 2 to 4 blocks, got 5 in stage 3"),
        ({"d": [1, 4, 4, 4, 4]}, "a stage must have 2 to 4 blocks, got 1 in stage 1"),
        ({"d": [4, 4]}, "d must list 5 numbers, got 2"),
        ({"ks": [7] * 19 + [9]}, "kernel must be one of 3, 5, 7, got 9 at layer 20"),
        ({"e": [6, 5] + [6] * 18}, "expansion must be one of 3, 4, 6, got 5 at layer 2"),
        ({"ks": [3] * 4}, "ks must list 20 numbers, got 4"),
        ({"r": 192}, "resolution must be 224, got 192"),
    ],
)
def test_lists_outside_the_space_are_a_user_error(change, words):
    with pytest.raises(UserError, match=words):
        SPACE.from_ofa(**FULL | change)


@pytest.mark.parametrize(
    "change",
    [
        {"ks": 7},
        {"e": 6.0, "d": 4, "wid": None},
        {"ks": "7 " * 20, "d": "[4, 4, 4, 4, 4]", "r": [224], "wid": 1.0},
        {"ks": [7.0] * 20, "d": np.full(5, 4), "wid": "1.0", "r": "224"},
        {"e": ",".join(["6"] * 20), "r": 224.0},
    ],
)
def test_every_way_to_hand_over_the_same_lists_is_read(change):
    wanted = SPACE.from_ofa(**FULL)
    assert SPACE.from_ofa(**FULL | change) == SPACE.parse(FULL | change) == wanted
    assert SPACE.parse(json.dumps(FULL)) == wanted


def test_padding_may_be_none_or_no_number():
    lists = {"ks": [3, 3, None, None] * 5, "e": [3, 3, float("nan"), 0] * 5, "d": 2}
    assert SPACE.from_ofa(**lists) == SPACE.parse("|".join(["k3e3 k3e3"] * 5))


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        (FULL | {"wid": 1.2}, r"wid must be 1\.0, .* got 1\.2"),
        (FULL | {"ks": 7.5}, r"ks must list whole numbers, got 7\.5"),
        (FULL | {"ks": "seven"}, r"ks must list 20 numbers, got 1"),
        (FULL | {"ks": ["x"] * 20}, r"ks must list whole numbers, got 'x'"),
        (FULL | {"d": None}, r"d must list 5 numbers, got None"),
        (FULL | {"r": [224, 224]}, r"r must list 1 numbers, got 2"),
        (FULL | {"ks": float("inf")}, r"ks must list whole numbers, got inf"),
        ({"ks": 7}, r"must have ks, e and d, .* got ks"),
        (FULL | {"width": 1}, r"must have ks, e and d, .* got ks, e, d, width"),
        ("{'ks': 7}", r"in braces must be whole JSON"),
        (5, "must be written as text, got 5"),
    ],
)
def test_a_dictionary_that_is_none_of_once_for_all_is_one_sentence(lists, words):
    with pytest.raises(UserError, match=words):
        SPACE.parse(lists)


@pytest.mark.parametrize(
    ("notation", "words"),
    [
        ("k3e3 k3e3", "lists 5 stages of blocks as .* got 'k3e3 k3e3'"),
        ("k3e3|" + "|".join(["k3e3 k3e3"] * 4), "a stage must have 2 to 4 blocks, got 1 in stage 1"),
        ("|".join(["k3e3 k9e3"] * 5), "operation must be one of k3e3, .*, got 'k9e3'"),
    ],
)
def test_notations_outside_the_space_are_a_user_error(notation, words):
    with pytest.raises(UserError, match=words):
        SPACE.parse(notation)


def test_blocks_beyond_the_stage_cannot_be_built(rng):
    with pytest.raises(UserError, match="cells_per_stage must be from 1 to 4, got 5"):
        SPACE.build(SPACE.sample(rng), cells_per_stage=5)


def test_the_official_predictor_ranks_the_measured_subnets(table, rng):
    chosen = rng.choice(len(table), 300, replace=False)
    oracle = SPACE.oracle()
    predicted = oracle.predict([SPACE.from_ofa(**lists) for lists in rows_of(table, chosen)])
    assert kendall_tau(predicted.numpy(), table.test[chosen]) > 0.86
    assert 4 < (predicted.numpy() - table.test[chosen]).mean() < 8
    alone = oracle.predict([SPACE.from_ofa(**rows_of(table, chosen[:1])[0])])
    assert alone.item() == pytest.approx(predicted[0].item(), abs=1e-3)
    assert "surrogate" in oracle.source


def test_the_predictor_is_four_linear_layers_on_one_hot_choices(tmp_path, rng):
    widths = [128, 400, 400, 400, 1]
    layers = [nn.Linear(a, b) for a, b in pairwise(widths)]
    arrays = {
        f"{2 * i}_{name}": getattr(x, name).detach().numpy()
        for i, x in enumerate(layers)
        for name in ("weight", "bias")
    }
    np.savez(tmp_path / "predictor.npz", **arrays)
    architecture = SPACE.sample(rng)
    lists, hot = SPACE.to_ofa(architecture), torch.zeros(128)
    for layer in np.flatnonzero(lists["ks"]):
        hot[3 * layer + [3, 5, 7].index(lists["ks"][layer])] = 1
        hot[60 + 3 * layer + [3, 4, 6].index(lists["e"][layer])] = 1
    hot[120 + 7] = 1
    expected = nn.Sequential(*[part for x in layers for part in (x, nn.ReLU())][:-1])(hot) * 100
    oracle = mobilenetv3.AccuracyPredictor(tmp_path / "predictor.npz", SPACE.to_ofa)
    assert oracle.predict([architecture]).item() == pytest.approx(expected.item(), abs=1e-4)


def test_the_table_says_that_its_weights_are_inherited(table):
    assert isinstance(SPACE.graphs(table, "raw"), GraphBatch)
    assert table.kind == "measured"
    assert "inherited from the supernet" in table.source
