"""The commands that compute rows, such as `hypernas experiment`, and what they share with other commands."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hypernas.cli import options as shared
from hypernas.errors import UserError
from hypernas.lab.formats import whole_numbers

if TYPE_CHECKING:
    from hypernas.lab.experiment import Experiment
    from hypernas.lab.recording import Outcome
    from hypernas.lab.runner import Workers

# Options that say how rows are computed, not which.
HOW = {"workers", "threads", "scheduler", "resources", "retries", "together", "device", "force", "dry_run", "as_json"}
HOW |= {"extra", "results", "record", "page", "only"}
# Options of `experiment` that say where it stands; all others are settings.
PLACE = {"table", "space", "dataset", "method", "n_train", "seed", "profile", "protocol"}
# How a line of text tells what a row has.
WORDS = {
    "predictor": "predictor {}",
    "n_train": "n_train {}",
    "seed": "seed {}",
    "graph_form": "{}",
    "kendall_tau": "kendall_tau {:.4f}",
    "kendall_tau_unseen": "unseen {:.4f}",
    "spearman_rho": "spearman_rho {:.4f}",
    "published_rho": "published_rho {:.4f}",
    "n_test": "{} ranked",
    "n_not_finite": "{} not finite",
    "seconds_per_architecture": "{:.3f} s each",
    "queries": "{} queries",
    "validation_accuracy": "best {:.2f} %",
    "test_accuracy": "test {:.2f} %",
    "parameters": "{:,} parameters",
    "multiply_adds": "{:,} multiply-adds",
    "seconds": "{:.1f} s",
    "architecture": "{}",
}


def pairs(texts: Iterable[str], option: str = "--set") -> dict[str, str]:
    """Return `key=value` texts as a dictionary. Raise UserError for another form and for a repeated key."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals or key in found:
            raise UserError(f"{option} must be key=value with every key once, got {text!r}")
        found[key] = value
    return found


def chosen_settings(options: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a method, from options of their own and --set. Raise UserError for one given twice."""
    extra = pairs(options["extra"])
    settings = {name: value for name, value in options.items() if name not in HOW | PLACE and value is not None}
    if twice := settings.keys() & extra.keys():
        raise UserError(f"a setting must be given once, got {sorted(twice)[0]!r} twice")
    return settings | extra


def combinations(options: dict[str, Any]) -> list[Experiment]:
    """Return every combination of method, size and seed; a setting applies to the methods that have it."""
    for name in ("space", "n_train"):
        if not options[name]:
            raise UserError(f"--{name.replace('_', '-')} must be given where there is no page")
    from hypernas.lab.benchmark import Benchmark
    from hypernas.lab.experiment import OF_AN_EXPERIMENT, Experiment, settings_of

    options["dataset"] = options["dataset"] or Benchmark(options["space"]).dataset
    place = {name: options[name] for name in ("table", "space", "dataset", "profile", "protocol")}
    settings = chosen_settings(options)
    methods = list(dict.fromkeys(options["method"].split(",")))
    accepted = {method: {"graph_form", *OF_AN_EXPERIMENT, *settings_of(method)} for method in methods}
    anywhere = set().union(*accepted.values())
    sizes, seeds = whole_numbers("n_train", options["n_train"]), whole_numbers("seed", options["seed"])
    experiments = []
    for method in methods:
        own = {name: value for name, value in settings.items() if name in accepted[method] or name not in anywhere}
        for size in sizes:
            experiments += [Experiment(**place, method=method, n_train=size, seed=seed, settings=own) for seed in seeds]
    return experiments


def runner_options(command: Callable[..., Any], workers: int = 1) -> Callable[..., Any]:
    """Add the options that say where a command's work runs."""
    default = "one a core" if workers > 1 else True
    processes = click.IntRange(1, 1024)
    options = shared.together(
        click.option("--workers", type=processes, default=workers, show_default=default, help="Number of processes."),
        shared.threads,
        click.option("--scheduler", default="", metavar="ADDRESS", help="Dask scheduler whose workers do the work."),
        click.option("--resources", default="", metavar="NAME=N", help="Resources per worker, such as GPU=1."),
        click.option("--retries", type=click.IntRange(0, 100), default=0, show_default=True,
                     help="Times to retry failed work; that of a lost worker is always repeated."),
    )  # fmt: skip
    return options(command)


def workers_of(options: dict[str, Any]) -> Workers:
    """Remove the options of `runner_options` from `options` and return them as `Workers`."""
    from hypernas.lab.runner import Workers

    amounts = pairs(filter(None, options.pop("resources").split(",")), "--resources")
    try:
        resources = {name: float(amount) for name, amount in amounts.items()}
    except ValueError as error:
        raise UserError(f"--resources must be NAME=NUMBER such as GPU=1, got {error}") from error
    return Workers(
        workers=options.pop("workers"),
        threads=options.pop("threads") or 0,
        scheduler=options.pop("scheduler"),
        resources=resources,
        retries=options.pop("retries"),
    )


def results_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say where rows are recorded."""
    command = click.option("--record", is_flag=True, help="Record in data/results of the checkout.")(command)
    return click.option("--results", type=click.Path(), help="Folder for your rows.  [default: in your home]")(command)


def choose_results(results: str | None, record: bool) -> None:
    """Choose the folder in which rows are recorded. Raise UserError if both options are given."""
    from hypernas.lab.rows import record_into_checkout

    if results and record:
        raise UserError("rows are recorded in one place, got both --results and --record: leave one out")
    if results:
        os.environ["HYPERNAS_RESULTS"] = results
    if record:
        record_into_checkout()


def setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add options for the most common settings; all others are set with --set."""
    for name, text in (
        ("images", "Auxiliary images: digits, cifar10, fashion-mnist, digits-random-labels, noise, or a+b for both."),
        ("epochs", "Passes over the training architectures."),
        ("reading", "Exponent of the loss: printed (q) or text (q - 1)."),
        ("q", "Preference coefficient of the loss, above 0."),
        ("loss", "Loss of the predictor: mse, bce or cubed."),
        ("context", "How a cell sees the cells before it: sum, concat, position or none."),
        ("graph-form", "Form of the graphs: raw, pruned or contracted."),
    ):
        command = click.option(f"--{name}", help=text)(command)
    return command


def row_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of all commands that compute rows."""
    options = shared.together(shared.device, shared.force, shared.dry_run, shared.as_json)
    return results_options(runner_options(options(command)))


def computing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of all commands that train several models at once."""
    together = click.option("--together", type=click.IntRange(min=1), help="Most models to train at once.")
    return row_options(together(command))


def place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose experiments: every combination of method, size and seed."""
    options = shared.together(
        click.option("--space", help="Search space: a name, or the path of its file."),
        shared.dataset,
        click.option(
            "--method", "--methods", default="hypernas", show_default=True, help="Predictors, separated by commas."
        ),
        click.option("--n-train", help="Numbers of training architectures, separated by commas."),
        click.option("--seed", "--seeds", default="0", show_default=True, help="Seeds, such as 0:10 or 0,3."),
        shared.profile,
        click.option(
            "--protocol",
            default="clean",
            show_default=True,
            help="clean, or pinat to compare with figures published that way.",
        ),
        shared.settings,
    )
    return setting_options(options(command))


@click.command()
@click.argument("page", required=False)
@click.option("--only", multiple=True, metavar="KEY=VALUE", help="Restrict a PAGE to one method, size or setting.")
@click.option("--table", default="few_shot", show_default=True, help="Results file for the rows.")
@place_options
@computing_options
def experiment(page: str | None, only: tuple[str, ...], **options: Any) -> None:
    """Train predictors and record how well they rank.

    Each method, number of labels and seed gives one row, scored on all other architectures. With a PAGE, the
    experiments are those of that page of the book, listed in `hypernas/lab/grids.toml`. Recorded rows are read, not
    recomputed. You can stop the command at any time and repeat it. A failure does not stop the other experiments; it is
    reported at the end.
    """
    begin_to_start(options)
    from hypernas.lab import grids

    if page:
        compute(grids.grid(page, options["profile"], pairs(only, "--only")), options)
    else:
        compute(combinations(options), options)


@click.command()
@click.argument("name", metavar="PAGE|FILE.yml")
@click.option("--only", multiple=True, metavar="KEY=VALUE", help="Only one method, space, notebook or parameter.")
@click.option("--profile", help="quick, standard or paper.  [default: standard, or that of a FILE]")
@click.option(
    "-o", "--output", type=shared.PATH, help="Folder for the notebooks of a FILE.  [default: that of the FILE]"
)
@computing_options
def grid(name: str, only: tuple[str, ...], profile: str | None, output: Path | None, **options: Any) -> None:
    """Compute the missing rows of a page, or execute notebooks.

    `hypernas grid PAGE` is the same as `hypernas experiment PAGE`. A FILE lists notebooks and parameters, as
    `book/grid.yml` does; notebooks whose output would not change are skipped, and `report.md` beside the executed
    notebooks reports the outcome of each. You can stop either at any time and repeat it.
    """
    chosen = pairs(only, "--only")
    if is_file_of_notebooks(name):
        execute_notebooks(Path(name).expanduser(), output, profile, chosen, options)
        return
    if output is not None:
        raise UserError(f"rows are recorded, not written to a folder, got -o {output}: --results chooses where")
    begin_to_start(options)
    from hypernas.lab import grids

    compute(grids.grid(name, profile or "standard", chosen), options)


def is_file_of_notebooks(name: str) -> bool:
    """Return whether the argument of `hypernas grid` is a file; no page of the book has such a name.

    >>> is_file_of_notebooks("book/grid.yml"), is_file_of_notebooks("preference")
    (True, False)
    """
    return name.endswith((".yml", ".yaml")) or "/" in name or os.sep in name


def execute_notebooks(
    path: Path, output: Path | None, profile: str | None, only: dict[str, str], options: dict[str, Any]
) -> None:
    """Execute the notebooks of a file and print the outcome of each. Exit with code 1 if one fails."""
    from hypernas.lab import notebook_grid

    choose_results(options["results"], options["record"])
    if options["together"] is not None:
        raise UserError("--together is for rows, notebooks run on --workers")
    given = {} if profile is None else {"profile": profile}
    source = click.get_current_context().get_parameter_source("device")
    if source is not click.core.ParameterSource.DEFAULT:
        given["device"] = options["device"]
    workers = workers_of(options)
    grid = notebook_grid.read(path, output, given, only, options["force"])
    absent = {execution.name for execution in grid.missing}
    if options["dry_run"]:
        for execution in grid.executions:
            click.echo(f"{execution.name}: {'to run' if execution.name in absent else 'executed already'}")
        return
    shared.tell(grid.cost(workers))
    states = []
    for one in with_progress(notebook_grid.carry_out(grid, workers, options["force"]), len(grid.executions)):
        states.append(one)
        if options["as_json"]:
            click.echo(json.dumps(one.about()))
        elif one.state == notebook_grid.EXECUTED:
            click.echo(f"{one.execution.name}  {one.state} in {one.seconds:.1f} s, {one.where}")
        elif one.state == notebook_grid.FAILED:
            click.echo(f"Failed: {one.execution.name}: {one.reason}", err=True)
    click.echo(f"{notebook_grid.counts(states)}; {grid.folder / 'report.md'}", err=True)
    if any(one.state == notebook_grid.FAILED for one in states):
        sys.exit(1)


def begin_to_start(options: dict[str, Any]) -> None:
    """Start the worker processes while this one imports the library; call it before the import."""
    if options["workers"] > 1 and not options["dry_run"]:
        from hypernas.lab import runner

        workers = runner.Workers(options["workers"], options["threads"] or 0, options["scheduler"])
        runner.begin_to_start(workers)


def compute(experiments: Sequence[Experiment], options: dict[str, Any]) -> None:
    """Print the row of every experiment. Exit with code 1 if one has none."""
    from hypernas.lab import grids, recording

    choose_results(options["results"], options["record"])
    workers = workers_of(options)
    plan = recording.plan(experiments, options["force"], options["device"])
    if options["dry_run"]:
        click.echo("\n".join(grids.plan(experiments)))
        return
    if len(experiments) > 1:
        shared.tell(plan.cost(workers))
    progress = sys.stderr.isatty() and workers.in_process
    found = recording.carry_out(plan, workers, progress, options.get("together"), keep_going=len(experiments) > 1)
    failures = []
    for outcome in with_progress(found, len(experiments)):
        if outcome.row is None:
            failures.append(outcome)
        else:
            click.echo(told(outcome, options["as_json"]))
    for failure in failures:
        click.echo(failed(failure), err=True)
    if failures:
        sys.exit(1)


def failed(outcome: Outcome) -> str:
    """Return a line that reports experiments without a row."""
    first, seeds = outcome.experiments[0], ", ".join(str(experiment.seed) for experiment in outcome.experiments)
    error = outcome.error
    reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    where = f"{first.method}  {first.space}/{first.dataset}  n_train {first.n_train}  seed {seeds}"
    return f"Failed: {where}: {reason.splitlines()[0]}"


def with_progress(rows: Iterable[Any], total: int) -> Iterable[Any]:
    """Yield the rows, with a progress bar on stderr that does not break the lines on stdout."""
    from tqdm import tqdm

    bar = tqdm(total=total, unit="row", file=sys.stderr, disable=None if total > 1 else True)
    with bar:
        for row in rows:
            with nullcontext() if bar.disable else tqdm.external_write_mode(sys.stdout):
                yield row
            bar.update()


def told(outcome: Outcome, as_json: bool) -> str:
    """Return a row as a line that says whether it was trained now or recorded before, and from which table."""
    assert outcome.row is not None
    state = "trained" if outcome.trained else "recorded"
    if as_json:
        return json.dumps({**outcome.row, "state": state})
    return f"{in_words(outcome.row)}  {state}, from {outcome.row.get('source', 'an unnamed table')}"


def in_words(row: dict[str, Any]) -> str:
    """Return a row as one line of text: what was asked, then each number that the row has."""
    asked = {**row["settings"], **row}
    # The queries of a search are its labels, and many methods read no graph.
    if "queries" in row:
        del asked["n_train"], asked["graph_form"]
    found = [text.format(asked[name]) for name, text in WORDS.items() if asked.get(name) is not None]
    return "  ".join([row["method"], f"{row['space']}/{row['dataset']}", *found])
