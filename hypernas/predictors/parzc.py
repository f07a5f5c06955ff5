"""ParZC (Dong et al. 2025) learns from a few accuracies how much each node's zero-cost statistics matter.

One backward pass through an untrained network gives statistics of each of its layers. A mixer reads them in order, a
Bayesian last layer turns them into one score, and a differentiable Kendall tau is the loss.
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

from hypernas.canonical import mix, node_ids
from hypernas.fast.learned_networks import Networks, draw
from hypernas.fast.stacked_models import VmapPass
from hypernas.graph import GraphBatch
from hypernas.method.hypernas import AuxiliaryImages, TargetNetworkSize
from hypernas.method.target_network import Program
from hypernas.predictors.shared.generating import ImagePredictor
from hypernas.predictors.shared.ranking_losses import soft_kendall
from hypernas.training.loop import Logged
from hypernas.training.predictor import labels_at
from hypernas.training.settings import flat_keywords

# Architectures of a space that are looked at for the longest network: one that is longer still is cut.
SAMPLED = 200
# Architectures scored at a time, and untrained networks run at a time, so that memory is bounded.
SCORED_AT_ONCE = 4096
NETWORKS_AT_ONCE = 256
# Standard deviations: a statistic further out than any normal one says no more than that it is far out.
FAR = 5.0
# Norm of weights, norm of gradients, sum of their products.
N_STATISTICS = 3
# Logarithms are taken of no smaller number; a gradient of exactly 0 is usual.
LEAST = 1e-12


class MixerBlock(nn.Module):
    """A small network across the layers, then one across the features, each with a residual connection."""

    def __init__(
        self,
        length: int,
        width: int,
    ) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.along = nn.Linear(length, width)
        self.back = nn.Linear(width, length)
        self.wide = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)

    def forward(
        self,
        h: Tensor,
        mask: Tensor,
    ) -> Tensor:
        """h (B, L, D), mask (B, L, 1) -> (B, L, D)."""
        columns = (self.norms[0](h) * mask).transpose(1, 2)
        mixed = self.back(F.gelu(self.along(columns))).transpose(1, 2)
        # Absent layers stay zero, whatever the mixing writes there.
        h = h + mixed * mask
        inner = F.gelu(self.wide(self.norms[1](h)))
        return h + self.narrow(inner) * mask


class ParZCModel(nn.Module):
    """Standardised statistics (B, L, 3) -> score (B,). The weights of the last layer are drawn anew in every step."""

    center: Tensor
    scale: Tensor

    def __init__(
        self,
        length: int,
        width: int,
        n_blocks: int,
    ) -> None:
        super().__init__()
        self.length = length
        self.seed = 0
        self.embedding = nn.Linear(N_STATISTICS, width)
        self.blocks = nn.ModuleList(MixerBlock(length, width) for _ in range(n_blocks))
        self.mean = nn.Parameter(torch.randn(width) / width**0.5)
        # softplus(-4) = .018: at first the weights are almost certain.
        self.spread = nn.Parameter(torch.full((width,), -4.0))
        self.bias = nn.Parameter(torch.zeros(1))
        self.register_buffer("center", torch.zeros(N_STATISTICS))
        self.register_buffer("scale", torch.ones(N_STATISTICS))

    def learn_scale(self, statistics: Tensor) -> None:
        """Store the mean and deviation of the statistics (n, 3) of all layers in the training set."""
        self.center.copy_(statistics.mean(0))
        self.scale.copy_(statistics.std(0, correction=0))

    def standardise(self, statistics: Tensor) -> Tensor:
        """Standardise statistics as in the training set and clip them to five deviations from its mean."""
        # A statistic that never differs would be divided by 0.
        spread = self.scale.clamp(min=1e-6)
        return ((statistics - self.center) / spread).clamp(-FAR, FAR)

    def forward(
        self,
        statistics: Tensor,
        mask: Tensor,
        noise: Tensor,
    ) -> Tensor:
        """`noise` (D,) perturbs the last layer; zeros give its mean."""
        real = mask[..., None].to(statistics.dtype)
        h = self.embedding(statistics) * real
        for block in self.blocks:
            h = block(h, real)
        pooled = h.sum(1) / real.sum(1).clamp(min=1)
        weights = self.mean + F.softplus(self.spread) * noise
        return pooled @ weights + self.bias


class StatisticsPass(VmapPass):
    """S models, each with the statistics of its own architectures."""

    def divergence(self) -> Tensor:
        """Return the mean divergence (S,) of the weights of each last layer from a standard normal distribution."""
        mean = self.stack.parameters["mean"]
        spread = F.softplus(self.stack.parameters["spread"])
        divergence = 0.5 * (mean**2 + spread**2 - 1) - spread.log()
        return divergence.mean(1)


@lru_cache
def _longest(space: Any, size: TargetNetworkSize) -> int:
    """The most layers with weights among some random architectures of a space."""
    # Always the same sample, so that the model's length does not depend on who asks.
    rng = np.random.default_rng(0)
    lengths = []
    for _ in range(SAMPLED):
        architecture = space.canonical(space.sample(rng), "raw")
        program = space.build(architecture, size.channels, size.cells_per_stage, size.stem_stride)
        lengths.append(len(program.convs))
    return max(lengths)


@flat_keywords
@dataclass(kw_only=True, eq=False)
class ParZC(ImagePredictor):
    """A mixer over the statistics of the layers of untrained target networks, all computed on one batch of images.

    We wrote it from the description in its paper. Statistics are standardised as in the training set.

    NOTE[PAPER]: paper compares with ParZC without its settings; we take weight, gradient and their product as the
    statistics of a node, a mixer of two blocks, alpha = 1 and a weight of 0.001 for the divergence; because its
    description names node-wise proxies, a mixer with a Bayesian network and DiffKendall, and gives no sizes here.
    """

    width: int = 64
    n_blocks: int = 2
    alpha: float = 1.0
    divergence: float = 1e-3
    pictures: AuxiliaryImages = AuxiliaryImages(image_batch=64)

    def statistics(
        self,
        graphs: GraphBatch,
        length: int,
        seed: int,
    ) -> tuple[Tensor, Tensor]:
        """Return the statistics (B, length, 3) and mask (B, length) of B architectures; equal graphs are run only once.

        Images and weights are drawn from `seed`.
        """
        first, inverse = graphs.distinct()
        distinct, images = graphs[first], self.auxiliary
        drawn = np.random.default_rng(seed).permutation(len(images.train_labels))[: self.pictures.image_batch]
        batch = images.train_images[drawn], images.train_labels[drawn]
        values, mask = node_statistics(distinct, self.programs(distinct), *batch, images.n_classes, seed, length)
        return values[inverse], mask[inverse]

    def new_model(self, graphs: GraphBatch) -> ParZCModel:
        """Return an untrained model for the longest networks of the space.

        Raise UserError if the images are too small for the target network.
        """
        self.check_size(graphs)
        length = _longest(graphs.space, self.target)
        model = ParZCModel(length, self.width, self.n_blocks)
        # Models that train together have seeds of their own, which draw the statistics of each.
        model.seed = self.seed
        return model

    def new_pass(
        self,
        models: Sequence[ParZCModel],
        graphs: Sequence[GraphBatch],
    ) -> StatisticsPass:
        """Compute the statistics of each training set, and give each model their scale."""
        sets = []
        for model, batch in zip(models, graphs, strict=True):
            statistics, mask = self.statistics(batch, model.length, model.seed)
            model.learn_scale(statistics[mask])
            sets.append((model.standardise(statistics), mask))
        return StatisticsPass(models, sets, self.device)

    def inputs(
        self,
        run: StatisticsPass,
        index: Tensor,
        generators: list[np.random.Generator],
    ) -> tuple[Tensor, ...]:
        """Return architectures (S, b) and the noise of the Bayesian layer (S, W)."""
        noise = [generator.standard_normal(self.width, np.float32) for generator in generators]
        return index, torch.from_numpy(np.stack(noise))

    def loss_of(
        self,
        run: StatisticsPass,
        labels: Tensor,
        *inputs: Tensor,
    ) -> Logged:
        """Return 1 minus the soft Kendall tau of index (S, b), plus the weighted divergence of the last layer."""
        index, noise = inputs
        predicted = run(index, noise.to(self.device, torch.get_default_dtype()))
        label = labels_at(labels, index)
        loss = soft_kendall(predicted, label, self.alpha)
        total = loss + self.divergence * run.divergence()
        return total.sum(), {"loss_pred": loss.detach()}

    @torch.no_grad()
    def score(self, graphs: GraphBatch) -> Tensor:
        model: ParZCModel = self.model
        statistics, mask = self.statistics(graphs, model.length, self.seed)
        no_noise = torch.zeros(self.width)
        values = model.standardise(statistics).split(SCORED_AT_ONCE)
        masks = mask.split(SCORED_AT_ONCE)
        parts = zip(values, masks, strict=True)
        return torch.cat([model(*part, no_noise) for part in parts])


def node_statistics(
    graphs: GraphBatch,
    programs: Sequence[Program],
    images: Tensor,
    labels: Tensor,
    n_classes: int,
    seed: int,
    length: int,
) -> tuple[Tensor, Tensor]:
    """Return statistics (B, length, 3) and mask (B, length) of the layers of B architectures.

    They come from one batch of images (M, C, H, W). The statistics of a layer with weights are the decimal logarithms
    of |w|, |g| and the sum of |w g|, with w drawn from `seed` and g the gradient of the cross-entropy of all images.
    Isomorphic architectures get equal statistics: weights depend on what a node is and not on its number, layers are
    sorted, and values are rounded to six digits of float64. Layers beyond `length` are left out.
    """
    statistics = torch.zeros(len(graphs), length, N_STATISTICS)
    mask = torch.zeros(len(graphs), length, dtype=torch.bool)
    images, identities = images.double(), _identities(graphs)
    for start in range(0, len(graphs), NETWORKS_AT_ONCE):
        rows = range(start, min(start + NETWORKS_AT_ONCE, len(graphs)))
        names = [_names(programs[b], graphs.sequence[b].tolist(), identities[b]) for b in rows]
        networks = _statistics([programs[b] for b in rows], names, images, labels, n_classes, seed)
        for b, values in zip(rows, networks, strict=True):
            n = min(len(values), length)
            statistics[b, :n] = values[:n]
            mask[b, :n] = True
    return statistics, mask


def _identities(graphs: GraphBatch) -> np.ndarray:
    """A number (B, U, N) for each node, equal for the nodes that an isomorphism maps to each other."""
    b, u, n = graphs.mask.shape
    ops = graphs.ops.numpy().astype(np.uint64).reshape(b * u, n)
    adjacency = graphs.adjacency.numpy().reshape(b * u, n, n)
    mask = graphs.mask.numpy().reshape(b * u, n)
    return node_ids(ops, adjacency, mask).T.reshape(b, u, n)


def _names(
    program: Program,
    sequence: list[int],
    identities: np.ndarray,
) -> dict[int, tuple[int, int]]:
    """The layers with weights by index: position of the cell, and a number that says which node or edge of it."""
    names = {}
    for i, layer in enumerate(program.layers):
        if layer.weight is not None:
            position, *nodes = layer.weight
            # From a to b is another edge than from b to a.
            place = np.arange(1, len(nodes) + 1, dtype=np.uint64)
            ends = identities[sequence[position], nodes] * place
            mixed = mix(ends.sum(keepdims=True))
            # 63 bits, which Python and PyTorch take for a positive number.
            names[i] = position, int(mixed[0] >> np.uint64(1))
    return names


def _weights(
    program: Program,
    names: dict[int, tuple[int, int]],
    seed: int,
    c_image: int,
    n_classes: int,
) -> dict[Any, Tensor]:
    """The weights of a network, float64, those of a layer drawn from the seed and its name."""
    own = {}
    for i, (position, name) in names.items():
        # The position takes the bits that the shifted name leaves free.
        own[i] = seed ^ (name >> 8) ^ (position << 56)
    drawn = draw(program, seed, c_image, n_classes, own)
    return {key: weight.double() for key, weight in drawn.items()}


@torch.enable_grad()
def _statistics(
    programs: Sequence[Program],
    names: Sequence[dict[int, tuple[int, int]]],
    images: Tensor,
    labels: Tensor,
    n_classes: int,
    seed: int,
) -> list[Tensor]:
    """The statistics (L, 3) of each network, its layers by position and name."""
    c_image = images.shape[1]
    pairs = zip(programs, names, strict=True)
    weights = [_weights(program, layers, seed, c_image, n_classes) for program, layers in pairs]
    networks = Networks(programs, [seed] * len(programs), c_image, n_classes, drawn=weights)
    logits = networks.logits(images.expand(len(programs), *images.shape))
    every_label = labels.repeat(len(programs))
    # The mean over images, summed over networks, so that each has the gradient of its own mean.
    loss = F.cross_entropy(logits.flatten(0, 1), every_label, reduction="sum") / len(labels)
    gradients = torch.autograd.grad(loss, networks.kernels, materialize_grads=True)
    values: list[dict[int, Tensor]] = [{} for _ in programs]
    kernels = zip(networks.weight_owners, networks.kernels, gradients, strict=True)
    for owners, weight, gradient in kernels:
        w = weight.detach().flatten(1)
        g = gradient.flatten(1)
        product = (w * g).abs().sum(1)
        three = torch.stack([w.norm(dim=1), g.norm(dim=1), product], 1)
        logarithms = three.clamp(min=LEAST).log10()
        for (p, i), row in zip(owners, logarithms, strict=True):
            values[p][i] = row
    return [_in_order(layers, name) for layers, name in zip(values, names, strict=True)]


def _in_order(values: dict[int, Tensor], names: dict[int, tuple[int, int]]) -> Tensor:
    """The statistics (L, 3) of one network's layers, in the order of their names."""
    if not values:
        return torch.zeros(0, N_STATISTICS)
    order = sorted(values, key=lambda i: names[i])
    # Six digits, so that sums taken in another order do not tell isomorphic networks apart.
    return torch.stack([values[i] for i in order]).round(decimals=6)


METHODS = {"parzc": ParZC}
