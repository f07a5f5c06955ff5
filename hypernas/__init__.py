"""HyperNAS, a predictor for neural architecture search (arXiv 2509.18151), and the tools to compare it.

>>> import hypernas
>>> "hypernas" in hypernas.predictors.names(), "nasbench201" in hypernas.spaces.names()
(True, True)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypernas import predictors, spaces
    from hypernas.errors import UserError
    from hypernas.lab.benchmark import Benchmark
    from hypernas.lab.persistence import load, save
    from hypernas.search.ask_tell import Search

__all__ = ["Benchmark", "Search", "UserError", "load", "predictors", "save", "spaces"]
_HOMES = {"Benchmark": "hypernas.lab.benchmark", "UserError": "hypernas.errors"}
_HOMES |= {"Search": "hypernas.search.ask_tell"}
_HOMES |= dict.fromkeys(("load", "save"), "hypernas.lab.persistence")


def __getattr__(name: str) -> Any:
    """Modules and names are imported when first asked for, so that `import hypernas` takes no time."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    try:
        return import_module(f"hypernas.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"hypernas.{name}":
            raise
        raise AttributeError(f"module 'hypernas' has no attribute {name!r}") from None
