"""Search spaces: each file of this folder provides one as `space`; the file name is the registration."""

from __future__ import annotations

import importlib
import pkgutil

from hypernas.errors import UserError
from hypernas.graph import SearchSpace


def names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg)


def get(name: str) -> SearchSpace:
    """The search space called `name`. Raises UserError for an unknown one."""
    if name not in names():
        raise UserError(f"search space must be one of {', '.join(names())}, got {name!r}")
    return importlib.import_module(f"{__name__}.{name}").space
