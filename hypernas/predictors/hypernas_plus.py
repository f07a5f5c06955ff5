"""HyperNAS+: an ensemble of Gaussian processes on graph features and networks with the paper's global encoding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import norm, rankdata
from torch import Tensor, nn

from hypernas.errors import UserError
from hypernas.graph import GraphBatch
from hypernas.method.encoder import propagation
from hypernas.predictors.hypernas import HyperNASP
from hypernas.predictors.shared.gaussian_process import GroupDistances, GroupProcess
from hypernas.predictors.shared.graph_kernel_features import GraphKernelFeatures, Groups, features_of
from hypernas.predictors.shared.random_networks import CellSequence
from hypernas.predictors.shared.ranking_losses import pairwise_logistic
from hypernas.training.labels import LabelScale
from hypernas.training.loop import Logged, Schedule, train
from hypernas.training.predictor import Architectures, FittedPredictor, fit_together, labels_of, load_weights
from hypernas.training.training_set import TrainingSet

# Architectures scored at a time: the kernel and the GCNs of so many take some 50 MB.
CHUNK = 2_000
# Of each family of random networks the GCNs read so many principal components.
GCN_COMPONENTS = 20
# A GCN's step takes 10 architectures or a twentieth of them, so that an epoch has at most 20 steps.
LEAST_STEP, STEPS = 10, 20
# What `without` may leave out, to measure what it is worth.
INGREDIENTS = ("ranks", "random networks", "paths", "neighbourhoods", "processes", "gcns", "predictors")


def gaussian_ranks(labels: np.ndarray) -> np.ndarray:
    """Replace labels (n,) by the Gaussian quantiles of their ranks; equal labels stay equal.

    >>> gaussian_ranks(np.array([3.0, 90.0, 91.0])).round(2).tolist()
    [-0.97, 0.0, 0.97]
    """
    return norm.ppf((rankdata(labels) - 0.5) / len(labels))


class CellTensors:
    """The input of the GCNs for B architectures with C cells.

    ops (B, C, N), mask (B, C, N), unique (B, C), propagate (B, C, 2, N, N), features (B, F).
    """

    def __init__(
        self,
        sequence: CellSequence,
        graphs: GraphBatch,
        groups: Groups,
    ) -> None:
        cells = sequence(graphs)

        def stacked(name: str) -> Tensor:
            arrays = [getattr(cell, name) for cell in cells]
            return torch.from_numpy(np.stack(arrays, 1))

        self.ops = stacked("ops")
        self.mask = stacked("mask")
        self.unique = stacked("unique")
        dtype = torch.get_default_dtype()
        both_ways = propagation(stacked("edges"), self.mask, dtype)
        self.propagate = both_ways.movedim(0, 2).contiguous()
        parts = [groups["paths"]] if "paths" in groups else []
        for name, values in groups.items():
            if name.startswith("random"):
                parts.append(values[:, :GCN_COMPONENTS])
        features = np.concatenate(parts, 1)
        self.features = torch.from_numpy(features).to(dtype)


class RankingGCNs(nn.Module):
    """S directed GCNs with global encoding (Eq. 1), whose regressors also read the features.

    S is the first axis of all parameters. The members train side by side, each with its own order of the architectures.
    """

    def __init__(
        self,
        n_members: int,
        n_ops: int,
        n_cells: int,
        n_features: int,
        n_layers: int,
        width: int,
    ) -> None:
        super().__init__()

        def drawn(*shape: int, scale: float) -> nn.Parameter:
            return nn.Parameter(torch.randn(n_members, *shape) * scale)

        self.operation = drawn(n_ops, width, scale=1.0)
        # What tells the unique cells apart, small beside the operations' embeddings of spread 1.
        self.cell = drawn(n_cells, width, scale=0.1)
        # He's initialisation. The first columns go along the edges, the others against them.
        self.gcn = drawn(n_layers, width, 2 * width, scale=(2 / width) ** 0.5)
        self.join = drawn(width + n_features, width, scale=(1 / width) ** 0.5)
        self.bias = drawn(1, width, scale=0.0)
        # There are more features than pooled values, so at first they count less.
        self.feature_scale = nn.Parameter(torch.full((n_members, 1, 1), 0.3))
        self.out = drawn(width, 1, scale=(1 / width) ** 0.5)

    def forward(self, data: CellTensors, index: Tensor) -> Tensor:
        """Return the scores (S, B) of the architectures index (S, B)."""
        width = self.operation.shape[2]
        context = torch.zeros(*index.shape, width)
        total = torch.zeros_like(context)
        times = torch.zeros(*index.shape, 1)
        member = torch.arange(len(index))[:, None]
        for position in range(data.ops.shape[1]):
            unique = data.unique[index, position]
            # Absent cells read that of cell 0, and are masked out below.
            own = self.cell[member, unique.clamp(min=0)]
            pooled = self._cell(data, index, position, context + own)
            present = (unique >= 0)[..., None]
            context = torch.where(present, pooled, context)
            total = total + context * present
            times = times + present
        features = self.feature_scale * data.features[index]
        mean = total / times.clamp(min=1)
        joined = torch.cat([mean, features], 2)
        hidden = F.relu(joined @ self.join + self.bias)
        return (hidden @ self.out)[..., 0]

    def _cell(
        self,
        data: CellTensors,
        index: Tensor,
        position: int,
        begin: Tensor,
    ) -> Tensor:
        """The pooled features (S, B, D) of the cells at a position, whose nodes all begin with `begin` (S, B, D)."""
        ops = data.ops[index, position]
        mask = data.mask[index, position]
        member = torch.arange(len(index))[:, None, None]
        x = self.operation[member, ops] + begin[:, :, None]
        propagate = data.propagate[index, position]
        shape = (*ops.shape, 2, x.shape[-1])
        for layer in range(self.gcn.shape[1]):
            mixed = x.flatten(1, 2) @ self.gcn[:, layer]
            both_ways = mixed.view(shape).transpose(2, 3)
            x = F.relu(propagate @ both_ways).sum(2)
        n_nodes = mask.sum(2, keepdim=True).clamp(min=1)
        total = (x * mask[..., None]).sum(2)
        return total / n_nodes


@dataclass(kw_only=True, eq=False)
class HyperNASPlus(FittedPredictor):
    """An ensemble of up to four kinds of members that predict Gaussian ranks and vote with their standardised scores.

    The members are a Gaussian process on random networks; a second one that adds moments over paths and neighbourhoods
    of nodes; `n_members` GCNs with global encoding, which rank pairs and also read the features; and, if several cells
    of a network can differ, `n_predictors` of the paper's HyperNAS-P, which learn the labels themselves. `vote` sets
    the weight of each kind. One configuration serves every space, and no network is built.

    Predictions in percent treat the training labels as if they were Gaussian. They are meant for ranking, and their
    standard deviations are comparable with one another. `without` leaves out one of `INGREDIENTS`.
    """

    n_members: int = 5
    epochs: int = 200
    n_predictors: int = 3
    half_at: int = 100
    gcn_layers: int = 4
    gcn_width: int = 48
    without: str = ""
    progress: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.without and self.without not in INGREDIENTS:
            raise UserError(f"without must be one of {', '.join(INGREDIENTS)}, got {self.without!r}")

    def fit(
        self,
        graphs: GraphBatch,
        accuracy: Any,
        scale: LabelScale | None = None,
    ) -> HyperNASPlus:
        """Fit to n architectures and their accuracy (n,) in percent. `scale` defaults to that of these labels."""
        labels = self._targets(labels_of(self, graphs, accuracy, scale))
        data = self._describe(graphs, labels)
        self.model = self._new_model(data)
        self._train(data, labels)
        self.predictors = self._new_predictors()
        if self.predictors:
            assert self.training_set is not None
            n = len(self.predictors)
            fit_together(self.predictors, [graphs] * n, [self.training_set.accuracy] * n, self.scale)
        self._settle(len(labels))
        return self

    @property
    def n_positions(self) -> int:
        """The number of cells in a network that can differ between architectures, at least 1."""
        return max(1, len(self.features.sequence.columns))

    def _new_predictors(self) -> list[HyperNASP]:
        """Those that know a cell by its place; with a single cell the GCNs know as much."""
        if self.n_positions == 1 or self.without == "predictors":
            return []
        first = self.n_predictors * self.seed
        seeds = range(first, first + self.n_predictors)
        return [HyperNASP(seed=seed, epochs=self.epochs, progress=self.progress) for seed in seeds]

    def _targets(self, standardised: Tensor) -> np.ndarray:
        """What the members learn from the labels (n,): the quantiles of a Gaussian at their ranks."""
        labels = standardised.double().numpy()
        return labels if self.without == "ranks" else gaussian_ranks(labels)

    def _groups(self, graphs: GraphBatch) -> Groups:
        """The groups of features that this predictor reads."""
        groups = self.features(graphs)
        left_out = {"random networks": "random", "paths": "paths"}.get(self.without)
        if left_out is None:
            return groups
        return {name: values for name, values in groups.items() if not name.startswith(left_out)}

    def _describe(self, graphs: GraphBatch, labels: np.ndarray) -> CellTensors:
        """Take the features of the space, or of these graphs where it is unknown, and fit the processes."""
        if graphs.space is None:
            self.features = GraphKernelFeatures(graphs)
        else:
            graph_form = graphs.graph_form or "contracted"
            self.features = features_of(graphs.space, graph_form)
        groups = self._groups(graphs)
        everything = [name for name in groups if name != "nodes" or self.without != "neighbourhoods"]
        random = [name for name in groups if name.startswith("random")]
        self.processes = []
        for names in (random or everything, everything):
            distances = GroupDistances(groups, names)
            self.processes.append(GroupProcess(distances, labels))
        return CellTensors(self.features.sequence, graphs, groups)

    def _new_model(self, data: CellTensors) -> RankingGCNs:
        """The GCNs at their start, drawn from the seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return RankingGCNs(
                self.n_members,
                self.features.n_ops,
                len(self.features.sequence.columns),
                data.features.shape[1],
                self.gcn_layers,
                self.gcn_width,
            )

    def _train(self, data: CellTensors, labels: np.ndarray) -> None:
        truth = torch.from_numpy(labels)
        n = len(labels)

        def loss(index: Tensor, _: list[np.random.Generator]) -> Logged:
            scores = self.model(data, index)
            losses = pairwise_logistic(scores, truth[index])
            return losses.sum(), {"loss": losses.detach().mean()}

        # Orders of no two seeds overlap.
        first = self.n_members * self.seed
        orders = range(first, first + self.n_members)
        # An epoch over many labels would else take hundreds of steps.
        accumulate = max(LEAST_STEP, n // STEPS)
        self.history = train(
            [*self.model.parameters()],
            loss,
            n,
            Schedule(self.epochs, accumulate=accumulate),
            [*orders],
            progress=self.progress,
        )

    def _networks(self) -> nn.ModuleDict:
        """All that gradient descent has trained."""
        predictors = {f"predictor {i}": each.model for i, each in enumerate(self.predictors)}
        return nn.ModuleDict({"gcns": self.model} | predictors)

    def vote(self, n: int) -> np.ndarray:
        """Return the weights, with n labels, of the two processes, the GCNs and, if there are any, the predictors.

        The networks need some hundred labels, so they get n / (n + `half_at`) of one half. The processes describe what
        a network computes but hardly where, so if C cells can differ they get only 1/C of the rest.
        """
        networks = n / (n + self.half_at) / 2
        processes = (1 - networks) / self.n_positions
        kinds = 2 if self.predictors else 1
        shares = np.array([processes / 2] * 2 + [(1 - processes) / kinds] * kinds)
        if self.without == "processes":
            shares[:2] = 0.0
        if self.without == "gcns":
            shares[2] = 0.0
        return shares / shares.sum()

    def _settle(self, n: int) -> None:
        """The members' shares with n labels, and what their standard scores are taken from.

        That is the reference of the features, so that no prediction depends on what is predicted beside it.
        """
        learned = sum(parameter.numel() for parameter in self._networks().parameters())
        self.n_parameters = learned + n * len(self.processes)
        self.shares = self.vote(n)
        votes, _ = self._votes(self.features.reference)
        self.centre = votes.mean(1, keepdims=True)
        spread = votes.std(1, keepdims=True)
        self.spread = spread.clip(min=1e-9)

    @torch.no_grad()
    def _votes(self, graphs: GraphBatch) -> tuple[np.ndarray, np.ndarray]:
        """What each kind of member says (K, B), and the variance (B,) of the second process; equal graphs once."""
        votes, variances = [], []
        first, inverse = (index.numpy() for index in graphs.distinct())
        for start in range(0, len(first), CHUNK):
            rows = torch.from_numpy(first[start : start + CHUNK])
            part = graphs[rows]
            groups = self._groups(part)
            said = [process.predict(groups) for process in self.processes]
            data = CellTensors(self.features.sequence, part, groups)
            everything = torch.arange(len(part)).expand(self.n_members, -1)
            ranked = self.model(data, everything).double()
            means = [mean for mean, _ in said]
            means.append(ranked.mean(0).numpy())
            if self.predictors:
                scores = torch.stack([each.score(part) for each in self.predictors]).double()
                means.append(scores.mean(0).numpy())
            votes.append(np.stack(means))
            variances.append(said[-1][1])
        return np.concatenate(votes, 1)[:, inverse], np.concatenate(variances)[inverse]

    def _distribution(self, graphs: GraphBatch) -> tuple[Tensor, Tensor]:
        """Mean and deviation (B,) of standardised labels; the members' disagreement is part of the deviation."""
        highest = int(graphs.ops[graphs.mask].max())
        if highest >= self.features.n_ops:
            rule = f"predict needs operations from 0 to {self.features.n_ops - 1}, as fit had"
            raise UserError(f"{rule}, got {highest}")
        votes, variance = self._votes(graphs)
        # On the scale of the second process, whose values are labels.
        standard = (votes - self.centre) / self.spread
        votes = standard * self.spread[1] + self.centre[1]
        mean = self.shares @ votes
        disagreement = self.shares @ (votes - mean) ** 2
        deviation = np.sqrt(variance + disagreement)
        return torch.from_numpy(mean), torch.from_numpy(deviation)

    def score(self, graphs: GraphBatch) -> Tensor:
        return self._distribution(graphs)[0].to(torch.get_default_dtype())

    def predict(self, graphs: Architectures, return_std: bool = False) -> Any:
        """Return the accuracy (B,) in percent; with `return_std`, also its standard deviation (B,) in percent."""
        mean = super().predict(graphs)
        if not return_std:
            return mean
        assert self.training_set is not None
        batch = self.training_set.readable(graphs)
        deviation = self._distribution(batch)[1] if len(batch) else torch.empty(0)
        return mean, (deviation * self.scale.std).to(mean.dtype)

    def weights(self) -> dict[str, Tensor]:
        """Return the weights of the networks. The processes are fitted again when loading, which takes a second."""
        return self._networks().state_dict()

    def restore(
        self,
        training_set: TrainingSet,
        scale: LabelScale,
        weights: dict[str, Tensor],
    ) -> None:
        """Restore the fitted state of a saved predictor. Raise UserError if the weights belong to another model."""
        graphs = training_set.graphs
        labels = self._targets(labels_of(self, graphs, training_set.accuracy, scale))
        data = self._describe(graphs, labels)
        self.model = self._new_model(data)
        self.predictors = self._new_predictors()
        for each in self.predictors:
            each.model = each.new_model(graphs)
        load_weights(self, self._networks(), weights)
        self._settle(len(labels))


METHODS = {"hypernas-plus": HyperNASPlus}
