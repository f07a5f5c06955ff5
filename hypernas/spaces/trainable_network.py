"""A program as an ordinary PyTorch network with its own weights, learned batch normalisation and drop path."""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hypernas.errors import UserError
from hypernas.method.target_network import Program, apply, gather


class AuxiliaryHead(nn.Module):
    """The second classifier of the DARTS networks; it reads maps of 8 x 8, or of 7 x 7 if `large`.

    As in the official code, the large one has no normalisation after its last convolution.
    """

    def __init__(
        self,
        c: int,
        n_classes: int,
        large: bool = False,
    ) -> None:
        super().__init__()
        self.side = 7 if large else 8
        self.features = nn.Sequential(
            nn.ReLU(),
            nn.AvgPool2d(5, stride=2 if large else 3),
            nn.Conv2d(c, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            nn.Identity() if large else nn.BatchNorm2d(768),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(768, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """x (M, c, side, side) -> logits (M, K)."""
        if x.shape[2:] != (self.side, self.side):
            rule = f"the auxiliary head must read maps of {self.side} x {self.side}"
            rule += f", got {x.shape[2]} x {x.shape[3]}"
            raise UserError(f"{rule}: use images of the size it is made for, or leave it out")
        return self.classifier(self.features(x).flatten(1))


class TrainableNetwork(nn.Module):
    """The network of a program with learned weights; batch normalisation has scale, shift and running statistics.

    In training, each value of `paths` is dropped, separately for each image, with probability `drop_path`, an attribute
    that you raise over the epochs. `auxiliary` is a second classifier that reads value `auxiliary_reads`.
    """

    def __init__(
        self,
        program: Program,
        c_image: int,
        n_classes: int,
        paths: Collection[int] = (),
        auxiliary: nn.Module | None = None,
        auxiliary_reads: int = 0,
    ) -> None:
        super().__init__()
        self.program, self.paths, self.drop_path = program, frozenset(paths), 0.0
        self.auxiliary, self.auxiliary_reads = auxiliary, auxiliary_reads
        # By the value that a layer makes: 0 is the stem, -1 what the classifier reads.
        shapes = {0: (program.channels, c_image, 3, 3)}
        widths = {0: program.channels}
        for i, layer in enumerate(program.layers, 1):
            if layer.weight is not None:
                shapes[i] = layer.weight_shape
            if layer.norm:
                widths[i] = layer.c_out
        if program.norm_last:
            widths[-1] = program.c_last
        self.weights = nn.ParameterDict({str(i): _drawn(shape) for i, shape in shapes.items()})
        self.norms = nn.ModuleDict({str(i): nn.BatchNorm2d(c) for i, c in widths.items()})
        self.classifier = nn.Linear(program.c_last, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """images (M, C, H, W) -> logits (M, K)."""
        return self.with_auxiliary(images)[0]

    def with_auxiliary(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """images (M, C, H, W) -> logits (M, K) and, in training, those of the auxiliary head if there is one."""
        stem = F.conv2d(images, self.weights["0"], stride=self.program.stem_stride, padding=1)
        values = [self.norms["0"](stem)]
        for i, layer in enumerate(self.program.layers, 1):
            weight = self.weights[str(i)] if layer.weight is not None else None
            # Learned scale and running statistics in the place of the batch's own.
            norm = self.norms[str(i)] if layer.norm else nn.Identity()
            y = apply(layer, gather(values, layer), weight, norm)
            values.append(self._dropped(y) if i in self.paths else y)
        x = values[self.program.output]
        if self.program.norm_last:
            x = F.relu(self.norms["-1"](x))
        second = None
        if self.auxiliary is not None and self.training:
            second = self.auxiliary(values[self.auxiliary_reads])
        return self.classifier(x.mean((2, 3))), second

    def _dropped(self, x: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0:
            return x
        # An image keeps or loses a whole path; what is kept is scaled up, so that the mean stays.
        kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.drop_path
        return x * kept / (1 - self.drop_path)


def _drawn(shape: tuple[int, ...]) -> nn.Parameter:
    """As PyTorch's convolution draws its weights."""
    weight = nn.Parameter(torch.empty(shape))
    nn.init.kaiming_uniform_(weight, a=5**0.5)
    return weight
