"""A plan for running many programs at once; the oracle is `method.target_network.run`, program by program.

The plan says which of their layers run as one, and where their values are stored. Layers at the same cell and depth and
of the same shape form an op. The values of one shape lie side by side in a buffer; a layer reads places of buffers and
writes a place of one. `batched_target_networks` runs a plan.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from hypernas.method.target_network import Layer

# Channels of the values in a buffer, and how much smaller their maps are than the stem's (0: a single pixel).
BufferKey = tuple[int, int]


@dataclass(frozen=True)
class Read:
    """R values of a buffer, by place, that layers of an op, by row, add to channels [start, stop) of their input.

    If each layer reads one value, in order, `rows` is None. `port` 1 is the second input of a gate.
    """

    buffer: BufferKey
    slots: Tensor
    rows: Tensor | None
    port: int
    start: int
    stop: int


@dataclass(frozen=True)
class BatchedOp:
    """`size` layers that run as one and write [start, ...) of the buffer `makes`.

    They equal `layer` except for inputs, weights and kernel size. `kernels` has (group, start, stop) for each run of
    equal kernel size.
    """

    layer: Layer
    size: int
    reads: tuple[Read, ...]
    makes: BufferKey
    start: int
    kernels: tuple[tuple[int, int, int], ...]

    @property
    def stop(self) -> int:
        return self.start + self.size


@dataclass(frozen=True)
class WeightGroup:
    """Weights of one shape, equal to those of `layer`, in the order in which they are used.

    `runs` is the layer as it runs: the same, but without the taps of its kernel that never meet a pixel.
    """

    layer: Layer
    runs: Layer


@dataclass(frozen=True)
class Plan:
    """`ops` in a valid order, `groups` of weights, `sizes` of the buffers, and the places `last` (A,) of the outputs.

    The stems lie first in their buffer, and the outputs all lie in one buffer. The last place of every buffer is spare
    and holds zeros.
    """

    ops: tuple[BatchedOp, ...]
    groups: tuple[WeightGroup, ...]
    sizes: dict[BufferKey, int]
    stems: BufferKey
    output: BufferKey
    last: Tensor


@dataclass(frozen=True)
class Sources:
    """The nodes from which weights are generated, for each seed.

    Each group has `places (S, W, 4)`, the architecture, cell, node and node of at most W weights a seed, and
    `order (n,)`, which of these S*W each weight of the group is. `edges` says whether the two nodes can differ.
    """

    places: tuple[Tensor, ...]
    order: tuple[Tensor, ...]
    edges: bool


def cut(layer: Layer, side: int) -> Layer:
    """Return the layer without the kernel taps that only meet padding on maps of at most `side` pixels a side."""
    # From the middle a tap reaches at most side - 1 pixels to either side before it leaves the map.
    taps = min(layer.kernel, 2 * ((side - 1) // layer.dilation) + 1)
    around = layer.dilation * (layer.kernel - taps) // 2
    # Only where the kernel's middle lies on the pixel are the outer taps the ones that leave the map.
    centred = 2 * layer.padding == layer.dilation * (layer.kernel - 1)
    return replace(layer, kernel=taps, padding=layer.padding - around) if centred else layer
