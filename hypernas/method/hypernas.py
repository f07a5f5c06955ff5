"""HyperNAS as the paper trains it: one architecture and one batch of images at a time.

A GCN encodes the cells of an architecture in sequence (`encoder.GlobalEncoder`). Its embedding predicts the accuracy,
and its node features generate the weights of every convolution (`hypernetwork.Hypernetwork`). The network with these
weights classifies auxiliary images (`target_network.run`), and training minimises the adaptive sum of both losses
(`loss.AdaptiveLoss`). HyperNAS-P is the predictor alone, HyperNAS-H the hypernetwork alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hypernas.errors import UserError
from hypernas.graph import GraphBatch
from hypernas.method.encoder import GlobalEncoder
from hypernas.method.hypernetwork import Hypernetwork
from hypernas.method.loss import AdaptiveLoss
from hypernas.method.target_network import Program, TargetHead, WeightKey, run
from hypernas.training.labels import LabelScale
from hypernas.training.loop import Logged, Schedule, train

if TYPE_CHECKING:
    from hypernas.data.images import Images

# Architectures that are scored at once; more would only take more memory.
SCORED_AT_ONCE = 256
# Test images on which a generated network is judged.
TEST_IMAGES = 256


@dataclass(frozen=True)
class EncoderSize:
    """Size of the GCN: 6 layers of width 72, but 3 x 144 for DARTS and 3 x 256 for ViT (Supplement 7).

    The regressor's hidden layer has `regressor_width` features, as many as the GCN where that is 0.
    """

    n_layers: int = 6
    width: int = 72
    context: str = "sum"
    regressor_width: int = 0


@dataclass(frozen=True)
class HypernetworkSize:
    """Size of the hypernetwork: 3 layers of width 96, but 2 x 128 for DARTS and 4 x 128 for ViT (Supplement 7).

    If `c_max` is not 0, it limits the channels of every head, and larger weights are tiled from the head's output.
    `head_bias` is the spread of a head's bias at the start.
    """

    hyper_layers: int = 3
    hyper_width: int = 96
    c_max: int = 0
    head_bias: float = 1.0


@dataclass(frozen=True)
class TargetNetworkSize:
    """Size of the target networks.

    NOTE[PAPER]: paper says nothing of the target network's width and depth on auxiliary data; we build one cell a
    stage with 4 channels and a stem of stride 2 for 8 x 8 digits; because a CPU then trains it in minutes, and each
    of these is a parameter. The maps of the last stage are then a single pixel.
    """

    channels: int = 4
    cells_per_stage: int = 1
    stem_stride: int = 2


@dataclass(frozen=True)
class LossSettings:
    """The preference q, the `reading` of the printed formula, and whether the task weights are learned (`learn_u`)."""

    q: float = 1.5
    reading: str = "printed"
    learn_u: bool = True


@dataclass(frozen=True)
class AuxiliaryImages:
    """The images that the target networks classify, a name in `data.images`.

    There are `n_images` of them (0 takes all), and `image_batch` in each step.

    NOTE[PAPER]: paper says D_aux and not how many images it has; we take all training images of a set; because it
    gives no reason to leave any out.
    """

    images: str = "digits"
    n_images: int = 0
    image_batch: int = 128


class Regressor(nn.Module):
    """Predict the standardised accuracy (...,) from the embedding h (..., D).

    NOTE[PAPER]: paper says f_theta and no more; we take one hidden layer as wide as the encoder, ReLU; because the
    embedding is already the output of a deep network and a few dozen labels support no more.
    """

    def __init__(self, width: int, hidden: int = 0) -> None:
        super().__init__()
        hidden = hidden or width
        self.hidden = nn.Linear(width, hidden)
        self.out = nn.Linear(hidden, 1)

    def forward(self, h: Tensor) -> Tensor:
        return self.out(F.relu(self.hidden(h)))[..., 0]


class ArchitecturePredictor(nn.Module):
    """The global encoder (a directed GCN by default) and the regressor on its embedding."""

    def __init__(
        self,
        n_ops: int,
        n_layers: int,
        width: int,
        context: str,
        encoder: Callable[..., GlobalEncoder] = GlobalEncoder,
        regressor_width: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = encoder(n_ops, n_layers, width, context)
        self.regressor = Regressor(width, regressor_width)

    def forward(self, batch: GraphBatch) -> tuple[Tensor, Tensor]:
        """B architectures -> standardised accuracy (B,), node features (B, C, N, D)."""
        h, nodes = self.encoder(batch)
        return self.regressor(h), nodes


class HyperNASModel(nn.Module):
    """Encoder, regressor, hypernetwork, stem and classifier (shared by all target networks), and the u of the loss."""

    def __init__(
        self,
        predictor: ArchitecturePredictor,
        hypernetwork: Hypernetwork,
        head: TargetHead,
        loss: AdaptiveLoss,
        images: AuxiliaryImages | None = None,
    ) -> None:
        super().__init__()
        self.predictor = predictor
        self.hypernetwork = hypernetwork
        self.head = head
        self.loss = loss
        # Which images its networks are trained on: of models that train at once, each may have its own.
        self.images = images

    def forward(self, graph: GraphBatch, program: Program, images: Tensor) -> tuple[Tensor, Tensor]:
        """One architecture, images (M, C, H, W) -> standardised accuracy (1,), logits (M, K) of its network."""
        predicted, nodes = self.predictor(graph)
        weights = {}
        for layer in program.convs:
            assert layer.weight is not None
            weights[layer.weight] = self.weight(nodes, layer.weight, layer.weight_shape)
        return predicted, run(program, weights, self.head, images)

    def weight(self, nodes: Tensor, key: WeightKey, shape: tuple[int, int, int, int]) -> Tensor:
        """Return the weight (c_out, c_in, k, k) of the layer `key` from node features (1, C, N, D).

        The features of an edge are the mean of its two ends.
        """
        position, *ends = key
        features = self.hypernetwork.features(nodes[:, position, ends].mean(1))
        return self.hypernetwork.weights(features, shape)[0]


@dataclass(kw_only=True)
class HyperNASP:
    """HyperNAS-P: the predictor alone, trained on the squared error.

    NOTE[PAPER]: paper does not define an epoch; we take one pass over the n_train labels; because nothing else in the
    method has a length.
    """

    seed: int = 0
    training: Schedule = Schedule()
    encoder: EncoderSize = EncoderSize()
    # Another graph network can stand in the place of the directed GCN.
    encoder_class: Callable[..., GlobalEncoder] = GlobalEncoder
    device: str = "cpu"

    model: Any = field(default=None, init=False, repr=False)
    scale: LabelScale | None = field(default=None, init=False, repr=False)
    history: list[dict[str, Any]] = field(default_factory=list, init=False, repr=False)

    def fit(self, graphs: GraphBatch, accuracy: Tensor, scale: LabelScale | None = None, **options: Any) -> HyperNASP:
        """Train on n architectures and their accuracy (n,) in percent; `options` go to `training.loop.train`.

        NOTE[PAPER]: paper says nothing of the scale of labels; we standardise by the training labels; because the
        adaptive loss weighs the tasks by their size, and then both begin near 1.
        """
        self.scale = scale or LabelScale.of(accuracy)
        labels = self.scale.standardise(accuracy).to(self.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.model = self.new_model(graphs).to(self.device)
        # Buffers are left out: the paper's model has none that a training changes.
        parameters = list(self.model.parameters())
        # Gradients of ten architectures are summed before a step, one architecture at a time.
        loss = partial(self.loss_of, graphs.to(self.device), labels, self.programs(graphs))
        seeds = [self.seed]
        self.history = train(parameters, loss, len(labels), self.training, seeds, micro_batch=1, **options)
        # A trained model is kept, saved and asked on the CPU, wherever it was trained.
        self.model.to("cpu")
        return self

    @torch.no_grad()
    def predict(self, graphs: GraphBatch) -> Tensor:
        """Return the accuracy (B,) in percent. The hypernetwork is not used."""
        if self.model is None or self.scale is None:
            raise UserError("predict needs a fitted predictor; call fit(graphs, accuracy) first")
        scores = []
        for rows in torch.arange(len(graphs)).split(SCORED_AT_ONCE):
            scores.append(self.predictor(graphs[rows])[0])
        return self.scale.percent(torch.cat(scores))

    @property
    def predictor(self) -> ArchitecturePredictor:
        """The trained encoder and regressor."""
        return self.model

    def new_model(self, graphs: GraphBatch) -> nn.Module:
        """Return an untrained model for the space of `graphs`; the caller has seeded the random generator."""
        return self.new_predictor(graphs)

    def new_predictor(self, graphs: GraphBatch) -> ArchitecturePredictor:
        """Return an untrained encoder and regressor for the space of `graphs`."""
        n_ops = int(graphs.ops.max()) + 1 if graphs.space is None else len(graphs.space.ops)
        size = self.encoder
        widths = size.n_layers, size.width
        return ArchitecturePredictor(n_ops, *widths, size.context, self.encoder_class, size.regressor_width)

    def programs(self, graphs: GraphBatch) -> list[Program]:
        """Return the target network of each architecture: none, because HyperNAS-P runs no networks."""
        return []

    def loss_of(
        self,
        graphs: GraphBatch,
        labels: Tensor,
        programs: Sequence[Program],
        index: Tensor,
        generators: list[np.random.Generator],
    ) -> Logged:
        """Return the loss of the one architecture in index (1, 1), and the values to log."""
        i = int(index)
        predicted, _ = self.model(graphs[i : i + 1])
        loss = (predicted - labels[i]) ** 2
        return loss.mean(), {"loss_pred": loss.detach().mean()}


@dataclass(kw_only=True)
class HyperNAS(HyperNASP):
    """HyperNAS: prediction and weight generation, joined by the adaptive loss.

    NOTE[PAPER]: paper says L_pred is the squared error, and raises it to the power q in the adaptive loss; we do
    both, so that at q = 1.5 HyperNAS trains on |e|^3 / (2 u^2) where HyperNAS-P trains on e^2; because both follow
    from its formulas.

    >>> from hypernas import spaces
    >>> from hypernas.graph import collate
    >>> space = spaces.get("nasbench201")
    >>> rng = np.random.default_rng(0)
    >>> graphs = collate([space.sample(rng) for _ in range(4)], space)
    >>> small = HyperNAS(training=Schedule(epochs=1), encoder=EncoderSize(n_layers=1, width=8))
    >>> small.fit(graphs, torch.tensor([90.0, 91.0, 92.0, 93.0])).predict(graphs).shape
    torch.Size([4])
    """

    hypernetwork: HypernetworkSize = HypernetworkSize()
    target: TargetNetworkSize = TargetNetworkSize()
    loss: LossSettings = LossSettings()
    images: AuxiliaryImages = AuxiliaryImages()
    tasks: tuple[str, ...] = ("pred", "hyper")

    @property
    def predictor(self) -> ArchitecturePredictor:
        return self.model.predictor

    def new_model(self, graphs: GraphBatch) -> HyperNASModel:
        predictor = self.new_predictor(graphs)
        # Stem, classifier and heads have one shape in the whole space, so any architecture says which.
        (program,) = self.programs(graphs[:1])
        images = load(self.images)
        hypernetwork, head = new_generator(self.encoder.width, program, program.heads, self.hypernetwork, images)
        loss = AdaptiveLoss(self.loss.q, self.loss.reading, self.tasks, self.loss.learn_u)
        return HyperNASModel(predictor, hypernetwork, head, loss, self.images)

    def programs(self, graphs: GraphBatch) -> list[Program]:
        """Return the target network of each architecture."""
        return build_programs(graphs, self.target)

    def loss_of(
        self,
        graphs: GraphBatch,
        labels: Tensor,
        programs: Sequence[Program],
        index: Tensor,
        generators: list[np.random.Generator],
    ) -> Logged:
        i = int(index)
        images = load(self.images)
        # Drawn with replacement: a batch is a sample of the images, and no epoch over them is meant.
        drawn = torch.from_numpy(generators[0].integers(len(images.train_labels), size=self.images.image_batch))
        x = images.train_images[drawn].to(labels)
        y = images.train_labels[drawn].to(self.device)
        predicted, logits = self.model(graphs[i : i + 1], programs[i], x)
        losses = {"pred": (predicted - labels[i]) ** 2, "hyper": F.cross_entropy(logits, y)[None]}
        log = {f"loss_{task}": losses[task].detach().mean() for task in self.tasks}
        # The factor of each task in the total, as the book draws it.
        weights = 0.5 / self.model.loss.u_squared().detach()
        log |= {f"weight_{task}": weight for task, weight in zip(self.tasks, weights, strict=True)}
        log["target_accuracy"] = (logits.argmax(-1) == y).float().mean() * 100
        return self.model.loss(losses), log


@dataclass(kw_only=True)
class HyperNASH(HyperNAS):
    """HyperNAS-H: weight generation alone; an architecture's score is the accuracy of its generated network."""

    tasks: tuple[str, ...] = ("hyper",)

    @torch.no_grad()
    def predict(self, graphs: GraphBatch) -> Tensor:
        """Return the accuracy (B,) in percent of the generated networks, all judged on one batch of test images."""
        if self.model is None:
            raise UserError("predict needs a fitted predictor; call fit(graphs, accuracy) first")
        images = load(self.images)
        # The images are in random order already, so the first ones are a fair sample.
        x = images.test_images[:TEST_IMAGES].to(torch.get_default_dtype())
        y = images.test_labels[:TEST_IMAGES]
        accuracies = []
        for i, program in enumerate(self.programs(graphs)):
            _, logits = self.model(graphs[i : i + 1], program, x)
            accuracies.append((logits.argmax(-1) == y).float().mean() * 100)
        return torch.stack(accuracies)


def load(chosen: AuxiliaryImages) -> Images:
    """Load the images, once for each process."""
    # Imported here, since the predictor alone needs no images.
    from hypernas.data.images import load_once

    return load_once(chosen.images, chosen.n_images)


def build_programs(graphs: GraphBatch, size: TargetNetworkSize) -> list[Program]:
    """Return the target network of each architecture. Raise UserError if the space of the graphs is unknown."""
    if graphs.space is None:
        raise UserError("a target network needs to know the search space; pass it to collate, or use hypernas-p")
    programs = []
    for i in range(len(graphs)):
        architecture = graphs.architecture(i)
        programs.append(graphs.space.build(architecture, size.channels, size.cells_per_stage, size.stem_stride))
    return programs


def new_generator(
    width: int,
    program: Program,
    heads: Sequence[tuple[int, int, int]],
    size: HypernetworkSize,
    images: Images,
) -> tuple[Hypernetwork, TargetHead]:
    """Return an untrained hypernetwork and the stem and classifier that all target networks share.

    `width` is the size of the node features, `heads` the (k, c_out, c_in) of the hypernetwork's outputs.
    """
    if size.c_max:
        heads = [(kernel, min(c_out, size.c_max), min(c_in, size.c_max)) for kernel, c_out, c_in in heads]
    hypernetwork = Hypernetwork(width, size.hyper_width, size.hyper_layers, heads=heads, head_bias=size.head_bias)
    c_image = images.train_images.shape[1]
    head = TargetHead(c_image, program.channels, program.c_last, images.n_classes, program.stem_stride)
    return hypernetwork, head
