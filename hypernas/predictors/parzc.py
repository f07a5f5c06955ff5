"""ParZC (Dong et al. 2025): learn from a few accuracies how much each node's zero-cost statistics matter.

One pass backward through an untrained network gives statistics of each of its layers. A mixer reads them in order, a
Bayesian last layer makes one score of them, and a differentiable Kendall tau is the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hypernas.fast.mapped import MappedPass
from hypernas.graph import GraphBatch
from hypernas.method.loss import soft_kendall
from hypernas.method.sizes import map_sizes
from hypernas.predictors.shared.generating import ImagePredictor
from hypernas.predictors.shared.node_statistics import N_STATISTICS, node_statistics
from hypernas.training.loop import Logged

SAMPLED, CHUNK = 200, 4096
FAR = 5.0


class MixerBlock(nn.Module):
    """A small network along the layers, then one along the features, each added to what it reads."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.along, self.back = nn.Linear(length, width), nn.Linear(width, length)
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, h: Tensor, mask: Tensor) -> Tensor:
        """h (B, L, D), mask (B, L, 1) -> (B, L, D)."""
        mixed = self.back(F.gelu(self.along((self.norms[0](h) * mask).transpose(1, 2)))).transpose(1, 2)
        h = h + mixed * mask
        return h + self.narrow(F.gelu(self.wide(self.norms[1](h)))) * mask


class ParZCModel(nn.Module):
    """Standardised statistics (B, L, 3) -> score (B,); the last layer's weights are drawn anew in every step."""

    center: Tensor
    scale: Tensor
    training_set: tuple[Tensor, Tensor]

    def __init__(self, length: int, width: int, n_blocks: int) -> None:
        super().__init__()
        self.length = length
        self.embedding = nn.Linear(N_STATISTICS, width)
        self.blocks = nn.ModuleList(MixerBlock(length, width) for _ in range(n_blocks))
        self.mean = nn.Parameter(torch.randn(width) / width**0.5)
        self.spread, self.bias = nn.Parameter(torch.full((width,), -4.0)), nn.Parameter(torch.zeros(1))

    def standardise(self, statistics: Tensor) -> Tensor:
        """Statistics as in the training set, none further from its mean than five deviations."""
        return ((statistics - self.center) / self.scale.clamp(min=1e-6)).clamp(-FAR, FAR)

    def forward(self, statistics: Tensor, mask: Tensor, noise: Tensor) -> Tensor:
        """noise (D,) of the last layer, zeros for its mean."""
        real = mask[..., None].to(statistics.dtype)
        h = self.embedding(statistics) * real
        for block in self.blocks:
            h = block(h, real)
        pooled = h.sum(1) / real.sum(1).clamp(min=1)
        return pooled @ (self.mean + F.softplus(self.spread) * noise) + self.bias


class StatisticsPass(MappedPass):
    """S models, each on the statistics of its own architectures."""

    def divergence(self) -> Tensor:
        """Of each last layer's weights from a standard normal distribution, (S,), a mean over them."""
        mean, spread = self.stack.parameters["mean"], F.softplus(self.stack.parameters["spread"])
        return (0.5 * (mean**2 + spread**2 - 1) - spread.log()).mean(1)


@lru_cache
def _longest(space: Any, size: tuple[tuple[str, int], ...]) -> int:
    """The most layers with weights among some random architectures of a space."""
    rng = np.random.default_rng(0)
    drawn = (space.canonical(space.sample(rng), "raw") for _ in range(SAMPLED))
    return max(len(space.build(architecture, **dict(size)).convs) for architecture in drawn)


@dataclass(kw_only=True, eq=False)
class ParZC(ImagePredictor):
    """A mixer over the statistics of the layers of untrained target networks, all on one batch of images.

    Written from the paper's description. Statistics are standardised as in the training set.

    NOTE[PAPER]: paper compares with ParZC without its settings; we take weight, gradient and their product as the
    statistics of a node, a mixer of two blocks, alpha = 1 and a weight of 0.001 for the divergence; because its
    description names node-wise proxies, a mixer with a Bayesian network and DiffKendall, and gives no sizes here.
    """

    width: int = 64
    n_blocks: int = 2
    alpha: float = 1.0
    divergence: float = 1e-3
    image_batch: int = 64

    def statistics(self, graphs: GraphBatch, length: int) -> tuple[Tensor, Tensor]:
        """Of B architectures (B, length, 3), mask (B, length); equal graphs are run once."""
        first, inverse = graphs.distinct()
        some, images = graphs[first], self.auxiliary
        chosen = np.random.default_rng(self.seed).permutation(len(images.train_labels))[: self.image_batch]
        batch = images.train_images[chosen], images.train_labels[chosen]
        found = node_statistics(some, self.programs(some), *batch, images.n_classes, self.seed, length)
        return found[0][inverse], found[1][inverse]

    def new_model(self, graphs: GraphBatch) -> ParZCModel:
        """A model that knows its training set's statistics, and their means and deviations.

        Raises UserError where the images are too small for the target network.
        """
        (program,) = self.programs(graphs[:1])
        map_sizes(program, *self.auxiliary.train_images.shape[2:])
        length = _longest(graphs.space, tuple(self.target_size.items()))
        model = ParZCModel(length, self.width, self.n_blocks)
        statistics, mask = self.statistics(graphs, length)
        model.center, model.scale = statistics[mask].mean(0), statistics[mask].std(0, correction=0)
        model.training_set = model.standardise(statistics), mask
        return model

    def new_pass(self, models: Sequence[ParZCModel], graphs: Sequence[GraphBatch]) -> StatisticsPass:
        return StatisticsPass(models, [model.training_set for model in models], self.device)

    def inputs(self, run: StatisticsPass, index: Tensor, generators: list[np.random.Generator]) -> tuple[Tensor, ...]:
        """Architectures (S, b), the noise of the Bayesian layer (S, W)."""
        return index, torch.from_numpy(np.stack([g.standard_normal(self.width, np.float32) for g in generators]))

    def loss_of(self, run: StatisticsPass, labels: Tensor, *inputs: Tensor) -> Logged:
        """1 less the soft Kendall tau of index (S, b), and the divergence of the last layer."""
        index, noise = inputs
        predicted = run(index, noise.to(self.device, torch.get_default_dtype()))
        loss = soft_kendall(predicted, labels.gather(1, index.to(labels.device)), self.alpha)
        return (loss + self.divergence * run.divergence()).sum(), {"loss_pred": loss.detach()}

    @torch.no_grad()
    def score(self, graphs: GraphBatch) -> Tensor:
        model: ParZCModel = self.model
        statistics, mask = self.statistics(graphs, model.length)
        still = torch.zeros(self.width)
        parts = zip(model.standardise(statistics).split(CHUNK), mask.split(CHUNK), strict=True)
        return torch.cat([model(*part, still) for part in parts])


METHODS = {"parzc": ParZC}
