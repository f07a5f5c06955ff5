"""Claims about ParZC: what the statistics of a layer are, which weights they are of, what its loss measures."""

import pytest
import torch
import torch.nn.functional as F

from hypernas import spaces
from hypernas.errors import UserError
from hypernas.graph import collate
from hypernas.lab.metrics import kendall_tau
from hypernas.method.target_network import TargetHead, run
from hypernas.predictors import parzc
from hypernas.predictors.parzc import ParZC, ParZCModel, _identities, _names, _weights, node_statistics
from hypernas.predictors.shared.ranking_losses import soft_kendall

SPACE = spaces.get("nasbench201")
SIZE = {"channels": 4, "cells_per_stage": 1, "stem_stride": 2}
LENGTH = 40


@pytest.fixture
def images(rng):
    return torch.from_numpy(rng.normal(size=(6, 1, 8, 8))).float(), torch.from_numpy(rng.integers(10, size=6))


def statistics(architectures, images, seed=0, length=LENGTH, space=SPACE, size=SIZE):
    graphs = collate(architectures, space)
    programs = [space.build(graphs.architecture(i), **size) for i in range(len(graphs))]
    return node_statistics(graphs, programs, *images, 10, seed, length)


def test_statistics_are_those_of_the_network_run_by_itself(rng, images):
    architecture = SPACE.canonical(SPACE.sample(rng))
    graphs = collate([architecture], SPACE)
    (found,), (mask,) = statistics([architecture], images, seed=3)
    program = SPACE.build(graphs.architecture(0), **SIZE)
    names = _names(program, graphs.sequence[0].tolist(), _identities(graphs)[0])
    drawn = _weights(program, names, 3, 1, 10)
    head = TargetHead(1, program.channels, program.c_last, 10, program.stem_stride).double()
    with torch.no_grad():
        head.stem_weight.copy_(drawn["stem"])
        head.classifier.weight.copy_(drawn["classifier"])
        head.classifier.bias.zero_()
    order = sorted(names, key=lambda i: names[i])
    weights = [drawn[i].requires_grad_() for i in order]
    by_key = {program.layers[i].weight: weight for i, weight in zip(order, weights, strict=True)}
    loss = F.cross_entropy(run(program, by_key, head, images[0].double()), images[1])
    gradients = torch.autograd.grad(loss, weights, materialize_grads=True)
    pairs = [(w.detach(), g) for w, g in zip(weights, gradients, strict=True)]
    rows = [torch.stack([w.norm(), g.norm(), (w * g).abs().sum()]) for w, g in pairs]
    expected = torch.stack(rows).clamp(min=1e-12).log10()
    assert int(mask.sum()) == len(order)
    assert torch.allclose(found[mask], expected.float(), atol=1e-5)


@pytest.mark.parametrize("name", ["nasbench101", "nasbench201"])
def test_isomorphic_architectures_have_equal_statistics(name, rng, twin, images):
    space = spaces.get(name)
    ours = [space.canonical(space.sample(rng)) for _ in range(6)]
    first, second = (statistics(each, images, space=space) for each in (ours, [twin(a) for a in ours]))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_other_seeds_and_other_images_give_other_statistics(rng, images):
    ours = [SPACE.canonical(SPACE.sample(rng)) for _ in range(4)]
    found, mask = statistics(ours, images)
    assert not torch.equal(found, statistics(ours, images, seed=1)[0])
    assert not torch.equal(found, statistics(ours, (-images[0], images[1]))[0])
    cut, kept = statistics(ours, images, length=3)
    assert torch.equal(cut, found[:, :3])
    assert torch.equal(kept, mask[:, :3])


def test_layers_that_are_not_there_change_no_score(rng):
    torch.manual_seed(0)
    model = ParZCModel(length=8, width=16, n_blocks=2)
    found = torch.randn(5, 8, 3)
    mask = torch.arange(8).expand(5, 8) < torch.tensor([[2], [4], [8], [3], [5]])
    other = torch.where(mask[..., None], found, torch.randn(5, 8, 3))
    assert torch.allclose(model(found, mask, torch.zeros(16)), model(other, mask, torch.zeros(16)))
    assert not torch.allclose(model(found, mask, torch.ones(16)), model(found, mask, torch.zeros(16)))


def test_a_steep_soft_kendall_is_one_less_kendall_tau(rng):
    predicted, target = (torch.from_numpy(rng.normal(size=30)) for _ in range(2))
    assert soft_kendall(predicted, target, 1e9).item() == pytest.approx(1 - kendall_tau(predicted, target))
    predicted.requires_grad_()
    soft_kendall(predicted, target, 1.0).backward()
    assert predicted.grad.abs().min() > 0


def test_its_gradient_ranks_better_than_chance_on_what_it_has_not_seen(nasbench201):
    train, test = nasbench201.split(60, 100)
    graphs = nasbench201.graphs("contracted")
    fitted = ParZC(epochs=40, seed=100).fit(graphs[train], nasbench201.validation[train])
    assert kendall_tau(fitted.predict(graphs[test[:500]]), nasbench201.test[test[:500]]) > 0.4


def test_images_that_cannot_be_halved_are_refused_before_any_network_runs(nasbench201, monkeypatch):
    monkeypatch.setattr(parzc, "node_statistics", pytest.fail)
    with pytest.raises(UserError, match=r"images must be large enough .* got 8 x 8 with stem_stride 4"):
        ParZC(stem_stride=4).fit(nasbench201.graphs("contracted")[:4], torch.arange(4.0))
