"""HyperNAS (arXiv 2509.18151): rank architectures by a GCN over the whole network, with weight generation beside it.

The method: encode the cells in sequence (`encoder.GlobalEncoder`), predict the accuracy from the mean of the pooled
cells, generate the weights of every convolution from its node's features (`hypernetwork.Hypernetwork`), run the
network so made on auxiliary images (`target.run`), and minimise the adaptive sum of both losses
(`losses.AdaptiveLoss`). HyperNAS-P is the predictor alone, HyperNAS-H the hypernetwork alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hypernas.data import Images, load_images
from hypernas.errors import UserError
from hypernas.graph import GraphBatch
from hypernas.hypernetwork import Hypernetwork
from hypernas.labels import LabelScale
from hypernas.joint import predict_and_generate
from hypernas.losses import U_MIN, AdaptiveLoss, adaptive_sum, check_preference, pairwise_logistic
from hypernas.model import ArchitecturePredictor, Cells, Stack, encode, regress, score
from hypernas.target import Program, TargetHead, run
from hypernas.training import Schedule, train

LOSSES = ("mse", "bce")


class HyperNASModel(nn.Module):
    """Encoder, regressor, hypernetwork, the shared stem and classifier, and the adaptive loss."""

    def __init__(self, predictor: ArchitecturePredictor, hypernetwork: Hypernetwork | None,
                 head: TargetHead | None, loss: AdaptiveLoss | None) -> None:  # fmt: skip
        super().__init__()
        self.predictor, self.hypernetwork, self.head, self.loss = predictor, hypernetwork, head, loss

    def one(self, graph: GraphBatch, program: Program, images: Tensor) -> tuple[Tensor, Tensor]:
        """The plain pass, one architecture on images (M, C, H, W): standardised accuracy (), logits (M, K)."""
        assert self.hypernetwork is not None and self.head is not None
        predicted, nodes = self.predictor(graph)
        weights = {}
        for layer in program.convs:
            assert layer.weight is not None
            position, node = layer.weight
            features = self.hypernetwork.features(nodes[:, position, node])
            weights[layer.weight] = self.hypernetwork.weights(features, layer.weight_shape)[0]
        return predicted[0], run(program, weights, self.head, images)


class HyperNAS:
    """The predictor of the paper. Defaults are the paper's settings (Supplement 7) where it gives them.

    NOTE[PAPER]: paper says nothing of the target network's width and depth on auxiliary data; we build one cell a
    stage with 4 channels and a stem of stride 2 for 8 x 8 digits; because more does not change what is learned enough
    to pay for it, and every one of these is a parameter.
    """

    def __init__(
        self, *, epochs: int = 200, seed: int = 0, loss: str = "mse", context: str = "sum", q: float = 1.5,
        reading: str = "printed", learn_u: bool = True, images: str = "digits", n_layers: int = 6, width: int = 72,
        hyper_layers: int = 3, hyper_width: int = 96, channels: int = 4, cells_per_stage: int = 1,
        stem_stride: int = 2, image_batch: int = 128, learning_rate: float = 1e-3, accumulate: int = 10,
        engine: str = "fast", predict_accuracy: bool = True, generate_weights: bool = True, progress: bool = False,
        checkpoint: str | Path | None = None,
    ) -> None:  # fmt: skip
        check_preference(q, reading)
        if loss not in LOSSES:
            raise UserError(f"loss must be one of {', '.join(LOSSES)}, got {loss!r}")
        if engine not in ("fast", "plain"):
            raise UserError(f"engine must be fast or plain, got {engine!r}")
        self.epochs, self.seed, self.loss, self.context, self.q, self.reading = epochs, seed, loss, context, q, reading
        self.learn_u, self.images, self.n_layers, self.width = learn_u, images, n_layers, width
        self.hyper_layers, self.hyper_width, self.channels = hyper_layers, hyper_width, channels
        self.cells_per_stage, self.stem_stride, self.image_batch = cells_per_stage, stem_stride, image_batch
        self.learning_rate, self.accumulate, self.engine = learning_rate, accumulate, engine
        self.predict_accuracy, self.generate_weights = predict_accuracy, generate_weights
        self.progress, self.checkpoint = progress, checkpoint

    def fit(self, graphs: GraphBatch, accuracy: Tensor) -> Any:
        """Train on n architectures and their accuracy (n,), percent. The seed fixes every bit on a CPU."""
        return fit_together([self], [graphs], [accuracy])[0]

    def predict(self, graphs: GraphBatch) -> Tensor:
        """Accuracy (B,) in percent; HyperNAS-H answers with the accuracy of the generated network on held-out images."""
        if not self.predict_accuracy:
            return self.target_accuracies(graphs)
        return self.scale.percent(score([self.model.predictor], [graphs])[0])

    @torch.no_grad()
    def target_accuracies(self, graphs: GraphBatch, n_images: int = 256, chunk: int = 64) -> Tensor:
        """Accuracy (B,) in percent of each architecture with generated weights on test images, all in one batch."""
        images = load_images(self.images)
        x, y = images.test_images[:n_images], images.test_labels[:n_images]
        accuracies = []
        for rows in torch.arange(len(graphs)).split(chunk):
            part = graphs[rows]
            index = torch.arange(len(part))[None]
            _, logits = self._fast(Stack([self.model]), Cells([part], x.dtype), index, self._programs(part), x.expand(
                1, len(part), *x.shape))  # fmt: skip
            accuracies.append((logits[0].argmax(-1) == y).double().mean(1) * 100)
        return torch.cat(accuracies)

    def _programs(self, graphs: GraphBatch) -> list[Program]:
        if graphs.space is None:
            raise UserError("the hypernetwork needs to know the search space; pass it to collate, or use hypernas-p")
        build = partial(graphs.space.build, channels=self.channels, cells_per_stage=self.cells_per_stage,
                        stem_stride=self.stem_stride)  # fmt: skip
        return [build(graphs.architecture(i)) for i in range(len(graphs))]

    def _predictor(self, graphs: GraphBatch) -> ArchitecturePredictor:
        n_ops = len(graphs.space.ops) if graphs.space is not None else int(graphs.ops.max()) + 1
        return ArchitecturePredictor(n_ops, self.n_layers, self.width, self.context)

    def _new_model(self, graphs: GraphBatch, program: Program | None, images: Images | None) -> HyperNASModel:
        """A fresh model, its weights drawn from the seed."""
        tasks = ("pred",) * self.predict_accuracy + ("hyper",) * self.generate_weights
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            predictor = self._predictor(graphs)
            if program is None or images is None:
                return HyperNASModel(predictor, None, None, None)
            hypernetwork = Hypernetwork(self.width, self.hyper_width, self.hyper_layers, c_max=program.c_last)
            c_image = images.train_images.shape[1]
            head = TargetHead(c_image, self.channels, program.c_last, images.n_classes, self.stem_stride)
        return HyperNASModel(predictor, hypernetwork, head, AdaptiveLoss(self.q, self.reading, tasks, self.learn_u))

    def _fast(self, stack: Stack, cells: Cells, index: Tensor, programs: Sequence[Program], x: Tensor
              ) -> tuple[Tensor, Tensor]:  # fmt: skip
        c_max = programs[0].c_last
        return predict_and_generate(
            stack.parameters, self.context, self.n_layers, c_max, self.stem_stride, cells, index, programs, x
        )


def _pair_losses(loss: str, predicted: Tensor, label: Tensor) -> Tensor:
    """The loss (..., b) of each architecture of a step; a ranking loss is one number for all of them."""
    if loss == "mse":
        return (predicted - label) ** 2
    return pairwise_logistic(predicted, label)[..., None]


def _draw(images: Images, shape: tuple[int, int], generators: list[np.random.Generator]) -> tuple[Tensor, Tensor]:
    """A batch of M images for each of b architectures: shape (b, M) -> x (S, b, M, C, H, W), y (S, b, M)."""
    chosen = np.stack([g.integers(len(images.train_labels), size=shape) for g in generators])
    return images.train_images[chosen], images.train_labels[chosen]


def _fast_loss(first: HyperNAS, stack: Stack, cells: Cells, labels: Tensor, programs: Any, images: Any, index: Tensor,
               generators: list[np.random.Generator]) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    label = labels.gather(1, index)
    if programs is None:
        h, _ = encode(stack.parameters, first.context, first.n_layers, cells, index, prefix="predictor.encoder.")
        predicted = regress(stack.parameters, h, "predictor.regressor.")
        losses = _pair_losses(first.loss, predicted, label).mean(1)
        return losses.sum(), {"loss_pred": losses.detach()}
    x, y = _draw(images, (index.shape[1], first.image_batch), generators)
    chosen = [programs[s][i] for s, row in enumerate(index.tolist()) for i in row]
    predicted, logits = first._fast(stack, cells, index, chosen, x)
    return _join(first, stack.parameters["loss.u"], predicted, label, logits, y)


def _plain_loss(first: HyperNAS, model: HyperNASModel, graphs: GraphBatch, labels: Tensor, programs: Any, images: Any,
                index: Tensor, generators: list[np.random.Generator]) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """One architecture, one target network: the paper's loop, of one seed."""
    i = int(index[0, 0])
    label = labels.gather(1, index)
    if programs is None:
        losses = _pair_losses(first.loss, model.predictor(graphs[i : i + 1])[0][None], label).mean(1)
        return losses.sum(), {"loss_pred": losses.detach()}
    x, y = _draw(images, (1, first.image_batch), generators)
    predicted, logits = model.one(graphs[i : i + 1], programs[0][i], x[0, 0])
    return _join(first, model.loss.u[None], predicted[None, None], label, logits[None, None], y)


def _join(first: HyperNAS, u: Tensor, predicted: Tensor, label: Tensor, logits: Tensor, y: Tensor
          ) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """Both losses by the adaptive sum: u (S, T), predicted and label (S, b), logits (S, b, M, K), y (S, b, M)."""
    hyper = F.cross_entropy(logits.flatten(0, 2), y.flatten(), reduction="none").view(y.shape).mean(2)
    losses = {"pred": _pair_losses(first.loss, predicted, label)} if first.predict_accuracy else {}
    losses["hyper"] = hyper
    log = {f"loss_{task}": value.detach().mean(-1) for task, value in losses.items()}
    weights = 0.5 / (u.detach() ** 2 + U_MIN**2)
    log |= {f"weight_{task}": weights[:, t] for t, task in enumerate(losses)}
    log["target_accuracy"] = (logits.argmax(-1) == y).float().mean((1, 2)) * 100
    return adaptive_sum(list(losses.values()), u, check_preference(first.q, first.reading)).sum(), log


def fit_together(methods: Sequence[Any], graphs: Sequence[GraphBatch], accuracies: Sequence[Tensor]) -> Sequence[Any]:
    """Fit S predictors at once that are equal but for seed and data; each ends as its own `fit` would leave it."""
    first = methods[0]
    for method, accuracy in zip(methods, accuracies, strict=True):
        method.scale = LabelScale.of(accuracy)
    labels = torch.stack([m.scale.standardise(a) for m, a in zip(methods, accuracies, strict=True)])
    images = load_images(first.images) if first.generate_weights else None
    programs = [first._programs(batch) for batch in graphs] if first.generate_weights else None
    pairs = zip(methods, graphs, strict=True)
    models = [m._new_model(batch, programs[0][0] if programs else None, images) for m, batch in pairs]
    plain = first.engine == "plain"
    stack = models[0] if plain else Stack(models)
    loss = _plain_loss if plain else _fast_loss
    cells = graphs[0] if plain else Cells(graphs, torch.get_default_dtype())
    parameters = list(stack.parameters()) if plain else list(stack.parameters.values())
    history = train(
        parameters, partial(loss, first, stack, cells, labels, programs, images), labels.shape[1],
        Schedule(first.epochs, first.learning_rate, first.accumulate), [m.seed for m in methods],
        micro_batch=1 if plain else None, progress=first.progress,
        checkpoint=Path(first.checkpoint) if first.checkpoint else None,
    )  # fmt: skip
    if not plain:
        stack.write_back()
    for s, (method, model) in enumerate(zip(methods, models, strict=True)):
        method.model = model
        method.history = [{k: v[s] if isinstance(v, list) else v for k, v in row.items()} for row in history]
        method.n_parameters = sum(p.numel() for p in model.parameters())
    return methods


METHODS = {
    "hypernas": HyperNAS,
    "hypernas-p": partial(HyperNAS, generate_weights=False),
    "hypernas-h": partial(HyperNAS, predict_accuracy=False),
}
