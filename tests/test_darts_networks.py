"""Claims about the networks of DARTS: plain PyTorch beside them, many in one pass, published counts, training."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from doubles import present
from test_darts import EVERY, V2
from test_target import both_ways

from hypernas import spaces
from hypernas.errors import UserError
from hypernas.graph import REDUCTION
from hypernas.method.target_network import TargetHead, run
from hypernas.spaces import darts as darts_network
from hypernas.spaces.darts import positions
from hypernas.spaces.programs import count, map_sizes

SPACE = spaces.get("darts")


@pytest.fixture(scope="module")
def table():
    return present(SPACE, "cifar10")


def slow_network(genotype, weights, images, stem):
    """The network with one cell a stage, by the definition of DARTS; `weights` in the order of their use."""
    norm = lambda x: F.batch_norm(x, None, None, training=True)  # noqa: E731

    def conv(x, stride=1, padding=0, dilation=1):
        w = next(weights)
        return F.conv2d(x, w, None, stride, padding, dilation, groups=1 if w.shape[1] == x.shape[1] else x.shape[1])

    def halve(x):
        x = F.relu(x)
        return norm(torch.cat([conv(x, 2), conv(x[:, :, 1:, 1:], 2)], 1))

    def operation(name, x, stride):
        k = 5 if name.endswith("5x5") else 3
        if name == "skip_connect":
            return x if stride == 1 else halve(x)
        if name == "max_pool_3x3":
            return F.max_pool2d(x, 3, stride, 1)
        if name == "avg_pool_3x3":
            return F.avg_pool2d(x, 3, stride, 1, count_include_pad=False)
        if name.startswith("dil"):
            return norm(conv(conv(F.relu(x), stride, k - 1, 2)))
        x = norm(conv(conv(F.relu(x), stride, k // 2)))
        return norm(conv(conv(F.relu(x), 1, k // 2)))

    old = new = stem(images)
    halved = False
    for reduces in (False, True, False, True, False):
        states = [halve(old) if halved else norm(conv(F.relu(old)))]
        states.append(norm(conv(F.relu(new))))
        edges = genotype.reduce if reduces else genotype.normal
        for i in range(4):
            pair = edges[2 * i : 2 * i + 2]
            states.append(sum(operation(name, states[s], 2 if reduces and s < 2 else 1) for name, s in pair))
        old, new, halved = new, torch.cat(states[2:], 1), reduces
    return new


@pytest.mark.parametrize("graph_form", ["raw", "contracted"])
@pytest.mark.parametrize("seed", range(3))
def test_networks_are_those_of_darts_by_definition(seed, graph_form, double):
    architecture = SPACE.parse(EVERY) if seed == 0 else SPACE.sample(np.random.default_rng(seed))
    program = SPACE.build(SPACE.canonical(architecture, graph_form), channels=4, cells_per_stage=1)
    torch.manual_seed(0)
    weights = {layer.weight: torch.randn(layer.weight_shape) for layer in program.convs}
    head, images = TargetHead(3, program.channels, program.c_last, 10, 1), torch.randn(2, 3, 12, 12)
    slow = slow_network(SPACE.genotype(architecture), iter(weights.values()), images, head.stem)
    ours = run(program, weights, head, images)
    torch.testing.assert_close(ours, head.classifier(slow.mean((2, 3))), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("side", "stem_stride"), [(8, 2), (20, 1)])
def test_networks_in_one_pass_equal_those_run_one_at_a_time(side, stem_stride, double, rng):
    """On small maps, where a depthwise convolution is a product, and on large ones."""
    few = [SPACE.parse(EVERY), SPACE.parse(V2), *(SPACE.sample(rng) for _ in range(2))]
    programs = [SPACE.build(SPACE.canonical(each), 4, cells_per_stage=1, stem_stride=stem_stride) for each in few]
    torch.manual_seed(0)
    heads = [TargetHead(1, programs[0].channels, programs[0].c_last, 5, stem_stride) for _ in range(2)]
    plain, fast, plain_gradient, fast_gradient = both_ways(programs, heads, torch.randn(2, 2, 3, 1, side, side))
    torch.testing.assert_close(fast, plain, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(fast_gradient, plain_gradient, rtol=1e-6, atol=1e-7)


def test_parameters_of_darts_v2_are_those_its_code_prints():
    assert [SPACE.count(SPACE.parse(V2), images)[0] for images in ("cifar10", "imagenet")] == [3_349_342, 4_718_752]


def elements(program, h, w):
    """Numbers of elements that normalisation, ReLU and pooling touch, each ReLU of a halved map once."""
    sizes, found = map_sizes(program, h, w), dict.fromkeys(("norm", "own_norm", "relu", "pool_in", "pool_out"), 0)
    found["norm"] = program.channels * sizes[0][0] * sizes[0][1]
    for layer, (rows, columns) in zip(program.layers, sizes[1:], strict=True):
        made, (read_rows, read_columns) = layer.c_out * rows * columns, sizes[layer.inputs[0]]
        read = layer.c_in * read_rows * read_columns
        moved = program.layers[layer.inputs[0] - 1].op == "shift" if layer.inputs[0] else False
        if layer.op == "conv":
            found["own_norm" if layer.weight[1] > 1 else "norm"] += made * layer.norm
            found["relu"] += read * (layer.relu and not moved)
        elif layer.op in ("pool", "maxpool"):
            found["pool_in"], found["pool_out"] = found["pool_in"] + read, found["pool_out"] + made
    return found


def test_multiply_adds_of_darts_v2_on_imagenet_are_those_that_ptflops_finds():
    """544.59 M on the public code (issue 46 of its repository): two a normalised element, one a ReLU, those pooled."""
    program = SPACE.full(SPACE.parse(V2), "imagenet").program
    products, found = SPACE.count(SPACE.parse(V2), "imagenet")[1], elements(program, 224, 224)
    assert products == 529_911_552
    more = 2 * (found["norm"] + found["own_norm"]) + found["relu"] + found["pool_in"] + 768 * 7 * 7
    assert round((products + more) / 1e6, 2) == 544.59


def test_counts_of_the_tables_networks_are_those_recorded(table):
    """8 cells of 32 channels. The records leave out the parameters of the operations' normalisation, and count one
    for each normalised or rectified element of an operation and ten for a pooled one."""
    rest = set()
    for row in range(0, 725, 60):
        architecture = SPACE.encode(table.columns["edges"][row : row + 1], "raw").architecture(0)
        program = darts_network.cifar_network(architecture, 32, 2).program
        parameters, products = count(program, (3, 32, 32), 10)
        own = sum(2 * layer.c_out for layer in program.convs if layer.norm and layer.weight[1] > 1)
        assert parameters - own == round(table.columns["params"][row] * 1e6)
        found = elements(program, 32, 32)
        more = found["own_norm"] + found["relu"] + 10 * found["pool_out"]
        rest.add(round(table.columns["flops"][row] * 1e6) - products - more)
    assert len(rest) == 1


@pytest.mark.parametrize(("images", "side", "mapped"), [("cifar10", 32, 8), ("imagenet", 224, 7)])
def test_the_network_to_train_has_the_counted_parameters_and_an_auxiliary_head_where_it_fits(images, side, mapped):
    architecture = SPACE.parse(V2)
    network = SPACE.network(architecture, images=images)
    auxiliary = sum(p.numel() for p in network.auxiliary.parameters())
    assert sum(p.numel() for p in network.parameters()) == SPACE.count(architecture, images)[0] + auxiliary
    made = SPACE.full(architecture, images)
    assert map_sizes(made.program, side, side)[made.auxiliary] == (mapped, mapped)
    last = made.program.layers[made.auxiliary - 1]
    assert (last.op, last.position) == ("concat", max(i for i, kind in enumerate(SPACE._sequence) if kind))


def test_cells_are_in_the_order_of_the_public_networks():
    kinds = [[SPACE._sequence[i] for i in positions(n)] for n in (6, 4, 2)]
    for n, cells in zip((20, 14, 8), kinds, strict=True):
        assert [i for i, kind in enumerate(cells) if kind == REDUCTION] == [n // 3, 2 * n // 3]
        assert len(cells) == n


def test_a_network_trains_drops_paths_and_reads_through_two_heads():
    torch.manual_seed(0)
    network = SPACE.network(SPACE.parse(EVERY), channels=4)
    images, labels = torch.randn(4, 3, 32, 32), torch.arange(4)
    network.drop_path = 0.2
    logits, second = network.with_auxiliary(images)
    assert logits.shape == second.shape == (4, 10)
    (F.cross_entropy(logits, labels) + 0.4 * F.cross_entropy(second, labels)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    again = network(images)
    assert not torch.equal(again, logits)
    network.eval()
    first, none = network.with_auxiliary(images)
    assert none is None
    assert torch.equal(first, network(images))
    with pytest.raises(UserError, match="must read maps of 8 x 8, got 4 x 4"):
        network.train()(images[..., :16, :16])


def test_drop_path_drops_whole_operations_and_never_an_identity():
    made = SPACE.full(SPACE.parse(V2), channels=4)
    layers = made.program.layers
    dropped = {p: sum(layers[value - 1].position == p for value in made.paths) for p in (0, 6)}
    assert dropped == {0: 6, 6: 5}
    network = SPACE.network(SPACE.parse(V2), channels=4)
    network.drop_path = 0.5
    torch.manual_seed(0)
    x = network._dropped(torch.ones(1000, 2, 3, 3))
    assert set(x.flatten().tolist()) == {0.0, 2.0}
    assert (x.flatten(1) == x[:, 0, 0, :1]).all()
    assert abs(x.mean().item() - 1) < 0.1


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"channels": 1}, "channels must be at least 2, .* got 1"),
        ({"cells_per_stage": 7}, "cells_per_stage must be from 1 to 6, got 7"),
        ({"cells_per_stage": 0}, "cells_per_stage must be from 1 to 6, got 0"),
    ],
)
def test_a_size_that_cannot_be_built_is_refused(wrong, told):
    with pytest.raises(UserError, match=told):
        SPACE.build(SPACE.parse(V2), **wrong)


def test_a_full_network_for_other_images_is_refused():
    with pytest.raises(UserError, match=r"images must be one of cifar10, imagenet .*, got 'digits'"):
        SPACE.count(SPACE.parse(V2), "digits")
