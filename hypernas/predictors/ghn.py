"""GHN (Zhang et al. 2019) and GHN-2 (Knyazev et al. 2021): an architecture is scored by its generated network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from hypernas.fast.forward import FastPass
from hypernas.fast.node_encoders import NetworkEncoder
from hypernas.graph import GraphBatch
from hypernas.method.hypernetwork import Hypernetwork
from hypernas.method.target_network import TargetHead
from hypernas.predictors.shared.generating import GeneratingPredictor, cross_entropy
from hypernas.training.loop import Logged
from hypernas.training.predictor import n_operations


class GHNModel(nn.Module):
    """Encoder of the whole network, decoder of one maximal tensor, the stem and classifier of all target networks."""

    def __init__(self, encoder: NetworkEncoder, hypernetwork: Hypernetwork, head: TargetHead) -> None:
        super().__init__()
        self.encoder, self.hypernetwork, self.head = encoder, hypernetwork, head


@dataclass(kw_only=True, eq=False)
class GHN(GeneratingPredictor):
    """Trained on the cross-entropy of generated networks alone; accuracies of the training set are never looked at.

    NOTE[PAPER]: paper compares with GHN and gives no settings; we keep GHN-2's hidden 32 and 8 architectures a step,
    and train on the labelled architectures with HyperNAS's schedule, target network and width of the decoder; because
    the methods then differ in what they learn from, not in how much they see.

    NOTE[PAPER]: paper says nothing of the decoder, which in GHN makes a tensor of 64 x 64 x 11 x 11 a node; we make one
    as large as the largest weight of the target network at hand, a smaller kernel is its middle; because all else would
    never be used.

    As for HyperNAS, batch normalisation and biases are not generated and gradients are not clipped.
    """

    hidden: int = 32
    accumulate: int = 8
    virtual_edges: bool = False
    generate_weights: ClassVar[bool] = True
    predict_accuracy: ClassVar[bool] = False

    def new_model(self, graphs: GraphBatch) -> GHNModel:
        encoder = NetworkEncoder(n_operations(graphs), self.hidden, self.virtual_edges)
        return GHNModel(encoder, *self.new_generator(graphs, self.hidden, maximal=True))

    def new_pass(self, models: Sequence[GHNModel], graphs: Sequence[GraphBatch]) -> FastPass:
        return FastPass(models, graphs, [self.programs(batch) for batch in graphs], device=self.device)

    def inputs(self, run: FastPass, index: Tensor, generators: list[np.random.Generator]) -> tuple[Tensor, ...]:
        """Architectures (S, b), images (S, b, M)."""
        return index, self.choose(index.shape[1], generators)

    def loss_of(self, run: FastPass, labels: Tensor, *inputs: Tensor) -> Logged:
        """The cross-entropy of the networks of architectures (S, b) on images (S, b, M)."""
        index, chosen = inputs
        x, y = self.pictures(chosen)
        loss, accuracy = cross_entropy(run.networks(index, x), y)
        return loss.mean(1).sum(), {"loss_hyper": loss.detach().mean(1), "target_accuracy": accuracy}

    def answer(self, graphs: GraphBatch) -> Tensor:
        """Accuracy (B,) in percent of the generated networks on test images."""
        return self.target_accuracies(graphs)


METHODS = {"ghn": partial(GHN, virtual_edges=False), "ghn2": partial(GHN, virtual_edges=True)}
