"""The shared hypernetwork: node features -> the weights of the node's layer (Supplement 7)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Hypernetwork(nn.Module):
    """A shared MLP with one linear head a kernel size, each of fixed output shape (c_max, c_max, k, k).

    A layer that needs less takes a slice of it, one that needs more tiles it, as GHN-2 does. Weights are scaled to
    the variance of He initialisation, 2 / fan_in.

    NOTE[PAPER]: paper says nothing of the scale of generated weights; we scale by sqrt(2 / fan_in); because GHN-2 does.
    """

    def __init__(self, width_in: int, width: int = 96, n_layers: int = 3, kernels: tuple[int, ...] = (1, 3),
                 c_max: int = 32) -> None:  # fmt: skip
        super().__init__()
        self.c_max = c_max
        widths = [width_in] + [width] * (n_layers - 1)
        self.trunk = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False))
        self.heads = nn.ModuleDict({str(k): nn.Linear(widths[-1], c_max * c_max * k * k) for k in kernels})
        for head in self.heads.values():
            nn.init.normal_(head.weight, std=width**-0.5)  # type: ignore[union-attr, arg-type]
            nn.init.normal_(head.bias)  # type: ignore[union-attr, arg-type]

    def features(self, nodes: Tensor) -> Tensor:
        """nodes (..., D) -> hidden features (..., width)."""
        for layer in self.trunk:
            nodes = F.relu(layer(nodes))
        return nodes

    def weights(self, features: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
        """features (G, width) of G nodes -> weights (G, c_out, c_in, k, k)."""
        head = self.heads[str(shape[2])]
        assert isinstance(head, nn.Linear)
        return head_output(head.weight[None], head.bias[None], features[None], shape, self.c_max)[0]


def head_output(weight: Tensor, bias: Tensor, features: Tensor, shape: tuple[int, int, int, int], c_max: int) -> Tensor:
    """The heads of S hypernetworks on features (S, G, width) -> weights (S, G, *shape). Only rows in use are run."""
    s, g, width = features.shape
    c_out, c_in, kernel, _ = shape
    o, i, taps = min(c_out, c_max), min(c_in, c_max), kernel * kernel
    weight = weight.view(s, c_max, c_max, taps, width)[:, :o, :i].reshape(s, o * i * taps, width)
    bias = bias.view(s, c_max, c_max, taps)[:, :o, :i].reshape(s, 1, o * i * taps)
    generated = torch.baddbmm(bias, features, weight.transpose(1, 2)).view(s, g, o, i, kernel, kernel)
    if (o, i) != (c_out, c_in):
        generated = generated.repeat(1, 1, -(-c_out // o), -(-c_in // i), 1, 1)[:, :, :c_out, :c_in]
    return generated * (2 / (c_in * taps)) ** 0.5
