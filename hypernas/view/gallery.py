"""What the gallery of architectures shows of each search space: its table at hand, and a few networks of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hypernas import spaces
from hypernas.errors import UserError
from hypernas.lab.benchmark import Benchmark
from hypernas.view.drawings import drawing

if TYPE_CHECKING:
    import pandas as pd

# The lowest networks of a table often diverged; they would leave the others no room.
LEFT_OUT = 0.05


def benchmarks() -> dict[str, Benchmark]:
    """Each space with its official table where that is present, else with the small one that this project labelled."""
    tables = {}
    for name in spaces.names():
        for dataset in (spaces.get(name).datasets[0], "digits"):
            try:
                tables[name] = Benchmark(name, dataset)
                break
            except UserError:
                # Neither is a fault: a page shows the spaces that it has labels of.
                continue
    return tables


def _picture(
    benchmark: Benchmark,
    index: int,
    title: str = "",
) -> dict[str, Any]:
    space = benchmark.space
    network = space.canonical(benchmark.graphs("raw").architecture(index), "raw")
    return drawing(network, space, title, space.build(network))


def best_and_median(benchmark: Benchmark) -> list[dict[str, Any]]:
    """The best network of a table and the one in its middle, drawn."""
    # Networks without an accuracy are sorted last.
    accuracy = np.nan_to_num(np.asarray(benchmark.test), nan=-1.0)
    order = np.argsort(accuracy)
    chosen = {"best": int(order[-1]), "median": int(order[len(order) // 2])}
    return [_picture(benchmark, index, f"{name}, {accuracy[index]:.2f} %") for name, index in chosen.items()]


def trade_off(
    benchmark: Benchmark,
    n_points: int,
    seed: int,
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Random networks of a table: million weights of their cells against test accuracy, and their drawings."""
    import pandas as pd

    accuracy = np.asarray(benchmark.test, dtype=float)
    usual = np.flatnonzero(accuracy >= np.nanquantile(accuracy, LEFT_OUT))
    sample = np.random.default_rng(seed).permutation(usual)[:n_points]
    space, raw = benchmark.space, benchmark.graphs("raw")
    weights, drawings = [], []
    for index in sample.tolist():
        network = space.canonical(raw.architecture(index), "raw")
        convs = space.build(network).convs
        weights.append(sum(np.prod(conv.weight_shape) for conv in convs) / 1e6)
        drawings.append(drawing(network, space))
    frame = pd.DataFrame({"million weights": weights, "test accuracy, %": accuracy[sample]})
    return frame, drawings
