"""NP, the neural predictor (Wen et al. 2020), as the paper's baseline: a GCN that encodes each cell separately."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hypernas.fast.forward import FastPass
from hypernas.fast.scoring import score
from hypernas.graph import GraphBatch
from hypernas.method.hypernas import ArchitecturePredictor
from hypernas.training.loop import Logged
from hypernas.training.predictor import TrainedPredictor, labels_at, n_operations


@dataclass(kw_only=True, eq=False)
class NeuralPredictor(TrainedPredictor):
    """A GCN that reads each unique cell once, without sequence or context; otherwise the same as HyperNAS-P.

    NOTE[PAPER]: paper compares with NP and gives no settings for it; we give it the encoder, regressor and schedule
    of HyperNAS-P; because then the two differ in the global encoding alone.
    """

    n_layers: int = 6
    width: int = 72

    def new_model(self, graphs: GraphBatch) -> ArchitecturePredictor:
        return ArchitecturePredictor(n_operations(graphs), self.n_layers, self.width, context="none")

    def new_pass(self, models: Sequence[ArchitecturePredictor], graphs: Sequence[GraphBatch]) -> FastPass:
        return FastPass(models, [single_cells(batch) for batch in graphs], device=self.device)

    def loss_of(
        self,
        run: FastPass,
        labels: Tensor,
        *inputs: Tensor,
    ) -> Logged:
        """Return the squared error of index (S, b)."""
        (index,) = inputs
        predicted, _ = run(index)
        losses = ((predicted - labels_at(labels, index)) ** 2).mean(1)
        return losses.sum(), {"loss_pred": losses.detach()}

    def score(self, graphs: GraphBatch) -> Tensor:
        return score(self.model, single_cells(graphs), device=self.device)


def single_cells(graphs: GraphBatch) -> GraphBatch:
    """Replace the sequence of the network by each unique cell once."""
    unique = torch.arange(graphs.kind.shape[1])
    # A unique cell that no position has is none of this network.
    present = (graphs.sequence[..., None] == unique).any(1)
    sequence = torch.where(present, unique, -1)
    return replace(graphs, sequence=sequence)


METHODS = {"np": NeuralPredictor}
