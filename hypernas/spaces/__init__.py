"""Search spaces: each file of this folder, of `$HYPERNAS_PLUGINS` or of a path provides one as `space`."""

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
    return REGISTRY.names()


def get(space: str | Path | SearchSpace) -> SearchSpace:
    """The search space of a name, of a path to a Python, YAML or JSON file, or the object itself.

    An object or a file of choices is found by its name from then on. Raises UserError for an unknown name and for a
    file that cannot be imported or provides no space.
    """
    if isinstance(space, (str, Path)) and Path(space).suffix in (".yaml", ".yml", ".json"):
        space = read_choices(space)
    if isinstance(space, SearchSpace):
        REGISTRY.add(space.name, space)
        return space
    return REGISTRY.get(space)


def restored(name: str, written: Any, file: str, remedy: str) -> SearchSpace:
    """The space of a `file` that holds it as `written`, or where that is empty its `name` alone.

    Raises UserError with the `remedy` where no space of the name is here.
    """
    if written:
        return get(from_written(written, name))
    try:
        return get(name)
    except UserError as error:
        raise UserError(f"{error}: {file} is of that space, so {remedy}") from error
