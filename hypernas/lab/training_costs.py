"""What training HyperNAS costs: ratios, parts, growth, large target networks; measured when asked."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from hypernas import predictors
from hypernas.graph import GraphBatch, collate
from hypernas.lab.benchmark import Benchmark
from hypernas.lab.experiment import Experiment
from hypernas.lab.metrics import kendall_tau
from hypernas.lab.recording import run
from hypernas.lab.timing import paired_ratio, peak_memory, seconds_of
from hypernas.predictors.hypernas import HyperNAS, HyperNASModel
from hypernas.predictors.shared.generating import cross_entropy
from hypernas.spaces.programs import count

if TYPE_CHECKING:
    import pandas as pd

DEVELOPMENT_SEED = 100
EPOCHS_OF_A_RECORD = 20
LOW = {"target_precision": "bfloat16"}
LARGEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"


class Arithmetic(TorchDispatchMode):
    """Counts the floating-point operations of products and convolutions under it, by PyTorch's own formulas.

    PyTorch's `FlopCounterMode` counts the same, and takes longer since it asks every other operation for its parts.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flop = 0.0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = function(*args, **(kwargs or {}))
        formula = flop_registry.get(function._overloadpacket)
        self.flop += formula(*args, **(kwargs or {}), out_val=out) if formula else 0
        return out


@cache
def _benchmark() -> Benchmark:
    return Benchmark("nasbench201", "cifar10")


def _training_set(n: int, seed: int = DEVELOPMENT_SEED) -> tuple[GraphBatch, torch.Tensor]:
    """n architectures of NAS-Bench-201 and their labels (n,)."""
    train = _benchmark().split(n, seed)[0]
    return _benchmark().graphs("contracted")[train], _benchmark().validation[train]


def epoch(method: str, n: int, n_seeds: int = 1, **settings: Any) -> Callable[[], None]:
    """One epoch, or `epochs`, over n architectures of NAS-Bench-201, prepared: only the training is in the call."""
    seeds = list(range(DEVELOPMENT_SEED, DEVELOPMENT_SEED + n_seeds))
    graphs, labels = zip(*(_training_set(n, seed) for seed in seeds), strict=True)

    def train(few: int = n) -> None:
        sets, wanted = ([part[:few] for part in parts] for parts in (graphs, labels))
        predictors.fit_many(method, {"epochs": 1} | settings, sets, wanted, seeds)

    train(10)
    return train


def training_ratio(n: int = 156, pairs: int = 3, **settings: Any) -> dict[str, float]:
    """HyperNAS, one epoch over n architectures on the digits: the plain loop over the fast pass."""
    found = _plain_over_fast("hypernas", n, 1, pairs, settings)
    return found | {"milliseconds_per_architecture": 1000 * found["fast_seconds"] / n}


def seeds_ratio(n_seeds: int = 10, n: int = 156, pairs: int = 3, **settings: Any) -> dict[str, float]:
    """HyperNAS-P, one epoch over n architectures: the plain loop seed by seed over `n_seeds` seeds together."""
    return _plain_over_fast("hypernas-p", n, n_seeds, pairs, settings)


def _plain_over_fast(method: str, n: int, n_seeds: int, pairs: int, settings: dict[str, Any]) -> dict[str, float]:
    """Both an epoch; on a GPU the fast pass takes `EPOCHS_OF_A_RECORD`, since it records itself in the first two."""
    epochs = 1 if settings.get("device", "cpu") == "cpu" else EPOCHS_OF_A_RECORD
    plain = epoch(method, n, n_seeds, engine="plain", **settings)
    found = paired_ratio(plain, epoch(method, n, n_seeds, engine="fast", epochs=epochs, **settings), pairs)
    longer = {name: found[name] * epochs for name in ("ratio", "low", "high")}
    return found | longer | {"fast_seconds": found["fast_seconds"] / epochs}


@dataclass(kw_only=True, eq=False)
class Nudged(HyperNAS):
    """HyperNAS from weights of which each is moved to one of its two neighbours in floating point, drawn by `nudge`."""

    nudge: int = 0

    def new_model(self, graphs: GraphBatch) -> HyperNASModel:
        model = super().new_model(graphs)
        generator = torch.Generator().manual_seed(self.nudge)
        with torch.no_grad():
            for parameter in model.parameters():
                way = torch.randint(2, parameter.shape, generator=generator) * 2.0 - 1
                parameter.copy_(torch.nextafter(parameter, way * math.inf))
        return model


def agreement(
    n: int = 78, epochs: int = 8, nudges: int = 5, n_test: int = 3000, device: str = "cpu"
) -> dict[str, float]:
    """Kendall tau between the predictions of two trainings of HyperNAS with one seed, on NAS-Bench-201.

    `fast_and_plain` is the fast pass and the plain loop in float32, `fast_and_plain_float64` the same in float64;
    `rounding` the fast pass with itself after every weight was moved by its last bit, the mean of so many `nudges`, and
    `rounding_least` the least: a yardstick, and no bound.
    """
    kinds: list[Callable[..., HyperNAS]] = [
        HyperNAS,
        partial(HyperNAS, engine="plain"),
        *(partial(Nudged, nudge=i) for i in range(nudges)),
    ]
    plain, *nudged = _taus_with_the_first(kinds, n, epochs, n_test, device)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        (exact,) = _taus_with_the_first(kinds[:2], n, epochs, n_test, device)
    finally:
        torch.set_default_dtype(before)
    found = {"fast_and_plain": plain, "fast_and_plain_float64": exact}
    return found | {"rounding": float(np.mean(nudged)), "rounding_least": min(nudged)}


def _taus_with_the_first(
    kinds: Sequence[Callable[..., HyperNAS]], n: int, epochs: int, n_test: int, device: str
) -> list[float]:
    """Kendall tau between what the first of several trainings of one seed predicts and what each other one does."""
    graphs, labels = _training_set(n)
    everything = _benchmark().graphs("contracted")
    test = everything[:: max(1, len(everything) // n_test)]
    made = [kind(epochs=epochs, seed=DEVELOPMENT_SEED, device=device) for kind in kinds]
    first, *others = (np.asarray(method.fit(graphs, labels).predict(test)) for method in made)
    return [kendall_tau(first, other) for other in others]


def paper_training(device: str, n: int = 156) -> float:
    """Seconds of a whole training at the paper's settings, CIFAR-10 images included, target networks in bfloat16.

    It is an experiment as any other, whose row is recorded, or read where it is.
    """
    asked = Experiment("precision", "nasbench201", "cifar10", "hypernas", n, 0, "paper", settings=LOW)
    return float(run(asked, progress=False, device=device)["seconds"])


def flop(n: int, **settings: Any) -> float:
    """Floating-point operations of one epoch of HyperNAS's plain loop over n architectures: the arithmetic itself."""
    graphs, labels = _training_set(n)
    method = predictors.get("hypernas")(epochs=1, seed=DEVELOPMENT_SEED, engine="plain", **settings)
    with Arithmetic() as counted:
        method.fit(graphs, labels)
    return counted.flop


def growth(setting: str, values: Iterable[Any], n: int = 40, repeats: int = 3, **settings: Any) -> list[dict[str, Any]]:
    """One epoch of HyperNAS for each value of `n_train` or of one setting, such as channels or cells_per_stage.

    `seconds`, the least of `repeats`, `memory` in bytes at its peak, `flop` of the plain loop, counted on the first two
    architectures.
    """
    lines = []
    for value in values:
        size, chosen = (value, settings) if setting == "n_train" else (n, settings | {setting: value})
        train = epoch("hypernas", size, **chosen)
        seconds = min(seconds_of(train) for _ in range(repeats))
        line = {"setting": setting, "value": value, "seconds": seconds, "memory": peak_memory(train)}
        lines.append(line | {"flop": size / 2 * flop(2, **chosen)})
    return lines


def parts(n: int = 10, repeats: int = 5, **settings: Any) -> dict[str, float]:
    """Milliseconds an architecture of each part of one step of n architectures, the least of `repeats`."""
    method = predictors.get("hypernas")(seed=DEVELOPMENT_SEED, **settings)
    graphs, _ = _training_set(n)
    run = method.new_pass([method.new_model(graphs)], [graphs])
    images, labels = run.training_images.draw(n, [np.random.default_rng(DEVELOPMENT_SEED)])
    index = torch.arange(n)[None]
    encoder = [p for name, p in run.stack.parameters.items() if ".encoder." in name]
    generator = [p for name, p in run.stack.parameters.items() if name.startswith("hypernetwork.")]
    times: dict[str, list[float]] = defaultdict(list)

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
        back = lap("target networks, backward", lambda: torch.autograd.grad(loss, kernels))
        sources = [leaf, *generator]
        found = lap(
            "weight generation, backward", lambda: torch.autograd.grad(weights, sources, back, allow_unused=True)
        )
        ends = [torch.ones_like(h), found[0]]
        lap("encoder, backward", lambda: torch.autograd.grad([h, nodes], encoder, ends, allow_unused=True))

    for _ in range(repeats + 1):
        step()
    return {name: min(laps) for name, laps in times.items()}


def large_target(channels: int, c_max: int = 32, recompute: bool = False, image_batch: int = 8) -> dict[str, float]:
    """One training step of the plain loop on NAS-Bench-201's largest cell, five cells a stage, `channels` wide.

    `c_max` limits a head of the hypernetwork, which larger weights tile (0: as large as the largest weight). Gives the
    parameters of the target network and of the model, seconds a step, bytes at the peak.
    """
    space = _benchmark().space
    graphs = collate([space.canonical(space.parse(LARGEST))] * 2, space)
    method = predictors.get("hypernas")(
        channels=channels, c_max=c_max, recompute=recompute, image_batch=image_batch, cells_per_stage=5, epochs=1,
        engine="plain", seed=DEVELOPMENT_SEED,
    )  # fmt: skip
    took: list[float] = []
    work = partial(method.fit, graphs, torch.tensor([90.0, 91.0]))
    memory = peak_memory(lambda: took.append(seconds_of(work)))
    image = method.auxiliary.train_images.shape[1:]
    size = count(method.programs(graphs[:1])[0], image, method.auxiliary.n_classes)[0]
    return {"target": size, "model": method.n_parameters, "seconds": took[0] / len(graphs), "memory": memory}


def large_targets(channels: Sequence[int], whole: int) -> pd.DataFrame:
    """`large_target` at these widths, with tiled heads and weights kept or made again, and the first `whole` of them
    with heads as large as the largest weight; memory in MiB."""
    import pandas as pd

    tiled = [
        {"channels": c, "made again": again, **large_target(c, 32, again)} for c in channels for again in (False, True)
    ]
    lines = tiled + [{"channels": c, "head": "whole", **large_target(c, 0)} for c in channels[:whole]]
    found = pd.DataFrame(lines).fillna({"head": "tiled", "made again": False})
    found["memory, MiB"] = (found.pop("memory") / 2**20).round()
    return found
