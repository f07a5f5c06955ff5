"""PINAT (Lu et al. 2023): a transformer with permutation-invariant modules and positions from the graph's Laplacian.

Each node's embedding and the output of every attention layer are joined by a function of the set of the node's
neighbours. With ten or a hundred labels, attention alone does not find out what the edges mean.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from hypernas.predictors.shared.transformer import Shape, TransformerPredictor


@dataclass(kw_only=True, eq=False)
class PINAT(TransformerPredictor):
    """`TransformerPredictor` with permutation-invariant modules of width `d_invariant`.

    We wrote it from the description in its paper, except that positions are the rows of D - A of the directed graph, as
    in its authors' code. Our own choices: predecessors and successors are summed separately; nodes stand in canonical
    order, so that isomorphic graphs get the same prediction; absent nodes are not attended to; there is no dropout
    inside the softmax and one ReLU in the regressor. The `standard` profile trains all predictors for the same number
    of epochs, fewer than the 300 of this class.
    """

    d_invariant: int = 16

    def shape(self) -> Shape:
        return replace(super().shape(), invariant=self.d_invariant)


METHODS = {"pinat-mse": partial(PINAT, loss="mse"), "pinat-bce": partial(PINAT, loss="bce")}
