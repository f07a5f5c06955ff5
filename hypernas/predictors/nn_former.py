"""NN-Former (Xu et al. 2025): attention among graph neighbours and siblings, feed-forward layers along the edges."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypernas.predictors.shared.transformer import Shape, TransformerPredictor


@dataclass(kw_only=True, eq=False)
class NNFormer(TransformerPredictor):
    """A transformer whose heads attend to predecessors, successors, or nodes that share a predecessor or a successor.

    The structure is that of its paper: adjacency-sibling attention, bidirectional graph isomorphism feed-forward
    layers, no positions. Sizes, norms, loss and schedule are those of TNASP and PINAT. NN-Former's own are larger,
    train much longer and choose the epoch on extra labels, so do not expect its published figures here.
    """

    def shape(self) -> Shape:
        return replace(super().shape(), positions=False, relations=True)


METHODS = {"nn-former": NNFormer}
