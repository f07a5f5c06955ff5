"""The encoders of S models in one pass, each on its own architectures; the oracle is `method.encoder.GlobalEncoder`.

Two things make it fast. Every tensor has a leading axis of S models and b architectures, so a step of ten seeds
launches as many operations as a step of one. And both directions of Eq. 1 are one product: with the weights side by
side, x [W+ | W-] stores the rows x_i W+ and x_i W- of node i one after the other in memory. It can therefore be read as
2N rows of D features, and one block matrix of 2N x 2N propagates all of them. Autograd computes the gradients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from hypernas.fast.stacked_models import rows_by_model
from hypernas.graph import GraphBatch
from hypernas.method.encoder import GlobalEncoder, propagation

# Name -> the parameters (S, ...) of all S models.
Parameters = Mapping[str, Tensor]


class Position(NamedTuple):
    """What all networks of a training share at one position of their sequences.

    `unique` is the index of the cell if it is the same in all, else None. `n_nodes` is the largest number of nodes in
    these cells, and `kinds` are the kinds of cells that occur.
    """

    unique: int | None
    n_nodes: int
    kinds: list[int]


class Cells(NamedTuple):
    """Cells of S models and b architectures: all unique ones (S, b, U, ...), or those at one position (S, b, ...)."""

    v: Tensor
    edges: Tensor
    pool: Tensor
    kind: Tensor

    def at(
        self,
        position: Position,
        seeds: Tensor,
        sequence: Tensor,
    ) -> Cells:
        """Return the cells at a position, where the sequences have the cells `sequence` (S, b)."""
        rows: tuple[Any, ...] = (slice(None), slice(None), position.unique)
        if position.unique is None:
            architectures = torch.arange(sequence.shape[1], device=sequence.device)
            rows = seeds, architectures, sequence.clamp(min=0)
        # Small cells need no more than their own nodes; a node has two rows of edges, one a direction.
        n = position.n_nodes
        v = self.v[rows][:, :, :n]
        edges = self.edges[rows][:, :, : 2 * n, : 2 * n]
        pool = self.pool[rows][:, :, :n]
        return Cells(v, edges, pool, self.kind[rows])


def _positions(
    mask: Tensor,
    kind: Tensor,
    sequence: Tensor,
) -> list[Position]:
    """mask (S, n, U, N), kind (S, n, U), sequence (S, n, C), on the host -> one `Position` for each of C."""
    most_nodes = mask.sum(-1).amax((0, 1)).tolist()
    positions = []
    for column in sequence.unbind(2):
        # -1 stands where a network has no cell any more.
        present = column >= 0
        cell = column.clamp(min=0)[..., None]
        kind_here = kind.gather(2, cell)[..., 0]
        kinds = kind_here[present].unique().tolist()
        unique = int(column[0, 0])
        if unique >= 0 and (column == unique).all():
            positions.append(Position(unique, most_nodes[unique], kinds))
        else:
            # Padding that no network of this training reaches still needs a GCN to run; nothing of it is counted.
            positions.append(Position(None, mask.shape[3], kinds or [0]))
    return positions


class BatchedEncoder:
    """`GlobalEncoder.forward` of S models, each with a set of n architectures; every call takes the parameters."""

    recordable = True  # No step looks at a value on the host, so a GPU can record it.

    def __init__(
        self,
        encoder: Any,
        graphs: Sequence[GraphBatch],
        device: str,
        dtype: torch.dtype,
    ) -> None:
        self.context = encoder.context
        self.n_layers = encoder.n_layers
        ops = torch.stack([batch.ops for batch in graphs])
        adjacency = torch.stack([batch.adjacency for batch in graphs])
        mask = torch.stack([batch.mask for batch in graphs])
        kind = torch.stack([batch.kind for batch in graphs])
        sequence = torch.stack([batch.sequence for batch in graphs])
        # Decided once and on the host: a step must not look at any value on a GPU.
        self.positions = _positions(mask, kind, sequence)
        self.ops = ops.to(device)
        self.kind = kind.to(device)
        self.sequence = sequence.to(device)
        mask = mask.to(device)
        along_and_against = propagation(adjacency.to(device), mask, dtype)
        self.edges = _both_directions(along_and_against)
        n_nodes = mask.sum(-1, keepdim=True)
        # Weights of the mean over real nodes; a cell without any keeps zeros instead of 0 / 0.
        self.pool = mask.to(dtype) / n_nodes.clamp(min=1)
        self.seeds = torch.arange(len(graphs), device=device)[:, None]

    def __call__(
        self,
        parameters: Parameters,
        index: Tensor,
        want_nodes: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """Architectures index (S, b) -> embedding h (S, b, D) and, if `want_nodes`, node features (S, C, b, N, D)."""
        at = self.seeds, index.to(self.ops.device)
        sequence = self.sequence[at]
        v = self._node_features(parameters, self.ops[at])
        cells = Cells(v, self.edges[at], self.pool[at], self.kind[at])
        # Both directions' weights side by side, so that a layer is one product.
        gcns = self._weights(parameters)
        s, b, _ = sequence.shape
        z = total = v.new_zeros(s, b, v.shape[-1])
        # NAS-Bench-201 stacks one cell fifteen times: fifteen first layers become one.
        first_layers: dict[int | None, dict[int, Tensor]] = {}
        nodes = []
        for i, position in enumerate(self.positions):
            cell = cells.at(position, self.seeds, sequence[:, :, i])
            # A cell that comes again has the same first layer, but for the context.
            first = first_layers.get(position.unique)
            if first is None:
                first = {k: _layer(cell.v, gcns[k][0], cell.edges) for k in position.kinds}
            if position.unique is not None:
                first_layers[position.unique] = first
            context = self._context(parameters, z, i)
            outputs = [_gcn(first[k], context, gcns[k], cell.edges) for k in position.kinds]
            # Where a position has cells of both kinds, both GCNs run on all: half is wasted, but nothing is sorted.
            x = outputs[0]
            if len(outputs) > 1:
                is_normal = cell.kind[..., None, None] == 0
                x = torch.where(is_normal, outputs[0], outputs[1])
            pooled = torch.einsum("sbn,sbnd->sbd", cell.pool, x)
            present = (sequence[:, :, i] >= 0)[..., None]
            z = torch.where(present, pooled, z)
            total = total + pooled * present
            if want_nodes:
                # All positions get the width of the largest cell, so that they can be stacked.
                missing = self.ops.shape[3] - position.n_nodes
                nodes.append(F.pad(x, (0, 0, 0, missing)))
        n_cells = (sequence >= 0).sum(2, keepdim=True)
        h = total / n_cells
        return h, torch.stack(nodes, 1) if want_nodes else None

    def _node_features(
        self,
        parameters: Parameters,
        ops: Tensor,
    ) -> Tensor:
        """ops (S, b, U, N) -> what the first layer reads but for the context (S, b, U, N, D)."""
        v = rows_by_model(parameters["embedding.weight"], ops)
        if self.context != "concat":
            return v
        # Here v goes through its half; z goes through the other half in `_context`.
        weight = parameters["join.weight"]
        bias = parameters["join.bias"]
        own = weight[:, :, : weight.shape[1]]  # The join of [v, z] is linear: one half of it is for v, one for z.
        joined = torch.baddbmm(bias[:, None], v.flatten(1, 3), own.mT)
        return joined.view(v.shape)

    def _context(
        self,
        parameters: Parameters,
        z: Tensor,
        i: int,
    ) -> Tensor | None:
        """What is added to every node of the cells at position i, (S, b, D), from features z of the cells before."""
        if self.context == "position":
            return parameters["position"][:, None, i].expand(z.shape)
        if self.context == "none" or i == 0:
            return None
        if self.context == "concat":
            return torch.bmm(z, parameters["join.weight"][:, :, z.shape[2] :].transpose(1, 2))
        return z

    def _weights(self, parameters: Parameters) -> dict[int, list[Tensor]]:
        """[W+ | W-] (S, D, 2D) of each layer of the GCN of each kind of cell that there is."""
        gcns = {}
        for k in {k for position in self.positions for k in position.kinds}:
            layers = [parameters[f"gcn.{k}.{i}.weight"] for i in range(self.n_layers)]
            gcns[k] = [weight.transpose(1, 2).flatten(2) for weight in layers]
        return gcns


class EncoderByModel:
    """Any other encoder module, run model by model: GHN's, and the graph networks of the ablations."""

    def __init__(
        self,
        encoder: nn.Module,
        graphs: Sequence[GraphBatch],
        device: str,
    ) -> None:
        self.encoder = encoder
        # A module says so itself if its forward pass looks at no value on the host, so that a GPU can record it.
        self.recordable = getattr(encoder, "recordable", False)
        self.graphs = [batch.to(device) for batch in graphs]
        self.device = device

    def __call__(
        self,
        parameters: Parameters,
        index: Tensor,
        want_nodes: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Same as `BatchedEncoder.__call__`."""
        embeddings, nodes = [], []
        for s, graphs in enumerate(self.graphs):
            own = {name: parameter[s] for name, parameter in parameters.items()}
            batch = graphs[index[s].to(self.device)]
            h, features = functional_call(self.encoder, own, (batch,))
            embeddings.append(h)
            nodes.append(features.transpose(0, 1))
        return torch.stack(embeddings), torch.stack(nodes)


def encoder_pass(
    encoder: nn.Module,
    graphs: Sequence[GraphBatch],
    device: str,
    dtype: torch.dtype,
) -> BatchedEncoder | EncoderByModel:
    """Return the pass that encodes the architectures of S models with encoders like this one."""
    if is_directed_gcn(encoder):
        return BatchedEncoder(encoder, graphs, device, dtype)
    return EncoderByModel(encoder, graphs, device)


def is_directed_gcn(encoder: nn.Module) -> bool:
    """Return whether the encoder is that of Eq. 1, not another one with some of its parts."""
    return type(encoder) is GlobalEncoder


def _both_directions(propagate: Tensor) -> Tensor:
    """Matrices along and against the edges (2, ..., N, N) -> (..., 2N, 2N), rows and columns in the order (node,
    direction); a direction reads nothing of the other one."""
    _, *lead, n, _ = propagate.shape
    blocks = propagate.new_zeros(*lead, n, 2, n, 2)
    # Row and column are (node, direction): zero where the directions differ.
    blocks[..., 0, :, 0], blocks[..., 1, :, 1] = propagate
    return blocks.view(*lead, 2 * n, 2 * n)


def _gcn(
    first: Tensor,
    context: Tensor | None,
    weights: Sequence[Tensor],
    edges: Tensor,
) -> Tensor:
    """The layers of Eq. 1 on node features v + c, context c (S, b, D) the same at every node or None -> (S, b, N, D).

    `first` is the first layer of v alone: a row of E sums to 1/2, so E (v + c) W = E v W + c W / 2.
    """
    if context is not None:
        same_at_all = torch.bmm(context, 0.5 * weights[0])
        first = first + same_at_all[:, :, None]
    x = _both(first.relu())
    for weight in weights[1:]:
        x = _both(_layer(x, weight, edges).relu_())
    return x


def _layer(
    x: Tensor,
    weight: Tensor,
    edges: Tensor,
) -> Tensor:
    """E x W of both directions: x (S, b, N, D), [W+ | W-] (S, D, 2D), edges (S, b, 2N, 2N) -> (S, b, N, 2D)."""
    s, b, n, d = x.shape
    both = torch.bmm(x.reshape(s, b * n, d), weight)
    # Row i of `both` is (x_i W+, x_i W-), so the same memory has a row for each node and direction.
    rows = both.view(s * b, 2 * n, d)
    blocks = edges.reshape(s * b, 2 * n, 2 * n)
    propagated = torch.bmm(blocks, rows)
    return propagated.view(s, b, n, 2 * d)


def _both(h: Tensor) -> Tensor:
    """The sum over both directions: (..., 2D) -> (..., D)."""
    along, against = h.chunk(2, -1)
    return along + against
