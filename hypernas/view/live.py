"""Small live trainings for the pages and for the button of the q explorer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hypernas import predictors
from hypernas.lab import grids
from hypernas.lab.experiment import Experiment, arguments, benchmark_of
from hypernas.lab.metrics import kendall_tau
from hypernas.lab.rows import Row, frame

if TYPE_CHECKING:
    import pandas as pd

# Networks whose accuracy on test images is averaged.
N_NETWORKS = 32
# What tells the runs over q apart that are averaged over seeds.
ENDS_OF = ("n_train", "reading", "q")
# What tells any two recorded runs over q apart.
RUN = ("space", "n_train", "reading", "learn_u", "q", "seed", "profile")


def train_once(
    method: str,
    n_train: int = 39,
    *,
    space: str = "nasbench201",
    dataset: str = "cifar10",
    seed: int = 0,
    n_test: int = 1000,
    progress: bool | Callable[[int, int], None] = False,
    **settings: Any,
) -> Row:
    """Train once and return a row of the profile `live` with its training curves as `history`. It is not recorded.

    Settings default to those of the quick profile. Kendall tau is over `n_test` architectures drawn from those not
    trained on. The accuracy of generated networks on test images is averaged over the first 32 of them.
    `progress(done, total)` is called after every epoch. Raise UserError for a setting out of range.
    """
    asked = Experiment("live", space, dataset, method, n_train, seed, "quick", settings=settings).resolved()
    benchmark = benchmark_of(space, dataset)
    graphs = benchmark.graphs(asked.settings["graph_form"])
    train, test = benchmark.split(n_train, seed)
    # To rank the whole table would take longer than to train.
    shown = np.random.default_rng(seed).permutation(len(test))[:n_test]
    test = test[shown]
    start = time.perf_counter()
    predictor = predictors.get(method)(**arguments(asked, progress, "cpu"), seed=seed)
    predictor.fit(graphs[train], benchmark.validation[train])
    row = {**vars(asked), **asked.settings, "profile": "live"}
    row["kendall_tau"] = kendall_tau(predictor.predict(graphs[test]), benchmark.test[test])
    last = predictor.history[-1] if predictor.history else {}
    if "target_accuracy" in last:
        row["target_accuracy"] = last["target_accuracy"]
        row["target_test_accuracy"] = float(predictor.target_accuracies(graphs[test[:N_NETWORKS]]).mean())
    row["n_test"] = len(test)
    row["n_parameters"] = int(predictor.n_parameters)
    row["history"] = predictor.history
    row["seconds"] = round(time.perf_counter() - start, 3)
    row["source"] = benchmark.table.source
    return row


def ends(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return both losses and weights after the last epoch, from rows over q, recorded or live.

    They are averaged over the rows of each reading, q and n_train with learned u.
    """
    import pandas as pd

    from hypernas.view.widgets.q_grid import CURVES, plain_row

    lines = []
    for row in map(plain_row, rows):
        if not row["history"] or not row["learn_u"]:
            continue
        last = row["history"][-1]
        run = [row[name] for name in ENDS_OF]
        lines.append([*run, *(last[name] for name in CURVES)])
    return pd.DataFrame(lines, columns=[*ENDS_OF, *CURVES]).groupby(list(ENDS_OF)).mean()


def recorded_over_q() -> pd.DataFrame:
    """Return the recorded rows of the page on q, and those of the table `preference` that the page does not have."""
    import pandas as pd

    # The page first: what both have at q = 1.5 was trained twice, and two pages must not differ about it.
    rows = pd.concat([grids.rows("preference"), frame("preference")], ignore_index=True)
    return rows.drop_duplicates([name for name in RUN if name in rows], ignore_index=True)


def without_hypernetwork() -> dict[str, dict[int, float]]:
    """Return `space dataset, n_train` -> seed -> Kendall tau of HyperNAS-P, from the page of the components."""
    rows = grids.rows("components")
    rows = rows[rows["profile"] == "standard"]
    rows = rows[rows["method"] == "hypernas-p"]
    reference: dict[str, dict[int, float]] = {}
    for row in rows.to_dict("records"):
        place = f"{row['space']} {row['dataset']}, {row['n_train']}"
        reference.setdefault(place, {})[row["seed"]] = row["kendall_tau"]
    return reference


def train_with_q(
    q: float,
    reading: str = "printed",
    n_train: int = 39,
    epochs: int = 10,
    **settings: Any,
) -> Row:
    """Run `train_once` for HyperNAS with the given q, as the button of the q explorer does."""
    return train_once("hypernas", n_train, q=q, reading=reading, epochs=epochs, **settings)
