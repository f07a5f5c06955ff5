"""TNASP (Lu et al. 2021): a transformer encoder with positions from the graph's Laplacian."""

from __future__ import annotations

from functools import partial

from hypernas.predictors.shared.transformer import TransformerPredictor


class TNASP(TransformerPredictor):
    """`TransformerPredictor` unchanged: it learns about edges only from the rows of the Laplacian.

    A linear map of a node's row is added to its embedding, as in its authors' code. The self-evolution framework, which
    also trains on estimated labels of the validation set, is left out. Our own choices are those listed in `pinat`.
    """


METHODS = {"tnasp-mse": partial(TNASP, loss="mse"), "tnasp-bce": partial(TNASP, loss="bce")}
