"""Claims about networks whose cells and depths differ: side by side on the fast path, each is as it is alone."""

import numpy as np
import pytest
import torch

from hypernas.fast import model, sequences
from hypernas.fast.model import ArchitecturePredictor, Cells, Stack, encode, regress, score
from hypernas.graph import Architecture, Cell, collate
from hypernas.method.encoder import CONTEXTS

SIZE = {"n_ops": 5, "n_layers": 3, "width": 6}
KINDS = ("0", "010", "0010", "100101", "0011")


@pytest.fixture
def network(rng):
    """A function kinds -> a network with a random cell of its own at each position, "0" normal and "1" reduction."""

    def make(kinds, repeat=False):
        cells = []
        for kind in kinds:
            n = rng.integers(3, 7)
            adjacency = np.triu(rng.integers(3, size=(n, n)), 1)
            adjacency[0, 1:] = adjacency[:-1, -1] = 1
            ops = (0, *rng.integers(2, 5, n - 2).tolist(), 1)
            cells.append(Cell(ops, tuple(map(tuple, adjacency.tolist())), int(kind)))
        sequence = tuple(range(len(cells)))
        return Architecture(tuple(cells), sequence + sequence[::-1] if repeat else sequence)

    return make


def predictor(context, seed=0):
    torch.manual_seed(seed)
    return ArchitecturePredictor(**SIZE, context=context)


def fused(models, sets, index, want_nodes=True):
    stack, cells = Stack(models), Cells(sets, torch.float64)
    return stack, *encode(stack.parameters, models[0].encoder.context, 3, cells, index, want_nodes)


def real(batch):
    """The nodes (B, C, N) that are in the networks."""
    rows = torch.arange(len(batch))[:, None]
    return batch.mask[rows, batch.sequence.clamp(min=0)] & (batch.sequence >= 0)[..., None]


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("repeat", [False, True])
@pytest.mark.parametrize("context", CONTEXTS)
def test_mixed_sequences_have_the_values_and_gradients_of_the_plain_encoder(context, repeat, double, network):
    """Three seeds in one pass; one of them has short networks alone, one draws an architecture twice."""
    models = [predictor(context, seed) for seed in range(3)]
    longest = network("1" * 6, repeat)
    sets = [collate([longest, *(network(kinds, repeat) for kinds in KINDS)]) for _ in models]
    index = torch.tensor([[1, 2, 3, 4], [5, 4, 2, 4], [1, 1, 2, 1]])
    stack, h, nodes = fused(models, sets, index)
    pull_h, pull_nodes = torch.randn_like(h), torch.randn_like(nodes)
    total = regress(stack.parameters, h).square().sum() + (h * pull_h).sum()
    parts = [batch[rows] for batch, rows in zip(sets, index, strict=True)]
    masks = [real(part)[:, : nodes.shape[1]].transpose(0, 1) for part in parts]
    (total + sum((n * p)[m].sum() for n, p, m in zip(nodes, pull_nodes, masks, strict=True))).backward()
    for s, (one, part) in enumerate(zip(models, parts, strict=True)):
        plain_h, plain_nodes = one.encoder(part)
        plain_nodes = plain_nodes.transpose(0, 1)[: nodes.shape[1]]
        close(h[s], plain_h)
        close(nodes[s][masks[s]], plain_nodes[masks[s]])
        loss = one.regressor(plain_h).square().sum() + (plain_h * pull_h[s]).sum()
        (loss + (plain_nodes * pull_nodes[s])[masks[s]].sum()).backward()
        for name, parameter in one.named_parameters():
            ours, theirs = stack.parameters[name].grad[s], parameter.grad
            assert torch.allclose(ours, theirs, rtol=1e-11, atol=1e-12 * theirs.abs().max().clamp(min=1)), name


@pytest.mark.parametrize("context", CONTEXTS)
def test_one_sequence_and_any_sequences_are_laid_out_to_the_same_end(context, double, architecture):
    """The layout that equal sequences share against the one that is made of each architecture's own."""
    sets = [collate([architecture((0, 0, 1, 0, 1), (n, 4)) for n in (4, 6, 5)]) for _ in range(2)]
    models = [predictor(context, seed) for seed in range(2)]
    index, outcomes = torch.tensor([[2, 0], [1, 1]]), []
    for shared in (True, False):
        stack, cells = Stack(models), Cells(sets, torch.float64)
        cells._shared = cells._shared if shared else None
        h, nodes = encode(stack.parameters, context, 3, cells, index, want_nodes=True)
        (h.square().sum() + nodes.sum()).backward()
        outcomes.append([h, nodes, *(p.grad for n, p in stack.parameters.items() if n.startswith("encoder"))])
    for ours, theirs in zip(*outcomes, strict=True):
        close(ours, theirs)


@pytest.mark.parametrize("context", CONTEXTS)
def test_padding_and_batch_mates_change_nothing(context, double, network):
    one = predictor(context)
    alone = [network(kinds) for kinds in KINDS]
    together = collate([*alone, network("0101010101"), network("1")])
    _, h, nodes = fused([one], [together], torch.arange(len(together))[None])
    for i, architecture in enumerate(alone):
        batch = collate([architecture])
        _, h_alone, nodes_alone = fused([one], [batch], torch.tensor([[0]]))
        close(h[0, i], h_alone[0, 0])
        c, n = real(batch)[0].shape
        close(nodes[0, :c, i, :n][real(batch)[0]], nodes_alone[0, :, 0][real(batch)[0]])


@pytest.mark.parametrize("context", CONTEXTS)
def test_depth_changes_an_embedding_only_through_its_own_cells(context, double, network):
    """Node features of the cells before do not move, and the embedding is the mean with the added cells in it."""
    deep = network("001010")
    shallow = Architecture(deep.cells[:4], deep.sequence[:4])
    batch = collate([deep, shallow])
    _, h, nodes = fused([predictor(context)], [batch], torch.tensor([[0, 1]]))
    mask = real(batch)
    close(nodes[0, :4, 0][mask[0, :4]], nodes[0, :4, 1][mask[1, :4]])
    pooled = [nodes[0, i, 0][mask[0, i]].mean(0) for i in (4, 5)]
    close(6 * h[0, 0] - 4 * h[0, 1], sum(pooled))
    assert not torch.allclose(h[0, 0], h[0, 1])


@pytest.mark.parametrize("context", ["sum", "concat", "position"])
def test_where_a_cell_stands_matters_with_a_context(context, double, network):
    """The same two cells, and a third one before or after them."""
    made = network("000")
    orders = [Architecture(made.cells, order) for order in ((0, 1, 2), (1, 2, 0), (2, 0, 1, 1))]
    _, h, _ = fused([predictor(context)], [collate(orders)], torch.tensor([[0, 1, 2]]))
    assert not torch.allclose(h[0, 0], h[0, 1])
    assert not torch.allclose(h[0, 0], h[0, 2])


def test_networks_of_many_sequences_are_scored_in_full_chunks(double, network, rng, monkeypatch):
    """As many sequences as networks need as few passes as one sequence would."""
    kinds = [f"{i:05b}"[: 2 + i % 4] for i in range(40)]
    batch, one = collate([network(k) for k in kinds]), predictor("sum")
    calls = []
    monkeypatch.setattr(model, "encode", lambda *given: calls.append(1) or encode(*given))
    (scores,) = score([one], [batch], chunk=16)
    close(scores, one(batch)[0].detach())
    assert len(calls) == 3


def test_nothing_of_a_mixed_layout_stays_behind_on_the_cpu(network):
    """The device without memory, which computes with no other, stands in for a GPU."""
    batch = collate([network(kinds) for kinds in KINDS])
    for context in CONTEXTS:
        stack = Stack([predictor(context)], "meta")
        h, nodes = encode(
            stack.parameters, context, 3, Cells([batch], torch.float32, "meta"), torch.tensor([[0, 2]]), want_nodes=True
        )
        (h.sum() + nodes.sum()).backward()
        assert h.device.type == stack.parameters["encoder.gcn.0.0.weight"].grad.device.type == "meta"


def test_a_group_has_only_the_networks_that_still_have_a_cell(double, network):
    batch = collate([network("00"), network("000")])
    groups = Cells([batch], torch.float64).layout(torch.tensor([[0, 1]])).groups
    assert [(group.position, group.kind, len(group.cells[0])) for group in groups] == [(0, 0, 2), (1, 0, 2), (2, 0, 1)]
    _, h, _ = fused([predictor("sum")], [batch], torch.tensor([[0, 1]]), want_nodes=False)
    close(h[0].detach(), predictor("sum").encoder(batch)[0].detach())


def test_the_gradient_of_rows_has_the_same_bits_on_two_threads_every_time():
    """That of `table[seeds, index]`, which the values are checked against, has not."""
    table, index = torch.randn(3, 7, 72, requires_grad=True), torch.randint(7, (3, 50, 40))
    chosen = sequences.rows_of(table, index)
    assert torch.equal(chosen, table[torch.arange(3)[:, None, None], index])
    pull, threads = torch.randn_like(chosen), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = [torch.autograd.grad(sequences.rows_of(table, index), table, pull)[0] for _ in range(100)]
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(each, found[0]) for each in found)
    rows = zip(index.flatten(1), pull.flatten(1, 2), strict=True)
    by_hand = torch.stack([torch.zeros(7, 72).index_add(0, *each) for each in rows])
    assert torch.allclose(found[0], by_hand, atol=1e-3)
