"""The command `hypernas train` trains a found network in full."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from hypernas.cli import options
from hypernas.cli.rows import choose_results, results_options
from hypernas.lab.formats import whole_numbers


@click.command()
@click.option("--arch", type=options.PATH, required=True, help="File with a genotype, or a line of `search --json`.")
@options.with_defaults(
    ("space", "darts", "Search space, if the file does not name it."),
    ("images", "cifar10", "Images to train on."),
    ("n-images", 0, "Number of images, 0 for all."),
    ("epochs", 600, "Passes over the training images."),
    ("channels", 36, "Channels of the first cells."),
    ("batch", 96, "Images per step."),
    ("learning-rate", 0.025, "Learning rate of the first epoch."),
    ("drop-path", 0.2, "Share of paths dropped in the last epoch."),
    ("auxiliary", 0.4, "Weight of the auxiliary head's loss."),
    ("cutout", 16, "Side of the square that cutout blanks."),
)
@options.seed
@results_options
@options.threads
@options.device
@options.force
@options.as_json
def train(
    arch: Path,
    space: str,
    seed: str,
    threads: int | None,
    device: str,
    force: bool,
    as_json: bool,
    **recipe: Any,
) -> None:
    """Train a found network as DARTS does and record its accuracy.

    The state is saved beside the file, as ARCH.*.checkpoint for each seed and recipe, so you can stop the command at
    any time and repeat it. The defaults are the published settings, for a GPU.
    """
    import torch

    from hypernas.lab import full_training

    choose_results(recipe.pop("results"), recipe.pop("record"))
    torch.set_num_threads(threads or torch.get_num_threads())
    recipes = [full_training.FullTraining(**recipe, seed=number) for number in whole_numbers("seed", seed)]
    for one in recipes:
        row = full_training.run(arch, one, space, device, force, sys.stderr.isatty(), options.tell)
        click.echo(json.dumps(row) if as_json else in_words(row))


def in_words(row: dict[str, Any]) -> str:
    """Return a row as one line of text."""
    parts = [
        f"{row['space']}/{row['dataset']}",
        f"{row['n_parameters']:,} parameters",
        f"{row['settings']['epochs']} epochs",
        f"seed {row['seed']}",
        f"test accuracy {row['test_accuracy']:.2f} %",
        f"{row['seconds']:.1f} s",
    ]
    return "  ".join(parts)
