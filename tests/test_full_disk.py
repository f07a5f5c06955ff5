"""On a full disk every file that is written is named in one sentence, and what was there stays as it was."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import hypernas
from hypernas import cli
from hypernas.data.labelled import write_labelled
from hypernas.errors import UserError
from hypernas.lab.journal import Journal
from hypernas.lab.rows import KEY, Results
from hypernas.training.loop import Checkpoint, Schedule, train

resource = pytest.importorskip("resource")
ROOM = 64  # bytes that still fit


@contextmanager
def full():
    """No file of this process can grow beyond its first bytes, as when the disk fills in the middle of a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fitted():
    space, rng = hypernas.spaces.get("nasbench201"), np.random.default_rng(0)
    graphs = hypernas.graph.collate([space.canonical(space.sample(rng)) for _ in range(8)], space, "contracted")
    return hypernas.predictors.get("ridge")().fit(graphs, range(8))


def trained(path):
    weight = torch.nn.Parameter(torch.zeros(1))

    def loss(index, generators):
        return weight.sum(), {"loss": weight.detach()}

    train([weight], loss, 4, Schedule(epochs=1), [0], checkpoint=Checkpoint(path, needed=True, anew=True))


def sampled(path):
    done = CliRunner().invoke(cli.main, ["sample", "--space", "nasbench201", "--n", "3", "-o", str(path)])
    assert done.exit_code in (0, 2)
    if done.exit_code:
        (sentence,) = done.stderr.splitlines()
        raise UserError(sentence)


ROW = {**dict.fromkeys(KEY, "x"), "n_train": 2, "seed": 0, "settings": {}, "kendall_tau": 0.5}
PREDICTOR = fitted()
WRITERS = {
    "few_shot.jsonl": lambda path: Results(path).add({**ROW, "seed": len(Results(path).rows())}),
    "predictor": lambda path: hypernas.save(PREDICTOR, path),
    "table.parquet": lambda path: write_labelled(path, {"notation": ["x"]}, {"images": "digits"}),
    "table.partial.jsonl": lambda path: Journal(path, {"run": "x" * ROOM}, "choose another --out").add([[1]]),
    "search.jsonl": lambda path: hypernas.Search("nasbench201", method="random", journal=path).ask(1),
    "state": trained,
    "sample.csv": sampled,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_write_for_which_there_is_no_room_names_its_file_and_leaves_no_half_one(tmp_path, name):
    path = tmp_path / name
    with full(), pytest.raises(UserError) as refused:
        WRITERS[name](path)
    assert str(path) in str(refused.value)
    # PyTorch writes by itself, and says so in its own words.
    assert "File too large" in str(refused.value) or name == "state"
    assert "\n" not in str(refused.value)
    left = [file.name for file in tmp_path.iterdir() if file.suffix != ".lock" and file.read_bytes()]
    # The line of a search that was torn is cut off by the next one.
    assert left == (["search.jsonl"] if name == "search.jsonl" else [])
    WRITERS[name](path)
    before = path.read_bytes()
    with full(), pytest.raises(UserError):
        WRITERS[name](path)
    assert path.read_bytes().startswith(before)
    WRITERS[name](path)
