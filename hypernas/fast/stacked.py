"""S encoders with other graph networks than the GCN in one pass: the fast twin of those in `node_encoders`.

Parameters are stacked, and what PyTorch Geometric does over lists of edges is done over whole cells of few nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hypernas.fast import gated
from hypernas.fast.node_encoders import GATED, NetworkEncoder, NodeEncoder, n_heads, pooled, unrolled
from hypernas.fast.packed import alike
from hypernas.fast.sequences import rows_of
from hypernas.graph import GraphBatch
from hypernas.method.encoder import KINDS

Place = tuple[Tensor, Tensor]
Parameters = Mapping[str, Tensor]
Layer = tuple[Parameters, Tensor, Tensor]
SLOPE = 0.2


def below(parameters: Parameters, prefix: str) -> dict[str, Tensor]:
    """The parameters whose names begin with `prefix`, under the rest of their names."""
    return {name.removeprefix(prefix): p for name, p in parameters.items() if name.startswith(prefix)}


def linear(parameters: Parameters, name: str, x: Tensor) -> Tensor:
    """The linear maps called `name` of S models: x (S*B, N, D) -> (S*B, N, E)."""
    weight, bias = parameters[f"{name}.weight"], parameters.get(f"{name}.bias")
    flat = x.reshape(len(weight), -1, x.shape[2])
    y = torch.bmm(flat, weight.mT) if bias is None else torch.baddbmm(bias[:, None], flat, weight.mT)
    return y.view(*x.shape[:2], -1)


def gin(parameters: Parameters, x: Tensor, edges: Tensor) -> Tensor:
    """GINConv (Xu et al. 2019) of S models: x (S*B, N, D), edge counts (S*B, N, N) -> (S*B, N, D)."""
    return linear(parameters, "nn.2", F.relu(linear(parameters, "nn.0", torch.baddbmm(x, edges, x))))


def gat(parameters: Parameters, x: Tensor, edges: Tensor) -> Tensor:
    """GATConv (Velickovic et al. 2018), like `gin`, with logarithms of the counts; a node has an edge to itself."""
    s, _, heads, d = parameters["att_src"].shape
    h = linear(parameters, "lin", x).view(s, -1, heads, d)
    there, here = ((h * parameters[name]).sum(3).view(*x.shape[:2], heads) for name in ("att_src", "att_dst"))
    scores = F.leaky_relu(here[:, :, None] + there[:, None], SLOPE) + edges[..., None]
    y = torch.einsum("bijh,bjhc->bihc", scores.softmax(2), h.view(*x.shape[:2], heads, d))
    return (y.reshape(s, -1, x.shape[2]) + parameters["bias"][:, None]).view(x.shape)


def transformer(parameters: Parameters, x: Tensor, edges: Tensor) -> Tensor:
    """TransformerConv (Shi et al. 2021), like `gat`, its four maps as one; a node without an edge gets but its own."""
    *maps, own = linear(parameters, "lin", x).chunk(4, 2)
    q, k, v = (y.unflatten(2, (n_heads(x.shape[2]), -1)).transpose(1, 2) for y in maps)
    return F.scaled_dot_product_attention(q, k, v, edges[:, None]).transpose(1, 2).flatten(2) + own


LAYERS = {"gin": gin, "gat": gat, "transformer": transformer}
MAPS = ("query", "key", "value", "skip")


def prepared(network: str, parameters: Parameters) -> Any:
    """What all calls of `run` in a step share, of S networks of one kind, one of `NETWORKS`: each layer's parameters,
    and the scale and shift of its normalisation (S, 1, D)."""
    if network in GATED:
        return gated.prepared(parameters)
    layers = []
    for i in range(sum(name.startswith("norms.") and name.endswith(".weight") for name in parameters)):
        own = below(parameters, f"layers.{i}.")
        if network == "transformer":
            own = {f"lin.{of}": torch.cat([own[f"lin_{name}.{of}"] for name in MAPS], 1) for of in ("weight", "bias")}
        layers.append((own, *(parameters[f"norms.{i}.{of}"][:, None] for of in ("weight", "bias"))))
    return layers


def message_passing(layer: str, layers: Sequence[Layer], x: Tensor, edges: Tensor) -> Tensor:
    """`node_encoders.MessagePassing` of S models: x (S*B, N, D), `edges_of` their graphs -> (S*B, N, D)."""
    for own, scale, shift in layers:
        y = F.layer_norm(LAYERS[layer](own, x, edges), x.shape[-1:])
        x = F.relu(torch.addcmul(shift, y.view(len(scale), -1, x.shape[2]), scale)).view(x.shape)
    return x


def edges_of(network: str, adjacency: Tensor, mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Edge counts (..., N, N) of `mask` (..., N) -> what `run` wants of them, one of `NETWORKS`."""
    if network in GATED:
        return gated.weighted_edges(adjacency, network == "ghn2", dtype)
    edges = adjacency.to(dtype) * mask[..., None, :] * mask[..., None]
    edges = edges + edges.mT
    if network == "gin":
        return edges
    return (edges + torch.eye(edges.shape[-1], dtype=dtype, device=edges.device) if network == "gat" else edges).log()


def run(network: str, of: Any, x: Tensor, edges: Tensor) -> Tensor:
    """S networks, `prepared`: x (S*B, N, D), `edges_of` their graphs -> (S*B, N, D)."""
    return gated.gated(of, x, edges) if network in GATED else message_passing(network, of, x, edges)


class StackedEncoders:
    """S encoders like `encoder`, each for a set of n graphs of its own; their parameters come with each call.

    `kinds` are those of the cells at each position of any network.
    """

    def __init__(self, encoder: NodeEncoder | NetworkEncoder, graphs: Sequence[GraphBatch], device: str) -> None:
        names = ("ops", "adjacency", "mask", "kind", "sequence")
        together = GraphBatch(*(torch.cat([getattr(batch, name) for batch in graphs]) for name in names))
        kind = together.kind.gather(1, together.sequence.clamp(min=0))
        there = (together.sequence >= 0).T
        self.kinds = [kind[present, i].unique().tolist() for i, present in enumerate(there)]
        self.encoder, self.n, self.alike = encoder, len(graphs[0]), alike(together)
        self.graphs = together.to(device)

    def __call__(self, parameters: Parameters, index: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters by their name in the encoder, index (S, b) -> h (S, b, D), nodes (S, C, b, N, D)."""
        s, b = index.shape
        first = torch.arange(0, s * self.n, self.n, device=index.device)
        batch = self.graphs[(index + first[:, None]).flatten().to(self.graphs.ops.device)]
        encode = self._whole if isinstance(self.encoder, NetworkEncoder) else self._by_cell
        h, nodes = encode(parameters, batch)
        return h.view(s, b, -1), nodes.view(s, b, *nodes.shape[1:]).transpose(1, 2)

    def _whole(self, parameters: Parameters, batch: GraphBatch) -> tuple[Tensor, Tensor]:
        """`NetworkEncoder.forward` for S*b architectures, seed by seed."""
        ops, adjacency, mask = unrolled(batch)
        network, x = self.encoder.name, embed(parameters, ops)
        edges = edges_of(network, adjacency, mask, x.dtype)
        nodes = run(network, prepared(network, below(parameters, "network.")), x, edges) * mask[..., None]
        return pooled(nodes, mask, batch)

    def _by_cell(self, parameters: Parameters, batch: GraphBatch) -> tuple[Tensor, Tensor]:
        """`NodeEncoder.forward` for S*b architectures, seed by seed."""
        network = self.encoder.name
        networks = [prepared(network, below(parameters, f"gcn.{k}.")) for k in range(KINDS)]
        table = parameters["embedding.weight"]
        edges = edges_of(network, batch.adjacency, batch.mask, table.dtype)

        def cell(at: Place, z: Tensor, i: int) -> Tensor:
            x, kind = self._inject(parameters, embed(parameters, batch.ops[at]), z, i), batch.kind[at]
            first, *others = (run(network, networks[k], x, edges[at]) for k in self.kinds[i])
            return torch.where(kind[:, None, None] == 0, first, others[0]) if others else first

        return in_sequence(batch, table.new_zeros(len(batch), table.shape[2]), cell)

    def _inject(self, parameters: Parameters, v: Tensor, z: Tensor, i: int) -> Tensor:
        """`GlobalEncoder._inject` for S models."""
        context = self.encoder.context
        if context == "sum":
            return v + z[:, None]
        if context == "concat":
            return linear(parameters, "join", torch.cat([v, z[:, None].expand_as(v)], 2))
        if context == "position":
            position = parameters["position"][:, i, None]
            return (v.view(len(position), -1, v.shape[2]) + position).view(v.shape)
        return v


def in_sequence(batch: GraphBatch, z: Tensor, encode: Callable[[Place, Tensor, int], Tensor]) -> tuple[Tensor, Tensor]:
    """The cells of B architectures one after another: h (B, D), the mean of their pooled features, nodes (B, C, N, D).

    `encode` gives the nodes (B, N, D) of the cells at a place, rows and unique cells (B,), at position i, from the
    pooled features z (B, D) of those before; it is first given the `z` here.
    """
    rows = torch.arange(len(batch), device=batch.ops.device)
    total, nodes = torch.zeros_like(z), []
    for i in range(batch.sequence.shape[1]):
        at, present = (rows, batch.sequence[:, i].clamp(min=0)), (batch.sequence[:, i] >= 0)[:, None]
        mask = batch.mask[at]
        x = encode(at, z, i) * mask[..., None]
        z = torch.where(present, x.sum(1) / mask.sum(1, keepdim=True), z)
        total = total + z * present
        nodes.append(x)
    return total / (batch.sequence >= 0).sum(1, keepdim=True), torch.stack(nodes, 1)


def embed(parameters: Parameters, ops: Tensor) -> Tensor:
    """Operations (S*B, N) -> (S*B, N, D) by the embedding of each of S models."""
    table = parameters["embedding.weight"]
    return rows_of(table, ops.view(len(table), -1)).view(*ops.shape, -1)
