"""Many target networks in one pass: equal layers of all architectures become one batched layer.

The fast twin of `target.run`. A static plan groups the layers over architectures (dynamic batching) and gives every
value its place, so that nothing is stacked or taken apart; nothing is computed that no architecture asks for.
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

Buffers = dict[BufferKey, Tensor]


def run_batched(plan: Plan, weights: Sequence[Tensor], stems: Tensor) -> Tensor:
    """Run the A programs of a plan, with weights (n, c_out, c_in, k, k) of each group as it runs, from stem features
    (A, M, C, H, W); returns their last features (A, M, c_last, H', W')."""
    return Run.apply(plan, torch.is_grad_enabled(), stems, *weights)


@dataclass
class Local:
    """An op that autograd takes back: its inputs and weights as leaves, and what it made of them."""

    leaves: list[Tensor]
    two: bool
    y: Tensor

    @classmethod
    def run(
        cls, op: BatchedOp, x: Tensor, other: Tensor | None, weights: Sequence[Tensor], kinds: Sequence[Layer]
    ) -> Local:
        leaves = [leaf.detach().requires_grad_() for leaf in (x, *([] if other is None else [other]), *weights)]
        with torch.enable_grad():
            y = apply(
                op.layer, leaves[0], None if other is None else leaves[1], leaves[len(leaves) - len(weights) :], kinds
            )
        return cls(leaves, other is not None, y)

    def back(self, g: Tensor, gweights: Sequence[Tensor]) -> tuple[Tensor | None, Tensor | None]:
        """The gradients of both inputs from that of the output; those of the weights go to `gweights`."""
        if not self.y.requires_grad:
            return None, None
        if self.y is self.leaves[0]:
            return g.clone(), None
        gx, *others = torch.autograd.grad(self.y, self.leaves, g)
        if gx.untyped_storage().data_ptr() == g.untyped_storage().data_ptr():
            gx = gx.clone()  # handed on as it is, and the buffer it lies in is written to
        for place, gweight in zip(gweights, others[self.two :], strict=True):
            place.copy_(gweight)
        return gx, others[0] if self.two else None


class Run(torch.autograd.Function):
    """An op reads its input from the buffers and writes its output to its place there; gradients take the same ways.

    What an op does between the two is written out where it is a product, and else left to autograd, op by op.
    """

    @staticmethod
    def forward(ctx: Any, plan: Plan, keep: bool, stems: Tensor, *weights: Tensor) -> Tensor:
        buffers = {plan.stems: _arena(plan, plan.stems, stems, stems.shape)}
        buffers[plan.stems][: len(stems)] = stems
        matrices: dict[int, tuple[Tensor, Tensor]] = {}
        tape = []
        for op in plan.ops:
            x, kinds = read(op, buffers), [plan.groups[group].runs for group, _, _ in op.kernels]
            if is_dense(op.layer, x):
                for (group, _, _), layer in zip(op.kernels, kinds, strict=True):
                    if group not in matrices:
                        matrices[group] = _matrices(weights[group], layer, *x.shape[3:])
                sides = [-(-side // op.layer.stride) for side in x.shape[3:]]
                out = place(op, buffers, plan, (len(x), x.shape[1], op.layer.c_out, *sides))
                chosen = [matrices[i][1][lo:hi] for i, lo, hi in op.kernels]
                done: Dense | Local = Dense.run(op.layer, x, chosen, out)
            else:
                other = read(op, buffers, 1) if any(each.port for each in op.reads) else None
                done = Local.run(op, x, other, [weights[i][lo:hi] for i, lo, hi in op.kernels], kinds)
                place(op, buffers, plan, done.y.shape).copy_(done.y.detach())
            if keep:
                tape.append((op, done))
        ctx.plan, ctx.tape, ctx.n = plan, tape, len(stems)
        ctx.buffers, ctx.matrices, ctx.weights = buffers, matrices, weights
        return buffers[plan.output].index_select(0, plan.last)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor):
        plan = ctx.plan
        buffers = {buffer: torch.zeros_like(values) for buffer, values in ctx.buffers.items()}
        buffers[plan.output].index_add_(0, plan.last, gradients[0])
        ends = [torch.empty_like(ctx.matrices[i][1] if i in ctx.matrices else w) for i, w in enumerate(ctx.weights)]
        for op, done in reversed(ctx.tape):
            g = buffers[op.makes][op.start : op.stop]
            gx, other = done.back(g, [ends[group][lo:hi] for group, lo, hi in op.kernels])
            spread(op, gx, buffers)
            spread(op, other, buffers, port=1)
        for i, (weight, matrix) in ctx.matrices.items():
            (ends[i],) = torch.autograd.grad(matrix, weight, ends[i])
        return None, None, buffers[plan.stems][: ctx.n], *ends


def _matrices(weight: Tensor, layer: Layer, h: int, w: int) -> tuple[Tensor, Tensor]:
    """A group as a leaf, and as matrices that autograd takes back to it."""
    with torch.enable_grad():
        leaf = weight.detach().requires_grad_()
        return leaf, as_matrix(leaf, layer, h, w)


def read(op: BatchedOp, buffers: Buffers, port: int = 0) -> Tensor:
    """The input (G, M, c_in, H, W) of an op: the sum of what its reads bring."""
    x: Tensor | None = None
    c = op.layer.c_in
    for each in op.reads:
        if each.port != port:
            continue
        values = buffers[each.buffer].index_select(0, each.slots)[:, :, : each.stop - each.start]
        if x is None and each.rows is None and each.stop - each.start == c:
            x = values
            continue
        x = values.new_zeros(op.size, values.shape[1], c, *values.shape[3:]) if x is None else x
        part = x[:, :, each.start : each.stop]
        if each.rows is None:
            part += values
        else:
            part.index_add_(0, each.rows, values)
    assert x is not None
    return x


def spread(op: BatchedOp, g: Tensor | None, buffers: Buffers, port: int = 0) -> None:
    """Add the gradient (G, M, c_in, H, W) of an op's input to those of the values that it read."""
    for each in op.reads:
        if g is None or each.port != port:
            continue
        part = g[:, :, each.start : each.stop]
        part = part if each.rows is None else part.index_select(0, each.rows)
        buffers[each.buffer][:, :, : each.stop - each.start].index_add_(0, each.slots, part)


def place(op: BatchedOp, buffers: Buffers, plan: Plan, shape: Sequence[int]) -> Tensor:
    """Where the outputs (G, M, c_out, H', W') of an op go; their buffer is made when the first come."""
    if op.makes not in buffers:
        some = next(iter(buffers.values()))
        buffers[op.makes] = _arena(plan, op.makes, some, shape)
    return buffers[op.makes][op.start : op.stop]


def _arena(plan: Plan, buffer: BufferKey, like: Tensor, shape: Sequence[int]) -> Tensor:
    """Room for the values (..., M, C, H, W) of a buffer, and zeros in its spare place."""
    values = like.new_empty(plan.sizes[buffer], *shape[1:])
    values[-1].zero_()
    return values
