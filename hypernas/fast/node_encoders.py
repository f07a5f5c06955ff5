"""Graph networks to put in the place of the directed GCN: those of GHN and GHN-2, and three of PyTorch Geometric.

The global encoding around them, the width and the embedding of operations stay (`encoder.GlobalEncoder`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hypernas.fast.gated import GatedGNN
from hypernas.graph import GraphBatch
from hypernas.method.encoder import KINDS, GlobalEncoder


class MessagePassing(nn.Module):
    """Layers of PyTorch Geometric, each followed by layer normalisation and ReLU; all graphs are one disjoint union.

    NOTE[PAPER]: paper compares with GHN's encoder alone; we add GIN, GAT and the graph transformer, with every edge in
    both directions, four heads where the width can be split, and layer normalisation; because these layers know no
    direction and a sum over edges grows without bound along 17 cells of 6 layers.
    """

    def __init__(self, width: int, n_layers: int, layer: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_layer(layer, width) for _ in range(n_layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(n_layers))

    def forward(self, x: Tensor, adjacency: Tensor, mask: Tensor) -> Tensor:
        """x (B, N, D), adjacency (B, N, N) edge counts, mask (B, N) -> (B, N, D), zero where there is no node."""
        edges, nodes = union(adjacency, mask), x[mask]
        for layer, norm in zip(self.layers, self.norms, strict=True):
            nodes = F.relu(norm(layer(nodes, edges)))
        return torch.zeros_like(x).masked_scatter(mask[..., None], nodes)


def union(adjacency: Tensor, mask: Tensor) -> Tensor:
    """The edges (2, 2 E) of B graphs as one: both directions, each as often as it is counted, nodes that are real."""
    number = mask.flatten().cumsum(0).view(mask.shape) - 1
    graph, i, j = adjacency.nonzero(as_tuple=True)
    edges = torch.stack([number[graph, i], number[graph, j]])
    edges = edges.repeat_interleave(adjacency[graph, i, j].long(), 1)
    return torch.cat([edges, edges.flip(0)], 1)


def _layer(name: str, width: int) -> nn.Module:
    """A layer of PyTorch Geometric of `width` features in and out."""
    from torch_geometric.nn import GATConv, GINConv, TransformerConv

    if name == "gin":
        return GINConv(nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)))
    heads = n_heads(width)
    return {"gat": GATConv, "transformer": TransformerConv}[name](width, width // heads, heads=heads)


def n_heads(width: int) -> int:
    return math.gcd(width, 4)


NETWORKS: dict[str, Callable[[int, int], nn.Module]] = {
    "gatedgnn": lambda width, n_layers: GatedGNN(width),
    "ghn2": lambda width, n_layers: GatedGNN(width, virtual_edges=True),
    "gin": partial(MessagePassing, layer="gin"),
    "gat": partial(MessagePassing, layer="gat"),
    "transformer": partial(MessagePassing, layer="transformer"),
}
GATED = ("gatedgnn", "ghn2")
ENCODERS = ("gcn", *NETWORKS)


class NodeEncoder(GlobalEncoder):
    """The global encoder with another graph network, one for normal and one for reduction cells."""

    def __init__(self, n_ops: int, n_layers: int, width: int, context: str, network: str) -> None:
        super().__init__(n_ops, 0, width, context)
        self.n_layers, self.name = n_layers, network
        self.gcn = nn.ModuleList(NETWORKS[network](width, n_layers) for _ in range(KINDS))

    def _cell(self, x: Tensor, adjacency: Tensor, mask: Tensor, kind: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        for k, network in enumerate(self.gcn):
            rows = (kind == k).nonzero()[:, 0]
            if len(rows) == len(kind):
                return network(x, adjacency, mask)
            if len(rows):
                out = out.index_copy(0, rows, network(x[rows], adjacency[rows], mask[rows]))
        return out


def encoder_class(name: str) -> Callable[..., GlobalEncoder]:
    """What makes an encoder of (n_ops, n_layers, width, context); `name` is one of `ENCODERS`."""
    return GlobalEncoder if name == "gcn" else partial(NodeEncoder, network=name)


class NetworkEncoder(nn.Module):
    """GHN's encoder: a `GatedGNN` over the whole network as one graph, cells joined output to input."""

    def __init__(self, n_ops: int, width: int = 32, virtual_edges: bool = False) -> None:
        super().__init__()
        self.name = "ghn2" if virtual_edges else "gatedgnn"
        self.embedding = nn.Embedding(n_ops, width)
        self.network = GatedGNN(width, virtual_edges=virtual_edges)

    def forward(self, batch: GraphBatch) -> tuple[Tensor, Tensor]:
        """B architectures of C cells -> mean of all nodes h (B, D), and node features (B, C, N, D)."""
        ops, adjacency, mask = unrolled(batch)
        return pooled(self.network(self.embedding(ops), adjacency, mask) * mask[..., None], mask, batch)


def pooled(nodes: Tensor, mask: Tensor, batch: GraphBatch) -> tuple[Tensor, Tensor]:
    """Nodes (B, C*N, D), zero where there is none, and mask (B, C*N) -> their mean (B, D), and (B, C, N, D)."""
    h = nodes.sum(1) / mask.sum(1, keepdim=True)
    return h, nodes.view(len(batch), batch.sequence.shape[1], -1, nodes.shape[-1])


def unrolled(batch: GraphBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Whole networks as graphs of C*N nodes: ops (B, C*N), adjacency (B, C*N, C*N), mask (B, C*N).

    Nodes without a successor in their cell feed the nodes without a predecessor in the next one.
    """
    rows, u = torch.arange(len(batch), device=batch.ops.device)[:, None], batch.sequence.clamp(min=0)
    mask = batch.mask[rows, u] & (batch.sequence >= 0)[..., None]
    inside = batch.adjacency[rows, u] * mask[..., None]
    b, c, n = mask.shape
    last, first = mask & (inside.sum(3) == 0), mask & (inside.sum(2) == 0)
    adjacency = inside.new_zeros(b, c, n, c, n)
    for i in range(c):
        adjacency[:, i, :, i] = inside[:, i]
        if i:
            adjacency[:, i - 1, :, i] = last[:, i - 1, :, None] & first[:, i, None]
    return batch.ops[rows, u].view(b, -1), adjacency.view(b, c * n, c * n), mask.view(b, -1)
