"""Claims about GHN and GHN-2 as predictors, about other encoders beside a hypernetwork, and about their rows."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hypernas import predictors, spaces
from hypernas.fast.heads import own_kernel
from hypernas.graph import collate
from hypernas.lab.experiment import Experiment, settings_of
from hypernas.lab.recording import run
from hypernas.lab.summary import FACTS
from hypernas.method.hypernetwork import Hypernetwork
from hypernas.method.target_network import run as run_network
from hypernas.predictors.shared.node_encoders import NETWORKS

SMALL = {"hyper_width": 16, "image_batch": 8, "epochs": 1}


@pytest.fixture
def graphs(rng):
    space = spaces.get("nasbench201")
    return collate([space.canonical(space.sample(rng)) for _ in range(6)], space)


def learned_by_images(method, graphs, **settings):
    """A model after one backward pass of the cross-entropy of generated networks alone -> gradients by name."""
    predictor = predictors.get(method)(**SMALL, **settings)
    torch.manual_seed(0)
    model = predictor.new_model(graphs)
    fast = predictor.new_pass([model], [graphs])
    x, y = fast.training_images.draw(4, [np.random.default_rng(0)])
    logits = fast.networks(torch.tensor([[0, 3, 2, 5]]), x)
    F.cross_entropy(logits.flatten(0, 2), y.flatten()).backward()
    return {name: parameter.grad for name, parameter in fast.stack.parameters.items()}


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_gradient_reaches_every_weight_of_an_encoder_through_generated_weights(name, graphs):
    """A weight may have no effect by its form: TransformerConv's key bias shifts all attention of a node alike."""
    gradients = learned_by_images("hypernas-h", graphs, encoder=name, n_layers=2, width=8)
    ours = {k: g for k, g in gradients.items() if ".encoder.gcn." in k and "lin_key.bias" not in k}
    # The printed GCN has one weight in each of two layers, for each of two kinds of cell.
    assert len(ours) == 4 if name == "gcn-printed" else len(ours) > 8
    assert [name for name, gradient in ours.items() if gradient is None or not (gradient != 0).any()] == []
    assert all(gradients[k] is None for k in gradients if "regressor" in k)


@pytest.mark.parametrize("method", ["ghn", "ghn2"])
def test_gradient_reaches_every_weight_of_ghn(method, graphs):
    gradients = learned_by_images(method, graphs, hidden=8)
    assert [name for name, gradient in gradients.items() if gradient is None or not (gradient != 0).any()] == []
    assert ("encoder.network.messages.1.0.weight" in gradients) == (method == "ghn2")
    assert [name for name in gradients if ".heads." in name] == [
        f"hypernetwork.heads.3.{p}" for p in ("weight", "bias")
    ]


@pytest.mark.parametrize("name", ["ghn2", "gat"])
def test_the_fast_engine_is_the_plain_one_for_other_encoders(name, double, graphs):
    settings = {**SMALL, "encoder": name, "n_layers": 2, "width": 8, "accumulate": 3, "seed": 2}
    graphs, accuracy = graphs[:3], torch.linspace(80, 90, 3)
    fast, plain = (predictors.get("hypernas")(**settings, engine=e).fit(graphs, accuracy) for e in ("fast", "plain"))
    assert fast.history[0] == pytest.approx(plain.history[0], abs=1e-5)
    assert torch.allclose(fast.predict(graphs), plain.predict(graphs), atol=1e-4)


def test_a_maximal_tensor_gives_smaller_kernels_its_middle(double):
    torch.manual_seed(0)
    decoder = Hypernetwork(4, 6, 2, heads=[(3, 5, 4)])
    features = torch.randn(2, 6)
    for shape in ((5, 4, 1, 1), (2, 3, 1, 1), (7, 4, 1, 1)):
        wide = decoder.weights(features, (*shape[:2], 3, 3))
        assert torch.allclose(decoder.weights(features, shape), 3 * wide[..., 1:2, 1:2])
    assert own_kernel({3: (5, 4)}, 1) == 3


def test_ghn_scores_by_the_accuracy_of_the_network_with_the_generated_weights(graphs, double):
    """Against one network at a time, its weights decoded one by one from the features of its nodes."""
    ghn = predictors.get("ghn2")(**SMALL).fit(graphs, torch.linspace(80, 90, 6))
    _, nodes = ghn.model.encoder(graphs)
    x, y = ghn.auxiliary.test_images[:256].double(), ghn.auxiliary.test_labels[:256]
    decoder = ghn.model.hypernetwork
    for i, program in enumerate(ghn.programs(graphs)):
        weights = {}
        for layer in program.convs:
            position, node = layer.weight
            features = decoder.features(nodes[i, position, node][None])
            weights[layer.weight] = decoder.weights(features, layer.weight_shape)[0]
        right = run_network(program, weights, ghn.model.head, x).argmax(1) == y
        assert float(ghn.predict(graphs)[i]) == pytest.approx(100 * float(right.float().mean()), abs=0.5)


def test_ghn_learns_to_read_digits(graphs):
    """A tenth would be chance."""
    settings = {"epochs": 25, "image_batch": 64, "learning_rate": 2e-2, "channels": 8}
    fitted = predictors.get("ghn")(**settings).fit(graphs[:2], torch.arange(2.0))
    assert fitted.history[0]["target_accuracy"] < 25
    assert fitted.history[-1]["target_accuracy"] > 40


def test_ghn_never_looks_at_an_accuracy(graphs):
    fitted = [predictors.get("ghn")(**SMALL).fit(graphs[:3], a) for a in (torch.arange(3.0), torch.rand(3) * 90)]
    assert fitted[0].history == fitted[1].history
    assert torch.equal(fitted[0].predict(graphs), fitted[1].predict(graphs))


def test_virtual_edges_are_what_the_two_methods_differ_in_and_no_setting():
    assert settings_of("ghn") == settings_of("ghn2")
    assert "virtual_edges" not in settings_of("ghn")
    assert predictors.get("ghn2")().virtual_edges
    assert not predictors.get("ghn")().virtual_edges


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.delenv("HYPERNAS_DATA", raising=False)
    monkeypatch.setenv("HYPERNAS_RESULTS", str(tmp_path))


ASKED = Experiment("trial", "nasbench201", "cifar10", "hypernas", 12, 100, "quick")


def test_only_a_chosen_setting_enters_the_key():
    plain = ASKED.resolved().settings
    assert not plain.keys() & {"encoder", "n_images", "learn_u"}
    chosen = {"encoder": "gat", "n_images": "100", "learn_u": "false"}
    settings = Experiment(**{**vars(ASKED), "settings": chosen}).resolved().settings
    assert settings == plain | {"encoder": "gat", "n_images": 100, "learn_u": False}
    assert "encoder" not in settings_of("ghn")


def test_a_row_tells_the_accuracy_of_networks_of_test_architectures(folder, monkeypatch):
    """At most 64, the same in every run of a seed; hypernas-p makes no networks and tells nothing."""
    small = {"epochs": 1, "n_layers": 1, "width": 8, "hyper_width": 8, "image_batch": 8}
    monkeypatch.setattr("hypernas.lab.experiment.Benchmark.split", few_tests)
    rows = [run(Experiment(**{**vars(ASKED), "settings": small})) for _ in range(2)]
    again = run(Experiment(**{**vars(ASKED), "settings": small}), force=True)
    assert rows[0]["target_test_accuracy"] == rows[1]["target_test_accuracy"] == again["target_test_accuracy"]
    assert 0 < rows[0]["target_test_accuracy"] < 100
    assert "target_test_accuracy" in FACTS
    without = run(Experiment(**{**vars(ASKED), "method": "hypernas-p", "settings": {"epochs": 1, "width": 8}}))
    assert "target_test_accuracy" not in without


def few_tests(benchmark, n_train, seed):
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(benchmark)))
    return order[:n_train], order[n_train : n_train + 80]
