"""The command `hypernas train`."""

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
@click.option("--arch", type=options.PATH, required=True, help="Text of a genotype, or JSON of a search.")
@click.option("--space", default="darts", show_default=True, help="Search space, where the file does not name it.")
@click.option("--images", default="cifar10", show_default=True, help="Images to train on.")
@click.option("--n-images", type=int, default=0, show_default=True, help="As many of them, 0 for all.")
@click.option("--epochs", type=int, default=600, show_default=True, help="Passes over the training images.")
@click.option("--channels", type=int, default=36, show_default=True, help="Channels of the first cells.")
@click.option("--batch", type=int, default=96, show_default=True, help="Images a step.")
@click.option("--learning-rate", type=float, default=0.025, show_default=True, help="Rate of the first epoch.")
@click.option("--drop-path", type=float, default=0.2, show_default=True, help="Share of paths dropped at the end.")
@click.option("--auxiliary", type=float, default=0.4, show_default=True, help="Weight of the auxiliary head.")
@click.option("--cutout", type=int, default=16, show_default=True, help="Side of the square that is blanked.")
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
    """Train one found network as DARTS trains its own, and record its accuracy.

    The state is kept beside the file, one ARCH.*.checkpoint for each seed and recipe: the command may be stopped at
    any moment and repeated. By default the settings are the published ones, for a GPU.
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
    """One line a row."""
    parts = [
        f"{row['space']}/{row['dataset']}",
        f"{row['n_parameters']:,} parameters",
        f"{row['settings']['epochs']} epochs",
        f"seed {row['seed']}",
        f"test accuracy {row['test_accuracy']:.2f} %",
        f"{row['seconds']:.1f} s",
    ]
    return "  ".join(parts)
