"""HyperNAS as one model: encoder, regressor, hypernetwork and target network."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from hypernas.graph import GraphBatch
from hypernas.method.encoder import GlobalEncoder


class Regressor(nn.Module):
    """h (..., D) -> standardised accuracy (...,).

    NOTE[PAPER]: paper says f_theta and no more; we take one hidden layer as wide as the encoder, ReLU; because the
    embedding is already the output of a deep network and a few dozen labels support no more.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(width, width), nn.Linear(width, 1)

    def forward(self, h: Tensor) -> Tensor:
        return self.out(F.relu(self.hidden(h)))[..., 0]


class ArchitecturePredictor(nn.Module):
    """The global encoder, the directed GCN unless another one is given, and the regressor on its embedding."""

    def __init__(
        self, n_ops: int, n_layers: int, width: int, context: str, encoder: Callable[..., GlobalEncoder] = GlobalEncoder
    ) -> None:
        super().__init__()
        self.encoder = encoder(n_ops, n_layers, width, context)
        self.regressor = Regressor(width)

    def forward(self, batch: GraphBatch) -> tuple[Tensor, Tensor]:
        """B architectures -> standardised accuracy (B,), node features (B, C, N, D)."""
        h, nodes = self.encoder(batch)
        return self.regressor(h), nodes
