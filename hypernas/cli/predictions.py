"""The command `hypernas predictions` saves predictions of a whole table for the interactive pages."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from hypernas.cli import options
from hypernas.cli.rows import whole_numbers


@click.command("predictions")
@options.space
@click.option("--method", "methods", required=True, help="Predictors, separated by commas.")
@options.with_defaults(
    ("dataset", "cifar10", "Dataset of the benchmark table."),
    ("n-train", "78", "Numbers of labels, separated by commas."),
    ("seed", 0, "Random seed."),
)
@click.option("-o", "--output", type=options.PATH, required=True, help="Folder for the files, one for each training.")
def predictions_command(space: str, dataset: str, methods: str, n_train: str, seed: int, output: Path) -> None:
    """Save predictions of a whole table for the interactive pages.

    Each predictor is trained once for each number of labels.
    """
    from hypernas.lab.predictions import predict_whole_table

    for method in methods.split(","):
        for size in whole_numbers("n_train", n_train):
            made = predict_whole_table(space, dataset, method, size, seed, progress=sys.stderr.isatty())
            click.echo(made.save(output))
