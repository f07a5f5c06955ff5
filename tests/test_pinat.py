"""Claims about the transformers: what their tokens are, what each of them knows of the edges, seeds in one pass."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hypernas import predictors, spaces
from hypernas.errors import UserError
from hypernas.graph import collate
from hypernas.predictors.shared.transformer import (
    CosineSchedule,
    FeedForward,
    GraphTransformer,
    Shape,
    TokenPass,
    TransformerPredictor,
    laplacian,
    no_dropout,
    related,
    tokens,
)

SMALL = {"n_blocks": 2, "d_model": 16, "n_heads": 4, "d_head": 4, "d_inner": 16, "d_regressor": 8}
SHAPES = {
    "tnasp": Shape(**SMALL),
    "pinat": Shape(**SMALL, invariant=4),
    "nn-former": Shape(**SMALL, positions=False, relations=True),
}


@pytest.fixture(params=SHAPES)
def shape(request):
    return SHAPES[request.param]


@pytest.fixture
def graphs(rng):
    space = spaces.get("nasbench101")
    return collate([space.sample(rng) for _ in range(12)], space)


def model_of(shape, graphs, columns=(0,)):
    torch.manual_seed(0)
    return GraphTransformer(len(graphs.space.ops) if graphs.space else 7, 5, columns, shape)


# Tokens.


def test_a_row_of_the_laplacian_is_how_many_edges_leave_a_node_less_those_to_each_other(graphs):
    adjacency = graphs.adjacency[:, 0].numpy()
    n = adjacency.shape[1]
    found = laplacian(adjacency, n + 2)
    for edges, rows in zip(adjacency.astype(float), found, strict=True):
        assert np.allclose(rows[:, :n], np.diag(edges.sum(1)) - edges)
        assert not rows[:, n:].any()
        assert np.allclose(rows.sum(1), 0)
    assert np.allclose(laplacian(adjacency, 3), found[:, :, :3])


def test_isomorphic_cells_become_equal_tokens(architecture, twin):
    architectures = [architecture() for _ in range(10)]
    ours, theirs = (tokens(collate(a), (0, 1), 5) for a in (architectures, [twin(each) for each in architectures]))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_edges_stay_within_a_cell_and_follow_its_nodes(architecture):
    batch = collate([architecture() for _ in range(5)])
    made = tokens(batch, (0, 1), 5)
    assert made.cell.tolist() == [[0] * 6 + [1] * 6] * 5
    assert not made.adjacency[:, :6, 6:].any()
    assert made.adjacency.sum() == batch.adjacency.sum()
    assert torch.equal(made.mask.sum(1), batch.mask.sum((1, 2)))


def test_a_cell_that_the_network_leaves_out_has_no_tokens(architecture):
    base = architecture((0, 0))
    made = tokens(collate([base, type(base)(base.cells, (0, 1))]), (0, 1), 5)
    assert made.mask.sum(1).tolist() == [6, 10]


# What a model knows.


def test_padding_changes_nothing(shape, graphs):
    model = model_of(shape, graphs)
    small = graphs[graphs.mask[:, 0].sum(1).argsort()[:1]]
    n = int(small.mask[:, 0].sum())
    cut = tuple(field[:, :n, :n] if i == 3 else field[:, :n] for i, field in enumerate(tokens(small, (0,), 5)))
    padded = torch.nn.functional.pad(small.adjacency, (0, 2, 0, 2)), torch.nn.functional.pad(small.ops, (0, 2))
    larger = type(small)(padded[1], padded[0], torch.nn.functional.pad(small.mask, (0, 2)), small.kind, small.sequence)
    assert torch.allclose(model(*tokens(larger, (0,), 5), no_dropout(model)), model(*cut, no_dropout(model)), atol=1e-5)


@pytest.mark.parametrize("name", SHAPES)
def test_only_the_transformer_without_modules_for_edges_needs_positions_to_see_them(name, graphs):
    model, made = model_of(SHAPES[name], graphs), tokens(graphs, (0,), 5)
    blind = made._replace(positions=torch.zeros_like(made.positions))
    others = blind._replace(adjacency=blind.adjacency * (torch.rand(blind.adjacency.shape) < 0.5))
    same = torch.allclose(model(*blind, no_dropout(model)), model(*others, no_dropout(model)))
    assert same == (name == "tnasp")


def test_heads_of_nn_former_see_predecessors_successors_and_both_kinds_of_siblings():
    """A diamond: 0 feeds 1 and 2, both feed 3."""
    adjacency = torch.zeros(1, 4, 4)
    adjacency[0, [0, 0, 1, 2], [1, 2, 3, 3]] = 1
    seen = related(adjacency, 5)[0].int()
    assert seen[0].tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [0, 1, 1, 1]]
    assert torch.equal(seen[1], seen[0].T)
    assert seen[2].tolist() == seen[3].tolist() == [[1, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]]
    assert torch.equal(seen[4], seen[0])


def test_the_gradient_reaches_every_parameter(shape, architecture):
    batch = collate([architecture() for _ in range(8)])
    model = model_of(shape, batch, (0, 1))
    model(*tokens(batch, (0, 1), 5), no_dropout(model)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_what_neighbours_add_has_weights_of_its_own_half_from_predecessors_half_from_successors():
    torch.manual_seed(0)
    layer = FeedForward(replace(SHAPES["nn-former"], d_model=3, d_inner=4))
    x, adjacency = torch.rand(1, 5, 3), torch.triu(torch.rand(1, 5, 5) < 0.5, 1).float()
    h = torch.stack([layer.inner(node) for node in x[0]])
    for i, j in adjacency[0].nonzero().tolist():
        h[j, :2] += layer.passed.weight[:2] @ x[0, i]
        h[i, 2:] += layer.passed.weight[2:] @ x[0, j]
    assert torch.allclose(layer(x, adjacency)[0], layer.outer(h.relu()), atol=1e-6)


# Training.


def test_seeds_in_one_pass_are_each_as_their_model_alone(shape, graphs):
    models = [GraphTransformer(6, 5, (0,), shape) for _ in range(3)]
    sets = [graphs[:8], graphs[4:], graphs[:8]]
    run = TokenPass(models, sets, "cpu")
    index = torch.tensor([[0, 3], [1, 2], [7, 5]])
    keep = torch.rand(3, models[0].n_dropouts, 2, graphs.ops.shape[2], 16)
    together = run(index, keep)
    for s, (model, batch) in enumerate(zip(models, sets, strict=True)):
        alone = model(*tokens(batch[index[s]], (0,), 5), keep[s])
        assert torch.allclose(together[s], alone, atol=1e-5)


def test_training_sets_that_differ_in_other_cells_are_not_trained_together(architecture):
    same = architecture()
    batch = collate([same, same, architecture(), architecture()])
    models = [GraphTransformer(7, 6, columns, SHAPES["tnasp"]) for columns in ((0,), (0, 1))]
    with pytest.raises(UserError, match="differ in the same cells; fit one by one"):
        TokenPass(models, [batch, batch], "cpu")


def test_dropout_keeps_the_mean_and_is_drawn_by_each_seed():
    predictor = TransformerPredictor(dropout=0.25)
    generators = [np.random.default_rng(seed) for seed in (1, 2, 1)]
    keep = predictor.keep(generators, (100, 100))
    assert keep.unique().tolist() == pytest.approx([0, 4 / 3])
    assert keep.mean().item() == pytest.approx(1, abs=0.02)
    assert torch.equal(keep[0], keep[2])
    assert not torch.equal(keep[0], keep[1])
    assert (TransformerPredictor(dropout=0.0).keep(generators, (9,)) == 1).all()


def test_the_rate_falls_to_zero_along_a_half_cosine():
    schedule = CosineSchedule(epochs=100, learning_rate=2.0)
    assert [schedule.rate(epoch) for epoch in (0, 50, 100)] == pytest.approx([2, 1, 0])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
        ({"d_invariant": 0}, "d_invariant must be at least 1"),
        ({"n_blocks": 0}, "n_blocks must be at least 1"),
    ],
)
def test_settings_out_of_range_are_a_user_error(settings, words):
    with pytest.raises(UserError, match=words):
        predictors.get("pinat-mse")(**settings)


def test_a_loss_that_it_does_not_have_is_a_user_error():
    with pytest.raises(UserError, match="loss must be one of mse, bce, got 'l1'"):
        predictors.get("nn-former")(loss="l1")


def test_operations_that_no_model_has_seen_are_a_user_error(architecture):
    batch = collate([architecture() for _ in range(4)])
    predictor = predictors.get("tnasp-mse")(epochs=0, **SMALL).fit(batch, torch.arange(4.0))
    batch.ops[0, 0, 1] = 99
    with pytest.raises(UserError, match="operations must be below"):
        predictor.predict(batch)
