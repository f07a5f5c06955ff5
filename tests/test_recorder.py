"""Claims about recorded steps: what a GPU plays again is what a step does, on new inputs."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hypernas import predictors
from hypernas.predictors.hypernas import HyperNAS
from hypernas.training import Recorder, Schedule, train

SMALL = {"n_layers": 2, "width": 16, "hyper_width": 16, "image_batch": 8, "epochs": 3}
METHODS = ["hypernas", "hypernas-p", "hypernas-h"]


class Played(Recorder):
    """Stands in for a GPU: a record is a step that runs again, on inputs that were written to the same places."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.plays, self.recorded = True, []

    def _record(self, optimizer, kind):
        log = {}
        self.recorded.append(kind)
        return SimpleNamespace(replay=lambda: log.update(self._run(optimizer, kind))), log


@pytest.fixture
def played(monkeypatch):
    """HyperNAS as on a GPU, and the recorders it makes."""
    made = []

    def recorder(self, run, labels, steps):
        if self.generate_weights:
            run.reserve(steps, self.auxiliary.train_images.shape[1:], self.large)
        made.append(Played(partial(self.inputs, run), partial(self.joint_loss, run, labels), "cpu"))
        return made[-1]

    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    return made, partial(monkeypatch.setattr, HyperNAS, "recorder", recorder)


def few(benchmark, n, seed):
    train_set, _ = benchmark.split(n, seed)
    return benchmark.graphs("contracted")[train_set], benchmark.validation[train_set].double()


@pytest.mark.parametrize("method", METHODS)
def test_a_recorded_training_ends_as_one_that_is_not(method, nasbench201, double, played):
    """14 architectures make steps of 10 and of 4: two kinds."""
    made, install = played
    sets, labels = zip(*(few(nasbench201, 14, seed) for seed in (0, 1)), strict=True)
    plain = predictors.fit_many(method, SMALL, sets, labels, [5, 6])
    install()
    recorded = predictors.fit_many(method, SMALL, sets, labels, [5, 6])
    for ours, theirs in zip(recorded, plain, strict=True):
        for a, b in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
        assert ours.history[-1] == pytest.approx(theirs.history[-1])
    assert sorted(made[0].recorded) == [4, 10]


def test_large_networks_are_recorded_step_by_step(nasbench201, double, played, monkeypatch):
    made, install = played
    install()
    monkeypatch.setattr(HyperNAS, "large", True)
    monkeypatch.setattr(HyperNAS, "schedule", lambda self: Schedule(self.epochs, accumulate=5, regroup=False))
    graphs, labels = few(nasbench201, 14, 0)
    predictors.get("hypernas")(**SMALL).fit(graphs, labels)
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


@pytest.mark.parametrize("encoder", ["gcn", "gatedgnn", "ghn2", "gin", "gat", "transformer"])
@pytest.mark.parametrize("method", METHODS)
def test_a_step_to_record_looks_at_no_value(method, encoder, nasbench201):
    """On the device without memory every such look is an error."""
    sets, _ = zip(*(few(nasbench201, 6, seed) for seed in (0, 1)), strict=True)
    here, away = (predictors.get(method)(device=to, encoder=encoder, **SMALL) for to in ("cpu", "meta"))
    run = away.new_pass([here.new_model(graphs) for graphs in sets], sets)
    index, generators = torch.tensor([[0, 2, 1], [5, 3, 4]]), [np.random.default_rng(seed) for seed in (0, 1)]
    assert run.recordable
    if away.generate_weights:
        run.reserve([index], away.auxiliary.train_images.shape[1:], each_apart=False)
    kind, inputs = away.inputs(run, index, generators)
    assert kind == 3
    loss, log = away.joint_loss(run, torch.zeros(2, 6, device="meta"), *(each.to("meta") for each in inputs))
    loss.backward()
    assert {each.device.type for each in (loss, *log.values())} == {"meta"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="records are made by a GPU, and this machine has none")
@pytest.mark.parametrize("method", METHODS)
def test_a_gpu_plays_what_it_recorded(method, nasbench201):
    graphs, labels = few(nasbench201, 14, 0)
    on_cpu, on_gpu = (predictors.get(method)(device=to, **SMALL).fit(graphs, labels) for to in ("cpu", "cuda"))
    assert on_gpu.history[-1] == pytest.approx(on_cpu.history[-1], rel=1e-2)
