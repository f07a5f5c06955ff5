"""The commands `hypernas ask`, `hypernas tell` and `hypernas trials`: a search whose trials you run yourself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from hypernas.cli import options
from hypernas.cli.rows import pairs
from hypernas.errors import UserError

journal_argument = click.argument("journal", type=options.PATH)
worker_option = click.option(
    "--worker", default="", help="Name of this worker, which gets its unfinished trials again."
)


def opened(journal: Path, worker: str = "", queries: int | None = None) -> Any:
    """Return the search of a journal. Raise UserError if the file is not a journal."""
    from hypernas.lab.benchmark import Benchmark
    from hypernas.search.ask_tell import Plan, Search

    plan = Plan.read(journal)
    space = Benchmark(plan.space, plan.dataset) if plan.dataset else None
    return Search.open(journal, space, worker=worker, queries=queries or plan.queries)


def begun(journal: Path, worker: str, plan: dict[str, Any], extra: tuple[str, ...]) -> Any:
    """Return a new search, or the one recorded in an existing journal."""
    from hypernas.search.ask_tell import DEFAULT_PREDICTOR, DEFAULT_QUERIES, Search

    given = {name: value for name, value in plan.items() if value}
    if journal.expanduser().exists():
        # The journal's own plan counts; only its length may grow.
        if extra or not given.keys() <= {"queries"}:
            raise UserError(f"a journal holds its own settings, only --queries may change, {journal} is there already")
        return opened(journal, worker, given.get("queries"))
    if "space" not in given:
        raise UserError(f"a new journal needs a --space, {journal} is not there yet")
    space = given.pop("space")
    if "dataset" in given:
        from hypernas.lab.benchmark import Benchmark

        space = Benchmark(space, given.pop("dataset"))
    constraints = given.pop("constraints", ())
    given["constraints"] = dict(split_constraint(text) for text in constraints)
    given["objectives"] = list(given.get("objectives", ())) or ["accuracy"]
    given = {"predictor": DEFAULT_PREDICTOR, "queries": DEFAULT_QUERIES, **given}
    settings: dict[str, Any] = pairs(extra)
    return Search(space, journal=journal, worker=worker, **given, **settings)


def split_constraint(text: str) -> tuple[str, str]:
    """Split `params<3e6` into `params` and `<3e6`.

    >>> split_constraint("params<=3e6")
    ('params', '<=3e6')
    """
    signs = [text.find(sign) for sign in "<>" if sign in text]
    # A text without a sign is left whole: who reads the constraint says what is wrong with it.
    place = min(signs, default=len(text))
    return text[:place].strip(), text[place:]


@click.command("ask")
@journal_argument
@click.option("--n", type=click.IntRange(1, 100_000), default=1, show_default=True, help="Number of architectures.")
@click.option("--space", default="", help="Search space of a new journal.")
@click.option("--dataset", default="", help="Search only the rows of this benchmark table.")
@click.option(
    "--method",
    default="",
    help="Search method: random, evolution, top-k, guided, ensemble, bayesian or tpe.  [default: ensemble]",
)
@click.option("--predictor", default="", help="Predictor for the method.  [default: hypernas-p]")
@click.option(
    "--objective",
    "objectives",
    multiple=True,
    help="Quantity to maximise, or to minimise with -NAME.  [default: accuracy]",
)
@click.option(
    "--constraint", "constraints", multiple=True, metavar="NAME<NUMBER", help="Limit of a quantity, such as params<3e6."
)
@click.option(
    "--queries", type=click.IntRange(2), help="Total number of trials; a larger one continues a search.  [default: 100]"
)
@click.option("--seed", type=click.IntRange(0), default=0, help="Seed of a new journal.  [default: 0]")
@options.settings
@worker_option
def ask_command(journal: Path, n: int, extra: tuple[str, ...], worker: str, **plan: Any) -> None:
    """Ask for architectures to try next in your own search.

    Prints --n architectures, one a line, and records them in JOURNAL. The first call begins the search. Later calls,
    from any process or machine that sees the file, need only JOURNAL. No architecture is returned twice.
    """
    search = begun(journal, worker, plan, extra)
    for architecture in search.ask(n):
        click.echo(search.notation(architecture))


@click.command("tell")
@journal_argument
@click.argument("architecture")
@click.argument("values", nargs=-1, metavar="[NAME=NUMBER]...")
@click.option("--failed", default="", metavar="REASON", help="Why the trial has no values.")
@worker_option
def tell_command(journal: Path, architecture: str, values: tuple[str, ...], failed: str, worker: str) -> None:
    """Report the result of a trial.

    Records in JOURNAL the values of ARCHITECTURE, such as accuracy=93.1 latency=4.2, or why the trial failed.
    """
    numbers: dict[str, Any] = pairs(values, "a value")
    if not numbers and not failed:
        raise UserError("a trial must be told numbers such as accuracy=93.1, or --failed REASON, got neither")
    opened(journal, worker).tell(architecture, failed=failed, **numbers)


@click.command("trials")
@journal_argument
@click.option("--front", is_flag=True, help="Only the Pareto front within all constraints.")
@click.option("--waiting", is_flag=True, help="Only trials without a result.")
@options.as_json
def trials_command(journal: Path, front: bool, waiting: bool, as_json: bool) -> None:
    """Print the trials of a search.

    JOURNAL is the file of the search. Trials come in the order in which they were asked for.
    """
    search = opened(journal)
    trials = list(search.trials.values())
    if front:
        trials = search.front()
    elif waiting:
        trials = search.waiting()
    for trial in trials:
        about = {"number": trial.number, "architecture": search.notation(trial.architecture), "state": trial.state}
        about |= trial.values
        if trial.reason:
            about["reason"] = trial.reason
        click.echo(json.dumps(about) if as_json else _in_words(trial, about["architecture"]))


def _in_words(trial: Any, notation: str) -> str:
    """One line a trial."""
    parts = [str(trial.number), notation, trial.state]
    for name, value in trial.values.items():
        parts.append(f"{name} {value:g}")
    if trial.reason:
        parts.append(trial.reason)
    return "  ".join(parts)
