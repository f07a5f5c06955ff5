"""The command `hypernas search`: find an architecture with a limited number of queries."""

from __future__ import annotations

import sys
from typing import Any

import click

from hypernas.cli import options
from hypernas.cli.rows import choose_results, pairs, results_options, runner_options, told, with_progress, workers_of
from hypernas.errors import UserError
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
@results_options
@runner_options
@options.device
@options.force
@options.as_json
def search(
    space: str,
    dataset: str | None,
    method: str,
    queries: int,
    seed: str,
    profile: str,
    extra: tuple[str, ...],
    device: str,
    force: bool,
    as_json: bool,
    **own: Any,
) -> None:
    """Search a benchmark table, or a surrogate of a whole space.

    At most --queries accuracies are looked up; asking for the same architecture again costs nothing. One row is
    recorded for each seed. Recorded rows are read, not recomputed. To train the networks yourself, use `hypernas ask`
    and `hypernas tell`.
    """
    from hypernas.lab import recording, search_experiment

    choose_results(own.pop("results"), own.pop("record"))
    workers = workers_of(own)
    settings = pairs(extra)
    for name, value in own.items():
        if value is not None and name in settings:
            raise UserError(f"a setting must be given once, got {name!r} twice")
        if value is not None:
            settings[name] = value
    dataset = dataset or search_experiment.first_dataset(space, own["oracle"])
    planned = []
    for number in whole_numbers("seed", seed):
        place = (search_experiment.TABLE, space, dataset, method, queries, number, profile)
        planned.append(search_experiment.Search(*place, settings=settings))
    plan = recording.plan(planned, force, device)
    if len(planned) > 1:
        options.tell(plan.cost(workers))
    progress = sys.stderr.isatty() and workers.in_process
    for outcome in with_progress(recording.carry_out(plan, workers, progress), len(planned)):
        click.echo(told(outcome, as_json))
