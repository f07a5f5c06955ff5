"""Claims about `hypernas train`: what a step is, that a stopped training goes on, what bad input is told."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from test_darts import V2

from hypernas import cli, spaces
from hypernas.data.augmentation import augmented
from hypernas.data.images import Images
from hypernas.errors import UserError
from hypernas.lab import full_training
from hypernas.lab.full_training import Descent, FullTraining, read_architecture
from hypernas.lab.rows import Results

SMALL = FullTraining(epochs=2, channels=2, batch=4, cutout=8, drop_path=0.3)


@pytest.fixture(scope="module")
def images():
    """Six colour images of 32 x 32 in two classes, bright and dark."""
    torch.manual_seed(0)
    labels = torch.arange(6) % 2
    x = 0.3 * torch.randn(6, 3, 32, 32) + (2 * labels - 1)[:, None, None, None]
    return Images("cifar10", x[:4], labels[:4], x[4:], labels[4:], 2, "made by the test")


@pytest.fixture
def file(tmp_path, monkeypatch, images):
    """A genotype's file; results and images are those of the test."""
    monkeypatch.setenv("HYPERNAS_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(full_training, "load_images", lambda name, n_images: images)
    path = tmp_path / "found.txt"
    path.write_text(V2)
    return path


def state_of(path: Path) -> Path:
    """The only checkpoint beside an architecture's file."""
    (kept,) = path.parent.glob(f"{path.name}.*.checkpoint")
    return kept


class Line(torch.nn.Module):
    """Two numbers and a running one, in place of a network."""

    def __init__(self):
        super().__init__()
        self.weight, self.drop_path = torch.nn.Parameter(torch.tensor([100.0, 0.0])), 0.0
        self.register_buffer("seen", torch.zeros(()))


def test_the_rate_follows_a_cosine_drop_path_a_line_and_gradients_are_clipped():
    line = Line()
    schedule = Descent(epochs=4, learning_rate=0.1, weight_decay=0.0, drop_path=0.2, network=line)
    optimizer = schedule.optimizer([line.weight])
    rates, drops = [], []
    for epoch in range(4):
        schedule.begin(epoch, optimizer)
        rates.append(optimizer.param_groups[0]["lr"])
        drops.append(line.drop_path)
    assert rates == pytest.approx([0.1, 0.1 * (1 + 0.5**0.5) / 2, 0.05, 0.1 * (1 - 0.5**0.5) / 2])
    assert drops == pytest.approx([0.0, 0.05, 0.1, 0.15])
    schedule.begin(0, optimizer)
    (line.weight * torch.tensor([40.0, 30.0])).sum().backward()
    optimizer.step()
    assert line.weight.detach().tolist() == pytest.approx([100 - 0.1 * 4, -0.1 * 3])


def test_the_published_settings_are_the_defaults():
    published = Descent(network=None)
    assert (published.epochs, published.learning_rate, published.accumulate) == (600, 0.025, 96)
    assert (published.momentum, published.weight_decay, published.clip, published.drop_path) == (0.9, 3e-4, 5.0, 0.2)
    recipe = FullTraining()
    assert (recipe.channels, recipe.auxiliary, recipe.cutout, recipe.batch) == (36, 0.4, 16, 96)


def test_images_are_moved_mirrored_and_lose_one_square():
    x = torch.arange(1.0, 1 + 400 * 64).view(400, 1, 8, 8)
    changed = augmented(x, np.random.default_rng(0), cutout=4)
    assert changed.shape == x.shape
    holes = (augmented(torch.ones(400, 1, 32, 32), np.random.default_rng(0), 4)[:, 0, 8:24, 8:24] == 0).sum((1, 2))
    assert set(holes.tolist()) >= {0, 16}
    assert int(holes.max()) == 16
    whole = augmented(x, np.random.default_rng(0), cutout=0)[:, 0]
    steps = (whole[:, 4, 1:] - whole[:, 4, :-1])[:, 3]
    inside = (whole[:, 4, 3:5] > 0).all(1)
    assert set(steps[inside].tolist()) == {1.0, -1.0}
    moved = {int(value) for value in (whole[inside][:, 4, 3] - 1) % 64}
    assert len(moved) > 30
    assert torch.equal(augmented(x, np.random.default_rng(0), 4), changed)


def test_a_stopped_training_goes_on_to_the_same_bits_and_its_row_is_recorded(file, tmp_path, monkeypatch):
    straight = full_training.run(file, SMALL)
    weights = torch.load(state_of(file), weights_only=True)["parameters"]
    calls = []

    def stopped(x, rng, cutout):
        calls.append(len(x))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return augmented(x, rng, cutout)

    monkeypatch.setattr(full_training, "augmented", stopped)
    again = tmp_path / "again.txt"
    again.write_text(V2)
    monkeypatch.setenv("HYPERNAS_RESULTS", str(tmp_path / "others"))
    with pytest.raises(KeyboardInterrupt):
        full_training.run(again, SMALL)
    torch.rand(3)
    resumed = full_training.run(again, SMALL)
    assert calls == [4, 4, 4]
    same = torch.load(state_of(again), weights_only=True)["parameters"]
    assert all(torch.equal(a, b) for a, b in zip(weights, same, strict=True))
    facts = ("test_accuracy", "train_accuracy", "loss", "n_parameters", "settings")
    assert [resumed[name] for name in facts] == [straight[name] for name in facts]
    assert resumed["n_parameters"] == sum(each.numel() for each in spaces.get("darts").network(
        spaces.get("darts").parse(V2), channels=2, n_classes=2, auxiliary=False).parameters())  # fmt: skip
    assert Results.of("training").rows() == [resumed]
    assert full_training.run(again, SMALL) == resumed
    assert len(calls) == 3


def test_a_search_s_line_and_a_pasted_genotype_are_one_architecture(file, tmp_path):
    space, architecture = read_architecture(file, "darts")
    line = tmp_path / "found.json"
    for name in ("architecture", "notation"):
        line.write_text(json.dumps({"space": "darts", name: architecture.notation, "accuracy": 94.0}))
        assert read_architecture(line, "nasbench101") == (space, architecture)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "has none"),
        (b"\xff\xfe", "cannot be read: it is no text"),
        (b'{"accuracy": 94.0}', "has none"),
        (b'{"architecture": ', "is no whole JSON"),
        (b"Genotype(normal=[], reduce=[])", "normal must list 8 edges"),
        (b'{"space": "vit", "notation": "x"}', r"networks are trained as published \(darts\), got vit"),
        (b'{"space": "other", "notation": "x"}', "search space must be one of"),
    ],
)
def test_a_wrong_file_is_told_what_is_wrong(tmp_path, content, told):
    path = tmp_path / "found.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=told):
        read_architecture(path, "darts")
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_architecture(tmp_path / "absent", "darts")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch": 1}, "batch must be at least 2, got 1"),
        ({"learning_rate": float("nan")}, "learning_rate must be a finite number above 0, got nan"),
        ({"learning_rate": 0.0}, "learning_rate must be a finite number above 0, got 0"),
        ({"drop_path": 1.0}, "drop_path must be at least 0 and below 1, got 1"),
        ({"auxiliary": float("nan")}, "auxiliary must be at least 0, got nan"),
        ({"channels": 0}, "channels must be at least 1, got 0"),
        ({"n_images": -1}, "n_images must be at least 0, got -1"),
        ({"seed": -1}, "seed must be from 0 to 4294967295, got -1"),
        ({"seed": 2**32}, "seed must be from 0 to 4294967295, got 4294967296"),
    ],
)
def test_impossible_settings_are_refused(change, told):
    with pytest.raises(UserError, match=told):
        replace(SMALL, **change)


def test_what_cannot_be_trained_is_refused_before_the_first_epoch(file, images, monkeypatch):
    with pytest.raises(UserError, match="the last batch must have at least 2 images, got 4 in batches of 3"):
        full_training.run(file, replace(SMALL, batch=3))
    with pytest.raises(UserError, match="channels must be at least 2"):
        full_training.run(file, replace(SMALL, channels=1))
    small = replace(images, train_images=images.train_images[..., :16, :16])
    monkeypatch.setattr(full_training, "load_images", lambda name, n_images: small)
    with pytest.raises(UserError, match="must read maps of 8 x 8, got 4 x 4"):
        full_training.run(file, SMALL)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"device must be one that this machine has \(.*\), got 'cuda'"):
        full_training.run(file, SMALL, device="cuda")
    assert not Results.of("training").rows()


def test_the_command_reads_a_recorded_row_and_says_it_in_words(file):
    row = {"table": "training", "space": "darts", "dataset": "cifar10", "method": "full-training", "n_train": 1}
    space, architecture = read_architecture(file, "darts")
    settings = {"architecture": space.canonical(architecture, "raw").notation, "n_images": 0, "epochs": 2}
    settings |= {"channels": 2, "batch": 4, "learning_rate": 0.025, "drop_path": 0.3, "auxiliary": 0.4, "cutout": 8}
    row |= {"seed": 0, "profile": "paper", "protocol": "clean", "settings": settings, "test_accuracy": 50.0}
    Results.of("training").add(row | {"n_parameters": 12_345, "seconds": 1.5})
    words = f"train --arch {file} --epochs 2 --channels 2 --batch 4 --cutout 8 --drop-path 0.3".split()
    done = CliRunner().invoke(cli.main, words)
    assert done.output == ("darts/cifar10  12,345 parameters  2 epochs  seed 0  test accuracy 50.00 %  1.5 s\n")
    refused = CliRunner().invoke(cli.main, ["train", "--arch", str(file), "--space", "vit"])
    assert (refused.exit_code, refused.output.count("\n")) == (2, 1)


def test_grey_images_without_an_auxiliary_head_are_trained_on_too():
    network = spaces.get("darts").network(spaces.get("darts").parse(V2), channels=2, auxiliary=False)
    assert 0 <= full_training.accuracy(network, torch.randn(3, 1, 8, 8), torch.tensor([0, 1, 2])) <= 100


class Small(torch.nn.Linear):
    """A network of one layer."""

    def forward(self, x):
        return super().forward(x.flatten(1))

    def with_auxiliary(self, x):
        return self(x), None


def test_force_trains_again_what_is_finished(file, monkeypatch):
    calls = []
    monkeypatch.setattr(type(spaces.get("darts")), "network", lambda *_, **sizes: Small(3 * 32 * 32, 2))
    monkeypatch.setattr(full_training, "augmented", lambda x, rng, cutout: calls.append(len(x)) or x)
    row = full_training.run(file, SMALL)
    assert full_training.run(file, SMALL) == row
    assert calls == [4] * SMALL.epochs
    full_training.run(file, SMALL, force=True)
    assert calls == [4] * SMALL.epochs * 2


def test_another_seed_or_recipe_of_one_file_trains_beside_what_is_there(file, monkeypatch):
    monkeypatch.setattr(type(spaces.get("darts")), "network", lambda *_, **sizes: Small(3 * 32 * 32, 2))
    for recipe in (SMALL, replace(SMALL, seed=1), replace(SMALL, epochs=1)):
        row = full_training.run(file, recipe)
        assert (row["seed"], row["settings"]["epochs"]) == (recipe.seed, recipe.epochs)
    assert len(list(file.parent.glob("found.txt.*.checkpoint"))) == 3
    assert len(Results.of("training").rows()) == 3


def test_a_folder_that_cannot_keep_the_state_is_refused_before_images_are_read(file, monkeypatch, tmp_path_factory):
    monkeypatch.setenv("HYPERNAS_RESULTS", str(tmp_path_factory.mktemp("results")))
    monkeypatch.setattr(full_training, "load_images", pytest.fail)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != file.parent)
    with pytest.raises(UserError, match=f"the folder of the architecture must be writable, {file.parent} is not"):
        full_training.run(file, SMALL)
