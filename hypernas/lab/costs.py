"""What scoring costs, and all ratios of the efficiency pages, measured in one run on whatever machine it runs.

Nothing here is a result of the method; a page shows these numbers with the machine they were measured on.
"""

from __future__ import annotations

import statistics
import time
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
from hypernas.lab.labelling import Recipe, train_group
from hypernas.lab.provenance import check_device, device_name, stamp
from hypernas.lab.rows import Results
from hypernas.lab.timing import peak_memory, seconds_of, sgemm_rate
from hypernas.lab.training_costs import (
    DEVELOPMENT_SEED,
    agreement,
    paper_training,
    seeds_ratio,
    training_ratio,
)
from hypernas.method.hypernas import ArchitecturePredictor
from hypernas.training.predictor import n_operations

if TYPE_CHECKING:
    import pandas as pd

# Table 11, one architecture; training is that of the benchmark's network on a GPU.
PAPER_SECONDS = {"np": 0.002, "pinat": 0.012, "hypernas": 0.014, "ghn": 14.0, "training": 8 * 3600.0}
PAPER_GPU_DAYS = {"nasbench101": 0.3, "nasbench201": 0.2, "darts": 0.3, "vit": 2.0}  # Table 10


def encoder_flop(graphs: GraphBatch, n_layers: int = 6, width: int = 72) -> float:
    """FLOP of the products V W of Eq. 1 over all cells, layers and both directions, on real nodes alone."""
    rows = torch.arange(len(graphs))[:, None]
    nodes = graphs.mask.sum(-1)[rows, graphs.sequence.clamp(min=0)] * (graphs.sequence >= 0)
    return float(nodes.sum()) * n_layers * 2 * 2 * width * width


def sampled(space: str, n: int, seed: int = DEVELOPMENT_SEED) -> GraphBatch:
    """n random architectures of a space in the form the predictors see."""
    chosen, rng = spaces.get(space), np.random.default_rng(seed)
    return collate([chosen.canonical(chosen.sample(rng), "contracted") for _ in range(n)], chosen)


def scoring(graphs: GraphBatch, device: str = "cpu", precision: torch.dtype | None = None) -> dict[str, float]:
    """Score all of `graphs` with a fresh HyperNAS-P (6 x 72), its GCN in float32 unless a `precision` is given.

    `per_second` architectures, `over_paper` that rate over Table 11's, `flop_rate` the achieved one, `sgemm_share`
    of a large product in the same run, `memory_over_table` the peak memory of the call over the size of the graphs.
    """
    torch.manual_seed(0)
    model = ArchitecturePredictor(n_operations(graphs), 6, 72, "sum").to(device)
    score(model, graphs[:200] if device == "cpu" else graphs, device=device, dtype=precision)
    took: list[float] = []
    work = partial(score, model, graphs, device=device, dtype=precision)
    memory = peak_memory(lambda: took.append(seconds_of(work)), device)
    (seconds,) = took
    size = sum(t.numel() * t.element_size() for t in (graphs.ops, graphs.adjacency, graphs.mask))
    flop_rate = encoder_flop(graphs) / seconds
    return {
        "per_second": len(graphs) / seconds,
        "over_paper": len(graphs) / seconds * PAPER_SECONDS["hypernas"],
        "flop_rate": flop_rate,
        "sgemm_share": flop_rate / sgemm_rate(device=device),
        "memory_over_table": memory / size,
        "seconds": seconds,
    }


def latency(method: str, graphs: GraphBatch, repeats: int = 20) -> float:
    """Median seconds to predict one architecture with a method trained for a single epoch."""
    few = graphs[:4]
    fitted = predictors.get(method)(epochs=1).fit(few, torch.tensor([90.0, 91.0, 92.0, 93.0]))
    ones = [graphs[i : i + 1] for i in np.linspace(0, len(graphs) - 1, repeats).astype(int)]
    return statistics.median(seconds_of(lambda one=one: fitted.predict(one)) for one in ones)  # type: ignore[misc]


def full_training(space: str, epochs: int = 10, images: str = "digits") -> float:
    """Seconds to train one random architecture with weights of its own, as `hypernas label` does with each."""
    chosen = spaces.get(space)
    notation = chosen.sample(np.random.default_rng(DEVELOPMENT_SEED)).notation
    recipe = Recipe(space, images, epochs=epochs, seeds=1, cells_per_stage=1)
    return seconds_of(partial(train_group, recipe, [notation]))


def bench(n: int = 156, pairs: int = 3, device: str = "cpu", part: str = "") -> dict[str, Any]:
    """All ratios of the efficiency pages in one run, by name, or those of one of `PARTS`.

    What needs a table that is missing is left out. On a GPU also scoring in bfloat16, and the minutes of a whole
    training at the paper's settings where CIFAR-10 is present. Raises UserError for a device that is not there.
    """
    check_device(device)
    found: dict[str, Any] = {"device": device_name(device), "threads": torch.get_num_threads()}
    for name, measure in PARTS.items():
        if part in ("", name):
            found |= measure(n, pairs, device)
    return found


def _bench_training(n: int, pairs: int, device: str) -> dict[str, float]:
    """On a GPU the ten seeds have a quarter of the architectures, for the plain loop takes minutes there."""
    few = n if device == "cpu" else max(2, n // 4)
    found = {"training_fast_over_plain": training_ratio(n, pairs, device=device)["ratio"]}
    found |= {"ten_seeds_together_over_one_by_one": seeds_ratio(10, few, 1, device=device)["ratio"]}
    if device == "cpu":
        return found | {f"tau_{name}": tau for name, tau in agreement(max(2, n // 2)).items()}
    return found | ({} if find("cifar10") is None else {"paper_training_minutes": paper_training(device) / 60})


def _bench_scoring(n: int, pairs: int, device: str) -> dict[str, float]:
    try:
        start = time.perf_counter()
        benchmark = Benchmark("nasbench101", "cifar10")
        found = {"nasbench101_open_seconds": time.perf_counter() - start}
        graphs = benchmark.graphs("pruned")
    except MissingTable:
        return {}
    for precision in (None, torch.bfloat16) if device != "cpu" else (None,):
        rates, name = scoring(graphs, device, precision), "scoring" if precision is None else "scoring_bfloat16"
        found |= {f"{name}_{of}": rates[of] for of in ("over_paper", "sgemm_share", "memory_over_table")}
    return found


RATIOS = ("training_", "ten_", "tau_", "paper_training", "nasbench101_", "scoring_")
PARTS = {"training": _bench_training, "scoring": _bench_scoring}


def record(found: dict[str, Any], n: int, pairs: int, device: str, part: str = "") -> None:
    """Keep what `bench` found as the row of its machine in the table `bench`."""
    place = {"table": "bench", "space": "nasbench201", "dataset": "cifar10", "method": "hypernas", "n_train": n}
    settings = {"pairs": pairs, "machine": found["device"], "threads": found["threads"]}
    settings |= {"part": part} if part else {}
    about = {"seed": DEVELOPMENT_SEED, "profile": "standard", "protocol": "clean", "settings": settings}
    Results.of("bench").add(place | about | found | stamp(device), replace=True)


def recorded() -> pd.DataFrame:
    """The recorded ratios of `bench`, a row each and a column a machine; of several the newest."""
    import pandas as pd

    newest: dict[str, dict[str, float]] = {}
    for row in sorted(Results.of("bench").rows(), key=lambda row: row["started"]):
        ratios = {name: value for name, value in row.items() if name.startswith(RATIOS)}
        newest.setdefault(row["device"], {}).update(ratios)
    return pd.DataFrame(newest)
