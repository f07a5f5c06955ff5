"""Claims about the networks of NAS-Bench-101 cells: widths, parameters, layers, one at a time and batched."""

import itertools

import numpy as np
import pytest
import torch

from hypernas import spaces
from hypernas.errors import UserError
from hypernas.fast import batched_layers as layers
from hypernas.fast import batched_target_networks as batched
from hypernas.fast.static_plan import StaticPlan
from hypernas.graph import collate
from hypernas.method import target_network as target
from hypernas.spaces.nasbench101 import CONV1, CONV3

SPACE = spaces.get("nasbench101")
# The cell of the highest mean test accuracy; its network has 32,426,634 trainable parameters.
BEST = "conv1x1(0)|conv3x3(0)|maxpool3x3(2)|conv3x3(3)|conv3x3(0,1,4)|output(0,5)"
DEAD = "conv3x3(0)|conv1x1(0)|maxpool3x3(1)|conv3x3()|output(0,3)"


def slow_parameters(ops, edges, stem=128):
    """The builder's rules, one cell and one weight tensor at a time."""
    last, total, c_in = len(ops) - 1, 27 * stem + 2 * stem, stem
    for stack, _ in itertools.product(range(3), range(3)):
        c_out = stem * 2**stack
        joined = [v for v in range(1, last) if (v, last) in edges]
        width = {v: c_out // len(joined) + (i < c_out % len(joined)) for i, v in enumerate(joined)} | {last: c_out}
        for v in range(last - 1, 0, -1):
            width.setdefault(v, max(width.get(y, 0) for x, y in edges if x == v))
        for v in range(1, last + 1):
            kernel = {CONV3: 3, CONV1: 1}.get(ops[v], 0)
            total += (kernel**2 * width[v] + 2) * width[v] if kernel else 0
            total += (c_in + 2) * width[v] if (0, v) in edges else 0
        c_in = c_out
    return total + (c_in + 1) * 10


SAMPLES = [SPACE.sample(np.random.default_rng(i)) for i in range(30)]


def test_parameters_follow_the_rules_of_the_official_builder():
    cells = [sample.cells[0] for sample in SAMPLES]
    slow = [
        slow_parameters(c.ops, {(x, y) for x, row in enumerate(c.adjacency) for y in np.flatnonzero(row)})
        for c in cells
    ]
    assert SPACE.trainable_parameters(collate(SAMPLES, SPACE)).tolist() == slow


def test_the_program_has_the_parameters_that_are_counted():
    counted = SPACE.trainable_parameters(collate(SAMPLES, SPACE)).tolist()
    assert [SPACE.count(sample)[0] for sample in SAMPLES] == counted


def test_parameters_of_the_best_cell_are_the_published_ones():
    assert SPACE.count(SPACE.parse(BEST))[0] == 32_426_634


def test_multiply_adds_of_a_chain_of_one_convolution():
    """conv1x1(0)|output(1): nine cells of a projection and a convolution, both 1 x 1, on maps of 32, 16, 8 pixels."""
    expected, c_in = 9 * 3 * 128 * 32 * 32 + 512 * 10, 128
    for c, side in ((128, 32), (256, 16), (512, 8)):
        for _ in range(3):
            expected, c_in = expected + (c_in * c + c * c) * side * side, c
    assert SPACE.count(SPACE.parse("conv1x1(0)|output(1)"))[1] == expected


@pytest.mark.parametrize(("channels", "cells_per_stage", "stem_stride"), [(4, 1, 2), (5, 2, 1)])
def test_batched_networks_equal_those_run_one_at_a_time(channels, cells_per_stage, stem_stride):
    few = [SPACE.parse(DEAD), SPACE.parse("output(0)"), *SAMPLES[:10]]
    programs = [SPACE.build(each, channels, cells_per_stage, stem_stride) for each in few]
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    weights = [{layer.weight: draw(*layer.weight_shape) for layer in program.convs} for program in programs]
    assert all(len(made) == len(program.convs) for made, program in zip(weights, programs, strict=True))
    head = target.TargetHead(1, channels, programs[0].c_last, 10, stem_stride).double()
    images = draw(len(few), 8, 1, 8, 8)
    plain = [target.run(p, w, head, x) for p, w, x in zip(programs, weights, images, strict=True)]
    static_plan = StaticPlan.of(programs)
    kernels = [
        torch.stack([weights[a][programs[a].layers[i].weight] for a, i in own]) for own in static_plan.weight_owners()
    ]
    stems = layers.stem(head.stem_weight[None], images[None], stem_stride)
    maps = batched.run_batched(static_plan.plan, kernels, stems)
    fast = layers.classify(head.classifier.weight[None], head.classifier.bias[None], maps, programs[0].norm_last)
    torch.testing.assert_close(fast[0], torch.stack(plain), rtol=1e-9, atol=1e-9)


def test_the_cell_is_conv_norm_relu_with_projected_input_and_joined_output():
    """`conv1x1(0)|maxpool3x3(0,1)|output(0,1,2)`, written with plain PyTorch."""
    program = SPACE.build(SPACE.parse("conv1x1(0)|maxpool3x3(0,1)|output(0,1,2)"), channels=5, cells_per_stage=1)
    generator = torch.Generator().manual_seed(1)
    weights = {layer.weight: torch.randn(layer.weight_shape, generator=generator) for layer in program.convs}
    head = target.TargetHead(3, 5, program.c_last, 10, 1)
    images = torch.randn(6, 3, 8, 8, generator=generator)
    relu, conv = torch.relu, lambda x, key: torch.relu(target.batch_norm(torch.nn.functional.conv2d(x, weights[key])))
    x = relu(head.stem(images))
    for position in (0, 4, 8):
        x = torch.nn.functional.max_pool2d(x, 2) if position else x
        one = conv(conv(x, (position, 0, 1)), (position, 1))
        c = weights[position, 0, 2].shape[0]
        two = torch.nn.functional.max_pool2d(one[:, :c] + conv(x, (position, 0, 2)), 3, 1, 1)
        assert (one.shape[1], two.shape[1]) == {0: (3, 2), 4: (5, 5), 8: (10, 10)}[position]
        x = torch.cat([one, two], 1) + conv(x, (position, 0, 3))
    torch.testing.assert_close(target.run(program, weights, head, images), head.classifier(x.mean((2, 3))))


def test_too_few_channels_and_too_many_cells_are_refused():
    with pytest.raises(UserError, match="channels must be at least the 3 vertices that the output joins, got 2"):
        SPACE.build(SPACE.parse("conv3x3(0)|conv1x1(0)|conv3x3(0)|output(1,2,3)"), channels=2)
    with pytest.raises(UserError, match="cells_per_stage must be from 1 to 3, got 5"):
        SPACE.build(SPACE.parse(BEST), cells_per_stage=5)
