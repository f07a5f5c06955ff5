"""The command `hypernas predictions`: predictions of a whole table, kept for the interactive pages."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from hypernas.cli import options
from hypernas.cli.rows import whole_numbers


@click.command("predictions")
@options.space
@click.option("--method", "methods", required=True, help="Predictors, several with commas.")
@options.with_defaults(
    ("dataset", "cifar10", "Dataset of the benchmark table."),
    ("n-train", "78", "Labels, several with commas."),
    ("seed", 0, "The one seed."),
)
@click.option("-o", "--output", type=options.PATH, required=True, help="Folder of the files, one a training.")
def predictions_command(space: str, dataset: str, methods: str, n_train: str, seed: int, output: Path) -> None:
    """Train each method once and keep what it predicts for every architecture of the table."""
    from hypernas.lab.predictions import predict_whole_table

    for method in methods.split(","):
        for size in whole_numbers("n_train", n_train):
            made = predict_whole_table(space, dataset, method, size, seed, progress=sys.stderr.isatty())
            click.echo(made.save(output))
