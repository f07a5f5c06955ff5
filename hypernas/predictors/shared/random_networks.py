"""Untrained message-passing networks whose outputs describe a graph, without labels or hand-made features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hypernas.graph import GraphBatch
from hypernas.predictors.shared.features import ordered, varying, with_cells


@dataclass(frozen=True)
class Cells:
    """The cells of B architectures at one position: ops (B, N), edge counts (B, N, N), mask (B, N), unique (B,).

    `unique` is the cell's index among the columns of `CellSequence`. If an architecture has no cell at this position,
    it is -1 and the mask is empty.
    """

    ops: np.ndarray
    edges: np.ndarray
    mask: np.ndarray
    unique: np.ndarray

    @property
    def sources(self) -> np.ndarray:
        """Return which nodes (B, N) read nothing."""
        return self.mask & (self.edges.sum(1) == 0)

    @property
    def sinks(self) -> np.ndarray:
        """Return which nodes (B, N) feed nothing."""
        return self.mask & (self.edges.sum(2) == 0)


class CellSequence:
    """The cells of a network in stacking order, restricted to those in which architectures differ.

    If all architectures have the same sequence, each unique cell appears once, at its first position. Cells that all
    architectures share are left out. Isomorphic cells have their nodes in the same order.
    """

    def __init__(self, reference: GraphBatch) -> None:
        self.is_shared = bool((reference.sequence == reference.sequence[:1]).all())
        self.columns = tuple(range(reference.kind.shape[1]))
        if self.is_shared:
            first = dict.fromkeys(reference.sequence[0].tolist())
            vary = varying(reference)
            self.columns = tuple(u for u in first if u in vary)

    def __call__(self, graphs: GraphBatch) -> list[Cells]:
        """Return the cells at each position."""
        graphs = with_cells(graphs, self.columns)
        ops, edges, mask = ordered(graphs, self.columns)
        rows = np.arange(len(graphs))
        if self.is_shared:
            positions = [np.full_like(rows, column) for column in range(len(self.columns))]
        else:
            positions = list(graphs.sequence.numpy().T)
        sequence = []
        for unique in positions:
            place = rows, unique.clip(min=0)
            present = mask[place] & (unique >= 0)[:, None]
            both = present[:, :, None] & present[:, None]
            cells = Cells(ops[place] * present, edges[place] * both.astype(np.float64), present, unique)
            sequence.append(cells)
        return sequence


@dataclass(frozen=True)
class Family:
    """Random networks of one kind.

    Of a message, a node keeps the share `keep`. The rest passes through a random matrix for the node's operation and
    through `activation`. If `normalised`, the message is first divided by its root mean square.
    """

    keep: float
    normalised: bool
    activation: Callable[[Tensor], Tensor]

    def normalise(self, message: Tensor) -> Tensor:
        if not self.normalised:
            return message
        # Root mean square over the numbers of a node.
        size = message.square().mean(-1, keepdim=True).sqrt()
        # A message of zeros stays one.
        return message / size.clamp(min=1e-6)


# Normalised ones rank deep cells better, hyperbolic tangents those of NAS-Bench-201: a kernel weighs the families.
FAMILIES = (
    Family(0.5, True, torch.relu),
    Family(0.5, False, torch.tanh),
    Family(0.7, True, torch.relu),
)
# Networks of a family. Twenty lose .001 to .003 of Kendall tau, eighty gain nothing.
NETWORKS = 40
# Numbers a node has in each network.
WIDTH = 8


class RandomNetworks:
    """120 networks of three families, with weights drawn once for `n_ops` operations.

    Node values flow forward from the sources to the sinks, then back. As in global encoding, each cell starts from the
    result of the cell before it. The design follows the flow surrogate of FGP (NeurIPS 2025), here with a matrix for
    each operation.
    """

    def __init__(self, n_ops: int) -> None:
        # One seed for all: the networks are a part of the method, and what is kept of them must not change.
        generator = torch.Generator().manual_seed(0)
        families = len(FAMILIES)
        self.start = torch.randn(families, NETWORKS, 1, WIDTH, generator=generator)
        # Axes: family, network, direction, operation, and the matrix. ReLU halves the variance, so it begins with 2.
        shape = (families, NETWORKS, 2, n_ops)
        self.weight = torch.randn(*shape, WIDTH, WIDTH, generator=generator) * (2 / WIDTH) ** 0.5
        self.bias = torch.randn(*shape, 1, WIDTH, generator=generator) * 0.3

    def __call__(self, sequence: list[Cells]) -> list[np.ndarray]:
        """Return the outputs (B, networks x 24) of each family on cells in sequence, averaged over the cells.

        The outputs are the values at the sinks after the forward pass, at the sources after the backward pass, and the
        sum of these over all nodes.
        """
        readouts = []
        for number, family in enumerate(FAMILIES):
            start = self.start[number]
            context = start.expand(-1, len(sequence[0].ops), -1)
            total, times = torch.zeros(()), torch.zeros(())
            for cells in sequence:
                forward, backward = self._both_passes(number, context, cells)
                at_sinks = _sum_of_nodes(forward, cells.sinks)
                at_sources = _sum_of_nodes(backward, cells.sources)
                present = torch.from_numpy(cells.unique >= 0)[:, None]
                total = total + torch.cat([at_sinks, at_sources, backward.sum(0)], 2) * present
                times = times + present
                context = torch.where(present, start + family.normalise(at_sinks), context)
            # asinh is linear near 0 and logarithmic far out: sums over many paths stay in range.
            mean = torch.asinh(total / times).transpose(0, 1)
            readouts.append(mean.flatten(1).numpy())
        return readouts

    def _both_passes(
        self,
        number: int,
        context: Tensor,
        cells: Cells,
    ) -> tuple[Tensor, Tensor]:
        """The values (N, R, B, k) of the nodes of R networks after the forward and after the backward pass."""
        n = cells.ops.shape[1]
        edges = torch.from_numpy(cells.edges).float()
        mask, sources, sinks = (
            torch.from_numpy(nodes)[..., None] for nodes in (cells.mask, cells.sources, cells.sinks)
        )
        forward = torch.zeros(n, *context.shape)
        for j in range(n):
            message = _gathered(forward, edges[:, :, j], range(j))
            value = self._update(number, 0, cells, j, message, None)
            forward[j] = torch.where(sources[:, j], context, value) * mask[:, j]
        backward = torch.zeros_like(forward)
        for j in reversed(range(n)):
            message = _gathered(backward, edges[:, j], range(j + 1, n))
            value = self._update(number, 1, cells, j, message, forward[j])
            backward[j] = torch.where(sinks[:, j], forward[j], value) * mask[:, j]
        return forward, backward

    def _update(
        self,
        number: int,
        direction: int,
        cells: Cells,
        j: int,
        message: Tensor,
        own: Tensor | None,
    ) -> Tensor:
        """The values (R, B, k) of node j from its message, and on the way back from its `own` value before."""
        family = FAMILIES[number]
        message = family.normalise(message)
        read = message if own is None else message + own
        mixed = torch.zeros_like(message)
        # Graphs with the same operation at node j share a matrix, so they are one product.
        for op in np.unique(cells.ops[:, j]):
            these = np.flatnonzero(cells.ops[:, j] == op)
            rows = torch.from_numpy(these)
            weight = self.weight[number, :, direction, op]
            bias = self.bias[number, :, direction, op]
            mixed[:, rows] = read[:, rows] @ weight + bias
        return family.keep * message + (1 - family.keep) * family.activation(mixed)


def _gathered(
    values: Tensor,
    counts: Tensor,
    neighbours: range,
) -> Tensor:
    """values (N, R, B, k), edge counts (B, N) -> the sum (R, B, k) over the neighbours."""
    message = torch.zeros_like(values[0])
    for i in neighbours:
        count = counts[:, i, None]
        if bool(count.any()):
            message = message + count * values[i]
    return message


def _sum_of_nodes(values: Tensor, nodes: np.ndarray) -> Tensor:
    """values (N, R, B, k), nodes (B, N) -> their sum (R, B, k)."""
    return torch.einsum("bn,nrbk->rbk", torch.from_numpy(nodes).float(), values)
