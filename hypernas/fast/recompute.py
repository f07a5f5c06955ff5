"""A target network in less memory: the backward pass recomputes each cell.

The oracle is `method.target_network.run`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby

from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hypernas.graph import GraphBatch
from hypernas.method.hypernas import HyperNASModel
from hypernas.method.target_network import Layer, Program, TargetHead, WeightKey, apply, gather


class RecomputingModel(HyperNASModel):
    """A model that recomputes the weights and maps of each cell in the backward pass instead of storing them.

    This fits target networks of a hundred million parameters into memory.
    """

    def forward(
        self,
        graph: GraphBatch,
        program: Program,
        images: Tensor,
    ) -> tuple[Tensor, Tensor]:
        predicted, nodes = self.predictor(graph)
        weights = GeneratedWeights(self, nodes, program)
        return predicted, run_recomputing(program, weights, self.head, images)


class GeneratedWeights(Mapping[WeightKey, Tensor]):
    """The weights (c_out, c_in, k, k) of a program, each generated from node features (1, C, N, D) on access."""

    def __init__(
        self,
        model: HyperNASModel,
        nodes: Tensor,
        program: Program,
    ) -> None:
        self.model = model
        self.nodes = nodes
        self.shapes = {layer.weight: layer.weight_shape for layer in program.convs if layer.weight is not None}

    def __getitem__(self, key: WeightKey) -> Tensor:
        return self.model.weight(self.nodes, key, self.shapes[key])

    def __iter__(self) -> Iterator[WeightKey]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def run_recomputing(
    program: Program,
    weights: Mapping[WeightKey, Tensor],
    head: TargetHead,
    images: Tensor,
) -> Tensor:
    """`run` with gradient checkpointing: it keeps only what leaves a cell and recomputes everything else.

    If `weights` generates a tensor on access, only the weights of one cell exist at any time.
    """
    # The last layer that reads each value; the classifier comes after all layers.
    last: dict[int, float] = {}
    for place, layer in enumerate(program.layers):
        for i in layer.inputs:
            last[i] = place
    last[program.output] = math.inf
    values = {0: head.stem(images)}
    stop = 0
    for _, part in groupby(program.layers, key=lambda layer: layer.position):
        layers = tuple(part)
        start = stop
        stop = start + len(layers)
        # Values of earlier cells that this one reads; its own are made inside.
        read = {i: values[i] for layer in layers for i in layer.inputs if i <= start}
        # Of its own values only those that a later cell or the classifier reads.
        kept = [i for i in range(start + 1, stop + 1) if last.get(i, -1) >= stop]
        cell = partial(_run_cell, layers, start, weights, read, kept)
        values |= zip(kept, checkpoint(cell, use_reentrant=False), strict=True)
    return head.classify(values[program.output], program.norm_last)


def _run_cell(
    layers: Sequence[Layer],
    start: int,
    weights: Mapping[WeightKey, Tensor],
    read: Mapping[int, Tensor],
    kept: Sequence[int],
) -> tuple[Tensor, ...]:
    """Layers start, start + 1, ... of a program on the values that they read -> their values `kept`."""
    values = dict(read)
    for i, layer in enumerate(layers, start + 1):
        weight = None if layer.weight is None else weights[layer.weight]
        values[i] = apply(layer, gather(values, layer), weight)
    return tuple(values[i] for i in kept)
