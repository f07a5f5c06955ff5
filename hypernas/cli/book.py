"""The command `hypernas book` copies the notebooks and sources of the book, so that you can work on them."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from hypernas.errors import UserError

# What building the book leaves in a checkout; the sources are everything else.
BUILT = ("_build", "notebooks", "_parts", "reproduction.md", "notes_paper.md", "__pycache__", ".ipynb_checkpoints")


@click.group()
def book() -> None:
    """Work on the notebooks and sources of the book."""


@book.command()
@click.argument("folder", type=click.Path(path_type=Path))
def init(folder: Path) -> None:
    """Copy the notebooks and sources of the book into a folder.

    FOLDER must be new or empty.
    """
    from hypernas.data.catalogue import shipped

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"the folder must be new or empty, got {folder}: choose another")
    for name in ("notebooks", "book"):
        ignored = shutil.ignore_patterns(*BUILT) if name == "book" else shutil.ignore_patterns(".ipynb_checkpoints")
        shutil.copytree(shipped() / name, folder / name, ignore=ignored)
    (folder / "data").mkdir()
    shutil.copy(shipped() / "data" / "paper.csv", folder / "data" / "paper.csv")
    click.echo(folder)
