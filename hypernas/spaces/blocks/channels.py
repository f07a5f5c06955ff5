"""Cells that share the channels of their output among the vertices it joins: widths, parameters, layers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from hypernas.errors import UserError
from hypernas.method.target_network import ProgramWriter


def alive(edges: np.ndarray) -> np.ndarray:
    """The edges (N, N) that lie on paths from the first vertex to the last. Raises UserError where there is none."""
    reach = np.linalg.matrix_power(np.eye(len(edges), dtype=np.int64) + edges, len(edges)) > 0
    kept = reach[0] & reach[:, -1]
    if not kept[0]:
        raise UserError("a cell must lead from its input to its output, got a disconnected one")
    return edges & kept[:, None] & kept


def connected(adjacency: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Whether (B,) all of the vertices 0 to `last` of a cell (B, N, N) lie on paths from the first to the last.

    >>> connected(np.array([[[0, 1, 1], [0, 0, 0], [0, 0, 0]], [[0, 1, 0], [0, 0, 1], [0, 0, 0]]]), np.array([2, 2]))
    array([False,  True])
    """
    n = adjacency.shape[1]
    feeds = [sum(adjacency[:, x, y].astype(np.int64) << y for y in range(n)) for x in range(n)]
    reads = [sum(adjacency[:, x, y].astype(np.int64) << x for x in range(n)) for y in range(n)]
    reached, leading = np.ones_like(last), 1 << last
    for v in range(n):
        reached = reached | feeds[v] * (reached >> v & 1)
        leading = leading | reads[n - 1 - v] * (leading >> (n - 1 - v) & 1)
    return (reached & leading) == (2 << last) - 1


def vertex_channels(adjacency: np.ndarray, last: np.ndarray, c_out: int) -> np.ndarray:
    """Channels (B, N) of the inner vertices of cells with adjacency (B, N, N) and output vertex `last` (B,).

    The vertices that feed the output share its `c_out` channels, the first ones get the remainder; every other one has
    as many as the widest vertex it feeds (`compute_vertex_channels` of NAS-Bench-101's code). Input and output get 0,
    and so does a vertex that leads nowhere.

    >>> edges = np.zeros((1, 4, 4), bool)
    >>> edges[0, [0, 0, 1, 1, 2], [1, 2, 2, 3, 3]] = True
    >>> vertex_channels(edges, np.array([3]), 5)
    array([[0, 3, 2, 0]])
    """
    to_output = np.take_along_axis(adjacency, last[:, None, None], 2)[..., 0].astype(bool)
    to_output[:, 0] = False
    share, remainder = np.divmod(c_out, np.maximum(to_output.sum(1), 1)[:, None])
    channels = np.where(to_output, share + (np.cumsum(to_output, 1) <= remainder), 0)
    for v in range(adjacency.shape[1] - 2, 0, -1):
        widest = (adjacency[:, v] * channels).max(1)
        channels[:, v] = np.where(to_output[:, v], channels[:, v], widest)
    return channels


def cell_parameters(adjacency: np.ndarray, last: np.ndarray, kernel: np.ndarray, c_in: int, c_out: int) -> np.ndarray:
    """Trainable parameters (B,) of pruned cells: convolutions of side `kernel` (B, N), 0 for none, and projections.

    Every convolution has c_in * c_out * k * k weights and a batch normalisation with scale and shift; what the input
    feeds reads it through a 1 x 1 convolution.
    """
    channels = vertex_channels(adjacency, last, c_out)
    rows = np.arange(len(adjacency))
    from_input = adjacency[:, 0].astype(bool)
    projected = np.where(from_input, channels, 0)
    projected[rows, last] = np.where(from_input[rows, last], c_out, 0)
    inner = np.where(kernel > 0, channels * channels * kernel * kernel + 2 * channels, 0)
    return (inner + projected * (c_in + 2)).sum(1)


def write_cell(writer: ProgramWriter, edges: np.ndarray, kernels: Sequence[int], x: int, c_in: int, c_out: int) -> int:
    """Write one cell that reads value `x` and has `alive` edges (N, N); returns its value.

    An inner vertex sums what it reads, then is a convolution of side `kernels[v]`, 0 for max pooling; the output joins
    what it reads; what the input feeds reads it through a 1 x 1 convolution. All convolutions are conv-norm-ReLU.

    NOTE[PAPER]: paper says nothing of the 1 x 1 projections that NAS-Bench-101 puts on the edges from the input; we
    make their weights from the mean of the features of both ends; because an edge has no node of its own.
    """
    last, position = len(kernels) - 1, writer.position
    width = vertex_channels(edges[None], np.array([last]), c_out)[0].tolist()
    width[last] = c_out
    if 0 in (width[v] for v in range(1, last) if edges[0][v] or edges[1:, v].any()):
        joined = edges[1:, last].sum()
        raise UserError(f"channels must be at least the {joined} vertices that the output joins, got {c_out}")
    conv = partial(writer.conv, stride=1, relu=False, relu_after=True)
    values = [x]
    for v in range(1, last + 1):
        inputs = tuple(values[u] for u in range(1, v) if edges[u, v])
        if v == last and inputs:
            inputs = (writer.concat(inputs, c_out),)
        if edges[0, v]:
            inputs += (conv((x,), c_in, width[v], 1, weight=(position, 0, v)),)
        if not inputs:
            values.append(-1)
        elif v == last:
            values.append(writer.add(inputs, c_out))
        elif kernels[v]:
            values.append(conv(inputs, width[v], width[v], kernels[v], weight=(position, v)))
        else:
            values.append(writer.max_pool(inputs, width[v], kernel=3, stride=1, padding=1))
    return values[last]
