"""Claims about scoring: a table in chunks gives what the plain model gives each architecture."""

import numpy as np
import pytest
import torch

from hypernas import predictors, spaces
from hypernas.errors import UserError
from hypernas.fast import scoring
from hypernas.fast.scoring import score
from hypernas.graph import collate
from hypernas.method.encoder import CONTEXTS
from hypernas.method.hypernas import ArchitecturePredictor

SIZE = {"n_ops": 5, "n_layers": 3, "width": 6}


@pytest.mark.parametrize("context", CONTEXTS)
def test_scores_are_the_plain_model_s_for_any_mix_of_sequences_and_sizes(context, double, architecture):
    model = ArchitecturePredictor(**SIZE, context=context)
    sequences = [(0, 1, 0), (0, 0), (1, 0, 0, 1)]
    batch = collate([architecture(sequences[i % 3], (3 + i % 5, 3 + i % 2)) for i in range(12)])
    assert torch.allclose(score(model, batch, chunk=2), model(batch)[0], atol=1e-10)


def test_equal_functions_have_the_same_bits_of_score(architecture, twin):
    model = ArchitecturePredictor(**SIZE, context="sum")
    made = [architecture(n_nodes=(6, 4)) for _ in range(4)]
    scores = score(model, collate(made + [twin(a) for a in made]))
    assert torch.equal(scores[:4], scores[4:])
    assert len(scores.unique()) == 4


def test_chunks_are_full_and_the_sizes_of_their_networks_are_near(architecture, monkeypatch):
    """40 networks of as many lengths and sizes, in an order that mixes them, need three chunks of 16."""
    rng = np.random.default_rng(0)
    batch = collate([architecture((0, 1) * (1 + i % 4), (3 + i % 5, 4)) for i in rng.permutation(40)])
    parts = []
    encoder_pass = scoring.encoder_pass
    monkeypatch.setattr(scoring, "encoder_pass", lambda *given: parts.append(given[1][0]) or encoder_pass(*given))
    score(ArchitecturePredictor(**SIZE, context="sum"), batch, chunk=16)
    assert [len(part) for part in parts] == [16, 16, 8]
    assert [part.sequence.shape[1] for part in parts] == [4, 8, 8]


@pytest.mark.parametrize("context", ["sum", "concat"])
def test_half_the_precision_is_near_the_whole_and_does_not_stay(context, architecture):
    torch.manual_seed(0)
    model = ArchitecturePredictor(**SIZE, context=context)
    graphs = collate([architecture(n_nodes=(n, 4)) for n in (4, 5, 6, 7) for _ in range(4)])
    whole, half = (score(model, graphs, dtype=dtype) for dtype in (None, torch.bfloat16))
    assert half.dtype == whole.dtype == torch.float32
    assert not torch.equal(half, whole)
    assert (half - whole).abs().max() < 0.05 * whole.abs().max()
    assert torch.equal(score(model, graphs), whole)


def test_half_the_precision_is_for_the_gcn_alone():
    with pytest.raises(UserError, match="precision must be float32 with encoder='gin', got 'bfloat16'"):
        predictors.get("hypernas-p")(precision="bfloat16", encoder="gin")
    with pytest.raises(UserError, match="precision must be one of float32, bfloat16, got 'int8'"):
        predictors.get("hypernas-p")(precision="int8")


def test_an_operation_that_the_model_does_not_know_is_a_user_error(architecture):
    with pytest.raises(UserError, match="operations must be below 3"):
        score(ArchitecturePredictor(3, 1, 4, "sum"), collate([architecture(n_nodes=(9, 9))]))


def test_cells_of_nasbench101_are_scored_as_by_the_plain_model(double):
    """Cells of several sizes, some with the same edges, and a reduction that is smaller than its cell."""
    space, rng = spaces.get("nasbench101"), np.random.default_rng(0)
    graphs = collate([space.sample(rng) for _ in range(31)], space)
    model = ArchitecturePredictor(len(space.ops), 3, 8, "sum")
    torch.testing.assert_close(score(model, graphs, chunk=7), model(graphs)[0].detach(), rtol=1e-10, atol=1e-12)
