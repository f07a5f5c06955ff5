"""Vision transformers of AutoFormer (Chen et al. 2021): Supernet-small and -base of Table 5, and AutoFormer-Tiny."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from hypernas.data import Table
from hypernas.data.catalogue import required
from hypernas.errors import UserError
from hypernas.graph import Architecture, Cell, GraphBatch, collate
from hypernas.method.target_network import Program
from hypernas.spaces.base import (
    SearchSpace,
    check_cells_per_stage,
    check_operation,
    other_choice,
)
from hypernas.spaces.programs import ProgramWriter

# Heads and MLP ratio of each layer.
Layers = tuple[tuple[int, float], ...]
# Channels of a head, whatever the embedding dimension.
HEAD_WIDTH = 64
# Learned vectors for distances of -14 to 14 patches, and one for the class token.
RELATIVE_POSITIONS = 30
# Side of a patch in pixels, and classes of ImageNet.
PATCH, CLASSES = 16, 1000
# Layers of the deepest network of any supernet.
LONGEST = 16


@dataclass(frozen=True)
class Supernet:
    """The choices of a supernet: embedding dimension, depth, and for each layer heads of 64 channels and MLP ratio."""

    name: str
    embed_dims: tuple[int, ...]
    heads: tuple[int, ...]
    mlp_ratios: tuple[float, ...]
    depths: tuple[int, ...]

    def layers(self) -> Layers:
        """The possible layers, as (heads, MLP ratio)."""
        return tuple((heads, ratio) for heads in self.heads for ratio in self.mlp_ratios)


# Table 5, and AutoFormer-Tiny as Auto-Prox has it.
SUPERNETS = {
    "tiny": Supernet("tiny", (192, 216, 240), (3, 4), (3.5, 4.0), (12, 13, 14)),
    "small": Supernet("small", (320, 384, 448), (5, 6, 7), (3.0, 3.5, 4.0), (12, 13, 14)),
    "base": Supernet("base", (528, 576, 624), (8, 9, 10), (3.0, 3.5, 4.0), (14, 15, 16)),
}
# No two supernets share an embedding dimension, so it says which one an architecture is of.
SUPERNET_OF = {dim: supernet for supernet in SUPERNETS.values() for dim in supernet.embed_dims}
EMBED_DIMS = tuple(SUPERNET_OF)
# All choices of all supernets, in order: what a node's operation counts from.
HEADS = tuple(sorted({heads for supernet in SUPERNETS.values() for heads in supernet.heads}))
MLP_RATIOS = tuple(sorted({ratio for supernet in SUPERNETS.values() for ratio in supernet.mlp_ratios}))
LAYERS = {f"h{heads}r{ratio:g}": (heads, ratio) for heads in HEADS for ratio in MLP_RATIOS}

# Operations of the graph and the edges of a layer's cell.
OUTPUT, PROJECT, SHRINK, EMBED = 0, 1, 2, 3
# Attention with so many heads, then the wide layer of the MLP, come after the embedding dimensions.
ATTEND = EMBED + len(EMBED_DIMS)
WIDEN = ATTEND + len(HEADS)
# Input, attention, projection, MLP, its projection, output; the residuals are edges too.
EDGES = ((0, 1), (1, 2), (0, 3), (2, 3), (3, 4), (0, 5), (2, 5), (4, 5))
ADJACENCY = tuple(tuple(int((x, y) in EDGES) for y in range(6)) for x in range(6))

# Dataset -> field of a record; the last three are accuracies after training with distillation.
ACCURACIES = {
    "imagenet": "imagenet_super_acc",
    "cifar100": "c100_kd_acc",
    "flowers": "flower_kd_acc",
    "chaoyang": "chaoyang_kd_acc",
}
# The two files that the records come from; the accuracies of the second are in doubt, see `table`.
FILES = ("gt_autoformer", "gt_autoformer_2")
FIRST = "imagenet-first"
INHERITED = "measured ImageNet top-1, weights inherited from the supernet"
DISTILLED = "measured accuracy after training with distillation"
DOUBT = "the accuracies of the second hundred do not go with their architectures"


@lru_cache
def layer_cell(
    embed_dim: int,
    heads: int,
    mlp_ratio: float,
) -> Cell:
    """Return the cell of a layer: input, queries with keys and values, projection, the MLP's two layers, output.

    A node sums its inputs: the MLP reads the input and the projection, and the output reads both and the MLP.

    NOTE[PAPER]: paper says nothing of the nodes; we make every linear layer a node whose operation names the choice,
    and let the input's operation name the embedding dimension; because that is chosen once and all layers depend on it.
    """
    embed = EMBED + EMBED_DIMS.index(embed_dim)
    attend = ATTEND + HEADS.index(heads)
    widen = WIDEN + MLP_RATIOS.index(mlp_ratio)
    return Cell((embed, attend, PROJECT, widen, SHRINK, OUTPUT), ADJACENCY)


class ViT(SearchSpace):
    """The search space of AutoFormer's vision transformers."""

    name = "vit"
    ops = (
        "output",
        "attention_projection",
        "mlp_projection",
        *(f"embed_{dim}" for dim in EMBED_DIMS),
        *(f"attention_{heads}" for heads in HEADS),
        *(f"mlp_{ratio:g}" for ratio in MLP_RATIOS),
    )
    datasets = ("imagenet", FIRST, "cifar100", "flowers", "chaoyang")
    macro = "patch embedding, 12 to 16 transformer layers, classifier"
    accepts = (str, Mapping)
    defaults: ClassVar[dict[str, Any]] = {
        "n_layers": 3,
        "width": 256,
        "hyper_layers": 4,
        "hyper_width": 128,
        "channels": 15,
        "cells_per_stage": 4,
        "stem_stride": 3,
    }
    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"channels": 60, "cells_per_stage": LONGEST, "stem_stride": 4}
    }

    def architecture(
        self,
        embed_dim: int,
        layers: Sequence[tuple[int, float]],
    ) -> Architecture:
        """Return the architecture with this embedding dimension and layers (heads, MLP ratio).

        Raise UserError outside the space.
        """
        check_layers(embed_dim, layers)
        cells = tuple(layer_cell(embed_dim, heads, ratio) for heads, ratio in layers)
        written = [f"h{heads}r{ratio:g}" for heads, ratio in layers]
        return Architecture(cells, tuple(range(len(cells))), "|".join([str(embed_dim), *written]))

    def choices(self, architecture: Architecture) -> tuple[int, Layers]:
        """Return embedding dimension and layers, the inverse of `architecture`. Raise UserError outside the space."""
        layers = []
        for cell in architecture.cells:
            if len(cell.ops) != 6 or not (EMBED <= cell.ops[0] < ATTEND <= cell.ops[1] < WIDEN <= cell.ops[3]):
                raise UserError(f"a vit layer must be {', '.join(self.ops[:3])} and three choices, got {cell.ops}")
            layers.append((HEADS[cell.ops[1] - ATTEND], MLP_RATIOS[cell.ops[3] - WIDEN]))
        embed_dim = EMBED_DIMS[architecture.cells[0].ops[0] - EMBED]
        inside = self.architecture(embed_dim, layers)
        if (inside.cells, inside.sequence) != (architecture.cells, architecture.sequence):
            raise UserError("a vit architecture must be one chain of layers of one width, got other nodes or edges")
        return embed_dim, tuple(layers)

    def from_autoformer(
        self,
        embed_dim: int | Sequence[int],
        depth: int,
        mlp_ratio: Sequence[float],
        num_heads: Sequence[int],
        qkv_dim: int | None = None,
    ) -> Architecture:
        """Return the architecture in AutoFormer's lists; the embedding dimension may be repeated once per layer.

        Raise UserError if a list is not `depth` long, if the heads do not divide a given `qkv_dim` into parts of 64, or
        if a choice is outside the supernet.
        """
        depth = _integer("depth", depth)
        heads = [_integer("num_heads", value) for value in _list("num_heads", num_heads)]
        ratios = [_number("mlp_ratio", value) for value in _list("mlp_ratio", mlp_ratio)]
        for what, values in (("mlp ratios", ratios), ("numbers of heads", heads)):
            if len(values) != depth:
                raise UserError(f"there must be as many {what} as layers, got {len(values)} for a depth of {depth}")
        for i, number in enumerate(heads, 1):
            if qkv_dim is not None and qkv_dim != number * HEAD_WIDTH:
                rule = f"heads must divide the Q-K-V dimension into parts of {HEAD_WIDTH}"
                raise UserError(f"{rule}, got {number} heads for {qkv_dim} in layer {i}")
        return self.architecture(_embed_dim(embed_dim), tuple(zip(heads, ratios, strict=True)))

    def parse(self, notation: str | Mapping[str, Any]) -> Architecture:
        """`192|h3r3.5|h4r4|...` -> the Architecture: the embedding dimension, then heads and MLP ratio of each layer.

        AutoFormer's dictionary is read too: `embed_dim`, `layer_num` or `depth`, `mlp_ratio`, `num_heads`.
        """
        if isinstance(notation, Mapping):
            return self._from_mapping(notation)
        first, *layers = (part.strip() for part in notation.split("|"))
        if not re.fullmatch(r"[0-9]{1,9}", first) or not layers:
            form = "its embedding dimension and its layers as 192|h3r3.5|h4r4|..."
            raise UserError(f"a vit architecture lists {form}, got {notation!r}")
        for layer in layers:
            check_operation(layer, LAYERS)
        return self.architecture(int(first), [LAYERS[layer] for layer in layers])

    def _from_mapping(self, lists: Mapping[str, Any]) -> Architecture:
        renamed = {"layer_num": "depth", "hidden_dim": "embed_dim"}
        named = {renamed.get(name, name): value for name, value in lists.items()}
        if set(named) != {"embed_dim", "depth", "mlp_ratio", "num_heads"}:
            rule = "a dictionary of AutoFormer must have embed_dim, layer_num, mlp_ratio and num_heads"
            raise UserError(f"{rule}, got {', '.join(map(str, lists)) or 'none'}")
        return self.from_autoformer(**named)

    def sample(
        self,
        rng: np.random.Generator,
        supernet: str = "tiny",
    ) -> Architecture:
        """Draw every choice uniformly, by default from the supernet of the table."""
        if supernet not in SUPERNETS:
            raise UserError(f"supernet must be one of {', '.join(SUPERNETS)}, got {supernet!r}")
        choices = SUPERNETS[supernet]
        layers = choices.layers()
        embed_dim, depth = int(rng.choice(choices.embed_dims)), int(rng.choice(choices.depths))
        return self.architecture(embed_dim, [layers[i] for i in rng.integers(len(layers), size=depth)])

    def mutate(
        self,
        architecture: Architecture,
        rng: np.random.Generator,
    ) -> Architecture:
        """Change the embedding dimension, the depth, or the heads or MLP ratio of one layer."""
        embed_dim, chain = self.choices(architecture)
        supernet, layers = SUPERNET_OF[embed_dim], list(chain)
        # Embedding dimension, depth, heads, MLP ratio, each with the same chance.
        change, i = rng.integers(4), rng.integers(len(layers))
        heads, ratio = layers[i]
        if change == 0:
            embed_dim = other_choice(embed_dim, supernet.embed_dims, rng)
        elif change == 1:
            choices = supernet.layers()
            new = [choices[j] for j in rng.integers(len(choices), size=2)]
            layers = (layers + new)[: other_choice(len(layers), supernet.depths, rng)]
        elif change == 2:
            layers[i] = (other_choice(heads, supernet.heads, rng), ratio)
        else:
            layers[i] = (heads, other_choice(ratio, supernet.mlp_ratios, rng))
        return self.architecture(embed_dim, layers)

    def canonical(
        self,
        architecture: Architecture,
        graph_form: str = "contracted",
    ) -> Architecture:
        """Return the architecture itself: every node lies on a path from input to output, none is a skip connection."""
        return self.architecture(*self.choices(architecture))

    def graphs(
        self,
        table: Table,
        graph_form: str,
    ) -> GraphBatch:
        columns = [table.columns[name].tolist() for name in ("embed_dim", "depth", "mlp_ratio", "heads")]
        rows = zip(*columns, strict=True)
        return collate([self.from_autoformer(dim, n, ratio[:n], heads[:n]) for dim, n, ratio, heads in rows], self)

    def build(
        self,
        architecture: Architecture,
        channels: int = 15,
        cells_per_stage: int = LONGEST,
        stem_stride: int = 2,
    ) -> Program:
        """Return the network as a Program with its first `cells_per_stage` layers."""
        check_cells_per_stage(cells_per_stage, LONGEST)
        embed_dim, layers = self.choices(architecture)
        return write_transformer(embed_dim, layers[:cells_per_stage], channels, stem_stride)

    def count(
        self,
        architecture: Architecture,
        image: int = 224,
    ) -> tuple[int, int]:
        """Return trainable parameters and multiply-adds of AutoFormer's ImageNet network with relative positions."""
        return count_transformer(*self.choices(architecture), image)

    def table(self, dataset: str) -> Table:
        """Return the AutoFormer-Tiny records. The single accuracy of an architecture is both label and truth.

        The records come from two files. In the first, every network of embedding dimension 240 has an ImageNet accuracy
        of 70.7 to 71.8 %, and every other network one of 74.6 to 75.6 %. In the second, the same two groups are
        unrelated to the dimension and to every other choice, so its accuracies seem to belong to other architectures.
        `imagenet-first` is the first file alone.
        """
        columns = read_records(required("autoformer", "vit table"))
        if dataset == FIRST:
            first = columns["file"] == 1
            columns = {name: column[first] for name, column in columns.items()}
        accuracy = columns["imagenet" if dataset == FIRST else dataset]
        how = INHERITED if "imagenet" in dataset else DISTILLED
        how += f"; {DOUBT}" if dataset == "imagenet" else ""
        source = f"{len(accuracy)} AutoFormer-Tiny architectures ({how})"
        return Table(source, "measured", columns, accuracy, accuracy)


def _list(name: str, values: Any) -> list[Any]:
    if not isinstance(values, (list, tuple, np.ndarray)):
        raise UserError(f"{name} must be a list with a value for each layer, got {repr(values)[:80]}")
    return list(values)


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise UserError(f"{name} must be a number, got {repr(value)[:80]}")
    return float(value)


def _integer(name: str, value: Any) -> int:
    number = _number(name, value)
    if not number.is_integer():
        raise UserError(f"{name} must be a whole number, got {value}")
    return int(number)


def _embed_dim(value: Any) -> int:
    """One embedding dimension, which AutoFormer's code writes once for each layer."""
    dimensions = {_integer("embed_dim", part) for part in np.ravel(np.array(value, dtype=object))}
    if len(dimensions) != 1:
        rule = "embed_dim must be one number, the same for all layers"
        raise UserError(f"{rule}, got {', '.join(map(str, sorted(dimensions))) or 'none'}")
    return dimensions.pop()


def check_layers(embed_dim: int, layers: Sequence[tuple[int, float]]) -> Supernet:
    """Return the supernet of an architecture. Raise UserError if none contains it."""
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


def count_transformer(
    embed_dim: int,
    layers: Sequence[tuple[int, float]],
    image: int = 224,
) -> tuple[int, int]:
    """Return parameters and multiply-adds of the whole network on one square image, as AutoFormer builds it.

    It has a class token, learned positions, queries, keys and values of 64 channels a head in each layer, and learned
    relative positions for keys and values, 30 vertical and 30 horizontal ones.
    """
    if image % PATCH:
        raise UserError(f"image size must be a multiple of the patch size {PATCH}, got {image}")
    d, patches = embed_dim, (image // PATCH) ** 2
    tokens = patches + 1
    # Patch embedding with bias, class token, positions, last normalisation, classifier.
    parameters = 3 * PATCH**2 * d + d
    parameters += d + tokens * d + 2 * d + (d + 1) * CLASSES
    adds = patches * 3 * PATCH**2 * d + d * CLASSES
    for heads, ratio in layers:
        c, hidden = heads * HEAD_WIDTH, int(d * ratio)
        weights = 3 * d * c + c * d + 2 * d * hidden
        biases = 3 * c + d + hidden + d
        normalisation = 4 * d
        parameters += weights + biases + normalisation + 4 * RELATIVE_POSITIONS * HEAD_WIDTH
        adds += tokens * weights + 4 * tokens**2 * c
    return parameters, adds


def write_transformer(
    embed_dim: int,
    layers: Sequence[tuple[int, float]],
    channels: int,
    stem_stride: int,
) -> Program:
    """Return the target network: the pixels of the stem's map are the tokens, a linear layer is a 1 x 1 convolution.

    The supernet's largest embedding becomes `channels`, and everything else shrinks in proportion; at full width the
    layers are those of `count`. Layer i takes its weights from nodes 1 (queries, keys, values), 2 (projection), 3 and 4
    (MLP) of cell i. An output narrower than `channels` is padded with zeros, so that all networks share one classifier.

    NOTE[PAPER]: paper says nothing of the transformer that runs on auxiliary images; we take the shared 3 x 3 stem for
    the patch embedding, fixed sine and cosine positions, the mean of the tokens, no biases and no learned scales;
    because the hypernetwork makes matrices alone, and plain transformers lose nothing by it (Beyer et al. 2022).
    """
    # All widths shrink alike, so that the choices keep their proportions.
    scale = channels / SUPERNET_OF[embed_dim].embed_dims[-1]
    d, head = max(1, round(embed_dim * scale)), max(1, round(HEAD_WIDTH * scale))
    writer = ProgramWriter(channels, stem_stride, position=0)
    linear = partial(writer.conv, kernel=1, stride=1, relu=False, norm=False)
    x = writer.plain("positions", writer.stem(), d)
    for position, (heads, ratio) in enumerate(layers):
        writer.position = position
        c, hidden = heads * head, max(1, int(d * ratio))
        y = linear((writer.plain("layernorm", x, d),), d, 3 * c, weight=(position, 1))
        y = linear((writer.attention(y, c, heads),), c, d, weight=(position, 2))
        x = writer.add((x, y), d)
        y = linear((writer.plain("layernorm", x, d),), d, hidden, weight=(position, 3))
        y = linear((writer.plain("gelu", y, hidden),), hidden, d, weight=(position, 4))
        x = writer.add((x, y), d)
    x = writer.plain("layernorm", x, d)
    if d < channels:
        x = writer.concat((x, writer.plain("zero", writer.stem(), channels - d)), channels)
    return writer.finish(x, norm_last=False, heads=((1, 4 * channels, channels),))


def read_records(path: str | Path) -> dict[str, np.ndarray]:
    """Return the AutoFormer-Tiny records: `embed_dim`, `depth`, `file` (B,), `heads` and `mlp_ratio` (B, 16).

    The last two are padded with 0. The records also hold the accuracy (B,) in percent on each dataset.
    """
    records = [record for record in json.loads(Path(path).read_text("utf-8")) if record["source"] in FILES]
    choices = [record["arch"] for record in records]
    columns = {
        "embed_dim": np.array([int(choice["hidden_dim"]) for choice in choices]),
        "depth": np.array([int(choice["depth"]) for choice in choices]),
        "file": np.array([FILES.index(record["source"]) + 1 for record in records]),
        "heads": np.array([_padded(choice["num_heads"]) for choice in choices], np.int64),
        "mlp_ratio": np.array([_padded(choice["mlp_ratio"]) for choice in choices], np.float64),
    }
    for dataset, field in ACCURACIES.items():
        columns[dataset] = np.array([float(record[field]) for record in records])
    return columns


def _padded(values: Sequence[float]) -> list[float]:
    return [*values, *[0] * (LONGEST - len(values))]


space = ViT()
