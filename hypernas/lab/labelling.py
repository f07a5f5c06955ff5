"""`hypernas label`: sample architectures, train each with its own weights on images, write a benchmark table."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from hypernas import spaces
from hypernas.data import load_images
from hypernas.data.labelled import provenance_of, write_labelled
from hypernas.errors import UserError
from hypernas.fast.learned_networks import Networks
from hypernas.lab.formats import to_do
from hypernas.lab.journal import Journal
from hypernas.lab.provenance import commit, device_name, version
from hypernas.lab.recipe import Recipe
from hypernas.lab.runner import Runner, Workers, cores
from hypernas.method.target_network import Program
from hypernas.spaces.base import draw_distinct
from hypernas.spaces.programs import count, map_sizes
from hypernas.training.loop import Schedule

SAMPLER_SEED = 0
GROUP = 4
# Above so many times the cross-entropy of a guess training has not learned badly but diverged.
DIVERGED = 10
# Epochs of all groups together, of which one is tried to tell how long they take.
WORTH_A_TRIAL = 40
Record = dict[str, Any]


@dataclass(frozen=True)
class Labelling(Recipe):
    """Settings of a labelling: each of `n` architectures is trained once per seed.

    `n_validation` training images are held out.
    """

    space: str
    images: str = "digits"
    n: int = 300
    epochs: int = 10
    seeds: int = 3
    channels: int = 8
    cells_per_stage: int = 3
    stem_stride: int = 2
    batch: int = 64
    learning_rate: float = 1e-2
    n_validation: int = 360


def sample_distinct(space: Any, n: int) -> list[str]:
    """Return the notations of n sampled architectures with different functions. Raise UserError if there are fewer."""
    drawn = draw_distinct(space, n, SAMPLER_SEED)
    if len(drawn) < n:
        raise UserError(f"n must be at most the {len(drawn)} different architectures that {space.name} gave, got {n}")
    return [architecture.notation for architecture in drawn]


def _programs(recipe: Labelling, notations: Sequence[str]) -> list[Program]:
    """The networks of some architectures. Raises UserError for one that cannot be built as the recipe asks."""
    space = spaces.get(recipe.space)
    build = partial(space.build, channels=recipe.channels, cells_per_stage=recipe.cells_per_stage,
                    stem_stride=recipe.stem_stride)  # fmt: skip
    return [build(space.canonical(space.parse(notation))) for notation in notations]


def train_group(recipe: Labelling, notations: Sequence[str]) -> list[Record]:
    """Train some architectures side by side. Return for each its accuracies (S,) in percent and its parameters."""
    images = load_images(recipe.images)
    order = np.random.default_rng(0).permutation(len(images.train_labels))
    held, kept = order[: recipe.n_validation], order[recipe.n_validation :]
    programs, seeds = _programs(recipe, notations), list(range(recipe.seeds)) * len(notations)
    repeated = [program for program in programs for _ in range(recipe.seeds)]
    networks = Networks(repeated, seeds, images.train_images.shape[1], images.n_classes)
    schedule = Schedule(recipe.epochs, recipe.learning_rate, recipe.batch)
    losses = networks.fit(images.train_images[kept], images.train_labels[kept], schedule)
    guess = math.log(images.n_classes)
    if min(losses) > DIVERGED * guess:
        rule = f"a training must get below {DIVERGED} times the cross-entropy of a guess, {guess:.2f}"
        told = f"at least {min(losses):.3g} in all of {len(losses)} with a learning rate of {recipe.learning_rate:g}"
        raise UserError(f"{rule}, got {told}: lower it")
    validation = networks.accuracies(images.train_images[held], images.train_labels[held]).view(-1, recipe.seeds)
    test = networks.accuracies(images.test_images, images.test_labels).view(-1, recipe.seeds)
    size = [count(program, images.train_images.shape[1:], images.n_classes)[0] for program in programs]
    return [
        {"notation": notation, "validation": v, "test": t, "parameters": p}
        for notation, v, t, p in zip(notations, validation.tolist(), test.tolist(), size, strict=True)
    ]


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep a second command from the same table."""
    out.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out.with_name(f".{out.name}.lock"), timeout=0)
    try:
        with lock:
            yield
    except Timeout as error:
        raise UserError(f"one command at a time may label {out}, another one is running") from error


def cost(recipe: Labelling, missing: Sequence[str], workers: Workers) -> str:
    """Return a sentence that says how many networks are to be trained, on what, and for about how long.

    If that takes little time compared with the whole, it trains one group for an epoch to estimate this.
    """
    n_groups = math.ceil(len(missing) / GROUP)
    seconds = None
    if n_groups * recipe.epochs >= WORTH_A_TRIAL:
        began = time.perf_counter()
        train_group(replace(recipe, epochs=1), missing[:GROUP])
        seconds = (time.perf_counter() - began) * recipe.epochs * n_groups / workers.workers
    work = f"architectures to train, {recipe.seeds} times each for {recipe.epochs} epochs,"
    basis = f"an epoch of the first {min(GROUP, len(missing))}"
    return to_do(len(missing), recipe.n, work, f"{workers} (cpu)", seconds, basis, "are trained already")


def _train(job: tuple[Labelling, Sequence[str]]) -> list[Record]:
    """The work of a job of the runner."""
    return train_group(*job)


def label(
    recipe: Labelling,
    out: Path,
    force: bool = False,
    progress: bool = True,
    workers: Workers | None = None,
    tell: Callable[[str], None] | None = None,
) -> Path:
    """Train what is not trained yet and write the table `out`. An interrupted call resumes when repeated.

    It runs on `workers`, by default one single-threaded process per core. `tell` is called with the expected cost
    before it starts. Raise UserError if the journal has other settings, or if the table has other settings; `force`
    replaces the table.
    """
    from tqdm import tqdm

    space, size = spaces.get(recipe.space), load_images(recipe.images).train_images.shape[2:]
    with _alone(out):
        if out.exists() and not force:
            made = provenance_of(out)
            if any(made.get(name) != value for name, value in asdict(recipe).items()):
                raise UserError(f"{out} was made with other settings: choose another --out or give --force")
            return out
        started = datetime.now(UTC).isoformat(timespec="seconds")
        notations = sample_distinct(space, recipe.n)
        for program in _programs(recipe, notations):
            map_sizes(program, *size)
        journal = Journal(out.with_name(f"{out.name}.partial.jsonl"), asdict(recipe), "choose another --out")
        done = {record["notation"] for record in journal.records}
        missing = [notation for notation in notations if notation not in done]
        jobs = [(recipe, missing[start : start + GROUP]) for start in range(0, len(missing), GROUP)]
        workers = (workers or Workers(cores())).at_most(len(jobs))
        if tell is not None and jobs:
            tell(cost(recipe, missing, workers))
        with (
            tqdm(total=recipe.n, initial=recipe.n - len(missing), unit="architecture", disable=not progress) as bar,
            Runner(workers if jobs else None) as runner,
        ):
            for answer in runner.map(_train, jobs):
                if answer.error is not None:
                    raise answer.error
                journal.add(answer.result)
                bar.update(len(answer.result))
        records = {record["notation"]: record for record in journal.records}
        _finish(out, recipe, [records[notation] for notation in notations], started)
        journal.remove()
    return out


def _finish(out: Path, recipe: Labelling, records: Sequence[Record], started: str) -> None:
    """The parquet file, with the recipe, the images and the machine in its metadata."""
    columns: dict[str, Any] = {}
    for name in ("notation", "parameters"):
        columns[name] = [record[name] for record in records]
    for part in ("validation", "test"):
        runs = np.array([record[part] for record in records])
        columns |= {f"{part}_{seed}": runs[:, seed] for seed in range(recipe.seeds)}
    write_labelled(out, columns, asdict(recipe) | {
        "sampler_seed": SAMPLER_SEED, "optimizer": "Adam, rate halved at 50 % and 75 % of the epochs",
        "normalisation": "statistics of the batch, no learned scale", "image_source": load_images(recipe.images).source,
        "version": version(), "commit": commit(), "device": device_name("cpu"), "started": started,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    })  # fmt: skip
