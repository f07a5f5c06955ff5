"""Train once, small enough to wait for: the live runs of the pages, and the button of the q explorer."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from hypernas import predictors
from hypernas.lab import grids
from hypernas.lab.benchmark import Benchmark
from hypernas.lab.experiment import Experiment
from hypernas.lab.metrics import kendall_tau
from hypernas.lab.rows import Row, frame

if TYPE_CHECKING:
    import pandas as pd

_benchmark = cache(Benchmark)
ENDS_OF = ("n_train", "reading", "q")
RUN = ("space", "n_train", "reading", "learn_u", "q", "seed", "profile")
SHOWN = ("kendall_tau", "target_accuracy", "target_test_accuracy", "n_parameters", "seconds")


def train_once(
    method: str, n_train: int = 39, *, space: str = "nasbench201", dataset: str = "cifar10", seed: int = 0,
    n_test: int = 1000, n_networks: int = 32, progress: bool | Callable[[int, int], None] = False, **settings: Any,
) -> Row:  # fmt: skip
    """A row as in the results, profile `live`, with the curves of training as `history`; it is not recorded.

    Settings that are not given are those of the quick profile. Kendall tau is over `n_test` architectures drawn from
    those not trained on, the accuracy on test images of networks with generated weights over the first `n_networks` of
    them. `progress(done, total)` is called after every epoch. Raises UserError for a setting out of range.
    """
    asked = Experiment("live", space, dataset, method, n_train, seed, "quick", settings=settings).resolved()
    arguments = dict(asked.settings)
    benchmark, form = _benchmark(space, dataset), arguments.pop("graph_form")
    train, test = benchmark.split(n_train, seed)
    test = test[np.random.default_rng(seed).permutation(len(test))[:n_test]]
    graphs = benchmark.graphs(form)
    start = time.perf_counter()
    new = predictors.get(method)
    arguments |= {"progress": progress} if "progress" in inspect.signature(new).parameters else {}
    predictor = new(**arguments, seed=seed)
    predictor.fit(graphs[train], benchmark.validation[train])
    row = {"space": space, "dataset": dataset, "method": method, "n_train": n_train, "seed": seed, "profile": "live"}
    row |= asked.settings
    row["kendall_tau"] = kendall_tau(predictor.predict(graphs[test]), benchmark.test[test])
    if predictor.history and "target_accuracy" in predictor.history[-1]:
        row["target_accuracy"] = predictor.history[-1]["target_accuracy"]
        row["target_test_accuracy"] = float(predictor.target_accuracies(graphs[test[:n_networks]]).mean())
    row |= {"n_test": len(test), "n_parameters": int(predictor.n_parameters), "history": predictor.history}
    return row | {"seconds": round(time.perf_counter() - start, 3), "source": benchmark.table.source}


def compare(setting: str, values: Iterable[Any], **others: Any) -> pd.DataFrame:
    """`train_once` for each value of one setting (`method`, `context`, `q`, ...), a line each."""
    import pandas as pd

    return pd.DataFrame([train_once(**{**others, setting: value}) for value in values])


def ends(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows over q, recorded or live -> both losses and weights after the last epoch, the mean over the rows of each
    reading, q and n_train whose u is learned."""
    import pandas as pd

    from hypernas.view.widgets.q_grid import CURVES, plain_row

    known = [row for row in map(plain_row, rows) if row["history"] and row["learn_u"]]
    lines = [
        {name: row[name] for name in ENDS_OF} | {name: row["history"][-1][name] for name in CURVES} for row in known
    ]
    return pd.DataFrame(lines, columns=[*ENDS_OF, *CURVES]).groupby(list(ENDS_OF)).mean()


def recorded_over_q() -> pd.DataFrame:
    """The recorded rows of the table `preference`, and of its page the others: those of q = 1.5 belong to all pages."""
    import pandas as pd

    rows = pd.concat([frame("preference"), grids.rows("preference")], ignore_index=True)
    return rows.drop_duplicates([name for name in RUN if name in rows], ignore_index=True)


def without_hypernetwork() -> dict[str, float]:
    """`space dataset, n_train` -> the mean Kendall tau of HyperNAS-P there, from the page of the components."""
    rows = grids.rows("components")
    rows = rows[(rows["method"] == "hypernas-p") & (rows["profile"] == "standard")]
    means = rows.groupby(["space", "dataset", "n_train"])["kendall_tau"].mean()
    return {f"{space} {dataset}, {n_train}": round(float(tau), 4) for (space, dataset, n_train), tau in means.items()}


def train_with_q(q: float, reading: str = "printed", n_train: int = 39, epochs: int = 10, **settings: Any) -> Row:
    """`train_once` of HyperNAS with a chosen q: what the button of the q explorer does."""
    return train_once("hypernas", n_train, q=q, reading=reading, epochs=epochs, **settings)
