"""The command `hypernas zero-cost`: proxies of untrained networks beside their accuracies."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from hypernas.cli import options
from hypernas.cli.rows import choose_results, results_options, runner_options, workers_of
from hypernas.lab.formats import whole_numbers


@click.command("zero-cost")
@click.option("--space", required=True, help="Search space.")
@click.option("--method", "--methods", "methods", default="all", show_default=True, help="Proxies, or all.")
@click.option("--n", type=int, default=1000, show_default=True, help="Architectures, the same for every method.")
@click.option("--seed", "--seeds", "seed", default="0:3", show_default=True, help="Initialisations.")
@click.option("--images", default="", help="Images.  [default: cifar10 where they are found, else digits]")
@click.option("--batch", type=int, default=64, show_default=True, help="Images of the one batch.")
@click.option("--side", type=int, default=32, show_default=True, help="Pixels of a side; others are resized.")
@click.option("--channels", type=int, help="Width of the networks.  [default: the space's]")
@click.option("--cells-per-stage", type=int, help="Depth of the networks.  [default: the space's]")
@click.option("--stem-stride", type=int, help="Stride of the first convolution.  [default: the space's]")
@click.option("--graph-form", default="pruned", show_default=True, help="raw, pruned or contracted.")
@results_options
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
    """One line a row."""
    parts = [row["method"], f"{row['space']}/{row['dataset']}", f"seed {row['seed']}"]
    for name in ("kendall_tau", "spearman_rho", "published_rho"):
        value = row[name]
        parts.append(f"{name} –" if value is None else f"{name} {value:.3f}")
    parts.append(f"{row['n_test']} ranked, {row['n_not_finite']} not finite")
    parts.append(f"{row['seconds_per_architecture']:.3f} s each")
    return "  ".join(parts)
