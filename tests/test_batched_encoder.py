"""Claims about the batched encoder: in one pass of many seeds, each architecture is encoded as it is alone."""

import numpy as np
import pytest
import torch

from hypernas.fast.encoder import encoder_pass
from hypernas.fast.stacked_models import StackedModels, below, regress, rows_by_model
from hypernas.graph import Architecture, Cell, collate
from hypernas.method.encoder import CONTEXTS
from hypernas.method.hypernas import ArchitecturePredictor

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


def encoded(models, sets, index, device="cpu"):
    """Stacked parameters, embeddings (S, b, D) and node features (S, C, b, N, D) of architectures index (S, b)."""
    parameters = StackedModels(models, device).parameters
    dtype = models[0].encoder.embedding.weight.dtype
    encode = encoder_pass(models[0].encoder, sets, device, dtype)
    return parameters, *encode(below(parameters, "encoder."), index)


def real(batch):
    """The nodes (B, C, N) that are in the networks."""
    rows = torch.arange(len(batch))[:, None]
    return batch.mask[rows, batch.sequence.clamp(min=0)] & (batch.sequence >= 0)[..., None]


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


def one_sequence(architecture, network):
    return [architecture((0, 0, 1, 0, 1, 0), (n, 5)) for n in (4, 7, 6, 5, 4, 3)]


def mixed(architecture, network):
    return [network("1" * 6), *(network(kinds) for kinds in KINDS)]


def mixed_and_repeated(architecture, network):
    return [network("1" * 6, repeat=True), *(network(kinds, repeat=True) for kinds in KINDS)]


@pytest.mark.parametrize("architectures", [one_sequence, mixed, mixed_and_repeated])
@pytest.mark.parametrize("context", CONTEXTS)
def test_values_and_gradients_are_those_of_each_model_alone(context, architectures, double, architecture, network):
    """Three seeds in one pass; one of them has short networks alone, one draws an architecture twice."""
    models = [predictor(context, seed) for seed in range(3)]
    sets = [collate(architectures(architecture, network)) for _ in models]
    index = torch.tensor([[1, 2, 3, 4], [5, 4, 2, 4], [1, 1, 2, 1]])
    parameters, h, nodes = encoded(models, sets, index)
    pull_h, pull_nodes = torch.randn_like(h), torch.randn_like(nodes)
    parts = [batch[rows] for batch, rows in zip(sets, index, strict=True)]
    masks = [real(part).transpose(0, 1) for part in parts]
    pulled = sum((n * p)[m].sum() for n, p, m in zip(nodes, pull_nodes, masks, strict=True))
    (regress(parameters, h).square().sum() + (h * pull_h).sum() + pulled).backward()
    for s, (model, part) in enumerate(zip(models, parts, strict=True)):
        plain_h, plain_nodes = model.encoder(part)
        plain_nodes = plain_nodes.transpose(0, 1)
        close(h[s], plain_h)
        close(nodes[s][masks[s]], plain_nodes[masks[s]])
        loss = model.regressor(plain_h).square().sum() + (plain_h * pull_h[s]).sum()
        (loss + (plain_nodes * pull_nodes[s])[masks[s]].sum()).backward()
        for name, parameter in model.named_parameters():
            ours, theirs = parameters[name].grad[s], parameter.grad
            assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-11 * theirs.abs().max().clamp(min=1)), name


@pytest.mark.parametrize("context", CONTEXTS)
def test_padding_and_batch_mates_change_nothing(context, double, network):
    model = predictor(context)
    alone = [network(kinds) for kinds in KINDS]
    together = collate([*alone, network("0101010101"), network("1")])
    _, h, nodes = encoded([model], [together], torch.arange(len(together))[None])
    for i, architecture in enumerate(alone):
        batch = collate([architecture])
        _, h_alone, nodes_alone = encoded([model], [batch], torch.tensor([[0]]))
        close(h[0, i], h_alone[0, 0])
        mask = real(batch)[0]
        c, n = mask.shape
        close(nodes[0, :c, i, :n][mask], nodes_alone[0, :, 0][mask])


@pytest.mark.parametrize("context", CONTEXTS)
def test_positions_that_no_architecture_reaches_change_nothing(context, double, network):
    """As where a training set of shallow networks is taken from a table that has deeper ones."""
    model = predictor(context)
    padded = collate([network("010"), network("01"), network("0101010101")])[:2]
    index = torch.arange(2)[None]
    (_, h, nodes), (_, right, right_nodes) = (encoded([model], [batch], index) for batch in (padded, padded.trimmed()))
    close(h, right)
    c, n = right_nodes.shape[1], right_nodes.shape[3]
    mask = real(padded.trimmed()).transpose(0, 1)
    close(nodes[0, :c, :, :n][mask], right_nodes[0][mask])


@pytest.mark.parametrize("context", CONTEXTS)
def test_depth_changes_an_embedding_only_through_its_own_cells(context, double, network):
    """Node features of the cells before do not move, and the embedding is the mean with the added cells in it."""
    deep = network("001010")
    shallow = Architecture(deep.cells[:4], deep.sequence[:4])
    batch = collate([deep, shallow])
    _, h, nodes = encoded([predictor(context)], [batch], torch.tensor([[0, 1]]))
    mask = real(batch)
    close(nodes[0, :4, 0][mask[0, :4]], nodes[0, :4, 1][mask[1, :4]])
    pooled = [nodes[0, i, 0][mask[0, i]].mean(0) for i in (4, 5)]
    close(6 * h[0, 0] - 4 * h[0, 1], sum(pooled))
    assert not torch.allclose(h[0, 0], h[0, 1])


def test_nothing_stays_behind_on_the_cpu_and_no_value_is_looked_at(network):
    """The device without memory, which computes with no other, stands in for a GPU: every look is an error there."""
    batch = collate([network(kinds) for kinds in KINDS])
    for context in CONTEXTS:
        model = predictor(context)
        parameters, h, nodes = encoded([model], [batch], torch.tensor([[0, 2]]), "meta")
        (h.sum() + nodes.sum()).backward()
        assert h.device.type == parameters["encoder.gcn.0.0.weight"].grad.device.type == "meta"


def test_stacked_models_train_only_what_the_models_train():
    models = [predictor("sum") for _ in range(2)]
    for model in models:
        model.regressor.out.bias.requires_grad_(False)
    frozen = [name for name, p in StackedModels(models).parameters.items() if not p.requires_grad]
    assert frozen == ["regressor.out.bias"]


def test_the_gradient_of_rows_has_the_same_bits_on_two_threads_every_time():
    """That of `table[seeds, index]`, which the values are checked against, has not."""
    table, index = torch.randn(3, 7, 72, requires_grad=True), torch.randint(7, (3, 50, 40))
    rows = rows_by_model(table, index)
    assert torch.equal(rows, table[torch.arange(3)[:, None, None], index])
    pull, threads = torch.randn_like(rows), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        gradients = [torch.autograd.grad(rows_by_model(table, index), table, pull)[0] for _ in range(100)]
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)
    by_model = zip(index.flatten(1), pull.flatten(1, 2), strict=True)
    by_hand = torch.stack([torch.zeros(7, 72).index_add(0, *rows_and_pull) for rows_and_pull in by_model])
    assert torch.allclose(gradients[0], by_hand, atol=1e-3)
