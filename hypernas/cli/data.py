"""The commands for data: `hypernas data list | fetch`, `hypernas label`."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from hypernas.cli import options
from hypernas.cli.rows import runner_options, workers_of
from hypernas.errors import UserError
from hypernas.lab.formats import whole_numbers
from hypernas.lab.runner import cores


@click.group()
def data() -> None:
    """List and download benchmark tables and images."""


@data.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print each source as a line of JSON.")
def list_data(as_json: bool) -> None:
    """List all sources: status, origin, licence, size, sha256."""
    from dataclasses import asdict

    from hypernas.data.catalogue import sources, status

    for source in sources():
        facts = {**asdict(source), "status": status(source)}
        if as_json:
            click.echo(json.dumps(facts, default=str))
            continue
        size = f"{source.size / 1e6:,.1f} MB" if source.size else "unknown"
        click.echo(f"{source.name}: {source.what}")
        click.echo(f"  status   {facts['status']}\n  from     {source.url}\n  licence  {source.licence}")
        click.echo(f"  size     {size}\n  sha256   {source.sha256 or 'not known'}")
        if source.note:
            click.echo(f"  note     {source.note}")


@data.command()
@click.argument("name")
@click.option("--from", "origin", default="", help="Convert another official file of `data list` instead.")
@click.option("--keep", is_flag=True, help="Keep the official file after the conversion.")
def fetch(name: str, origin: str, keep: bool) -> None:
    """Download a source, verify it and convert it.

    NAME is a source of `hypernas data list`; it is stored in your cache folder. If the download breaks off, repeat the
    command to continue it.
    """
    from hypernas.data import fetch as fetching

    click.echo(fetching.fetch(name, origin, keep, sys.stderr.isatty()))


@data.command()
@options.space
@options.dataset
def check(space: str, dataset: str | None) -> None:
    """Recompute what a table states about its architectures.

    Every row is checked.
    """
    from hypernas.lab.benchmark import Benchmark

    benchmark = Benchmark(space, dataset)
    click.echo(benchmark.space.check(benchmark.table))


@click.command()
@options.space
@options.with_defaults(
    ("images", "digits", "Images: a name, a folder of class folders, or an npz file."),
    ("n", 300, "Number of architectures."),
    ("epochs", 10, "Passes over the training images."),
    ("seed", "0:3", "Training seeds, counted from 0, such as 0:3."),
    ("channels", 8, "Channels of the stem."),
    ("cells-per-stage", 3, "Cells between two downsamplings."),
    ("stem-stride", 2, "Stride of the stem."),
    ("learning-rate", 1e-2, "Adam's learning rate in the first half."),
)
@click.option("--out", type=options.PATH, help="Table to write.  [default: data/benchmarks/SPACE.parquet]")
@partial(runner_options, workers=cores())
@click.option("--force", is_flag=True, help="Replace a table made with other settings.")
def label(out: Path | None, seed: str, force: bool, **recipe: Any) -> None:
    """Create a benchmark table by training sampled architectures.

    The table records how it was made. Every result is saved as soon as it is there, so you can stop the command at any
    time and repeat it. Files of torchvision are not read, because most of them are pickles: save the images as an npz
    file with x_train, y_train, x_test, y_test.
    """
    from hypernas.data import labelled
    from hypernas.lab import labelling

    numbers = whole_numbers("seed", seed)
    if numbers != list(range(len(numbers))):
        raise UserError(f"seed must be the first ones, 0:{len(numbers)} for {len(numbers)}, got {seed!r}")
    workers = workers_of(recipe)
    asked = labelling.Labelling(**recipe, seeds=len(numbers))
    path = out or labelled.place(asked.space)
    click.echo(labelling.label(asked, path, force, sys.stderr.isatty(), workers, options.tell))
