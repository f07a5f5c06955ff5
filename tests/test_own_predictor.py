"""A predictor of one file, in a folder outside the package, keeps every contract of a predictor."""

import inspect

import numpy as np
import pytest
import test_predictors
import torch

import hypernas
from hypernas import predictors
from hypernas.errors import UserError
from hypernas.lab.experiment import Experiment, settings_of

FILE = '''
"""A random forest on one-hot features."""

from dataclasses import dataclass

from sklearn.ensemble import RandomForestRegressor

from hypernas.predictors.shared.features import FeaturePredictor, OneHot


@dataclass(kw_only=True, eq=False)
class Forest(FeaturePredictor):
    n_trees: int = 50

    def new_features(self, graphs):
        return OneHot(graphs)

    def new_model(self):
        return RandomForestRegressor(self.n_trees, random_state=self.seed)

    def size(self):
        return sum(tree.tree_.node_count for tree in self.model.estimators_)


METHODS = {"my-forest": Forest}
'''
fitted = test_predictors.fitted
# The contract tests that ask for a predictor by name; here `name` is the one below.
globals().update({
    name: test for name, test in vars(test_predictors).items()
    if name.startswith("test_") and "name" in inspect.signature(test).parameters
})  # fmt: skip


@pytest.fixture(scope="module")
def name(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predictors")
    (folder / "forest.py").write_text(FILE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYPERNAS_PLUGINS", str(folder))
        yield "my-forest"


def test_every_contract_of_a_predictor_is_asked_here_too():
    assert sum(name.startswith("test_") for name in globals()) > 12


def test_the_file_alone_registers_the_predictor(name):
    assert name in predictors.names()
    assert settings_of(name) == {"counts": False, "n_trees": 50}
    Experiment("few_shot", "nasbench201", "cifar10", name, 10, 0).resolved().check()


def test_it_is_saved_and_loaded_as_ours_are(name, nasbench201, tmp_path, monkeypatch):
    graphs = nasbench201.graphs("contracted")[:12]
    fitted = predictors.get(name)(seed=2).fit(graphs, nasbench201.validation[:12])
    hypernas.save(fitted, tmp_path / "p.hypernas")
    assert torch.equal(hypernas.load(tmp_path / "p.hypernas").predict(graphs), fitted.predict(graphs))
    monkeypatch.delenv("HYPERNAS_PLUGINS")
    with pytest.raises(UserError, match=r"method must be one of .*got 'my-forest'"):
        hypernas.load(tmp_path / "p.hypernas")


def test_a_path_names_the_predictor_of_its_file(tmp_path, monkeypatch, nasbench201):
    monkeypatch.setenv("HYPERNAS_PLUGINS", "")
    path = tmp_path / "mine.py"
    path.write_text(FILE.replace("my-forest", "mine"))
    graphs = nasbench201.graphs("contracted")[:5]
    assert predictors.get(path)().fit(graphs, np.arange(5.0)).predict(graphs).shape == (5,)
    assert "mine" in predictors.names()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("METHODS = {'mine': 3}", "METHODS of mine must hold classes of predictors, got int"),
        ("METHODS = {'mine': ", "must be a file that imports, got SyntaxError"),
        ("import nowhere\nMETHODS = {'mine': nowhere.X}", "must be a file that imports, got ModuleNotFoundError"),
        ("x = 1", "must provide exactly one as `METHODS`, got 0"),
    ],
)
def test_a_file_that_provides_no_predictor_is_one_sentence(tmp_path, monkeypatch, text, words):
    monkeypatch.setenv("HYPERNAS_PLUGINS", "")
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(UserError, match=words):
        predictors.get(tmp_path / "mine.py")
