"""`hypernas new space NAME` and `hypernas check space PATH`: your own search space."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.group()
def new() -> None:
    """Write a template for your own search space."""


@click.group()
def check() -> None:
    """Check your own search space."""


@new.command("space")
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), help="File to write.  [default: NAME.py]")
def new_space(name: str, out: Path | None) -> None:
    """Write a template for your own search space.

    NAME.py is commented and passes `hypernas check space`.
    """
    from hypernas.errors import UserError
    from hypernas.lab.space_check import template

    text, path = template(name), out or Path(f"{name}.py")
    if path.exists():
        raise UserError(f"the file to write must not be there yet, got {path}: choose another name or --out")
    path.write_text(text, encoding="utf-8")
    click.echo(f"{path}  (next: hypernas check space {path})")


@check.command("space")
@click.argument("space")
def check_space(space: str) -> None:
    """Check that a search space keeps what every space promises.

    SPACE is a name or the path of a file.
    """
    from hypernas import spaces
    from hypernas.lab.space_check import findings

    broken = 0
    for finding in findings(spaces.get(space)):
        click.echo(f"{'broken' if finding.broken else 'kept'}  {finding.promise}")
        if finding.broken:
            click.echo(f"        {finding.broken}")
            broken += 1
    click.echo(f"{broken} promises are broken" if broken else "all promises are kept")
    sys.exit(1 if broken else 0)
