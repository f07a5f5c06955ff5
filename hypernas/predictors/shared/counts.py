"""Parameters and multiply-adds of many architectures, each counted once."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from hypernas.errors import UserError
from hypernas.graph import Architecture, GraphBatch
from hypernas.spaces.base import SearchSpace


@lru_cache(maxsize=1 << 15)
def count(space: SearchSpace, architecture: Architecture) -> tuple[int, int]:
    """Parameters and multiply-adds of one architecture."""
    return space.count(architecture)


def counts(graphs: GraphBatch) -> np.ndarray:
    """Parameters and multiply-adds (B, 2), as the search space counts them. UserError for graphs that have none."""
    if graphs.space is None:
        raise UserError("counting needs to know the search space; pass it to collate, or leave out counts=true")
    return np.array([count(graphs.space, graphs.architecture(i)) for i in range(len(graphs))], np.float64)
