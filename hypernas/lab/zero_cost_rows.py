"""Zero-cost proxies as experiments: score untrained networks of a space, compare the ranks with accuracies."""

from __future__ import annotations

import dataclasses
import inspect
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hypernas import spaces
from hypernas.data import Images, find, load_images
from hypernas.errors import UserError
from hypernas.graph import Architecture
from hypernas.lab.experiment import Experiment, checkpoint_for
from hypernas.lab.journal import Journal
from hypernas.lab.provenance import stamp
from hypernas.lab.recipe import Recipe
from hypernas.lab.recording import run_many
from hypernas.lab.rows import Row, canonical_json, frame
from hypernas.lab.zero_cost_cells import Cells, Score, benchmarks, cells_of, judged, repeated
from hypernas.spaces.programs import map_sizes
from hypernas.spaces.trainable_network import TrainableNetwork
from hypernas.training.settings import checked
from hypernas.zero_cost import proxies

if TYPE_CHECKING:
    import pandas as pd

TABLE = "zero_cost"
# Networks between two saves: a kill repeats a few of them.
GROUP = 4
N, SEEDS = 1000, (0, 1, 2)
MEASURED = ("published_rho", "published_repeat_rho", "n_not_finite", "seconds_per_architecture")


@dataclass(frozen=True)
class UntrainedNetworks(Recipe):
    """The networks to score and the images they see. None means the space's own size, "" the images that are installed.

    NOTE[PAPER]: paper follows ParZC's set-up without saying on which networks; we score the network that the space
    builds, without operations that reach no output, on 64 images: for NAS-Bench-201 the network of the table, for
    NAS-Bench-101 one with 16 channels instead of 128; because the published scores have that batch, and 128 channels
    need a GPU.
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


def scores_of(
    asked: Scoring,
    architectures: Mapping[int, Architecture],
    device: str,
    journal: Journal,
    progress: bool,
) -> dict[int, Score]:
    """Return the score of each untrained network, None if it is not finite, and its seconds; by id.

    Those in the journal are read, the others are added to it. Channels are stored last.
    """
    from tqdm import tqdm

    recipe = asked.recipe
    shown, labels, images = batch_of(recipe, asked.seed)
    shown, labels = shown.to(device, memory_format=torch.channels_last), labels.to(device)
    known: dict[int, Score] = {identity: (value, seconds) for identity, value, seconds in journal.records}
    missing = iter([identity for identity in architectures if identity not in known])
    with tqdm(total=len(architectures), initial=len(known), unit="network", disable=not progress) as bar:
        while group := list(islice(missing, GROUP)):
            for identity in group:
                network = recipe.network(architectures[identity], asked.seed, images.n_classes)
                network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
                start = time.perf_counter()
                # Else a GPU may round the factors of a convolution.
                with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                    value = proxies.get(asked.method)(network, shown, labels)
                known[identity] = value if value == value else None, time.perf_counter() - start
            journal.add([identity, *known[identity]] for identity in group)
            bar.update(len(group))
    return known


@dataclass(frozen=True)
class Scoring(Experiment):
    """One question: how well does the proxy `method` rank `n` untrained networks that `seed` initialises?

    Settings are `n` and the fields of `UntrainedNetworks` except the space. The datasets of a space share the scores.
    """

    @property
    def recipe(self) -> UntrainedNetworks:
        fields = {name: value for name, value in self.settings.items() if name != "n"}
        return UntrainedNetworks(self.space, **fields)

    @property
    def cells(self) -> Cells:
        return cells_of(self.space, self.dataset, self.settings["n"], self.settings["graph_form"])

    def resolved(self) -> Scoring:
        """Return the same with every size filled in. Raise UserError for a value that breaks a rule."""
        settings = dataclasses.asdict(self.recipe.resolved()) | {"n": self.settings["n"]}
        del settings["space"]
        return replace(self, seed=checked("seed", self.seed), settings=settings)

    def check(self, device: str = "cpu") -> None:
        """Raise UserError if nothing can be scored."""
        proxies.get(self.method)
        recipe = self.recipe
        batch_of(recipe, self.seed)
        first = self.cells.graphs.architecture(0)
        map_sizes(recipe.network(first, 0, 2).program, recipe.side, recipe.side)

    @property
    def together(self) -> bool:
        return True

    def family(self) -> str:
        return canonical_json({**dataclasses.asdict(self), "dataset": ""})

    @staticmethod
    def measure(
        group: list[Any],
        progress: bool,
        device: str,
    ) -> Iterator[Row]:
        """Yield the rows of resolved experiments that differ only in the dataset."""
        first = group[0]
        made: Row = stamp(device) | {"image_source": _images(first.recipe.images).source}
        # It is where the state of a training would be, so that it is removed once the rows are recorded.
        checkpoint = checkpoint_for(group, device)
        place = checkpoint.path if checkpoint else None
        journal = Journal(place, first.key(), "set $XDG_CACHE_HOME")
        architectures: dict[int, Architecture] = {}
        for asked in group:
            architectures |= asked.cells.architectures()
        scores = scores_of(first, architectures, device, journal, progress)
        all_cells = [replace(first, dataset=benchmark.dataset).cells for benchmark in benchmarks(first.space)]
        made["published_repeat_rho"] = repeated(all_cells, first.method)
        for asked in group:
            benchmark = asked.cells.benchmark
            table = {"source": benchmark.table.source, "table_digest": asked.table_digest()}
            row = dataclasses.asdict(asked) | judged(asked.cells, asked.method, scores) | made | table
            yield row | {"seconds": round(row["seconds"] / len(group), 3)}


def experiments(
    recipe: UntrainedNetworks,
    methods: Sequence[str],
    n: int,
    seeds: Sequence[int],
) -> list[Scoring]:
    """Return an experiment for each method, initialisation and installed dataset of the space, methods outermost."""
    settings = dataclasses.asdict(recipe) | {"n": n}
    space = settings.pop("space")
    asked = []
    for method in methods:
        for seed in seeds:
            for benchmark in benchmarks(space):
                # A proxy has no labels to train on.
                place = (TABLE, space, benchmark.dataset, method, None, seed)
                asked.append(Scoring(*place, settings=settings))  # type: ignore[arg-type]
    return asked


def rows() -> pd.DataFrame:
    """Return all recorded rows as a frame, whose columns exist even if there are no rows."""
    recorded = frame(TABLE)
    return recorded.reindex(columns=list(dict.fromkeys([*recorded.columns, *MEASURED])))


def record(
    names: Sequence[str],
    profile: str,
    device: str = "cpu",
) -> None:
    """Compute and record the missing rows of these spaces; the `quick` profile computes nothing."""
    for name in names if profile != "quick" else ():
        for _ in run_many(experiments(UntrainedNetworks(name), proxies.names(), N, SEEDS), device=device):
            pass
