"""Claims about zero-cost proxies: what they leave alone, what they are blind to, what is recorded of them."""

import copy
import json
import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hypernas import spaces
from hypernas.cli import main
from hypernas.errors import UserError
from hypernas.lab import experiment, provenance, recording
from hypernas.lab import rows as results
from hypernas.lab import zero_cost_rows as zero_cost
from hypernas.lab.journal import Journal
from hypernas.lab.rows import Results
from hypernas.lab.runner import Workers
from hypernas.lab.zero_cost_cells import Cells, benchmarks
from hypernas.spaces.trainable_network import TrainableNetwork
from hypernas.zero_cost import proxies

CELL = "|nor_conv_3x3~0|+|avg_pool_3x3~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"
TINY = {"channels": 2, "cells_per_stage": 1}
SMALL = (
    "zero-cost --space nasbench201 --n 4 --images digits --side 8 --batch 8 --channels 2 --cells-per-stage 1".split()
)
WITH_LABELS = ("gradnorm", "snip", "fisher", "zico", "eznas", "grasp")


@pytest.fixture(scope="module")
def space():
    return spaces.get("nasbench201")


@pytest.fixture
def network(space):
    torch.manual_seed(0)
    return TrainableNetwork(space.build(space.canonical(space.parse(CELL), "pruned"), **TINY), 3, 10)


@pytest.fixture
def batch():
    torch.manual_seed(1)
    return torch.randn(8, 3, 8, 8), torch.arange(8)


@pytest.fixture
def own(monkeypatch, tmp_path):
    """Results and cache in folders of the test, by the code of a commit."""
    monkeypatch.setattr(provenance, "commit", lambda: "abc1234")
    monkeypatch.setenv("HYPERNAS_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def hypernas(own, capsys):
    """Call `hypernas zero-cost ...` in this process -> exit code, lines of stdout, lines of stderr."""

    def call(*words):
        with pytest.raises(SystemExit) as stop:
            main([*SMALL, *words], prog_name="hypernas")
        out = capsys.readouterr()
        return stop.value.code, out.out.splitlines(), out.err.splitlines()

    return call


def rows_of(recipe, methods, n, seeds, workers=None, force=False):
    planned = recording.plan(zero_cost.experiments(recipe, methods, n, seeds), force)
    return [outcome.row for outcome in recording.carry_out(planned, workers, progress=False)]


def scored(name, network, images, labels):
    torch.manual_seed(2)
    return proxies.get(name)(network, images, labels)


def plain(channels=4):
    """A network that knows nothing of the library."""
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10),
    )  # fmt: skip


@pytest.mark.parametrize("name", proxies.names())
def test_a_proxy_leaves_the_network_as_it_was_and_says_the_same_again(name, network, batch):
    network.eval()
    network(batch[0]).sum().backward()
    network.norms["0"].weight.requires_grad_(False)
    before = copy.deepcopy(network.state_dict())
    gradients = [None if value.grad is None else value.grad.clone() for value in network.parameters()]
    first = scored(name, network, *batch)
    assert math.isfinite(first)
    assert isinstance(first, float)
    assert scored(name, network, *batch) == first
    assert not network.training
    assert not network.norms["0"].weight.requires_grad
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key
    for value, old in zip(network.parameters(), gradients, strict=True):
        assert value.grad is old or torch.equal(value.grad, old)


@pytest.mark.parametrize("name", proxies.names())
def test_any_network_of_pytorch_can_be_scored(name, batch):
    torch.manual_seed(0)
    assert math.isfinite(scored(name, plain(), *batch))


def test_a_network_without_convolutions_has_no_score_of_its_maps_or_kernels(batch):
    linear = nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.ReLU(), nn.Linear(5, 10))
    assert np.isnan([proxies.get(name)(linear, *batch) for name in ("zen", "eznas")]).all()
    assert np.isfinite(proxies.get("gradnorm")(linear, *batch))


@pytest.mark.parametrize("name", [name for name in proxies.names() if name not in WITH_LABELS])
def test_these_know_nothing_of_labels(name, network, batch):
    images, labels = batch
    assert scored(name, network, images, labels) == scored(name, network, images, labels.flip(0))


@pytest.mark.parametrize("name", ["params", "flops", "l2norm", "synflow", "zen"])
def test_these_know_nothing_of_what_the_images_show(name, network, batch):
    images, labels = batch
    assert scored(name, network, images, labels) == scored(name, network, images.flip(2).exp(), labels)


@pytest.mark.parametrize("name", ["nwot", "gradnorm", "snip", "grasp"])
def test_the_order_of_the_images_does_not_matter(name, network, batch):
    images, labels = batch
    assert scored(name, network, images.flip(0), labels.flip(0)) == pytest.approx(scored(name, network, *batch), 1e-3)


def test_synflow_is_positive_and_the_product_of_the_weights_along_all_paths(batch):
    """Of two linear layers without bias it is twice the sum of the products, one for each layer, unnormalised."""
    torch.manual_seed(0)
    layers = [nn.Linear(192, 5, bias=False), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 10, bias=False)]
    network = nn.Sequential(nn.Flatten(), *layers)
    a, b = (network[i].weight.detach().double().abs() for i in (1, 4))
    found = scored("synflow", network, *batch)
    assert found > 0
    assert found == pytest.approx(float(2 * (b @ a).sum()))


def test_parameters_and_multiply_adds_are_those_that_the_space_counts(space, rng):
    for _ in range(3):
        architecture = space.canonical(space.sample(rng), "pruned")
        network, images = TrainableNetwork(space.build(architecture), 3, 10), torch.zeros(1, 3, 32, 32)
        found = [scored(name, network, images, torch.zeros(1, dtype=torch.long)) for name in ("params", "flops")]
        assert found == list(space.count(architecture))


def test_gradients_are_those_of_the_loss(batch):
    torch.manual_seed(0)
    network = plain().train()
    F.cross_entropy(network(batch[0]), batch[1]).backward()
    pairs = [(weight.detach(), weight.grad) for weight in (network[0].weight, network[5].weight)]
    assert scored("gradnorm", network, *batch) == pytest.approx(float(sum(g.norm() for _, g in pairs)), 1e-5)
    assert scored("snip", network, *batch) == pytest.approx(float(sum((w * g).abs().sum() for w, g in pairs)), 1e-5)


def test_grasp_is_the_slope_of_the_gradients_length_along_the_weights(batch):
    """-w H g is half the change of |g|^2 when the weights grow by a factor, with the sign turned."""
    torch.manual_seed(0)
    network = plain().double()
    images, labels = batch[0].double(), batch[1]

    def length(factor):
        scaled = copy.deepcopy(network)
        weights = [scaled[0].weight, scaled[5].weight]
        with torch.no_grad():
            for weight in weights:
                weight.mul_(factor)
        gradients = torch.autograd.grad(F.cross_entropy(scaled(images), labels), weights)
        return float(sum(g.square().sum() for g in gradients))

    slope = (length(1 + 1e-5) - length(1 - 1e-5)) / 2e-5
    assert scored("grasp", network, images, labels) == pytest.approx(-slope / 2, rel=1e-4)


def test_fisher_is_half_the_mean_square_of_a_channels_activation_times_gradient(batch):
    torch.manual_seed(0)
    network, (images, labels) = plain().train(), batch
    y = network[0](images)
    g = torch.autograd.grad(F.cross_entropy(network[1:](y), labels), y)[0]
    first = 27 * (y * g).sum((2, 3)).square().mean(0).sum() / 2
    z = network[:5](images)
    out = network[5](z)
    g = torch.autograd.grad(F.cross_entropy(out, labels), out)[0]
    last = 4 * (out * g).square().mean(0).sum() / 2
    assert scored("fisher", network, *batch) == pytest.approx(float((first + last).detach()))


def test_images_that_are_alike_to_every_unit_give_nan_not_infinity(network, batch):
    same = batch[0][:1].expand(8, -1, -1, -1)
    assert math.isnan(scored("nwot", network, same, batch[1]))


def test_a_new_proxy_is_one_function_and_appears_in_the_table(hypernas, monkeypatch):
    monkeypatch.setattr(proxies, "PROXIES", dict(proxies.PROXIES))

    @proxies.proxy
    def depth(network, images, labels):
        layers = sum(layer.op == "conv" for layer in network.program.layers)
        return layers if layers > 8 else math.inf

    code, out, err = hypernas("--methods", "depth,params", "--seed", "0:2", "--json")
    assert (code, len(err)) == (0, 1)
    assert re.fullmatch(r"(\d+) of \1 rows to compute on this process \(cpu\)", err[0])
    rows = [json.loads(line) for line in out]
    assert {row["method"] for row in rows} == {"depth", "params"}
    for row in rows:
        assert row["n_test"] + row["n_not_finite"] == row["settings"]["n"] == 4
    table = results.table("zero_cost").set_index("method")
    assert table.loc["depth", "n_seeds"].max() == 2
    assert "| depth |" in results.markdown(table.reset_index())


def test_a_recorded_row_is_read_and_says_what_it_was_made_with(hypernas, own):
    code, out, _ = hypernas("--methods", "l2norm,gradnorm", "--seed", "0", "--json")
    rows = [json.loads(line) for line in out]
    assert {row.pop("state") for row in rows} == {"trained"}
    first = rows[0]
    assert code == 0
    assert first["settings"] | TINY == first["settings"]
    assert first["settings"]["images"] == "digits"
    assert "digits" in first["image_source"]
    assert -1 <= first["kendall_tau"] <= 1
    again, lines, said = hypernas("--methods", "l2norm,gradnorm", "--seed", "0", "--json")
    assert (again, said) == (0, [f"{len(rows)} of {len(rows)} rows are recorded already"])
    assert lines == [line.replace('"state": "trained"', '"state": "recorded"') for line in out]
    assert Results(own / "results" / "zero_cost.jsonl").rows() == rows


def test_what_a_stopped_run_has_scored_is_not_scored_again(own, monkeypatch):
    recipe = zero_cost.UntrainedNetworks("nasbench201", "digits", 8, 8, 2, 1)
    calls = []
    monkeypatch.setattr(zero_cost, "GROUP", 1)
    monkeypatch.setattr(proxies, "PROXIES", dict(proxies.PROXIES))

    @proxies.proxy
    def fragile(network, images, labels):
        calls.append(network)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return float(network.program.layers[0].c_in)

    for _ in range(2):
        try:
            rows = rows_of(recipe, ["fragile"], 4, [0])
        except KeyboardInterrupt:
            assert len(calls) == 3
            (journal,) = (own / "cache" / "hypernas" / "checkpoints").iterdir()
            with journal.open("ab") as file:
                file.write(b"[12, 0.")
    assert len(calls) == 5
    assert rows[0]["n_test"] == 4
    assert not journal.exists()


def test_a_journal_forgets_a_torn_line_and_what_is_added_after_it_is_not_lost(tmp_path):
    def journal():
        return Journal(tmp_path / "scores", "here", "choose another")

    first = journal()
    first.add([[-3, None, 0.5], [4, 1.5, 0.25]])
    first.path.write_bytes(first.path.read_bytes() + b"[7, 1.")
    again = journal()
    assert again.records == [[-3, None, 0.5], [4, 1.5, 0.25]]
    again.add([[8, 2.5, 0.5]])
    assert journal().records == [[-3, None, 0.5], [4, 1.5, 0.25], [8, 2.5, 0.5]]


def test_scores_are_kept_for_one_version_and_commit_alone(own, monkeypatch):
    recipe = zero_cost.UntrainedNetworks("nasbench201", "digits", 8, 8, 2, 1)
    asked = [one.resolved() for one in zero_cost.experiments(recipe, ["params"], 4, [0])]
    places = set()
    for commit, version in (("abc1234", "1.0"), ("abc1235", "1.0"), ("abc1234", "1.1")):
        monkeypatch.setattr(experiment, "commit", lambda commit=commit: commit)
        monkeypatch.setattr(experiment, "version", lambda version=version: version)
        places.add(experiment.checkpoint_for(asked, "cpu").path)
    assert len(places) == 3


def test_several_processes_find_what_one_finds(own):
    recipe = zero_cost.UntrainedNetworks("nasbench201", "digits", 8, 8, 2, 1)
    facts = {"seconds", "seconds_per_architecture", "started", "device", "commit"}
    found = [rows_of(recipe, ["zen", "l2norm"], 6, [0], Workers(n), force=True) for n in (1, 2)]
    one, two = ([{k: v for k, v in row.items() if k not in facts} for row in rows] for rows in found)
    by_place = [sorted(rows, key=lambda row: (row["method"], row["dataset"])) for rows in (one, two)]
    assert by_place[0] == by_place[1]


def test_published_scores_are_compared_by_function_not_by_row(own):
    """The count of parameters is the same in every implementation, so that all ranks agree."""
    recipe = zero_cost.UntrainedNetworks("nasbench201", "digits", 8, 8)
    if "params" not in benchmarks("nasbench201")[0].table.columns:
        pytest.skip("no published scores are here")
    row = rows_of(recipe, ["params"], 30, [0])[0]
    assert row["n_published"] > 20
    assert row["published_rho"] == row["published_repeat_rho"] == pytest.approx(1)


def test_cells_are_a_prefix_of_one_permutation_whatever_their_number(nasbench201):
    few, many = (Cells(nasbench201, n, "pruned") for n in (5, 50))
    assert np.array_equal(many.rows[:5], few.rows)
    assert set(few.architectures()) == set(few.ids)


@pytest.mark.parametrize(
    "words",
    [
        "--methods luck",
        "--seed 3:3",
        "--seed -1",
        "--n 1",
        "--n 99999",
        "--batch 1",
        "--batch 2000",
        "--side 4",
        "--images clouds",
        "--channels 2 --cells-per-stage 9",
        "--channels 0",
        "--stem-stride 0",
        "--stem-stride 3",
        "--side 9",
        "--graph-form tidy",
        "--workers 0",
        "--device tpu",
        "--space nowhere",
    ],
)
def test_bad_input_is_one_sentence_exit_code_2_and_no_file(hypernas, own, words):
    code, out, err = hypernas(*words.split())
    assert (code, out, len(err)) == (2, [], 1)
    assert err[0].startswith("Error: ")
    assert list(own.iterdir()) == []


def test_an_unknown_proxy_is_named():
    with pytest.raises(UserError, match=r"must be one of params, .* got 'luck'"):
        proxies.get("luck")
