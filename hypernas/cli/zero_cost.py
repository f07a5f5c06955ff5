"""The command `hypernas zero-cost` compares proxies of untrained networks with their accuracies."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from hypernas.cli import options
from hypernas.cli.rows import choose_results, results_options, runner_options, workers_of
from hypernas.lab.formats import whole_numbers


@click.command("zero-cost")
@options.space
@click.option(
    "--method", "--methods", "methods", default="all", show_default=True, help="Proxies, separated by commas, or all."
)
@options.with_defaults(("n", 1000, "Number of architectures, the same for every proxy."))
@click.option("--seed", "--seeds", "seed", default="0:3", show_default=True, help="Seeds of the initialisations.")
@click.option("--images", default="", help="Name of the images.  [default: cifar10 if installed, else digits]")
@options.with_defaults(
    ("batch", 64, "Number of images in the batch."),
    ("side", 32, "Side of the images in pixels; others are resized."),
    ("graph-form", "pruned", "Form of the graphs: raw, pruned or contracted."),
)
@click.option("--channels", type=int, help="Width of the networks.  [default: the space's]")
@click.option("--cells-per-stage", type=int, help="Depth of the networks.  [default: the space's]")
@click.option("--stem-stride", type=int, help="Stride of the first convolution.  [default: the space's]")
@results_options
@runner_options
@options.device
@options.force
@options.as_json
def zero_cost(methods: str, n: int, seed: str, device: str, force: bool, as_json: bool, **sizes: Any) -> None:
    """Score untrained networks with zero-cost proxies.

    One row is recorded for each proxy, initialisation and dataset of the space. You can stop the command at any time
    and repeat it: rows that exist are not recomputed, nor are scores of the same commit.
    """
    from hypernas.lab import zero_cost_rows as zero_cost
    from hypernas.zero_cost import proxies

    names = proxies.names() if methods == "all" else list(dict.fromkeys(methods.split(",")))
    seeds = whole_numbers("seed", seed)
    choose_results(sizes.pop("results"), sizes.pop("record"))
    workers = workers_of(sizes)
    # What `workers_of` leaves are the fields of a recipe.
    recipe = zero_cost.UntrainedNetworks(**sizes)
    rows = zero_cost.run(
        recipe,
        names,
        n,
        seeds,
        workers=workers,
        device=device,
        force=force,
        progress=sys.stderr.isatty(),
        tell=options.tell,
    )
    for row in rows:
        click.echo(json.dumps(row) if as_json else in_words(row))


def in_words(row: dict[str, Any]) -> str:
    """Return a row as one line of text."""
    parts = [row["method"], f"{row['space']}/{row['dataset']}", f"seed {row['seed']}"]
    for name in ("kendall_tau", "spearman_rho", "published_rho"):
        value = row[name]
        parts.append(f"{name} –" if value is None else f"{name} {value:.3f}")
    parts.append(f"{row['n_test']} ranked, {row['n_not_finite']} not finite")
    parts.append(f"{row['seconds_per_architecture']:.3f} s each")
    return "  ".join(parts)
