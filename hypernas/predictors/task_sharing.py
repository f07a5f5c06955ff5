"""Rules for what the encoder of HyperNAS learns from its two tasks, to give the hypernetwork a fair trial."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from hypernas.errors import UserError
from hypernas.fast.loss import adaptive_sum
from hypernas.graph import GraphBatch, collate
from hypernas.method.hypernas import HyperNASModel
from hypernas.predictors.hypernas import HyperNAS, HyperNASH
from hypernas.predictors.shared.generating import GeneratingPass
from hypernas.training.labels import LabelScale
from hypernas.training.loop import Logged
from hypernas.training.settings import flat_keywords
from hypernas.training.training_set import TrainingSet

ENCODER = "predictor.encoder."
# Sets the draw of unlabelled architectures apart from all else that is drawn from a seed.
UNLABELLED = 0x75
# Norms and products below this are taken for it: a task without a gradient changes nothing.
LEAST = 1e-12


def summed(prediction: Tensor, generation: Tensor) -> Tensor:
    """Return the sum of both gradients, as in the paper."""
    return prediction + generation


def stopped(prediction: Tensor, generation: Tensor) -> Tensor:
    """Return the gradient of the prediction alone: the hypernetwork trains, but does not influence the encoder."""
    return prediction


def scaled(prediction: Tensor, generation: Tensor) -> Tensor:
    """Return the sum with the generation's gradient scaled to the norm of the prediction's: neither dominates."""
    own = prediction.norm(dim=1, keepdim=True)
    other = generation.norm(dim=1, keepdim=True)
    return prediction + generation * own / other.clamp(min=LEAST)


def projected(prediction: Tensor, generation: Tensor) -> Tensor:
    """Return the sum after PCGrad (Yu et al., NeurIPS 2020).

    If the two gradients conflict, each loses its component along the other.
    """
    product = (prediction * generation).sum(1, keepdim=True).clamp(max=0)
    own = prediction.square().sum(1, keepdim=True)
    other = generation.square().sum(1, keepdim=True)
    without_other = prediction - product / other.clamp(min=LEAST) * generation
    without_own = generation - product / own.clamp(min=LEAST) * prediction
    return without_other + without_own


# How gradients (S, P) of prediction and generation on the encoders of S models become one.
SHARING: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "summed": summed,
    "stopped": stopped,
    "scaled": scaled,
    "projected": projected,
}


@flat_keywords
@dataclass(kw_only=True, eq=False)
class TaskSharing(HyperNAS):
    """HyperNAS with another rule for what its encoder learns from the two tasks; the losses stay the same.

    `sharing` is one of `SHARING`. In the last `apart` GCN layers of each cell, only the prediction counts. With
    `unlabelled` architectures of the space, encoder and hypernetwork are first trained as HyperNAS-H, for
    `generation_epochs` passes over them.
    """

    sharing: str = "summed"
    apart: int = 0
    unlabelled: int = 0
    generation_epochs: int = 30

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sharing not in SHARING:
            raise UserError(f"sharing must be one of {', '.join(SHARING)}, got {self.sharing!r}")
        if not 0 <= self.apart <= self.encoding.n_layers:
            raise UserError(f"apart must be from 0 to {self.encoding.n_layers}, the GCN's layers, got {self.apart}")
        if self.engine == "plain":
            raise UserError("engine must be fast for hypernas-sharing, which needs the gradients of both tasks")

    def new_model(self, graphs: GraphBatch) -> HyperNASModel:
        model = super().new_model(graphs)
        if self.unlabelled:
            generating = self._trained_to_generate(graphs)
            model.predictor.encoder.load_state_dict(generating.predictor.encoder.state_dict())
            model.hypernetwork.load_state_dict(generating.hypernetwork.state_dict())
            model.head.load_state_dict(generating.head.state_dict())
        return model

    def _trained_to_generate(self, graphs: GraphBatch) -> HyperNASModel:
        """The model of HyperNAS-H after its training on architectures that the space samples."""
        if graphs.space is None:
            raise UserError("unlabelled architectures need a search space to sample; pass it to collate")
        form = graphs.graph_form or "contracted"
        rng = np.random.default_rng([self.seed, UNLABELLED])
        drawn = [graphs.space.canonical(graphs.space.sample(rng), form) for _ in range(self.unlabelled)]
        shared = {field.name: getattr(self, field.name) for field in fields(HyperNASH) if field.init}
        method = HyperNASH(**shared | {"epochs": self.generation_epochs, "checkpoint": None})
        # HyperNAS-H reads no labels; any that differ will do.
        labels = torch.arange(float(len(drawn)))
        return method.fit(collate(drawn, graphs.space, form), labels).model

    def loss_of(
        self,
        run: GeneratingPass,
        labels: Tensor,
        *inputs: Tensor,
    ) -> Logged:
        """Return a sum with the gradient of the adaptive loss, except on the encoder, where `sharing` decides."""
        losses, log = self.task_losses(run, labels, *inputs)
        learned = {name: parameter for name, parameter in run.stack.parameters.items() if parameter.requires_grad}
        by_task = []
        for t, loss in enumerate(losses.values()):
            of_task = adaptive_sum([loss], run.u[..., t : t + 1], run.power).sum()
            gradients = torch.autograd.grad(of_task, [*learned.values()], retain_graph=t == 0, materialize_grads=True)
            by_task.append(dict(zip(learned, gradients, strict=True)))
        joined = self._joined(*by_task)
        linear = [(learned[name] * gradient).sum() for name, gradient in joined.items()]
        return torch.stack(linear).sum(), log

    def _joined(self, prediction: dict[str, Tensor], generation: dict[str, Tensor]) -> dict[str, Tensor]:
        """Gradients of both tasks by parameter -> one of each parameter."""
        joined = {name: prediction[name] + generation[name] for name in prediction}
        first_apart = self.encoding.n_layers - self.apart
        shared = []
        for name in prediction:
            # predictor.encoder.gcn.<unique cell>.<layer>.weight
            parts = name.removeprefix(ENCODER).split(".")
            if name.startswith(ENCODER) and parts[0] == "gcn" and int(parts[2]) >= first_apart:
                joined[name] = prediction[name]
            elif name.startswith(ENCODER):
                shared.append(name)
        flat = [torch.cat([task[name].flatten(1) for name in shared], 1) for task in (prediction, generation)]
        rule = SHARING[self.sharing]
        sizes = [prediction[name][0].numel() for name in shared]
        for name, gradient in zip(shared, rule(*flat).split(sizes, 1), strict=True):
            joined[name] = gradient.view_as(prediction[name])
        return joined

    def restore(
        self,
        training_set: TrainingSet,
        scale: LabelScale,
        weights: dict[str, Tensor],
    ) -> None:
        """Restore the fitted state of a saved predictor, without the first training, which the weights replace."""
        unlabelled, self.unlabelled = self.unlabelled, 0
        try:
            super().restore(training_set, scale, weights)
        finally:
            self.unlabelled = unlabelled


METHODS = {"hypernas-sharing": TaskSharing}
