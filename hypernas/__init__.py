"""HyperNAS, a performance predictor for neural architecture search (arXiv 2509.18151), and tools to compare it.

>>> from hypernas import Benchmark, HyperNAS, HyperNASP, NeuralPredictor, load, predictors, save, search, spaces
>>> HyperNAS(epochs=20, q=1.5).epochs
20
>>> "hypernas" in predictors.names(), "nasbench201" in spaces.names()
(True, True)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypernas import predictors, search, spaces
    from hypernas.errors import UserError
    from hypernas.graph import collate
    from hypernas.lab.benchmark import Benchmark
    from hypernas.lab.persistence import load, save
    from hypernas.predictors.hypernas import HyperNAS, HyperNASH, HyperNASP
    from hypernas.predictors.neural_predictor import NeuralPredictor
    from hypernas.search.ask_tell import Search

__all__ = [
    "Benchmark",
    "HyperNAS",
    "HyperNASH",
    "HyperNASP",
    "NeuralPredictor",
    "Search",
    "UserError",
    "collate",
    "load",
    "predictors",
    "save",
    "search",
    "spaces",
]
_HOMES = {
    "Benchmark": "lab.benchmark",
    "HyperNAS": "predictors.hypernas",
    "HyperNASH": "predictors.hypernas",
    "HyperNASP": "predictors.hypernas",
    "NeuralPredictor": "predictors.neural_predictor",
    "Search": "search.ask_tell",
    "UserError": "errors",
    "collate": "graph",
    "load": "lab.persistence",
    "save": "lab.persistence",
}


def __getattr__(name: str) -> Any:
    """Import a module or name the first time it is used, so that `import hypernas` is fast."""
    if name in _HOMES:
        return getattr(import_module(f"hypernas.{_HOMES[name]}"), name)
    try:
        return import_module(f"hypernas.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"hypernas.{name}":
            raise
        raise AttributeError(f"module 'hypernas' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
