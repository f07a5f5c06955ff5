"""Encoder and regressor as one model, and the same for several seeds at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hypernas.encoder import GlobalEncoder, propagation
from hypernas.errors import UserError
from hypernas.fused import EncodeSequence
from hypernas.graph import GraphBatch


class Regressor(nn.Module):
    """h (..., D) -> standardised accuracy (...,).

    NOTE[PAPER]: paper says f_theta and no more; we take one hidden layer as wide as the encoder, ReLU; because the
    embedding is already the output of a deep network and a few dozen labels support no more.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(width, width), nn.Linear(width, 1)

    def forward(self, h: Tensor) -> Tensor:
        return self.out(F.relu(self.hidden(h)))[..., 0]


class ArchitecturePredictor(nn.Module):
    """The global encoder and the regressor on its embedding."""

    def __init__(self, n_ops: int, n_layers: int, width: int, context: str) -> None:
        super().__init__()
        self.encoder = GlobalEncoder(n_ops, n_layers, width, context)
        self.regressor = Regressor(width)

    def forward(self, batch: GraphBatch) -> tuple[Tensor, Tensor]:
        """B architectures -> standardised accuracy (B,), node features (B, C, N, D)."""
        h, nodes = self.encoder(batch)
        return self.regressor(h), nodes


class Cells:
    """The cells of S sets of n architectures, laid out for the fused encoder, which needs equal sequences of kinds."""

    def __init__(self, batches: Sequence[GraphBatch], dtype: torch.dtype, device: str = "cpu") -> None:
        first = batches[0]
        sequence = first.sequence[0]
        kinds = first.kind[0].gather(0, sequence.clamp(min=0)).tolist()
        same = all(bool((b.sequence == sequence).all()) and bool((b.kind == first.kind[0]).all()) for b in batches)
        if not same or bool((sequence < 0).any()):
            raise UserError("the fused encoder needs architectures of one sequence of cells; use engine='plain'")
        self.columns = tuple(zip(sequence.tolist(), kinds, strict=True))
        self.ops = torch.stack([b.ops for b in batches]).to(device)
        mask = torch.stack([b.mask for b in batches]).to(device)
        adjacency = torch.stack([b.adjacency for b in batches]).to(device)
        self.propagate = propagation(adjacency, mask).to(dtype)
        self.pool = mask.to(dtype) / mask.sum(-1, keepdim=True)
        self.seeds = torch.arange(len(batches), device=device)[:, None]

    def __getitem__(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """index (S, b) -> ops (S, b, U, N), propagate (2, S, b, U, N, N), pool (S, b, U, N)."""
        index = index.to(self.ops.device)
        return self.ops[self.seeds, index], self.propagate[:, self.seeds, index], self.pool[self.seeds, index]


class Stack:
    """S models of equal shape whose parameters are trained together, stacked along a first axis."""

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self.models = models
        self.parameters = {
            name: torch.stack([dict(m.named_parameters())[name].detach() for m in models]).requires_grad_()
            for name, _ in models[0].named_parameters()
        }

    def write_back(self) -> None:
        """Copy the stacked parameters into the models."""
        with torch.no_grad():
            for s, model in enumerate(self.models):
                for name, parameter in model.named_parameters():
                    parameter.copy_(self.parameters[name][s])


def encode(parameters: dict[str, Tensor], context: str, n_layers: int, cells: Cells, index: Tensor,
           want_nodes: bool = False, prefix: str = "encoder.") -> tuple[Tensor, Tensor]:  # fmt: skip
    """The fused `GlobalEncoder.forward` of S models: index (S, b) into `cells` -> h (S, b, D), nodes (S, C, b, N, D).

    Without a context every position of a cell looks the same, so each unique cell is encoded once.
    """
    ops, propagate, pool = cells[index]
    table = parameters[f"{prefix}embedding.weight"]
    s, d = table.shape[0], table.shape[-1]
    v = table[torch.arange(s, device=ops.device)[:, None], ops.reshape(s, -1)].view(*ops.shape, d)
    kinds = [[parameters[f"{prefix}gcn.{k}.{i}.weight"] for i in range(n_layers)] for k in range(2)]
    weight = torch.stack([torch.stack(layers) for layers in kinds]).transpose(2, 3)
    carry = positions = None
    columns = cells.columns
    if context == "concat":
        join = parameters[f"{prefix}join.weight"].transpose(1, 2)
        bias = parameters[f"{prefix}join.bias"][:, None, None, None]
        v, carry = torch.einsum("sbund,sde->sbune", v, join[:, :d]) + bias, join[:, d:].contiguous()
    if context == "position":
        position = parameters[f"{prefix}position"][:, : len(columns), None]
        positions = position.expand(s, len(columns), index.shape[1], d)
    unique = tuple(dict.fromkeys(columns)) if context == "none" else columns
    z, nodes = EncodeSequence.apply(
        v, weight, positions, carry, propagate, pool, unique, context in ("sum", "concat"), want_nodes
    )
    if context == "none":
        where = [unique.index(column) for column in columns]
        share = torch.tensor([where.count(i) / len(where) for i in range(len(unique))], dtype=z.dtype, device=z.device)
        return torch.einsum("scbd,c->sbd", z, share), nodes[:, where] if want_nodes else nodes
    return z.mean(1), nodes


def regress(parameters: dict[str, Tensor], h: Tensor, prefix: str = "regressor.") -> Tensor:
    """The regressors of S models: h (S, b, D) -> (S, b)."""
    hidden = torch.baddbmm(
        parameters[f"{prefix}hidden.bias"][:, None], h, parameters[f"{prefix}hidden.weight"].transpose(1, 2)
    )
    out = torch.bmm(F.relu(hidden), parameters[f"{prefix}out.weight"].transpose(1, 2))
    return out[..., 0] + parameters[f"{prefix}out.bias"]


@torch.no_grad()
def score(models: Sequence[ArchitecturePredictor], batches: Sequence[GraphBatch], chunk: int = 256) -> list[Tensor]:
    """Standardised predictions (B,) of each model for its batch; equal graphs are encoded once, memory is bounded."""
    results = []
    for model, batch in zip(models, batches, strict=True):
        _, first, inverse = np.unique(batch.function_ids(), return_index=True, return_inverse=True)
        parameters = {name: p[None] for name, p in model.named_parameters()}
        dtype = model.encoder.embedding.weight.dtype
        n_layers = len(model.encoder.gcn[0])  # type: ignore[arg-type]
        parts = []
        sizes = batch.mask.sum((1, 2)).numpy()[first]
        by_size = np.argsort(sizes, kind="stable")
        for rows in np.split(first[by_size], range(chunk, len(first), chunk)):
            cells = Cells([batch[torch.from_numpy(rows)].trimmed()], dtype)
            h, _ = encode(parameters, model.encoder.context, n_layers, cells, torch.arange(len(rows))[None])
            parts.append(regress(parameters, h)[0])
        scores = torch.empty(len(first), dtype=dtype)
        scores[torch.from_numpy(by_size)] = torch.cat(parts)
        results.append(scores[torch.from_numpy(inverse)])
    return results
