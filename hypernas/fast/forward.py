"""Prediction and weight generation of S models in one pass; the oracle is `method.hypernas.HyperNASModel.forward`."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hypernas.fast import batched_layers as layers
from hypernas.fast import batched_target_networks as batched
from hypernas.fast.encoder import encoder_pass
from hypernas.fast.heads import HeadOutputs, Limit, own_kernel
from hypernas.fast.plan import Plan, Sources
from hypernas.fast.program_table import ProgramTable
from hypernas.fast.stacked_models import StackedModels, below, linear, regress, rows_by_model
from hypernas.fast.static_plan import StaticPlan
from hypernas.graph import GraphBatch
from hypernas.method.loss import AdaptiveLoss
from hypernas.method.target_network import Program


class FastPass:
    """S models of equal shape, each on its own architectures: encoder, regressor and, with `programs`, the networks.

    `prefix` is the place of encoder and regressor in the model. Weights can be generated if the model has a
    `hypernetwork` and a `head`. Target networks run in the precision `maps_in`, or that of the images if None.
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
        self.model = models[0]
        self.programs = programs
        self.device = device
        self.maps_in = maps_in
        # On a GPU the plan at hand, and all plans by the kind of step; on a CPU each step makes its own.
        self.static_plan: StaticPlan | None = None
        self.static_plans: dict[Hashable, StaticPlan] = {}
        self.stack = StackedModels(models, device)
        dtype = predictor.encoder.embedding.weight.dtype
        self.encoders = encoder_pass(predictor.encoder, graphs, device, dtype)
        losses = [getattr(model, "loss", None) for model in models]
        self._losses([loss for loss in losses if loss is not None])
        self.trained = list(self.stack.parameters.values())

    def _losses(self, losses: Sequence[AdaptiveLoss]) -> None:
        """What the losses of the models have of their own: exponents, and whether u is learned."""
        # Models that train side by side may differ in q, and in whether u is learned.
        powers = [loss.p for loss in losses]
        learned = [loss.u.requires_grad for loss in losses]
        self.learns_u: Tensor | None = None
        # Where only some models learn it, the stack does, and `u` hides it from the others.
        if any(learned) and not all(learned):
            self.learns_u = torch.tensor(learned, device=self.device)[:, None]
            self.stack.parameters["loss.u"].requires_grad_(True)
        self.power: float | Tensor = powers[0] if powers else 1.0
        if len(set(powers)) > 1:
            self.power = torch.tensor(powers, device=self.device, dtype=self.u.dtype)[:, None]

    @property
    def u(self) -> Tensor:
        """The loss's u (S, T), without a gradient if the model does not learn it."""
        # Detached where a model keeps u fixed: its row gets no gradient and stays at 1.
        u = self.stack.parameters["loss.u"]
        return u if self.learns_u is None else torch.where(self.learns_u, u, u.detach())

    @property
    def recordable(self) -> bool:
        """Whether a GPU can record the work of a step."""
        return self.encoders.recordable

    def reserve(
        self,
        steps: Iterable[Tensor],
        image: Sequence[int],
        each_apart: bool,
    ) -> None:
        """Make a static plan for steps (S, b) on images (..., H, W): one for all steps of a size, or one for each."""
        assert self.programs is not None
        kinds: dict[Hashable, dict[bytes, np.ndarray]] = {}
        for step in steps:
            index = step.numpy()
            # The bytes of a step tell equal ones apart from others.
            of_kind = kinds.setdefault(self.kind(step, each_apart), {})
            # Equal steps need room once.
            of_kind[index.tobytes()] = index
        table = ProgramTable.of(list(chain.from_iterable(self.programs)))
        side = self.side(image)
        self.static_plans = {}
        for kind, different in kinds.items():
            self.static_plans[kind] = StaticPlan(table, list(different.values()), side, self.device)

    @staticmethod
    def kind(index: Tensor, each_apart: bool) -> Hashable:
        """Return what the steps index (S, b) that share a static plan have in common: their size, or everything."""
        return index.numpy().tobytes() if each_apart else index.shape[1]

    def write_back(self) -> None:
        """Copy the trained parameters into the models."""
        self.stack.write_back()

    def __call__(self, index: Tensor, images: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """index (S, b), images (S, b, M, C, H, W) -> standardised accuracy (S, b), logits (S, b, M, K)."""
        h, nodes = self.encode(index, want_nodes=images is not None)
        predicted = regress(self.stack.parameters, h, f"{self.prefix}regressor.")
        if images is None:
            return predicted, None
        assert nodes is not None
        return predicted, self.logits(nodes, index, images)

    def networks(self, index: Tensor, images: Tensor) -> Tensor:
        """index (S, b), images (S, b, M, C, H, W) -> logits (S, b, M, K) alone, without a regressor."""
        _, nodes = self.encode(index, want_nodes=True)
        assert nodes is not None
        return self.logits(nodes, index, images)

    def encode(self, index: Tensor, want_nodes: bool) -> tuple[Tensor, Tensor | None]:
        """index (S, b) -> h (S, b, D), nodes (S, C, b, N, D)."""
        parameters = below(self.stack.parameters, f"{self.prefix}encoder.")
        return self.encoders(parameters, index, want_nodes)

    def logits(
        self,
        nodes: Tensor,
        index: Tensor,
        images: Tensor,
    ) -> Tensor:
        """Node features (S, C, b, N, D) -> logits (S, b, M, K) of the networks whose weights they generate."""
        static_plan = self.plan_of(index, images)
        weights = self.weights(static_plan, nodes)
        return self.outputs(static_plan, weights, images)

    def plan_of(self, index: Tensor, images: Tensor) -> StaticPlan:
        """Return the plan for running the networks of architectures index (S, b) side by side on images (..., H, W)."""
        assert self.programs is not None
        if self.static_plan is not None:
            return self.static_plan
        programs: list[Program] = []
        for of_seed, row in zip(self.programs, index.tolist(), strict=True):
            programs += [of_seed[i] for i in row]
        return StaticPlan.of(programs, len(index), self.side(images.shape), self.device)

    def side(self, images: Sequence[int]) -> int:
        """Return the larger side of the stem's maps for images (..., H, W)."""
        # Taps of a kernel that never meet a pixel are left out, and the larger side decides which those are.
        largest = max(images[-2:])
        return -(-largest // self.model.head.stem_stride)

    def weights(self, static_plan: StaticPlan, nodes: Tensor) -> list[Tensor]:
        """Return the weights of each group of a static plan, generated from node features (S, C, b, N, D)."""
        limits = self.model.hypernetwork.limits
        return generate(self.stack.parameters, static_plan.plan, static_plan.sources, nodes, limits)

    def outputs(
        self,
        static_plan: StaticPlan,
        weights: list[Tensor],
        images: Tensor,
    ) -> Tensor:
        """Images (S, b, M, C, H, W) -> logits (S, b, M, K) of networks with these weights."""
        assert self.programs is not None
        parameters = self.stack.parameters
        stems = layers.stem(parameters["head.stem_weight"], images, self.model.head.stem_stride)
        if self.maps_in is not None:
            # In bfloat16 only the maps and the generated weights are: stem, classifier and losses stay exact.
            stems = stems.to(self.maps_in)
            weights = [weight.to(self.maps_in) for weight in weights]
        maps = batched.run_batched(static_plan.plan, weights, stems)
        maps = maps.to(images.dtype)
        weight = parameters["head.classifier.weight"]
        bias = parameters["head.classifier.bias"]
        return layers.classify(weight, bias, maps, self.programs[0][0].norm_last)


def generate(
    parameters: dict[str, Tensor],
    plan: Plan,
    sources: Sources,
    nodes: Tensor,
    limits: dict[int, Limit],
) -> list[Tensor]:
    """Return the weights (n, c_out, c_in, k, k) of each group of a plan as it runs, from node features (S, C, b, N, D).

    The trunk and each head run once, and a head computes only the taps that are used.
    """
    features = _node_features(nodes, sources)
    trunk = below(parameters, "hypernetwork.trunk.")
    for i in sorted({name.split(".")[0] for name in trunk}, key=int):
        features = F.relu(linear(trunk, i, features))
    # All groups go through the trunk together and part before the heads.
    sizes = [place.shape[1] for place in sources.places]
    parts = features.split(sizes, 1)
    weights: list[Tensor] = [features] * len(plan.groups)
    kernels = [own_kernel(limits, group.layer.kernel) for group in plan.groups]
    for kernel in sorted(set(kernels)):
        groups = [i for i, own in enumerate(kernels) if own == kernel]
        shapes = tuple(plan.groups[i].layer.weight_shape for i in groups)
        taps = tuple(plan.groups[i].runs.kernel for i in groups)
        inputs = [parts[i] for i in groups]
        head = below(parameters, f"hypernetwork.heads.{kernel}.")
        made = HeadOutputs.apply(head["weight"], head["bias"], limits[kernel], shapes, taps, *inputs)
        for group, by_seed in zip(groups, made, strict=True):
            # Made seed by seed, wanted in the order in which the plan runs them.
            order = sources.order[group].to(nodes.device)
            weights[group] = by_seed.flatten(0, 1).index_select(0, order)
    return weights


def _node_features(nodes: Tensor, sources: Sources) -> Tensor:
    """nodes (S, C, b, N, D) -> (S, G, D) for the weights of all groups: a node's features, or the mean of an edge's."""
    _, _, b, n, _ = nodes.shape
    architecture, position, node, other = torch.cat(sources.places, 1).unbind(-1)
    rows = nodes.flatten(1, 3)
    # The row of node 0 of a cell in the table of all nodes.
    first = (position * b + architecture) * n
    features = rows_by_model(rows, first + node)
    if not sources.edges:
        return features
    return (features + rows_by_model(rows, first + other)) / 2
