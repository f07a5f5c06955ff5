"""`hypernas label`: sample architectures, train each on images with weights of its own, write a benchmark table."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from multiprocessing import current_process, get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout

from hypernas import spaces
from hypernas.data import load_images
from hypernas.data.labelled import provenance_of, write_labelled
from hypernas.errors import UserError
from hypernas.fast.learned_networks import Networks
from hypernas.graph import collate
from hypernas.lab.provenance import commit, device_name, version
from hypernas.method.target_network import Program
from hypernas.spaces.programs import count, map_sizes
from hypernas.training.loop import Schedule

SAMPLER_SEED = 0
GROUP = 4
Record = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """What is trained, and how: each of `n` architectures once a seed, `n_validation` training images held out."""

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

    def __post_init__(self) -> None:
        least_of = {"n": 2, "epochs": 1, "seeds": 1, "channels": 1, "stem_stride": 1, "batch": 2, "n_validation": 2}
        for name, least in least_of.items():
            if getattr(self, name) < least:
                raise UserError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not 0 < self.learning_rate < math.inf:
            raise UserError(f"learning_rate must be a finite number above 0, got {self.learning_rate}")


def sample_distinct(space: Any, n: int) -> list[str]:
    """Notations of n architectures by the space's sampler, no two of one function. UserError where it has fewer."""
    rng = np.random.default_rng(SAMPLER_SEED)
    found: dict[int, str] = {}
    for _ in range(100 + 20 * n):
        architecture = space.sample(rng)
        found.setdefault(int(collate([space.canonical(architecture)], space).function_ids()[0]), architecture.notation)
        if len(found) == n:
            return list(found.values())
    raise UserError(f"n must be at most the {len(found)} different architectures that {space.name} gave, got {n}")


def _programs(recipe: Recipe, notations: Sequence[str]) -> list[Program]:
    """The networks of some architectures. Raises UserError for one that cannot be built as the recipe asks."""
    space = spaces.get(recipe.space)
    build = partial(space.build, channels=recipe.channels, cells_per_stage=recipe.cells_per_stage,
                    stem_stride=recipe.stem_stride)  # fmt: skip
    return [build(space.canonical(space.parse(notation))) for notation in notations]


def train_group(recipe: Recipe, notations: Sequence[str]) -> list[Record]:
    """Train some architectures side by side -> a record each: accuracies of its runs (S,) percent, parameters."""
    images = load_images(recipe.images)
    order = np.random.default_rng(0).permutation(len(images.train_labels))
    held, kept = order[: recipe.n_validation], order[recipe.n_validation :]
    programs, seeds = _programs(recipe, notations), list(range(recipe.seeds)) * len(notations)
    repeated = [program for program in programs for _ in range(recipe.seeds)]
    networks = Networks(repeated, seeds, images.train_images.shape[1], images.n_classes)
    schedule = Schedule(recipe.epochs, recipe.learning_rate, recipe.batch)
    networks.fit(images.train_images[kept], images.train_labels[kept], schedule)
    validation = networks.accuracies(images.train_images[held], images.train_labels[held]).view(-1, recipe.seeds)
    test = networks.accuracies(images.test_images, images.test_labels).view(-1, recipe.seeds)
    size = [count(program, images.train_images.shape[1:], images.n_classes)[0] for program in programs]
    return [
        {"notation": notation, "validation": v, "test": t, "parameters": p}
        for notation, v, t, p in zip(notations, validation.tolist(), test.tolist(), size, strict=True)
    ]


class Journal:
    """The records so far, a line each under the recipe, beside the table to be: `<out>.partial.jsonl`."""

    def __init__(self, out: Path, recipe: Recipe) -> None:
        self.path = out.with_name(f"{out.name}.partial.jsonl")
        self.records: dict[str, Record] = {}
        lines = self.path.read_bytes().splitlines() if self.path.exists() else []
        whole = [line for line in map(_parsed, lines) if line is not None]
        if whole and whole[0] != asdict(recipe):
            raise UserError(f"{self.path} belongs to other settings, {whole[0]}: delete it or choose another --out")
        self.records = {record["notation"]: record for record in whole[1:]}
        self._write("wb", [asdict(recipe), *self.records.values()])

    def add(self, records: Sequence[Record]) -> None:
        self._write("ab", records)
        self.records |= {record["notation"]: record for record in records}

    def _write(self, mode: str, rows: Sequence[Record]) -> None:
        path = self.path if mode == "ab" else self.path.with_name(f"{self.path.name}.new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open(mode) as file:
                file.write("".join(json.dumps(row) + "\n" for row in rows).encode())
                file.flush()
                os.fsync(file.fileno())
            os.replace(path, self.path)
        except OSError as error:
            raise UserError(f"{path} must be writable, got {error.strerror}: free space or choose --out") from error


def _parsed(line: bytes) -> Record | None:
    """A line of the journal, None for one that a kill tore."""
    try:
        return json.loads(line)
    except ValueError:
        return None


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


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _results(recipe: Recipe, groups: Sequence[Sequence[str]], processes: int) -> Iterator[list[Record]]:
    """The records of each group as it is done; one process a core, one thread a process."""
    if processes == 1 or not groups:
        yield from (train_group(recipe, group) for group in groups)
        return
    with ProcessPoolExecutor(min(processes, len(groups)), get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        try:
            for done in as_completed([pool.submit(train_group, recipe, group) for group in groups]):
                yield done.result()
        except BrokenProcessPool as error:
            raise UserError("a process was killed; what is trained is kept, the same command goes on") from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _check_not_imported_by_a_worker() -> None:
    """Raise UserError where a worker process, which imports the script that started it, would start workers again."""
    if getattr(current_process(), "_inheriting", False):
        rule = 'a script that labels must call it behind `if __name__ == "__main__":`'
        raise UserError(f"{rule}, got a call while a worker imports the script: put it there, or give processes=1")


def label(recipe: Recipe, out: Path, processes: int | None = None, force: bool = False, progress: bool = True) -> Path:
    """Train what is not trained yet and write the table `out`. Stopped at any moment, the same call goes on from there.

    Raises UserError for a journal of other settings, and for a table of other settings unless `force`, with which the
    table is made anew whatever it holds.
    """
    from tqdm import tqdm

    _check_not_imported_by_a_worker()
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
        journal = Journal(out, recipe)
        missing = [notation for notation in notations if notation not in journal.records]
        groups = [missing[i : i + GROUP] for i in range(0, len(missing), GROUP)]
        with tqdm(total=recipe.n, initial=recipe.n - len(missing), unit="architecture", disable=not progress) as bar:
            for records in _results(recipe, groups, processes or _cores()):
                journal.add(records)
                bar.update(len(records))
        _finish(out, recipe, [journal.records[notation] for notation in notations], started)
        journal.path.unlink()
    return out


def _finish(out: Path, recipe: Recipe, records: Sequence[Record], started: str) -> None:
    """The parquet file, with the recipe, the images and the machine in its metadata."""
    columns: dict[str, Any] = {name: [record[name] for record in records] for name in ("notation", "parameters")}
    for part in ("validation", "test"):
        runs = np.array([record[part] for record in records])
        columns |= {f"{part}_{seed}": runs[:, seed] for seed in range(recipe.seeds)}
    write_labelled(out, columns, asdict(recipe) | {
        "sampler_seed": SAMPLER_SEED, "optimizer": "Adam, rate halved at 50 % and 75 % of the epochs",
        "normalisation": "statistics of the batch, no learned scale", "image_source": load_images(recipe.images).source,
        "version": version(), "commit": commit(), "device": device_name("cpu"), "started": started,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    })  # fmt: skip
