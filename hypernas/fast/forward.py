"""Prediction and weight generation of S models in one pass: the fast twin of `HyperNASModel.forward`."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hypernas.fast import batched_layers as layers
from hypernas.fast import batched_target_networks as batched
from hypernas.fast.encoder import encoder_pass
from hypernas.fast.heads import HeadOutputs, head_of, own_kernel
from hypernas.fast.plan import Plan, Sources
from hypernas.fast.program_table import ProgramTable
from hypernas.fast.stacked_models import StackedModels, below, regress, rows_by_model
from hypernas.fast.static_plan import StaticPlan
from hypernas.graph import GraphBatch
from hypernas.method.loss import AdaptiveLoss
from hypernas.method.target_network import Program


class FastPass:
    """S models of equal shape, each on its own architectures: encoder, regressor, and with `programs` the networks.

    `prefix` is where encoder and regressor sit in the model. Weights can be generated where the model has a
    `hypernetwork` and a `head`; target networks run in `maps_in`, the precision of the images if None.
    """

    def __init__(
        self,
        models: Sequence[Any],
        graphs: Sequence[GraphBatch],
        programs: Sequence[Sequence[Program]] | None = None,
        prefix: str = "",
        device: str = "cpu",
        maps_in: torch.dtype | None = None,
    ) -> None:
        predictor = models[0].get_submodule(prefix) if prefix else models[0]
        self.prefix = f"{prefix}." if prefix else ""
        self.model, self.programs, self.device = models[0], programs, device
        self.maps_in = maps_in
        self.static_plan: StaticPlan | None = None
        self.static_plans: dict[Hashable, StaticPlan] = {}
        self.stack = StackedModels(models, device)
        self.encoders = encoder_pass(predictor.encoder, graphs, device, predictor.encoder.embedding.weight.dtype)
        self._losses([model.loss for model in models if getattr(model, "loss", None) is not None])
        self.trained = list(self.stack.parameters.values())

    def _losses(self, losses: Sequence[AdaptiveLoss]) -> None:
        """What the losses of the models have of their own: exponents, and whether u is learned."""
        powers, learned = [loss.p for loss in losses], [loss.u.requires_grad for loss in losses]
        self.learns_u: Tensor | None = None
        if any(learned) and not all(learned):
            self.learns_u = torch.tensor(learned, device=self.device)[:, None]
            self.stack.parameters["loss.u"].requires_grad_(True)
        self.power: float | Tensor = powers[0] if powers else 1.0
        if len({*powers}) > 1:
            self.power = torch.tensor(powers, device=self.device, dtype=self.u.dtype)[:, None]

    @property
    def u(self) -> Tensor:
        """The loss's u (S, T); of a model that does not learn it, without a gradient."""
        u = self.stack.parameters["loss.u"]
        return u if self.learns_u is None else torch.where(self.learns_u, u, u.detach())

    @property
    def recordable(self) -> bool:
        """Whether a GPU can record the work of a step."""
        return self.encoders.recordable

    def reserve(self, steps: Iterable[Tensor], image: Sequence[int], each_apart: bool) -> None:
        """Make a static plan for steps (S, b) on images (..., H, W): one for all of a size, or one for each."""
        assert self.programs is not None
        kinds: dict[Hashable, dict[bytes, np.ndarray]] = {}
        for step in steps:
            index = step.numpy()
            kinds.setdefault(self.kind(step, each_apart), {})[index.tobytes()] = index
        table, side = ProgramTable.of([program for of_one in self.programs for program in of_one]), self.side(image)
        self.static_plans = {
            kind: StaticPlan(table, [*some.values()], side, self.device) for kind, some in kinds.items()
        }

    @staticmethod
    def kind(index: Tensor, each_apart: bool) -> Hashable:
        """What the steps index (S, b) of one static_plan share: their size, or all."""
        return index.numpy().tobytes() if each_apart else index.shape[1]

    def write_back(self) -> None:
        """Copy what was trained into the models."""
        self.stack.write_back()

    def __call__(self, index: Tensor, images: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """index (S, b), images (S, b, M, C, H, W) -> standardised accuracy (S, b), logits (S, b, M, K)."""
        h, nodes = self.encode(index, want_nodes=images is not None)
        predicted = regress(self.stack.parameters, h, f"{self.prefix}regressor.")
        return predicted, None if images is None else self.logits(nodes, index, images)

    def networks(self, index: Tensor, images: Tensor) -> Tensor:
        """index (S, b), images (S, b, M, C, H, W) -> logits (S, b, M, K) alone; no regressor is needed."""
        return self.logits(self.encode(index, want_nodes=True)[1], index, images)

    def encode(self, index: Tensor, want_nodes: bool) -> tuple[Tensor, Tensor | None]:
        """index (S, b) -> h (S, b, D), nodes (S, C, b, N, D)."""
        return self.encoders(below(self.stack.parameters, f"{self.prefix}encoder."), index, want_nodes)

    def logits(self, nodes: Tensor, index: Tensor, images: Tensor) -> Tensor:
        """Node features (S, C, b, N, D) -> logits (S, b, M, K) of the networks whose weights they make."""
        static_plan = self.plan_of(index, images)
        return self.outputs(static_plan, self.weights(static_plan, nodes), images)

    def plan_of(self, index: Tensor, images: Tensor) -> StaticPlan:
        """How the networks of architectures index (S, b) run side by side on images (..., H, W)."""
        assert self.programs is not None
        if self.static_plan is not None:
            return self.static_plan
        chosen = [self.programs[s][i] for s, row in enumerate(index.tolist()) for i in row]
        return StaticPlan.of(chosen, len(index), self.side(images.shape), self.device)

    def side(self, images: Sequence[int]) -> int:
        """The larger side of the stem's maps of images (..., H, W)."""
        return -(-max(images[-2:]) // self.model.head.stem_stride)

    def weights(self, static_plan: StaticPlan, nodes: Tensor) -> list[Tensor]:
        """Node features (S, C, b, N, D) -> the weights of each group of a static plan."""
        return generate(
            self.stack.parameters, static_plan.plan, static_plan.sources, nodes, self.model.hypernetwork.limits
        )

    def outputs(self, static_plan: StaticPlan, weights: list[Tensor], images: Tensor) -> Tensor:
        """Images (S, b, M, C, H, W) -> logits (S, b, M, K) of networks with these weights."""
        assert self.programs is not None
        parameters = self.stack.parameters
        stems = layers.stem(parameters["head.stem_weight"], images, self.model.head.stem_stride)
        if self.maps_in is not None:
            stems, weights = stems.to(self.maps_in), [weight.to(self.maps_in) for weight in weights]
        maps = batched.run_batched(static_plan.plan, weights, stems).to(images.dtype)
        weight, bias = parameters["head.classifier.weight"], parameters["head.classifier.bias"]
        return layers.classify(weight, bias, maps, self.programs[0][0].norm_last)


def generate(parameters: dict[str, Tensor], plan: Plan, sources: Sources, nodes: Tensor, limits: dict) -> list[Tensor]:
    """The weights (n, c_out, c_in, k, k) of each group of a plan, as it runs, from node features (S, C, b, N, D).

    The trunk and each head run once, a head for the taps that are used.
    """
    features = _node_features(nodes, sources)
    trunk = sorted({name.split(".")[2] for name in parameters if name.startswith("hypernetwork.trunk.")}, key=int)
    for i in trunk:
        weight, bias = parameters[f"hypernetwork.trunk.{i}.weight"], parameters[f"hypernetwork.trunk.{i}.bias"]
        features = F.relu(torch.baddbmm(bias[:, None], features, weight.transpose(1, 2)))
    parts = features.split([place.shape[1] for place in sources.places], 1)
    weights: list[Tensor] = [features] * len(plan.groups)
    kernels = [own_kernel(limits, group.layer.kernel) for group in plan.groups]
    for kernel in sorted({*kernels}):
        chosen = [i for i, own in enumerate(kernels) if own == kernel]
        shapes = tuple(plan.groups[i].layer.weight_shape for i in chosen)
        taps = tuple(plan.groups[i].runs.kernel for i in chosen)
        head = head_of(parameters, limits, kernel, "hypernetwork.heads.")
        made = HeadOutputs.apply(*head, shapes, taps, *(parts[i] for i in chosen))
        for group, all_seeds in zip(chosen, made, strict=True):
            weights[group] = all_seeds.flatten(0, 1).index_select(0, sources.order[group].to(nodes.device))
    return weights


def _node_features(nodes: Tensor, sources: Sources) -> Tensor:
    """nodes (S, C, b, N, D) -> (S, G, D) for the weights of all groups: a node's features, or the mean of an edge's."""
    _, _, b, n, _ = nodes.shape
    architecture, position, node, other = torch.cat(sources.places, 1).unbind(-1)
    rows, first = nodes.flatten(1, 3), (position * b + architecture) * n
    features = rows_by_model(rows, first + node)
    return (features + rows_by_model(rows, first + other)) / 2 if sources.edges else features
