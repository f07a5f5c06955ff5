"""What predictors that run target networks share: auxiliary images, generated weights, and the accuracy they reach."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hypernas.data.images import Images, check_images, kind_of, load_once
from hypernas.errors import UserError
from hypernas.fast.forward import FastPass
from hypernas.graph import GraphBatch
from hypernas.method.hypernas import (
    TEST_IMAGES,
    AuxiliaryImages,
    HypernetworkSize,
    TargetNetworkSize,
    build_programs,
    new_generator,
)
from hypernas.method.hypernetwork import Hypernetwork
from hypernas.method.target_network import Program, TargetHead
from hypernas.spaces.programs import map_sizes
from hypernas.training.loop import Logged, Schedule
from hypernas.training.predictor import TrainedPredictor
from hypernas.training.recorder import Recorder, on_gpu

# Pixels of test images whose networks are judged in one batch; more would only take more memory.
PIXELS_AT_ONCE = 1 << 20
# Architectures of the test set whose generated networks are judged for a row.
JUDGED = 64
# Activations of a stem above which a target network keeps a GPU busy for longer than its start takes.
LARGEST_SHARED = 1 << 18
# Epochs of a training's history that a row keeps.
CURVE = 21


@lru_cache(2)
def _joined(
    sets: tuple[tuple[str, int], ...],
    device: str,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, dict[tuple[str, int], int]]:
    """The training images and labels of different sets, one set after another, and where each begins."""
    loaded = [load_once(*names) for names in sets]
    images = torch.cat([one.train_images for one in loaded])
    labels = torch.cat([one.train_labels for one in loaded])
    starts, start = {}, 0
    for names, one in zip(sets, loaded, strict=True):
        starts[names] = start
        start += len(one.train_labels)
    return images.to(device, dtype), labels.to(device), starts


class TrainingImages:
    """The images on which the target networks of S models train; each model may have its own set.

    Raise UserError if the sets are of different kinds.
    """

    def __init__(self, sets: Sequence[AuxiliaryImages], device: str) -> None:
        if len({kind_of(one.images) for one in sets}) > 1:
            names = ", ".join(dict.fromkeys(one.images for one in sets))
            raise UserError(f"images that train at once must have one size and number of classes, got {names}")
        self.sets = sets
        self.device = device
        # Models with the same images share one copy of them.
        different = tuple(dict.fromkeys((one.images, one.n_images) for one in sets))
        self.images, self.labels, self.starts = _joined(different, device, torch.get_default_dtype())

    def choose(self, b: int, generators: list[np.random.Generator]) -> Tensor:
        """Return which M images each of b architectures sees, (S, b, M), drawn from each model's generator."""
        drawn = []
        for one, generator in zip(self.sets, generators, strict=True):
            n = len(load_once(one.images, one.n_images).train_labels)
            numbers = generator.integers(n, size=(b, one.image_batch))
            drawn.append(self.starts[one.images, one.n_images] + numbers)
        return torch.from_numpy(np.stack(drawn))

    def pictures(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images with indices chosen (S, b, M): x (S, b, M, C, H, W), y (S, b, M)."""
        chosen = chosen.to(self.device)
        return self.images[chosen], self.labels[chosen]

    def draw(self, b: int, generators: list[np.random.Generator]) -> tuple[Tensor, Tensor]:
        """Return a batch of M random images for each of b architectures: x (S, b, M, C, H, W), y (S, b, M)."""
        return self.pictures(self.choose(b, generators))


class GeneratingPass(FastPass):
    """A pass of S models with the images on which each model's networks train."""

    def __init__(
        self,
        models: Sequence[Any],
        graphs: Sequence[GraphBatch],
        programs: Sequence[Sequence[Program]],
        prefix: str = "",
        device: str = "cpu",
        maps_in: torch.dtype | None = None,
    ) -> None:
        # Before the pass is set up: images that cannot be joined are refused before any work.
        self.training_images = TrainingImages([model.images for model in models], device)
        super().__init__(models, graphs, programs, prefix, device, maps_in)


@dataclass(kw_only=True, eq=False)
class ImagePredictor(TrainedPredictor):
    """A predictor that runs target networks on auxiliary images."""

    target: TargetNetworkSize = TargetNetworkSize()
    pictures: AuxiliaryImages = AuxiliaryImages()
    runs_networks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_images(self.pictures.images)

    @property
    def auxiliary(self) -> Images:
        return load_once(self.pictures.images, self.pictures.n_images)

    def programs(self, graphs: GraphBatch) -> list[Program]:
        """Return the target network of each architecture."""
        return build_programs(graphs, self.target)

    def check_size(self, graphs: GraphBatch) -> Program:
        """Return the first target network. Raise UserError if the images are too small for it."""
        (program,) = self.programs(graphs[:1])
        map_sizes(program, *self.auxiliary.train_images.shape[2:])
        return program


@dataclass(kw_only=True, eq=False)
class GeneratingPredictor(ImagePredictor):
    """A predictor whose model has a `hypernetwork`, the `head` that all target networks share, and its `images`.

    `prefix` is the place of encoder and regressor in the model.
    """

    generation: HypernetworkSize = HypernetworkSize()
    prefix: ClassVar[str] = ""
    may_differ: ClassVar[tuple[str, ...]] = ("images", "n_images")
    generates_weights: ClassVar[bool] = True

    def new_generator(self, graphs: GraphBatch, width: int) -> tuple[Hypernetwork, TargetHead]:
        """Return an untrained hypernetwork with one head, and the stem and classifier of the target networks.

        The hypernetwork reads node features of `width`. Along every axis, its head is as large as the largest weight of
        the space.
        """
        program = self.check_size(graphs)
        kernels, outs, ins = zip(*program.heads, strict=True)
        # GHN makes one tensor for every layer and cuts from it.
        maximal = [(max(kernels), max(outs), max(ins))]
        return new_generator(width, program, maximal, self.generation, self.auxiliary)

    @property
    def large(self) -> bool:
        """Whether running a target network on its images takes a GPU longer than launching the work."""
        side = max(self.auxiliary.train_images.shape[2:]) // self.target.stem_stride
        return self.pictures.image_batch * self.target.channels * side**2 > LARGEST_SHARED

    def schedule(self) -> Schedule:
        """Return the schedule. On a GPU, the steps of large target networks always contain the same architectures.

        The GPU then runs only the networks of these architectures.
        """
        keeps = on_gpu(self.device) and self.engine != "plain" and self.large
        return replace(super().schedule(), regroup=not keeps)

    def recorder(
        self,
        run: Any,
        labels: Tensor,
        steps: Iterable[Tensor],
    ) -> Recorder | None:
        """Return the recorder of any predictor, except that a static plan lays out the target networks of a step."""
        recorder = super().recorder(run, labels, steps)
        if recorder is not None:
            run.reserve(steps, self.auxiliary.train_images.shape[1:], each_apart=self.large)
            recorder.draw = partial(self._planned, run)
            recorder.loss = partial(self._planned_loss, run, labels)
        return recorder

    def _planned(
        self,
        run: FastPass,
        index: Tensor,
        generators: list[np.random.Generator],
    ) -> tuple[Hashable, Sequence[Tensor]]:
        """The kind of a step, and its inputs with the places of its static plan."""
        kind = run.kind(index, self.large)
        run.static_plan = run.static_plans[kind]
        return kind, (run.static_plan.fill(index.numpy()), *self.inputs(run, index, generators))

    def _planned_loss(
        self,
        run: FastPass,
        labels: Tensor,
        places: Tensor,
        *inputs: Tensor,
    ) -> Logged:
        assert run.static_plan is not None
        run.static_plan.places.copy_(places)
        return self.loss_of(run, labels, *inputs)

    def inputs(
        self,
        run: Any,
        index: Tensor,
        generators: list[np.random.Generator],
    ) -> tuple[Tensor, ...]:
        """Return architectures (S, b) and the images (S, b, M) of their networks."""
        return index, run.training_images.choose(index.shape[1], generators)

    @torch.no_grad()
    def target_accuracies(self, graphs: GraphBatch, n_test: int = TEST_IMAGES) -> Tensor:
        """Return the accuracy (B,) in percent of each generated network, all judged on one batch of test images."""
        x = self.auxiliary.test_images[:n_test].to(self.device, torch.get_default_dtype())
        y = self.auxiliary.test_labels[:n_test].to(self.device)
        first, inverse = graphs.distinct()
        accuracies = []
        # As many networks as the pixels of one batch of test images allow.
        for rows in first.split(max(1, PIXELS_AT_ONCE // x[:, 0].numel())):
            part = graphs[rows]
            run = FastPass([self.model], [part], [self.programs(part)], self.prefix, self.device)
            logits = run.networks(torch.arange(len(part))[None], x.expand(1, len(part), *x.shape))
            accuracies.append((logits[0].argmax(-1) == y).float().mean(1) * 100)
        return torch.cat(accuracies).cpu()[inverse]


def cross_entropy(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return each network's loss (S, b) and each model's accuracy (S,); logits (S, b, M, K), labels (S, b, M).

    The accuracy is in percent.
    """
    losses = F.cross_entropy(logits.flatten(0, 2), y.flatten(), reduction="none")
    right = (logits.argmax(-1) == y).float()
    return losses.view(y.shape).mean(2), right.mean((1, 2)) * 100


def told_of_networks(
    predictor: Any,
    graphs: GraphBatch,
    test: np.ndarray,
    seed: int,
) -> dict[str, Any]:
    """Return the facts that a row records about generated networks; empty if the predictor generates none.

    They are the accuracy in percent in training, and on held-out images, averaged over at most `JUDGED` architectures
    of the test set drawn by the seed. If two tasks share the loss, `history` holds both losses and weights at up to
    `CURVE` epochs, including the first and the last.
    """
    facts: dict[str, Any] = {}
    history = getattr(predictor, "history", None) or [{}]
    last = history[-1]
    if getattr(predictor, "chosen_q", None):
        facts["chosen_q"] = predictor.chosen_q
    if last.get("target_accuracy") is not None:
        facts["target_accuracy"] = last["target_accuracy"]
    if getattr(predictor, "generates_weights", False):
        judged = np.random.default_rng([seed, JUDGED]).permutation(test)[:JUDGED]
        facts["target_test_accuracy"] = float(predictor.target_accuracies(graphs[judged]).mean())
    if "weight_pred" in last:
        epochs = np.unique(np.linspace(0, len(history) - 1, CURVE).round().astype(int))
        facts["history"] = [_rounded(history[i]) for i in epochs]
    return facts


def _rounded(epoch: dict[str, Any]) -> dict[str, Any]:
    """Losses and weights to four digits: a curve is looked at, and a row should be short."""
    return {name: value if name == "epoch" else float(f"{value:.4g}") for name, value in epoch.items()}
