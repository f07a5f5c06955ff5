"""Claims about `hypernas label`: what is trained, what is written, what happens when it is stopped."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from hypernas import cli, spaces
from hypernas.data import labelled, load_images
from hypernas.errors import MissingTable, UserError
from hypernas.fast.learned_networks import Networks
from hypernas.lab import labelling
from hypernas.lab.benchmark import Benchmark
from hypernas.lab.labelling import Labelling, label, sample_distinct, train_group
from hypernas.lab.runner import Workers
from hypernas.spaces import nasbench201
from hypernas.training.loop import Schedule

SMALL = Labelling("nasbench101", n=5, epochs=1, seeds=2, channels=4, cells_per_stage=1, batch=512)
CHAIN = "conv3x3(0)|output(1)"
EDGES = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|avg_pool_3x3~1|nor_conv_1x1~2|"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """No table anywhere, and one to be at benchmarks/nasbench101.parquet."""
    monkeypatch.setenv("HYPERNAS_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(labelled, "checkout", lambda: tmp_path / "elsewhere")
    return tmp_path


@pytest.fixture
def out(folder):
    return folder / "benchmarks" / "nasbench101.parquet"


@pytest.fixture
def fake_training(monkeypatch):
    """Records without any training; the list of notations that were asked for."""
    asked = []

    def train_fake(recipe, notations):
        asked.extend(notations)
        runs = np.linspace(20, 80, recipe.seeds).tolist()
        return [{"notation": n, "validation": runs, "test": [len(n), *runs[1:]], "parameters": 7} for n in notations]

    monkeypatch.setattr(labelling, "train_group", train_fake)
    return asked


def test_a_labelled_table_opens_like_the_official_one(out):
    assert label(SMALL, out, workers=Workers(1), progress=False) == out
    benchmark = Benchmark("nasbench101", "digits")
    assert len(benchmark) == len(benchmark.graphs("pruned")) == 5
    runs = benchmark.table.columns["test_runs"]
    assert runs.shape == (5, 2)
    assert benchmark.test.tolist() == pytest.approx(runs.mean(1).tolist())
    assert benchmark.validation.tolist() == benchmark.table.columns["validation_runs"][:, 0].tolist()
    assert "5 architectures trained by `hypernas label` on digits for 1 epochs, 2 seeds each" in benchmark.table.source
    assert [len(part) for part in benchmark.split(2, seed=0)] == [2, 3]
    made = labelled.provenance_of(out)
    assert asdict(SMALL).items() <= made.items()
    assert {"commit", "version", "device", "started", "finished", "image_source"} <= made.keys()
    assert sorted(path.name for path in out.parent.iterdir()) == [".nasbench101.parquet.lock", out.name]


def test_it_is_opened_where_nothing_else_is_present(out, fake_training):
    with pytest.raises(MissingTable, match=r"hypernas data fetch nasbench101.*hypernas label --space nasbench101"):
        Benchmark("nasbench101")
    label(SMALL, out, workers=Workers(1), progress=False)
    assert Benchmark("nasbench101").dataset == "digits"
    with pytest.raises(MissingTable, match=r"hypernas data fetch nasbench101"):
        Benchmark("nasbench101", "cifar10")


def test_architectures_are_distinct_and_the_same_every_time():
    space = spaces.get("nasbench101")
    drawn = sample_distinct(space, 30)
    assert drawn[:10] == sample_distinct(space, 10)
    graphs = [space.canonical(space.parse(notation)).notation for notation in drawn]
    assert len(set(graphs)) == 30


def test_a_space_with_too_few_architectures_is_told():
    class Single(type(spaces.get("nasbench101"))):
        def sample(self, rng):
            return self.parse(CHAIN)

    with pytest.raises(UserError, match="n must be at most the 1 different architectures that nasbench101 gave, got 3"):
        sample_distinct(Single(), 3)


def test_a_space_is_taken_for_exhausted_long_before_a_number_without_end_is_drawn():
    space, drawn = spaces.get("nasbench101"), []

    class Few(type(space)):
        def sample(self, rng):
            drawn.append(1)
            return space.sample(np.random.default_rng(int(rng.integers(30))))

    with pytest.raises(UserError, match=r"n must be at most the \d\d different architectures .* got 1000000"):
        sample_distinct(Few(), 1_000_000)
    assert len(drawn) < 2_000
    assert len(sample_distinct(Few(), 20)) == 20


def test_trainings_that_all_diverged_are_no_labels(out):
    with pytest.raises(
        UserError, match=r"below 10 times the cross-entropy of a guess, 2.30, got at least .* of 1e\+30"
    ):
        label(replace(SMALL, learning_rate=1e30), out, workers=Workers(1), progress=False)
    assert not out.exists()


def test_training_learns_the_digits_and_depends_on_the_seed():
    recipe = replace(SMALL, epochs=6, batch=64, channels=8)
    (record,) = train_group(recipe, [CHAIN])
    assert min(record["test"]) > 60
    assert record["test"][0] != record["test"][1]
    assert record["parameters"] == sum(
        (9 * 1 * 8 + 16, *((c_in * c + 2 * c) + (9 * c * c + 2 * c) for c_in, c in ((8, 8), (8, 16), (16, 32))), 330)
    )


@pytest.mark.parametrize(
    ("space", "notations"),
    [
        ("nasbench101", (CHAIN, "conv1x1(0)|maxpool3x3(0,1)|conv3x3(2)|output(1,3)")),
        ("nasbench201_depth", (f"{EDGES} / {EDGES} / {EDGES}", f"{EDGES} / {EDGES} {EDGES} {EDGES} / {EDGES} {EDGES}")),
    ],
)
def test_networks_beside_each_other_do_not_touch(space, notations):
    """Trained alone or beside another of any depth, a network ends where it would, but for the order of sums."""
    space, images = spaces.get(space), load_images("digits")
    one, other = (space.build(space.parse(n), channels=4, cells_per_stage=3, stem_stride=2) for n in notations)
    x, y = images.train_images[:256].double(), images.train_labels[:256]
    torch.set_default_dtype(torch.float64)
    try:
        beside, alone = Networks([one, other, one], [0, 0, 1], 1, 10), Networks([one], [0], 1, 10)
        for networks in (beside, alone):
            networks.fit(x, y, Schedule(2, 1e-2, 64))
        with torch.no_grad():
            logits = beside.logits(x.expand(3, *x.shape))
            torch.testing.assert_close(logits[0], alone.logits(x[None])[0], rtol=1e-7, atol=1e-7)
            assert not torch.allclose(logits[0], logits[2])
    finally:
        torch.set_default_dtype(torch.float32)


def test_held_out_images_are_not_trained_on(monkeypatch):
    seen = {}
    monkeypatch.setattr(Networks, "fit", lambda self, x, y, schedule: seen.update(train=x) or [0.0])
    monkeypatch.setattr(Networks, "accuracies", lambda self, x, y: seen.update({len(seen): x}) or torch.zeros(2))
    train_group(SMALL, [CHAIN])
    rows = {name: {image.numpy().tobytes() for image in x} for name, x in seen.items()}
    assert len(seen["train"]) == 1437 - 360
    assert not rows["train"] & rows[1]
    assert not rows["train"] & rows[2]
    assert len(seen[1]) == len(seen[2]) == 360


def test_without_any_table_nasbench201_names_what_brings_one_as_other_spaces_do(folder, monkeypatch):
    monkeypatch.setattr(nasbench201, "find", lambda name: None)
    words = r"no nasbench201 table is present; `pip install analog-nasbench.* `hypernas label --space nasbench201`"
    with pytest.raises(MissingTable, match=words):
        Benchmark("nasbench201")
    with pytest.raises(MissingTable, match="holds cifar10 only, got 'cifar100'"):
        Benchmark("nasbench201", "cifar100")


def test_a_stopped_run_goes_on_and_a_torn_line_is_trained_again(out, monkeypatch, fake_training):
    whole = labelling.train_group

    def stopped(recipe, notations):
        if fake_training:
            raise KeyboardInterrupt
        return whole(recipe, notations)

    monkeypatch.setattr(labelling, "train_group", stopped)
    with pytest.raises(KeyboardInterrupt):
        label(SMALL, out, workers=Workers(1), progress=False)
    journal = out.with_name(f"{out.name}.partial.jsonl")
    assert not out.exists()
    kept = fake_training.copy()
    assert len(kept) == labelling.GROUP < SMALL.n
    journal.write_bytes(journal.read_bytes()[:-20])
    monkeypatch.setattr(labelling, "train_group", whole)
    fake_training.clear()
    label(SMALL, out, workers=Workers(1), progress=False)
    assert len(fake_training) == SMALL.n - labelling.GROUP + 1
    assert kept[-1] in fake_training
    assert not journal.exists()
    assert Benchmark("nasbench101", "digits").table.columns["notation"].tolist() == sample_distinct(
        spaces.get("nasbench101"), SMALL.n
    )


def test_a_second_run_trains_nothing_and_other_settings_are_refused(out, fake_training):
    label(SMALL, out, workers=Workers(1), progress=False)
    fake_training.clear()
    label(SMALL, out, workers=Workers(1), progress=False)
    assert fake_training == []
    with pytest.raises(UserError, match="made with other settings"):
        label(replace(SMALL, epochs=2), out, workers=Workers(1), progress=False)
    label(replace(SMALL, epochs=2), out, workers=Workers(1), force=True, progress=False)
    assert labelled.provenance_of(out)["epochs"] == 2


def test_a_journal_of_other_settings_is_refused(out, fake_training):
    out.parent.mkdir()
    journal = out.with_name(f"{out.name}.partial.jsonl")
    journal.write_text(json.dumps(asdict(replace(SMALL, seeds=3))) + "\n")
    with pytest.raises(UserError, match="belongs to other settings"):
        label(SMALL, out, workers=Workers(1), progress=False)
    assert json.loads(journal.read_text())["seeds"] == 3


def test_other_processes_can_do_the_work(out):
    recipe = replace(SMALL, n=2, seeds=1, n_validation=1300)
    label(recipe, out, workers=Workers(2), progress=False)
    assert len(Benchmark("nasbench101", "digits")) == recipe.n


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"n": 1}, "n must be at least 2, got 1"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"seeds": 0}, "seeds must be at least 1, got 0"),
        ({"stem_stride": 0}, "stem_stride must be at least 1, got 0"),
        ({"n": 10**23}, "n must be at most 1,000,000, got 1"),
        ({"seeds": 10**9}, "seeds must be at most 1,000, got 1"),
        ({"channels": 10**9}, "channels must be at most 4,096, got 1"),
    ],
)
def test_impossible_numbers_are_refused(change, rule):
    with pytest.raises(UserError, match=rule):
        replace(SMALL, **change)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"space": "nothing"}, "search space must be one of"),
        ({"images": "nothing"}, "images must be one of"),
        ({"channels": 1, "n": 40}, "channels must be at least"),
        ({"cells_per_stage": 9}, "cells_per_stage must be from 1 to 3, got 9"),
        ({"space": "nasbench201", "stem_stride": 4}, "images must be large enough to be halved at every reduction"),
    ],
)
def test_what_cannot_be_built_is_refused_before_anything_is_trained(out, fake_training, change, rule):
    with pytest.raises(UserError, match=rule):
        label(replace(SMALL, **change), out, workers=Workers(1), progress=False)
    assert fake_training == []
    assert not out.exists()


def test_a_full_disk_leaves_no_table(out, fake_training, monkeypatch):
    import pyarrow.parquet

    def full(table, path, **_):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pyarrow.parquet, "write_table", full)
    with pytest.raises(UserError, match="No space left on device"):
        label(SMALL, out, workers=Workers(1), progress=False)
    assert [path.name for path in out.parent.iterdir() if "lock" not in path.name] == [f"{out.name}.partial.jsonl"]
    monkeypatch.undo()


@pytest.mark.parametrize("damage", [lambda content: content[:-30], lambda content: b"other" * 100])
def test_a_damaged_table_is_one_sentence(out, fake_training, damage):
    label(SMALL, out, workers=Workers(1), progress=False)
    out.write_bytes(damage(out.read_bytes()))
    with pytest.raises(UserError, match="make it again"):
        Benchmark("nasbench101", "digits")


def test_the_command_labels_and_the_next_one_reads(out, fake_training):
    words = f"label --space nasbench101 --n 4 --epochs 1 --seed 0:1 --channels 4 --workers 1 --out {out}".split()
    done = CliRunner().invoke(cli.main, words)
    assert (done.exit_code, done.stdout.strip()) == (0, str(out))
    assert done.stderr == "4 of 4 architectures to train, 1 times each for 1 epochs, on this process (cpu)\n"
    refused = CliRunner().invoke(cli.main, [*words, "--n", "5"])
    assert refused.exit_code == 2
    assert "Error: " in refused.output
    assert refused.output.count("\n") == 1


def test_the_cost_of_labelling_is_told_by_one_epoch_where_that_is_little_beside_the_whole(monkeypatch):
    tried = []
    monkeypatch.setattr(labelling, "train_group", lambda recipe, notations: tried.append((recipe.epochs, notations)))
    notations = [str(number) for number in range(100)]
    told = labelling.cost(replace(SMALL, n=120, epochs=30), notations, labelling.Workers(2))
    assert tried == [(1, notations[:4])]
    assert told.startswith("100 of 120 architectures to train")
    assert "on 2 workers (cpu), about 1 s by an epoch of the first 4; 20 are trained already" in told


def test_seeds_are_spelled_as_everywhere_and_are_the_first_ones(out):
    words = ["label", "--space", "nasbench101", "--seed", "1:3", "--out", str(out)]
    refused = CliRunner().invoke(cli.main, words)
    assert (refused.exit_code, refused.output.count("\n")) == (2, 1)
    assert "seed must be the first ones, 0:2 for 2, got '1:3'" in refused.output
    assert not out.exists()
