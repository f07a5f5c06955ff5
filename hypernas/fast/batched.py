"""Many target networks in one pass: equal layers of all architectures become one batched layer.

The fast twin of `target.run`. A frame groups the layers over architectures (dynamic batching) and gives every
value its place, so that nothing is stacked or taken apart; nothing is computed that no architecture asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hypernas.fast.layers import Dense, apply, as_matrix, is_dense
from hypernas.fast.plans import Arena, Plan, Turn
from hypernas.method.target_network import Layer

Arenas = dict[Arena, Tensor]


def run_batched(plan: Plan, weights: Sequence[Tensor], stems: Tensor) -> Tensor:
    """Run the A programs of a plan, with weights (n, c_out, c_in, k, k) of each bank as it runs, from stem features
    (A, M, C, H, W); returns their last features (A, M, c_last, H', W')."""
    return Run.apply(plan, torch.is_grad_enabled(), stems, *weights)


@dataclass
class Local:
    """A turn that autograd takes back: its inputs and weights as leaves, and what it made of them."""

    leaves: list[Tensor]
    two: bool
    y: Tensor

    @classmethod
    def run(
        cls, turn: Turn, x: Tensor, other: Tensor | None, weights: Sequence[Tensor], kinds: Sequence[Layer]
    ) -> Local:
        leaves = [leaf.detach().requires_grad_() for leaf in (x, *([] if other is None else [other]), *weights)]
        with torch.enable_grad():
            y = apply(
                turn.layer, leaves[0], None if other is None else leaves[1], leaves[len(leaves) - len(weights) :], kinds
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
            gx = gx.clone()  # handed on as it is, and the arena it lies in is written to
        for place, gweight in zip(gweights, others[self.two :], strict=True):
            place.copy_(gweight)
        return gx, others[0] if self.two else None


class Run(torch.autograd.Function):
    """A turn reads its input from the arenas and writes its output to its place there; gradients take the same ways.

    What a turn does between the two is written out where it is a product, and else left to autograd, turn by turn.
    """

    @staticmethod
    def forward(ctx: Any, plan: Plan, keep: bool, stems: Tensor, *weights: Tensor) -> Tensor:
        arenas = {plan.stems: _arena(plan, plan.stems, stems, stems.shape)}
        arenas[plan.stems][: len(stems)] = stems
        matrices: dict[int, tuple[Tensor, Tensor]] = {}
        tape = []
        for turn in plan.turns:
            x, kinds = read(turn, arenas), [plan.banks[bank].runs for bank, _, _ in turn.kernels]
            if is_dense(turn.layer, x):
                for (bank, _, _), layer in zip(turn.kernels, kinds, strict=True):
                    if bank not in matrices:
                        matrices[bank] = _matrices(weights[bank], layer, *x.shape[3:])
                sides = [-(-side // turn.layer.stride) for side in x.shape[3:]]
                out = place(turn, arenas, plan, (len(x), x.shape[1], turn.layer.c_out, *sides))
                chosen = [matrices[i][1][lo:hi] for i, lo, hi in turn.kernels]
                done: Dense | Local = Dense.run(turn.layer, x, chosen, out)
            else:
                other = read(turn, arenas, 1) if any(each.port for each in turn.reads) else None
                done = Local.run(turn, x, other, [weights[i][lo:hi] for i, lo, hi in turn.kernels], kinds)
                place(turn, arenas, plan, done.y.shape).copy_(done.y.detach())
            if keep:
                tape.append((turn, done))
        ctx.plan, ctx.tape, ctx.n = plan, tape, len(stems)
        ctx.arenas, ctx.matrices, ctx.weights = arenas, matrices, weights
        return arenas[plan.output].index_select(0, plan.last)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor):
        plan = ctx.plan
        arenas = {arena: torch.zeros_like(values) for arena, values in ctx.arenas.items()}
        arenas[plan.output].index_add_(0, plan.last, gradients[0])
        ends = [torch.empty_like(ctx.matrices[i][1] if i in ctx.matrices else w) for i, w in enumerate(ctx.weights)]
        for turn, done in reversed(ctx.tape):
            g = arenas[turn.makes][turn.start : turn.stop]
            gx, other = done.back(g, [ends[bank][lo:hi] for bank, lo, hi in turn.kernels])
            spread(turn, gx, arenas)
            spread(turn, other, arenas, port=1)
        for i, (weight, matrix) in ctx.matrices.items():
            (ends[i],) = torch.autograd.grad(matrix, weight, ends[i])
        return None, None, arenas[plan.stems][: ctx.n], *ends


def _matrices(weight: Tensor, layer: Layer, h: int, w: int) -> tuple[Tensor, Tensor]:
    """A bank as a leaf, and as matrices that autograd takes back to it."""
    with torch.enable_grad():
        leaf = weight.detach().requires_grad_()
        return leaf, as_matrix(leaf, layer, h, w)


def read(turn: Turn, arenas: Arenas, port: int = 0) -> Tensor:
    """The input (G, M, c_in, H, W) of a turn: the sum of what its reads bring."""
    x: Tensor | None = None
    c = turn.layer.c_in
    for each in turn.reads:
        if each.port != port:
            continue
        values = arenas[each.arena].index_select(0, each.slots)[:, :, : each.stop - each.start]
        if x is None and each.rows is None and each.stop - each.start == c:
            x = values
            continue
        x = values.new_zeros(turn.size, values.shape[1], c, *values.shape[3:]) if x is None else x
        part = x[:, :, each.start : each.stop]
        if each.rows is None:
            part += values
        else:
            part.index_add_(0, each.rows, values)
    assert x is not None
    return x


def spread(turn: Turn, g: Tensor | None, arenas: Arenas, port: int = 0) -> None:
    """Add the gradient (G, M, c_in, H, W) of a turn's input to those of the values that it read."""
    for each in turn.reads:
        if g is None or each.port != port:
            continue
        part = g[:, :, each.start : each.stop]
        part = part if each.rows is None else part.index_select(0, each.rows)
        arenas[each.arena][:, :, : each.stop - each.start].index_add_(0, each.slots, part)


def place(turn: Turn, arenas: Arenas, plan: Plan, shape: Sequence[int]) -> Tensor:
    """Where the outputs (G, M, c_out, H', W') of a turn go; their arena is made when the first come."""
    if turn.makes not in arenas:
        some = next(iter(arenas.values()))
        arenas[turn.makes] = _arena(plan, turn.makes, some, shape)
    return arenas[turn.makes][turn.start : turn.stop]


def _arena(plan: Plan, arena: Arena, like: Tensor, shape: Sequence[int]) -> Tensor:
    """Room for the values (..., M, C, H, W) of an arena, and zeros in its spare place."""
    values = like.new_empty(plan.sizes[arena], *shape[1:])
    values[-1].zero_()
    return values
