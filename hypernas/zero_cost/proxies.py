"""Zero-cost proxies, which score an untrained network on one batch of images: one function each under `@proxy`.

images (M, C, H, W), labels (M,). Proxies that need random numbers take them from PyTorch's generator.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hypernas.data.plugins import Registry
from hypernas.errors import UserError

# Deviation of the change of zen's Gaussian images, whose own is 1, as in the authors' code.
ZEN_STEP = 1e-2
# What a user writes.
Proxy = Callable[[nn.Module, Tensor, Tensor], float | Tensor]
# As it is registered: a float, and the network stays as it is.
Guarded = Callable[[nn.Module, Tensor, Tensor], float]
# Name -> proxy of ours; the decorator below fills it.
PROXIES: dict[str, Guarded] = {}


def proxy(score: Proxy) -> Guarded:
    """Register `guarded(score)` under the name of `score`."""
    PROXIES[score.__name__] = guarded(score)
    return PROXIES[score.__name__]


def guarded(score: Proxy) -> Guarded:
    """Return `score` as a function that runs on a copy of the network and returns a number, nan if it is not finite.

    The copy has no gradients, is in training mode, and all its parameters are trainable. Weights, gradients, buffers
    and mode of the original network stay as they are.
    """

    @wraps(score)
    def scored(
        network: nn.Module,
        images: Tensor,
        labels: Tensor,
    ) -> float:
        fresh = copy.deepcopy(network)
        fresh.train().requires_grad_(True)
        # The copy protects the network: a proxy may redraw, change or differentiate its weights.
        answer = score(fresh, images, labels)
        value = float(torch.as_tensor(answer, dtype=torch.float64).detach())
        return value if math.isfinite(value) else math.nan

    return scored


def _accept(name: str, score: Any) -> Guarded:
    if not callable(score):
        raise UserError(f"a zero-cost method must be a function of network, images, labels, got {score!r} for {name}")
    return guarded(score)


# Files of users provide functions as `PROXIES = {"mine": mine}`.
REGISTRY = Registry("zero-cost method", "hypernas.zero_cost", "PROXIES", _accept)


def names() -> list[str]:
    """Return the names of all proxies: ours first, and the cheap ones first among them."""
    others = [name for name in REGISTRY.names() if name not in PROXIES]
    return [*PROXIES, *others]


def get(name: str) -> Guarded:
    """Return the proxy called `name`, ours or that of a plugin. Raise UserError if it is unknown."""
    if name in PROXIES:
        return PROXIES[name]
    if name not in REGISTRY.names() and not str(name).endswith(".py"):
        raise UserError(f"a zero-cost method must be one of {', '.join(names())}, got {name!r}")
    return REGISTRY.get(name)


class Tape(TorchFunctionMode):
    """Record what a network computes within the `with` block; unless `norm`, batch normalisation does nothing.

    `layers`: weight and output of each convolution and linear layer. `relus`: the input of each ReLU. `features`: the
    last map of more than one pixel, which the pooling before the classifier reads.
    """

    def __init__(self, norm: bool = True) -> None:
        super().__init__()
        self.norm = norm
        self.layers: list[tuple[Tensor, Tensor]] = []
        self.relus: list[Tensor] = []
        # Without any map zen is the mean of nothing, nan.
        self.features = torch.empty(0, 1)

    def __torch_function__(
        self,
        function: Any,
        types: Sequence[type],
        args: Any = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        # PyTorch calls this in place of each of its functions, while the tape is entered.
        if function is F.batch_norm and not self.norm:
            return args[0]
        out = function(*args, **(kwargs or {}))
        if function in (F.conv2d, F.linear):
            weight = args[1]
            self.layers.append((weight, out))
        if function in (F.relu, torch.relu):
            self.relus.append(args[0])
        if _is_map(out):
            self.features = out
        return out


def _is_map(out: Any) -> bool:
    """Whether it holds images of more than one pixel."""
    if not isinstance(out, Tensor) or out.ndim != 4:
        return False
    return out.shape[2:].numel() > 1 and len(out) > 0


def _run(
    network: nn.Module,
    images: Tensor,
    norm: bool = True,
) -> tuple[Tensor, Tape]:
    """The logits (M, K), and what was computed on the way."""
    with Tape(norm) as tape:
        out = network(images)
    # Some networks return more beside their logits: those of DARTS, a second classifier's.
    logits = out[0] if isinstance(out, tuple) else out
    return logits, tape


def _weights(network: nn.Module) -> list[Tensor]:
    """Those of convolutions and linear layers, without biases and normalisation."""
    return [parameter for parameter in network.parameters() if parameter.ndim > 1]


def _gradients(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    again: bool = False,
) -> tuple[Tensor, ...]:
    """Of the mean cross-entropy, for each of the weights; zeros for one without a path to the logits.

    `again`: they can be differentiated once more.
    """
    logits, _ = _run(network, images)
    loss = F.cross_entropy(logits, labels)
    weights = _weights(network)
    return torch.autograd.grad(loss, weights, create_graph=again, materialize_grads=True)


def _total(values: Iterable[Tensor]) -> Tensor:
    """The sum of numbers, a tensor each, layer by layer."""
    return torch.stack(list(values)).sum()


def _saliency(weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """The sum of |w g| over all weights."""
    products = [w * g for w, g in zip(weights, gradients, strict=True)]
    return _total(product.abs().sum() for product in products)


@proxy
def params(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
) -> float:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


@proxy
def flops(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
) -> float:
    """Multiply-adds of convolutions and linear layers on one image."""
    _, tape = _run(network.eval(), images[:1])
    return sum(weight[0].numel() * out.numel() for weight, out in tape.layers)


@proxy
def l2norm(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
) -> float | Tensor:
    """Sum over layers of the Euclidean norm of the weights (Abdelfattah et al. 2021)."""
    return _total(weight.norm() for weight in _weights(network))


@proxy
def synflow(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
) -> float | Tensor:
    """Sum of |w dR/dw|, where R sums the logits of an image of ones with absolute parameters and no normalisation.

    Tanaka et al. 2020, in float64. Table 6's sources take its logarithm, which ranks alike.
    """
    network.double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    ones = torch.ones_like(images[:1], dtype=torch.float64)
    logits, _ = _run(network, ones, norm=False)
    weights = _weights(network)
    gradients = torch.autograd.grad(logits.sum(), weights, materialize_grads=True)
    return _saliency(weights, gradients)


@proxy
@torch.no_grad()
def nwot(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
) -> float | Tensor:
    """log |det K|, where K (M, M) counts the ReLU units that respond alike to two images (Mellor et al. 2021, NASWOT).

    If every unit responds alike to two images, the score is -inf and therefore nan.
    """
    _, tape = _run(network, images)
    n_images = len(images)
    kernel = torch.zeros(n_images, n_images, dtype=torch.float64, device=images.device)
    for x in tape.relus:
        active = (x > 0).flatten(1).to(images.dtype)
        on = active.sum(1)
        both_on = active @ active.T
        # Units that are off in both: all, less those on in one or the other, which counts those on in both twice.
        rest = active.shape[1] - on[:, None] - on
        kernel += 2 * both_on + rest
    return torch.linalg.slogdet(kernel).logabsdet


@proxy
@torch.no_grad()
def zen(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
) -> float | Tensor:
    """log of how much the last map changes with a Gaussian input, plus log deviations (Lin et al. 2021).

    The change of the input is small and Gaussian too. The deviations are those in every batch normalisation. All
    weights are redrawn from N(0, 1).

    NOTE[PAPER]: paper says the deviation is that of the batch; we take, as the authors' code does, that of the running
    variance after both passes; because the published scores are made with it, and it is finite behind a layer of zeros.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_parameters()
    for weight in _weights(network):
        weight.normal_()
    x = torch.randn_like(images)
    near = x + ZEN_STEP * torch.randn_like(x)
    _, tape = _run(network, x)
    _, tape_near = _run(network, near)
    difference = (tape.features - tape_near.features).abs()
    change = difference.flatten(1).sum(1).mean()
    variances = [norm.running_var for norm in norms if norm.running_var is not None]
    scales = sum(variance.mean().sqrt().log() for variance in variances)
    return change.log() + scales


@proxy
def gradnorm(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
) -> float | Tensor:
    """Sum over layers of the Euclidean norm of the gradient of the weights (Abdelfattah et al. 2021)."""
    return _total(gradient.norm() for gradient in _gradients(network, images, labels))


@proxy
def snip(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
) -> float | Tensor:
    """Sum of |w g|, the change in the loss when a weight is removed (Lee et al. 2019)."""
    gradients = _gradients(network, images, labels)
    return _saliency(_weights(network), gradients)


@proxy
def fisher(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
) -> float | Tensor:
    """Sum over channels of half the mean square of a channel's activation times its gradient (Theis et al. 2018).

    A channel counts once for each of its weights, as in Abdelfattah et al. (2021), who made it a proxy.
    """
    logits, tape = _run(network, images)
    weights, outputs = zip(*tape.layers, strict=True)
    loss = F.cross_entropy(logits, labels)
    gradients = torch.autograd.grad(loss, outputs, materialize_grads=True)
    layers = []
    for weight, y, gradient in zip(weights, outputs, gradients, strict=True):
        product = y * gradient
        if product.ndim > 2:
            product = product.flatten(2).sum(2)
        channels = product.square().mean(0).sum()
        weights_a_channel = weight[0].numel()
        layers.append(channels / 2 * weights_a_channel)
    return _total(layers)


@proxy
def zico(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
) -> float:
    """Sum over layers of log(sum of mean |g| / deviation of g between batches) (Li et al. 2023).

    NOTE[PAPER]: paper takes two batches of images; we take the two halves of the one that every proxy gets; because
    then all of Table 6 sees the same images.
    """
    halves = zip(images.chunk(2), labels.chunk(2), strict=True)
    by_half = [_gradients(network, x, y) for x, y in halves]
    total = 0.0
    for parts in zip(*by_half, strict=True):
        gradient = torch.stack(parts)
        deviation = gradient.std(0, correction=0)
        mean = gradient.abs().mean(0)
        # A weight with one gradient in both halves would be infinite; one that does not learn has 0 in both.
        varies = deviation > 0
        ratios = mean[varies] / deviation[varies]
        ratio = float(ratios.double().sum())
        if ratio > 0:
            total += math.log(ratio)
    return total


@proxy
def eznas(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
) -> float | Tensor:
    """EZNAS-A, the evolved program (Akhauri et al. 2022), applied to the weight gradients of each convolution on noise.

    It takes the sign, the log-determinant of each kernel, the sigmoid, and the Frobenius norm.

    NOTE[PAPER]: paper cites EZNAS without the program; we write EZNAS-A, sum it over all convolutions and take labels
    from the batch; because its description gives the four steps and calls it a weighted count of parameters, but says
    neither how layers are joined nor what the noise is labelled with.
    """
    noise = torch.randn_like(images)
    norms = []
    for gradient in _gradients(network, noise, labels):
        # A determinant is that of a square kernel.
        if gradient.ndim == 4 and gradient.shape[2] == gradient.shape[3]:
            kernels = gradient.sign()
            determinants = torch.linalg.slogdet(kernels).logabsdet
            norms.append(determinants.sigmoid().norm())
    return _total(norms) if norms else math.nan


@proxy
def grasp(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
) -> float | Tensor:
    """-Sum of w (H g), H the Hessian of the loss (Wang et al. 2020), with the sign of Abdelfattah et al. 2021.

    The sum is small compared with its terms, so in float32, as published, a few networks get the wrong sign. Channels
    are not stored last here, because differentiating batch normalisation twice would take longer.
    """
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    images = images.contiguous()
    weights = _weights(network)
    gradients = _gradients(network, images, labels, again=True)
    # The gradient of g'g, one g held fixed, is H g.
    length = _total((g.detach() * g).sum() for g in gradients)
    curved = torch.autograd.grad(length, weights, materialize_grads=True)
    products = [w * h for w, h in zip(weights, curved, strict=True)]
    return -_total(product.sum() for product in products)
