"""Predictions for every architecture of a table, one small file per training, which the interactive pages draw.

A row of results says how well a method ranks. To see *which* architectures it ranks too high, one needs the predictions
themselves, so we keep those of one seed for each method and size.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hypernas import predictors
from hypernas.data.catalogue import load_npz, shipped
from hypernas.errors import UserError
from hypernas.lab.benchmark import Benchmark
from hypernas.lab.experiment import Experiment, arguments
from hypernas.lab.provenance import stamp
from hypernas.lab.tables import digest
from hypernas.training.files import replaced

# The title of an experiment whose predictions are kept; no file of results is called so.
TITLE = "predictions"


@dataclass(frozen=True)
class Predictions:
    """`predicted` (B,) in percent for all architectures of a table, in its order, and how they were made.

    `about` holds the resolved experiment, the table's source and digest, device, version, commit and date.
    """

    predicted: np.ndarray
    about: dict[str, Any]

    @property
    def method(self) -> str:
        return self.about["method"]

    @property
    def n_train(self) -> int:
        return self.about["n_train"]

    def save(self, folder: Path) -> Path:
        """Write one npz file, completely or not at all, under a name that describes it."""
        names = [str(self.about[name]) for name in ("space", "dataset", "method", "n_train", "seed")]
        path = folder / f"{'-'.join(names)}.npz"
        folder.mkdir(parents=True, exist_ok=True)
        with replaced(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, predicted=self.predicted, about=np.array([json.dumps(self.about)]))
        return path


def shipped_folder() -> Path:
    """Return the folder of the published predictions."""
    return shipped() / "data" / "predictions"


def read(path: Path) -> Predictions:
    """Return the predictions in a file. Raise UserError if it is damaged."""
    arrays = load_npz(path, ("predicted", "about"))
    try:
        about = json.loads(str(arrays["about"][0]))
    except ValueError as error:
        raise UserError(f"{path} must say in JSON what made it, and does not: make it again") from error
    return Predictions(arrays["predicted"], about)


def kept(space: str, dataset: str, folder: Path | None = None) -> Iterator[Predictions]:
    """Yield the saved predictions of a table, smaller training sets first."""
    files = (folder or shipped_folder()).glob(f"{space}-{dataset}-*.npz")
    every = [read(path) for path in files]
    yield from sorted(every, key=lambda one: (one.n_train, one.method))


def predict_whole_table(
    space: str,
    dataset: str,
    method: str,
    n_train: int,
    seed: int = 0,
    progress: bool = False,
) -> Predictions:
    """Train a method with the settings of the standard profile, and predict every architecture of the table."""
    asked = Experiment(TITLE, space, dataset, method, n_train, seed).resolved()
    benchmark = Benchmark(space, dataset)
    graphs = benchmark.graphs(asked.settings["graph_form"])
    train, _ = benchmark.split(n_train, seed)
    predictor = predictors.get(method)(**arguments(asked, progress, "cpu"), seed=seed)
    predictor.fit(graphs[train], benchmark.validation[train])
    # Single precision holds more digits of an accuracy than any table has, in half the room.
    predicted = np.asarray(predictor.predict(graphs), dtype=np.float32)
    table = {"source": benchmark.table.source, "table_digest": digest(benchmark.table)}
    return Predictions(predicted, dataclasses.asdict(asked) | table | stamp("cpu"))
