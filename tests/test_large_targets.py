"""Claims about target networks too large to be held whole: tiled heads, and gradient checkpointing by cell."""

import pytest
import torch

from hypernas import predictors, spaces
from hypernas.errors import UserError
from hypernas.fast.recompute import GeneratedWeights, run_recomputing
from hypernas.graph import collate
from hypernas.method.target_network import TargetHead, run

SIZES = {"channels": 4, "cells_per_stage": 1, "stem_stride": 1}


def network(space, rng, size=SIZES):
    """A random architecture's program, its weights and stem."""
    program = space.build(space.canonical(space.sample(rng)), **size)
    torch.manual_seed(0)
    weights = {layer.weight: torch.randn(layer.weight_shape, requires_grad=True) for layer in program.convs}
    return program, weights, TargetHead(3, program.channels, program.c_last, 5, program.stem_stride)


@pytest.mark.parametrize("name", spaces.names())
def test_recomputed_gradients_are_the_kept_ones(name, double, rng):
    program, weights, head = network(spaces.get(name), rng)
    images = torch.randn(2, 3, 32, 32)
    found = []
    for way in (run, run_recomputing):
        logits = way(program, weights, head, images)
        leaves = [*weights.values(), head.stem_weight]
        found.append([logits, *torch.autograd.grad(logits.square().sum(), leaves, allow_unused=True)])
    for kept, again in zip(*found, strict=True):
        assert (kept is None and again is None) or torch.allclose(kept, again, rtol=1e-10)


def saved_bytes(way, *arguments):
    """Bytes of all tensors that the way back keeps, each once."""
    found = {}

    def pack(tensor):
        found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = way(*arguments)
    return sum(found.values()), logits


def test_recomputing_keeps_less_for_the_way_back(rng):
    arguments = network(spaces.get("nasbench201"), rng, SIZES | {"cells_per_stage": 3})
    images = torch.randn(8, 3, 16, 16)
    (kept, _), (again, _) = (saved_bytes(way, *arguments, images) for way in (run, run_recomputing))
    assert again < kept / 2


def test_with_a_limit_the_hypernetwork_stays_as_large_as_it_is(nasbench201):
    graphs, accuracy = nasbench201.graphs("contracted")[:4], torch.arange(4.0)
    settings = {"epochs": 1, "n_layers": 1, "width": 8, "image_batch": 4}
    sizes = []
    for channels in (8, 16):
        fitted = predictors.get("hypernas")(**settings, channels=channels, c_max=4).fit(graphs, accuracy)
        (size,) = {head.weight.shape[0] for k, head in fitted.model.hypernetwork.heads.items() if k == "3"}
        sizes.append(size)
    assert sizes == [4 * 4 * 9] * 2


def test_tiled_heads_are_the_same_in_both_engines(nasbench201, double):
    graphs, accuracy = nasbench201.graphs("contracted")[:6], torch.arange(6.0)
    settings = {"epochs": 2, "n_layers": 2, "width": 8, "image_batch": 8, "c_max": 3}
    ways = ({"engine": "fast"}, {"engine": "plain"}, {"engine": "plain", "recompute": True})
    fast, *others = (predictors.get("hypernas")(**settings, **way).fit(graphs, accuracy).history for way in ways)
    for other in others:
        for ours, theirs in zip(fast, other, strict=True):
            assert ours["loss_hyper"] == pytest.approx(theirs["loss_hyper"], rel=1e-9)


def test_recomputing_belongs_to_the_plain_loop():
    with pytest.raises(UserError, match="engine must be plain with recompute=True, got 'fast'"):
        predictors.get("hypernas")(recompute=True)


def test_one_set_of_weights_can_be_asked_for_in_any_order(rng):
    space = spaces.get("nasbench201")
    program, _, _ = network(space, rng)
    graphs = collate([space.canonical(space.sample(rng))], space)
    nodes = torch.randn(1, graphs.sequence.shape[1], 8, 8)
    model = predictors.get("hypernas")(width=8, hyper_width=8, c_max=4).new_model(graphs)
    made = GeneratedWeights(model, nodes, program)
    assert {key: tuple(value.shape) for key, value in made.items()} == {c.weight: c.weight_shape for c in program.convs}
