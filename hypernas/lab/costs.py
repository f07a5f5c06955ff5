"""The cost of scoring, and all ratios of the efficiency pages, measured in one run on the current machine.

None of these numbers is a result of the method; pages show them together with the machine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hypernas import predictors, spaces
from hypernas.data import find
from hypernas.errors import MissingTable
from hypernas.fast.scoring import score
from hypernas.graph import GraphBatch, collate
from hypernas.lab.benchmark import Benchmark
from hypernas.lab.labelling import Labelling, train_group
from hypernas.lab.provenance import device_name, stamp
from hypernas.lab.rows import Results
from hypernas.lab.timing import peak_memory, seconds_of, sgemm_rate
from hypernas.lab.training_costs import (
    DEVELOPMENT_SEED,
    agreement,
    paper_training,
    training_ratio,
)
from hypernas.method.hypernas import ArchitecturePredictor
from hypernas.training.predictor import n_operations
from hypernas.training.settings import PROFILES, check_device

if TYPE_CHECKING:
    import pandas as pd

# Table 11, one architecture; training is that of the benchmark's network on a GPU.
PAPER_SECONDS = {"np": 0.002, "pinat": 0.012, "hypernas": 0.014, "ghn": 14.0, "training": 8 * 3600.0}
PAPER_GPU_DAYS = {"nasbench101": 0.3, "nasbench201": 0.2, "darts": 0.3, "vit": 2.0}  # Table 10
# One architecture takes milliseconds, so the median of a few says it.
LATENCY_REPEATS = 5


def encoder_flop(
    graphs: GraphBatch,
    n_layers: int = 6,
    width: int = 72,
) -> float:
    """Return the FLOP of the products V W of Eq. 1 over all cells, layers and both directions, on real nodes only."""
    rows = torch.arange(len(graphs))[:, None]
    of_unique_cells = graphs.mask.sum(-1)
    # Sequences are padded with -1, which is no cell.
    nodes = of_unique_cells[rows, graphs.sequence.clamp(min=0)]
    nodes = nodes[graphs.sequence >= 0].sum()
    # A product with a D x D matrix is D^2 multiplications and as many additions, once for each direction.
    of_a_node = 2 * 2 * width**2
    return float(nodes) * n_layers * of_a_node


def sampled(
    space: str,
    n: int,
    seed: int = DEVELOPMENT_SEED,
) -> GraphBatch:
    """Return n random architectures of a space in the form that predictors see."""
    drawn_from = spaces.get(space)
    rng = np.random.default_rng(seed)
    architectures = [drawn_from.sample(rng) for _ in range(n)]
    contracted = [drawn_from.canonical(architecture, "contracted") for architecture in architectures]
    return collate(contracted, drawn_from)


def scoring(
    graphs: GraphBatch,
    device: str = "cpu",
    precision: torch.dtype | None = None,
) -> dict[str, float]:
    """Score all of `graphs` with an untrained HyperNAS-P (6 x 72) whose GCN runs in float32 or in `precision`.

    Returns `per_second` architectures, `over_paper` that rate relative to Table 11's, the achieved `flop_rate`, its
    share `sgemm_share` of a large product in the same run, and `memory_over_table`, peak memory relative to the graphs.
    """
    torch.manual_seed(0)
    model = ArchitecturePredictor(n_operations(graphs), 6, 72, "sum").to(device)
    # A first call, not measured: on a GPU kernels are chosen for the shapes of the whole call.
    few = graphs[:200] if device == "cpu" else graphs
    score(model, few, device=device, dtype=precision)
    took: list[float] = []
    work = partial(score, model, graphs, device=device, dtype=precision)
    memory = peak_memory(lambda: took.append(seconds_of(work)), device)
    (seconds,) = took
    per_second = len(graphs) / seconds
    flop_rate = encoder_flop(graphs) / seconds
    tensors = (graphs.ops, graphs.adjacency, graphs.mask)
    size = sum(tensor.nbytes for tensor in tensors)
    return {
        "per_second": per_second,
        "over_paper": per_second * PAPER_SECONDS["hypernas"],
        "flop_rate": flop_rate,
        "sgemm_share": flop_rate / sgemm_rate(device=device),
        "memory_over_table": memory / size,
        "seconds": seconds,
    }


def latency(
    method: str,
    graphs: GraphBatch,
    repeats: int = 20,
) -> float:
    """Return the median seconds to predict one architecture with a method trained for one epoch."""
    return _seconds_of_one(_fitted(method, graphs), graphs, repeats)


def _fitted(method: str, graphs: GraphBatch, **settings: Any) -> Any:
    """The method after one epoch of four labels: what it has learned does not matter to the time it takes."""
    accuracies = torch.tensor([90.0, 91.0, 92.0, 93.0])
    return predictors.get(method)(epochs=1, **settings).fit(graphs[:4], accuracies)


def _seconds_of_one(
    fitted: Any,
    graphs: GraphBatch,
    repeats: int,
    seconds: Callable[[Callable[[], Any]], float] = seconds_of,
) -> float:
    spread = np.linspace(0, len(graphs) - 1, repeats).astype(int)
    times = [seconds(partial(fitted.predict, graphs[i : i + 1])) for i in spread.tolist()]
    return statistics.median(times)


def _processor_seconds(work: Callable[[], Any]) -> float:
    """Seconds that this process computed: others on the machine slow a long call more often than a short one."""
    start = time.process_time()
    work()
    return time.process_time() - start


def full_training(space: str) -> float:
    """Return the seconds to train one random architecture with its own weights, as `hypernas label` does."""
    rng = np.random.default_rng(DEVELOPMENT_SEED)
    notation = spaces.get(space).sample(rng).notation
    recipe = Labelling(space, seeds=1, cells_per_stage=1)
    return seconds_of(partial(train_group, recipe, [notation]))


def bench(
    n: int = 156,
    pairs: int = 3,
    device: str = "cpu",
    part: str = "",
) -> dict[str, Any]:
    """Measure all ratios of the efficiency pages in one run, by name, or those of one of `PARTS`.

    Ratios whose table is missing are left out. On a GPU, this also measures scoring in bfloat16 and, if CIFAR-10 is
    installed, the minutes of a whole training at the paper's settings. Raise UserError if the device does not exist.
    """
    check_device(device)
    ratios: dict[str, Any] = {"device": device_name(device), "threads": torch.get_num_threads()}
    for name, measure in PARTS.items():
        if part in ("", name):
            ratios |= measure(n, pairs, device)
    return ratios


def _bench_training(
    n: int,
    pairs: int,
    device: str,
) -> dict[str, float]:
    """On a GPU the ten seeds have a quarter of the architectures, for the plain loop takes minutes there."""
    few = n if device == "cpu" else max(2, n // 4)
    ratios = {
        "training_fast_over_plain": training_ratio(n, pairs, device=device),
        "ten_seeds_together_over_one_by_one": training_ratio(few, 1, "hypernas-p", 10, device=device),
    }
    if device == "cpu":
        for name, tau in agreement(max(2, n // 2)).items():
            ratios[f"tau_{name}"] = tau
    elif find("cifar10") is not None:
        ratios["paper_training_minutes"] = paper_training(device) / 60
    return ratios


def _bench_evaluation(
    n: int,
    pairs: int,
    device: str,
) -> dict[str, dict[str, list[float]]]:
    """How many times the processor's seconds of HyperNAS GHN takes to score one architecture, by its images.

    GHN runs each network that it generates on test images, so its seconds grow with these and with the network.
    """
    graphs = sampled("nasbench201", LATENCY_REPEATS)
    sizes: dict[str, dict[str, Any]] = {"digits": {}}
    if find("cifar10") is not None:
        sizes["cifar10"] = {name: value for name, value in PROFILES["paper"].items() if name != "epochs"}
    ours = _fitted("hypernas", graphs)
    ratios = {}
    for images, settings in sizes.items():
        ghn = _fitted("ghn", graphs, **settings)
        ratios[images] = [
            _seconds_of_one(ghn, graphs, LATENCY_REPEATS, _processor_seconds)
            / _seconds_of_one(ours, graphs, LATENCY_REPEATS, _processor_seconds)
            for _ in range(pairs)
        ]
    return {"ghn_over_hypernas": ratios}


def _bench_scoring(
    n: int,
    pairs: int,
    device: str,
) -> dict[str, float]:
    try:
        start = time.perf_counter()
        benchmark = Benchmark("nasbench101", "cifar10")
        ratios = {"nasbench101_open_seconds": time.perf_counter() - start}
        graphs = benchmark.graphs("pruned")
    except MissingTable:
        return {}
    precisions: dict[str, torch.dtype | None] = {"scoring": None}
    # CPUs without instructions for bfloat16 are slower in it.
    if device != "cpu":
        precisions["scoring_bfloat16"] = torch.bfloat16
    for name, precision in precisions.items():
        rates = scoring(graphs, device, precision)
        for rate in ("over_paper", "sgemm_share", "memory_over_table"):
            ratios[f"{name}_{rate}"] = rates[rate]
    return ratios


# What the names of ratios begin with; all else in a row says where and when it was measured.
RATIOS = ("training_", "ten_", "tau_", "paper_training", "nasbench101_", "scoring_")
PARTS: dict[str, Callable[[int, int, str], Mapping[str, Any]]] = {
    "training": _bench_training,
    "evaluation": _bench_evaluation,
    "scoring": _bench_scoring,
}


def record(
    found: dict[str, Any],
    n: int,
    pairs: int,
    device: str,
    part: str = "",
) -> None:
    """Record the result of `bench` as the row of its machine in the table `bench`."""
    settings = {"pairs": pairs, "machine": found["device"], "threads": found["threads"]}
    if part:
        settings["part"] = part
    row = {
        "table": "bench",
        "space": "nasbench201",
        "dataset": "cifar10",
        "method": "hypernas",
        "n_train": n,
        "seed": DEVELOPMENT_SEED,
        "profile": "standard",
        "protocol": "clean",
        "settings": settings,
    }
    Results.of("bench").add(row | found | stamp(device), replace=True)


def recorded() -> pd.DataFrame:
    """Return the recorded ratios of `bench`, one row each, one column a machine; the newest run counts."""
    import pandas as pd

    newest: dict[str, dict[str, float]] = {}
    oldest_first = sorted(Results.of("bench").rows(), key=lambda row: row["started"])
    for row in oldest_first:
        ratios = {name: value for name, value in row.items() if name.startswith(RATIOS)}
        newest.setdefault(row["device"], {}).update(ratios)
    return pd.DataFrame(newest)
