"""For your own space and labels: an honest estimate of a predictor, the predictor itself, and its ranking."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from hypernas import predictors, spaces
from hypernas.data.own_labels import read_columns
from hypernas.errors import UserError
from hypernas.lab.benchmark import Benchmark
from hypernas.lab.experiment import Experiment, arguments, runs_networks, settings_of
from hypernas.lab.formats import in_words
from hypernas.lab.metrics import kendall_tau
from hypernas.lab.persistence import load
from hypernas.lab.rows import Results
from hypernas.spaces.base import draw_distinct

# What a predictor must be above to be worth its training.
FLOOR = "ridge"
AUTO = "auto"
# The usual number: each fold is trained on four fifths of the labels, close to what the predictor itself gets.
FOLDS = 5
# A tau of fewer architectures says next to nothing, so that few labels are divided into fewer folds.
LEAST_IN_A_FOLD = 4
FEWEST_LABELS = 5
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """Kendall taus of a method on architectures that it was not fitted to, one for each fold, and its seconds.

    `share` is the number of test architectures per training architecture in a fold.
    """

    method: str
    taus: tuple[float, ...]
    share: float
    seconds: float

    @property
    def tau(self) -> float:
        """The mean over folds."""
        return float(np.mean(self.taus))

    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval of the mean tau."""
        low, high = corrected_interval(self.taus, self.share)
        return max(low, -1.0), min(high, 1.0)

    def above(self, other: Estimate) -> tuple[float, float, float]:
        """Return by how much this tau exceeds another method's on the same folds: mean and 95 % interval."""
        differences = np.subtract(self.taus, other.taus)
        low, high = corrected_interval(differences, self.share)
        return float(differences.mean()), low, high


def corrected_interval(values: Sequence[float] | np.ndarray, share: float) -> tuple[float, float]:
    """Return Student's 95 % t interval of a mean over cross-validation folds whose training sets overlap.

    Overlap makes folds agree more than new data would. Nadeau and Bengio (2003) therefore add `share`, test over
    training size, to the factor 1/K in the variance of a mean.

    >>> [round(end, 2) for end in corrected_interval([0.7, 0.8, 0.75, 0.85, 0.9], 0.25)]
    [0.65, 0.95]
    """
    k = len(values)
    mean = float(np.mean(values))
    deviation = float(np.std(values, ddof=1))
    error = deviation * (1 / k + share) ** 0.5
    quantile = float(stats.t.ppf((1 + LEVEL) / 2, k - 1))
    half = error * quantile
    return mean - half, mean + half


class Practice:
    """A space, your own labels, and the settings for predictors.

    `labels` is a DataFrame or the path of a file with `notation` and `accuracy`. `settings` apply to the methods that
    have them. Raise UserError if the labels are invalid or fewer than 5.
    """

    def __init__(self, space: Any, labels: Any, settings: dict[str, Any] | None = None, seed: int = 0) -> None:
        self.benchmark = Benchmark(space, labels)
        self.settings = settings or {}
        self.seed = seed
        self.labels = self.benchmark.validation
        n = len(self.labels)
        if n < FEWEST_LABELS:
            rule = f"labels must be of at least {FEWEST_LABELS} different architectures"
            raise UserError(f"{rule}, got {n}: train more")

    def experiment(self, method: str) -> Experiment:
        """Return the settings of a method: its own, those of the space, and the given ones that it has."""
        place = (self.benchmark.space.name, self.benchmark.dataset, method)
        accepted = {"graph_form", *settings_of(method)}
        given = {name: value for name, value in self.settings.items() if name in accepted}
        return Experiment("practice", *place, len(self.labels), self.seed, settings=given).resolved()

    def candidates(self, method: str) -> list[str]:
        """Return the methods that `method` names: one, several with commas, or for `auto` all that run no networks.

        Raise UserError for an unknown method, and for a setting that none of them has.
        """
        if method == AUTO:
            names = [name for name in predictors.names() if not runs_networks(name)]
            # Those that go through no epochs take seconds.
            names.sort(key=lambda name: "epochs" in settings_of(name))
        else:
            names = [name.strip() for name in method.split(",")]
        known = {"graph_form"}.union(*map(settings_of, names))
        for name in self.settings:
            if name not in known:
                listed = ", ".join(sorted(known))
                raise UserError(f"a setting of {method} must be one of {listed}, got {name!r}")
        return names

    def check(self, methods: Sequence[str], device: str = "cpu") -> None:
        """Raise UserError for the first method that cannot have these settings, before any is fitted."""
        for method in methods:
            self._new(method, self.experiment(method), device)

    def _new(self, method: str, experiment: Experiment, device: str) -> Any:
        """A predictor that is not fitted yet."""
        keywords = arguments(experiment, False, device)
        return predictors.get(method)(**keywords, seed=self.seed)

    def folds(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return rows to fit to and rows to test on.

        All folds have the same size; leftover rows are in every training set.
        """
        n = len(self.labels)
        k = int(np.clip(n // LEAST_IN_A_FOLD, 2, FOLDS))
        size = n // k
        order = np.random.default_rng(self.seed).permutation(n)
        folds = []
        for start in range(0, k * size, size):
            test = order[start : start + size]
            folds.append((np.setdiff1d(order, test), test))
        return folds

    def estimate(self, method: str, device: str = "cpu") -> Estimate:
        """Cross-validate a method: fit it to the labels outside each fold and compute its tau inside."""
        experiment = self.experiment(method)
        graphs = self.benchmark.graphs(experiment.settings["graph_form"])
        start = time.perf_counter()
        folds = self.folds()
        trained = [graphs[train] for train, _ in folds]
        labels = [self.labels[train] for train, _ in folds]
        keywords = arguments(experiment, False, device)
        seeds = [self.seed] * len(folds)
        # Folds are equally large, so that methods that can train several models at once do.
        fitted = predictors.fit_many(method, keywords, trained, labels, seeds)
        taus = []
        for predictor, (_, test) in zip(fitted, folds, strict=True):
            predicted = predictor.predict(graphs[test])
            taus.append(kendall_tau(predicted, self.labels[test]))
        seconds = time.perf_counter() - start
        train, test = folds[0]
        share = len(test) / len(train)
        return Estimate(method, tuple(taus), share, seconds)

    def cost(self, method: str, seconds: float, device: str = "cpu") -> str:
        """Return a sentence with the cost of `estimates` and `fit`: number of trainings, on what, about how long."""
        names = list(dict.fromkeys([FLOOR, *self.candidates(method)]))
        folds = len(self.folds())
        n_trainings = folds * len(names) + 1
        methods = "1 method" if len(names) == 1 else f"{len(names)} methods"
        known = 0.0
        unknown = []
        for name in names:
            typical = _typical_seconds(name, len(self.labels))
            if typical is None:
                unknown.append(name)
            else:
                known += folds * typical
        words = f"{n_trainings} trainings ({device}): {methods} on {folds} folds each, then the best on all labels; "
        words += f"about {in_words(known)} by recorded rows"
        if unknown:
            words += f", without {', '.join(unknown)}, of which none is recorded"
        if len(names) > 1:
            words += f"; no method begins after {seconds:g} s"
        return words

    def estimates(self, method: str, seconds: float = math.inf, device: str = "cpu") -> Iterator[Estimate]:
        """Yield the estimate of the baseline, then that of each candidate as soon as it is there.

        Once they have taken `seconds`, no further candidate is started; at least one is always tried.
        """
        spent, candidates = 0.0, self.candidates(method)
        tried = False
        for name in dict.fromkeys([FLOOR, *candidates]):
            if tried and spent > seconds:
                return
            estimate = self.estimate(name, device)
            spent += estimate.seconds
            tried |= name in candidates
            yield estimate

    def fit(self, method: str, device: str = "cpu") -> Any:
        """Return the method fitted to all labels."""
        experiment = self.experiment(method)
        graphs = self.benchmark.graphs(experiment.settings["graph_form"])
        return self._new(method, experiment, device).fit(graphs, self.labels)


def _typical_seconds(method: str, n_labels: int) -> float | None:
    """About what one training takes, by the recorded ones with the most similar number of labels; None without any."""
    taken: dict[int, list[float]] = {}
    for row in Results.of("few_shot").rows():
        if row["method"] != method or row["profile"] != "standard":
            continue
        if row.get("seconds"):
            taken.setdefault(row["n_train"], []).append(row["seconds"])
    if not taken:
        return None

    def distance(n_train: int) -> float:
        return abs(math.log(n_train / n_labels))

    nearest = min(taken, key=distance)
    return statistics.median(taken[nearest]) * n_labels / nearest


def best(estimates: Sequence[Estimate], candidates: Sequence[str]) -> Estimate:
    """Return the candidate with the highest tau among those that were tried, or the first of equal ones."""
    tried = [estimate for estimate in estimates if estimate.method in candidates]
    return max(tried, key=lambda estimate: estimate.tau)


def verdict(estimate: Estimate, floor: Estimate, n_candidates: int) -> str:
    """Return one or two sentences on what the estimate means for using the method."""
    if estimate.method == floor.method:
        words = f"{FLOOR} is the floor itself: nothing that was tried ranks better."
    else:
        gain, low, high = estimate.above(floor)
        numbers = f"{gain:+.3f} in tau, {low:+.3f} to {high:+.3f}"
        if low > 0:
            words = f"{estimate.method} ranks better than {FLOOR} ({numbers})."
        elif gain <= 0:
            words = f"{FLOOR}, the floor, wins: {estimate.method} is not above it ({numbers}). Use --method {FLOOR}."
        else:
            words = f"No clear difference: {estimate.method} less {FLOOR} is {numbers}. More labels would tell."
    if n_candidates > 1:
        words += f" As the best of {n_candidates}, its tau is a little flattered."
    return words


def read_architectures(path: str | Path) -> list[str]:
    """Return the notations in a file: one a line, or the column `notation` of a CSV, Parquet or JSON lines file.

    Raise UserError if the file cannot be read or has none.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() in (".csv", ".parquet", ".jsonl"):
        notations = read_columns(path, ["notation"])["notation"].tolist()
    else:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            told = getattr(error, "strerror", None) or "it is no text"
            raise UserError(f"architectures must be in a file that can be read, got {path}: {told}") from error
        stripped = [line.strip() for line in lines]
        notations = [line for line in stripped if line and not line.startswith("#")]
    if not notations:
        raise UserError(f"architectures must be listed one a line, got none in {path}")
    return notations


def predict(path: str | Path, notations: Sequence[str], device: str = "cpu", space: Any = None) -> pd.DataFrame:
    """Return the predictions of a saved predictor: columns `accuracy`, in percent, and `notation`, as given."""
    predictor = load(path, device, space)
    accuracy = predictor.predict(list(notations)).tolist()
    return pd.DataFrame({"accuracy": accuracy, "notation": list(notations)})


def sample(space: Any, n: int, seed: int = 0) -> list[str]:
    """Return notations of n different random architectures of a space, or fewer if drawing finds no more.

    Architectures that compute the same function count as one.
    """
    space = spaces.get(space)
    return [space.canonical(drawn, "raw").notation for drawn in draw_distinct(space, n, seed)]


def labelled(space: Any, dataset: str | None, n: int, seed: int = 0) -> pd.DataFrame:
    """Return n random rows of a space's own table as `notation` and `accuracy`, as a substitute for your own labels."""
    benchmark = Benchmark(space, dataset)
    rows, _ = benchmark.split(n, seed)
    graphs = benchmark.graphs("raw")[rows]
    architectures = [graphs.architecture(i) for i in range(n)]
    notations = [benchmark.space.canonical(one, "raw").notation for one in architectures]
    return pd.DataFrame({"notation": notations, "accuracy": benchmark.validation[rows].tolist()})


def ranked(path: str | Path, notations: Sequence[str], top: int = 0, **options: Any) -> pd.DataFrame:
    """Return `predict` sorted by accuracy, highest first; if `top` is above 0, only so many. Ties keep their order."""
    table = predict(path, notations, **options).sort_values("accuracy", ascending=False, kind="stable")
    return table.head(top) if top else table
