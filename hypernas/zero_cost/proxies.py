"""Zero-cost proxies: a score of an untrained network from one batch of images, one function each under `@proxy`.

images (M, C, H, W), labels (M,). A proxy that needs random numbers takes them from PyTorch's generator.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hypernas.errors import UserError

Proxy = Callable[[nn.Module, Tensor, Tensor], float | Tensor]
PROXIES: dict[str, Callable[[nn.Module, Tensor, Tensor], float]] = {}


def proxy(score: Proxy) -> Callable[[nn.Module, Tensor, Tensor], float]:
    """Register `score` under its name. What it returns is a number, nan where it is not finite.

    It is given a copy without gradients, in training mode and with every parameter learned, so that weights, gradients,
    buffers and mode of the network stay as they are.
    """

    @wraps(score)
    def scored(network: nn.Module, images: Tensor, labels: Tensor) -> float:
        fresh = copy.deepcopy(network).train().requires_grad_(True)
        value = float(torch.as_tensor(score(fresh, images, labels), dtype=torch.float64).detach())
        return value if math.isfinite(value) else math.nan

    PROXIES[score.__name__] = scored
    return scored


def names() -> list[str]:
    """Every proxy, the cheap ones first."""
    return list(PROXIES)


def get(name: str) -> Callable[[nn.Module, Tensor, Tensor], float]:
    """The proxy called `name`. Raises UserError for an unknown one."""
    if name not in PROXIES:
        raise UserError(f"a zero-cost method must be one of {', '.join(PROXIES)}, got {name!r}")
    return PROXIES[name]


class Tape(TorchFunctionMode):
    """Notes what any network computes under it; without `norm` batch normalisation does nothing.

    `layers`: weight and output of each convolution and linear layer. `relus`: the input of each ReLU. `features`: the
    last map of more than one pixel, which is what the pooling before the classifier reads.
    """

    def __init__(self, norm: bool = True) -> None:
        super().__init__()
        self.norm = norm
        self.layers: list[tuple[Tensor, Tensor]] = []
        self.relus: list[Tensor] = []
        # Without any map zen is the mean of nothing, nan.
        self.features = torch.empty(0, 1)

    def __torch_function__(
        self, function: Any, types: Sequence[type], args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is F.batch_norm and not self.norm:
            return args[0]
        out = function(*args, **(kwargs or {}))
        if function in (F.conv2d, F.linear):
            self.layers.append((args[1], out))
        if function in (F.relu, torch.relu):
            self.relus.append(args[0])
        if isinstance(out, Tensor) and out.ndim == 4 and out.shape[2:].numel() > 1 and len(out) > 0:
            self.features = out
        return out


def _run(network: nn.Module, images: Tensor, norm: bool = True) -> tuple[Tensor, Tape]:
    """The logits (M, K), and what was computed on the way."""
    with Tape(norm) as tape:
        out = network(images)
    return out[0] if isinstance(out, tuple) else out, tape


def _weights(network: nn.Module) -> list[Tensor]:
    """Those of convolutions and linear layers, without biases and normalisation."""
    return [parameter for parameter in network.parameters() if parameter.ndim > 1]


def _gradients(network: nn.Module, images: Tensor, labels: Tensor, again: bool = False) -> tuple[Tensor, ...]:
    """Of the mean cross-entropy, for each of the weights; zeros for one without a path to the logits."""
    loss = F.cross_entropy(_run(network, images)[0], labels)
    return torch.autograd.grad(loss, _weights(network), create_graph=again, materialize_grads=True)


@proxy
def params(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Number of learned parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


@proxy
def flops(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Multiply-adds of convolutions and linear layers on one image."""
    _, tape = _run(network.eval(), images[:1])
    return sum(weight[0].numel() * out.numel() for weight, out in tape.layers)


@proxy
def l2norm(network: nn.Module, images: Tensor, labels: Tensor) -> float | Tensor:
    """Sum over the layers of the Euclidean norm of their weights (Abdelfattah et al. 2021)."""
    return torch.stack([weight.norm() for weight in _weights(network)]).sum()


@proxy
def synflow(network: nn.Module, images: Tensor, labels: Tensor) -> float | Tensor:
    """Sum of |w dR/dw|: R sums the logits of an image of ones, all parameters are absolute, nothing is normalised.

    Tanaka et al. 2020, in float64. Table 6's sources take its logarithm, which ranks alike.
    """
    network.double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    logits, _ = _run(network, torch.ones_like(images[:1], dtype=torch.float64), norm=False)
    weights = _weights(network)
    gradients = torch.autograd.grad(logits.sum(), weights, materialize_grads=True)
    return torch.stack([(w * g).abs().sum() for w, g in zip(weights, gradients, strict=True)]).sum()


@proxy
@torch.no_grad()
def nwot(network: nn.Module, images: Tensor, labels: Tensor) -> float | Tensor:
    """log |det K|, K (M, M) the number of ReLU units that answer two images alike (Mellor et al. 2021, NASWOT).

    Two images that are alike to every unit make it -inf, and so nan.
    """
    _, tape = _run(network, images)
    kernel = torch.zeros(len(images), len(images), dtype=torch.float64, device=images.device)
    for x in tape.relus:
        active = (x > 0).flatten(1).to(images.dtype)
        on = active.sum(1)
        kernel += 2 * (active @ active.T) + (active.shape[1] - on[:, None] - on)
    return torch.linalg.slogdet(kernel).logabsdet


@proxy
@torch.no_grad()
def zen(network: nn.Module, images: Tensor, labels: Tensor) -> float | Tensor:
    """log of the change of the last map under a small Gaussian change of a Gaussian input, plus the log of the
    deviation in every batch normalisation; all weights are drawn anew from N(0, 1) (Lin et al. 2021).

    NOTE[PAPER]: paper says the deviation is that of the batch; we take, as the authors' code does, that of the running
    variance after both passes; because the published scores are made with it, and it is finite behind a layer of zeros.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_parameters()
    for weight in _weights(network):
        weight.normal_()
    x = torch.randn_like(images)
    before, after = (_run(network, each)[1].features for each in (x, x + 1e-2 * torch.randn_like(x)))
    change = (before - after).abs().flatten(1).sum(1).mean()
    return change.log() + sum(norm.running_var.mean().sqrt().log() for norm in norms if norm.running_var is not None)


@proxy
def gradnorm(network: nn.Module, images: Tensor, labels: Tensor) -> float | Tensor:
    """Sum over the layers of the Euclidean norm of the gradient of their weights (Abdelfattah et al. 2021)."""
    return torch.stack([gradient.norm() for gradient in _gradients(network, images, labels)]).sum()


@proxy
def snip(network: nn.Module, images: Tensor, labels: Tensor) -> float | Tensor:
    """Sum of |w g|, what the loss loses when a weight is taken away (Lee et al. 2019)."""
    gradients = _gradients(network, images, labels)
    return torch.stack([(w * g).abs().sum() for w, g in zip(_weights(network), gradients, strict=True)]).sum()


@proxy
def fisher(network: nn.Module, images: Tensor, labels: Tensor) -> float | Tensor:
    """Sum over channels of half the mean square of a channel's activation times its gradient (Theis et al. 2018).

    A channel counts once for each of its weights, as where it became a proxy (Abdelfattah et al. 2021).
    """
    logits, tape = _run(network, images)
    weights, outputs = zip(*tape.layers, strict=True)
    gradients = torch.autograd.grad(F.cross_entropy(logits, labels), outputs, materialize_grads=True)
    each = [(y * g).flatten(2).sum(2) if y.ndim > 2 else y * g for y, g in zip(outputs, gradients, strict=True)]
    channels = [part.square().mean(0).sum() / 2 * w[0].numel() for w, part in zip(weights, each, strict=True)]
    return torch.stack(channels).sum()


@proxy
def zico(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Sum over the layers of log(sum of the mean |g| over the deviation of g between batches) (Li et al. 2023).

    NOTE[PAPER]: paper takes two batches of images; we take the two halves of the one that every proxy gets; because
    then all of Table 6 sees the same images.
    """
    halves = zip(images.chunk(2), labels.chunk(2), strict=True)
    total = 0.0
    for parts in zip(*(_gradients(network, x, y) for x, y in halves), strict=True):
        gradient = torch.stack(parts)
        deviation = gradient.std(0, correction=0)
        varies = deviation > 0
        ratio = float((gradient.abs().mean(0)[varies] / deviation[varies]).double().sum())
        total += math.log(ratio) if ratio > 0 else 0.0
    return total


@proxy
def eznas(network: nn.Module, images: Tensor, labels: Tensor) -> float | Tensor:
    """EZNAS-A, the evolved program (Akhauri et al. 2022): of the gradient of each convolution's weights on random noise
    the sign, the log-determinant of each kernel, the sigmoid, the Frobenius norm.

    NOTE[PAPER]: paper cites EZNAS without the program; we write EZNAS-A, sum it over all convolutions and take labels
    from the batch; because its description gives the four steps and calls it a weighted count of parameters, but says
    neither how layers are joined nor what the noise is labelled with.
    """
    gradients = _gradients(network, torch.randn_like(images), labels)
    kernels = [g.sign() for g in gradients if g.ndim == 4 and g.shape[2] == g.shape[3]]
    if not kernels:
        return math.nan
    return torch.stack([torch.linalg.slogdet(k).logabsdet.sigmoid().norm() for k in kernels]).sum()


@proxy
def grasp(network: nn.Module, images: Tensor, labels: Tensor) -> float | Tensor:
    """-Sum of w (H g), H the Hessian of the loss (Wang et al. 2020), with the sign of Abdelfattah et al. 2021.

    The sum is small beside its terms, so that in float32, as published, a few networks get the wrong sign. Channels do
    not lie last here: differentiating batch normalisation twice takes longer then.
    """
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    images = images.contiguous()
    weights, gradients = _weights(network), _gradients(network, images, labels, again=True)
    length = torch.stack([(g.detach() * g).sum() for g in gradients]).sum()
    curved = torch.autograd.grad(length, weights, materialize_grads=True)
    return -torch.stack([(w * h).sum() for w, h in zip(weights, curved, strict=True)]).sum()
