"""What predictors that are transformers share: tokens, dropout, the schedule, several seeds in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hypernas.errors import UserError
from hypernas.fast.mapped import MappedPass
from hypernas.graph import GraphBatch
from hypernas.method.loss import pairwise_logistic
from hypernas.predictors.shared.cell_columns import varying
from hypernas.predictors.shared.tokens import tokens
from hypernas.predictors.shared.transformer import GraphTransformer, Shape, score
from hypernas.training.loop import CosineSchedule, Logged, Schedule
from hypernas.training.predictor import TrainedPredictor, n_operations

CHUNK = 8192


class TokenPass(MappedPass):
    """S transformers, each on the tokens of its own architectures."""

    def __init__(self, models: Sequence[Any], graphs: Sequence[GraphBatch], device: str) -> None:
        model = models[0]
        if len({each.columns for each in models}) > 1:
            raise UserError("seeds trained together need training sets that differ in the same cells; fit one by one")
        super().__init__(models, [tokens(batch, model.columns, model.n_nodes) for batch in graphs], device)


@dataclass(kw_only=True, eq=False)
class TransformerPredictor(TrainedPredictor):
    """Sizes and schedule of TNASP and PINAT. A subclass says how the transformer knows the graph.

    Each unique cell is read once, the cells in which the training set's architectures differ; how often the network
    repeats a cell is not seen. Dropout acts on the embedding, on what attention and feed-forward layers add, and on the
    mean over the nodes. Of an architecture with larger cells than any of the training set's, the rows of the Laplacian
    are cut.
    """

    epochs: int = 300
    learning_rate: float = 1e-4
    weight_decay: float = 1e-3
    loss: str = "mse"
    dropout: float = 0.1
    n_blocks: int = 3
    d_model: int = 80
    n_heads: int = 4
    d_head: int = 64
    d_inner: int = 512
    d_regressor: int = 96

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss not in ("mse", "bce"):
            raise UserError(f"loss must be one of mse, bce, got {self.loss!r}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout must be at least 0 and below 1, got {self.dropout}")

    def shape(self) -> Shape:
        """The sizes of the transformer, and how it knows the graph."""
        return Shape(self.n_blocks, self.d_model, self.n_heads, self.d_head, self.d_inner, self.d_regressor)

    def schedule(self) -> Schedule:
        return CosineSchedule(self.epochs, self.learning_rate, self.accumulate, weight_decay=self.weight_decay)

    def new_model(self, graphs: GraphBatch) -> GraphTransformer:
        return GraphTransformer(n_operations(graphs), graphs.ops.shape[2], varying(graphs), self.shape())

    def new_pass(self, models: Sequence[Any], graphs: Sequence[GraphBatch]) -> TokenPass:
        return TokenPass(models, graphs, self.device)

    def inputs(self, run: TokenPass, index: Tensor, generators: list[np.random.Generator]) -> tuple[Tensor, ...]:
        """Architectures (S, b), and what dropout leaves of each (S, K, b, T, D), drawn from each seed's generator."""
        return index, self.keep(
            generators, (run.model.n_dropouts, index.shape[1], run.fields[0].shape[2], self.d_model)
        )

    def keep(self, generators: list[np.random.Generator], shape: tuple[int, ...]) -> Tensor:
        """What dropout leaves (S, *shape), drawn from each seed's generator."""
        noise = torch.from_numpy(np.stack([g.random(shape, dtype=np.float32) for g in generators]))
        return (noise >= self.dropout) / (1 - self.dropout)

    def loss_of(self, run: TokenPass, labels: Tensor, *inputs: Tensor) -> Logged:
        """The squared error of index (S, b), or the logistic loss of its pairs."""
        index, keep = inputs
        predicted = run(index, keep.to(self.device, torch.get_default_dtype()))
        label = labels.gather(1, index.to(labels.device))
        loss = ((predicted - label) ** 2).mean(1) if self.loss == "mse" else pairwise_logistic(predicted, label)
        return loss.sum(), {"loss_pred": loss.detach()}

    def score(self, graphs: GraphBatch) -> Tensor:
        model = self.model
        if int(graphs.ops.max()) >= model.operation.num_embeddings:
            rule = f"operations must be below {model.operation.num_embeddings}, as in the training set"
            raise UserError(f"{rule}, got {int(graphs.ops.max())}; give collate the space of both sets")
        first, inverse = graphs.distinct()
        return _score(model, graphs[first], self.device)[inverse]


def _score(model: GraphTransformer, graphs: GraphBatch, device: str) -> Tensor:
    """Standardised predictions (B,), small graphs together with small ones, memory bounded."""
    order = graphs.mask.sum((1, 2)).argsort(stable=True)
    scores = torch.empty(len(graphs), dtype=model.hidden.weight.dtype)
    for rows in order.split(CHUNK):
        part = tokens(graphs[rows].trimmed(), model.columns, model.n_nodes)
        scores[rows] = score(model, part, device=device)
    return scores
