"""The command `hypernas zero-cost` compares proxies of untrained networks with their accuracies."""

from __future__ import annotations

from typing import Any

import click

from hypernas.cli import options
from hypernas.cli.rows import HOW, compute, row_options
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
@row_options
def zero_cost(methods: str, n: int, seed: str, **options: Any) -> None:
    """Score untrained networks with zero-cost proxies.

    One row is recorded for each proxy, initialisation and dataset of the space. You can stop the command at any time
    and repeat it: rows that exist are not recomputed, nor are scores of the same commit.
    """
    from hypernas.lab import zero_cost_rows
    from hypernas.zero_cost import proxies

    names = proxies.names() if methods == "all" else list(dict.fromkeys(methods.split(",")))
    sizes = {name: value for name, value in options.items() if name not in HOW}
    recipe = zero_cost_rows.UntrainedNetworks(**sizes)
    compute(zero_cost_rows.experiments(recipe, names, n, whole_numbers("seed", seed)), options)
