"""Claims about recorded steps: what a GPU plays again is what a step does, on new inputs."""

import inspect
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch

from hypernas import predictors, spaces
from hypernas.graph import collate
from hypernas.predictors.shared import generating
from hypernas.training import predictor as fitting
from hypernas.training.loop import Schedule, train
from hypernas.training.recorder import Recorder

SMALL = {"n_layers": 2, "width": 16, "hyper_width": 16, "image_batch": 8, "n_blocks": 1, "epochs": 3}
SMALL |= {"hidden": 8, "channels": 4, "cells_per_stage": 1}
METHODS = ["hypernas", "hypernas-p", "hypernas-h"]
TRAINED = [name for name in predictors.names() if predictors.can_fit_many(name)]


def settings(name, **own):
    """The small sizes that a method has, and its own."""
    accepted = inspect.signature(predictors.get(name)).parameters
    return {key: value for key, value in SMALL.items() if key in accepted} | own


class Played(Recorder):
    """Stands in for a GPU: a record is a step that runs again, on inputs that were written to the same places."""

    made: ClassVar[list] = []

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.plays, self.recorded = True, []
        self.made.append(self)

    def _record(self, optimizer, kind):
        log = {}
        self.recorded.append(kind)
        return SimpleNamespace(replay=lambda: log.update(self._run(optimizer, kind))), log


@pytest.fixture
def played(monkeypatch):
    """A function after which steps are recorded as on a GPU; it returns the recorders that are made."""

    def install():
        for module in (fitting, generating):
            monkeypatch.setattr(module, "on_gpu", lambda device: True)
            monkeypatch.setattr(module, "Recorder", Played)
        monkeypatch.setattr(Played, "made", [])
        return Played.made

    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    return install


def few(n, seed):
    """Networks of eight cells of a few nodes, and labels: a step of GHN visits one node after another."""
    space, rng = spaces.get("nasbenchmacro"), np.random.default_rng(seed)
    graphs = collate([space.canonical(space.sample(rng)) for _ in range(n)], space, "contracted")
    return graphs, torch.from_numpy(rng.normal(90, 2, n))


@pytest.mark.parametrize("method", TRAINED)
def test_a_recorded_training_ends_as_one_that_is_not(method, double, played):
    """14 architectures make two kinds of steps, full ones and the last."""
    sets, labels = zip(*(few(14, seed) for seed in (0, 1)), strict=True)
    plain = predictors.fit_many(method, settings(method), sets, labels, [5, 6])
    made = played()
    recorded = predictors.fit_many(method, settings(method), sets, labels, [5, 6])
    for ours, theirs in zip(recorded, plain, strict=True):
        for a, b in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
        assert ours.history[-1] == pytest.approx(theirs.history[-1])
    assert [len(recorder.recorded) for recorder in made] == [2]


def test_a_step_that_cannot_be_recorded_is_run(double, played, monkeypatch):
    def refused(self, optimizer, kind):
        raise RuntimeError("operation not permitted")

    graphs, labels = few(14, 0)
    plain = predictors.get("hypernas")(**settings("hypernas")).fit(graphs, labels)
    played()
    monkeypatch.setattr(Played, "_record", refused)
    with pytest.warns(UserWarning, match=r"could not be recorded \(operation not permitted\); training goes on"):
        run = predictors.get("hypernas")(**settings("hypernas")).fit(graphs, labels)
    for ours, theirs in zip(run.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def test_the_plain_loop_is_never_recorded(played):
    made = played()
    predictors.get("hypernas")(**SMALL_PLAIN).fit(*few(4, 0))
    assert not made


SMALL_PLAIN = {"n_layers": 1, "width": 8, "image_batch": 4, "epochs": 1, "engine": "plain"}


def test_large_networks_are_recorded_step_by_step(played, monkeypatch):
    monkeypatch.setattr(generating, "LARGEST_SHARED", 1)
    made, method = played(), predictors.get("hypernas")(**settings("hypernas", accumulate=5))
    assert method.large
    assert not method.schedule().regroup
    method.fit(*few(14, 0))
    assert len(made[0].recorded) == len({*made[0].recorded}) == 3


def test_steps_that_are_not_regrouped_change_their_order_alone():
    schedule = Schedule(epochs=6, accumulate=4, regroup=False)
    epochs = [schedule.steps(epoch, 10, [3, 4])[1] for epoch in range(6)]
    groups = [{step.numpy().tobytes() for step in steps} for steps in epochs]
    assert all(group == groups[0] for group in groups)
    assert len({b"".join(step.numpy().tobytes() for step in steps) for steps in epochs}) > 1
    for row in torch.cat(epochs[0], 1):
        assert sorted(row.tolist()) == list(range(10))
    alone = schedule.steps(2, 10, [4])[1]
    assert all(torch.equal(a[0], b[1]) for a, b in zip(alone, epochs[2], strict=True))


def test_a_recorder_without_a_gpu_does_what_a_loss_does():
    def loss(index, noise):
        value = (parameter * index + noise).square().mean(1)
        return value.sum(), {"loss": value.detach()}

    def noise(index, generators):
        return torch.from_numpy(np.stack([g.normal(size=index.shape[1]) for g in generators]))

    ends = []
    for recorder in (None, Recorder(lambda i, g: (i.shape[1], (i, noise(i, g))), loss, "cpu")):
        parameter = torch.ones(2, 1, dtype=torch.float64, requires_grad=True)
        train([parameter], lambda i, g: loss(i, noise(i, g)), 7, Schedule(3, 0.1), [1, 2], recorder=recorder)
        ends.append(parameter.detach())
    torch.testing.assert_close(*ends)
    assert not torch.equal(ends[0], torch.ones(2, 1))


@pytest.mark.parametrize("method", [*METHODS, "ghn", "ghn2"])
def test_a_step_to_record_looks_at_no_value(method, monkeypatch):
    """On the device without memory every such look is an error."""
    sets, _ = zip(*(few(6, seed) for seed in (0, 1)), strict=True)
    own = settings(method)
    here, away = (predictors.get(method)(device=to, **own) for to in ("cpu", "meta"))
    run = away.new_pass([here.new_model(graphs) for graphs in sets], sets)
    index, generators = torch.tensor([[0, 2, 1], [5, 3, 4]]), [np.random.default_rng(seed) for seed in (0, 1)]
    assert run.recordable
    monkeypatch.setattr(fitting, "on_gpu", lambda device: True)
    recorder = away.recorder(run, torch.zeros(2, 6, device="meta"), [index])
    kind, inputs = recorder.draw(index, generators)
    assert kind == 3
    loss, log = recorder.loss(*(each.to("meta") for each in inputs))
    loss.backward()
    assert {each.device.type for each in (loss, *log.values())} == {"meta"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="records are made by a GPU, and this machine has none")
@pytest.mark.parametrize("method", TRAINED)
def test_a_gpu_plays_what_it_recorded(method):
    graphs, labels = few(14, 0)
    own = settings(method)
    on_cpu, on_gpu = (predictors.get(method)(device=to, **own).fit(graphs, labels) for to in ("cpu", "cuda"))
    assert on_gpu.history[-1] == pytest.approx(on_cpu.history[-1], rel=1e-2)
