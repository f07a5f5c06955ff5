"""What the gallery of architectures shows of each search space: its table and some of its networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hypernas import spaces
from hypernas.errors import UserError
from hypernas.graph import GraphBatch
from hypernas.lab.benchmark import Benchmark
from hypernas.lab.pages import display_name
from hypernas.view.drawings import drawing

if TYPE_CHECKING:
    import pandas as pd

# The lowest networks of a table often diverged; they would leave the others no room.
LEFT_OUT = 0.05
# The networks that count as good, and how many of a table are looked at.
BEST, LOOKED_AT = 0.05, 20_000
# An operation is worth a word where the good networks have this many times as many of it, or as few.
WORTH_A_WORD = 1.25
# Fewer of an operation than this in an average network are too few to compare.
RARE = 0.1


def benchmarks() -> dict[str, Benchmark]:
    """Return each space with its official table if that is installed, or else with the small one that we labelled."""
    tables = {}
    for name in spaces.names():
        # Of the vision transformers only the first file of labels can be trusted.
        official = [dataset for dataset in spaces.get(name).datasets if dataset.endswith("-first")]
        for dataset in (*official, spaces.get(name).datasets[0], "digits"):
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
    """Return drawings of the best network of a table and of the median one."""
    # Networks without an accuracy are sorted last.
    accuracy = np.nan_to_num(np.asarray(benchmark.test), nan=-1.0)
    order = np.argsort(accuracy)
    chosen = {"best": int(order[-1]), "median": int(order[len(order) // 2])}
    return [_picture(benchmark, index, f"{name}, {accuracy[index]:.2f} %") for name, index in chosen.items()]


def traits(benchmark: Benchmark) -> tuple[str, str]:
    """Return the operations, at most two, that the best 5 % of a table use more, and those they use less.

    Both are relative to the average of the table.
    """
    accuracy = np.asarray(benchmark.test, dtype=float)
    known = np.random.default_rng(0).permutation(np.flatnonzero(np.isfinite(accuracy)))[:LOOKED_AT]
    ops = benchmark.space.ops
    graphs = benchmark.graphs("raw")[torch.from_numpy(known)]
    counts = _operations(graphs, len(ops))
    is_good = accuracy[known] >= np.quantile(accuracy[known], 1 - BEST)
    times = {}
    for op, of_good, of_all in zip(ops, counts[is_good].mean(0), counts.mean(0), strict=True):
        # An operation that hardly any network has says nothing.
        if of_all >= RARE:
            times[op] = of_good / of_all
    rising = sorted(times, key=times.__getitem__)
    more = [op for op in reversed(rising) if times[op] >= WORTH_A_WORD]
    fewer = [op for op in rising if times[op] <= 1 / WORTH_A_WORD]
    named = {op: f"{display_name(op)} ({ratio:.1f}×)" for op, ratio in times.items()}
    return ", ".join(named[op] for op in more[:2]), ", ".join(named[op] for op in fewer[:2])


def _operations(graphs: GraphBatch, n_ops: int) -> np.ndarray:
    """How often each operation occurs in each network, its repeated cells counted as often: (B, n_ops)."""
    rows = torch.arange(len(graphs))[:, None]
    # Padded nodes and padded places of the sequence hold no operation.
    of_unique_cells = torch.where(graphs.mask, graphs.ops, -1)
    of_cells = of_unique_cells[rows, graphs.sequence.clamp(min=0)]
    is_cell = graphs.sequence[:, :, None] >= 0
    of_cells = torch.where(is_cell, of_cells, -1)
    columns = []
    for op in range(n_ops):
        columns.append((of_cells == op).sum((1, 2)).numpy())
    return np.stack(columns, axis=1)


def trade_off(
    benchmark: Benchmark,
    n_points: int,
    seed: int,
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Return random networks of a table: weights of their cells in millions, test accuracy, and their drawings."""
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
