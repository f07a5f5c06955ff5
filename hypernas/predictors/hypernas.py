"""HyperNAS (arXiv 2509.18151): rank architectures by a GCN over the whole network, with weight generation beside it.

The method: encode the cells in sequence (`encoder.GlobalEncoder`), predict the accuracy from the mean of the pooled
cells, generate the weights of every convolution from its node's features (`hypernetwork.Hypernetwork`), run the
network so made on auxiliary images (`target.run`), and minimise the adaptive sum of both losses
(`losses.AdaptiveLoss`). HyperNAS-P is the predictor alone, HyperNAS-H the hypernetwork alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from hypernas.errors import UserError
from hypernas.fast.forward import FastPass
from hypernas.fast.model import score
from hypernas.fast.node_encoders import ENCODERS, encoder_class
from hypernas.graph import GraphBatch
from hypernas.method.encoder import CONTEXTS
from hypernas.method.hypernas import ArchitecturePredictor
from hypernas.method.hypernetwork import Hypernetwork
from hypernas.method.loss import (
    AdaptiveLoss,
    adaptive_sum,
    bounded_square,
    check_preference,
    pairwise_logistic,
)
from hypernas.method.target_network import Program, TargetHead, run, run_recomputing
from hypernas.predictors.shared.generating import GeneratedWeights, GeneratingPredictor, cross_entropy
from hypernas.training.loop import Logged
from hypernas.training.predictor import n_operations

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}
CHOICES = {"loss": ("mse", "bce"), "engine": ("fast", "plain"), "context": CONTEXTS, "encoder": ENCODERS,
           "precision": tuple(PRECISIONS), "target_precision": tuple(PRECISIONS)}  # fmt: skip


class HyperNASModel(nn.Module):
    """Encoder and regressor, hypernetwork, the stem and classifier of all target networks, the u of the loss."""

    def __init__(
        self,
        predictor: ArchitecturePredictor,
        hypernetwork: Hypernetwork | None = None,
        head: TargetHead | None = None,
        loss: AdaptiveLoss | None = None,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.predictor, self.hypernetwork, self.head, self.loss = predictor, hypernetwork, head, loss
        self.run = run_recomputing if recompute else run

    def forward(self, graph: GraphBatch, program: Program, images: Tensor) -> tuple[Tensor, Tensor]:
        """One architecture, images (M, C, H, W) -> standardised accuracy (1,), logits (M, K) of its network."""
        assert self.hypernetwork is not None
        assert self.head is not None
        predicted, nodes = self.predictor(graph)
        weights = GeneratedWeights(self.hypernetwork, nodes, program)
        return predicted, self.run(program, weights, self.head, images)


class PlainPass:
    """One model, one architecture and one target network at a time, as in the paper; the oracle of `joint.FastPass`."""

    recordable = False

    def __init__(self, model: HyperNASModel, graphs: GraphBatch, programs: Sequence[Program] | None) -> None:
        self.model, self.graphs, self.programs = model, graphs, programs
        self.trained = list(model.parameters())

    @property
    def u(self) -> Tensor:
        """The loss's u (1, T)."""
        assert self.model.loss is not None
        return self.model.loss.u[None]

    @property
    def power(self) -> float:
        """The exponent of the losses."""
        assert self.model.loss is not None
        return self.model.loss.p

    def __call__(self, index: Tensor, images: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """index (1, 1), images (1, 1, M, C, H, W) -> standardised accuracy (1, 1), logits (1, 1, M, K)."""
        i = int(index)
        graph = self.graphs[i : i + 1]
        if images is None or self.programs is None:
            return self.model.predictor(graph)[0][None], None
        predicted, logits = self.model(graph, self.programs[i], images[0, 0])
        return predicted[None], logits[None, None]

    def write_back(self) -> None:
        self.model.to("cpu")


@dataclass(kw_only=True, eq=False)
class HyperNAS(GeneratingPredictor):
    """The predictor of the paper. Defaults are the paper's settings (Supplement 7) where it gives them.

    With `precision="bfloat16"` a trained GCN scores in bfloat16; training and regressor stay in float32. With
    `target_precision="bfloat16"` the fast engine trains with target networks in bfloat16, all else in float32.

    With `recompute` the plain loop keeps neither weights nor maps of a cell for the way back but makes them again, so
    that target networks of a hundred million parameters fit into memory.
    """

    loss: str = "mse"
    context: str = "sum"
    q: float = 1.5
    reading: str = "printed"
    learn_u: bool = True
    encoder: str = "gcn"
    n_layers: int = 6
    width: int = 72
    engine: str = "fast"
    recompute: bool = False
    precision: str = "float32"
    target_precision: str = "float32"
    predict_accuracy: bool = True
    generate_weights: bool = True
    prefix: ClassVar[str] = "predictor"
    of_each: ClassVar[tuple[str, ...]] = ("q", "reading", "learn_u", *GeneratingPredictor.of_each)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_preference(self.q, self.reading)
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise UserError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        if not (self.predict_accuracy or self.generate_weights):
            raise UserError("predict_accuracy or generate_weights must be true, got false for both: leave one as it is")
        if self.loss == "bce" and self.engine == "plain":
            raise UserError("loss must be mse with engine='plain', which never sees a pair of architectures, got 'bce'")
        if self.precision != "float32" and self.encoder != "gcn":
            raise UserError(f"precision must be float32 with encoder={self.encoder!r}, got {self.precision!r}")
        if self.target_precision != "float32" and self.engine == "plain":
            raise UserError(f"target_precision must be float32 with engine='plain', got {self.target_precision!r}")
        if self.recompute and self.engine != "plain":
            raise UserError(f"engine must be plain with recompute=True, got {self.engine!r}")

    @property
    def one_at_a_time(self) -> bool:
        return self.engine == "plain"

    def new_model(self, graphs: GraphBatch) -> HyperNASModel:
        encoder = encoder_class(self.encoder)
        predictor = ArchitecturePredictor(n_operations(graphs), self.n_layers, self.width, self.context, encoder)
        if not self.generate_weights:
            return HyperNASModel(predictor)
        tasks = ("pred", "hyper") if self.predict_accuracy else ("hyper",)
        loss = AdaptiveLoss(self.q, self.reading, tasks, self.learn_u)
        return HyperNASModel(predictor, *self.new_generator(graphs, self.width), loss, self.recompute)

    def new_pass(self, models: Sequence[Any], graphs: Sequence[GraphBatch]) -> Any:
        programs = [self.programs(batch) for batch in graphs] if self.generate_weights else None
        if self.engine == "fast":
            return FastPass(models, graphs, programs, self.prefix, self.device, PRECISIONS[self.target_precision])
        return PlainPass(models[0].to(self.device), graphs[0].to(self.device), programs[0] if programs else None)

    def inputs(self, run: Any, index: Tensor, generators: list[np.random.Generator]) -> tuple[Tensor, ...]:
        """Architectures (S, b), and the images (S, b, M) of their networks."""
        return (index, self.choose(index.shape[1], generators)) if self.generate_weights else (index,)

    def loss_of(self, run: FastPass | PlainPass, labels: Tensor, *inputs: Tensor) -> Logged:
        """The adaptive sum of squared error and cross-entropy of architectures (S, b) on images (S, b, M)."""
        index, *chosen = inputs
        losses, accuracy = {}, {}
        if chosen:
            x, y = self.pictures(*chosen)
            predicted, logits = run(index, x)
            assert logits is not None
            losses["hyper"], accuracy["target_accuracy"] = cross_entropy(logits, y)
        else:
            predicted, _ = run(index)
        if self.predict_accuracy:
            losses = {"pred": self.regression_loss(predicted, labels.gather(1, index.to(labels.device)))} | losses
        log = {f"loss_{task}": value.detach().mean(-1) for task, value in losses.items()}
        if not chosen:
            return losses["pred"].mean(1).sum(), log
        weights = 0.5 / bounded_square(run.u.detach())
        log |= {f"weight_{task}": weights[:, t] for t, task in enumerate(losses)} | accuracy
        return adaptive_sum(list(losses.values()), run.u, run.power).sum(), log

    def regression_loss(self, predicted: Tensor, label: Tensor) -> Tensor:
        """(S, b) -> the loss of each architecture of a step; a ranking loss is one number (S, 1) for all of them."""
        if self.loss == "mse":
            return (predicted - label) ** 2
        return pairwise_logistic(predicted, label)[..., None]

    def score(self, graphs: GraphBatch) -> Tensor:
        return score([self.model.predictor], [graphs], device=self.device, dtype=PRECISIONS[self.precision])[0]

    def answer(self, graphs: GraphBatch) -> Tensor:
        """Accuracy (B,) in percent; HyperNAS-H answers with the accuracy of the generated network on test images."""
        return super().answer(graphs) if self.predict_accuracy else self.target_accuracies(graphs)


METHODS = {
    "hypernas": HyperNAS,
    "hypernas-p": partial(HyperNAS, generate_weights=False),
    "hypernas-h": partial(HyperNAS, predict_accuracy=False),
}
