"""Claims about static plans: a plan with room for every step gives each step what a plan of its own gives it."""

import numpy as np
import pytest
import torch

from hypernas import predictors, spaces
from hypernas.fast.program_table import ProgramTable
from hypernas.fast.static_plan import StaticPlan
from hypernas.lab.costs import sampled

S, N, B = 2, 7, 3
SIZES = ("channels", "cells_per_stage", "stem_stride")


@pytest.fixture(autouse=True)
def _double(double):
    """All of these compare in float64."""


def passed(name, image_batch=4):
    """A pass of S models with networks of a space, and images and labels for B of each."""
    graphs = sampled(name, S * N)
    sets = [graphs[s * N : (s + 1) * N] for s in range(S)]
    own = {key: value for key, value in spaces.get(name).defaults.items() if key in (*SIZES, "images")}
    method = predictors.get("hypernas")(n_layers=2, width=8, hyper_width=8, image_batch=image_batch, **own)
    models = []
    for seed in range(S):
        torch.manual_seed(seed)
        models.append(method.new_model(sets[seed]))
    run = method.new_pass(models, sets)
    return run, run.training_images.draw(B, [np.random.default_rng(seed) for seed in range(S)])[0]


def steps(n_steps, rng):
    return [torch.from_numpy(np.stack([rng.permutation(N)[:B] for _ in range(S)])) for _ in range(n_steps)]


def outcome(run, index, images):
    """Logits of a step, and the gradient of every parameter."""
    for parameter in run.trained:
        parameter.grad = None
    _, logits = run(index, images)
    (logits.square().mean() + logits.sum() * 1e-3).backward()
    return [logits.detach(), *(p.grad for p in run.trained if p.grad is not None)]


@pytest.mark.parametrize("each_apart", [False, True])
@pytest.mark.parametrize("name", ["nasbench101", "nasbench201", "nasbench201_depth", "darts", "mobilenetv3", "vit"])
def test_a_step_in_a_shared_plan_is_that_of_its_own(name, each_apart, rng):
    run, images = passed(name)
    all_steps = steps(3, rng)
    expected = [outcome(run, index, images) for index in all_steps]
    run.reserve(all_steps, images.shape[3:], each_apart)
    assert len(run.static_plans) == (3 if each_apart else 1)
    for index, wanted in zip(all_steps, expected, strict=True):
        run.static_plan = run.static_plans[run.kind(index, each_apart)]
        run.static_plan.places.copy_(run.static_plan.fill(index.numpy()))
        for ours, theirs in zip(outcome(run, index, images), wanted, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)


def test_the_shapes_of_a_plan_do_not_depend_on_the_step(rng):
    run, images = passed("nasbench201")
    all_steps = steps(4, rng)
    run.reserve(all_steps, images.shape[3:], each_apart=False)
    static_plan = run.static_plans[B]
    filled = [static_plan.fill(index.numpy()) for index in all_steps]
    assert len({each.shape for each in filled}) == 1
    assert len({each.numpy().tobytes() for each in filled}) == len(all_steps)


def test_a_plan_of_one_step_runs_nothing_but_its_layers(rng):
    run, _ = passed("nasbench201")
    index = steps(1, rng)[0].numpy()
    programs = [program for of_one in run.programs for program in of_one]
    static_plan = StaticPlan(ProgramTable.of(programs), [index])
    n_layers = sum(len(run.programs[s][i].layers) for s in range(S) for i in index[s])
    assert sum(op.size for op in static_plan.plan.ops) == n_layers
    wider = StaticPlan(ProgramTable.of(programs), [index, *(step.numpy() for step in steps(5, rng))])
    assert sum(op.size for op in wider.plan.ops) > n_layers
