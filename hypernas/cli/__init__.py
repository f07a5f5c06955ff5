"""The command line, `hypernas --help`. It is thin: each command reads its options and calls the library."""

from __future__ import annotations

import codecs
import io
import json
import sys
from pathlib import Path
from typing import Any

import click

from hypernas.cli import options
from hypernas.cli.book import book
from hypernas.cli.data import data, label
from hypernas.cli.practice import fit, predict, rank, sample
from hypernas.cli.predictions import predictions_command
from hypernas.cli.rows import experiment, grid
from hypernas.cli.search import search
from hypernas.cli.space import check, new
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
    """A command group that reports user mistakes and unusable files in one sentence on stderr, with exit code 2."""

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
    """Predict, rank and search neural architectures; reproduce the HyperNAS paper."""


@main.command()
@click.argument("name")
@click.option(
    "--format",
    "form",
    type=click.Choice(["markdown", "csv", "json"]),
    default="markdown",
    show_default=True,
    help="Output format.",
)
def table(name: str, form: str) -> None:
    """Print recorded rows beside the paper's figures.

    NAME is the table. Values are mean ± std over seeds.
    """
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
@click.option(
    "-p",
    "--parameter",
    "parameters",
    type=(str, str),
    multiple=True,
    metavar="NAME VALUE",
    help="Set a parameter of the notebook; may be repeated.",
)
@click.option("--profile", help="The notebook's parameter `profile`: quick, standard or paper.")
@click.option(
    "-o",
    "--output",
    "folder",
    type=options.PATH,
    default="executed",
    show_default=True,
    help="Folder for the executed notebook.",
)
@click.option("--name", help="Name of the executed notebook.  [default: that of NOTEBOOK]")
@click.option("--force", is_flag=True, help="Replace a notebook executed with other parameters.")
def run(
    notebook: Path,
    parameters: tuple[tuple[str, str], ...],
    profile: str | None,
    folder: Path,
    name: str | None,
    force: bool,
) -> None:
    """Execute a notebook with checked parameters.

    The executed notebook is written to the folder -o. If a cell fails, what ran is kept too, under another name.
    """
    from hypernas.lab import notebooks

    given = [*parameters, *([("profile", profile)] if profile is not None else [])]
    chosen = dict(given)
    if len(chosen) < len(given):
        raise UserError(f"every parameter must be given once, got {', '.join(key for key, _ in given)}")
    try:
        click.echo(notebooks.run(notebook, chosen, folder, name, force=force, tell=options.tell))
    except notebooks.NotebookFailed as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)


@main.command()
@click.option("--n", type=click.IntRange(2, 15625), default=156, show_default=True, help="Architectures per epoch.")
@click.option("--pairs", type=click.IntRange(1), default=3, show_default=True, help="Pairs of runs for each ratio.")
@options.device
@click.option(
    "--part", type=click.Choice(["training", "evaluation", "scoring"]), help="Measure only this part.  [default: all]"
)
@click.option("--record", is_flag=True, help="Record the result in your results as the row of this machine.")
def bench(n: int, pairs: int, device: str, part: str | None, record: bool) -> None:
    """Measure the speed ratios of the book's efficiency pages.

    They are printed as one line of JSON.
    """
    from hypernas.lab import costs

    found = costs.bench(n, pairs, device, part or "")
    if record:
        costs.record(found, n, pairs, device, part or "")
    click.echo(json.dumps(found))


for command in (
    ask_command, book, check, data, experiment, grid, label, new, fit, predict, predictions_command, rank, sample,
    search, tell_command, train, trials_command, zero_cost,
):  # fmt: skip
    main.add_command(command)
