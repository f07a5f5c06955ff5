"""Options that several commands share, each with one spelling and one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

# No system opens a path of so many folders, and making them one by one would exhaust Python's stack.
MOST_FOLDERS = 500
# A decorator of commands.
Option = Callable[[Any], Any]


class UserPath(click.Path):
    """A path in which `~` is the user's home, even if it was quoted."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Path:
        path = Path(value)
        try:
            path = path.expanduser()
        except RuntimeError:
            self.fail(f"there is no home for the ~ of {value}: write the path whole", parameter, context)
        if len(path.parts) > MOST_FOLDERS:
            self.fail(f"a path must have at most {MOST_FOLDERS} folders, got {len(path.parts)}", parameter, context)
        super().convert(path, parameter, context)
        return path


def together(*options: Option) -> Option:
    """Return a decorator that adds several options in this order."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def with_defaults(*rows: tuple[str, Any, str]) -> Option:
    """Return a decorator that adds options given as (name, default, help); the default also sets the type."""
    return together(*(click.option(f"--{name}", default=default, show_default=True, help=text)
                      for name, default, text in rows))  # fmt: skip


PATH = UserPath()
space = click.option("--space", required=True, help="Search space: a name, or the path of its file.")
dataset = click.option("--dataset", help="Dataset of the benchmark table.  [default: the first one installed]")
seed = click.option("--seed", default="0", show_default=True, help="One seed or several, such as 0,3 or 0:5.")
profile = click.option("--profile", default="standard", show_default=True, help="Defaults: quick, standard or paper.")
threads = click.option("--threads", type=click.IntRange(1, 4096), help="CPU threads of each process.")
device = click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
force = click.option("--force", is_flag=True, help="Recompute and replace the recorded rows.")
dry_run = click.option("--dry-run", is_flag=True, help="Only list what would be computed and what is recorded.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print each row as a line of JSON.")
settings = click.option(
    "--set", "--setting", "extra", multiple=True, metavar="KEY=VALUE", help="Another setting of the method; repeatable."
)


def tell(sentence: str) -> None:
    """Print what a command is about to do and what it will cost to stderr, without asking for confirmation."""
    click.echo(sentence, err=True)
