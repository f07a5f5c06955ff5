"""The command `hypernas zero-cost`: proxies of untrained networks beside their accuracies."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from hypernas.cli.rows import runner_options, whole_numbers, workers_of


@click.command("zero-cost")
@click.option("--space", required=True, help="Search space.")
@click.option("--methods", "--method", "methods", default="all", show_default=True, help="Proxies, or all.")
@click.option("--n", type=int, default=1000, show_default=True, help="Architectures, the same for every method.")
@click.option("--seed", "--seeds", "seed", default="0:3", show_default=True, help="Initialisations.")
@click.option("--images", default="", help="Images.  [default: cifar10 where they are found, else digits]")
@click.option("--batch", type=int, default=64, show_default=True, help="Images of the one batch.")
@click.option("--side", type=int, default=32, show_default=True, help="Pixels of a side; others are resized.")
@click.option("--channels", type=int, help="Width of the networks.  [default: the space's]")
@click.option("--cells-per-stage", type=int, help="Depth of the networks.  [default: the space's]")
@click.option("--stem-stride", type=int, help="Stride of the first convolution.  [default: the space's]")
@click.option("--graph-form", default="pruned", show_default=True, help="raw, pruned or contracted.")
@runner_options
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--force", is_flag=True, help="Score again and replace the recorded rows.")
@click.option("--json", "as_json", is_flag=True, help="Print each row as one line of JSON.")
def zero_cost(methods: str, n: int, seed: str, device: str, force: bool, as_json: bool, **sizes: Any) -> None:
    """Score untrained networks and record one row a method, initialisation and dataset of the space.

    The command may be stopped at any moment and repeated: rows that are there are not computed again, nor are scores of
    the same commit.
    """
    from hypernas.lab import zero_cost_rows as zero_cost
    from hypernas.zero_cost import proxies

    chosen = proxies.names() if methods == "all" else list(dict.fromkeys(methods.split(",")))
    options: dict[str, Any] = {"workers": workers_of(sizes), "device": device, "force": force}
    rows = zero_cost.run(
        zero_cost.Recipe(**sizes), chosen, n, whole_numbers("seed", seed), progress=sys.stderr.isatty(), **options
    )
    for row in rows:
        click.echo(json.dumps(row) if as_json else in_words(row))


def in_words(row: dict[str, Any]) -> str:
    """One line a row."""
    names = ("kendall_tau", "spearman_rho", "published_rho")
    told = "  ".join(f"{name} {'–' if row[name] is None else format(row[name], '.3f')}" for name in names)
    where = f"{row['method']}  {row['space']}/{row['dataset']}  seed {row['seed']}"
    counted = f"{row['n_test']} ranked, {row['n_not_finite']} not finite"
    return f"{where}  {told}  {counted}  {row['seconds_per_architecture']:.3f} s each"
