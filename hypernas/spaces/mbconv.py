"""Inverted residual blocks, as chained by MobileNetV3 and its relatives (Sandler et al. 2018, Howard et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from hypernas.method.target_network import Program, WeightKey
from hypernas.spaces.programs import ProgramWriter

# The two activations of MobileNetV3: ReLU in its early stages, hard swish in the late ones.
RELU, HARD_SWISH = "relu", "hardswish"
# The heads of the hypernetwork are this many times as wide as the stem; what is wider repeats them.
HEAD_MULTIPLIER = 16


@dataclass(frozen=True)
class Block:
    """A 1 x 1 convolution to `middle` channels, a depthwise one of size `kernel`, and a 1 x 1 convolution to `c_out`.

    The first is left out if `middle` equals the input channels. `squeeze` is the number of channels inside
    squeeze-and-excitation, 0 for none. If the output has the shape of the input, the input is added to it.
    """

    kernel: int
    middle: int
    c_out: int
    stride: int = 1
    squeeze: int = 0
    activation: str = RELU


def divisible(channels: float, divisor: int = 8) -> int:
    """Return the nearest multiple of `divisor`, but at least `divisor` and 90 % of `channels` (MobileNetV2's code).

    >>> divisible(72 / 4), divisible(28.4), divisible(11), divisible(1)
    (24, 32, 16, 8)
    """
    # Adding half a divisor before the floor rounds to the nearest multiple.
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor * (nearest < 0.9 * channels)


def convolve(
    writer: ProgramWriter,
    x: int,
    shape: tuple[int, int, int, int],
    activation: str,
    weight: WeightKey,
) -> int:
    """Write a convolution of `shape` (c_in, c_out, kernel, stride), batch normalisation, and `activation` or ""."""
    c_in, c_out, kernel, stride = shape
    relu_after = activation == RELU
    y = writer.conv((x,), c_in, c_out, kernel, stride, weight, relu=False, relu_after=relu_after)
    if activation == HARD_SWISH:
        return writer.plain(HARD_SWISH, y, c_out)
    return y


def write_block(
    writer: ProgramWriter,
    x: int,
    c_in: int,
    block: Block,
    weights: Sequence[WeightKey],
) -> int:
    """Write one block that reads value `x`, and return its value; `weights` are the keys of its convolutions in order.

    NOTE[PAPER]: paper says nothing of the biases of squeeze-and-excitation; we run its convolutions without them and
    count them; because the hypernetwork makes no biases.
    """
    key = iter(weights)
    middle, c_out = block.middle, block.c_out
    y = x
    if middle != c_in:
        y = convolve(writer, y, (c_in, middle, 1, 1), block.activation, next(key))
    relu_after = block.activation == RELU
    y = writer.depthwise(y, middle, block.kernel, block.stride, next(key), relu_after=relu_after)
    if block.activation == HARD_SWISH:
        y = writer.plain(HARD_SWISH, y, middle)
    if block.squeeze:
        plain = partial(writer.conv, kernel=1, stride=1, relu=False, norm=False)
        pooled = writer.plain("mean", y, middle)
        gate = plain((pooled,), middle, block.squeeze, weight=next(key), relu_after=True)
        gate = plain((gate,), block.squeeze, middle, weight=next(key))
        y = writer.gate(y, gate, middle)
    y = convolve(writer, y, (middle, c_out, 1, 1), "", next(key))
    if block.stride == 1 and c_in == c_out:
        y = writer.add((x, y), c_out)
    return y


def biases(block: Block) -> int:
    """Return the number of parameters of a block that no Program layer has: the biases of squeeze-and-excitation."""
    if not block.squeeze:
        return 0
    return block.squeeze + block.middle


def write_last(
    writer: ProgramWriter,
    x: int,
    widths: Sequence[int],
    weights: Sequence[WeightKey],
    activation: str = HARD_SWISH,
) -> Program:
    """Write the end of the network: a 1 x 1 convolution from widths[0] to widths[1] channels, the mean over the map.

    If there is a widths[2], a linear layer to that many channels follows.
    """
    c_in, c_last, *linear = widths
    y = convolve(writer, x, (c_in, c_last, 1, 1), activation, weights[0])
    y = writer.plain("mean", y, c_last)
    for c_out in linear:
        y = writer.conv((y,), c_last, c_out, 1, 1, weights[1], relu=False, norm=False)
        y = writer.plain(HARD_SWISH, y, c_out)
    side = HEAD_MULTIPLIER * writer.channels
    pointwise = (1, side, side)
    depthwise = [(kernel, side, 1) for kernel in (3, 5, 7)]
    return writer.finish(y, norm_last=False, heads=(pointwise, *depthwise))


def chain(
    blocks: Sequence[Block],
    stem: int,
    widths: Sequence[int],
    activation: str = HARD_SWISH,
) -> Program:
    """Return a whole network: stem of stride 2, the blocks in order, the end. Weight keys are (block, layer)."""
    writer = ProgramWriter(stem, stem_stride=2)
    c_in = stem
    x = activated_stem(writer, activation)
    for position, block in enumerate(blocks):
        writer.position = position
        keys = [(position, layer) for layer in range(5)]
        x = write_block(writer, x, c_in, block, keys)
        c_in = block.c_out
    end = len(blocks)
    return write_last(writer, x, (c_in, *widths), [(end, 0), (end, 1)], activation)


def activated_stem(writer: ProgramWriter, activation: str = HARD_SWISH) -> int:
    """Return the value of the stem after its activation."""
    return writer.plain(activation, writer.stem(), writer.channels)


def block_keys(
    position: int,
    first: int,
    squeeze: bool,
) -> Iterator[WeightKey]:
    """Yield the keys of a block's convolutions, numbered from `first`: expand, depthwise, [squeeze], project.

    Squeeze-and-excitation is one node; its first convolution takes its weights from the edge to that node.
    """
    yield (position, first)
    yield (position, first + 1)
    if squeeze:
        yield (position, first + 1, first + 2)
        yield (position, first + 2)
    yield (position, first + 2 + squeeze)
