"""Predictions for tables of any size; the oracle is `method.hypernas.ArchitecturePredictor.forward`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hypernas.fast.encoder import encoder_pass, is_directed_gcn
from hypernas.fast.stacked_models import regress
from hypernas.graph import GraphBatch
from hypernas.method.hypernas import ArchitecturePredictor
from hypernas.training.predictor import check_operations

# Architectures encoded at once. On a CPU the features of a chunk (256 x 8 nodes x 144 x 4 bytes = 1.2 MB) stay in its
# cache; a GPU wants as much work as possible a kernel.
CPU_CHUNK, GPU_CHUNK = 256, 16_384


@torch.no_grad()
def score(
    model: ArchitecturePredictor,
    graphs: GraphBatch,
    chunk: int | None = None,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Return standardised predictions (B,), computed for at most `chunk` architectures at a time.

    The directed GCN runs in `dtype`, by default that of its weights; embeddings and regressor use that of the model. On
    a CPU, equal graphs are encoded once; a GPU encodes them faster than the host finds them.
    """
    encoder = model.encoder
    n_ops, own = encoder.embedding.weight.shape[0], encoder.embedding.weight.dtype
    check_operations(graphs, n_ops)
    # For each architecture, which of the different ones it equals.
    inverse = None
    if device == "cpu":
        first, inverse = graphs.distinct()
        graphs = graphs[first]
    dtype = dtype if dtype is not None and is_directed_gcn(encoder) else own
    parameters = {name: p[None].to(device, dtype) for name, p in encoder.named_parameters()}
    regressor = {name: p[None].to(device) for name, p in model.regressor.named_parameters()}
    scores = torch.empty(len(graphs), dtype=own)
    for rows in _equal_shapes_together(graphs).split(chunk or (CPU_CHUNK if device == "cpu" else GPU_CHUNK)):
        # Small cells together: a chunk is no wider than its largest cell.
        part = graphs[rows].trimmed()
        encode = encoder_pass(encoder, [part], device, dtype)
        h, _ = encode(parameters, torch.arange(len(part))[None], want_nodes=False)
        scores[rows] = regress(regressor, h.to(own), prefix="")[0].cpu()
    return scores if inverse is None else scores[inverse]


def _equal_shapes_together(graphs: GraphBatch) -> Tensor:
    """Rows (B,) in an order in which neighbours have equal sequences of kinds and about as many nodes: little of a
    chunk is padding then."""
    layout = torch.cat([graphs.kind, graphs.sequence], 1).numpy()
    # Columns that are equal everywhere cost a sort and order nothing.
    varying = layout[:, (layout != layout[0]).any(0)]
    n_nodes = graphs.mask.sum((1, 2)).numpy()
    n_cells = (graphs.sequence >= 0).sum(1).numpy()
    return torch.from_numpy(np.lexsort((n_nodes, *varying.T, n_cells)))
