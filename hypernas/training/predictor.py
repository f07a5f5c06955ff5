"""What all trained predictors share: keyword settings, standardised labels, training of several seeds at once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from hypernas.errors import UserError
from hypernas.graph import Architecture, GraphBatch
from hypernas.training.labels import LabelScale
from hypernas.training.loop import Checkpoint, Logged, Schedule, train
from hypernas.training.recorder import Recorder, on_gpu, own_stream
from hypernas.training.settings import checked, not_too_large, present_device, typed
from hypernas.training.training_set import TrainingSet, accuracies

# Settings whose range is a rule of its own; all other whole numbers just count something.
RULED = ("seed", "learning_rate", "weight_decay", "subsample", "image_batch", "unlabelled", "head_bias")
# What `predict` takes; text is the notation of an architecture.
Architectures = GraphBatch | Architecture | str | Sequence[Architecture | str]
# They change nothing of the result, or, as the seed, are told apart elsewhere.
NOT_OF_A_TRAINING = ("seed", "progress", "checkpoint", "device")


class Pass(Protocol):
    """S models on their training sets.

    `trained` holds their parameters, and `write_back` ends the training. A pass is `recordable` if its step reads no
    value on the host.
    """

    trained: list[Tensor]

    @property
    def recordable(self) -> bool: ...

    def write_back(self) -> None: ...


@dataclass(kw_only=True, eq=False)
class FittedPredictor:
    """A predictor with keyword settings and labels on a common scale. A subclass adds its settings, `fit` and `score`.

    `predicts_accuracy` is false for predictors whose score is not an accuracy, `runs_networks` is true for those that
    need images, and `generates_weights` for those that generate the weights of target networks.
    """

    predicts_accuracy: ClassVar[bool] = True
    runs_networks: ClassVar[bool] = False
    generates_weights: ClassVar[bool] = False

    seed: int = 0

    model: Any = field(default=None, init=False, repr=False)
    scale: Any = field(default=None, init=False, repr=False)
    training_set: TrainingSet | None = field(default=None, init=False, repr=False)
    history: list[dict[str, Any]] = field(default_factory=list, init=False, repr=False)
    n_parameters: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        """Convert settings to plain types. Raise UserError for a wrong type or range."""
        for setting in fields(self):
            if not setting.init:
                continue
            value = getattr(self, setting.name)
            # The default says what a field is; a small dataclass is checked field by field, under flat names.
            if is_dataclass(setting.default):
                values = {one.name: getattr(value, one.name) for one in fields(value)}
                plain = {name: _plain(name, values[name], getattr(setting.default, name)) for name in values}
                setattr(self, setting.name, replace(value, **plain))
            else:
                setattr(self, setting.name, _plain(setting.name, value, setting.default))

    def score(self, graphs: GraphBatch) -> Tensor:
        """Return the standardised accuracy (B,)."""
        raise NotImplementedError

    def predict(self, graphs: Architectures) -> Tensor:
        """Return the accuracy (B,) in percent of B architectures of the training set's space.

        Graphs in another form than the training set's are converted. Raise UserError if they cannot be converted, if
        they belong to another space, or if a prediction is not finite.
        """
        if self.model is None or self.training_set is None:
            raise UserError("predict needs a fitted predictor; call fit(graphs, accuracy) first")
        batch = self.training_set.readable(graphs)
        # A model cannot run on nothing, and nothing is what is asked for.
        if len(batch) == 0:
            return torch.empty(0)
        predicted = self.answer(batch)
        if not bool(torch.isfinite(predicted).all()):
            raise UserError("predictions must be finite, got nan or inf; train again with a lower learning rate")
        return predicted

    def answer(self, graphs: GraphBatch) -> Tensor:
        """Return the accuracy (B,) in percent of graphs that are already in the form of the training set."""
        return self.scale.percent(self.score(graphs))

    def weights(self) -> dict[str, Tensor]:
        """Return what `restore` needs besides settings, labels and scale; nothing if a new fit would be the same."""
        return {}

    def restore(
        self,
        training_set: TrainingSet,
        scale: LabelScale,
        weights: dict[str, Tensor],
    ) -> None:
        """Restore the fitted state of a saved predictor. The default fits again, which the seed makes reproducible."""
        self.fit(training_set.graphs, training_set.accuracy, scale)

    def fit(
        self,
        graphs: GraphBatch,
        accuracy: Any,
        scale: LabelScale | None = None,
    ) -> Any:
        """Fit to n architectures and their accuracy (n,) in percent. `scale` defaults to that of these labels."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """Return the settings as flat keyword arguments."""
        flat: dict[str, Any] = {}
        for setting in fields(self):
            value = getattr(self, setting.name)
            if setting.init and is_dataclass(setting.default):
                flat |= {one.name: getattr(value, one.name) for one in fields(value)}
            elif setting.init:
                flat[setting.name] = value
        return flat


def _plain(
    name: str,
    value: Any,
    default: Any,
) -> Any:
    """`value` as the plain type of its default, within its range.

    A whole number counts something; only no epochs make sense, and 0 where it is the default.
    """
    if name == "device":
        return present_device(value)
    # `progress` may be a function.
    if name == "progress" or type(default) not in (int, float, str, bool):
        return value
    value = typed(name, value, type(default))
    if type(default) is int:
        # Untrained predictors are a baseline, and 0 as a default stands for "all" or "none".
        least = 0 if name == "epochs" or default == 0 else 1
        if value < least:
            raise UserError(f"{name} must be at least {least}, got {value}")
        not_too_large(name, value)
    return checked(name, value) if name in RULED else value


@dataclass(kw_only=True, eq=False)
class TrainedPredictor(FittedPredictor):
    """A predictor trained by gradient descent.

    A subclass adds its settings, `new_model`, `new_pass`, `score`, and `loss_of` with the `inputs` that it needs.
    Predictors that train at once may differ only in the settings `may_differ`. With `engine="plain"`, a subclass trains
    the predictor that its `plain()` returns, one architecture at a time.
    """

    may_differ: ClassVar[tuple[str, ...]] = ()
    # A subclass with a plain version makes a setting of it.
    engine = "fast"

    epochs: int = 200
    learning_rate: float = 1e-3
    accumulate: int = 10
    progress: bool = False
    checkpoint: str | Path | Checkpoint | None = None
    device: str = "cpu"

    def plain(self) -> Any:
        """Return the same method as its paper trains it, with its own `fit`."""
        raise NotImplementedError

    def new_model(self, graphs: GraphBatch) -> nn.Module:
        """Return an untrained model for the space of `graphs`; the caller has seeded the random generator."""
        raise NotImplementedError

    def new_pass(self, models: Sequence[Any], graphs: Sequence[GraphBatch]) -> Pass:
        """Return the pass that runs S models, each on its own n architectures."""
        raise NotImplementedError

    def inputs(
        self,
        run: Any,
        index: Tensor,
        generators: list[np.random.Generator],
    ) -> tuple[Tensor, ...]:
        """Return what a step needs from the host: architectures (S, b), and what is drawn for them at random."""
        return (index,)

    def loss_of(
        self,
        run: Any,
        labels: Tensor,
        *inputs: Tensor,
    ) -> Logged:
        """Return the loss of `inputs`, summed over S models with standardised labels (S, n), and the values to log."""
        raise NotImplementedError

    def step(
        self,
        run: Any,
        labels: Tensor,
        index: Tensor,
        generators: list[np.random.Generator],
    ) -> Logged:
        """Return the loss of the architectures index (S, b), and the values to log."""
        return self.loss_of(run, labels, *self.inputs(run, index, generators))

    def recorder(
        self,
        run: Any,
        labels: Tensor,
        steps: Iterable[Tensor],
    ) -> Recorder | None:
        """Return a recorder for the `steps` (S, b) of a whole training on a GPU, or None if it cannot be recorded.

        On a GPU, launching the work of a step takes longer than the work itself; replaying a recorded step avoids that.
        """
        if not (on_gpu(self.device) and run.recordable):
            return None
        # The kind of a step is its number of architectures: all steps of one size do the same work.
        draw = lambda index, generators: (index.shape[1], self.inputs(run, index, generators))  # noqa: E731
        return Recorder(draw, partial(self.loss_of, run, labels), self.device)

    def schedule(self) -> Schedule:
        """Return the number of epochs, the learning rates and the size of a step."""
        return Schedule(self.epochs, self.learning_rate, self.accumulate)

    def fit(
        self,
        graphs: GraphBatch,
        accuracy: Tensor,
        scale: LabelScale | None = None,
    ) -> Any:
        """Train on n architectures and their accuracy (n,) in percent.

        On a CPU, the seed fixes every bit of the result.
        """
        return fit_together([self], [graphs], [accuracy], scale)[0]

    def weights(self) -> dict[str, Tensor]:
        """Return all parameters and buffers of the model."""
        return self.model.state_dict()

    def restore(
        self,
        training_set: TrainingSet,
        scale: LabelScale,
        weights: dict[str, Tensor],
    ) -> None:
        """Restore the trained state of a saved predictor. Raise UserError if the weights belong to another model."""
        model = _fresh(self, training_set.graphs)
        load_weights(self, model, weights)
        self.model, self.scale, self.training_set = model, scale, training_set
        self.n_parameters = sum(p.numel() for p in model.parameters())

    def identity(self, labels: Tensor, graphs: Sequence[GraphBatch]) -> str:
        """Return the settings and a digest of the data. A checkpoint resumes only a training with the same identity."""
        settings = {name: value for name, value in self.settings().items() if name not in NOT_OF_A_TRAINING}
        # Labels and graphs of a whole table are too long for a file name or a message; their digest is as good.
        data = hashlib.sha256(labels.cpu().numpy().tobytes())
        for batch in graphs:
            data.update(batch.function_ids().tobytes())
        return f"{type(self).__name__} {settings} {data.hexdigest()}"


def load_weights(
    predictor: FittedPredictor,
    model: nn.Module,
    weights: dict[str, Tensor],
) -> None:
    """Load the weights of a saved model into `model`. Raise UserError if they do not fit."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        rule = f"weights must be those of a {type(predictor).__name__} with these settings"
        raise UserError(f"{rule}, got others: fit and save it again") from error


def labels_at(labels: Tensor, index: Tensor) -> Tensor:
    """Return the labels (S, b) of the architectures index (S, b), from labels (S, n)."""
    return labels.gather(1, index.to(labels.device))


def check_operations(graphs: GraphBatch, n: int) -> None:
    """Raise UserError if a graph has an operation that a model of n operations cannot embed."""
    largest = int(graphs.ops.max())
    if largest >= n:
        rule = f"operations must be below {n}, as in the training set"
        raise UserError(f"{rule}, got {largest}; give collate the space of both sets")


def n_operations(graphs: GraphBatch) -> int:
    """Return how many operations a model for these architectures embeds."""
    return len(graphs.space.ops) if graphs.space is not None else int(graphs.ops.max()) + 1


def fit_together(
    methods: Sequence[TrainedPredictor],
    graphs: Sequence[GraphBatch],
    labelled: Sequence[Tensor],
    scale: LabelScale | None = None,
) -> Sequence[TrainedPredictor]:
    """Fit S predictors at once, each to the same result as its own `fit`.

    They may differ only in seed, data and `may_differ`. `scale` is that of the labels, by default each training set's
    own. Predictors of the plain engine train one after another, each with its own checkpoint.
    """
    first = methods[0]
    labels = _standardised(methods, graphs, labelled, scale)
    if first.engine == "plain":
        for s, method in enumerate(methods):
            # Each of several has a file of its own; a single one keeps the name it was given.
            part = s if len(methods) > 1 else None
            _fit_plain(method, graphs[s], labels[s], _checkpoint(method, part))
        return methods
    labels = labels.to(first.device)
    models = [_fresh(method, batch) for method, batch in zip(methods, graphs, strict=True)]
    run = first.new_pass(models, graphs)
    schedule = first.schedule()
    seeds = [method.seed for method in methods]
    checkpoint = _checkpoint(first)
    # CUDA can record only what runs on a stream of its own.
    with own_stream(first.device):
        history = train(
            run.trained,
            partial(first.step, run, labels),
            labels.shape[1],
            schedule,
            seeds,
            progress=first.progress,
            checkpoint=checkpoint,
            identity=_identity(methods, labels, graphs) if checkpoint else "",
            recorder=first.recorder(run, labels, schedule.all_steps(labels.shape[1], seeds)),
        )
        run.write_back()
    for s, (method, model) in enumerate(zip(methods, models, strict=True)):
        _keep(method, model, [_own(row, s) for row in history])
    return methods


def _fit_plain(
    method: TrainedPredictor,
    graphs: GraphBatch,
    labels: Tensor,
    checkpoint: Checkpoint | None,
) -> None:
    """Train as the method's paper does."""
    identity = method.identity(labels[None], [graphs])
    options = {"progress": method.progress, "checkpoint": checkpoint, "identity": identity}
    assert method.training_set is not None
    trained = method.plain().fit(graphs, method.training_set.accuracy, method.scale, **options)
    _keep(method, trained.model, trained.history)


def _keep(
    method: TrainedPredictor,
    model: nn.Module,
    history: list[dict[str, Any]],
) -> None:
    method.model = model
    method.history = history
    method.n_parameters = sum(parameter.numel() for parameter in model.parameters())


def _own(row: dict[str, Any], s: int) -> dict[str, Any]:
    """What a row of the history of S models says of one."""
    return {name: value[s] if isinstance(value, list) else value for name, value in row.items()}


def _checkpoint(method: TrainedPredictor, part: int | None = None) -> Checkpoint | None:
    """The method's, or that of a part of several, whose file has its number in its name."""
    checkpoint = method.checkpoint
    if isinstance(checkpoint, str | Path):
        checkpoint = Checkpoint(Path(checkpoint))
    if checkpoint is None or part is None:
        return checkpoint
    return replace(checkpoint, path=checkpoint.path.with_stem(f"{checkpoint.path.stem}-{part}"))


def _identity(
    methods: Sequence[TrainedPredictor],
    labels: Tensor,
    graphs: Sequence[GraphBatch],
) -> str:
    """That of the first, and what the others have of their own."""
    first = methods[0]
    own = []
    for method in methods:
        # What members of a group may differ in is part of what a checkpoint belongs to.
        settings = method.settings()
        own.append({name: settings[name] for name in first.may_differ})
    differ = any(settings != own[0] for settings in own)
    return first.identity(labels, graphs) + (f" {own}" if differ else "")


def labels_of(
    method: FittedPredictor,
    graphs: GraphBatch,
    accuracy: Tensor,
    scale: LabelScale | None = None,
) -> Tensor:
    """Return the standardised labels (n,) of a training set. The scale, by default its own, is kept for predictions."""
    if not isinstance(graphs, GraphBatch):
        raise UserError(f"fit needs a GraphBatch, got {type(graphs).__name__}: collate(architectures, space) makes one")
    labels = accuracies(accuracy)
    own = LabelScale.of(labels)
    if len(labels) != len(graphs):
        raise UserError(f"fit needs one accuracy an architecture, got {len(labels)} for {len(graphs)}")
    method.scale, method.training_set = scale or own, TrainingSet(graphs, labels)
    return method.scale.standardise(labels)


def _standardised(
    methods: Sequence[TrainedPredictor],
    graphs: Sequence[GraphBatch],
    accuracies: Sequence[Tensor],
    scale: LabelScale | None,
) -> Tensor:
    """Labels (S, n), each row on the scale of its method."""
    labels = [labels_of(m, g, a, scale) for m, g, a in zip(methods, graphs, accuracies, strict=True)]
    if len({len(label) for label in labels}) > 1:
        raise UserError(f"seeds trained together need equally many labels, got {[len(label) for label in labels]}")
    return torch.stack(labels)


def _fresh(method: TrainedPredictor, graphs: GraphBatch) -> nn.Module:
    """A new model whose weights are drawn from the method's seed, and leave the caller's generator alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(method.seed)
        return method.new_model(graphs)
