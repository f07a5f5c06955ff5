"""The trial of the hypernetwork: each rule does to the encoder's gradient what it says."""

import numpy as np
import pytest
import torch

from hypernas import predictors, spaces
from hypernas.errors import UserError
from hypernas.fast.loss import adaptive_sum
from hypernas.graph import collate
from hypernas.predictors.hypernas import regression_loss
from hypernas.predictors.task_sharing import SHARING, projected, scaled

SMALL = {"n_layers": 2, "width": 8, "hyper_layers": 1, "hyper_width": 8, "image_batch": 4, "epochs": 2}
ENCODER = "predictor.encoder."


@pytest.fixture(autouse=True)
def in_float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def graphs():
    space = spaces.get("nasbench201")
    rng = np.random.default_rng(0)
    return collate([space.sample(rng) for _ in range(12)], space, "contracted")


def trained(method, graphs, **settings):
    accuracy = torch.linspace(80, 94, len(graphs))
    return predictors.fit_many(method, SMALL | settings, [graphs] * 2, [accuracy] * 2, [0, 1])[1].model.state_dict()


def differ(a, b):
    return {name for name in a if not torch.allclose(a[name], b[name], rtol=1e-7, atol=1e-9)}


def test_the_sum_is_the_paper_s_training(graphs):
    assert not differ(trained("hypernas", graphs), trained("hypernas-sharing", graphs, sharing="summed"))


def test_with_all_layers_apart_or_a_stopped_gradient_no_gcn_hears_the_hypernetwork(graphs):
    # The hypernetwork's own settings change what it would say, and must not reach the encoder.
    small, large = ({"hyper_width": width} for width in (8, 16))
    encoders = []
    for settings in (small, large):
        weights = trained("hypernas-sharing", graphs, sharing="stopped", learn_u=False, **settings)
        encoders.append({name: value for name, value in weights.items() if name.startswith(ENCODER)})
    # The encoder is drawn first, from the same seed.
    assert not differ(*encoders)
    layers = []
    for settings in (small, large):
        weights = trained("hypernas-sharing", graphs, apart=2, learn_u=False, epochs=1, accumulate=12, **settings)
        layers.append({name: value for name, value in weights.items() if ".gcn." in name and name.startswith(ENCODER)})
    assert not differ(*layers)


def test_cubed_error_is_what_the_adaptive_loss_makes_of_the_squared_one():
    predicted, label = torch.tensor([[0.5, -2.0, 1.0]]), torch.tensor([[1.5, 1.0, 1.0]])
    # q = 1.5 as printed; both weights are 1 / 2 at u = 1.
    summed = adaptive_sum([regression_loss("mse", predicted, label)], torch.ones(1, 1), 1.5)
    by_hand = regression_loss("cubed", predicted, label).mean() / 2 + np.log(2)
    assert summed.item() == pytest.approx(by_hand.item(), rel=1e-4)


def test_projection_leaves_no_part_against_the_other_task():
    prediction, generation = torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 1.0]])
    # By hand: (1, 0) loses its part along (-1, 1), that is (-.5, .5) times -1; (-1, 1) loses its part along (1, 0).
    assert torch.allclose(projected(prediction, generation), torch.tensor([[0.5, 0.5]]) + torch.tensor([[0.0, 1.0]]))
    # Gradients that agree are left as they are.
    assert torch.equal(projected(prediction, -generation), prediction - generation)


def test_scaled_gives_both_tasks_one_norm():
    prediction, generation = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 100.0]])
    assert torch.allclose(scaled(prediction, generation) - prediction, torch.tensor([[0.0, 5.0]]))


def test_a_start_from_weight_generation_is_another_encoder(graphs):
    plain = trained("hypernas-sharing", graphs, epochs=1)
    started = trained("hypernas-sharing", graphs, epochs=1, unlabelled=4, generation_epochs=1)
    assert any(name.startswith(ENCODER) for name in differ(plain, started))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sharing": "fair"}, f"sharing must be one of {', '.join(SHARING)}, got 'fair'"),
        ({"apart": 7}, "apart must be from 0 to 6, the GCN's layers, got 7"),
        ({"unlabelled": 1}, "unlabelled must be at least 2, or 0 for none, got 1"),
        ({"engine": "plain"}, "engine must be fast for hypernas-sharing"),
    ],
)
def test_what_cannot_be_is_refused(settings, words):
    with pytest.raises(UserError) as error:
        predictors.get("hypernas-sharing")(**settings)
    assert words in str(error.value)
