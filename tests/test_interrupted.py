"""Claims about experiments that are stopped half way: nothing is lost, nothing else changes."""

import os
import time

import pytest
import torch

from hypernas.lab import experiment as experiments
from hypernas.lab.experiment import Experiment
from hypernas.lab.recording import run_many
from hypernas.lab.rows import Results
from hypernas.predictors.neural_predictor import NeuralPredictor


def test_a_training_that_was_stopped_goes_on_where_it_was(tmp_path, monkeypatch):
    """Two seeds together: the same rows as without a stop, the seconds of both parts, no file left."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(experiments, "SAVE_SECONDS", 0.0)
    settings = {"epochs": 4, "n_layers": 1, "width": 8}
    asked = [Experiment("few_shot", "nasbench201", "cifar10", "np", 20, seed, settings=settings) for seed in (0, 1)]
    calls, step = [], NeuralPredictor.step

    def stopped(self, *arguments):
        calls.append(1)
        if len(calls) == 6:
            time.sleep(0.5)
            raise KeyboardInterrupt
        return step(self, *arguments)

    def recorded(folder):
        monkeypatch.setenv("HYPERNAS_RESULTS", str(tmp_path / folder))
        return list(run_many(asked, progress=False))

    monkeypatch.setattr(NeuralPredictor, "step", stopped)
    with pytest.raises(KeyboardInterrupt):
        recorded("stopped")
    (state,) = (tmp_path / "cache" / "hypernas" / "checkpoints").iterdir()
    spent = torch.load(state, weights_only=True)["seconds"]
    resumed = recorded("stopped")
    assert len(calls) == 6 + 4
    assert sum(row["seconds"] for row in resumed) >= spent > 0
    assert not state.exists()
    straight = recorded("straight")
    assert len(calls) == 10 + 8
    facts = ("seconds", "started")
    assert [{k: v for k, v in row.items() if k not in facts} for row in resumed] == [
        {k: v for k, v in row.items() if k not in facts} for row in straight
    ]


def test_a_stop_between_a_training_and_its_rows_repeats_no_epoch(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HYPERNAS_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(experiments, "SAVE_SECONDS", 0.0)
    settings = {"epochs": 3, "n_layers": 1, "width": 8}
    asked = [Experiment("few_shot", "nasbench201", "cifar10", "np", 20, seed, settings=settings) for seed in (0, 1)]
    calls, step = [], NeuralPredictor.step
    monkeypatch.setattr(NeuralPredictor, "step", lambda self, *arguments: calls.append(1) or step(self, *arguments))

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr(Results, "add_all", killed)
        with pytest.raises(KeyboardInterrupt):
            list(run_many(asked, progress=False))
    trained = len(calls)
    assert trained == 3 * 2
    rows = list(run_many(asked, progress=False))
    assert (len(calls), [row["seed"] for row in rows]) == (trained, [0, 1])
    assert list((tmp_path / "cache" / "hypernas" / "checkpoints").iterdir()) == []


def test_experiments_run_where_no_cache_can_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert experiments.checkpoint_for([Experiment("few_shot", "nasbench201", "cifar10", "np", 20, 0)], "cpu") is None


def test_seeds_of_the_plain_engine_do_not_share_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HYPERNAS_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(experiments, "SAVE_SECONDS", 0.0)
    settings = {"engine": "plain", "epochs": 1, "n_layers": 1, "width": 8, "n_test": 5}
    asked = [Experiment("few_shot", "nasbench201", "cifar10", "hypernas-p", 4, s, settings=settings) for s in (0, 1)]
    assert [row["seeds_together"] for row in run_many(asked, progress=False)] == [1, 1]
    assert list((tmp_path / "cache" / "hypernas" / "checkpoints").iterdir()) == []


def test_experiments_run_where_the_cache_is_read_only(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked = [Experiment("few_shot", "nasbench201", "cifar10", "np", 20, 0)]
    assert experiments.checkpoint_for(asked, "cpu").path.parent == tmp_path / "hypernas" / "checkpoints"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert experiments.checkpoint_for(asked, "cpu") is None
