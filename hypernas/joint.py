"""Prediction and weight generation of S models in one pass: the fast twin of `HyperNASModel.one`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from hypernas import batched
from hypernas.hypernetwork import head_output
from hypernas.model import Cells, encode, regress
from hypernas.target import Program

Key = tuple[int, tuple[int, int]]


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
    row, places = _slots([(a, layer.weight) for a, p in enumerate(programs) for layer in p.convs], len(index), b)
    seeds = torch.arange(len(index), device=nodes.device)[:, None]
    features = nodes[seeds, places[..., 1], places[..., 0], places[..., 2]]
    trunk = sorted({name.split(".")[2] for name in parameters if name.startswith("hypernetwork.trunk.")}, key=int)
    for i in trunk:
        weight, bias = parameters[f"hypernetwork.trunk.{i}.weight"], parameters[f"hypernetwork.trunk.{i}.bias"]
        features = F.relu(torch.baddbmm(bias[:, None], features, weight.transpose(1, 2)))
    flat = features.flatten(0, 1)

    def weights(shape: batched.Shape, keys: list[Key]) -> Tensor:
        slot, padded = _slots(keys, len(index), b)
        inverse = {value: key for key, value in slot.items()}
        chosen = [row.get(inverse.get(i, keys[0]), 0) for i in range(padded.shape[0] * padded.shape[1])]
        name = f"hypernetwork.heads.{shape[2]}"
        used = flat[torch.tensor(chosen, device=flat.device)].view(*padded.shape[:2], -1)
        made = head_output(parameters[f"{name}.weight"], parameters[f"{name}.bias"], used, shape, c_max)
        return made.flatten(0, 1)[torch.tensor([slot[key] for key in keys], device=flat.device)]

    kernels = batched.generate(turns, weights)
    stems = batched.stem(parameters["head.stem_weight"], images, stem_stride)
    maps = batched.run_batched(programs, turns, kernels, stems)
    logits = batched.classify(parameters["head.classifier.weight"], parameters["head.classifier.bias"], maps)
    return regress(parameters, h, "predictor.regressor."), logits


def _slots(keys: Sequence[tuple[int, tuple[int, int] | None]], s: int, b: int) -> tuple[dict[Key, int], Tensor]:
    """Keys (program, (position, node)) of S*b programs -> the place of each in (S, longest) laid flat, and the
    (architecture, position, node) (S, longest, 3) at each place, zeros where a seed has fewer."""
    groups: list[list[Key]] = [[] for _ in range(s)]
    for a, weight in keys:
        assert weight is not None
        groups[a // b].append((a, weight))
    longest = max(1, max(len(group) for group in groups))
    places = torch.zeros(s, longest, 3, dtype=torch.long)
    slot = {}
    for i, group in enumerate(groups):
        for j, (a, weight) in enumerate(group):
            slot[a, weight] = i * longest + j
        if group:
            places[i, : len(group)] = torch.tensor([(a % b, *weight) for a, weight in group])
    return slot, places
