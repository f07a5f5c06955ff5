"""GHN (Zhang et al. 2019) and GHN-2 (Knyazev et al. 2021) rank architectures by the accuracy of generated networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor, nn

from hypernas.graph import GraphBatch
from hypernas.method.hypernas import AuxiliaryImages
from hypernas.method.hypernetwork import Hypernetwork
from hypernas.method.target_network import TargetHead
from hypernas.predictors.shared.generating import GeneratingPass, GeneratingPredictor, cross_entropy
from hypernas.predictors.shared.node_encoders import NetworkEncoder
from hypernas.training.loop import Logged
from hypernas.training.predictor import n_operations
from hypernas.training.settings import flat_keywords


class GHNModel(nn.Module):
    """Encoder of the whole network, decoder of one maximal tensor, and the shared stem and classifier."""

    def __init__(
        self,
        encoder: NetworkEncoder,
        hypernetwork: Hypernetwork,
        head: TargetHead,
        images: AuxiliaryImages,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.hypernetwork = hypernetwork
        self.head = head
        self.images = images


@flat_keywords
@dataclass(kw_only=True, eq=False)
class GHN(GeneratingPredictor):
    """A hypernetwork trained on the cross-entropy of generated networks alone; it never uses the accuracies.

    NOTE[PAPER]: paper compares with GHN and gives no settings; we keep GHN-2's hidden 32 and 8 architectures a step,
    and train on the labelled architectures with HyperNAS's schedule, target network and width of the decoder; because
    the methods then differ in what they learn from, not in how much they see.

    NOTE[PAPER]: paper says nothing of the decoder, which in GHN makes a tensor of 64 x 64 x 11 x 11 per node; we make
    one as large as the largest weight of the target network at hand and take the middle of it for a smaller kernel;
    because the rest would never be used.

    As for HyperNAS, batch normalisation and biases are not generated and gradients are not clipped.
    """

    hidden: int = 32
    accumulate: int = 8
    virtual_edges: bool = False
    predicts_accuracy: ClassVar[bool] = False

    def new_model(self, graphs: GraphBatch) -> GHNModel:
        encoder = NetworkEncoder(n_operations(graphs), self.hidden, self.virtual_edges)
        return GHNModel(encoder, *self.new_generator(graphs, self.hidden), self.pictures)

    def new_pass(self, models: Sequence[GHNModel], graphs: Sequence[GraphBatch]) -> GeneratingPass:
        programs = [self.programs(batch) for batch in graphs]
        return GeneratingPass(models, graphs, programs, device=self.device)

    def loss_of(
        self,
        run: GeneratingPass,
        labels: Tensor,
        *inputs: Tensor,
    ) -> Logged:
        """Return the cross-entropy of the networks of architectures (S, b) on images (S, b, M)."""
        index, chosen = inputs
        x, y = run.training_images.pictures(chosen)
        loss, accuracy = cross_entropy(run.networks(index, x), y)
        return loss.mean(1).sum(), {"loss_hyper": loss.detach().mean(1), "target_accuracy": accuracy}

    def answer(self, graphs: GraphBatch) -> Tensor:
        """Return the accuracy (B,) in percent of the generated networks on test images."""
        return self.target_accuracies(graphs)


# GHN-2 differs from GHN by its virtual edges alone, as far as this library rebuilds it.
METHODS = {"ghn": partial(GHN, virtual_edges=False), "ghn2": partial(GHN, virtual_edges=True)}
