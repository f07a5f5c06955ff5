"""Prediction and weight generation of S models in one pass: the fast twin of `HyperNASModel.one`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hypernas import batched
from hypernas.hypernetwork import HeadOutputs
from hypernas.model import Cells, encode, regress
from hypernas.target import Program


def predict_and_generate(
    parameters: dict[str, Tensor], context: str, n_layers: int, c_max: int, stem_stride: int, cells: Cells,
    index: Tensor, programs: Sequence[Program], images: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """S models, b architectures each: index (S, b), S*b programs, images (S, b, M, C, H, W).

    Returns standardised accuracy (S, b) and logits (S, b, M, K).
    """
    b = index.shape[1]
    h, nodes = encode(parameters, context, n_layers, cells, index, want_nodes=True, prefix="predictor.encoder.")
    turns = batched.plan(programs)
    kernels = _generate(parameters, turns, nodes, b, c_max)
    stems = batched.stem(parameters["head.stem_weight"], images, stem_stride)
    maps = batched.run_batched(programs, turns, kernels, stems)
    logits = batched.classify(parameters["head.classifier.weight"], parameters["head.classifier.bias"], maps)
    return regress(parameters, h, "predictor.regressor."), logits


def _generate(parameters: dict[str, Tensor], turns: Sequence[batched.Turn], nodes: Tensor, b: int, c_max: int
              ) -> dict[tuple[int, int], Tensor]:  # fmt: skip
    """The kernels of every run of every turn from node features (S, C, b, N, D), the trunk and a head run once."""
    s = nodes.shape[0]
    wanted = batched.wanted(turns)
    layouts = {}
    for shape, runs in wanted.items():
        keys = [(a, layer.weight) for t, start, stop in runs for a, _, layer in turns[t].items[start:stop]]
        layouts[shape] = _by_seed(keys, s, b)
    places = torch.cat([places for places, _ in layouts.values()], 1).to(nodes.device)
    seeds = torch.arange(s, device=nodes.device)[:, None]
    features = nodes[seeds, places[..., 1], places[..., 0], places[..., 2]]
    trunk = sorted({name.split(".")[2] for name in parameters if name.startswith("hypernetwork.trunk.")}, key=int)
    for i in trunk:
        weight, bias = parameters[f"hypernetwork.trunk.{i}.weight"], parameters[f"hypernetwork.trunk.{i}.bias"]
        features = F.relu(torch.baddbmm(bias[:, None], features, weight.transpose(1, 2)))
    parts = dict(zip(layouts, features.split([p.shape[1] for p, _ in layouts.values()], 1), strict=True))
    kernels = {}
    for kernel in sorted({shape[2] for shape in wanted}):
        shapes = tuple(shape for shape in wanted if shape[2] == kernel)
        name = f"hypernetwork.heads.{kernel}"
        made = HeadOutputs.apply(parameters[f"{name}.weight"], parameters[f"{name}.bias"], c_max, shapes,
                                 *(parts[shape] for shape in shapes))  # fmt: skip
        for shape, weights in zip(shapes, made, strict=True):
            rows = weights.flatten(0, 1)[layouts[shape][1].to(nodes.device)]
            pieces = rows.split([stop - start for _, start, stop in wanted[shape]])
            kernels.update({(t, start): p for (t, start, _), p in zip(wanted[shape], pieces, strict=True)})
    return kernels


def _by_seed(keys: Sequence[tuple[int, Any]], s: int, b: int) -> tuple[Tensor, Tensor]:
    """Keys (program, (position, node)) of S*b programs, laid out by seed and padded to equal length.

    Returns (architecture, position, node) (S, longest, 3) and the flat place of each key in (S * longest).
    """
    groups: list[list[tuple[int, int, int]]] = [[] for _ in range(s)]
    places = []
    for a, weight in keys:
        places.append((a // b, len(groups[a // b])))
        groups[a // b].append((a % b, *weight))
    longest = max(len(group) for group in groups)
    padded = [group + [(0, 0, 0)] * (longest - len(group)) for group in groups]
    return torch.tensor(padded), torch.tensor([i * longest + j for i, j in places])
