"""A pickle in place of any file that is loaded runs nothing: it is told in a sentence, or passed over and left out."""

import io
import os
import pickle
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import hypernas
from hypernas.data.catalogue import load_npz
from hypernas.data.labelled import read_labelled
from hypernas.data.own_images import read_own
from hypernas.data.own_labels import read_labels
from hypernas.errors import UserError
from hypernas.lab.full_training import read_architecture
from hypernas.lab.journal import Journal
from hypernas.predictors.shared.graph_kernel_features import GraphKernelFeatures
from hypernas.search.journal import Journal as SharedJournal
from hypernas.training.loop import Checkpoint, Schedule, train


class Trap:
    """Pickles as a call that leaves a folder behind."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)


def bare(trap):
    return pickle.dumps(trap)


def of_torch(trap):
    """A file of torch.save, which pickles."""
    buffer = io.BytesIO()
    torch.save({"fingerprint": trap}, buffer)
    return buffer.getvalue()


def of_numpy(trap):
    """A zip of arrays whose elements are objects, which NumPy pickles."""
    buffer = io.BytesIO()
    objects = np.array([trap], dtype=object)
    np.savez(buffer, images=objects, labels=objects, ids=objects, rows=objects)
    return buffer.getvalue()


def torn(trap):
    """A zip without its end."""
    return of_numpy(trap)[:-30]


def resumed(path):
    weight = torch.nn.Parameter(torch.zeros(1))

    def loss(index, generators):
        return weight.sum(), {"loss": weight.detach()}

    train([weight], loss, 4, Schedule(epochs=1), [0], checkpoint=Checkpoint(path))


def kept_features(path):
    """A cache: what cannot be read is computed again."""
    features = SimpleNamespace(path=path, kept_rows=np.zeros((0, 3)), kept_ids=None)
    GraphKernelFeatures._read_file(features)
    assert features.kept_ids is None


LOADERS = {
    "predictor": hypernas.load,
    "checkpoint.pt": resumed,
    "shared.jsonl": lambda path: SharedJournal(path).new(),
    "images.npz": lambda path: read_own(str(path)),
    "table.npz": lambda path: load_npz(path, ["ids"]),
    "features.npz": kept_features,
    "labels.parquet": read_labels,
    "labels.csv": read_labels,
    "labels.jsonl": read_labels,
    "benchmark.parquet": read_labelled,
    "cell.txt": lambda path: read_architecture(path, "darts"),
}


@pytest.mark.parametrize("content", [bare, of_torch, of_numpy, torn])
@pytest.mark.parametrize("name", LOADERS)
def test_a_pickle_in_place_of_a_file_runs_nothing(name, content, tmp_path):
    path, place = tmp_path / name, tmp_path / "sprung"
    path.write_bytes(content(Trap(place)))
    if name == "features.npz":
        LOADERS[name](path)
    else:
        with pytest.raises(UserError):
            LOADERS[name](path)
    assert not place.exists()


OTHER_FILES = {
    "pickle": None,
    "text": b"my notes\n",
    "csv": b"notation,accuracy\n",
    "pretty JSON": b'{\n "run": 1\n}\n',
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_another_file_in_place_of_a_journal_is_refused_and_stays(tmp_path, kind):
    content = OTHER_FILES[kind] or pickle.dumps(Trap(tmp_path / "sprung"))
    (tmp_path / "journal").write_bytes(content)
    with pytest.raises(UserError, match="must be a journal of an earlier run, got another file: delete it or choose"):
        Journal(tmp_path / "journal", {"run": 1}, "choose another")
    assert (tmp_path / "journal").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["journal"]


def test_the_trap_springs_where_it_is_unpickled(tmp_path):
    pickle.loads(bare(Trap(tmp_path / "bare")))
    np.load(io.BytesIO(of_numpy(Trap(tmp_path / "numpy"))), allow_pickle=True)["ids"]
    torch.load(io.BytesIO(of_torch(Trap(tmp_path / "torch"))), weights_only=False)
    with pytest.raises(zipfile.BadZipFile):
        np.load(io.BytesIO(torn(Trap(tmp_path / "torn"))), allow_pickle=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bare", "numpy", "torch"]
