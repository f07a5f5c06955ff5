"""A Gaussian process whose kernel weighs groups of features, each group as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from hypernas.predictors.shared.graph_kernel_features import Groups

# So many labels choose the weights; a Cholesky factor of more takes seconds a step.
MOST_FOR_EVIDENCE = 800
# Added to the noise, so that equal graphs leave the matrix invertible.
JITTER = 1e-6
# No row of a histogram has a neighbourhood of this hash: it stands for no node.
NO_NODE = 0


def matern32(squared: Any) -> Any:
    """Evaluate the Matern-3/2 kernel at squared distances, given as NumPy or PyTorch values."""
    module: Any = torch if isinstance(squared, Tensor) else np
    # The square root has no gradient at 0.
    distance = module.sqrt(3 * squared + 1e-12)
    return (1 + distance) * module.exp(-distance)


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the squared distances (A, B) between the points a (A, D) and b (B, D)."""
    ours = (a**2).sum(1)
    theirs = (b**2).sum(1)
    products = a @ b.T
    # Rounding can leave a little less than nothing.
    return (ours[:, None] + theirs - 2 * products).clip(min=0)


class GroupDistances:
    """Squared distances from architectures to n training graphs in each group, divided by the group's median there.

    The distance of `nodes` is that between the square roots of the histograms of neighbourhoods. A node whose
    neighbourhood no training graph has adds 1 to the distance from all training graphs.
    """

    def __init__(self, groups: Groups, names: Sequence[str]) -> None:
        self.names = list(names)
        self.vocabulary = np.setdiff1d(groups["nodes"], [NO_NODE])
        self.training = [self._points(groups, name) for name in self.names]
        pairs = np.triu_indices(len(groups["nodes"]), 1)
        self.medians = []
        for points in self.training:
            distances = squared_distances(points, points)[pairs]
            # Where most pairs are equal the mean says more; where all are, any number does.
            median = np.median(distances)
            median = median or distances.mean() or 1.0
            self.medians.append(float(median))

    def _points(self, groups: Groups, name: str) -> np.ndarray:
        """The coordinates (B, D) of a group."""
        if name != "nodes":
            return groups[name].astype(np.float64)
        place, known = self._look_up(groups[name])
        shape = len(place), len(self.vocabulary)
        counts = np.zeros(shape)
        rows, columns = np.nonzero(known)
        words = place[rows, columns]
        # Unlike counts[rows, words] += 1, this counts a word twice that stands twice in a row.
        np.add.at(counts, (rows, words), 1)
        return np.sqrt(counts)

    def _look_up(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where in the vocabulary the hashes stand, and which of them are in it."""
        last = len(self.vocabulary) - 1
        place = np.searchsorted(self.vocabulary, hashes)
        place = place.clip(max=last)
        known = self.vocabulary[place] == hashes
        return place, known

    def within(self) -> np.ndarray:
        """Return the distances between the training graphs (G, n, n)."""
        distances = []
        for points, median in zip(self.training, self.medians, strict=True):
            between = squared_distances(points, points)
            distances.append(between / median)
        return np.stack(distances)

    def weighted(self, weights: np.ndarray, groups: Groups) -> np.ndarray:
        """Return the distances (B, n) from B architectures to the training graphs, summed with `weights` (G,)."""
        ours, theirs = [], []
        constant = 0.0
        scales = np.sqrt(weights / self.medians)
        for name, training, scale in zip(self.names, self.training, scales, strict=True):
            points = self._points(groups, name)
            ours.append(scale * points)
            theirs.append(scale * training)
            if name == "nodes":
                constant = scale**2 * self._unknown(groups[name])
        both = np.concatenate(ours, 1), np.concatenate(theirs, 1)
        return squared_distances(*both) + constant

    def between(self, weights: np.ndarray, groups: Groups) -> np.ndarray:
        """Return the distances (B, B) of B architectures, as `weighted` but without neighbourhoods new to training."""
        parts = []
        for name, scale in zip(self.names, np.sqrt(weights / self.medians), strict=True):
            parts.append(scale * self._points(groups, name))
        points = np.concatenate(parts, 1)
        return squared_distances(points, points)

    def _unknown(self, hashes: np.ndarray) -> np.ndarray:
        """How many nodes (B, 1) of each architecture have a neighbourhood that no training graph has."""
        _, known = self._look_up(hashes)
        unknown = (hashes != NO_NODE) & ~known
        return unknown.sum(1, keepdims=True)


@dataclass(frozen=True)
class Prior:
    """A Gaussian prior on the logarithm of a positive number."""

    mean: float
    deviation: float


# Weak: they matter with fifty labels and hardly with four hundred.
WEIGHT, AMPLITUDE, NOISE = Prior(-1.5, 1.0), Prior(0.0, 0.5), Prior(-3.0, 1.5)
# The prior of a weight is that of one of five groups; of more groups each weighs less, so that the sum stays.
USUAL_GROUPS = 5
# Of the logarithms: far beyond the priors, near enough that the kernel matrix stays invertible.
BOUNDS = {"weight": (-12.0, 6.0), "amplitude": (-4.0, 4.0), "noise": (-10.0, 1.0)}
# Iterations of L-BFGS at most.
STEPS = 60


class GroupProcess:
    """A Gaussian process with noise and a Matern-3/2 kernel of distances that are weighted group by group.

    Weights, amplitude and noise maximise the marginal likelihood of the labels (n,) times a weak prior.
    """

    def __init__(self, distances: GroupDistances, labels: np.ndarray) -> None:
        self.distances = distances
        within = distances.within()
        # The first labels choose the weights, a random part where a split drew them; all labels enter the prediction.
        some = slice(0, MOST_FOR_EVIDENCE)
        values = np.exp(most_likely(within[:, some, some], labels[some]))
        self.weights = values[:-2]
        self.amplitude, self.noise = values[-2:]
        squared = np.tensordot(self.weights, within, 1)
        kernel = self.amplitude * matern32(squared)
        noise = (self.noise + JITTER) * np.eye(len(labels))
        self.inverse = np.linalg.inv(kernel + noise)
        self.coefficients = self.inverse @ labels

    def predict(self, groups: Groups) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean and variance (B,) of the labels without noise."""
        squared = self.distances.weighted(self.weights, groups)
        kernel = self.amplitude * matern32(squared)
        explained = (kernel @ self.inverse) * kernel
        variance = self.amplitude - explained.sum(1)
        mean = kernel @ self.coefficients
        return mean, variance.clip(min=JITTER)

    def covariance(self, groups: Groups) -> np.ndarray:
        """Return the covariance (B, B) of the labels without noise; its diagonal is about the variance of `predict`."""
        kernel = self.amplitude * matern32(self.distances.weighted(self.weights, groups))
        prior = self.amplitude * matern32(self.distances.between(self.weights, groups))
        return prior - kernel @ self.inverse @ kernel.T


def most_likely(within: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the logarithms of the most likely G weights, amplitude and noise for distances (G, n, n), labels (n,)."""
    n_groups = len(within)
    share = WEIGHT.mean + np.log(USUAL_GROUPS / n_groups)
    priors = [Prior(share, WEIGHT.deviation)] * n_groups + [AMPLITUDE, NOISE]
    means = torch.tensor([prior.mean for prior in priors], dtype=torch.double)
    deviations = torch.tensor([prior.deviation for prior in priors], dtype=torch.double)
    prior = torch.distributions.Normal(means, deviations)
    near = torch.from_numpy(within)
    y = torch.from_numpy(labels)[:, None]
    identity = torch.eye(len(y), dtype=torch.double)

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        logs = torch.tensor(values, requires_grad=True)
        weights = logs[:-2].exp()
        amplitude, noise = logs[-2:].exp()
        squared = torch.tensordot(weights, near, 1)
        kernel = amplitude * matern32(squared)
        factor = torch.linalg.cholesky(kernel + (noise + JITTER) * identity)
        whitened = torch.linalg.solve_triangular(factor, y, upper=False)
        misfit = 0.5 * whitened.square().sum()
        complexity = factor.diagonal().log().sum()
        total = misfit + complexity - prior.log_prob(logs).sum()
        total.backward()
        assert logs.grad is not None
        return total.item(), logs.grad.numpy()

    bounds = [BOUNDS["weight"]] * n_groups
    bounds += [BOUNDS["amplitude"], BOUNDS["noise"]]
    best = minimize(
        loss,
        means.numpy(),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": STEPS},
    )
    return best.x
