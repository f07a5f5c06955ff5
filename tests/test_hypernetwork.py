"""Claims about weight generation: shapes, scale, and that the gradient goes all the way back."""

import pytest
import torch
import torch.nn.functional as F

from hypernas import spaces
from hypernas.fast.heads import HeadOutputs
from hypernas.graph import collate
from hypernas.method.hypernas import ArchitecturePredictor, HyperNASModel
from hypernas.method.hypernetwork import Hypernetwork
from hypernas.method.loss import AdaptiveLoss
from hypernas.method.target_network import TargetHead

SHAPES = [(3, 2, 3, 3), (4, 4, 3, 3), (9, 6, 3, 3), (4, 7, 1, 1)]


def head_by_hand(weight, bias, features, shape, c_max):
    """The head's whole output, repeated to the shape and cut to it, at the variance of He's initialisation."""
    k = shape[2]
    whole = F.linear(features, weight, bias).view(-1, c_max, c_max, k, k)
    tiled = whole.repeat(1, -(-shape[0] // c_max), -(-shape[1] // c_max), 1, 1)
    return tiled[:, : shape[0], : shape[1]] * (2 / (shape[1] * k * k)) ** 0.5


def middle(weights, taps):
    """Kernels (..., 3, 3) -> (..., taps, taps)."""
    return weights if taps == 3 else weights[..., 1:2, 1:2]


@pytest.mark.parametrize("shape", SHAPES)
def test_weights_are_a_slice_or_tiles_of_the_heads_output(shape, double):
    hypernetwork = Hypernetwork(5, width=6, c_max=4)
    features = torch.randn(3, 6)
    made, head = hypernetwork.weights(features, shape), hypernetwork.heads[str(shape[2])]
    assert made.shape == (3, *shape)
    assert torch.allclose(made, head_by_hand(head.weight, head.bias, features, shape, 4))


def test_the_written_out_gradient_of_the_heads_is_autograds(double):
    """Two seeds, several shapes of one kernel size at once, of two of them the middle tap alone."""
    torch.manual_seed(0)
    shapes, taps = ((2, 3, 3, 3), (5, 2, 3, 3), (3, 4, 3, 3), (3, 3, 3, 3)), (3, 1, 3, 1)
    weight, bias = torch.randn(2, 3 * 3 * 9, 4, requires_grad=True), torch.randn(2, 3 * 3 * 9, requires_grad=True)
    features = [torch.randn(2, g, 4, requires_grad=True) for g in (2, 1, 3, 2)]
    leaves = (weight, bias, *features)
    made = HeadOutputs.apply(weight, bias, (3, 3), shapes, taps, *features)
    assert [m.shape[2:] for m in made] == [(*shape[:2], t, t) for shape, t in zip(shapes, taps, strict=True)]
    pulls = [torch.randn_like(m) for m in made]
    fast = torch.autograd.grad(sum((m * p).sum() for m, p in zip(made, pulls, strict=True)), leaves)
    loss = sum(
        (middle(head_by_hand(weight[s], bias[s], x[s], shape, 3), t) * pull[s]).sum()
        for shape, t, x, pull in zip(shapes, taps, features, pulls, strict=True)
        for s in (0, 1)
    )
    for ours, theirs in zip(fast, torch.autograd.grad(loss, leaves), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-10)


def test_generated_weights_have_the_scale_of_he_initialisation():
    torch.manual_seed(0)
    hypernetwork = Hypernetwork(32, width=64, c_max=16)
    for shape in ((16, 16, 3, 3), (8, 4, 1, 1)):
        std = hypernetwork.weights(torch.randn(200, 64).relu() * 2**0.5, shape).std().item()
        assert std == pytest.approx((2 * 2 / (shape[1] * shape[2] ** 2)) ** 0.5, rel=0.15)


@pytest.mark.parametrize("context", ["sum", "concat"])
def test_gradient_reaches_every_gcn_weight_through_the_generated_weights_alone(context, double, rng):
    """The prediction takes no part in the loss, yet both GCNs, of normal and of reduction cells, are trained."""
    torch.manual_seed(1)
    space = spaces.get("nasbench201")
    predictor = ArchitecturePredictor(len(space.ops), 3, 8, context)
    model = HyperNASModel(predictor, Hypernetwork(8, 16, 3, c_max=16), TargetHead(1, 4, 16, 10, 2), AdaptiveLoss())
    notation = "|nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_1x1~1|avg_pool_3x3~2|"
    architecture = space.parse(notation)
    program = space.build(architecture, channels=4, cells_per_stage=2, stem_stride=2)
    _, logits = model(collate([architecture], space), program, torch.randn(16, 1, 8, 8))
    F.cross_entropy(logits, torch.randint(10, (16,))).backward()
    for kind, gcn in enumerate(model.predictor.encoder.gcn):
        for depth, layer in enumerate(gcn):
            for direction in (0, 1):
                assert (layer.weight.grad[direction] != 0).any(), (kind, depth, direction)
    reached = {name for name, p in model.named_parameters() if p.grad is not None and (p.grad != 0).any()}
    assert {"head.stem_weight", "predictor.encoder.embedding.weight", "hypernetwork.heads.1.weight"} <= reached
    assert not any(name.startswith(("predictor.regressor", "loss")) for name in reached)
