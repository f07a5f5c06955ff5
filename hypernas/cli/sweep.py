"""The command `hypernas sweep`: a grid of experiments on several processes."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from hypernas.cli.rows import in_words, pairs, plan, with_progress


@click.command()
@click.argument("table")
@click.option("--space", required=True, help="Search space.")
@click.option("--dataset", help="Dataset of the benchmark table.  [default: the first one present]")
@click.option("--methods", "method", required=True, help="Predictors, with commas.")
@click.option("--n-train", required=True, help="Numbers of training architectures, with commas.")
@click.option("--seeds", "seed", default="0:10", show_default=True, help="Seeds: 0:10 or with commas.")
@click.option("--profile", default="standard", show_default=True, help="quick, standard or paper.")
@click.option("--protocol", default="clean", show_default=True, help="clean, or pinat to compare with its figures.")
@click.option(
    "--set", "--setting", "settings", multiple=True, metavar="KEY=VALUE", help="For the methods that have it."
)
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of a process.")
@click.option("--together", type=click.IntRange(min=1), help="Seeds of a process, at most.  [default: all of --seeds]")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--force", is_flag=True, help="Train again and replace the recorded rows.")
@click.option("--dry-run", is_flag=True, help="List the experiments and how many are recorded, compute nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print each row as one line of JSON.")
def sweep(
    settings: tuple[str, ...], workers: int, threads: int, together: int | None, device: str, force: bool,
    dry_run: bool, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Record the missing rows of TABLE for every method, size and seed, several processes at a time.

    Seeds of one experiment train together where the method can. The command may be stopped at any moment and repeated:
    recorded rows are not computed again. A failure is told at the end and stops nothing else.
    """
    from hypernas.lab import grids
    from hypernas.lab import sweep as sweeping
    from hypernas.lab.benchmark import Benchmark

    options["dataset"] = options["dataset"] or Benchmark(options["space"]).dataset
    experiments = plan(pairs(settings), options)
    todo = sweeping.parts(experiments, together, force, device)
    if dry_run:
        click.echo("\n".join(grids.plan(experiments)))
        return
    total = sum(map(len, todo))
    failures: list[sweeping.Failure] = []
    if total < len(experiments):
        click.echo(f"{len(experiments) - total} of {len(experiments)} rows are recorded already", err=True)
    for said in with_progress(sweeping.sweep(todo, workers, threads, force=force, device=device), total):
        if isinstance(said, sweeping.Failure):
            failures.append(said)
        else:
            click.echo(json.dumps(said) if as_json else in_words(said))
    for experiments, reason in failures:
        first, seeds = experiments[0], ", ".join(str(each.seed) for each in experiments)
        where = f"{first.method}  {first.space}/{first.dataset}  n_train {first.n_train}  seed {seeds}"
        click.echo(f"Failed: {where}: {reason}", err=True)
    if failures:
        sys.exit(1)
