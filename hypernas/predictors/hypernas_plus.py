"""HyperNAS+: Gaussian processes on features of the graph beside a ranking ensemble of the paper's global encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from scipy.stats import norm, rankdata
from torch import Tensor, nn

from hypernas.graph import GraphBatch
from hypernas.method.encoder import propagation
from hypernas.predictors.shared.graph_kernel_features import (
    CellSequence,
    GraphKernelFeatures,
    Groups,
    features_of,
)
from hypernas.training.labels import LabelScale
from hypernas.training.loop import Logged, Schedule, train
from hypernas.training.predictor import Architectures, FittedPredictor, labels_of

CHUNK = 2_000  # architectures scored at a time
MOST_FOR_EVIDENCE = 800  # labels that choose the length scales; a Cholesky factor of more takes seconds a step
JITTER = 1e-6
GCN_FEATURES = 20  # principal components of each family of random networks that the GCNs read


def gaussian_ranks(labels: np.ndarray) -> np.ndarray:
    """Labels (n,) -> the quantiles of a Gaussian at their ranks; equal labels stay equal.

    >>> gaussian_ranks(np.array([3.0, 90.0, 91.0])).round(2).tolist()
    [-0.97, 0.0, 0.97]
    """
    return norm.ppf((rankdata(labels) - 0.5) / len(labels))


def matern32(squared: Any) -> Any:
    """Matern-3/2 of squared distances, NumPy's or PyTorch's."""
    module = torch if isinstance(squared, Tensor) else np
    distance = module.sqrt(3 * squared + 1e-12)
    return (1 + distance) * module.exp(-distance)


class GroupDistances:
    """Squared distances from architectures to the training set, group by group, each divided by its median there.

    The distance of `nodes` is that between the square roots of the histograms of neighbourhoods. A node whose
    neighbourhood no training graph has adds 1 to the distance from all training graphs.
    """

    def __init__(self, groups: Groups, names: Sequence[str]) -> None:
        self.names = list(names)
        self.vocabulary = np.setdiff1d(groups["nodes"], [0])
        self.training = self._points(groups)
        self.medians = {}
        pairs = np.triu_indices(len(groups["nodes"]), 1)
        for name, x in self.training.items():
            distances = squared_distances(x, x)[pairs]
            self.medians[name] = float(np.median(distances) or distances.mean() or 1.0)

    def _points(self, groups: Groups) -> Groups:
        return {name: self._histogram(x) if name == "nodes" else x.astype(np.float64)
                for name, x in groups.items() if name in self.names}  # fmt: skip

    def _place(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where in the vocabulary the hashes stand, and which of them are in it."""
        place = np.searchsorted(self.vocabulary, hashes).clip(max=len(self.vocabulary) - 1)
        return place, self.vocabulary[place] == hashes

    def _histogram(self, hashes: np.ndarray) -> np.ndarray:
        """hashes (B, M) -> square roots of how often each of the vocabulary is there (B, V)."""
        place, known = self._place(hashes)
        counts, rows = np.zeros((len(hashes), len(self.vocabulary))), np.nonzero(known)
        np.add.at(counts, (rows[0], place[rows]), 1)
        return np.sqrt(counts)

    def within(self) -> np.ndarray:
        """Between the training graphs (G, n, n)."""
        return np.stack([squared_distances(x, x) / self.medians[name] for name, x in self.training.items()])

    def weighted(self, weights: np.ndarray, groups: Groups) -> np.ndarray:
        """From B architectures to the training graphs (B, n), summed over the groups with `weights` (G,)."""
        points = self._points(groups)
        scale = {name: w / self.medians[name] for name, w in zip(self.training, weights, strict=True)}
        ours, theirs = (
            np.concatenate([side[name] * scale[name] ** 0.5 for name in scale], 1) for side in (points, self.training)
        )
        distances = squared_distances(ours, theirs)
        if "nodes" in scale:
            unknown = (groups["nodes"] != 0) & ~self._place(groups["nodes"])[1]
            distances += scale["nodes"] * unknown.sum(1, keepdims=True)
        return distances


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a (A, D), b (B, D) -> (A, B)."""
    return ((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T).clip(min=0)


class GroupProcess:
    """A Gaussian process whose kernel is a Matern-3/2 of distances weighted group by group, with noise.

    The weights, the amplitude and the noise maximise the marginal likelihood times a weak prior.
    """

    # Means and deviations of the priors, Gaussians of logarithms, chosen on development seeds.
    SHARE, AMPLITUDE, NOISE = (-1.5, 1.0), (0.0, 0.5), (-3.0, 1.5)
    TYPICAL_GROUPS = 5

    def __init__(self, distances: GroupDistances, labels: np.ndarray) -> None:
        self.distances = distances
        within = distances.within()
        n_groups, n = len(within), len(labels)
        # the more groups, the less weight has one of them, so that the sum stays
        share = self.SHARE[0] + np.log(self.TYPICAL_GROUPS / n_groups)
        start = np.array([share] * n_groups + [self.AMPLITUDE[0], self.NOISE[0]])
        spread = torch.tensor([self.SHARE[1]] * n_groups + [self.AMPLITUDE[1], self.NOISE[1]], dtype=torch.double)
        few = slice(0, MOST_FOR_EVIDENCE)
        near, y = torch.from_numpy(within[:, few, few]), torch.from_numpy(labels[few, None])

        def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
            logs = torch.tensor(values, requires_grad=True)
            kernel = logs[-2].exp() * matern32((logs[:-2].exp()[:, None, None] * near).sum(0))
            factor = torch.linalg.cholesky(kernel + (logs[-1].exp() + JITTER) * torch.eye(len(y), dtype=torch.double))
            whitened = torch.linalg.solve_triangular(factor, y, upper=False)
            evidence = 0.5 * whitened.square().sum() + factor.diagonal().log().sum()
            prior = 0.5 * ((logs - torch.from_numpy(start)) / spread).square().sum()
            (evidence + prior).backward()
            return (evidence + prior).item(), logs.grad.numpy()  # type: ignore[union-attr]

        bounds = [(-12.0, 6.0)] * n_groups + [(-4.0, 4.0), (-10.0, 1.0)]
        found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60})
        self.weights, (self.amplitude, self.noise) = np.exp(found.x[:-2]), np.exp(found.x[-2:])
        kernel = self.amplitude * matern32(np.tensordot(self.weights, within, 1))
        self.inverse = np.linalg.inv(kernel + (self.noise + JITTER) * np.eye(n))
        self.coefficients = self.inverse @ labels

    def predict(self, groups: Groups) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance (B,) of the labels without their noise."""
        kernel = self.amplitude * matern32(self.distances.weighted(self.weights, groups))
        variance = self.amplitude - np.einsum("bn,bn->b", kernel @ self.inverse, kernel)
        return kernel @ self.coefficients, variance.clip(min=JITTER)


class CellTensors:
    """What the GCNs read of B architectures: ops (B, C, N), propagation (B, C, 2, N, N), mask, unique (B, C), features.

    C are the positions of `CellSequence`.
    """

    def __init__(self, sequence: CellSequence, graphs: GraphBatch, features: Tensor) -> None:
        cells = sequence(graphs)
        self.ops = torch.from_numpy(np.stack([cell.ops for cell in cells], 1))
        self.mask = torch.from_numpy(np.stack([cell.mask for cell in cells], 1))
        self.unique = torch.from_numpy(np.stack([cell.unique for cell in cells], 1))
        edges = torch.from_numpy(np.stack([cell.edges for cell in cells], 1))
        self.propagate = propagation(edges, self.mask, torch.get_default_dtype()).movedim(0, 2).contiguous()
        self.features = features


class RankingGCNs(nn.Module):
    """S directed GCNs with global encoding (Eq. 1) whose regressors read the features too; parameters lead with S."""

    def __init__(self, n_members: int, n_ops: int, n_cells: int, n_features: int, n_layers: int, width: int) -> None:
        super().__init__()

        def weight(*shape: int, scale: float) -> nn.Parameter:
            return nn.Parameter(torch.randn(n_members, *shape) * scale)

        self.operation = weight(n_ops, width, scale=1.0)
        self.cell = weight(n_cells, width, scale=0.1)
        # He's initialisation; the factor 1/2 of Eq. 1 is in `propagation`. Columns: along the edges, then against them.
        self.gcn = weight(n_layers, width, 2 * width, scale=(2 / width) ** 0.5)
        self.join = weight(width + n_features, width, scale=(1 / width) ** 0.5)
        self.join_bias = weight(1, width, scale=0.0)
        self.feature_scale = nn.Parameter(torch.full((n_members, 1, 1), 0.3))
        self.out = weight(width, 1, scale=(1 / width) ** 0.5)

    def forward(self, data: CellTensors, index: Tensor) -> Tensor:
        """Architectures index (S, B) -> scores (S, B)."""
        member = torch.arange(len(index))[:, None]
        z = torch.zeros(*index.shape, self.operation.shape[-1])
        total, times = torch.zeros_like(z), torch.zeros(*index.shape, 1)
        for position in range(data.ops.shape[1]):
            ops, mask = data.ops[index, position], data.mask[index, position]
            unique = data.unique[index, position]
            present = (unique >= 0)[..., None]
            x = self.operation[member[..., None], ops] + (z + self.cell[member, unique.clamp(min=0)])[:, :, None]
            propagate = data.propagate[index, position]
            for layer in range(self.gcn.shape[1]):
                mixed = (x.flatten(1, 2) @ self.gcn[:, layer]).view(*x.shape[:3], 2, x.shape[3])
                x = F.relu(propagate @ mixed.transpose(2, 3)).sum(2)
            n_nodes = mask.sum(2, keepdim=True).clamp(min=1)
            z = torch.where(present, (x * mask[..., None]).sum(2) / n_nodes, z)
            total, times = total + z * present, times + present
        joined = torch.cat([total / times.clamp(min=1), self.feature_scale * data.features[index]], 2)
        return (F.relu(joined @ self.join + self.join_bias) @ self.out)[..., 0]


def pairwise_logistic(scores: Tensor, labels: Tensor) -> Tensor:
    """scores, labels (S, b) -> (S,): mean over the pairs of unequal labels of log(1 + exp(-difference of scores))."""
    better = (labels[:, :, None] > labels[:, None]).to(scores.dtype)
    losses = F.softplus(scores[:, None] - scores[:, :, None]) * better
    return losses.sum((1, 2)) / better.sum((1, 2)).clamp(min=1)


@dataclass(kw_only=True, eq=False)
class HyperNASPlus(FittedPredictor):
    """Labels become ranks and these a Gaussian; then three kinds of members vote by their standard scores.

    One Gaussian process on random networks, one on these with moments over paths and neighbourhoods of nodes, and
    `n_members` GCNs with global encoding that rank pairs and read the features. The GCNs' share grows with the number
    of labels n as n / (n + `half_at`). Nothing depends on the search space, and no network is built.

    Predictions in percent are on the scale of the training labels as if they were Gaussian: they rank, and their
    deviations compare with one another.
    """

    n_members: int = 5
    epochs: int = 200
    half_at: int = 100
    gcn_layers: int = 4
    gcn_width: int = 48
    progress: bool = False

    features: GraphKernelFeatures | None = field(default=None, init=False, repr=False)

    def fit(self, graphs: GraphBatch, accuracy: Any, scale: LabelScale | None = None) -> HyperNASPlus:
        """Fit to n architectures and their accuracy (n,), percent; `scale` is by default that of these labels."""
        labels = gaussian_ranks(labels_of(self, graphs, accuracy, scale).double().numpy())
        known = graphs.space is not None
        self.features = (
            features_of(graphs.space, graphs.graph_form or "contracted") if known else GraphKernelFeatures(graphs)
        )
        groups = self.features(graphs)
        random = [name for name in groups if name.startswith("random")]
        self.processes = [GroupProcess(GroupDistances(groups, names), labels) for names in (random, [*groups])]
        self.model = self._train(graphs, groups, labels)
        self.n_parameters = sum(p.numel() for p in self.model.parameters()) + len(labels) * len(self.processes)
        # the standard scores of members are those on architectures that no batch of predictions can change
        members, _ = self._members(self.features.reference)
        self.centre, self.spread = members.mean(1, keepdims=True), members.std(1, keepdims=True).clip(min=1e-9)
        share = len(labels) / (len(labels) + self.half_at)
        self.shares = np.array([(1 - share) / 2 + share / 4] * 2 + [share / 2])
        return self

    def _train(self, graphs: GraphBatch, groups: Groups, labels: np.ndarray) -> RankingGCNs:
        """The GCNs, each with its own weights and order of architectures."""
        data = self._cell_tensors(graphs, groups)
        seeds = [self.n_members * self.seed + member for member in range(self.n_members)]
        n_cells, n_ops = len(self.features.sequence.columns), self.features.n_ops  # type: ignore[union-attr]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model = RankingGCNs(self.n_members, n_ops, n_cells, data.features.shape[1], self.gcn_layers, self.gcn_width)
        truth = torch.from_numpy(labels)

        def loss(index: Tensor, _: list[np.random.Generator]) -> Logged:
            losses = pairwise_logistic(model(data, index), truth[index])
            return losses.sum(), {"loss": losses.detach().mean()}

        schedule = Schedule(self.epochs, accumulate=max(10, len(labels) // 20))
        self.history = train(list(model.parameters()), loss, len(labels), schedule, seeds, progress=self.progress)
        return model

    def _cell_tensors(self, graphs: GraphBatch, groups: Groups) -> CellTensors:
        parts = [x[:, :GCN_FEATURES] if name.startswith("random") else x for name, x in groups.items()
                 if name != "nodes"]  # fmt: skip
        features = torch.from_numpy(np.concatenate(parts, 1)).to(torch.get_default_dtype())
        return CellTensors(self.features.sequence, graphs, features)  # type: ignore[union-attr]

    @torch.no_grad()
    def _members(self, graphs: GraphBatch) -> tuple[np.ndarray, np.ndarray]:
        """What the members say (M, B), and the variance (B,) that the last process states; equal graphs once."""
        said, variances = [], []
        first, inverse = graphs.distinct()
        for rows in first.split(CHUNK):
            part = graphs[rows]
            groups = self.features(part)  # type: ignore[misc]
            by_process = [process.predict(groups) for process in self.processes]
            index = torch.arange(len(part)).expand(self.n_members, -1)
            ranked = self.model(self._cell_tensors(part, groups), index).double().mean(0).numpy()
            said.append(np.stack([*(mean for mean, _ in by_process), ranked]))
            variances.append(by_process[-1][1])
        return np.concatenate(said, 1)[:, inverse], np.concatenate(variances)[inverse]

    def _scores(self, graphs: GraphBatch) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (B,) on the scale of standardised labels.

        The variance is that of the process on all features, and that among the members.
        """
        said, variance = self._members(graphs)
        standard = (said - self.centre) / self.spread * self.spread[-2] + self.centre[-2]
        mean = self.shares @ standard
        deviation = np.sqrt(variance + self.shares @ (standard - mean) ** 2)
        return torch.from_numpy(mean), torch.from_numpy(deviation)

    def score(self, graphs: GraphBatch) -> Tensor:
        return self._scores(graphs)[0].to(torch.get_default_dtype())

    def predict(self, graphs: Architectures, return_std: bool = False) -> Any:
        """Accuracy (B,) in percent; with `return_std` its standard deviation (B,) in percent too."""
        mean = super().predict(graphs)
        if not return_std:
            return mean
        batch = self.training_set.readable(graphs)  # type: ignore[union-attr]
        deviation = self._scores(batch)[1] if len(batch) else torch.empty(0)
        return mean, (deviation * self.scale.std).to(mean.dtype)


METHODS = {"hypernas-plus": HyperNASPlus}
