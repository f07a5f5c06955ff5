"""What predictors share that generate weights: target networks, auxiliary images, accuracy of the networks made."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hypernas.data.images import Images, check_images, kind_of, load_images
from hypernas.errors import UserError
from hypernas.fast.forward import FastPass
from hypernas.graph import GraphBatch
from hypernas.method.hypernetwork import Hypernetwork
from hypernas.method.sizes import map_sizes
from hypernas.method.target_network import Program, TargetHead, WeightKey
from hypernas.training.loop import Logged, Recorder, Schedule, on_gpu
from hypernas.training.predictor import TrainedPredictor

PIXELS = 1 << 20
JUDGED = 64
LARGEST_SHARED = 1 << 18
CURVE = 21
_loaded = lru_cache(2)(load_images)


class Deck(NamedTuple):
    """The training images and labels of models that train at once, one set after another, and where each begins."""

    images: Tensor
    labels: Tensor
    starts: dict[tuple[str, int], int]


@lru_cache(2)
def _deck(sets: tuple[tuple[str, int], ...], device: str, dtype: torch.dtype) -> Deck:
    """That of different sets, each a name and a number of images, which must be of one kind."""
    loaded = [_loaded(*each) for each in sets]
    images, labels = loaded[0].train_images, loaded[0].train_labels
    if len(loaded) > 1:
        images = torch.cat([each.train_images for each in loaded])
        labels = torch.cat([each.train_labels for each in loaded])
    starts = np.cumsum([0, *(len(each.train_labels) for each in loaded[:-1])]).tolist()
    return Deck(images.to(device, dtype), labels.to(device), dict(zip(sets, starts, strict=True)))


class GeneratedWeights(Mapping[WeightKey, Tensor]):
    """The weights (c_out, c_in, k, k) of a program, each made from node features (1, C, N, D) when it is asked for."""

    def __init__(self, hypernetwork: Hypernetwork, nodes: Tensor, program: Program) -> None:
        self.hypernetwork, self.nodes = hypernetwork, nodes
        self.shapes = {layer.weight: layer.weight_shape for layer in program.convs if layer.weight is not None}

    def __getitem__(self, key: WeightKey) -> Tensor:
        position, *ends = key
        features = self.hypernetwork.features(self.nodes[:, position, ends].mean(1))
        return self.hypernetwork.weights(features, self.shapes[key])[0]

    def __iter__(self) -> Iterator[WeightKey]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


@dataclass(kw_only=True, eq=False)
class ImagePredictor(TrainedPredictor):
    """A predictor that runs target networks on auxiliary images.

    NOTE[PAPER]: paper says nothing of the target network's width and depth on auxiliary data; we build one cell a
    stage with 4 channels and a stem of stride 2 for 8 x 8 digits; because a CPU then trains it in minutes, and each
    of these is a parameter.
    """

    images: str = "digits"
    n_images: int = 0
    channels: int = 4
    cells_per_stage: int = 1
    stem_stride: int = 2
    image_batch: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        check_images(self.images)

    @cached_property
    def auxiliary(self) -> Images:
        return _loaded(self.images, self.n_images)

    def programs(self, graphs: GraphBatch) -> list[Program]:
        """The target network of each architecture."""
        if graphs.space is None:
            raise UserError("a target network needs to know the search space; pass it to collate, or use hypernas-p")
        return [graphs.space.build(graphs.architecture(i), **self.target_size) for i in range(len(graphs))]

    @property
    def target_size(self) -> dict[str, int]:
        """How large a target network is built."""
        return {"channels": self.channels, "cells_per_stage": self.cells_per_stage, "stem_stride": self.stem_stride}


@dataclass(kw_only=True, eq=False)
class GeneratingPredictor(ImagePredictor):
    """A predictor whose model can have a `hypernetwork` and the `head` that all target networks share.

    With `c_max` no head of the hypernetwork is wider; a larger weight tiles what it gives.
    """

    hyper_layers: int = 3
    hyper_width: int = 96
    c_max: int = 0
    prefix: ClassVar[str] = ""
    of_each: ClassVar[tuple[str, ...]] = ("images", "n_images")

    def new_generator(self, graphs: GraphBatch, width: int, maximal: bool = False) -> tuple[Hypernetwork, TargetHead]:
        """A fresh hypernetwork on node features of `width`, and the head of the target networks.

        With `maximal` it has one head, of the largest weight of the space. Raises UserError where the images are too
        small for the target network, or of another kind than those of others that train at once.
        """
        if len({kind_of(each.images) for each in self.beside}) > 1:
            names = ", ".join(dict.fromkeys(each.images for each in self.beside))
            raise UserError(f"images that train at once must have one size and number of classes, got {names}")
        (program,) = self.programs(graphs[:1])
        map_sizes(program, *self.auxiliary.train_images.shape[2:])
        heads: Sequence[tuple[int, int, int]] = program.heads
        if maximal:
            heads = [tuple(map(max, zip(*heads, strict=True)))]  # type: ignore[list-item]
        if self.c_max:
            heads = [(k, min(c_out, self.c_max), min(c_in, self.c_max)) for k, c_out, c_in in heads]
        hypernetwork = Hypernetwork(width, self.hyper_width, self.hyper_layers, heads=heads)
        c_image, n_classes = self.auxiliary.train_images.shape[1], self.auxiliary.n_classes
        return hypernetwork, TargetHead(c_image, program.channels, program.c_last, n_classes, self.stem_stride)

    @property
    def deck(self) -> Deck:
        """The images of all that train at once."""
        sets = tuple(dict.fromkeys(_set_of(each) for each in self.beside or [self]))
        return _deck(sets, self.device, torch.get_default_dtype())

    def choose(self, b: int, generators: list[np.random.Generator]) -> Tensor:
        """Which M images of the deck each of b architectures sees: (S, b, M)."""
        starts, shape = self.deck.starts, (b, self.image_batch)
        drawn = [
            starts[_set_of(each)] + generator.integers(len(each.auxiliary.train_labels), size=shape)
            for each, generator in zip(self.beside or [self] * len(generators), generators, strict=True)
        ]
        return torch.from_numpy(np.stack(drawn))

    def pictures(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """The images chosen (S, b, M): x (S, b, M, C, H, W), y (S, b, M)."""
        images, labels, _ = self.deck
        chosen = chosen.to(self.device)
        return images[chosen], labels[chosen]

    def draw(self, b: int, generators: list[np.random.Generator]) -> tuple[Tensor, Tensor]:
        """A batch of M images for each of b architectures: x (S, b, M, C, H, W), y (S, b, M)."""
        return self.pictures(self.choose(b, generators))

    @property
    def large(self) -> bool:
        """Whether a target network on its images takes a GPU longer than the start of its work."""
        if not getattr(self, "generate_weights", True):
            return False
        side = max(self.auxiliary.train_images.shape[2:]) // self.stem_stride
        return self.image_batch * self.channels * side**2 > LARGEST_SHARED

    def schedule(self) -> Schedule:
        """On a GPU the steps of large target networks keep their architectures, so that nothing runs but these."""
        return replace(super().schedule(), regroup=not (on_gpu(self.device) and self.large and not self.one_at_a_time))

    def recorder(self, run: Any, labels: Tensor, steps: Iterable[Tensor]) -> Recorder | None:
        """That of any predictor, but that the target networks of a step are laid out by a frame."""
        recorder = super().recorder(run, labels, steps)
        if recorder is not None and run.programs is not None:
            run.reserve(steps, self.auxiliary.train_images.shape[1:], each_apart=self.large)
            recorder.draw, recorder.loss = partial(self._framed, run), partial(self._framed_loss, run, labels)
        return recorder

    def _framed(
        self, run: FastPass, index: Tensor, generators: list[np.random.Generator]
    ) -> tuple[Hashable, Sequence[Tensor]]:
        """The kind of a step, and its inputs with the places of its frame."""
        kind = run.kind(index, self.large)
        run.frame = run.frames[kind]
        return kind, (run.frame.fill(index.numpy()), *self.inputs(run, index, generators))

    def _framed_loss(self, run: FastPass, labels: Tensor, places: Tensor, *inputs: Tensor) -> Logged:
        assert run.frame is not None
        run.frame.places.copy_(places)
        return self.loss_of(run, labels, *inputs)

    @torch.no_grad()
    def target_accuracies(self, graphs: GraphBatch, n_test: int = 256) -> Tensor:
        """Accuracy (B,) in percent of each architecture with generated weights on test images, all in one batch."""
        x = self.auxiliary.test_images[:n_test].to(self.device, torch.get_default_dtype())
        y = self.auxiliary.test_labels[:n_test].to(self.device)
        first, inverse = graphs.distinct()
        accuracies = []
        for rows in first.split(max(1, PIXELS // x[:, 0].numel())):
            part = graphs[rows]
            fast = FastPass([self.model], [part], [self.programs(part)], self.prefix, self.device)
            logits = fast.networks(torch.arange(len(part))[None], x.expand(1, len(part), *x.shape))
            accuracies.append((logits[0].argmax(-1) == y).float().mean(1) * 100)
        return torch.cat(accuracies).cpu()[inverse]


def _set_of(predictor: ImagePredictor) -> tuple[str, int]:
    return predictor.images, predictor.n_images


def cross_entropy(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """logits (S, b, M, K), labels (S, b, M) -> loss of each network (S, b), percent right by model (S,)."""
    loss = F.cross_entropy(logits.flatten(0, 2), y.flatten(), reduction="none").view(y.shape).mean(2)
    return loss, (logits.argmax(-1) == y).float().mean((1, 2)) * 100


def told_of_networks(predictor: Any, graphs: GraphBatch, test: np.ndarray, seed: int) -> dict[str, Any]:
    """What a row says of generated networks, nothing for a predictor that makes none.

    How many images they get right, percent: in training, and on held-out images, the latter as the mean over at most
    `JUDGED` architectures of the test set, drawn by the seed. Where two tasks share the loss, `history`: both losses
    and weights at `CURVE` epochs, the first and the last among them.
    """
    history = getattr(predictor, "history", None) or [{}]
    last = history[-1]
    found = {"target_accuracy": last["target_accuracy"]} if last.get("target_accuracy") is not None else {}
    if getattr(predictor, "generate_weights", False):
        judged = np.random.default_rng([seed, JUDGED]).permutation(test)[:JUDGED]
        found["target_test_accuracy"] = float(predictor.target_accuracies(graphs[judged]).mean())
    if "weight_pred" in last:
        epochs = np.unique(np.linspace(0, len(history) - 1, CURVE).round().astype(int))
        found["history"] = [
            {k: v if k == "epoch" else float(f"{v:.4g}") for k, v in history[i].items()} for i in epochs
        ]
    return found
