"""The interactive pages that show saved predictions: build a cell, and how many labels?"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from hypernas import spaces
from hypernas.errors import UserError
from hypernas.lab import predictions
from hypernas.lab.benchmark import Benchmark
from hypernas.lab.metrics import kendall_tau, regret
from hypernas.lab.pages import display_name
from hypernas.lab.tables import digest
from hypernas.spaces.edge_cells import EDGES, OPS
from hypernas.view.drawings import colours

if TYPE_CHECKING:
    from hypernas.lab.markup import Html
    from hypernas.view.widgets import CellBuilder, HowManyLabels

# What both pages compare, in this order: the method, its parent, and the baseline that trains in a second.
SHOWN = ("hypernas", "np", "graph-features")
SPACE, DATASET = "nasbench201", "cifar10"
# Dots of a cloud: enough to show its shape, few enough for a page.
N_DOTS = 250
# How many of a predictor's first choices one would train.
FIRST = 10
# Heights are sent as thousandths of the table, finer than a dot.
THOUSAND = 1000


@cache
def table() -> Benchmark:
    """Return the embedded table, to which saved predictions belong, even if another table is installed."""
    space: Any = spaces.get(SPACE)
    return Benchmark(space, space.embedded())


def kept_of(method: str) -> dict[int, predictions.Predictions]:
    """Return the saved predictions of a method by number of labels. Raise UserError if they belong to another table."""
    known = {}
    for one in predictions.kept(SPACE, DATASET):
        if one.method == method:
            if one.about["table_digest"] != digest(table().table):
                raise UserError(f"kept predictions must be of {table().table.source}, got {one.about['source']}")
            known[one.n_train] = one
    return known


def cell_builder(n_train: int) -> CellBuilder:
    """Return a view of every cell of NAS-Bench-201 with its predicted ranks after `n_train` labels."""
    from hypernas.view.widgets import CellBuilder

    space = table().space
    predicted = {}
    for method in SHOWN:
        if n_train in kept_of(method):
            predicted[display_name(method)] = kept_of(method)[n_train].predicted
    edge_ops = np.array(OPS)[table().table.columns["edge_ops"]]
    first = ["nor_conv_3x3", "skip_connect", "none", "nor_conv_1x1", "skip_connect", "nor_conv_3x3"]
    accuracy = table().test.numpy()
    return CellBuilder(edge_ops, accuracy, table().function_ids, predicted, colours(space), EDGES, first)


def heights(scores: np.ndarray) -> np.ndarray:
    """Rescale the ranks of scores (B,) from 0 for the worst to 1,000 for the best."""
    from hypernas.view.widgets.builder import places

    place = places(scores)
    return np.round(THOUSAND * (len(place) - place) / (len(place) - 1)).astype(int)


def told(
    predicted: np.ndarray,
    accuracy: np.ndarray,
    test: np.ndarray,
    dots: np.ndarray,
) -> dict[str, Any]:
    """Return Kendall tau and regret of the best of ten first choices over the cells `test`, and the heights of `dots`.

    Regret is in percentage points: the best accuracy in the test set minus the best among the choices.
    """
    first = test[np.argsort(-predicted[test], kind="stable")[:FIRST]]
    return {
        "tau": round(float(kendall_tau(predicted[test], accuracy[test])), 4),
        "regret": round(regret(predicted[test], accuracy[test], FIRST), 4),
        "places": heights(predicted)[dots].tolist(),
        "first": heights(accuracy)[first].tolist(),
    }


def how_many_labels() -> HowManyLabels:
    """Return a view of each method's saved predictions for each number of labels, on cells it was not trained on."""
    from hypernas.view.widgets import HowManyLabels

    accuracy = table().test.numpy()
    dots = np.sort(np.random.default_rng(0).permutation(len(accuracy))[:N_DOTS])
    runs = {}
    for method in SHOWN:
        of_method = {}
        for size, one in kept_of(method).items():
            _, test = table().split(size, one.about["seed"])
            of_method[size] = told(one.predicted, accuracy, test.numpy(), dots)
        if of_method:
            runs[display_name(method)] = of_method
    return HowManyLabels(len(accuracy), heights(accuracy)[dots].tolist(), runs)


def first_choices() -> Html:
    """Return a table of Kendall tau and of the regret of the best of ten first choices, for every saved training."""
    from hypernas.lab.markup import html_table

    accuracy = table().test.numpy()
    no_dots = np.arange(0)
    sizes: set[int] = set()
    cells: dict[str, dict[int, str]] = {}
    for one in predictions.kept(SPACE, DATASET):
        _, test = table().split(one.n_train, one.about["seed"])
        said = told(one.predicted, accuracy, test.numpy(), no_dots)
        cells.setdefault(one.method, {})[one.n_train] = f"{said['regret']:.2f} ({said['tau']:.3f})"
        sizes.add(one.n_train)
    head = ["labels", *sorted(sizes)]
    rows = []
    for method, of_method in cells.items():
        rows.append([display_name(method), *(of_method.get(size) for size in sorted(sizes))])
    return html_table(
        head, rows, "regret@10 in percentage points (Kendall tau), one seed, the table of analog-nasbench"
    )


def origin() -> Html:
    """Return how the saved predictions were made, as a folded table."""
    from hypernas.lab.markup import folded, html_table

    lines = []
    for method in SHOWN:
        for size, one in kept_of(method).items():
            made = one.about
            lines.append(
                [display_name(method), size, made["seed"], made["device"], made["commit"], made["started"][:10]]
            )
    head = ["method", "labels", "seed", "device", "commit", "date"]
    return folded(f"{len(lines)} trainings, on the {table().table.source}", html_table(head, lines))
