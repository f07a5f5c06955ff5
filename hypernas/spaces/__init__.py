"""Search spaces. A file in this folder, in `$HYPERNAS_PLUGINS` or given by its path provides one as `space`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypernas.data.plugins import Registry
from hypernas.errors import UserError
from hypernas.spaces.base import SearchSpace
from hypernas.spaces.choice import from_written, read_choices


def _accept(name: str, thing: Any) -> SearchSpace:
    if not isinstance(thing, SearchSpace):
        raise UserError(f"`space` of {name} must be an instance of a class of SearchSpace, got {type(thing).__name__}")
    if thing.name != name:
        raise UserError(
            f"a search space must be named as its file, got {thing.name!r} in {name}.py: rename one of both"
        )
    return thing


REGISTRY = Registry("search space", __name__, "space", _accept)


def names() -> list[str]:
    """Return the names of all search spaces."""
    return REGISTRY.names()


def get(space: str | Path | SearchSpace) -> SearchSpace:
    """Return the search space with this name, or from the Python, YAML or JSON file at this path.

    A `SearchSpace` object is returned as it is. From then on, objects and files of choices are also found by their
    name. Raise UserError if the name is unknown, or if the file cannot be imported or provides no space.
    """
    if isinstance(space, (str, Path)) and Path(space).suffix in (".yaml", ".yml", ".json"):
        space = read_choices(space)
    if isinstance(space, SearchSpace):
        REGISTRY.add(space.name, space)
        return space
    return REGISTRY.get(space)


def restored(name: str, written: Any, file: str, remedy: str) -> SearchSpace:
    """Return the space that a `file` holds as `written`, or the space called `name` if `written` is empty.

    Raise UserError with the `remedy` if there is no space with this name.
    """
    if written:
        return get(from_written(written, name))
    try:
        return get(name)
    except UserError as error:
        raise UserError(f"{error}: {file} is of that space, so {remedy}") from error
