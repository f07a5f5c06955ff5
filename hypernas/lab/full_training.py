"""`hypernas train`: train one found network in full on images, with the settings of DARTS (Liu et al. 2019)."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hypernas import spaces
from hypernas.data.augmentation import augmented
from hypernas.data.images import Images, load_images
from hypernas.errors import UserError
from hypernas.graph import Architecture
from hypernas.lab.formats import in_words
from hypernas.lab.provenance import stamp
from hypernas.lab.recipe import Recipe
from hypernas.lab.rows import Results, Row, row_key
from hypernas.training.files import short_digest
from hypernas.training.loop import Checkpoint, CosineSchedule, train
from hypernas.training.settings import check_device

TEST_BATCH = 256
FORM = "an architecture's file must hold its notation, or a JSON object with it as `architecture` or `notation`"


@dataclass(frozen=True)
class Descent(CosineSchedule):
    """Settings of DARTS on CIFAR-10: SGD with momentum, a cosine schedule to 0, gradient norm clipped to `clip`.

    The drop path of the network grows linearly from 0 towards `drop_path`.
    """

    epochs: int = 600
    learning_rate: float = 0.025
    accumulate: int = 96
    weight_decay: float = 3e-4
    momentum: float = 0.9
    clip: float = 5.0
    drop_path: float = 0.2
    network: Any = field(default=None, repr=False, compare=False)

    def optimizer(self, parameters: Sequence[Tensor], recorded: bool = False) -> torch.optim.Optimizer:
        def clip(*_: Any) -> None:
            nn.utils.clip_grad_norm_(parameters, self.clip)

        sgd = torch.optim.SGD(parameters, self.learning_rate, self.momentum, weight_decay=self.weight_decay)
        sgd.register_step_pre_hook(clip)
        return sgd

    def begin(self, epoch: int, optimizer: torch.optim.Optimizer) -> None:
        super().begin(epoch, optimizer)
        self.network.drop_path = self.drop_path * epoch / self.epochs


@dataclass(frozen=True)
class FullTraining(Recipe):
    """Settings of a full training; the defaults are those of DARTS on CIFAR-10.

    0 images means all of them. An auxiliary weight of 0 leaves the auxiliary head out.
    """

    images: str = "cifar10"
    n_images: int = 0
    epochs: int = 600
    channels: int = 36
    batch: int = 96
    learning_rate: float = 0.025
    drop_path: float = 0.2
    auxiliary: float = 0.4
    cutout: int = 16
    seed: int = 0


def read_architecture(path: Path, space: str) -> tuple[Any, Architecture]:
    """Return search space and architecture of a file: the text of a genotype, or a line of `hypernas search --json`.

    Raise UserError for any other file, and for a space whose networks cannot be trained as published.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        told = getattr(error, "strerror", None) or "it is no text"
        raise UserError(f"{FORM}, {path} cannot be read: {told}") from error
    if text.startswith("{"):
        try:
            found = json.loads(text)
        except ValueError as error:
            raise UserError(f"{FORM}, {path} is no whole JSON: {error}") from error
        text, space = found.get("architecture", found.get("notation")), found.get("space", space)
    if not isinstance(text, str) or not text or not isinstance(space, str):
        raise UserError(f"{FORM}, {path} has none")
    chosen = spaces.get(space)
    if not chosen.provides("network"):
        able = [name for name in spaces.names() if spaces.get(name).provides("network")]
        raise UserError(
            f"the space must be one whose networks are trained as published ({', '.join(able)}), got {space}"
        )
    return chosen, chosen.parse(text)


def _colour(images: Tensor) -> Tensor:
    """images (M, C, H, W) -> (M, 3, H, W); a grey one is the same in all three channels."""
    return images.expand(-1, 3, -1, -1)


def fit(
    network: Any,
    images: Images,
    recipe: FullTraining,
    checkpoint: Checkpoint,
    identity: str,
    progress: Any,
) -> list:
    """Train a `TrainableNetwork` in place. Return a dictionary for each epoch with `loss` and `train_accuracy`.

    On a CPU, a training that resumes from `checkpoint` gives the same bits as one that was never interrupted. Raise
    UserError if the network cannot read the images, or if the last batch has a single image, which cannot be
    normalised.
    """
    x, y = images.train_images, images.train_labels
    if len(y) % recipe.batch == 1:
        raise UserError(f"the last batch must have at least 2 images, got {len(y)} in batches of {recipe.batch}")
    device = next(network.parameters()).device
    x, y = _colour(x).to(device), y.to(device)

    def loss(index: Tensor, generators: list[np.random.Generator]) -> tuple[Tensor, dict[str, Tensor]]:
        (rng,), chosen = generators, index[0].to(device)
        torch.manual_seed(int(rng.integers(2**62)))
        logits, second = network.with_auxiliary(augmented(x[chosen], rng, recipe.cutout))
        value, right = F.cross_entropy(logits, y[chosen]), (logits.argmax(1) == y[chosen]).float().mean() * 100
        more = recipe.auxiliary * F.cross_entropy(second, y[chosen]) if second is not None else 0.0
        return value + more, {"loss": value.detach()[None], "train_accuracy": right[None]}

    schedule = Descent(recipe.epochs, recipe.learning_rate, recipe.batch, drop_path=recipe.drop_path, network=network)
    tensors = [*network.parameters(), *network.buffers()]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        network.train()
        return train(tensors, loss, len(y), schedule, [recipe.seed], checkpoint=checkpoint, identity=identity,
                     progress=progress)  # fmt: skip


@torch.no_grad()
def accuracy(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
) -> float:
    """Return the accuracy in percent on images (M, C, H, W), using the network's running statistics."""
    network.eval()
    device = next(network.parameters()).device
    parts = [network(_colour(part).to(device)).argmax(1).cpu() for part in images.split(TEST_BATCH)]
    return float((torch.cat(parts) == labels).double().mean() * 100)


def checkpoint_of(path: Path, key: str) -> Path:
    """Return the file for the state of a training, beside that of the architecture, for each seed and recipe.

    >>> checkpoint_of(Path("found.txt"), "key of a row").name
    'found.txt.133c3d44.checkpoint'
    """
    return path.with_name(f"{path.name}.{short_digest(key, 8)}.checkpoint")


def cost(
    recipe: FullTraining,
    row: Row,
    n_images: int,
    device: str,
) -> str:
    """Return a sentence that says how much is to be trained, on what, and for about how long."""
    # The time of an epoch does not depend on these.
    free = {"architecture", "epochs", "learning_rate", "drop_path"}
    sizes = {name: value for name, value in row["settings"].items() if name not in free}
    pace = None
    for other in Results.of(row["table"]).rows():
        alike = all(other[name] == row[name] for name in ("space", "dataset"))
        if alike and sizes.items() <= other["settings"].items():
            pace = other["seconds"] / other["settings"]["epochs"]
    duration = "" if pace is None else f", about {in_words(pace * recipe.epochs)} by a row like it"
    epochs = f"seed {recipe.seed}: {recipe.epochs} epochs of {n_images:,} images ({recipe.images})"
    return f"1 network to train, {epochs}, on {device}{duration}"


def run(
    path: Path,
    recipe: FullTraining,
    space: str = "darts",
    device: str = "cpu",
    force: bool = False,
    progress: Any = False,
    tell: Callable[[str], None] | None = None,
) -> Row:
    """Return the recorded row of training the network in the file `path`; an interrupted training resumes.

    Its state is saved beside the file (see `checkpoint_of`) and stays there, because it contains the weights. With
    `force`, a finished training is repeated. `tell` is called with the expected cost before the training starts.
    """
    chosen, architecture = read_architecture(path, space)
    check_device(device)
    settings = {"architecture": chosen.canonical(architecture, "raw").notation} | asdict(recipe)
    images, seed = settings.pop("images"), settings.pop("seed")
    row: Row = {"table": "training", "space": chosen.name, "dataset": images, "method": "full-training", "n_train": 1,
                "seed": seed, "profile": "paper", "protocol": "clean", "settings": settings}  # fmt: skip
    results, key = Results.of(row["table"]), row_key(row)
    known = None if force else results.find(key)
    if known is not None:
        return known
    results.require_writable()
    if not os.access(path.parent, os.W_OK):
        rule = "the folder of the architecture must be writable"
        raise UserError(f"{rule}, {path.parent} is not: copy the file to one that is, its state is kept there")
    loaded = load_images(images, recipe.n_images)
    if tell is not None:
        tell(cost(recipe, row, len(loaded.train_labels), device))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = chosen.network(
            architecture, channels=recipe.channels, n_classes=loaded.n_classes, auxiliary=recipe.auxiliary > 0
        ).to(device)
    checkpoint = Checkpoint(checkpoint_of(path, key), anew=force, needed=True)
    made, began = stamp(device), time.perf_counter()
    history = fit(network, loaded, recipe, checkpoint, f"{key} {loaded.source}", progress)
    row |= {"test_accuracy": accuracy(network, loaded.test_images, loaded.test_labels)}
    row |= {name: history[-1][name][0] for name in ("loss", "train_accuracy")}
    own = [p.numel() for name, p in network.named_parameters() if not name.startswith("auxiliary")]
    row |= {
        "n_test": len(loaded.test_labels), "n_parameters": sum(own),
        "seconds": round(time.perf_counter() - began + checkpoint.seconds, 3), **made, "source": loaded.source,
    }  # fmt: skip
    return results.add(row, replace=force)
