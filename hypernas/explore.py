"""Train HyperNAS once with a chosen q, small enough to wait for: what the button of the q explorer does."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import numpy as np

from hypernas import predictors
from hypernas.benchmark import Benchmark
from hypernas.metrics import kendall_tau
from hypernas.results import Row
from hypernas.settings import checked

_benchmark = cache(Benchmark)


def train_with_q(
    q: float, reading: str = "printed", n_train: int = 39, *, space: str = "nasbench201", dataset: str = "cifar10",
    images: str = "digits", epochs: int = 10, seed: int = 0, learn_u: bool = True, n_test: int = 1000,
    progress: bool | Callable[[int, int], None] = False,
) -> Row:  # fmt: skip
    """A row as in the results, profile `live`, with the curves of training as `history`; it is not recorded.

    Kendall tau is over `n_test` architectures drawn from those not trained on. `progress(done, total)` is called
    after every epoch. Raises UserError for a setting out of range.
    """
    for name, value in {"epochs": epochs, "q": q, "reading": reading, "seed": seed}.items():
        checked(name, value)
    benchmark = _benchmark(space, dataset)
    train, test = benchmark.split(n_train, seed)
    test = test[np.random.default_rng(seed).permutation(len(test))[:n_test]]
    graphs = benchmark.graphs("contracted")
    start = time.perf_counter()
    settings = {"q": q, "reading": reading, "learn_u": learn_u, "images": images, "epochs": epochs}
    predictor = predictors.get("hypernas")(**benchmark.space.defaults, **settings, seed=seed, progress=progress)
    predictor.fit(graphs[train], benchmark.validation[train])
    tau = kendall_tau(predictor.predict(graphs[test]), benchmark.test[test])
    return {
        "space": space, "dataset": dataset, "method": "hypernas", "n_train": n_train, "seed": seed, "profile": "live",
        **settings, "kendall_tau": tau, "target_accuracy": predictor.history[-1]["target_accuracy"],
        "n_test": len(test), "seconds": round(time.perf_counter() - start, 3), "history": predictor.history,
        "source": benchmark.table.source,
    }  # fmt: skip
