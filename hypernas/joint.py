"""Prediction and weight generation of S models in one pass: the fast twin of `HyperNASModel.forward`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hypernas import batched
from hypernas.graph import GraphBatch
from hypernas.hypernetwork import HeadOutputs
from hypernas.model import Cells, Stack, encode, regress
from hypernas.target import Program


class FastPass:
    """S models of equal shape, each on its own architectures: encoder, regressor, and with `programs` the networks.

    `prefix` is where the `ArchitecturePredictor` sits in the model. Weights can be generated where the model has a
    `hypernetwork` and a `head`.
    """

    def __init__(
        self,
        models: Sequence[Any],
        graphs: Sequence[GraphBatch],
        programs: Sequence[Sequence[Program]] | None = None,
        prefix: str = "",
        device: str = "cpu",
    ) -> None:
        predictor = models[0].get_submodule(prefix) if prefix else models[0]
        self.encoder, self.prefix = predictor.encoder, f"{prefix}." if prefix else ""
        self.model, self.programs = models[0], programs
        self.stack = Stack(models, device)
        self.cells = Cells(graphs, self.encoder.embedding.weight.dtype, device)
        self.trained = list(self.stack.parameters.values())

    @property
    def u(self) -> Tensor:
        """The loss's u (S, T)."""
        return self.stack.parameters["loss.u"]

    def write_back(self) -> None:
        """Copy what was trained into the models."""
        self.stack.write_back()

    def __call__(self, index: Tensor, images: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """index (S, b), images (S, b, M, C, H, W) -> standardised accuracy (S, b), logits (S, b, M, K)."""
        parameters = self.stack.parameters
        h, nodes = encode(
            parameters,
            self.encoder.context,
            self.encoder.n_layers,
            self.cells,
            index,
            want_nodes=images is not None,
            prefix=f"{self.prefix}encoder.",
        )
        predicted = regress(parameters, h, f"{self.prefix}regressor.")
        if images is None:
            return predicted, None
        assert self.programs is not None
        programs = [self.programs[s][i] for s, row in enumerate(index.tolist()) for i in row]
        turns = batched.plan(programs)
        kernels = _generate(parameters, turns, nodes, index.shape[1], self.model.hypernetwork.limits)
        stems = batched.stem(parameters["head.stem_weight"], images, self.model.head.stem_stride)
        maps = batched.run_batched(programs, turns, kernels, stems)
        weight, bias = parameters["head.classifier.weight"], parameters["head.classifier.bias"]
        return predicted, batched.classify(weight, bias, maps, programs[0].norm_last)


def _generate(
    parameters: dict[str, Tensor], turns: Sequence[batched.Turn], nodes: Tensor, b: int, limits: dict
) -> dict[tuple[int, int], Tensor]:
    """The kernels of every run of every turn from node features (S, C, b, N, D), the trunk and a head run once."""
    s = nodes.shape[0]
    wanted = batched.wanted(turns)
    layouts = {}
    for shape, runs in wanted.items():
        keys = [(a, layer.weight) for t, start, stop in runs for a, _, layer in turns[t].items[start:stop]]
        layouts[shape] = _by_seed(keys, s, b)
    places = torch.cat([places for places, _ in layouts.values()], 1)
    features = _node_features(nodes, *places.unbind(-1))
    trunk = sorted({name.split(".")[2] for name in parameters if name.startswith("hypernetwork.trunk.")}, key=int)
    for i in trunk:
        weight, bias = parameters[f"hypernetwork.trunk.{i}.weight"], parameters[f"hypernetwork.trunk.{i}.bias"]
        features = F.relu(torch.baddbmm(bias[:, None], features, weight.transpose(1, 2)))
    parts = dict(zip(layouts, features.split([p.shape[1] for p, _ in layouts.values()], 1), strict=True))
    kernels = {}
    for kernel in sorted({shape[2] for shape in wanted}):
        shapes = tuple(shape for shape in wanted if shape[2] == kernel)
        name = f"hypernetwork.heads.{kernel}"
        weight, bias = parameters[f"{name}.weight"], parameters[f"{name}.bias"]
        made = HeadOutputs.apply(weight, bias, limits[kernel], shapes, *(parts[shape] for shape in shapes))
        for shape, weights in zip(shapes, made, strict=True):
            rows = weights.flatten(0, 1)[layouts[shape][1].to(nodes.device)]
            pieces = rows.split([stop - start for _, start, stop in wanted[shape]])
            kernels.update({(t, start): p for (t, start, _), p in zip(wanted[shape], pieces, strict=True)})
    return kernels


def _node_features(nodes: Tensor, architecture: Tensor, position: Tensor, node: Tensor, other: Tensor) -> Tensor:
    """nodes (S, C, b, N, D) and four indices (S, G) -> (S, G, D): a node's features, or the mean of an edge's two."""
    place = torch.arange(len(nodes))[:, None], position, architecture
    features = nodes[(*place, node)]
    return (features + nodes[(*place, other)]) / 2 if bool((node != other).any()) else features


def _by_seed(keys: Sequence[tuple[int, Any]], s: int, b: int) -> tuple[Tensor, Tensor]:
    """Keys (program, (position, node) or (position, node, node)) of S*b programs, laid out by seed, padded at the end.

    Returns (architecture, position, node, node) (S, longest, 4) and the flat place of each key in (S * longest).
    """
    groups: list[list[tuple[int, int, int, int]]] = [[] for _ in range(s)]
    places = []
    for a, (position, *ends) in keys:
        places.append((a // b, len(groups[a // b])))
        groups[a // b].append((a % b, position, ends[0], ends[-1]))
    longest = max(len(group) for group in groups)
    padded = [group + [(0, 0, 0, 0)] * (longest - len(group)) for group in groups]
    return torch.tensor(padded), torch.tensor([i * longest + j for i, j in places])
