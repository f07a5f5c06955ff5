"""Claims about target networks: one pass for many equals one at a time, sizes and counts are those of the real ones."""

import pytest
import torch
from torch import nn

from hypernas import spaces
from hypernas.canonical import GRAPH_FORMS
from hypernas.errors import UserError
from hypernas.fast import batched_layers as layers
from hypernas.fast import batched_target_networks as batched
from hypernas.fast import plan as plans
from hypernas.fast.static_plan import StaticPlan
from hypernas.method.target_network import Layer, TargetHead, run
from hypernas.spaces.programs import ProgramWriter, count, map_sizes

SPACE = spaces.get("nasbench201")
ALL_3X3 = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
ALL_NONE = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"


def both_ways(programs, heads, images, seed=0):
    """S heads, S*b programs, images (S, b, M, C, H, W) -> logits (S*b, M, K) of `run` and of `run_batched`, and the
    gradients of the stems in both."""
    b = len(programs) // len(heads)
    generator = torch.Generator().manual_seed(seed)
    weights = [{c.weight: torch.randn(c.weight_shape, generator=generator) for c in p.convs} for p in programs]
    flat = images.flatten(0, 1)
    plain = torch.stack([run(p, weights[a], heads[a // b], flat[a]) for a, p in enumerate(programs)])
    static_plan = StaticPlan.of(programs)
    kernels = [
        torch.stack([weights[a][programs[a].layers[i].weight] for a, i in own]) for own in static_plan.weight_owners()
    ]
    stacked = [
        torch.stack(p)
        for p in zip(*((h.stem_weight, h.classifier.weight, h.classifier.bias) for h in heads), strict=True)
    ]
    maps = batched.run_batched(static_plan.plan, kernels, layers.stem(stacked[0], images, heads[0].stem_stride))
    fast = layers.classify(stacked[1], stacked[2], maps, programs[0].norm_last).flatten(0, 1)
    pull = torch.randn(plain.shape, generator=generator)
    gradients = [
        torch.cat([g.flatten() for g in torch.autograd.grad((logits * pull).sum(), [h.stem_weight for h in heads])])
        for logits in (plain, fast)
    ]
    return plain, fast, *gradients


@pytest.mark.parametrize("stem_stride", [1, 2])
@pytest.mark.parametrize("channels", [4, 5])
@pytest.mark.parametrize("graph_form", ["raw", "contracted"])
def test_batched_networks_equal_one_at_a_time(channels, stem_stride, graph_form, double, rng):
    """Two seeds, five architectures each, one of them without any path from input to output."""
    size = {"channels": channels, "cells_per_stage": 2, "stem_stride": stem_stride}
    sampled = [SPACE.parse(ALL_NONE)] + [SPACE.sample(rng) for _ in range(9)]
    programs = [SPACE.build(SPACE.canonical(a, graph_form), **size) for a in sampled]
    torch.manual_seed(0)
    heads = [TargetHead(3, channels, 4 * channels, 7, stem_stride) for _ in range(2)]
    plain, fast, plain_gradient, fast_gradient = both_ways(programs, heads, torch.randn(2, 5, 4, 3, 8, 8))
    assert torch.allclose(fast, plain, atol=1e-9)
    assert torch.allclose(fast_gradient, plain_gradient, atol=1e-8)


def test_batched_networks_equal_one_at_a_time_on_images_too_large_for_a_dense_product(double, rng):
    assert 4 * 24 * 24 > layers.DENSE_LIMIT
    programs = [SPACE.build(SPACE.sample(rng), channels=4, cells_per_stage=1, stem_stride=1) for _ in range(6)]
    torch.manual_seed(0)
    heads = [TargetHead(1, 4, 16, 7, 1)]
    plain, fast, plain_gradient, fast_gradient = both_ways(programs, heads, torch.randn(1, 6, 3, 1, 24, 24))
    assert torch.allclose(fast, plain, atol=1e-9)
    assert torch.allclose(fast_gradient, plain_gradient, atol=1e-8)


@pytest.mark.parametrize("size", [6, 24])
def test_a_convolution_with_norm_is_torchs_own_with_its_gradient(size, double):
    """Kernels of 1 and 3, strides 1 and 2, through the dense product and through the grouped convolution."""
    torch.manual_seed(0)
    for kernel, stride, relu, norm in (
        (3, 1, True, True),
        (1, 1, True, True),
        (3, 2, False, True),
        (1, 2, False, False),
    ):
        program = ProgramWriter(3)
        program = program.finish(program.conv((0,), 3, 5, kernel, stride, (0, 0), relu, norm))
        plan = StaticPlan.of([program] * 2).plan
        x, w = (
            torch.randn(2, 4, 3, size, size, requires_grad=True),
            torch.randn(2, 5, 3, kernel, kernel, requires_grad=True),
        )
        expected = []
        for image, weight in zip(x, w, strict=True):
            y = nn.functional.conv2d(image.relu() if relu else image, weight, stride=stride, padding=kernel // 2)
            expected.append(nn.BatchNorm2d(5, affine=False)(y) if norm else y)
        y, expected = batched.run_batched(plan, [w], x), torch.stack(expected)
        assert torch.allclose(y, expected, atol=1e-10)
        pull = torch.randn_like(y)
        ours, theirs = (torch.autograd.grad((out * pull).sum(), (x, w)) for out in (y, expected))
        assert all(torch.allclose(a, b, atol=1e-9) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("side", [1, 2, 3, 5])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 1, 1), (3, 2, 1), (5, 1, 1), (5, 2, 2), (7, 1, 3)])
def test_a_kernel_without_the_taps_that_only_meet_padding_does_the_same(side, kernel, stride, dilation, double):
    layer = Layer("conv", (0,), 2, 3, kernel, stride, dilation * (kernel - 1) // 2, dilation=dilation)
    small = plans.cut(layer, side)
    x, weight = torch.randn(4, 2, side, side), torch.randn(layer.weight_shape)
    away = (kernel - small.kernel) // 2
    middle = weight[:, :, away : kernel - away, away : kernel - away]
    y, same = (
        nn.functional.conv2d(x, w, None, stride, each.padding, dilation)
        for w, each in ((weight, layer), (middle, small))
    )
    assert torch.allclose(y, same, atol=1e-12)
    edge = torch.zeros_like(middle)
    edge[..., 0, 0] = edge[..., -1, -1] = 1
    assert nn.functional.conv2d(torch.ones_like(x), edge, None, stride, small.padding, dilation).any()


def test_a_kernel_without_padding_stays_whole():
    layer = Layer("conv", (0,), 2, 3, 3)
    assert plans.cut(layer, 1) is layer


def test_batch_mates_change_nothing(double, rng):
    """The logits of an architecture do not depend on what shares its pass."""
    programs = [SPACE.build(SPACE.sample(rng), channels=4, cells_per_stage=1, stem_stride=2) for _ in range(6)]
    torch.manual_seed(0)
    head, images = TargetHead(1, 4, 16, 10, 2), torch.randn(1, 6, 5, 1, 8, 8)
    _, together, *_ = both_ways(programs, [head], images)
    for a in range(6):
        _, alone, *_ = both_ways(programs[: a + 1], [head], images[:, : a + 1])
        assert torch.allclose(alone[a], together[a], atol=1e-10)


@pytest.mark.parametrize(
    ("notation", "n_parameters", "multiply_adds"),
    [(ALL_3X3, 1_531_546, 220_119_680), (ALL_NONE, 73_306, 7_783_040)],
)
def test_counts_are_those_that_nasbench201_publishes(notation, n_parameters, multiply_adds):
    program = SPACE.build(SPACE.parse(notation), channels=16, cells_per_stage=5, stem_stride=1)
    assert count(program, (3, 32, 32), 10) == (n_parameters, multiply_adds)


@pytest.mark.parametrize("graph_form", GRAPH_FORMS)
def test_map_sizes_are_those_of_the_running_network(graph_form, rng):
    program = SPACE.build(SPACE.canonical(SPACE.sample(rng), graph_form), channels=4, cells_per_stage=2, stem_stride=2)
    seen = []
    head = TargetHead(3, 4, 16, 5, 2)
    head.classify = lambda x, norm=True: seen.append(x.shape[2:])
    run(program, {c.weight: torch.randn(c.weight_shape) for c in program.convs}, head, torch.randn(2, 3, 16, 16))
    assert map_sizes(program, 16, 16)[program.output] == tuple(seen[0])


def test_images_too_small_to_be_halved_are_a_user_error(rng):
    program = SPACE.build(SPACE.sample(rng), channels=4, cells_per_stage=1, stem_stride=4)
    with pytest.raises(UserError, match="got 8 x 8 with stem_stride 4; lower stem_stride"):
        map_sizes(program, 8, 8)
