"""The shared hypernetwork: node features -> the weights of the node's layer (Supplement 7)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

Shape = tuple[int, int, int, int]


class Hypernetwork(nn.Module):
    """A shared MLP with one linear head a kernel size, each of fixed output shape: `heads` are (k, c_out, c_in), by
    default c_max x c_max for kernels 1 and 3.

    A layer that needs less takes a slice of it, one that needs more tiles it, as GHN-2 does. Weights are scaled to
    the variance of He initialisation, 2 / fan_in.

    NOTE[PAPER]: paper says nothing of the scale of generated weights; we scale by sqrt(2 / fan_in); because GHN-2 does.
    """

    def __init__(
        self,
        width_in: int,
        width: int = 96,
        n_layers: int = 3,
        c_max: int = 32,
        heads: Sequence[tuple[int, int, int]] = (),
    ) -> None:
        super().__init__()
        heads = heads or [(k, c_max, c_max) for k in (1, 3)]
        self.limits = {k: (c_out, c_in) for k, c_out, c_in in heads}
        widths = [width_in] + [width] * (n_layers - 1)
        self.trunk = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.heads = nn.ModuleDict({str(k): nn.Linear(widths[-1], c_out * c_in * k * k) for k, c_out, c_in in heads})
        for head in self.heads.values():
            nn.init.normal_(head.weight, std=width**-0.5)  # type: ignore[union-attr, arg-type]
            nn.init.normal_(head.bias)  # type: ignore[union-attr, arg-type]

    def features(self, nodes: Tensor) -> Tensor:
        """nodes (..., D) -> hidden features (..., width)."""
        for layer in self.trunk:
            nodes = F.relu(layer(nodes))
        return nodes

    def weights(self, features: Tensor, shape: Shape) -> Tensor:
        """features (G, width) of G nodes -> weights (G, c_out, c_in, k, k) of shape (c_out, c_in, k, k)."""
        c_out, c_in, kernel, _ = shape
        # A kernel size without a head of its own takes the middle of the largest kernel.
        head_kernel = kernel if kernel in self.limits else max(self.limits)
        head = self.heads[str(head_kernel)]
        made = head(features).view(len(features), *self.limits[head_kernel], head_kernel, head_kernel)
        # Slice: a layer that is smaller than the head takes the first channels and the middle taps.
        edge = (head_kernel - kernel) // 2
        made = made[:, :c_out, :c_in, edge : edge + kernel, edge : edge + kernel]
        # Tile: a layer that is larger repeats them until it is full.
        repeats_out = math.ceil(c_out / made.shape[1])
        repeats_in = math.ceil(c_in / made.shape[2])
        made = made.repeat(1, repeats_out, repeats_in, 1, 1)[:, :c_out, :c_in]
        fan_in = c_in * kernel * kernel
        return made * math.sqrt(2 / fan_in)
