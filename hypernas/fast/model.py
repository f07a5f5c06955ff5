"""Several seeds of encoder and regressor at once; the oracle is `method.hypernas.ArchitecturePredictor`."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from hypernas.errors import UserError
from hypernas.fast.fused_encoder import EncodeSequence
from hypernas.fast.packed import alike, embed_packed
from hypernas.fast.scoring import embed, same_edges
from hypernas.fast.sequences import Cells, rows_of
from hypernas.graph import GraphBatch
from hypernas.method.encoder import GlobalEncoder
from hypernas.method.hypernas import ArchitecturePredictor

LARGE, WORTH = 50_000, 16
CHUNK, GPU_CHUNK_BYTES = 256, 1 << 16


def is_fused(encoder: nn.Module) -> bool:
    """Whether `encode` computes what `encoder` does: the directed GCN and no other."""
    return type(encoder) is GlobalEncoder


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

    Any sequences of cells may stand side by side. Without a context every position of a cell looks the same, so each
    unique cell is encoded once.
    """
    ops, propagate, pool = cells[index]
    layout = cells.layout(index, each_once=context == "none")
    table = parameters[f"{prefix}embedding.weight"]
    s, d, v = len(table), table.shape[-1], rows_of(table, ops)
    kinds = [[parameters[f"{prefix}gcn.{k}.{i}.weight"] for i in range(n_layers)] for k in range(2)]
    weight = torch.stack([torch.stack(layers) for layers in kinds]).transpose(2, 3)
    carry = positions = None
    if context == "concat":
        join = parameters[f"{prefix}join.weight"].transpose(1, 2)
        bias = parameters[f"{prefix}join.bias"][:, None, None, None]
        v, carry = torch.einsum("sbund,sde->sbune", v, join[:, :d]) + bias, join[:, d:].contiguous()
    if context == "position":
        position = parameters[f"{prefix}position"][:, : layout.length, None]
        positions = position.expand(s, layout.length, index.shape[1], d)
    z, nodes = EncodeSequence.apply(
        v, weight, positions, carry, propagate, pool, layout.groups, context in ("sum", "concat"), want_nodes
    )
    return layout.mean(z), layout.unrolled(nodes) if want_nodes else nodes


def regress(parameters: dict[str, Tensor], h: Tensor, prefix: str = "regressor.") -> Tensor:
    """The regressors of S models: h (S, b, D) -> (S, b)."""
    hidden = torch.baddbmm(
        parameters[f"{prefix}hidden.bias"][:, None], h, parameters[f"{prefix}hidden.weight"].transpose(1, 2)
    )
    out = torch.bmm(F.relu(hidden), parameters[f"{prefix}out.weight"].transpose(1, 2))
    return out[..., 0] + parameters[f"{prefix}out.bias"]


@torch.no_grad()
def score(
    models: Sequence[ArchitecturePredictor],
    batches: Sequence[GraphBatch],
    chunk: int | None = None,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
) -> list[Tensor]:
    """Standardised predictions (B,) of each model for its batch, at most `chunk` architectures at a time.

    Equal graphs are encoded once, but not by the directed GCN on a GPU where all have one sequence of kinds, since
    finding them takes longer. A table of `LARGE` distinct graphs and more is sorted by edges on a CPU, where at least
    `WORTH` of them share theirs. The directed GCN runs in `dtype`, that of its weights if None; embeddings and
    regressor are always in that of the model.
    """
    results = []
    for model, batch in zip(models, batches, strict=True):
        encoder = model.encoder
        if int(batch.ops.max()) >= encoder.embedding.num_embeddings:
            rule = f"operations must be below {encoder.embedding.num_embeddings}, as in the training set"
            raise UserError(f"{rule}, got {int(batch.ops.max())}; give collate the space of both sets")
        if device != "cpu" and is_fused(encoder) and alike(there := batch.to(device)):
            results.append(_score_alike(model, there, chunk, dtype))
            continue
        first, inverse = batch.distinct()
        distinct = batch[first]
        sortable = len(first) >= LARGE and device == "cpu" and is_fused(encoder)
        parts = list(same_edges(distinct)) if sortable else []
        if parts and len(first) >= WORTH * len(parts):
            low = encoder if dtype is None else copy.deepcopy(encoder).to(dtype)
            results.append(model.regressor(embed(low, distinct, parts).to(encoder.embedding.weight.dtype))[inverse])
            continue
        parameters = _placed(model, device, dtype)
        scores = torch.empty(len(first), dtype=encoder.embedding.weight.dtype)
        for rows in _chunks(distinct, chunk or CHUNK):
            scores[rows] = _predicted(model, parameters, distinct[rows].trimmed(), device).cpu()
        results.append(scores[inverse])
    return results


def _placed(model: ArchitecturePredictor, device: str, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """The parameters of a model on a device with a leading axis of 1, those of a directed GCN in `dtype`."""
    parameters = {name: p[None].to(device) for name, p in model.named_parameters()}
    if dtype is not None and is_fused(model.encoder):
        parameters |= {name: p.to(dtype) for name, p in parameters.items() if name.startswith("encoder.")}
    return parameters


def _score_alike(
    model: ArchitecturePredictor, batch: GraphBatch, chunk: int | None, dtype: torch.dtype | None
) -> Tensor:
    """The predictions (B,) of a directed GCN for architectures of one sequence of kinds, on the device they are on.

    All are encoded, equal or not.
    """
    device, own = batch.ops.device, model.encoder.embedding.weight.dtype
    encoder, regressor = (
        copy.deepcopy(model.encoder).to(device, dtype or own),
        copy.deepcopy(model.regressor).to(device),
    )
    chunk = chunk or GPU_CHUNK_BYTES // (dtype or own).itemsize
    scores = torch.empty(len(batch), dtype=own, device=device)
    for start in range(0, len(batch), chunk):
        rows = slice(start, start + chunk)
        scores[rows] = regressor(embed_packed(encoder, batch[rows]).to(own))
    return scores.cpu()


def _predicted(model: ArchitecturePredictor, parameters: dict[str, Tensor], batch: GraphBatch, device: str) -> Tensor:
    """Standardised accuracy (B,) by one model, whose `parameters` have a leading axis of 1."""
    encoder = model.encoder
    if not is_fused(encoder):
        return functional_call(model, {name: p[0] for name, p in parameters.items()}, batch.to(device))[0]
    cells = Cells([batch], parameters["encoder.embedding.weight"].dtype, device)
    h, _ = encode(parameters, encoder.context, encoder.n_layers, cells, torch.arange(len(batch))[None])
    return regress(parameters, h.to(encoder.embedding.weight.dtype))[0]


def _chunks(batch: GraphBatch, size: int) -> tuple[Tensor, ...]:
    """Rows (B,) in parts of at most `size`: networks of equal length side by side, then of equal sequences of kinds,
    then small graphs together with small ones."""
    layout = torch.cat([batch.sequence, batch.kind], 1).numpy()
    _, layout_id = np.unique(layout, axis=0, return_inverse=True)
    length = (batch.sequence >= 0).sum(1).numpy()
    return torch.from_numpy(np.lexsort((batch.mask.sum((1, 2)).numpy(), layout_id, length))).split(size)
