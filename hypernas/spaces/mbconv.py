"""Inverted residual blocks as MobileNetV3 and its relatives chain them (Sandler et al. 2018, Howard et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hypernas.method.target_network import Program, ProgramWriter, WeightKey

RELU, HARD_SWISH = "relu", "hardswish"


@dataclass(frozen=True)
class Block:
    """A 1 x 1 convolution to `middle` channels, a depthwise one of side `kernel`, a 1 x 1 one to `c_out`.

    The first is left out where `middle` is what the block reads; `squeeze` channels lie between the two convolutions
    of squeeze-and-excitation, 0 for none. What has the shape of its input is added to it.
    """

    kernel: int
    middle: int
    c_out: int
    stride: int = 1
    squeeze: int = 0
    activation: str = RELU


def divisible(channels: float, divisor: int = 8) -> int:
    """The multiple of `divisor` nearest to `channels`, not under 90 % of it nor under `divisor` (MobileNetV2's code).

    >>> divisible(72 / 4), divisible(28.4), divisible(11), divisible(1)
    (24, 32, 16, 8)
    """
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor * (nearest < 0.9 * channels)


def convolve(
    writer: ProgramWriter, x: int, shape: tuple[int, int, int, int], activation: str, weight: WeightKey
) -> int:
    """A convolution of `shape` (c_in, c_out, kernel, stride), batch normalisation, the activation, "" for none."""
    y = writer.conv((x,), *shape, weight, relu=False, relu_after=activation == RELU)
    return writer.hard_swish(y, shape[1]) if activation == HARD_SWISH else y


def write_block(writer: ProgramWriter, x: int, c_in: int, block: Block, weights: Sequence[WeightKey]) -> int:
    """Write one block that reads value `x`; `weights` are the keys of its convolutions in order. Returns its value.

    NOTE[PAPER]: paper says nothing of the biases of squeeze-and-excitation; we run its convolutions without them and
    count them; because the hypernetwork makes no biases.
    """
    key, middle, y = iter(weights), block.middle, x
    if middle != c_in:
        y = convolve(writer, y, (c_in, middle, 1, 1), block.activation, next(key))
    y = writer.depthwise(y, middle, block.kernel, block.stride, next(key), relu_after=block.activation == RELU)
    y = writer.hard_swish(y, middle) if block.activation == HARD_SWISH else y
    if block.squeeze:
        gate = writer.conv((writer.mean(y, middle),), middle, block.squeeze, 1, 1, next(key), False, False, True)
        gate = writer.conv((gate,), block.squeeze, middle, 1, 1, next(key), relu=False, norm=False)
        y = writer.gate(y, gate, middle)
    y = convolve(writer, y, (middle, block.c_out, 1, 1), "", next(key))
    return writer.add((x, y), block.c_out) if block.stride == 1 and c_in == block.c_out else y


def biases(block: Block) -> int:
    """Parameters of a block that no layer of a Program has: the biases of squeeze-and-excitation."""
    return block.squeeze + block.middle if block.squeeze else 0


def write_last(
    writer: ProgramWriter, x: int, widths: Sequence[int], weights: Sequence[WeightKey], activation: str = HARD_SWISH
) -> Program:
    """The network's end: a 1 x 1 convolution from widths[0] to widths[1] channels, the mean over the map and, where
    there is a widths[2], a linear layer to as many.

    The hypernetwork's heads are 16 times as wide as the stem, what is wider repeats them.
    """
    y = convolve(writer, x, (widths[0], widths[1], 1, 1), activation, weights[0])
    y = writer.mean(y, widths[1])
    if len(widths) > 2:
        y = writer.conv((y,), widths[1], widths[2], 1, 1, weights[1], relu=False, norm=False)
        y = writer.hard_swish(y, widths[2])
    side = 16 * writer.channels
    heads = ((1, side, side), *((kernel, side, 1) for kernel in (3, 5, 7)))
    return writer.finish(y, norm_last=False, heads=heads)


def chain(blocks: Sequence[Block], stem: int, widths: Sequence[int], activation: str = HARD_SWISH) -> Program:
    """A whole network: stem of stride 2, blocks one after another, the end; weights are keyed by (block, layer)."""
    writer, c_in = ProgramWriter(stem, stem_stride=2), stem
    x = activated_stem(writer, activation)
    for writer.position, block in enumerate(blocks):
        x = write_block(writer, x, c_in, block, [(writer.position, i) for i in range(5)])
        c_in = block.c_out
    ends = [(len(blocks), i) for i in range(2)]
    return write_last(writer, x, (c_in, *widths), ends, activation)


def activated_stem(writer: ProgramWriter, activation: str = HARD_SWISH) -> int:
    """The stem's value after its activation."""
    stem = writer.stem()
    return writer.hard_swish(stem, writer.channels) if activation == HARD_SWISH else writer.relu(stem, writer.channels)


def block_keys(position: int, first: int, squeeze: bool) -> Iterator[WeightKey]:
    """The keys of a block's convolutions whose nodes are numbered from `first`: expand, depthwise, [squeeze], project.

    The squeeze-and-excitation is one node; its first convolution takes its weights from the edge to that node.
    """
    yield (position, first)
    yield (position, first + 1)
    if squeeze:
        yield (position, first + 1, first + 2)
        yield (position, first + 2)
    yield (position, first + 2 + squeeze)
