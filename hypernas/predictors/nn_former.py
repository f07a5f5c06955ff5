"""NN-Former (Xu et al. 2025): attention among graph neighbours and siblings, feed-forward layers along the edges."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypernas.predictors.shared.transformer import Shape, TransformerPredictor


@dataclass(kw_only=True, eq=False)
class NNFormer(TransformerPredictor):
    """Each of four heads sees a node's predecessors, its successors, or those that share one of either with it.

    The structure is the paper's: adjacency-sibling attention, bidirectional graph isomorphism feed-forward layers, no
    positions. Sizes, norms, loss and schedule are those of TNASP and PINAT, not its own, which are larger, train much
    longer and choose the epoch on extra labels; so its quoted figures are no target for this.
    """

    def shape(self) -> Shape:
        return replace(super().shape(), positions=False, relations=True)


METHODS = {"nn-former": NNFormer}
