"""The command `hypernas search`: find an architecture with a number of queries, one row a seed."""

from __future__ import annotations

import sys
from typing import Any

import click

from hypernas.cli.rows import pairs, told, whole_numbers, with_progress
from hypernas.errors import UserError

ABOVE_0 = click.FloatRange(min=0, min_open=True)


@click.command()
@click.option("--space", required=True, help="Search space.")
@click.option("--dataset", help="Dataset of the table.  [default: the first one present]")
@click.option("--method", default="guided", show_default=True, help="random, evolution, top-k, guided or pareto.")
@click.option("--predictor", help="Predictor of top-k, guided and pareto.  [default: np]")
@click.option("--queries", type=click.IntRange(min=2), default=200, show_default=True, help="Accuracies to ask for.")
@click.option("--first", type=click.IntRange(min=2), help="Random queries before the first training.  [default: half]")
@click.option("--max-flops", type=ABOVE_0, help="Most multiply-adds of an architecture.")
@click.option("--max-params", type=ABOVE_0, help="Most parameters of an architecture.")
@click.option("--oracle", help="table, or surrogate for a whole space.  [default: surrogate where there is one]")
@click.option("--seed", default="0", show_default=True, help="Seed, several with commas, or 0:5.")
@click.option("--profile", default="standard", show_default=True, help="quick, standard or paper.")
@click.option("--set", "extra", multiple=True, metavar="KEY=VALUE", help="Any other setting of method or predictor.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the CPU.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--force", is_flag=True, help="Search again and replace the recorded row.")
@click.option("--json", "as_json", is_flag=True, help="Print each row as one line of JSON.")
def search(
    space: str, dataset: str | None, method: str, queries: int, seed: str, profile: str, extra: tuple[str, ...],
    threads: int | None, device: str, force: bool, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Search a space with at most --queries accuracies, and record what was found, one row a seed in the table search.

    The same architecture asked for twice is one query. A recorded row is read, not computed again.
    """
    import torch

    from hypernas.lab import search_experiment as searching
    from hypernas.lab.experiment import outcomes

    given, chosen = pairs(extra), {name: value for name, value in options.items() if value is not None}
    if twice := sorted(given.keys() & chosen.keys()):
        raise UserError(f"a setting must be given once, got {twice[0]!r} twice")
    torch.set_num_threads(threads or torch.get_num_threads())
    dataset = dataset or searching.first_dataset(space, options["oracle"])
    place = (searching.TABLE, space, dataset, method, queries)
    planned = [
        searching.Search(*place, number, profile, settings=given | chosen) for number in whole_numbers("seed", seed)
    ]
    for outcome in with_progress(outcomes(planned, force, sys.stderr.isatty(), device), len(planned)):
        click.echo(told(outcome, as_json))
