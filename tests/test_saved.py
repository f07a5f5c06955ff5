"""Claims about trained predictors kept as files."""

import inspect
import json
import os
import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import safetensors.torch
import torch

import hypernas
from hypernas import predictors, spaces
from hypernas.errors import UserError
from hypernas.graph import collate
from hypernas.lab import persistence
from hypernas.spaces.choice import ChoiceSpace

SMALL = {"epochs": 1, "n_layers": 1, "width": 8, "hyper_width": 8, "image_batch": 4, "n_blocks": 1, "d_model": 8}
SMALL |= {"d_head": 4, "d_inner": 8, "d_regressor": 8, "n_trees": 5}


@pytest.fixture(scope="module")
def graphs(nasbench201):
    return nasbench201.graphs("contracted")[:20]


@pytest.fixture(scope="module")
def fit(nasbench201, graphs):
    """A function (method, settings) -> a small predictor fitted to six architectures."""

    def fitted(name, **settings):
        accepted = inspect.signature(predictors.get(name)).parameters
        small = {key: value for key, value in SMALL.items() if key in accepted}
        return predictors.get(name)(**{**small, **settings}).fit(graphs[:6], nasbench201.validation[:6])

    return fitted


@pytest.fixture(scope="module")
def trained(fit):
    return fit("np")


@pytest.mark.parametrize("method", predictors.names())
def test_a_loaded_predictor_predicts_the_same_bits(fit, graphs, tmp_path, method):
    fitted = fit(method)
    hypernas.save(fitted, tmp_path / "p.hypernas")
    before = torch.random.get_rng_state()
    loaded = hypernas.load(tmp_path / "p.hypernas")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(loaded.predict(graphs), fitted.predict(graphs))
    assert type(loaded) is type(fitted)
    assert loaded.settings() == fitted.settings()
    assert loaded.n_parameters == fitted.n_parameters
    assert loaded.history == fitted.history
    assert [path.name for path in tmp_path.iterdir()] == ["p.hypernas"]


def test_a_loaded_predictor_knows_what_it_was_trained_on(trained, nasbench201, tmp_path):
    hypernas.save(trained, tmp_path / "p.hypernas")
    loaded = hypernas.load(tmp_path / "p.hypernas")
    assert loaded.training_set.graphs.source == trained.training_set.graphs.source
    assert torch.equal(loaded.training_set.accuracy, nasbench201.validation[:6].double())
    some = torch.arange(7, 15000, 999)
    raw, contracted = (nasbench201.graphs(form)[some] for form in ("raw", "contracted"))
    assert torch.equal(loaded.predict(raw), trained.predict(contracted))
    other = hypernas.spaces.get("nasbench101")
    with pytest.raises(UserError, match="as fit had, got those of nasbench101"):
        loaded.predict(hypernas.graph.collate([other.sample(np.random.default_rng(0))], other))


def test_settings_that_are_numpy_numbers_are_saved_as_plain_ones(fit, graphs, tmp_path):
    fitted = fit("hypernas-p", q=np.linspace(1, 2, 3)[1], epochs=np.int64(1))
    hypernas.save(fitted, tmp_path / "p.hypernas")
    loaded = hypernas.load(tmp_path / "p.hypernas")
    assert {name: type(getattr(loaded, name)) for name in ("q", "epochs")} == {"q": float, "epochs": int}
    assert torch.equal(loaded.predict(graphs), fitted.predict(graphs))


def test_what_cannot_be_saved_is_one_sentence_and_leaves_no_file(trained, fit, tmp_path):
    @dataclass(kw_only=True, eq=False)
    class Mine(type(trained)):
        pass

    unfitted, mine = predictors.get("np")(), fit("np")
    mine.__class__ = Mine
    for wrong, words in (
        (unfitted, "must be fitted to architectures of a known space"),
        (mine, "must be of a registered method .*got Mine"),
        (object(), "must be a FittedPredictor, got object"),
    ):
        with pytest.raises(UserError, match=words):
            hypernas.save(wrong, tmp_path / "p.hypernas")
    for place in (tmp_path / "absent" / "p.hypernas", tmp_path):
        with pytest.raises(UserError, match="must be a place that can be written, got "):
            hypernas.save(trained, place)
    with pytest.raises(UserError, match="must be named by its path, got 5"):
        hypernas.save(trained, 5)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_would_predict_something_else_is_not_kept(trained, tmp_path, monkeypatch):
    changed = {name: tensor + 1 for name, tensor in trained.weights().items()}
    monkeypatch.setattr(trained, "weights", lambda: changed)
    with pytest.raises(UserError, match="the file read back does not; nothing is saved"):
        hypernas.save(trained, tmp_path / "p.hypernas")
    assert list(tmp_path.iterdir()) == []


def test_no_flipped_bit_goes_unnoticed(trained, tmp_path, rng):
    path = tmp_path / "p.hypernas"
    hypernas.save(trained, path)
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    places = [*range(0, header, 7), *rng.integers(header, len(whole), 200).tolist()]
    for place in places:
        bit = 1 << int(rng.integers(8))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        with pytest.raises(UserError, match="is not or is damaged: fit and save it again"):
            hypernas.load(path)


def rewritten(path, **changes):
    """The file with other fields of its JSON object, and the digest that goes with them."""
    told, tensors = persistence._read(path)
    text = json.dumps(told | changes)
    metadata = {"hypernas": text, "digest": persistence._digest(text, tensors)}
    safetensors.torch.save_file(tensors, path, metadata)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": "mine"}, "method must be one of"),
        ({"space": "mine"}, r"search space must be one of .*p\.hypernas is of that space, so give its file, --space"),
        (
            {"ops": ["a", "b"]},
            "must be of the space nasbench201 .*got nasbench201 with a, b",
        ),
        ({"settings": {"colour": 1}}, "a setting of np must be one that it has, got 'colour'"),
        ({"settings": {"regressor": "forest"}}, "a setting of np must be one that it has, got 'regressor'"),
        ({"settings": {"width": 16}}, "weights must be those of a NeuralPredictor with these settings"),
        ({"scale": {"floor": 1.0, "mean": float("nan"), "std": 1.0}}, "a label scale must have a finite mean"),
        ({"scale": {"floor": 1.0}}, "must hold the label scale as floor, mean, std"),
        ({"graph_form": "round"}, "must hold the training set of its predictor"),
        ({"format": 99}, "must be of format 1, got 99: use the version that saved it"),
        ({"history": "long"}, "is not or is damaged"),
    ],
)
def test_a_file_that_states_something_impossible_is_one_sentence(trained, tmp_path, changes, words):
    path = tmp_path / "p.hypernas"
    hypernas.save(trained, path)
    rewritten(path, **changes)
    with pytest.raises(UserError, match=words):
        hypernas.load(path)


def test_a_file_with_a_setting_that_is_gone_is_read_where_it_says_what_is_done_today(trained, graphs, tmp_path):
    path = tmp_path / "p.hypernas"
    hypernas.save(trained, path)
    settings = persistence._read(path)[0]["settings"]
    rewritten(path, settings=settings | {"recompute": True, "regressor": "both"})
    assert torch.equal(hypernas.load(path).predict(graphs), trained.predict(graphs))


def test_a_predictor_in_a_space_of_choices_is_read_where_nobody_knows_the_space(tmp_path, rng):
    space = ChoiceSpace({"a.k": [3, 5], "a.depth": [1, 2], "b.k": [True, "none"]}, ["b", "a"], "forgotten")
    graphs = collate([space.sample(rng) for _ in range(12)], space)
    fitted = predictors.get("ridge")().fit(graphs, range(12))
    hypernas.save(fitted, tmp_path / "p.hypernas")
    spaces.REGISTRY.objects.pop("forgotten", None)
    loaded = hypernas.load(tmp_path / "p.hypernas")
    assert loaded.training_set.graphs.space.choices == space.choices
    assert torch.equal(loaded.predict(space.sample(5)), fitted.predict(space.sample(5)))
    rewritten(tmp_path / "p.hypernas", choices={"choices": {"a.k": 3}})
    with pytest.raises(UserError, match=r"a\.k must list its values"):
        hypernas.load(tmp_path / "p.hypernas")


def test_a_saved_predictor_whose_images_are_missing_says_so(fit, tmp_path, monkeypatch):
    path = tmp_path / "p.hypernas"
    fitted = fit("hypernas")
    hypernas.save(fitted, path)
    rewritten(path, settings=persistence._plain(fitted.settings()) | {"images": "cifar10"})
    monkeypatch.setattr("hypernas.data.images.find", lambda name: None)
    with pytest.raises(UserError, match="images 'cifar10' need a file that is not here"):
        hypernas.load(path)


def test_a_file_of_another_kind_is_refused_and_no_pickle_runs(tmp_path):
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "harmful").write_bytes(pickle.dumps(Harmful()))
    safetensors.torch.save_file({"weights": torch.zeros(2)}, tmp_path / "other")
    torch.save({"weights": Harmful()}, tmp_path / "old.pt")
    for name in ("text", "empty", "harmful", "other"):
        with pytest.raises(UserError, match="is not or is damaged: fit and save it again"):
            hypernas.load(tmp_path / name)
    with pytest.raises(UserError, match=r"must be of version 0.2 or later, .*old\.pt is older: fit and save it again"):
        hypernas.load(tmp_path / "old.pt")
    with pytest.raises(UserError, match=r"must be a file, got .*absent: hypernas\.save writes one"):
        hypernas.load(tmp_path / "absent")
    with pytest.raises(UserError, match=r"must be a file that can be read, got .*: Is a directory"):
        hypernas.load(tmp_path)
    assert not (tmp_path / "ran").exists()
