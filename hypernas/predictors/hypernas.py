"""HyperNAS (arXiv 2509.18151) for many architectures and seeds at once. Read `method/` first: it is the paper.

`engine="plain"` trains with `method.hypernas` itself, one architecture at a time; `engine="fast"` computes the same
numbers faster. HyperNAS-P is the predictor alone, HyperNAS-H the hypernetwork alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hypernas.data.images import check_images
from hypernas.errors import UserError
from hypernas.fast.forward import FastPass
from hypernas.fast.loss import adaptive_sum, bounded_square
from hypernas.fast.scoring import score
from hypernas.graph import GraphBatch
from hypernas.method import hypernas as plain
from hypernas.method.encoder import CONTEXTS
from hypernas.method.hypernas import (
    ArchitecturePredictor,
    EncoderSize,
    HyperNASModel,
    HypernetworkSize,
    LossSettings,
    TargetNetworkSize,
)
from hypernas.method.loss import check_preference
from hypernas.predictors.shared.generating import GeneratingPass, GeneratingPredictor, cross_entropy
from hypernas.predictors.shared.node_encoders import ENCODERS, encoder_class
from hypernas.predictors.shared.ranking_losses import pairwise_logistic
from hypernas.training.loop import Logged
from hypernas.training.predictor import TrainedPredictor, labels_at
from hypernas.training.settings import flat_keywords

# Name -> type to convert to, None where everything stays as it is.
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}
# Settings with a fixed set of values.
CHOICES = {
    "loss": ("mse", "cubed", "bce"),
    "engine": ("fast", "plain"),
    "context": CONTEXTS,
    "encoder": ENCODERS,
    "precision": tuple(PRECISIONS),
    "target_precision": tuple(PRECISIONS),
}


@flat_keywords
@dataclass(kw_only=True, eq=False)
class HyperNASP(TrainedPredictor):
    """HyperNAS-P: the paper's predictor alone. Defaults are the paper's settings wherever it states them.

    `encoder` replaces the directed GCN by another graph network. `loss="bce"` replaces the squared error by a ranking
    loss, and `loss="cubed"` by the cube of the error's size, on which HyperNAS trains at the paper's q = 1.5. With
    `precision="bfloat16"`, a trained GCN scores in bfloat16; everything else stays in float32.
    """

    encoding: EncoderSize = EncoderSize()
    encoder: str = "gcn"
    loss: str = "mse"
    engine: str = "fast"
    precision: str = "float32"
    # Nothing here reads these. They belong to the keys of recorded rows, since one command trains all three variants.
    preference: LossSettings = LossSettings()
    generation: HypernetworkSize = HypernetworkSize()
    target: TargetNetworkSize = TargetNetworkSize()
    images: str = "digits"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self)
        check_images(self.images)

    def plain(self) -> plain.HyperNASP:
        """Return the same method as the paper trains it."""
        return plain.HyperNASP(
            seed=self.seed,
            training=self.schedule(),
            encoder=self.encoding,
            encoder_class=encoder_class(self.encoder),
            device=self.device,
        )

    def new_model(self, graphs: GraphBatch) -> ArchitecturePredictor:
        return self.plain().new_predictor(graphs)

    def new_pass(self, models: Sequence[ArchitecturePredictor], graphs: Sequence[GraphBatch]) -> FastPass:
        return FastPass(models, graphs, device=self.device)

    def loss_of(
        self,
        run: FastPass,
        labels: Tensor,
        *inputs: Tensor,
    ) -> Logged:
        """Return the loss of architectures (S, b), by default the squared error, and the values to log."""
        (index,) = inputs
        predicted, _ = run(index)
        losses = regression_loss(self.loss, predicted, labels_at(labels, index))
        return losses.mean(1).sum(), {"loss_pred": losses.detach().mean(-1)}

    def score(self, graphs: GraphBatch) -> Tensor:
        return score(self.model, graphs, device=self.device, dtype=PRECISIONS[self.precision])


@flat_keywords
@dataclass(kw_only=True, eq=False)
class HyperNAS(GeneratingPredictor):
    """The predictor of the paper. Defaults are the paper's settings (Supplement 7) wherever it states them.

    `encoder`, `loss` and `precision` are those of `HyperNASP`. With `target_precision="bfloat16"`, the fast engine
    trains target networks in bfloat16 and everything else in float32.
    """

    encoding: EncoderSize = EncoderSize()
    encoder: str = "gcn"
    loss: str = "mse"
    preference: LossSettings = LossSettings()
    engine: str = "fast"
    precision: str = "float32"
    target_precision: str = "float32"
    prefix: ClassVar[str] = "predictor"
    tasks: ClassVar[tuple[str, ...]] = ("pred", "hyper")
    may_differ: ClassVar[tuple[str, ...]] = ("q", "reading", "learn_u", *GeneratingPredictor.may_differ)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self)
        if self.target_precision != "float32" and self.engine == "plain":
            raise UserError(f"target_precision must be float32 with engine='plain', got {self.target_precision!r}")

    def plain(self) -> plain.HyperNAS:
        """Return the same method as the paper trains it."""
        return plain.HyperNAS(
            seed=self.seed,
            training=self.schedule(),
            encoder=self.encoding,
            encoder_class=encoder_class(self.encoder),
            hypernetwork=self.generation,
            target=self.target,
            loss=self.preference,
            images=self.pictures,
            tasks=self.tasks,
            device=self.device,
        )

    def new_model(self, graphs: GraphBatch) -> HyperNASModel:
        self.check_size(graphs)
        return self.plain().new_model(graphs)

    def new_pass(self, models: Sequence[HyperNASModel], graphs: Sequence[GraphBatch]) -> GeneratingPass:
        programs = [self.programs(batch) for batch in graphs]
        maps_in = PRECISIONS[self.target_precision]
        return GeneratingPass(models, graphs, programs, self.prefix, self.device, maps_in)

    def loss_of(
        self,
        run: GeneratingPass,
        labels: Tensor,
        *inputs: Tensor,
    ) -> Logged:
        """Return the adaptive sum of both losses of architectures (S, b) on images (S, b, M), and the values to log.

        The losses are the squared error of the prediction and the cross-entropy of the generated networks.
        """
        losses, log = self.task_losses(run, labels, *inputs)
        return adaptive_sum([*losses.values()], run.u, run.power).sum(), log

    def task_losses(
        self,
        run: GeneratingPass,
        labels: Tensor,
        index: Tensor,
        chosen: Tensor,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the loss (S, b) of each task, and the values to log."""
        x, y = run.training_images.pictures(chosen)
        predicted, logits = run(index, x)
        assert logits is not None
        losses = {}
        # HyperNAS-H has no regression loss, all else is the same.
        if "pred" in self.tasks:
            losses["pred"] = regression_loss(self.loss, predicted, labels_at(labels, index))
        losses["hyper"], accuracy = cross_entropy(logits, y)
        log = {f"loss_{task}": loss.detach().mean(-1) for task, loss in losses.items()}
        # The factor 1 / (2 u^2) of each task, for the history.
        weights = 0.5 / bounded_square(run.u.detach())
        for t, task in enumerate(losses):
            log[f"weight_{task}"] = weights[:, t]
        log["target_accuracy"] = accuracy
        return losses, log

    def score(self, graphs: GraphBatch) -> Tensor:
        return score(self.model.predictor, graphs, device=self.device, dtype=PRECISIONS[self.precision])


@flat_keywords
@dataclass(kw_only=True, eq=False)
class HyperNASH(HyperNAS):
    """HyperNAS-H: weight generation alone; an architecture's score is the accuracy of its generated network."""

    tasks: ClassVar[tuple[str, ...]] = ("hyper",)
    predicts_accuracy: ClassVar[bool] = False

    def answer(self, graphs: GraphBatch) -> Tensor:
        """Return the accuracy (B,) in percent of the generated networks on test images."""
        return self.target_accuracies(graphs)


def check_choices(predictor: HyperNASP | HyperNAS) -> None:
    """Raise UserError for an unknown choice, and for two choices that exclude each other."""
    settings = predictor.settings()
    for name, choices in CHOICES.items():
        if name in settings and settings[name] not in choices:
            raise UserError(f"{name} must be one of {', '.join(choices)}, got {settings[name]!r}")
    check_preference(predictor.preference.q, predictor.preference.reading)
    if predictor.loss != "mse" and predictor.engine == "plain":
        raise UserError(f"loss must be mse, the paper's, with engine='plain', got {predictor.loss!r}")
    if predictor.precision != "float32" and predictor.encoder != "gcn":
        raise UserError(f"precision must be float32 with encoder={predictor.encoder!r}, got {predictor.precision!r}")


def regression_loss(
    loss: str,
    predicted: Tensor,
    label: Tensor,
) -> Tensor:
    """Return the loss (S, b) of each architecture of a step; a ranking loss is one number (S, 1) for all of them."""
    if loss == "mse":
        return (predicted - label) ** 2
    if loss == "cubed":
        return (predicted - label).abs() ** 3
    return pairwise_logistic(predicted, label)[..., None]


METHODS = {"hypernas": HyperNAS, "hypernas-p": HyperNASP, "hypernas-h": HyperNASH}
