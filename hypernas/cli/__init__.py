"""The command line, `hypernas --help`: thin, each command reads its options and calls the library."""

from __future__ import annotations

import codecs
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from hypernas.cli import options
from hypernas.cli.data import data, label
from hypernas.cli.rows import pairs, plan, told, with_progress
from hypernas.cli.search import search
from hypernas.cli.sweep import sweep
from hypernas.cli.train import train
from hypernas.cli.trials import ask_command, tell_command, trials_command
from hypernas.cli.zero_cost import zero_cost
from hypernas.errors import UserError

# What code pages of terminals lack, in characters that all of them have.
PLAIN = {"−": "-", "–": "-", "—": "-", "±": "+-", "×": "x", "→": "->", "…": "...", "≥": ">=", "≤": "<="}


def _plain(error: UnicodeError) -> tuple[str, int]:
    """An error handler of codecs: characters that a terminal lacks, written with those that it has."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(PLAIN.get(character, "?") for character in lacking), error.end


def _print_anywhere() -> None:
    """Have no character end a command, whatever the code page of the terminal."""
    codecs.register_error("hypernas", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="hypernas")


class Commands(click.Group):
    """A group whose mistakes of a user, and files that it cannot use, are one sentence on stderr and exit code 2."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        _print_anywhere()
        try:
            code = super().main(*args, **{**kwargs, "standalone_mode": False})
        except UserError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(2)
        except OSError as error:
            told = error.strerror or str(error)
            place = told if error.filename is None else f"{error.filename} ({told})"
            rule = "a file or folder must be one that can be used"
            click.echo(f"Error: {rule}, got {place}: check its permissions and the free space", err=True)
            sys.exit(2)
        except click.ClickException as error:
            prefix = "" if isinstance(error, click.exceptions.NoArgsIsHelpError) else "Error: "
            click.echo(f"{prefix}{error.format_message()}", err=True)
            sys.exit(error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            click.echo("Stopped; recorded rows are kept, the same command goes on from there.", err=True)
            sys.exit(130)
        sys.exit(code if isinstance(code, int) else 0)


@click.group("hypernas", cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hypernas")
def main() -> None:
    """HyperNAS as a reproducibility book: experiments, tables, notebooks and data."""


def setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that are settings of a method; all others are reached with --set."""
    for name, text in (
        ("images", "Auxiliary images: digits, cifar10, fashion-mnist, digits-random-labels, noise, or a+b for both."),
        ("epochs", "Passes over the training architectures."),
        ("reading", "Exponent of the loss: printed (q) or text (q - 1)."),
        ("q", "Preference coefficient of the loss, above 0."),
        ("loss", "Loss of the predictor."),
        ("context", "What a cell knows of those before it: sum, concat, position or none."),
        ("graph-form", "Graph of an architecture: raw, pruned or contracted."),
    ):
        command = click.option(f"--{name}", help=text)(command)
    return command


@main.command()
@click.option("--table", default="few_shot", show_default=True, help="Results file the row belongs to.")
@options.space
@options.dataset
@click.option("--method", default="hypernas", show_default=True, help="Predictor, or several with commas.")
@click.option("--n-train", required=True, help="Number of training architectures, or several with commas.")
@options.seed
@options.profile
@click.option("--protocol", default="clean", show_default=True, help="clean, or pinat to compare with its figures.")
@setting_options
@options.settings
@options.threads
@options.device
@options.force
@options.as_json
def experiment(
    extra: tuple[str, ...], threads: int | None, device: str, force: bool, as_json: bool, **options: Any
) -> None:
    """Train a predictor, rank all other architectures, record one row for each method, size and seed.

    A recorded row is read, not computed again. The command may be stopped at any moment and repeated.
    """
    import torch

    from hypernas.lab.benchmark import Benchmark
    from hypernas.lab.experiment import outcomes

    if threads:
        torch.set_num_threads(threads)
    options["dataset"] = options["dataset"] or Benchmark(options["space"]).dataset
    experiments = plan(pairs(extra), options)
    rows = outcomes(experiments, force, sys.stderr.isatty(), device)
    for outcome in with_progress(rows, len(experiments)):
        click.echo(told(outcome, as_json))


@main.command()
@click.argument("name")
@click.option("--only", multiple=True, metavar="KEY=VALUE", help="Those of one method, space, n_train or setting.")
@click.option("--profile", default="standard", show_default=True, help="standard or paper.")
@options.dry_run
@options.threads
@options.device
@options.force
def grid(
    name: str, only: tuple[str, ...], profile: str, dry_run: bool, threads: int | None, device: str, force: bool
) -> None:
    """Compute the missing rows of the page NAME; `hypernas/grids.toml` lists all. It may be stopped and repeated."""
    import torch

    from hypernas.lab import grids
    from hypernas.lab.experiment import outcomes

    experiments = grids.grid(name, profile, pairs(only, "--only"))
    if dry_run:
        click.echo("\n".join(grids.plan(experiments)))
        return
    torch.set_num_threads(threads or torch.get_num_threads())
    for outcome in with_progress(outcomes(experiments, force, sys.stderr.isatty(), device), len(experiments)):
        click.echo(told(outcome, as_json=False))


@main.command()
@click.argument("name")
@click.option("--format", "form", type=click.Choice(["markdown", "csv", "json"]), default="markdown", show_default=True)
def table(name: str, form: str) -> None:
    """Print the recorded rows of table NAME, mean ± std over seeds, beside the paper's figures."""
    from hypernas.lab import rows as results

    lines = results.table(name)
    if form == "csv":
        click.echo(lines.to_csv(index=False), nl=False)
    elif form == "json":
        click.echo(lines.to_json(orient="records", force_ascii=False, indent=1))
    else:
        click.echo(results.markdown(lines))


@main.command()
@click.argument("notebook", type=options.PATH)
@click.option("-p", "--parameter", "parameters", type=(str, str), multiple=True, metavar="NAME VALUE")
@click.option("--profile", help="The notebook's parameter `profile`: quick, standard or paper.")
@click.option("-o", "--output", "folder", type=options.PATH, default="executed", show_default=True)
@click.option("--name", help="Name of the executed notebook, by default that of NOTEBOOK.")
@click.option("--force", is_flag=True, help="Replace a notebook that was executed with other parameters.")
def run(
    notebook: Path,
    parameters: tuple[tuple[str, str], ...],
    profile: str | None,
    folder: Path,
    name: str | None,
    force: bool,
) -> None:
    """Execute NOTEBOOK with checked parameters into the folder -o; a failed one is kept, named."""
    from hypernas.lab import notebooks

    given = [*parameters, *([("profile", profile)] if profile is not None else [])]
    chosen = dict(given)
    if len(chosen) < len(given):
        raise UserError(f"every parameter must be given once, got {', '.join(key for key, _ in given)}")
    try:
        click.echo(notebooks.run(notebook, chosen, folder, name, force=force))
    except notebooks.NotebookFailed as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)


@main.command()
@click.option("--n", type=click.IntRange(2, 15625), default=156, show_default=True, help="Architectures in an epoch.")
@click.option(
    "--pairs", type=click.IntRange(1), default=3, show_default=True, help="Pairs of runs a ratio is taken of."
)
@options.device
@click.option("--part", type=click.Choice(["training", "scoring"]), help="One part alone.  [default: all]")
@click.option("--record", is_flag=True, help="Keep them as the row of this machine.")
def bench(n: int, pairs: int, device: str, part: str | None, record: bool) -> None:
    """Measure the ratios of the efficiency pages and print them as one line of JSON."""
    from hypernas.lab import costs

    found = costs.bench(n, pairs, device, part or "")
    if record:
        costs.record(found, n, pairs, device, part or "")
    click.echo(json.dumps(found))


main.add_command(ask_command)
main.add_command(data)
main.add_command(label)
main.add_command(search)
main.add_command(sweep)
main.add_command(tell_command)
main.add_command(train)
main.add_command(trials_command)
main.add_command(zero_cost)
