"""What training and scoring cost: ratios measured in one run, on whatever machine it runs.

Two programs are compared in pairs of runs taken in turn, A B A B, so that a drift of the machine's speed cancels.
Nothing here is a result of the method; a page shows these numbers with the machine they were measured on.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np
import torch

from hypernas import predictors, spaces
from hypernas.benchmark import Benchmark
from hypernas.errors import UserError
from hypernas.fitting import n_operations
from hypernas.graph import GraphBatch, collate
from hypernas.model import ArchitecturePredictor, score

PAPER_SECONDS = {"np": 0.002, "pinat": 0.012, "hypernas": 0.014, "ghn": 14.0}  # Table 11, one architecture
PAPER_GPU_DAYS = {"nasbench101": 0.3, "nasbench201": 0.2, "darts": 0.3, "vit": 2.0}  # Table 10
DEVELOPMENT_SEED = 100


def seconds_of(work: Callable[[], Any]) -> float:
    """Wall seconds of one call, the GPU's work included."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def paired_ratio(slow: Callable[[], Any], fast: Callable[[], Any], pairs: int = 3) -> dict[str, float]:
    """`slow` over `fast` in time: the median ratio of `pairs` pairs, its range, the median seconds of both."""
    if pairs < 1:
        raise UserError(f"pairs must be at least 1, got {pairs}")
    times = [(seconds_of(slow), seconds_of(fast)) for _ in range(pairs)]
    ratios = [a / b for a, b in times]
    slow_seconds, fast_seconds = (statistics.median(side) for side in zip(*times, strict=True))
    return {
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
        "slow_seconds": slow_seconds,
        "fast_seconds": fast_seconds,
    }


@cache
def _benchmark() -> Benchmark:
    return Benchmark("nasbench201", "cifar10")


def _step(method: str, n: int, n_seeds: int = 1, **settings: Any) -> Callable[[], None]:
    """One epoch over n architectures of NAS-Bench-201, prepared: only the training itself is in the call."""
    benchmark = _benchmark()
    seeds = range(DEVELOPMENT_SEED, DEVELOPMENT_SEED + n_seeds)
    sets = [benchmark.split(n, seed)[0] for seed in seeds]
    graphs = [benchmark.graphs("contracted")[train] for train in sets]
    labels = [benchmark.validation[train] for train in sets]

    def train() -> None:
        predictors.fit_many(method, {"epochs": 1} | settings, graphs, labels, list(seeds))

    train()
    return train


def training_ratio(n: int = 156, pairs: int = 3, **settings: Any) -> dict[str, float]:
    """HyperNAS, one epoch over n architectures on the digits: the plain loop over the fast pass."""
    plain, fast = (_step("hypernas", n, engine=engine, **settings) for engine in ("plain", "fast"))
    found = paired_ratio(plain, fast, pairs)
    return found | {"milliseconds_per_architecture": 1000 * found["fast_seconds"] / n}


def seeds_ratio(n_seeds: int = 10, n: int = 156, pairs: int = 3, **settings: Any) -> dict[str, float]:
    """HyperNAS-P, one epoch over n architectures: the plain loop seed by seed over `n_seeds` seeds together."""
    plain, fast = (_step("hypernas-p", n, n_seeds, engine=engine, **settings) for engine in ("plain", "fast"))
    return paired_ratio(plain, fast, pairs)


def milliseconds(method: str, n: int = 40, repeats: int = 3, **settings: Any) -> float:
    """Training time of one architecture and step, milliseconds, the least of `repeats`."""
    train = _step(method, n, **settings)
    return 1000 * min(seconds_of(train) for _ in range(repeats)) / n


def growth(
    setting: str, values: Iterable[Any], n: int = 40, repeats: int = 3, method: str = "hypernas"
) -> dict[Any, float]:
    """`milliseconds` for each value of one setting (channels, cells_per_stage, image_batch, width, n_layers)."""
    return {value: milliseconds(method, n, repeats, **{setting: value}) for value in values}


def sgemm_rate(n: int = 2048, repeats: int = 5, device: str = "cpu") -> float:
    """FLOP a second of a large single-precision product: the machine's own yardstick."""
    a = torch.randn(n, n, device=device)
    return 2 * n**3 / min(seconds_of(lambda: a @ a) for _ in range(repeats + 1))


def encoder_flop(graphs: GraphBatch, n_layers: int = 6, width: int = 72) -> float:
    """FLOP of the products V W of Eq. 1 over all cells, layers and both directions, on real nodes alone."""
    rows = torch.arange(len(graphs))[:, None]
    nodes = graphs.mask.sum(-1)[rows, graphs.sequence.clamp(min=0)] * (graphs.sequence >= 0)
    return float(nodes.sum()) * n_layers * 2 * 2 * width * width


def sampled(space: str, n: int, seed: int = DEVELOPMENT_SEED) -> GraphBatch:
    """n random architectures of a space in the form the predictors see."""
    chosen, rng = spaces.get(space), np.random.default_rng(seed)
    return collate([chosen.canonical(chosen.sample(rng), "contracted") for _ in range(n)], chosen)


def scoring(graphs: GraphBatch, method: str = "hypernas-p", device: str = "cpu") -> dict[str, float]:
    """Score all of `graphs` with a fresh HyperNAS-P (6 x 72).

    `per_second` architectures, `over_paper` that rate over Table 11's, `flop_rate` the achieved one, `sgemm_share`
    of a large product in the same run, `memory_over_table` the growth of the process's peak memory over the size of
    the graphs.
    """
    torch.manual_seed(0)
    model = ArchitecturePredictor(n_operations(graphs), 6, 72, "sum").to(device)
    score([model], [graphs[:200]], device=device)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = seconds_of(lambda: score([model], [graphs], device=device))
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    size = sum(t.numel() * t.element_size() for t in (graphs.ops, graphs.adjacency, graphs.mask))
    flop_rate = encoder_flop(graphs) / seconds
    return {
        "per_second": len(graphs) / seconds,
        "over_paper": len(graphs) / seconds * PAPER_SECONDS["hypernas"],
        "flop_rate": flop_rate,
        "sgemm_share": flop_rate / sgemm_rate(device=device),
        "memory_over_table": grown / size,
        "seconds": seconds,
    }


def latency(method: str, graphs: GraphBatch, repeats: int = 20) -> float:
    """Median seconds to predict one architecture with a method trained for a single epoch."""
    few = graphs[:4]
    fitted = predictors.get(method)(epochs=1).fit(few, torch.tensor([90.0, 91.0, 92.0, 93.0]))
    ones = [graphs[i : i + 1] for i in np.linspace(0, len(graphs) - 1, repeats).astype(int)]
    return statistics.median(seconds_of(lambda one=one: fitted.predict(one)) for one in ones)  # type: ignore[misc]


def bench(n: int = 156, pairs: int = 3) -> dict[str, Any]:
    """All ratios of the efficiency pages in one run, by name; what needs a table that is missing is left out."""
    found: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "training_fast_over_plain": training_ratio(n, pairs)["ratio"],
        "ten_seeds_together_over_one_by_one": seeds_ratio(10, n, 1)["ratio"],
    }
    try:
        start = time.perf_counter()
        benchmark = Benchmark("nasbench101", "cifar10")
        found["nasbench101_open_seconds"] = time.perf_counter() - start
        graphs = benchmark.graphs("pruned")
    except UserError:
        return found
    rates = scoring(graphs)
    return found | {f"scoring_{name}": rates[name] for name in ("over_paper", "sgemm_share", "memory_over_table")}
