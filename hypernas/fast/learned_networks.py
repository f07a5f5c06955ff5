"""Target networks with learned weights of their own, many trained side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hypernas.fast import batched_layers as layers
from hypernas.fast import batched_target_networks as batched
from hypernas.fast.static_plan import StaticPlan
from hypernas.method.target_network import Program
from hypernas.training.loop import Schedule, train


class Networks:
    """P networks of equal stem and classifier shape; the weights of network p are `draw`n from `seeds[p]`, or `drawn`.

    No gradient passes between them, so each ends where it would alone, but for the order of sums. Batch normalisation
    takes the batch's statistics and learns no scale.
    """

    def __init__(
        self, programs: Sequence[Program], seeds: Sequence[int], c_image: int, n_classes: int,
        drawn: Sequence[Mapping[Any, Tensor]] = (),
    ) -> None:  # fmt: skip
        self.programs, self.seeds, static_plan = programs, seeds, StaticPlan.of(programs)
        self.plan, self.weight_owners = static_plan.plan, static_plan.weight_owners()
        drawn = drawn or [
            draw(program, seed, c_image, n_classes) for program, seed in zip(programs, seeds, strict=True)
        ]

        def stack(part: Sequence[tuple[int, Any]]) -> Tensor:
            return torch.stack([drawn[p][key] for p, key in part]).requires_grad_()

        everyone = range(len(programs))
        self.ends = {name: stack([(p, name) for p in everyone]) for name in ("stem", "classifier", "bias")}
        self.kernels = [stack(each) for each in self.weight_owners]

    def logits(self, images: Tensor) -> Tensor:
        """images (P, M, C, H, W), a batch a network -> (P, M, K)."""
        first = self.programs[0]
        stems = layers.stem(self.ends["stem"], images[:, None], first.stem_stride)
        maps = batched.run_batched(self.plan, self.kernels, stems)
        return layers.classify(self.ends["classifier"], self.ends["bias"], maps, first.norm_last)[:, 0]

    def fit(self, images: Tensor, labels: Tensor, schedule: Schedule) -> None:
        """Train on images (M, C, H, W), labels (M,); the seed of a network fixes the order in which it sees them."""

        def loss(index: Tensor, _: Any) -> tuple[Tensor, dict[str, Tensor]]:
            logits = self.logits(images[index])
            values = F.cross_entropy(logits.flatten(0, 1), labels[index].flatten(), reduction="none")
            values = values.view(index.shape).mean(1)
            return values.sum(), {"loss": values.detach()}

        train([*self.ends.values(), *self.kernels], loss, len(images), schedule, self.seeds)

    @torch.no_grad()
    def accuracies(self, images: Tensor, labels: Tensor) -> Tensor:
        """Percent (P,) of the images (M, C, H, W) that each network names right, all in one batch."""
        answers = self.logits(images.expand(len(self.programs), *images.shape)).argmax(-1)
        return (answers == labels).double().mean(1) * 100


def draw(
    program: Program, seed: int, c_image: int, n_classes: int, own: Mapping[int, int] | None = None
) -> dict[Any, Tensor]:
    """He initialisation, the same whatever is trained beside it; a layer's weights are found by its index.

    One generator draws them all, but for layers that have a seed of their `own`.
    """
    generator, seeds = torch.Generator().manual_seed(seed), own or {}
    shapes: dict[Any, tuple[int, ...]] = {"stem": (program.channels, c_image, 3, 3)}
    shapes |= {i: layer.weight_shape for i, layer in enumerate(program.layers) if layer.weight is not None}
    shapes["classifier"] = (n_classes, program.c_last)
    gain = {"classifier": 1.0}
    drawn = {}
    for key, shape in shapes.items():
        source = torch.Generator().manual_seed(seeds[key]) if key in seeds else generator
        drawn[key] = torch.randn(shape, generator=source) * (gain.get(key, 2.0) / float(np.prod(shape[1:]))) ** 0.5
    return drawn | {"bias": torch.zeros(n_classes)}
