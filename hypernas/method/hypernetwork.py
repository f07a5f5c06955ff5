"""The shared hypernetwork generates the weights of a node's layer from the node's features (Supplement 7)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

Shape = tuple[int, int, int, int]


class Hypernetwork(nn.Module):
    """A shared MLP with one linear head for each kernel size, whose output shape is fixed.

    `heads` are (k, c_out, c_in), by default c_max x c_max for kernels 1 and 3. A layer that needs a smaller weight
    takes a slice of the head's output; one that needs a larger weight tiles it, as in GHN-2.

    NOTE[PAPER]: paper says nothing of the scale of generated weights; we scale by sqrt(2 / fan_in), the spread of He
    initialisation; because GHN-2 does.

    NOTE[PAPER]: paper says nothing of how a head starts; we draw its weights and its bias from normal distributions, so
    that what it makes at first has spread 1 before it is scaled; because then a target network starts as He would start
    it. At the start the bias says almost all: the weights of two nodes differ by about .003.

    NOTE[PAPER]: paper says nothing of the largest weight; we make a head as large as the largest weight of its kernel
    size in any target network of the space, and tile only with `c_max`; because then no channel is a copy of another.
    """

    def __init__(
        self,
        width_in: int,
        width: int = 96,
        n_layers: int = 3,
        c_max: int = 32,
        heads: Sequence[tuple[int, int, int]] = (),
        head_bias: float = 1.0,
    ) -> None:
        super().__init__()
        # The kernels of the paper's spaces; a space with others passes its own heads.
        heads = heads or [(1, c_max, c_max), (3, c_max, c_max)]
        # The largest weight (c_out, c_in) that the head of each kernel size makes.
        self.limits = {kernel: (c_out, c_in) for kernel, c_out, c_in in heads}
        # The heads are the last of the n_layers.
        widths = [width_in] + [width] * (n_layers - 1)
        self.trunk = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.heads = nn.ModuleDict()
        for kernel, c_out, c_in in heads:
            self.heads[str(kernel)] = nn.Linear(widths[-1], c_out * c_in * kernel * kernel)
        for head in self.heads.values():
            nn.init.normal_(head.weight, std=width**-0.5)  # type: ignore[union-attr, arg-type]
            nn.init.normal_(head.bias, std=head_bias)  # type: ignore[union-attr, arg-type]

    def features(self, nodes: Tensor) -> Tensor:
        """nodes (..., D) -> hidden features (..., width)."""
        for layer in self.trunk:
            nodes = F.relu(layer(nodes))
        return nodes

    def weights(self, features: Tensor, shape: Shape) -> Tensor:
        """features (G, width) of G nodes -> weights (G, c_out, c_in, k, k) of shape (c_out, c_in, k, k)."""
        c_out, c_in, kernel, _ = shape
        # A kernel size without a head of its own takes the middle of the largest kernel, as in GHN.
        head_kernel = kernel if kernel in self.limits else max(self.limits)
        made = self.heads[str(head_kernel)](features)
        # A head is one long vector a node; here it gets the axes of a kernel.
        made = made.view(len(features), *self.limits[head_kernel], head_kernel, head_kernel)
        # Slice: a layer that is smaller than the head takes the first channels and the middle taps.
        edge = (head_kernel - kernel) // 2
        middle = slice(edge, edge + kernel)
        made = made[:, :c_out, :c_in, middle, middle]
        # Tile: a layer that is larger repeats them until it is full.
        repeats_out = math.ceil(c_out / made.shape[1])
        repeats_in = math.ceil(c_in / made.shape[2])
        made = made.repeat(1, repeats_out, repeats_in, 1, 1)[:, :c_out, :c_in]
        # Numbers that one output channel sums up: the more there are, the smaller each must be.
        fan_in = c_in * kernel * kernel
        return made * math.sqrt(2 / fan_in)
