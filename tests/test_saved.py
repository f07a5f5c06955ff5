"""Claims about trained predictors kept as files."""

import os
import pickle

import pytest
import torch

import hypernas
from hypernas import predictors
from hypernas.errors import UserError


@pytest.fixture(scope="module")
def trained(nasbench201):
    """Method -> a predictor trained on six architectures; and all graphs."""
    graphs, labels = nasbench201.graphs("contracted"), nasbench201.validation
    small = {"epochs": 1, "n_layers": 1, "width": 8}
    networks = {"hyper_width": 8, "image_batch": 4}
    methods = {"np": small, "hypernas-p": small | {"context": "position"}, "ghn": networks | {"epochs": 1}}
    methods |= dict.fromkeys(("hypernas", "hypernas-h"), small | networks)
    fitted = {name: predictors.get(name)(**of).fit(graphs[:6], labels[:6]) for name, of in methods.items()}
    return fitted, graphs[:20]


@pytest.mark.parametrize("method", ["np", "hypernas-p", "hypernas", "hypernas-h", "ghn"])
def test_a_loaded_predictor_predicts_the_same_bits(trained, tmp_path, method):
    fitted, graphs = trained
    hypernas.save(fitted[method], tmp_path / "p.pt")
    before = torch.random.get_rng_state()
    loaded = hypernas.load(tmp_path / "p.pt")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(loaded.predict(graphs), fitted[method].predict(graphs))
    assert loaded.settings() == fitted[method].settings()
    assert loaded.n_parameters == fitted[method].n_parameters
    assert [path.name for path in tmp_path.iterdir()] == ["p.pt"]


def test_what_cannot_be_saved_is_one_sentence_and_leaves_no_file(trained, nasbench201, tmp_path):
    graphs, labels = nasbench201.graphs("contracted"), nasbench201.validation
    trees = predictors.get("trees")().fit(graphs[:6], labels[:6])
    with pytest.raises(UserError, match="must be one of HyperNAS, NeuralPredictor, GHN, got Trees"):
        hypernas.save(trees, tmp_path / "p.pt")
    with pytest.raises(UserError, match="must be trained on architectures of a known space"):
        hypernas.save(predictors.get("np")(), tmp_path / "p.pt")
    with pytest.raises(UserError, match="must be a place that can be written"):
        hypernas.save(trained[0]["np"], tmp_path / "absent" / "p.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_saved_predictor_whose_images_are_missing_says_so(trained, tmp_path, monkeypatch):
    hypernas.save(trained[0]["hypernas"], tmp_path / "p.pt")
    content = torch.load(tmp_path / "p.pt", weights_only=True)
    content["settings"]["images"] = "cifar10"
    torch.save(content, tmp_path / "p.pt")
    monkeypatch.setattr("hypernas.data.images.find", lambda name: None)
    with pytest.raises(UserError, match="images 'cifar10' need a file that is not here"):
        hypernas.load(tmp_path / "p.pt")


def test_a_file_of_another_kind_is_refused_and_no_pickle_runs(tmp_path):
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "harmful.pt").write_bytes(pickle.dumps(Harmful()))
    torch.save({"weights": {}}, tmp_path / "other.pt")
    for name in ("text.pt", "harmful.pt", "other.pt"):
        with pytest.raises(UserError, match="must be a file of this version"):
            hypernas.load(tmp_path / name)
    with pytest.raises(UserError, match=r"must be a file, got .*absent\.pt: hypernas\.save writes one"):
        hypernas.load(tmp_path / "absent.pt")
    assert not (tmp_path / "ran").exists()
