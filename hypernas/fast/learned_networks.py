"""Target networks with their own learned weights, many trained side by side.

The oracle is `method.target_network.run` with the weights of one network, trained alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hypernas.fast import batched_layers as layers
from hypernas.fast import batched_target_networks as batched
from hypernas.fast.static_plan import StaticPlan
from hypernas.method.target_network import Program
from hypernas.training.loop import Schedule, train


class Networks:
    """P networks whose stems and classifiers have equal shapes.

    The weights of network p come from `seeds[p]` or `drawn`. No gradient passes between them, so each ends where it
    would alone, up to the order of sums. Batch normalisation uses the statistics of the batch and learns no scale.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        seeds: Sequence[int],
        c_image: int,
        n_classes: int,
        drawn: Sequence[Mapping[Any, Tensor]] = (),
    ) -> None:
        self.programs = programs
        self.seeds = seeds
        # All layers of all networks in one plan, as for generated weights.
        static_plan = StaticPlan.of(programs)
        self.plan = static_plan.plan
        self.weight_owners = static_plan.weight_owners()
        if not drawn:
            pairs = zip(programs, seeds, strict=True)
            drawn = [draw(program, seed, c_image, n_classes) for program, seed in pairs]
        # Stem and classifier have one shape in all networks; kernels are stacked group by group, as the plan runs them.
        self.ends: dict[str, Tensor] = {}
        for name in ("stem", "classifier", "bias"):
            rows = [weights[name] for weights in drawn]
            self.ends[name] = torch.stack(rows).requires_grad_()
        self.kernels = []
        for owners in self.weight_owners:
            rows = [drawn[network][layer] for network, layer in owners]
            self.kernels.append(torch.stack(rows).requires_grad_())

    def logits(self, images: Tensor) -> Tensor:
        """images (P, M, C, H, W), a batch for each network -> logits (P, M, K)."""
        first = self.programs[0]
        stems = layers.stem(self.ends["stem"], images[:, None], first.stem_stride)
        maps = batched.run_batched(self.plan, self.kernels, stems)
        logits = layers.classify(self.ends["classifier"], self.ends["bias"], maps, first.norm_last)
        return logits[:, 0]

    def fit(
        self,
        images: Tensor,
        labels: Tensor,
        schedule: Schedule,
    ) -> list[float]:
        """Train on images (M, C, H, W), labels (M,). Return each network's mean cross-entropy in the last epoch.

        A network's seed fixes the order in which it sees the images.
        """

        def loss(index: Tensor, _: Any) -> tuple[Tensor, dict[str, Tensor]]:
            logits = self.logits(images[index])
            targets = labels[index].flatten()
            values = F.cross_entropy(logits.flatten(0, 1), targets, reduction="none")
            # The mean of each network; in their sum no gradient passes from one to another.
            values = values.view(index.shape).mean(1)
            return values.sum(), {"loss": values.detach()}

        history = train([*self.ends.values(), *self.kernels], loss, len(images), schedule, self.seeds)
        return history[-1]["loss"]

    @torch.no_grad()
    def accuracies(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return each network's accuracy (P,) in percent on the images (M, C, H, W), all in one batch."""
        same_for_all = images.expand(len(self.programs), *images.shape)
        answers = self.logits(same_for_all).argmax(-1)
        right = (answers == labels).double()
        return right.mean(1) * 100


def draw(
    program: Program,
    seed: int,
    c_image: int,
    n_classes: int,
    own: Mapping[int, int] | None = None,
) -> dict[Any, Tensor]:
    """Return weights by He initialisation, by layer index; they do not depend on what else is trained.

    One generator draws them all, except for layers that have a seed of their `own`.
    """
    generator = torch.Generator().manual_seed(seed)
    seeds = own or {}
    shapes: dict[Any, tuple[int, ...]] = {"stem": (program.channels, c_image, 3, 3)}
    for i, layer in enumerate(program.layers):
        if layer.weight is not None:
            shapes[i] = layer.weight_shape
    shapes["classifier"] = (n_classes, program.c_last)
    drawn = {}
    for key, shape in shapes.items():
        source = generator
        if key in seeds:
            source = torch.Generator().manual_seed(seeds[key])
        # Half of what a layer makes is lost to the ReLU behind it; behind the classifier there is none.
        gain = 1.0 if key == "classifier" else 2.0
        fan_in = math.prod(shape[1:])
        drawn[key] = torch.randn(shape, generator=source) * (gain / fan_in) ** 0.5
    drawn["bias"] = torch.zeros(n_classes)
    return drawn
