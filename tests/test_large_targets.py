"""Claims about target networks too large to be made whole by a head: their weights are tiled."""

import pytest
import torch

from hypernas import predictors


def test_with_a_limit_the_hypernetwork_stays_as_large_as_it_is(nasbench201):
    graphs, accuracy = nasbench201.graphs("contracted")[:4], torch.arange(4.0)
    settings = {"epochs": 1, "n_layers": 1, "width": 8, "image_batch": 4}
    sizes = []
    for channels in (8, 16):
        fitted = predictors.get("hypernas")(**settings, channels=channels, c_max=4).fit(graphs, accuracy)
        (size,) = {head.weight.shape[0] for k, head in fitted.model.hypernetwork.heads.items() if k == "3"}
        sizes.append(size)
    assert sizes == [4 * 4 * 9] * 2


def test_tiled_heads_are_the_same_in_both_engines(nasbench201, double):
    graphs, accuracy = nasbench201.graphs("contracted")[:6], torch.arange(6.0)
    settings = {"epochs": 2, "n_layers": 2, "width": 8, "image_batch": 8, "c_max": 3}
    method = predictors.get("hypernas")
    fast, plain = (method(**settings, engine=engine).fit(graphs, accuracy).history for engine in ("fast", "plain"))
    for ours, theirs in zip(fast, plain, strict=True):
        assert ours["loss_hyper"] == pytest.approx(theirs["loss_hyper"], rel=1e-9)
