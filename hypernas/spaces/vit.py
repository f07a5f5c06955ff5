"""Vision transformers of AutoFormer (Chen et al. 2021): Supernet-small and -base of Table 5, and AutoFormer-Tiny."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from hypernas.data import Table, find
from hypernas.errors import MissingTable, UserError
from hypernas.graph import Architecture, Cell, GraphBatch, collate
from hypernas.method.target_network import Program
from hypernas.spaces.base import SearchSpace, check_cells_per_stage, check_graph_form
from hypernas.spaces.blocks import autoformer
from hypernas.spaces.blocks.autoformer import HEAD_WIDTH, LONGEST, SUPERNET_OF, SUPERNETS, Layers

EMBED_DIMS = tuple(SUPERNET_OF)
HEADS = tuple(sorted({heads for supernet in SUPERNETS.values() for heads in supernet.heads}))
MLP_RATIOS = tuple(sorted({ratio for supernet in SUPERNETS.values() for ratio in supernet.mlp_ratios}))
OUTPUT, PROJECT, SHRINK, EMBED = 0, 1, 2, 3
ATTEND = EMBED + len(EMBED_DIMS)
WIDEN = ATTEND + len(HEADS)
EDGES = ((0, 1), (1, 2), (0, 3), (2, 3), (3, 4), (0, 5), (2, 5), (4, 5))
ADJACENCY = tuple(tuple(int((x, y) in EDGES) for y in range(6)) for x in range(6))
FIRST = "imagenet-first"
DISTILLED = "measured accuracy after training with distillation"


@lru_cache
def layer_cell(embed_dim: int, heads: int, mlp_ratio: float) -> Cell:
    """The cell of a layer: input, queries with keys and values, projection, the MLP's two layers, output.

    A node reads the sum of its inputs: the MLP the input and the projection, the output both and the MLP.

    NOTE[PAPER]: paper says nothing of the nodes; we make every linear layer a node, its operation names the choice, and
    the input's the embedding dimension; because it is chosen once and all layers depend on it.
    """
    chosen = (EMBED + EMBED_DIMS.index(embed_dim), ATTEND + HEADS.index(heads), WIDEN + MLP_RATIOS.index(mlp_ratio))
    return Cell((chosen[0], chosen[1], PROJECT, chosen[2], SHRINK, OUTPUT), ADJACENCY)


def names_of(heads: Sequence[int], mlp_ratios: Sequence[float]) -> dict[str, tuple[int, float]]:
    return {f"h{h}r{r:g}": (h, r) for h in heads for r in mlp_ratios}


class ViT(SearchSpace):
    name = "vit"
    ops = ("output", "attention_projection", "mlp_projection", *(f"embed_{dim}" for dim in EMBED_DIMS),
           *(f"attention_{heads}" for heads in HEADS), *(f"mlp_{ratio:g}" for ratio in MLP_RATIOS))  # fmt: skip
    datasets = ("imagenet", FIRST, "cifar100", "flowers", "chaoyang")
    macro = "patch embedding, 12 to 16 transformer layers, classifier"
    defaults: ClassVar[dict[str, Any]] = {"n_layers": 3, "width": 256, "hyper_layers": 4, "hyper_width": 128,
                                          "channels": 15, "cells_per_stage": 4, "stem_stride": 3}  # fmt: skip
    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"channels": 60, "cells_per_stage": LONGEST, "stem_stride": 4}
    }

    def architecture(self, embed_dim: int, layers: Sequence[tuple[int, float]]) -> Architecture:
        """Embedding dimension, layers (heads, MLP ratio) -> Architecture. Raises UserError outside the space."""
        autoformer.check(embed_dim, layers)
        cells = tuple(layer_cell(embed_dim, heads, ratio) for heads, ratio in layers)
        notation = "|".join([str(embed_dim), *(f"h{heads}r{ratio:g}" for heads, ratio in layers)])
        return Architecture(cells, tuple(range(len(cells))), notation)

    def choices(self, architecture: Architecture) -> tuple[int, Layers]:
        """The inverse of `architecture`. Raises UserError for an architecture outside the space."""
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
        embed_dim: int,
        depth: int,
        mlp_ratio: Sequence[float],
        num_heads: Sequence[int],
        qkv_dim: int | None = None,
    ) -> Architecture:
        """AutoFormer's lists -> Architecture. Raises UserError for lists of another length than `depth`, for heads that
        do not divide `qkv_dim`, where it is given, into parts of 64, and for choices outside the supernet."""
        for what, values in (("mlp ratios", mlp_ratio), ("numbers of heads", num_heads)):
            if len(values) != depth:
                raise UserError(f"there must be as many {what} as layers, got {len(values)} for a depth of {depth}")
        for i, heads in enumerate(num_heads, 1):
            if qkv_dim is not None and qkv_dim != heads * HEAD_WIDTH:
                rule = f"heads must divide the Q-K-V dimension into parts of {HEAD_WIDTH}"
                raise UserError(f"{rule}, got {heads} heads for {qkv_dim} in layer {i}")
        return self.architecture(embed_dim, tuple(zip(map(int, num_heads), map(float, mlp_ratio), strict=True)))

    def parse(self, notation: str) -> Architecture:
        """`192|h3r3.5|h4r4|...`: the embedding dimension, then heads and MLP ratio of each layer."""
        first, *layers = (part.strip() for part in notation.split("|"))
        if not re.fullmatch(r"\d+", first) or not layers:
            form = "its embedding dimension and its layers as 192|h3r3.5|h4r4|..."
            raise UserError(f"a vit architecture lists {form}, got {notation!r}")
        named = names_of(HEADS, MLP_RATIOS)
        for op in layers:
            if op not in named:
                raise UserError(f"operation must be one of {', '.join(named)}, got {op!r}")
        return self.architecture(int(first), [named[op] for op in layers])

    def sample(self, rng: np.random.Generator, supernet: str = "tiny") -> Architecture:
        """Every choice uniform; by default of the supernet that the table is of."""
        if supernet not in SUPERNETS:
            raise UserError(f"supernet must be one of {', '.join(SUPERNETS)}, got {supernet!r}")
        chosen = SUPERNETS[supernet]
        layers = tuple(names_of(chosen.heads, chosen.mlp_ratios).values())
        embed_dim, depth = int(rng.choice(chosen.embed_dims)), int(rng.choice(chosen.depths))
        return self.architecture(embed_dim, [layers[i] for i in rng.integers(len(layers), size=depth)])

    def mutate(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """Another embedding dimension or depth of the supernet, or one layer with other heads or another MLP ratio."""
        embed_dim, chain = self.choices(architecture)
        supernet, layers = SUPERNET_OF[embed_dim], list(chain)

        def other(value: Any, among: Sequence[Any]) -> Any:
            return among[(among.index(value) + int(rng.integers(1, len(among)))) % len(among)]

        change, i = rng.integers(4), rng.integers(len(layers))
        heads, ratio = layers[i]
        if change == 0:
            embed_dim = other(embed_dim, supernet.embed_dims)
        elif change == 1:
            named = tuple(names_of(supernet.heads, supernet.mlp_ratios).values())
            new = [named[j] for j in rng.integers(len(named), size=2)]
            layers = (layers + new)[: other(len(layers), supernet.depths)]
        elif change == 2:
            layers[i] = (other(heads, supernet.heads), ratio)
        else:
            layers[i] = (heads, other(ratio, supernet.mlp_ratios))
        return self.architecture(embed_dim, layers)

    def canonical(self, architecture: Architecture, graph_form: str = "contracted") -> Architecture:
        """The architecture itself: every node lies on a path from input to output, none is a skip connection."""
        check_graph_form(graph_form)
        return self.architecture(*self.choices(architecture))

    def graphs(self, table: Table, graph_form: str) -> GraphBatch:
        rows = zip(
            *(table.columns[name].tolist() for name in ("embed_dim", "depth", "mlp_ratio", "heads")), strict=True
        )
        return collate([self.from_autoformer(dim, n, ratio[:n], heads[:n]) for dim, n, ratio, heads in rows], self)

    def build(
        self, architecture: Architecture, channels: int = 15, cells_per_stage: int = LONGEST, stem_stride: int = 2
    ) -> Program:
        """The network as a Program, of its first `cells_per_stage` layers."""
        check_cells_per_stage(cells_per_stage, LONGEST)
        embed_dim, layers = self.choices(architecture)
        return autoformer.network(embed_dim, layers[:cells_per_stage], channels, stem_stride)

    def count(self, architecture: Architecture, image: int = 224, patch: int = 16) -> tuple[int, int]:
        """Trainable parameters and multiply-adds of the ImageNet network with AutoFormer's relative positions."""
        return autoformer.count(*self.choices(architecture), image, patch)

    def table(self, dataset: str) -> Table:
        """The AutoFormer-Tiny records; an architecture's one accuracy is label and truth.

        In the first of the two files that the records come from, every network of embedding dimension 240 has an
        ImageNet accuracy of 70.7 to 71.8 %, every other one 74.6 to 75.6 %. In the second the same two groups have
        nothing to do with the dimension, nor with any other choice: these accuracies seem to belong to other
        architectures. `imagenet-first` is the first file alone.
        """
        path = find("autoformer")
        if path is None:
            rule = "the records are not present; put vit/autoformer_accuracies.json under $HYPERNAS_DATA"
            raise MissingTable(f"{rule}, see `hypernas data list`")
        columns = autoformer.read_records(path)
        if dataset == FIRST:
            columns = {name: column[columns["file"] == 1] for name, column in columns.items()}
        accuracy = columns["imagenet" if dataset == FIRST else dataset]
        how = "measured ImageNet top-1, weights inherited from the supernet" if "imagenet" in dataset else DISTILLED
        doubt = "; the accuracies of the second hundred do not go with their architectures" * (dataset == "imagenet")
        return Table(
            f"{len(accuracy)} AutoFormer-Tiny architectures ({how}{doubt})", "measured", columns, accuracy, accuracy
        )


space = ViT()
