"""AutoFormer's vision transformers (Chen et al. 2021): supernets, counts, the target network, records of Auto-Prox."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from hypernas.errors import UserError
from hypernas.method.target_network import Program, ProgramWriter

HEAD_WIDTH = 64
RELATIVE_POSITIONS = 30
LONGEST = 16
# Dataset -> field of a record; the last three are accuracies after training with distillation.
ACCURACIES = {"imagenet": "imagenet_super_acc", "cifar100": "c100_kd_acc", "flowers": "flower_kd_acc",
              "chaoyang": "chaoyang_kd_acc"}  # fmt: skip
FILES = ("gt_autoformer", "gt_autoformer_2")
Layers = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Supernet:
    """What may be chosen: one embedding dimension and depth, and for each layer heads of 64 channels and MLP ratio."""

    name: str
    embed_dims: tuple[int, ...]
    heads: tuple[int, ...]
    mlp_ratios: tuple[float, ...]
    depths: tuple[int, ...]


# Table 5, and AutoFormer-Tiny as Auto-Prox has it.
SUPERNETS = {
    "tiny": Supernet("tiny", (192, 216, 240), (3, 4), (3.5, 4.0), (12, 13, 14)),
    "small": Supernet("small", (320, 384, 448), (5, 6, 7), (3.0, 3.5, 4.0), (12, 13, 14)),
    "base": Supernet("base", (528, 576, 624), (8, 9, 10), (3.0, 3.5, 4.0), (14, 15, 16)),
}
SUPERNET_OF = {dim: supernet for supernet in SUPERNETS.values() for dim in supernet.embed_dims}


def check(embed_dim: int, layers: Sequence[tuple[int, float]]) -> Supernet:
    """The supernet of an architecture. Raises UserError for one that it does not hold."""
    if embed_dim not in SUPERNET_OF:
        raise UserError(f"embedding dimension must be one of {', '.join(map(str, SUPERNET_OF))}, got {embed_dim}")
    supernet = SUPERNET_OF[embed_dim]
    where = f"in supernet {supernet.name}"
    if len(layers) not in supernet.depths:
        raise UserError(f"depth must be {supernet.depths[0]} to {supernet.depths[-1]} {where}, got {len(layers)}")
    for i, (heads, ratio) in enumerate(layers, 1):
        for what, value, choices in (("heads", heads, supernet.heads), ("mlp ratio", ratio, supernet.mlp_ratios)):
            if value not in choices:
                rule = f"{what} must be one of {', '.join(f'{choice:g}' for choice in choices)} {where}"
                raise UserError(f"{rule}, got {value:g} in layer {i}")
    return supernet


def count(
    embed_dim: int, layers: Sequence[tuple[int, float]], image: int = 224, patch: int = 16, classes: int = 1000
) -> tuple[int, int]:
    """Parameters and multiply-adds of the whole network on one square image, as AutoFormer has it.

    A class token, learned positions, in each layer queries, keys and values of 64 channels a head, and learned
    relative positions for keys and values, 30 vertical and 30 horizontal ones.
    """
    if image % patch:
        raise UserError(f"image size must be a multiple of the patch size {patch}, got {image}")
    d, patches = embed_dim, (image // patch) ** 2
    tokens = patches + 1
    parameters = 3 * patch**2 * d + d + d + tokens * d + 2 * d + (d + 1) * classes
    adds = patches * 3 * patch**2 * d + d * classes
    for heads, ratio in layers:
        c, hidden = heads * HEAD_WIDTH, int(d * ratio)
        weights = 3 * d * c + c * d + 2 * d * hidden
        parameters += weights + 3 * c + d + hidden + d + 4 * d + 4 * RELATIVE_POSITIONS * HEAD_WIDTH
        adds += tokens * weights + 4 * tokens**2 * c
    return parameters, adds


def network(embed_dim: int, layers: Sequence[tuple[int, float]], channels: int, stem_stride: int) -> Program:
    """The target network: the pixels of the stem's map are the tokens, a linear layer is a 1 x 1 convolution.

    The supernet's largest embedding has `channels`, all else is as much narrower; at its full width the layers are
    those of `count`. Layer i takes its weights from nodes 1 (queries, keys, values), 2 (projection), 3 and 4 (MLP) of
    cell i. What is narrower than `channels` is filled up with zeros for the one classifier.

    NOTE[PAPER]: paper says nothing of the transformer that runs on auxiliary images; we take the shared 3 x 3 stem for
    the patch embedding, fixed sine and cosine positions, the mean of the tokens, no biases and no learned scales;
    because the hypernetwork makes matrices alone, and plain transformers lose nothing by it (Beyer et al. 2022).
    """
    scale = channels / SUPERNET_OF[embed_dim].embed_dims[-1]
    d, head = max(1, round(embed_dim * scale)), max(1, round(HEAD_WIDTH * scale))
    writer = ProgramWriter(channels, stem_stride, position=0)
    linear = partial(writer.conv, kernel=1, stride=1, relu=False, norm=False)
    x = writer.positions(writer.stem(), d)
    for writer.position, (heads, ratio) in enumerate(layers):
        c, hidden, key = heads * head, max(1, int(d * ratio)), writer.position
        y = linear((writer.layer_norm(x, d),), d, 3 * c, weight=(key, 1))
        y = linear((writer.attention(y, c, heads),), c, d, weight=(key, 2))
        x = writer.add((x, y), d)
        y = linear((writer.layer_norm(x, d),), d, hidden, weight=(key, 3))
        y = linear((writer.gelu(y, hidden),), hidden, d, weight=(key, 4))
        x = writer.add((x, y), d)
    x = writer.layer_norm(x, d)
    if d < channels:
        x = writer.concat((x, writer.zero(writer.stem(), channels - d)), channels)
    return writer.finish(x, norm_last=False, heads=((1, 4 * channels, channels),))


def read_records(path: str | Path) -> dict[str, np.ndarray]:
    """The AutoFormer-Tiny records: `embed_dim`, `depth`, `file` (B,), `heads` and `mlp_ratio` (B, 16) padded with 0,
    and the accuracy (B,) percent of each dataset.

    Raises UserError for a file that is truncated or altered.
    """
    try:
        records = [record for record in json.loads(Path(path).read_text("utf-8")) if record["source"] in FILES]
        if not records:
            raise ValueError("no record")
        choices = [record["arch"] for record in records]
        columns = {
            "embed_dim": np.array([int(choice["hidden_dim"]) for choice in choices]),
            "depth": np.array([int(choice["depth"]) for choice in choices]),
            "file": np.array([FILES.index(record["source"]) + 1 for record in records]),
            "heads": np.array([_padded(choice["num_heads"]) for choice in choices], np.int64),
            "mlp_ratio": np.array([_padded(choice["mlp_ratio"]) for choice in choices], np.float64),
        }
        return columns | {name: np.array([float(r[field]) for r in records]) for name, field in ACCURACIES.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} must be a whole list of records, but it is truncated or altered ({type(error).__name__}): "
            "replace it with a good copy"
        ) from error


def _padded(values: Sequence[float]) -> list[float]:
    return [*values, *[0] * (LONGEST - len(values))]
