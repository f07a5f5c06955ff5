"""The command `hypernas search`: find an architecture with a limited number of queries."""

from __future__ import annotations

from typing import Any

import click

from hypernas.cli import options
from hypernas.cli.rows import chosen_settings, compute, row_options
from hypernas.lab.formats import whole_numbers

ABOVE_0 = click.FloatRange(min=0, min_open=True)


@click.command()
@options.space
@options.dataset
@click.option(
    "--method",
    default="guided",
    show_default=True,
    help="Search method: random, evolution, top-k, guided, pareto, ensemble, bayesian or tpe.",
)
@click.option("--predictor", help="Predictor for the method.  [default: the method's own]")
@click.option(
    "--queries", type=click.IntRange(min=2), default=200, show_default=True, help="Number of accuracies to query."
)
@click.option("--first", type=click.IntRange(min=2), help="Random queries before the first training.  [default: half]")
@click.option("--max-flops", type=ABOVE_0, help="Maximum multiply-adds of an architecture.")
@click.option("--max-params", type=ABOVE_0, help="Maximum parameters of an architecture.")
@click.option(
    "--oracle",
    help="Source of accuracies: table, or surrogate of the whole space.  [default: surrogate if there is one]",
)
@options.seed
@options.profile
@options.settings
@row_options
def search(space: str, dataset: str | None, method: str, queries: int, seed: str, profile: str, **options: Any) -> None:
    """Search a benchmark table, or a surrogate of a whole space.

    At most --queries accuracies are looked up; asking for the same architecture again costs nothing. One row is
    recorded for each seed. Recorded rows are read, not recomputed. To train the networks yourself, use `hypernas ask`
    and `hypernas tell`.
    """
    from hypernas.lab.search_experiment import TABLE, Search, first_dataset

    settings = chosen_settings(options)
    dataset = dataset or first_dataset(space, options["oracle"])
    planned = []
    for number in whole_numbers("seed", seed):
        planned.append(Search(TABLE, space, dataset, method, queries, number, profile, settings=settings))
    compute(planned, options)
