"""NP, the neural predictor (Wen et al. 2020) as the paper's baseline: a GCN that sees each cell by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hypernas.errors import UserError
from hypernas.graph import GraphBatch
from hypernas.labels import LabelScale
from hypernas.model import ArchitecturePredictor, Cells, Stack, encode, regress, score
from hypernas.training import Schedule, train


class NeuralPredictor:
    """Each unique cell once, no sequence and no context; else encoder, regressor and schedule as in HyperNAS-P.

    NOTE[PAPER]: paper compares with NP and gives no settings for it; we give it the encoder, regressor and schedule
    of HyperNAS-P; because then the two differ in the global encoding alone.
    """

    def __init__(self, *, epochs: int = 200, seed: int = 0, n_layers: int = 6, width: int = 72,
                 learning_rate: float = 1e-3, accumulate: int = 10, progress: bool = False) -> None:  # fmt: skip
        self.epochs, self.seed, self.n_layers, self.width = epochs, seed, n_layers, width
        self.learning_rate, self.accumulate, self.progress = learning_rate, accumulate, progress

    def fit(self, graphs: GraphBatch, accuracy: Tensor) -> Any:
        """Train on n architectures and their accuracy (n,), percent. The seed fixes every bit on a CPU."""
        return fit_together([self], [graphs], [accuracy])[0]

    def predict(self, graphs: GraphBatch) -> Tensor:
        """Accuracy (B,) in percent."""
        return self.scale.percent(score([self.model], [single_cells(graphs)])[0])


def single_cells(graphs: GraphBatch) -> GraphBatch:
    """Each unique cell once, in place of the sequence of the network."""
    n_unique = graphs.kind.shape[1]
    present = torch.stack([(graphs.sequence == u).any(1) for u in range(n_unique)], 1)
    if not bool(present.all()):
        raise UserError("np needs architectures with equally many unique cells; use hypernas-p for others")
    sequence = torch.arange(n_unique).expand(len(graphs), -1)
    return GraphBatch(graphs.ops, graphs.adjacency, graphs.mask, graphs.kind, sequence, graphs.space)


def fit_together(methods: Sequence[Any], graphs: Sequence[GraphBatch], accuracies: Sequence[Tensor]) -> Sequence[Any]:
    """Fit S predictors at once that are equal but for seed and data; each ends as its own `fit` would leave it."""
    first = methods[0]
    models = []
    for method, accuracy, batch in zip(methods, accuracies, graphs, strict=True):
        method.scale = LabelScale.of(accuracy)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(method.seed)
            n_ops = len(batch.space.ops) if batch.space is not None else int(batch.ops.max()) + 1
            models.append(ArchitecturePredictor(n_ops, first.n_layers, first.width, "none"))
    labels = torch.stack([m.scale.standardise(a) for m, a in zip(methods, accuracies, strict=True)])
    stack, cells = Stack(models), Cells([single_cells(batch) for batch in graphs], torch.get_default_dtype())

    def loss(index: Tensor, _: Any) -> tuple[Tensor, dict[str, Tensor]]:
        h, _ = encode(stack.parameters, "none", first.n_layers, cells, index)
        losses = ((regress(stack.parameters, h) - labels.gather(1, index)) ** 2).mean(1)
        return losses.sum(), {"loss_pred": losses.detach()}

    schedule = Schedule(first.epochs, first.learning_rate, first.accumulate)
    history = train(list(stack.parameters.values()), loss, labels.shape[1], schedule, [m.seed for m in methods],
                    progress=first.progress)  # fmt: skip
    stack.write_back()
    for s, (method, model) in enumerate(zip(methods, models, strict=True)):
        method.model = model
        method.history = [row | {"loss_pred": row["loss_pred"][s]} for row in history]
        method.n_parameters = sum(p.numel() for p in model.parameters())
    return methods


METHODS = {"np": NeuralPredictor}
