"""`hypernas zero-cost`: score untrained networks of a space, compare the ranks with accuracies, record the rows."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hypernas import spaces
from hypernas.data import Images, find, load_images
from hypernas.data.catalogue import cache_directory
from hypernas.errors import UserError
from hypernas.graph import Architecture
from hypernas.lab.formats import in_words
from hypernas.lab.journal import Journal
from hypernas.lab.provenance import stamp
from hypernas.lab.recipe import Recipe
from hypernas.lab.rows import Results, Row, canonical_json, frame, row_key
from hypernas.lab.runner import Runner, Workers
from hypernas.lab.tables import digest
from hypernas.lab.zero_cost_cells import Cells, Score, benchmarks, judged, repeated
from hypernas.spaces.programs import map_sizes
from hypernas.spaces.trainable_network import TrainableNetwork
from hypernas.training.files import short_digest
from hypernas.training.settings import check_device, checked
from hypernas.zero_cost import proxies

if TYPE_CHECKING:
    import pandas as pd

TABLE = "zero_cost"
GROUP = 4
N, SEEDS = 1000, (0, 1, 2)
MEASURED = ("published_rho", "published_repeat_rho", "n_not_finite", "seconds_per_architecture")


@dataclass(frozen=True)
class UntrainedNetworks(Recipe):
    """The networks to score and the images they see. None means the space's own size, "" the images that are installed.

    NOTE[PAPER]: paper follows ParZC's set-up without saying on which networks; we score the network that the space
    builds (NAS-Bench-201's is the table's, of NAS-Bench-101 it has 16 channels, not 128) without operations that reach
    no output, on 64 images; because the published scores are of that batch, and the whole of NAS-Bench-101 takes a GPU.
    """

    space: str
    images: str = ""
    batch: int = 64
    side: int = 32
    channels: int | None = None
    cells_per_stage: int | None = None
    stem_stride: int | None = None
    graph_form: str = "pruned"

    def resolved(self) -> UntrainedNetworks:
        """Return the same with every size filled in."""
        own = inspect.signature(spaces.get(self.space).build).parameters
        sizes = ("channels", "cells_per_stage", "stem_stride")
        unset = {name: own[name].default for name in sizes if getattr(self, name) is None}
        images = self.images or ("cifar10" if find("cifar10") else "digits")
        return replace(self, **unset, images=images)

    def network(
        self,
        architecture: Architecture,
        seed: int,
        n_classes: int,
    ) -> TrainableNetwork:
        """Return the untrained network for colour images, with PyTorch's random weights for `seed`."""
        build: Any = spaces.get(self.space).build
        program = build(architecture, self.channels, self.cells_per_stage, self.stem_stride)
        torch.manual_seed(seed)
        return TrainableNetwork(program, 3, n_classes)


_images = cache(load_images)


def batch_of(recipe: UntrainedNetworks, seed: int) -> tuple[Tensor, Tensor, Images]:
    """Return images (batch, 3, side, side), resized if necessary, and labels, drawn by a seed, and the whole set."""
    images = _images(recipe.images)
    if recipe.batch > len(images.train_labels):
        n = len(images.train_labels)
        raise UserError(f"batch must be at most the {n} images of {recipe.images}, got {recipe.batch}")
    chosen = np.random.default_rng(seed).permutation(len(images.train_labels))[: recipe.batch]
    shown = images.train_images[chosen]
    if shown.shape[-1] != recipe.side:
        shown = F.interpolate(shown, (recipe.side, recipe.side), mode="bilinear")
    return shown.expand(-1, 3, -1, -1).contiguous(), images.train_labels[chosen], images


def score(
    recipe: UntrainedNetworks,
    method: str,
    seed: int,
    architectures: Sequence[Architecture],
    device: str,
) -> list[Score]:
    """Return the score of each untrained network, None if it is not finite, and its seconds.

    Channels are stored last.
    """
    shown, labels, images = batch_of(recipe, seed)
    shown, labels = shown.to(device, memory_format=torch.channels_last), labels.to(device)
    found: list[Score] = []
    for architecture in architectures:
        network = recipe.network(architecture, seed, images.n_classes)
        network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        start = time.perf_counter()
        with _unrounded():
            value = proxies.get(method)(network, shown, labels)
        found.append((value if value == value else None, time.perf_counter() - start))
    return found


@contextmanager
def _unrounded() -> Iterator[None]:
    """Under it a GPU does not round the factors of a convolution, as it else may."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@dataclass(frozen=True)
class Scoring:
    """A job of the runner: some architectures, by id, to be scored by a method after one initialisation."""

    recipe: UntrainedNetworks
    method: str
    seed: int
    architectures: Mapping[int, Architecture]
    device: str


def score_some(job: Scoring) -> dict[int, Score]:
    """Run a job and return the scores by id."""
    scores = score(job.recipe, job.method, job.seed, list(job.architectures.values()), job.device)
    return dict(zip(job.architectures, scores, strict=True))


def kept_scores(identity: Any, keep: bool = True) -> Journal:
    """Return the journal of scores in the user cache that `identity` names; records are `[id, score, seconds]`."""
    name = short_digest(canonical_json(identity))
    path = cache_directory() / "zero_cost" / f"{name}.scores.jsonl" if keep else None
    return Journal(path, identity, "set $XDG_CACHE_HOME")


def run(
    recipe: UntrainedNetworks, methods: Sequence[str], n: int, seeds: Sequence[int], *, workers: Workers | None = None,
    device: str = "cpu", force: bool = False, progress: bool = False,
    tell: Callable[[str], None] | None = None,
) -> Iterator[Row]:  # fmt: skip
    """Yield a row for each method, initialisation and dataset, methods outermost.

    Recorded ones are read unless `force`. Scores are saved in the user cache, so that an interrupted call resumes,
    unless the library has uncommitted changes. Raise UserError before the first score if something cannot run. `tell`
    is called with the expected cost before it starts.
    """
    check_device(device)
    recipe, asked = recipe.resolved(), list(product(methods, seeds))
    for method, seed in asked:
        proxies.get(method)
        batch_of(recipe, checked("seed", seed))
    chosen = [Cells(benchmark, n, recipe.graph_form) for benchmark in benchmarks(recipe.space)]
    map_sizes(recipe.network(chosen[0].graphs.architecture(0), 0, 2).program, recipe.side, recipe.side)
    Results.of(TABLE).require_writable()
    if tell is not None:
        missing = asked
        if not force:
            missing = [pair for pair in asked if None in _recorded(recipe, chosen, *pair)]
        tell(cost(recipe, missing, len(asked), _architectures(chosen), workers or Workers(), device))
    return _rows(recipe, device, workers, asked, chosen, force=force, progress=progress)


def cost(
    recipe: UntrainedNetworks,
    missing: Sequence[tuple[str, int]],
    total: int,
    architectures: Mapping[int, Architecture],
    workers: Workers,
    device: str,
) -> str:
    """Return a sentence that says how many networks are to be scored, on what, and for about how long."""
    if not missing:
        return f"{total} of {total} methods and seeds are recorded already"
    taken: dict[str, float] = {}
    alike = asdict(replace(recipe, space=""))
    for row in Results.of(TABLE).rows():
        settings = {name: row["settings"].get(name) for name in alike}
        if row["space"] == recipe.space and settings | {"space": ""} == alike:
            taken[row["method"]] = row["seconds_per_architecture"]
    each = [taken.get(method) for method, _ in missing]
    seconds = sum(second for second in each if second is not None) * len(architectures) / workers.workers
    duration = "" if None in each else f", about {in_words(seconds)} by rows like them"
    rest = f"; {total - len(missing)} are recorded already" if len(missing) < total else ""
    n = f"{len(missing)} of {total} methods and seeds to score on {len(architectures)} networks each"
    return f"{n}, on {workers} ({device}){duration}{rest}"


def rows() -> pd.DataFrame:
    """Return all recorded rows as a frame, whose columns exist even if there are no rows."""
    recorded = frame(TABLE)
    return recorded.reindex(columns=list(dict.fromkeys([*recorded.columns, *MEASURED])))


def record(
    names: Sequence[str],
    profile: str,
    device: str = "cpu",
) -> None:
    """Compute and record the missing rows of these spaces, one by one; the `quick` profile computes nothing."""
    for name in names if profile != "quick" else ():
        for _ in run(UntrainedNetworks(name), proxies.names(), N, SEEDS, device=device):
            pass


def _rows(
    recipe: UntrainedNetworks,
    device: str,
    workers: Workers | None,
    asked: Sequence[tuple[str, int]],
    chosen: Sequence[Cells],
    *,
    force: bool,
    progress: bool,
) -> Iterator[Row]:
    from tqdm import tqdm

    architectures = _architectures(chosen)
    with (
        Runner(workers) as runner,
        tqdm(total=len(asked) * len(architectures), unit="network", disable=not progress) as bar,
    ):
        for method, seed in asked:
            places = [_place(recipe, cells, method, seed) for cells in chosen]
            digests = [digest(cells.benchmark.table) for cells in chosen]
            rows = _recorded(recipe, chosen, method, seed) if not force else [None]
            if None not in rows:
                bar.update(len(architectures))
                yield from rows  # type: ignore[misc]
                continue
            facts = _facts(recipe, device) | {"published_repeat_rho": repeated(chosen, method)}
            made = [facts[name] for name in ("device", "version", "commit")]
            keeps = not force and not facts["commit"].endswith("+dirty")
            journal = kept_scores([asdict(recipe), method, seed, *made], keeps)
            scores: dict[int, Score] = {identity: (value, seconds) for identity, value, seconds in journal.records}
            todo = [identity for identity in architectures if identity not in scores]
            bar.update(len(architectures) - len(todo))
            groups = [todo[start : start + GROUP] for start in range(0, len(todo), GROUP)]
            jobs = []
            for ids in groups:
                some = {identity: architectures[identity] for identity in ids}
                jobs.append(Scoring(recipe, method, seed, some, device))
            for answer in runner.map(score_some, jobs):
                if answer.error is not None:
                    raise answer.error
                journal.add([identity, *told] for identity, told in answer.result.items())
                scores |= answer.result
                bar.update(len(answer.result))
            for place, cells, table_digest in zip(places, chosen, digests, strict=True):
                source = {"source": cells.benchmark.table.source, "table_digest": table_digest}
                row = place | judged(cells, method, scores) | facts | source
                yield Results.of(TABLE).add(row, replace=force)


def _architectures(chosen: Sequence[Cells]) -> dict[int, Architecture]:
    """All that are scored, by id: those of several datasets are the same ones."""
    return {identity: a for cells in chosen for identity, a in cells.architectures().items()}


def _recorded(
    recipe: UntrainedNetworks,
    chosen: Sequence[Cells],
    method: str,
    seed: int,
) -> list[Row | None]:
    """The row of each dataset, None where there is none."""
    found = []
    for cells in chosen:
        key = row_key(_place(recipe, cells, method, seed))
        found.append(Results.of(TABLE).find(key, digest(cells.benchmark.table)))
    return found


def _place(
    recipe: UntrainedNetworks,
    cells: Cells,
    method: str,
    seed: int,
) -> Row:
    """What a row is an answer to."""
    settings = {"n": len(cells.rows), **asdict(recipe)}
    del settings["space"]
    place = {"table": TABLE, "space": recipe.space, "dataset": cells.benchmark.dataset, "method": method}
    return place | {"n_train": None, "seed": seed, "profile": "standard", "protocol": "clean", "settings": settings}


def _facts(recipe: UntrainedNetworks, device: str) -> Row:
    """With what and when a row is made."""
    return stamp(device) | {"image_source": _images(recipe.images).source}
