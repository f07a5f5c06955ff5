"""Claims about scoring large tables: architectures of the same edges side by side give what each gives alone."""

import numpy as np
import pytest
import torch

from hypernas import predictors, spaces
from hypernas.errors import UserError
from hypernas.fast import model
from hypernas.fast.model import ArchitecturePredictor
from hypernas.fast.packed import alike, embed_packed
from hypernas.fast.scoring import embed, same_edges
from hypernas.graph import collate
from hypernas.lab.costs import sampled
from hypernas.training.predictor import n_operations


@pytest.fixture
def graphs():
    """Cells of several sizes, some of the same edges with other operations, none twice."""
    space, rng = spaces.get("nasbench101"), np.random.default_rng(0)
    ops = rng.permutation([f"{a}(0)|{b}(0,1)|output(1,2)" for a in OPS for b in OPS])
    return collate([*map(space.parse, ops), *(space.sample(rng) for _ in range(11))], space)


OPS = ("conv3x3", "conv1x1", "maxpool3x3")


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("context", ["sum", "concat", "position", "none"])
def test_embeddings_are_those_of_the_encoder(graphs, context):
    encoder = ArchitecturePredictor(6, 3, 8, context).encoder
    expected, _ = encoder(graphs)
    torch.testing.assert_close(embed(encoder, graphs), expected.detach(), rtol=1e-10, atol=1e-12)


def test_rows_of_one_part_share_their_edges_and_every_row_comes_once(graphs):
    parts = list(same_edges(graphs, chunk=4))
    assert sorted(torch.cat(parts).tolist()) == list(range(len(graphs)))
    assert max(map(len, parts)) == 4
    for part in parts:
        assert (graphs.adjacency[part] == graphs.adjacency[part[0]]).all()
    assert len(parts) < len(graphs)


@pytest.mark.parametrize("context", ["sum", "none"])
def test_a_large_table_is_scored_as_a_small_one(graphs, context, monkeypatch):
    predictor = ArchitecturePredictor(6, 3, 8, context)
    twice = graphs[torch.cat([torch.arange(len(graphs)), torch.arange(3)])]
    small = model.score([predictor], [twice])[0]
    monkeypatch.setattr(model, "LARGE", 5)
    monkeypatch.setattr(model, "WORTH", 1)
    called = []
    monkeypatch.setattr(model, "embed", lambda *given: called.append(len(given[1])) or embed(*given))
    torch.testing.assert_close(model.score([predictor], [twice])[0], small, rtol=1e-10, atol=1e-12)
    assert called == [len(graphs)]


def test_a_large_table_whose_architectures_share_no_edges_is_scored_in_chunks(graphs, monkeypatch):
    predictor = ArchitecturePredictor(6, 3, 8, "sum")
    small = model.score([predictor], [graphs])[0]
    monkeypatch.setattr(model, "LARGE", 5)
    monkeypatch.setattr(model, "embed", None)
    assert len(graphs) < model.WORTH * len(list(same_edges(graphs)))
    assert torch.equal(model.score([predictor], [graphs])[0], small)


def test_any_number_of_threads_gives_the_same_bits_and_stays_what_it_was(graphs):
    encoder = ArchitecturePredictor(6, 3, 8, "sum").encoder
    before, found = torch.get_num_threads(), []
    try:
        for n_threads in (1, 2, 3):
            torch.set_num_threads(n_threads)
            found.append(embed(encoder, graphs, same_edges(graphs, chunk=2)))
            assert torch.get_num_threads() == n_threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize("large", [5, 50_000])
@pytest.mark.parametrize("context", ["sum", "concat"])
def test_half_the_precision_is_near_the_whole_and_does_not_stay(graphs, context, large, monkeypatch):
    predictor = ArchitecturePredictor(6, 3, 8, context).float()
    monkeypatch.setattr(model, "LARGE", large)
    monkeypatch.setattr(model, "WORTH", 1)
    whole, half = (model.score([predictor], [graphs], dtype=dtype)[0] for dtype in (None, torch.bfloat16))
    assert half.dtype == whole.dtype == torch.float32
    assert not torch.equal(half, whole)
    assert (half - whole).abs().max() < 0.05 * whole.abs().max()
    assert torch.equal(model.score([predictor], [graphs])[0], whole)
    assert len(half.unique()) == len(whole.unique())


def test_half_the_precision_is_for_the_gcn_alone():
    with pytest.raises(UserError, match="precision must be float32 with encoder='gin', got 'bfloat16'"):
        predictors.get("hypernas-p")(precision="bfloat16", encoder="gin")
    with pytest.raises(UserError, match="precision must be one of float32, bfloat16, got 'int8'"):
        predictors.get("hypernas-p")(precision="int8")


@pytest.mark.parametrize("context", ["sum", "concat", "position", "none"])
@pytest.mark.parametrize("name", ["nasbench101", "nasbench201", "mobilenetv3"])
def test_packed_cells_are_encoded_as_by_themselves(name, context):
    """21 architectures fill no whole number of blocks."""
    graphs = sampled(name, 21)
    encoder = ArchitecturePredictor(n_operations(graphs), 3, 8, context).encoder
    assert alike(graphs)
    torch.testing.assert_close(embed_packed(encoder, graphs), encoder(graphs)[0].detach(), rtol=1e-10, atol=1e-12)


def test_cells_of_more_nodes_than_a_block_stand_alone(architecture):
    graphs = collate([architecture(n_nodes=(70, 5)) for _ in range(3)])
    encoder = ArchitecturePredictor(5, 2, 8, "sum").encoder
    torch.testing.assert_close(embed_packed(encoder, graphs), encoder(graphs)[0].detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [None, torch.float32])
def test_another_device_scores_a_table_as_the_cpu_does(graphs, dtype, monkeypatch):
    """The packed way, which a GPU takes, in chunks that do not divide the table; here it is taken on the CPU."""
    predictor = ArchitecturePredictor(6, 3, 8, "sum")
    expected = model.score([predictor], [graphs])[0]
    found = model._score_alike(predictor, graphs, 7, dtype)
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, rtol=1e-10 if dtype is None else 1e-4, atol=1e-6)
    assert not alike(collate([spaces.get("nasbench201_depth").sample(np.random.default_rng(i)) for i in range(9)]))
