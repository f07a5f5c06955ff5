"""TNASP (Lu et al. 2021): a transformer encoder with positions from the graph's Laplacian."""

from __future__ import annotations

from functools import partial

from hypernas.predictors.shared.transformer import TransformerPredictor


class TNASP(TransformerPredictor):
    """`TransformerPredictor` as it is: edges reach it through the rows of the Laplacian alone, a linear map of which is
    added to each node, as its authors' code does.

    Left out: the self-evolution framework, which trains on estimates of the validation set's labels as well. Ours is
    what is ours in `pinat`.
    """


METHODS = {"tnasp-mse": partial(TNASP, loss="mse"), "tnasp-bce": partial(TNASP, loss="bce")}
