"""Many target networks in one pass; the oracle is `method.target_network.run`, network by network.

Equal layers of all architectures become one batched layer. A static plan groups the layers over architectures (dynamic
batching) and gives every value its place, so nothing is stacked or unstacked, and nothing is computed that no
architecture needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hypernas.fast.batched_layers import Dense, apply, as_matrix, is_dense
from hypernas.fast.plan import BatchedOp, BufferKey, Plan
from hypernas.method.target_network import Layer

# The values of one shape (size, M, C, H, W), by what they are.
Buffers = dict[BufferKey, Tensor]
# By group: the weights as a leaf, and as matrices that autograd takes back to it.
Matrices = dict[int, tuple[Tensor, Tensor]]


def run_batched(
    plan: Plan,
    weights: Sequence[Tensor],
    stems: Tensor,
) -> Tensor:
    """Run the A programs of a plan on stem features (A, M, C, H, W). Return their last features (A, M, c_last, H', W').

    `weights` (n, c_out, c_in, k, k) are those of each group as it runs.
    """
    return Run.apply(plan, torch.is_grad_enabled(), stems, *weights)


@dataclass
class Local:
    """An op differentiated by autograd: its inputs and weights as leaves, and its output."""

    leaves: list[Tensor]
    two: bool
    y: Tensor

    @classmethod
    def run(
        cls,
        op: BatchedOp,
        x: Tensor,
        other: Tensor | None,
        weights: Sequence[Tensor],
        kinds: Sequence[Layer],
    ) -> Local:
        """Run the op on x (G, M, C, H, W), on the second input if it is a gate, and on its weights."""
        x = _leaf(x)
        other = None if other is None else _leaf(other)
        weights = [_leaf(weight) for weight in weights]
        with torch.enable_grad():
            # Autograd records this op alone; between ops the buffers carry values and gradients.
            y = apply(op.layer, x, other, weights, kinds)
        inputs = [x] if other is None else [x, other]
        return cls([*inputs, *weights], other is not None, y)

    def back(self, g: Tensor, gweights: Sequence[Tensor]) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients of both inputs from that of the output, and add those of the weights to `gweights`."""
        if not self.y.requires_grad:
            return None, None
        # An op that does nothing hands on its input, and autograd has no gradient of a leaf by itself.
        if self.y is self.leaves[0]:
            return g.clone(), None
        gx, *others = torch.autograd.grad(self.y, self.leaves, g)
        if gx.untyped_storage().data_ptr() == g.untyped_storage().data_ptr():
            gx = gx.clone()  # handed on as it is, and the buffer it lies in is written to
        for place, gweight in zip(gweights, others[self.two :], strict=True):
            place.copy_(gweight)
        return gx, others[0] if self.two else None


def _leaf(x: Tensor) -> Tensor:
    """The same values, where autograd's way back ends."""
    return x.detach().requires_grad_()


class Run(torch.autograd.Function):
    """Run all ops: each reads its input from the buffers and writes its output to its place there, and so do gradients.

    Products have a hand-written backward pass; autograd handles all other ops one by one.
    """

    @staticmethod
    def forward(
        ctx: Any,
        plan: Plan,
        keep: bool,
        stems: Tensor,
        *weights: Tensor,
    ) -> Tensor:
        room = _arena(plan, plan.stems, stems, stems.shape)
        room[: len(stems)] = stems
        buffers = {plan.stems: room}
        matrices: Matrices = {}
        tape = []
        for op in plan.ops:
            x = read(op, buffers)
            run_op = _run_dense if is_dense(op.layer, x) else _run_local
            done = run_op(op, x, plan, buffers, weights, matrices)
            # Without gradients no op's own tensors are kept.
            if keep:
                tape.append((op, done))
        ctx.plan = plan
        ctx.tape = tape
        ctx.n = len(stems)
        ctx.buffers, ctx.matrices, ctx.weights = buffers, matrices, weights
        return buffers[plan.output].index_select(0, plan.last)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor):
        plan = ctx.plan
        buffers = {buffer: torch.zeros_like(values) for buffer, values in ctx.buffers.items()}
        # The way back begins where the programs' outputs lie.
        buffers[plan.output].index_add_(0, plan.last, gradients[0])
        # The gradient of each group, of its matrices where it ran as such.
        ends = []
        for i, weight in enumerate(ctx.weights):
            _, as_run = ctx.matrices.get(i, (weight, weight))
            ends.append(torch.empty_like(as_run))
        for op, done in reversed(ctx.tape):
            g = buffers[op.makes][op.start : op.stop]
            # Views: what an op writes into them stands in the gradient of its group at once.
            gweights = [ends[group][start:stop] for group, start, stop in op.kernels]
            gx, other = done.back(g, gweights)
            spread(op, gx, buffers)
            spread(op, other, buffers, port=1)
        for i, (weight, matrix) in ctx.matrices.items():
            (ends[i],) = torch.autograd.grad(matrix, weight, ends[i])
        return None, None, buffers[plan.stems][: ctx.n], *ends


def _run_dense(
    op: BatchedOp,
    x: Tensor,
    plan: Plan,
    buffers: Buffers,
    weights: Sequence[Tensor],
    matrices: Matrices,
) -> Dense:
    """The op as products, which write to its place; a group becomes matrices when the first op needs it."""
    g, m, _, h, w = x.shape
    parts = []
    for group, start, stop in op.kernels:
        if group not in matrices:
            leaf = _leaf(weights[group])
            with torch.enable_grad():
                matrices[group] = leaf, as_matrix(leaf, plan.groups[group].runs, h, w)
        _, matrix = matrices[group]
        parts.append(matrix[start:stop])
    stride = op.layer.stride
    out = place(op, buffers, plan, (g, m, op.layer.c_out, -(-h // stride), -(-w // stride)))
    return Dense.run(op.layer, x, parts, out)


def _run_local(
    op: BatchedOp,
    x: Tensor,
    plan: Plan,
    buffers: Buffers,
    weights: Sequence[Tensor],
    matrices: Matrices,
) -> Local:
    """The op as autograd takes it back, copied to its place; `matrices` stays as it is."""
    has_gate = any(source.port for source in op.reads)
    other = read(op, buffers, 1) if has_gate else None
    kinds = [plan.groups[group].runs for group, _, _ in op.kernels]
    parts = [weights[group][start:stop] for group, start, stop in op.kernels]
    done = Local.run(op, x, other, parts, kinds)
    place(op, buffers, plan, done.y.shape).copy_(done.y.detach())
    return done


def read(
    op: BatchedOp,
    buffers: Buffers,
    port: int = 0,
) -> Tensor:
    """Return the input (G, M, c_in, H, W) of an op, the sum of its reads."""
    x: Tensor | None = None
    c = op.layer.c_in
    for source in op.reads:
        if source.port != port:
            continue
        width = source.stop - source.start
        values = buffers[source.buffer].index_select(0, source.slots)
        values = values[:, :, :width]
        # The first read of all channels in all layers is the input so far; any other is added to zeros.
        if x is None and source.rows is None and width == c:
            x = values
            continue
        if x is None:
            m, _, h, w = values.shape[1:]
            x = values.new_zeros(op.size, m, c, h, w)
        part = x[:, :, source.start : source.stop]
        if source.rows is None:
            part += values
        else:
            part.index_add_(0, source.rows, values)
    assert x is not None
    return x


def spread(
    op: BatchedOp,
    g: Tensor | None,
    buffers: Buffers,
    port: int = 0,
) -> None:
    """Add the gradient (G, M, c_in, H, W) of an op's input to the gradients of the values that it read."""
    for source in op.reads:
        if g is None or source.port != port:
            continue
        part = g[:, :, source.start : source.stop]
        if source.rows is not None:
            part = part.index_select(0, source.rows)
        width = source.stop - source.start
        buffers[source.buffer][:, :, :width].index_add_(0, source.slots, part)


def place(
    op: BatchedOp,
    buffers: Buffers,
    plan: Plan,
    shape: Sequence[int],
) -> Tensor:
    """Return the place of the outputs (G, M, c_out, H', W') of an op. The first op to write creates the buffer."""
    if op.makes not in buffers:
        some = next(iter(buffers.values()))
        buffers[op.makes] = _arena(plan, op.makes, some, shape)
    return buffers[op.makes][op.start : op.stop]


def _arena(
    plan: Plan,
    buffer: BufferKey,
    like: Tensor,
    shape: Sequence[int],
) -> Tensor:
    """Room for the values (..., M, C, H, W) of a buffer, and zeros in its spare place."""
    values = like.new_empty(plan.sizes[buffer], *shape[1:])
    values[-1].zero_()
    return values
