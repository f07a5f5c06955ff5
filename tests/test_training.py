"""Claims about the one training loop: schedule, accumulation, seeds, checkpoint and resume."""

import os
import platform
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from hypernas import predictors
from hypernas.errors import UserError
from hypernas.training.loop import Checkpoint, Schedule, train

N = 23


class Line:
    """S lines fitted to noise that is drawn anew every step: order and noise both come from the generators."""

    def __init__(self, seeds=(0, 1), stop_at=None):
        self.seeds, self.stop_at, self.calls = seeds, stop_at, 0
        self.slope = torch.zeros(len(seeds), 1, requires_grad=True)
        self.offset = torch.zeros(len(seeds), 1, requires_grad=True)
        self.unused = torch.ones(3, requires_grad=True)
        self.x = torch.linspace(-1, 1, N)

    def loss(self, index, generators):
        self.calls += 1
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        noise = torch.from_numpy(np.stack([g.normal(size=index.shape[1]) for g in generators])).float()
        x = self.x[index]
        losses = ((self.slope * x + self.offset - 3 * x - 1 - 0.1 * noise) ** 2).mean(1)
        return losses.sum(), {"loss_pred": losses.detach()}

    def fit(self, epochs=6, **settings):
        schedule = Schedule(epochs=epochs, learning_rate=0.1, accumulate=10)
        return train([self.slope, self.unused, self.offset], self.loss, N, schedule, self.seeds, **settings)

    @property
    def bits(self):
        return torch.cat([self.slope, self.offset]).detach().numpy().tobytes()


def test_the_rate_halves_at_half_and_at_three_quarters():
    rates = [Schedule(epochs=200).rate(epoch) for epoch in range(200)]
    assert [rates.count(rate) for rate in (1e-3, 5e-4, 2.5e-4)] == [100, 50, 50]
    assert rates == sorted(rates, reverse=True)


def test_every_epoch_sees_every_architecture_once_in_a_new_order():
    orders = []

    def loss(index, generators):
        orders.append(index)
        return parameter.sum(), {}

    parameter = torch.zeros(1, requires_grad=True)
    train([parameter], loss, N, Schedule(epochs=3), [4])
    epochs = torch.cat(orders, 1).view(3, N)
    assert all(sorted(epoch.tolist()) == list(range(N)) for epoch in epochs)
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 3


def test_training_learns():
    line = Line()
    history = line.fit(epochs=60)
    assert torch.allclose(line.slope, torch.tensor(3.0), atol=0.2)
    assert history[-1]["loss_pred"][0] < 0.05 * history[0]["loss_pred"][0]
    assert [row["epoch"] for row in history] == list(range(60))


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    first, again, other = Line(), Line(), Line(seeds=(0, 2))
    for line in (first, again, other):
        line.fit()
    assert first.bits == again.bits
    assert torch.equal(first.slope[0], other.slope[0])
    assert not torch.equal(first.slope[1], other.slope[1])


def test_seeds_trained_together_are_each_trained_alone():
    together = Line(seeds=(5, 7))
    together.fit()
    for s, seed in enumerate((5, 7)):
        alone = Line(seeds=(seed,))
        alone.fit()
        assert torch.allclose(alone.slope[0], together.slope[s], atol=1e-6)


def test_micro_batches_accumulate_the_gradient_of_the_whole_step():
    """Also in the last, shorter step of an epoch, and with the same draws."""
    whole, parts = Line(seeds=(3,)), Line(seeds=(3,))
    whole.fit()
    parts.fit(micro_batch=1)
    assert parts.calls > 5 * whole.calls
    assert torch.allclose(whole.slope, parts.slope, atol=1e-5)


@pytest.mark.parametrize("stop_at", [1, 4, 8, 15])
def test_a_resumed_training_gives_the_bits_of_one_that_never_stopped(stop_at, tmp_path):
    straight = Line()
    history = straight.fit()
    file = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        Line(stop_at=stop_at).fit(checkpoint=Checkpoint(file))
    resumed = Line()
    assert resumed.fit(checkpoint=Checkpoint(file)) == history
    assert resumed.bits == straight.bits
    assert resumed.calls == 18 - 3 * ((stop_at - 1) // 3)
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_finished_training_is_not_repeated(tmp_path):
    first, again = Line(), Line()
    history = first.fit(checkpoint=Checkpoint(tmp_path / "state"))
    assert again.fit(checkpoint=Checkpoint(tmp_path / "state")) == history
    assert (again.calls, again.bits) == (0, first.bits)


@pytest.mark.parametrize("other", [{"epochs": 7}, {"identity": "other labels"}, {"seeds": (0, 2)}])
def test_a_checkpoint_of_another_training_is_a_user_error_and_stays(other, tmp_path):
    file = tmp_path / "state"
    Line().fit(checkpoint=Checkpoint(file))
    before = file.read_bytes()
    line = Line(seeds=other.pop("seeds", (0, 1)))
    with pytest.raises(UserError, match="checkpoint must be of the same settings and data"):
        line.fit(checkpoint=Checkpoint(file), **other)
    assert file.read_bytes() == before


@pytest.mark.parametrize("harm", [lambda b: b[:-40], lambda b: b"", lambda b: b"no checkpoint"])
def test_a_damaged_checkpoint_is_a_user_error(harm, tmp_path):
    file = tmp_path / "state"
    Line().fit(epochs=1, checkpoint=Checkpoint(file))
    file.write_bytes(harm(file.read_bytes()))
    with pytest.raises(UserError, match="cannot be read; delete it"):
        Line().fit(epochs=1, checkpoint=Checkpoint(file))


def test_progress_shows_a_bar_and_changes_nothing(capsys):
    quiet, loud = Line(), Line()
    quiet.fit()
    loud.fit(progress=True)
    assert "epoch" in capsys.readouterr().err
    assert quiet.bits == loud.bits


def test_a_finished_training_is_repeated_where_that_is_asked_and_a_stopped_one_goes_on(tmp_path):
    first, again, stopped, resumed = Line(), Line(), Line(stop_at=4), Line()
    history = first.fit(checkpoint=Checkpoint(tmp_path / "state"))
    assert again.fit(checkpoint=Checkpoint(tmp_path / "state", anew=True)) == history
    assert (again.calls, again.bits) == (first.calls, first.bits)
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(checkpoint=Checkpoint(tmp_path / "state", anew=True))
    assert resumed.fit(checkpoint=Checkpoint(tmp_path / "state", anew=True)) == history
    assert resumed.calls == first.calls - 3


@pytest.fixture(params=[OSError(28, "No space left on device"), RuntimeError("unexpected pos 64 vs 0")])
def full_disk(request, monkeypatch):
    def full(state, path):
        path.write_bytes(b"half")
        raise request.param

    monkeypatch.setattr(torch, "save", full)


def test_a_checkpoint_that_cannot_be_written_is_warned_of_once_and_leaves_no_file(full_disk, tmp_path):
    straight, line = Line(), Line()
    straight.fit()
    with pytest.warns(UserWarning, match=r"state must be writable, got .*(No space left|unexpected pos)") as warned:
        line.fit(checkpoint=Checkpoint(tmp_path / "state"))
    assert len(warned) == 1
    assert line.bits == straight.bits
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_is_needed_and_cannot_be_written_is_a_user_error_and_leaves_no_file(full_disk, tmp_path):
    with pytest.raises(UserError, match=r"state must be writable, got .*(No space left|unexpected pos)"):
        Line().fit(checkpoint=Checkpoint(tmp_path / "state", needed=True))
    assert list(tmp_path.iterdir()) == []


class Signalled(Line):
    """A process that gets signals in the middle of a step."""

    def __init__(self, *numbers):
        super().__init__()
        self.numbers = numbers

    def loss(self, index, generators):
        value = super().loss(index, generators)
        if self.calls == 5:
            for number in self.numbers:
                os.kill(os.getpid(), number)
        return value


@pytest.mark.parametrize(("number", "ends"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_ends_a_training_after_its_epoch_whose_state_is_kept(number, ends, tmp_path):
    """However long ago the last state was written: 5 of 18 steps are in the second epoch of three steps."""
    before, straight = signal.getsignal(number), Line()
    history = straight.fit()
    checkpoint = Checkpoint(tmp_path / "state", every=3600.0)
    line = Signalled(number)
    with pytest.raises(ends) as ended:
        line.fit(checkpoint=checkpoint)
    assert line.calls == 6
    assert getattr(ended.value, "code", 143) == 143
    assert signal.getsignal(number) is before
    resumed = Line()
    assert resumed.fit(checkpoint=Checkpoint(tmp_path / "state")) == history
    assert (resumed.calls, resumed.bits) == (12, straight.bits)


def test_a_second_signal_ends_a_training_at_once(tmp_path):
    line = Signalled(signal.SIGINT, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        line.fit(checkpoint=Checkpoint(tmp_path / "state"))
    assert line.calls == 5


def test_what_dead_processes_left_half_written_is_removed_and_that_of_living_ones_stays(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for number in (ended.pid, os.getpid()):
        (tmp_path / f".state.{platform.node()}.{number}").write_bytes(b"half")
    Line().fit(epochs=1, checkpoint=Checkpoint(tmp_path / "state"))
    left = {path.name for path in tmp_path.iterdir()}
    assert f".state.{platform.node()}.{ended.pid}" not in left
    assert "state" in left


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_training_at_that_step(wrong):
    class Diverging(Line):
        def loss(self, index, generators):
            value, log = super().loss(index, generators)
            return (value, log) if self.calls < 5 else (value, {"loss_pred": log["loss_pred"] * wrong})

    line = Diverging()
    with pytest.raises(UserError, match=rf"finite loss, got loss_pred {wrong:g} in epoch 2 with a learning rate of .*"):
        line.fit()
    assert line.calls == 5


def test_a_learning_rate_without_bounds_is_named(nasbench201):
    graphs = nasbench201.graphs("contracted")[:6]
    hopeless = predictors.get("np")(epochs=20, learning_rate=1e30, n_layers=1, width=8)
    with pytest.raises(UserError, match="learning rate of 1e\\+30; lower it, or check the labels"):
        hopeless.fit(graphs, torch.arange(6.0))


def test_a_pickle_that_takes_from_an_empty_stack_is_a_damaged_checkpoint(tmp_path, monkeypatch):
    """What PyTorch's reader of weights does with a list that was cut: it is no bug of ours."""

    def broken(*arguments, **settings):
        raise IndexError("pop from empty list")

    Line().fit(epochs=1, checkpoint=Checkpoint(tmp_path / "state"))
    monkeypatch.setattr(torch, "load", broken)
    with pytest.raises(UserError, match=r"a checkpoint must be a file of this library, .*state cannot be read"):
        Line().fit(epochs=1, checkpoint=Checkpoint(tmp_path / "state"))


def test_a_bug_of_ours_in_a_checkpoint_is_not_called_a_foreign_file(tmp_path, monkeypatch):
    def broken(*arguments, **settings):
        raise NameError("a bug")

    Line().fit(epochs=1, checkpoint=Checkpoint(tmp_path / "state"))
    monkeypatch.setattr(torch, "load", broken)
    with pytest.raises(NameError, match="a bug"):
        Line().fit(epochs=1, checkpoint=Checkpoint(tmp_path / "state"))
