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
from hypernas.scoring import embed

LARGE = 50_000


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
        sequence, kind = first.sequence[0], first.kind[0]
        if not all(bool((b.sequence == sequence).all()) and bool((b.kind == kind).all()) for b in batches):
            raise UserError("the fused encoder needs architectures of one sequence of cells; use engine='plain'")
        self.columns = tuple((u, int(kind[u])) for u in sequence[sequence >= 0].tolist())
        self.ops = torch.stack([b.ops for b in batches]).to(device)
        mask = torch.stack([b.mask for b in batches]).to(device)
        adjacency = torch.stack([b.adjacency for b in batches]).to(device)
        self.propagate = propagation(adjacency, mask, dtype)
        self.pool = mask.to(dtype) / mask.sum(-1, keepdim=True).clamp(min=1)
        self.seeds = torch.arange(len(batches), device=device)[:, None]

    def __getitem__(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """index (S, b) -> ops (S, b, U, N), propagate (2, S, b, U, N, N), pool (S, b, U, N)."""
        index = index.to(self.ops.device)
        return self.ops[self.seeds, index], self.propagate[:, self.seeds, index], self.pool[self.seeds, index]


class Stack:
    """S models of equal shape whose parameters are trained together, stacked along a first axis."""

    def __init__(self, models: Sequence[nn.Module], device: str = "cpu") -> None:
        self.models = models
        self.parameters = {
            name: torch.stack([dict(m.named_parameters())[name].detach() for m in models]).to(device)
            for name, _ in models[0].named_parameters()
        }
        for name, parameter in models[0].named_parameters():
            self.parameters[name].requires_grad_(parameter.requires_grad)

    def write_back(self) -> None:
        """Copy the stacked parameters into the models."""
        with torch.no_grad():
            for s, model in enumerate(self.models):
                for name, parameter in model.named_parameters():
                    parameter.copy_(self.parameters[name][s])


def encode(
    parameters: dict[str, Tensor],
    context: str,
    n_layers: int,
    cells: Cells,
    index: Tensor,
    want_nodes: bool = False,
    prefix: str = "encoder.",
) -> tuple[Tensor, Tensor]:
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
def score(
    models: Sequence[ArchitecturePredictor], batches: Sequence[GraphBatch], chunk: int = 256, device: str = "cpu"
) -> list[Tensor]:
    """Standardised predictions (B,) of each model for its batch; equal graphs are encoded once, memory is bounded.

    A table of `LARGE` distinct graphs and more is sorted by edges, which pays from there on.
    """
    results = []
    for model, batch in zip(models, batches, strict=True):
        encoder = model.encoder
        if int(batch.ops.max()) >= encoder.embedding.num_embeddings:
            rule = f"operations must be below {encoder.embedding.num_embeddings}, as in the training set"
            raise UserError(f"{rule}, got {int(batch.ops.max())}; give collate the space of both sets")
        first, inverse = batch.distinct()
        if len(first) >= LARGE and device == "cpu":
            results.append(model.regressor(embed(encoder, batch[first]))[inverse])
            continue
        parameters = {name: p[None].to(device) for name, p in model.named_parameters()}
        scores = torch.empty(len(first), dtype=encoder.embedding.weight.dtype)
        for rows in _chunks(batch[first], chunk):
            cells = Cells([batch[first[rows]].trimmed()], scores.dtype, device)
            index = torch.arange(len(rows))[None]
            h, _ = encode(parameters, encoder.context, encoder.n_layers, cells, index)
            scores[rows] = regress(parameters, h)[0].cpu()
        results.append(scores[inverse])
    return results


def _chunks(batch: GraphBatch, size: int) -> list[Tensor]:
    """Rows (B,) in parts of at most `size`, each of one sequence of kinds, small graphs together with small ones."""
    layout = torch.cat([batch.sequence, batch.kind], 1).numpy()
    _, layout_id = np.unique(layout, axis=0, return_inverse=True)
    order = np.lexsort((batch.mask.sum((1, 2)).numpy(), layout_id))
    groups = np.split(order, np.flatnonzero(np.diff(layout_id[order])) + 1)
    return [part for group in groups for part in torch.from_numpy(group).split(size)]
