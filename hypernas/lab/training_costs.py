"""The cost of training HyperNAS: ratios and parts, measured on request."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from hypernas import predictors
from hypernas.graph import GraphBatch
from hypernas.lab.experiment import Experiment, benchmark_of
from hypernas.lab.metrics import kendall_tau
from hypernas.lab.recording import run
from hypernas.lab.timing import paired_ratio
from hypernas.predictors.hypernas import HyperNAS, HyperNASModel
from hypernas.predictors.shared.generating import cross_entropy

# Nothing is tuned on the seeds of recorded rows, 0 to 9.
DEVELOPMENT_SEED = 100
# Enough for the first two, in which a GPU's pass records itself, not to decide the mean.
EPOCHS_OF_A_RECORD = 20
TABLE = ("nasbench201", "cifar10")
LOW = {"target_precision": "bfloat16"}
# About so many architectures are ranked by two trainings that are compared.
N_TEST = 3000


def _training_set(n: int, seed: int = DEVELOPMENT_SEED) -> tuple[GraphBatch, torch.Tensor]:
    """n architectures of NAS-Bench-201 and their labels (n,)."""
    benchmark = benchmark_of(*TABLE)
    train, _ = benchmark.split(n, seed)
    return benchmark.graphs("contracted")[train], benchmark.validation[train]


def epoch(
    method: str,
    n: int,
    n_seeds: int = 1,
    **settings: Any,
) -> Callable[[], None]:
    """Return a function that trains one epoch, or `epochs`, over n architectures of NAS-Bench-201, already set up."""
    seeds = [DEVELOPMENT_SEED + i for i in range(n_seeds)]
    sets = [_training_set(n, seed) for seed in seeds]
    arguments = {"epochs": 1} | settings

    def train(few: int = n) -> None:
        graphs = [graphs[:few] for graphs, _ in sets]
        labels = [labels[:few] for _, labels in sets]
        predictors.fit_many(method, arguments, graphs, labels, seeds)

    # Images are read and networks planned before the clock starts.
    train(10)
    return train


def training_ratio(
    n: int = 156,
    pairs: int = 3,
    method: str = "hypernas",
    n_seeds: int = 1,
    **settings: Any,
) -> float:
    """Return the time of the plain loop, seed by seed, over that of the fast pass, all `n_seeds` together.

    Both train the method for one epoch over n architectures on the digits. On a GPU the fast pass takes
    `EPOCHS_OF_A_RECORD`, since it records itself in the first two.
    """
    epochs = 1 if settings.get("device", "cpu") == "cpu" else EPOCHS_OF_A_RECORD
    plain = epoch(method, n, n_seeds, engine="plain", **settings)
    fast = epoch(method, n, n_seeds, engine="fast", epochs=epochs, **settings)
    # One plain epoch is measured against several fast ones.
    return epochs * paired_ratio(plain, fast, pairs)


@dataclass(kw_only=True, eq=False)
class Nudged(HyperNAS):
    """HyperNAS whose initial weights are each moved to a neighbouring floating-point number, drawn by `nudge`."""

    nudge: int = 0

    def new_model(self, graphs: GraphBatch) -> HyperNASModel:
        model = super().new_model(graphs)
        generator = torch.Generator().manual_seed(self.nudge)
        with torch.no_grad():
            for parameter in model.parameters():
                up = torch.randint(2, parameter.shape, generator=generator)
                towards = (up * 2.0 - 1) * math.inf
                parameter.copy_(torch.nextafter(parameter, towards))
        return model


def agreement(
    n: int = 78,
    epochs: int = 8,
    nudges: int = 5,
) -> dict[str, float]:
    """Return Kendall tau between the predictions of two trainings of HyperNAS with the same seed on NAS-Bench-201.

    `fast_and_plain` compares the fast pass and the plain loop in float32, `fast_and_plain_float64` in float64.
    `rounding` compares the fast pass with itself after every weight was moved by its last bit, averaged over `nudges`,
    and `rounding_least` is the least of these: a yardstick, not a bound.
    """
    kinds: list[Callable[..., HyperNAS]] = [
        HyperNAS,
        partial(HyperNAS, engine="plain"),
        *(partial(Nudged, nudge=i) for i in range(nudges)),
    ]
    plain, *nudged = _taus_with_the_first(kinds, n, epochs)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        (exact,) = _taus_with_the_first(kinds[:2], n, epochs)
    finally:
        torch.set_default_dtype(before)
    return {
        "fast_and_plain": plain,
        "fast_and_plain_float64": exact,
        "rounding": float(np.mean(nudged)),
        "rounding_least": min(nudged),
    }


def _taus_with_the_first(
    kinds: Sequence[Callable[..., HyperNAS]],
    n: int,
    epochs: int,
) -> list[float]:
    """Kendall tau between what the first of several trainings of one seed predicts and what each other one does."""
    graphs, labels = _training_set(n)
    everything = benchmark_of(*TABLE).graphs("contracted")
    test = everything[:: max(1, len(everything) // N_TEST)]
    predictions = []
    for kind in kinds:
        fitted = kind(epochs=epochs, seed=DEVELOPMENT_SEED).fit(graphs, labels)
        predictions.append(np.asarray(fitted.predict(test)))
    first, *others = predictions
    return [kendall_tau(first, other) for other in others]


def paper_training(device: str) -> float:
    """Return the seconds of a whole training at the paper's settings, on CIFAR-10 images, with bfloat16 networks.

    It is an experiment like any other: its row is read if recorded, and recorded otherwise.
    """
    asked = Experiment("precision", *TABLE, "hypernas", 156, 0, "paper", settings=LOW)
    return float(run(asked, progress=False, device=device)["seconds"])


def parts(
    n: int = 10,
    repeats: int = 5,
    **settings: Any,
) -> dict[str, float]:
    """Return the milliseconds per architecture of each part of one step of n architectures, the least of `repeats`."""
    method = predictors.get("hypernas")(seed=DEVELOPMENT_SEED, **settings)
    graphs, _ = _training_set(n)
    run = method.new_pass([method.new_model(graphs)], [graphs])
    images, labels = run.training_images.draw(n, [np.random.default_rng(DEVELOPMENT_SEED)])
    index = torch.arange(n)[None]
    encoder = [p for name, p in run.stack.parameters.items() if ".encoder." in name]
    generator = [p for name, p in run.stack.parameters.items() if name.startswith("hypernetwork.")]
    times: dict[str, list[float]] = defaultdict(list)
    # A kernel size or an operation that these architectures lack has no gradient.
    gradient = partial(torch.autograd.grad, allow_unused=True)

    def lap(name: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        made = work()
        times[name].append(1000 * (time.perf_counter() - start) / n)
        return made

    def step() -> None:
        h, nodes = lap("encoder, forward", lambda: run.encode(index, True))
        leaf = nodes.detach().requires_grad_()
        static_plan = lap("plan of the networks", lambda: run.plan_of(index, images))
        weights = lap("weight generation, forward", lambda: run.weights(static_plan, leaf))
        kernels = [weight.detach().requires_grad_() for weight in weights]
        logits = lap("target networks, forward", lambda: run.outputs(static_plan, kernels, images))
        loss = cross_entropy(logits, labels)[0].sum()
        back = lap("target networks, backward", lambda: gradient(loss, kernels))
        to_nodes, *_ = lap("weight generation, backward", lambda: gradient(weights, [leaf, *generator], back))
        ends = [torch.ones_like(h), to_nodes]
        lap("encoder, backward", lambda: gradient([h, nodes], encoder, ends))

    # The first step, which plans the networks, is longer and never the least.
    for _ in range(repeats + 1):
        step()
    return {name: min(laps) for name, laps in times.items()}
