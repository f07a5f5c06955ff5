"""Graph networks that can replace the directed GCN: those of GHN and GHN-2, and three from PyTorch Geometric.

Everything around them stays that of `method.encoder.GlobalEncoder`: global encoding, width, embedding of operations.
Three more are the directed GCN itself with one choice made differently, where the paper does not say which is meant.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hypernas.graph import GraphBatch
from hypernas.method.encoder import KINDS, DirectedGCNLayer, GlobalEncoder

# GHN-2 gives no virtual edge to nodes that are further apart than this many edges.
LONGEST_PATH = 50


class MessagePassing(nn.Module):
    """Layers of PyTorch Geometric, each followed by layer normalisation and ReLU, on one disjoint union of graphs.

    NOTE[PAPER]: paper compares with GHN's encoder alone; we add GIN, GAT and the graph transformer, with every edge in
    both directions, four heads where the width can be split, and layer normalisation; because these layers know no
    direction and a sum over edges grows without bound along 17 cells of 6 layers.
    """

    def __init__(
        self,
        width: int,
        n_layers: int,
        layer: str,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_pyg_layer(layer, width) for _ in range(n_layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(n_layers))

    def forward(
        self,
        x: Tensor,
        adjacency: Tensor,
        mask: Tensor,
    ) -> Tensor:
        """x (B, N, D), adjacency (B, N, N) edge counts, mask (B, N) -> (B, N, D), zero where there is no node."""
        edges = edges_of_union(adjacency, mask)
        nodes = x[mask]
        for layer, norm in zip(self.layers, self.norms, strict=True):
            nodes = F.relu(norm(layer(nodes, edges)))
        return torch.zeros_like(x).masked_scatter(mask[..., None], nodes)


def edges_of_union(adjacency: Tensor, mask: Tensor) -> Tensor:
    """Return the edges (2, 2E) of B graphs as one graph of real nodes: both directions, repeated by their count."""
    # Real nodes of all graphs numbered through.
    number = mask.flatten().cumsum(0).view(mask.shape) - 1
    graph, i, j = adjacency.nonzero(as_tuple=True)
    source = number[graph, i]
    target = number[graph, j]
    edges = torch.stack([source, target])
    count = adjacency[graph, i, j].long()
    edges = edges.repeat_interleave(count, 1)
    return torch.cat([edges, edges.flip(0)], 1)


def _two_layers(width: int) -> nn.Sequential:
    """A network of one hidden layer, all of one width."""
    return nn.Sequential(
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, width),
    )


def _pyg_layer(name: str, width: int) -> nn.Module:
    """A layer of PyTorch Geometric of `width` features in and out."""
    from torch_geometric.nn import GATConv, GINConv, TransformerConv

    if name == "gin":
        return GINConv(_two_layers(width))
    # Four heads share the width evenly, or two, or one where it is odd.
    heads = math.gcd(width, 4)
    layer = {"gat": GATConv, "transformer": TransformerConv}[name]
    return layer(width, width // heads, heads=heads)


class GatedGNN(nn.Module):
    """The recurrent network of GHN: it visits nodes in topological order, then in reverse, with one shared GRU cell.

    A node's message is the sum of MLP(h_u) over the nodes before it (on the way back, after it), with edges counted.
    With `virtual_edges`, as in GHN-2, every node at a distance of 2 to 50 edges sends a second message, from another
    MLP and divided by the length of the shortest path.

    NOTE[PAPER]: paper names GHN's encoder and no more; we pass over the graph once, forward and backward, whatever the
    number of layers, with messages of one hidden layer; because GHN-2 does, and one pass of 2 N updates is already
    deeper than the GCN.
    """

    def __init__(
        self,
        width: int,
        virtual_edges: bool = False,
    ) -> None:
        super().__init__()
        self.update = nn.GRUCell(width, width)
        # One kind of message along edges, another along virtual ones.
        n_kinds = 2 if virtual_edges else 1
        self.messages = nn.ModuleList(_two_layers(width) for _ in range(n_kinds))

    def forward(
        self,
        x: Tensor,
        adjacency: Tensor,
        mask: Tensor,
    ) -> Tensor:
        """x (B, N, D), adjacency (B, N, N) upper triangular, mask (B, N) -> (B, N, D)."""
        edges = [adjacency.to(x.dtype)]
        if len(self.messages) > 1:
            edges.append(virtual_edges(adjacency).to(x.dtype))
        order = range(x.shape[1])
        x = self._visit(x, edges, order)
        against = [weights.mT for weights in edges]
        return self._visit(x, against, order[::-1])

    def _visit(
        self,
        x: Tensor,
        edges: list[Tensor],
        order: range,
    ) -> Tensor:
        """Update the nodes of x (B, N, D) in this order; edges (B, N, N) of each kind weigh what u sends to v."""
        # What each node has been sent so far: by the time it is visited all before it have sent.
        received = torch.zeros_like(x)
        states: list[Tensor] = [x] * len(order)
        for u in order:
            states[u] = self.update(received[:, u], x[:, u])
            for message, weights in zip(self.messages, edges, strict=True):
                sent = message(states[u])
                received = torch.addcmul(received, weights[:, u, :, None], sent[:, None])
        return torch.stack(states, 1)


def virtual_edges(adjacency: Tensor) -> Tensor:
    """Return 1 / shortest path in adjacency (B, N, N) if it has 2 to 50 edges, else 0 (GHN-2, Knyazev et al. 2021)."""
    paths = shortest_paths(adjacency)
    # Paths of one edge are edges already.
    joined = (paths > 1) & (paths <= LONGEST_PATH)
    return torch.where(joined, 1 / paths, 0.0)


def shortest_paths(adjacency: Tensor) -> Tensor:
    """Return the length of the shortest path i -> j in upper triangular adjacency (B, N, N): 0 for i = j, inf for none.

    >>> shortest_paths(torch.tensor([[[0, 1, 0], [0, 0, 2], [0, 0, 0]]]))[0, 0]
    tensor([0., 1., 2.])
    """
    b, n, _ = adjacency.shape
    device = adjacency.device
    step = torch.ones(adjacency.shape, device=device)
    step = step.masked_fill(adjacency == 0, math.inf)
    same = torch.eye(n, dtype=torch.bool, device=device)
    paths = torch.full((b, n, n), math.inf, device=device)
    paths = paths.masked_fill(same, 0.0)
    # The last edge of a path to j comes from a node before j, to which all shortest paths are known by then.
    for j in range(1, n):
        lengths = paths[:, :, :j] + step[:, None, :j, j]
        through = lengths.amin(2)
        paths[:, :, j] = torch.minimum(paths[:, :, j], through)
    return paths


class PrintedGCN(nn.Module):
    """Layers of Eq. 1 as printed: E is the adjacency alone, without self-loops and without a division by its sums."""

    def __init__(self, width: int, n_layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DirectedGCNLayer(width) for _ in range(n_layers))

    def forward(
        self,
        x: Tensor,
        adjacency: Tensor,
        mask: Tensor,
    ) -> Tensor:
        """x (B, N, D), adjacency (B, N, N) edge counts, mask (B, N) -> (B, N, D)."""
        edges = adjacency.to(x.dtype)
        propagate = 0.5 * torch.stack([edges, edges.mT])
        for layer in self.layers:
            x = layer(x, propagate)
        return x


# Name -> graph network of (width, n_layers); GHN's are one pass, whatever the number of layers.
NETWORKS: dict[str, Callable[[int, int], nn.Module]] = {
    "gatedgnn": lambda width, n_layers: GatedGNN(width),
    "ghn2": lambda width, n_layers: GatedGNN(width, virtual_edges=True),
    "gin": partial(MessagePassing, layer="gin"),
    "gat": partial(MessagePassing, layer="gat"),
    "transformer": partial(MessagePassing, layer="transformer"),
    "gcn-printed": PrintedGCN,
}


class PooledEncoder(GlobalEncoder):
    """The global encoder with another pooling of node features x (B, N, D) and mask (B, N) into z (B, D)."""

    def __init__(
        self,
        n_ops: int,
        n_layers: int,
        width: int,
        context: str,
        pool: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        super().__init__(n_ops, n_layers, width, context)
        self.pool = pool


def largest(x: Tensor, mask: Tensor) -> Tensor:
    """Return the largest value of each feature; features are at least 0, so padding never counts."""
    return x.amax(1)


def output_node(x: Tensor, mask: Tensor) -> Tensor:
    """Return the features of the last node, a cell's output."""
    last = mask.sum(1) - 1
    return x[torch.arange(len(x), device=x.device), last]


POOLINGS = {"gcn-max": largest, "gcn-output": output_node}
ENCODERS = ("gcn", *NETWORKS, *POOLINGS)


class NodeEncoder(GlobalEncoder):
    """The global encoder with another graph network: one for normal and one for reduction cells."""

    def __init__(
        self,
        n_ops: int,
        n_layers: int,
        width: int,
        context: str,
        network: str,
    ) -> None:
        super().__init__(n_ops, 0, width, context)
        self.n_layers = n_layers
        self.gcn = nn.ModuleList(NETWORKS[network](width, n_layers) for _ in range(KINDS))

    def _cell(
        self,
        x: Tensor,
        adjacency: Tensor,
        mask: Tensor,
        kind: Tensor,
    ) -> Tensor:
        out = torch.zeros_like(x)
        for k, network in enumerate(self.gcn):
            rows = (kind == k).nonzero()[:, 0]
            # Most often all cells at a position are of one kind, and nothing is taken apart.
            if len(rows) == len(kind):
                return network(x, adjacency, mask)
            if len(rows):
                part = network(x[rows], adjacency[rows], mask[rows])
                out = out.index_copy(0, rows, part)
        return out


def encoder_class(name: str) -> Callable[..., GlobalEncoder]:
    """Return the class that builds an encoder from (n_ops, n_layers, width, context); `name` is one of `ENCODERS`."""
    if name in POOLINGS:
        return partial(PooledEncoder, pool=POOLINGS[name])
    return GlobalEncoder if name == "gcn" else partial(NodeEncoder, network=name)


class NetworkEncoder(nn.Module):
    """GHN's encoder: a `GatedGNN` over the whole network as one graph, in which each cell feeds the next."""

    recordable = True  # No step looks at a value on the host, so a GPU can record it.

    def __init__(
        self,
        n_ops: int,
        width: int = 32,
        virtual_edges: bool = False,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_ops, width)
        self.network = GatedGNN(width, virtual_edges=virtual_edges)

    def forward(self, batch: GraphBatch) -> tuple[Tensor, Tensor]:
        """B architectures of C cells -> mean of all nodes h (B, D), and node features (B, C, N, D)."""
        ops, adjacency, mask = unrolled(batch)
        nodes = self.network(self.embedding(ops), adjacency, mask)
        nodes = nodes * mask[..., None]
        h = nodes.sum(1) / mask.sum(1, keepdim=True)
        n_cells = batch.sequence.shape[1]
        return h, nodes.unflatten(1, (n_cells, -1))


def unrolled(batch: GraphBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Return whole networks as graphs of C*N nodes: ops (B, C*N), adjacency (B, C*N, C*N), mask (B, C*N).

    Nodes without a successor in their cell feed the nodes without a predecessor in the next cell.
    """
    rows = torch.arange(len(batch), device=batch.ops.device)[:, None]
    unique = batch.sequence.clamp(min=0)
    present = batch.sequence >= 0
    mask = batch.mask[rows, unique] & present[..., None]
    inside = batch.adjacency[rows, unique] * mask[..., None]
    b, c, n = mask.shape
    # Outputs and inputs of a cell; the outputs of one feed the inputs of the next.
    last = mask & (inside.sum(3) == 0)
    first = mask & (inside.sum(2) == 0)
    adjacency = inside.new_zeros(b, c, n, c, n)
    for i in range(c):
        adjacency[:, i, :, i] = inside[:, i]
        if i:
            feeds = last[:, i - 1, :, None] & first[:, i, None]
            adjacency[:, i - 1, :, i] = feeds
    ops = batch.ops[rows, unique].flatten(1)
    whole = adjacency.view(b, c * n, c * n)
    return ops, whole, mask.flatten(1)
