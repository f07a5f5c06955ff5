"""Bayesian optimisation with a Gaussian process on features of the graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import norm

from hypernas.predictors.shared.gaussian_process import GroupDistances, GroupProcess
from hypernas.predictors.shared.graph_kernel_features import Groups, features_of
from hypernas.search.domains import Candidate
from hypernas.search.methods import Task, Trials, order

# Deviations above the mean at which a candidate is judged. On NAS-Bench-Macro 1 did worse, 3 no better.
OPTIMISM = 2.0
# Candidates among which a batch is chosen: so many stand at the top, and their covariance is a small matrix.
SHORT_LIST = 400
# Of each parent so many children of one mutation, and as many of two.
CHILDREN = 16
# By name of what a trial tells.
Numbers = Mapping[str, np.ndarray]


class Quantity:
    """A Gaussian process for one result of a trial, such as accuracy, on a scale where the labels are normal scores.

    `labels` (n,). Outliers, such as a diverged network, are only as far from the others as their rank implies.
    """

    def __init__(self, distances: GroupDistances, labels: np.ndarray) -> None:
        self.labels, counts = np.unique(labels, return_counts=True)
        # The middle of the places that equal labels hold in order.
        middle = counts.cumsum() - counts / 2
        self.scores = norm.ppf(middle / len(labels))
        standard = np.interp(labels, self.labels, self.scores)
        self.process = GroupProcess(distances, standard)

    def on_the_scale_of_labels(self, scores: np.ndarray) -> np.ndarray:
        """Map normal scores back to the scale of the labels, extrapolating linearly beyond the extremes."""
        inside = np.interp(scores, self.scores, self.labels)
        # Where all labels are equal nothing is steep, and any rising line keeps the order.
        width = np.ptp(self.scores) or 1.0
        steepness = np.ptp(self.labels) / width or 1.0
        beyond = scores - scores.clip(self.scores[0], self.scores[-1])
        return inside + beyond * steepness


class Optimist:
    """An upper confidence bound: a process for each quantity, with objectives judged `OPTIMISM` deviations better."""

    def __init__(self, task: Task, trials: Trials) -> None:
        self.task = task
        self.features = features_of(task.domain.space, task.graph_form)
        labelled = list(trials.labelled.values())
        architectures = [candidate for candidate, _ in labelled]
        known = self.describe(architectures)
        distances = GroupDistances(known, list(known))
        self.quantities = {}
        for name in task.told:
            labels = np.array([values[name] for _, values in labelled], float)
            self.quantities[name] = Quantity(distances, labels)
        self.favour: dict[str, float] = {}
        for objective in task.objectives:
            self.favour[objective.name] = objective.sign * OPTIMISM

    def describe(self, candidates: Sequence[Candidate]) -> Groups:
        graphs = self.task.domain.graphs(candidates, self.task.graph_form)
        return self.features(graphs)

    def ranking(
        self,
        candidates: Sequence[Candidate],
        means: Numbers,
        deviations: Numbers,
    ) -> list[int]:
        """Return the indices of the candidates, those with the best upper bound first."""
        told = {}
        for name, quantity in self.quantities.items():
            # A limit that needs a trial is judged by the mean: an optimist would break it.
            favour = self.favour.get(name, 0.0)
            scores = means[name] + favour * deviations[name]
            told[name] = quantity.on_the_scale_of_labels(scores)
        values = self.task.values(candidates, told)
        return order(values).tolist()

    def short_list(self, candidates: Sequence[Candidate]) -> ShortList:
        """Return the most promising candidates with their predicted means and covariance."""
        groups = self.describe(candidates)
        means: dict[str, np.ndarray] = {}
        deviations: dict[str, np.ndarray] = {}
        for name, quantity in self.quantities.items():
            mean, variance = quantity.process.predict(groups)
            means[name] = mean
            deviations[name] = np.sqrt(variance)
        ranking = self.ranking(candidates, means, deviations)
        listed = ranking[:SHORT_LIST]
        some = {name: values[listed] for name, values in groups.items()}
        short = ShortList([candidates[place] for place in listed])
        for name, quantity in self.quantities.items():
            short.means[name] = means[name][listed]
            short.covariances[name] = quantity.process.covariance(some)
        return short

    def batch(self, candidates: Sequence[Candidate], n: int) -> list[Candidate]:
        """Choose `n` candidates one by one, assuming that each choice turns out at its mean (kriging believer).

        The deviation around each choice shrinks, so the batch spreads out.
        """
        short = self.short_list(candidates)
        chosen: list[int] = []
        while len(chosen) < min(n, len(short.candidates)):
            ranking = self.ranking(short.candidates, short.means, short.deviations())
            place = next(place for place in ranking if place not in chosen)
            chosen.append(place)
            for name, quantity in self.quantities.items():
                before = short.covariances[name]
                noise = quantity.process.noise
                short.covariances[name] = given(before, place, noise)
        return [short.candidates[place] for place in chosen]


@dataclass
class ShortList:
    """K candidates and, for each quantity, their means (K,) and covariance (K, K)."""

    candidates: list[Candidate]
    means: dict[str, np.ndarray] = field(default_factory=dict)
    covariances: dict[str, np.ndarray] = field(default_factory=dict)

    def deviations(self) -> Numbers:
        deviations = {}
        for name, covariance in self.covariances.items():
            # Rounding can leave a little less than nothing.
            variance = covariance.diagonal().clip(min=0)
            deviations[name] = np.sqrt(variance)
        return deviations


def given(
    covariance: np.ndarray,
    place: int,
    noise: float,
) -> np.ndarray:
    """Return the covariance (K, K) of all candidates after observing the value at `place` with `noise`."""
    column = covariance[:, place]
    explained = np.outer(column, column)
    return covariance - explained / (column[place] + noise)


def suggest(
    task: Task,
    trials: Trials,
    n: int,
    parents: int,
    fresh: int,
) -> list[Candidate]:
    """Return at most `n` new candidates with the best upper bounds, spread out as a batch."""
    drawn = nearby(task, trials, parents, fresh)
    candidates = [candidate for candidate in drawn if task.fits(candidate)]
    if not candidates:
        return []
    optimist = Optimist(task, trials)
    return optimist.batch(candidates, n)


def nearby(
    task: Task,
    trials: Trials,
    parents: int,
    fresh: int,
) -> list[Candidate]:
    """Return new candidates: one and two mutations from the best `parents` by their labels, and `fresh` random ones."""
    labelled = list(trials.labelled.values())
    values = task.answered(labelled)
    candidates = [task.draw() for _ in range(fresh)]
    for place in order(values)[:parents]:
        parent, _ = labelled[place]
        children = [task.mutate(parent) for _ in range(CHILDREN)]
        candidates += children
        candidates += map(task.mutate, children)
    return task.new(candidates, trials.taken)
