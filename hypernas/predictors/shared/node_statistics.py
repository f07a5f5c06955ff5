"""What zero-cost proxies sum up, node by node: statistics of every layer of untrained target networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hypernas.canonical import mix, node_ids
from hypernas.fast.networks import Networks, draw
from hypernas.graph import GraphBatch
from hypernas.method.target_network import Program

N_STATISTICS = 3
CHUNK = 256
LEAST = 1e-12


def node_statistics(
    graphs: GraphBatch,
    programs: Sequence[Program],
    images: Tensor,
    labels: Tensor,
    n_classes: int,
    seed: int,
    length: int,
) -> tuple[Tensor, Tensor]:
    """B architectures with their programs, one batch of images (M, C, H, W) -> (B, length, 3), mask (B, length).

    The decimal logarithms of |w|, |g| and the sum of |w g| of each layer with weights, w drawn from `seed` and g the
    gradient of the cross-entropy of all images. Weights depend on what a node is, not on its number, layers are ordered
    alike, and the values are those of float64 to six digits, so isomorphic architectures have equal statistics. Layers
    beyond `length` are left out.
    """
    found = torch.zeros(len(graphs), length, N_STATISTICS)
    mask = torch.zeros(len(graphs), length, dtype=torch.bool)
    x, identities = images.double(), _identities(graphs)
    for start in range(0, len(graphs), CHUNK):
        rows = range(start, min(start + CHUNK, len(graphs)))
        names = [_names(programs[b], graphs.sequence[b].tolist(), identities[b]) for b in rows]
        each = _statistics([programs[b] for b in rows], names, x, labels, n_classes, seed)
        for b, values in zip(rows, each, strict=True):
            n = min(len(values), length)
            found[b, :n], mask[b, :n] = values[:n], True
    return found, mask


def _identities(graphs: GraphBatch) -> np.ndarray:
    """A number (B, U, N) for each node, equal for the nodes that an isomorphism maps to each other."""
    b, u, n = graphs.mask.shape
    parts = (graphs.ops.numpy().astype(np.uint64), graphs.adjacency.numpy(), graphs.mask.numpy())
    ops, adjacency, mask = (part.reshape(b * u, n, *part.shape[3:]) for part in parts)
    return node_ids(ops, adjacency, mask).T.reshape(b, u, n)


def _names(program: Program, sequence: list[int], identities: np.ndarray) -> dict[int, tuple[int, int]]:
    """The layers with weights by index: position of the cell, and a number that says which node or edge of it."""
    found = {}
    for i, layer in enumerate(program.layers):
        if layer.weight is not None:
            position, *nodes = layer.weight
            ends = identities[sequence[position], nodes] * np.arange(1, len(nodes) + 1, dtype=np.uint64)
            found[i] = position, int(mix(ends.sum(keepdims=True))[0] >> np.uint64(1))
    return found


def _weights(
    program: Program, names: dict[int, tuple[int, int]], seed: int, c_image: int, n_classes: int
) -> dict[Any, Tensor]:
    """The weights of a network, float64, those of a layer drawn from the seed and its name."""
    own = {i: seed ^ (name >> 8) ^ (position << 56) for i, (position, name) in names.items()}
    return {key: weight.double() for key, weight in draw(program, seed, c_image, n_classes, own).items()}


@torch.enable_grad()
def _statistics(
    programs: Sequence[Program], names: Sequence[dict[int, tuple[int, int]]], images: Tensor, labels: Tensor,
    n_classes: int, seed: int,
) -> list[Tensor]:  # fmt: skip
    """The statistics (L, 3) of each network, its layers by position and name."""
    shape = images.shape[1], n_classes
    weights = [_weights(program, each, seed, *shape) for program, each in zip(programs, names, strict=True)]
    networks = Networks(programs, [seed] * len(programs), *shape, drawn=weights)
    logits = networks.logits(images.expand(len(programs), *images.shape))
    loss = F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(programs)), reduction="sum") / len(labels)
    gradients = torch.autograd.grad(loss, networks.kernels, materialize_grads=True)
    values: list[dict[Any, Tensor]] = [{} for _ in programs]
    for owners, w, g in zip(networks.owners, networks.kernels, gradients, strict=True):
        w, g = w.detach().flatten(1), g.flatten(1)
        three = torch.stack([w.norm(dim=1), g.norm(dim=1), (w * g).abs().sum(1)], 1)
        for (p, i), row in zip(owners, three.clamp(min=LEAST).log10(), strict=True):
            values[p][i] = row
    ordered = ([each[i] for i in sorted(each, key=lambda i: name[i])] for each, name in zip(values, names, strict=True))
    return [torch.stack(rows).round(decimals=6) if rows else torch.zeros(0, N_STATISTICS) for rows in ordered]
