"""What every predictor promises, whatever its name; and the two engines of HyperNAS against each other."""

import inspect
from functools import cache

import numpy as np
import pytest
import torch

from hypernas import predictors, spaces
from hypernas.errors import UserError
from hypernas.graph import collate
from hypernas.lab.metrics import kendall_tau

SMALL = {"n_layers": 2, "width": 16, "hyper_width": 16, "image_batch": 16, "channels": 4, "cells_per_stage": 1}
SMALL |= {"hidden": 8, "n_blocks": 1, "d_model": 16, "d_head": 4, "d_inner": 16, "d_regressor": 8, "n_trees": 20}

# Closed forms: there is nothing that a seed could draw.
WITHOUT_DRAWS = ("ridge",)


@pytest.fixture(params=predictors.names())
def name(request):
    return request.param


def make(name, **settings):
    """The predictor in a small size, as far as it has these settings."""
    accepted = inspect.signature(predictors.get(name)).parameters
    chosen = {k: v for k, v in {"epochs": 1, **SMALL, **settings}.items() if k in accepted}
    return predictors.get(name)(**chosen)


def is_trained(name):
    """Whether it goes through epochs; others are fitted at once."""
    return "epochs" in inspect.signature(predictors.get(name)).parameters


def few(nasbench201, n, seed=0, graph_form="contracted"):
    train, _ = nasbench201.split(n, seed)
    return nasbench201.graphs(graph_form)[train], nasbench201.validation[train]


@pytest.fixture(scope="module")
def fitted(nasbench201):
    """A function name -> the predictor fitted to 12 architectures, shared by tests that only ask it."""

    @cache
    def fit(name):
        torch.manual_seed(1)
        return make(name, seed=3).fit(*few(nasbench201, 12))

    return fit


def test_hyperparameters_are_stored_unchanged(name):
    defaults = {p.name: p.default for p in inspect.signature(predictors.get(name)).parameters.values()}
    assert "seed" in defaults
    fresh = predictors.get(name)()
    assert fresh.settings() == defaults
    changed = make(name, epochs=7, seed=5).settings()
    assert (changed.get("epochs", 7), changed["seed"]) == (7, 5)


def test_fit_gives_the_predictor_and_predict_one_percent_an_architecture(name, nasbench201):
    graphs, accuracy = few(nasbench201, 12)
    predictor = make(name, epochs=2)
    assert predictor.fit(graphs, accuracy) is predictor
    predicted = predictor.predict(nasbench201.graphs("contracted")[:9])
    assert predicted.shape == (9,)
    assert predicted.dtype == torch.float32
    assert not predicted.requires_grad
    assert predicted.isfinite().all()
    assert isinstance(predictor.n_parameters, int)
    assert predictor.n_parameters > 0
    assert [row["epoch"] for row in predictor.history] == ([0, 1] if is_trained(name) else [])
    assert all(np.isfinite(list(row.values())).all() for row in predictor.history)


def test_the_same_seed_gives_the_same_bits(name, nasbench201, fitted):
    first = fitted(name)
    # The first was fitted after another seed for draws of others.
    torch.manual_seed(2)
    again, other = (make(name, seed=seed).fit(*few(nasbench201, 12)) for seed in (3, 4))
    predictions = [p.predict(nasbench201.graphs("contracted")[:20]).numpy().tobytes() for p in (first, again, other)]
    assert predictions[0] == predictions[1]
    assert first.history == again.history
    assert first.history != other.history or not is_trained(name)
    assert predictions[0] != predictions[2] or name in WITHOUT_DRAWS


def test_a_seed_also_draws_the_weights_that_training_starts_from(name, nasbench201):
    if not is_trained(name):
        pytest.skip("has no weights to start from")
    graphs, accuracy = few(nasbench201, 12)
    first, again, other = (make(name, epochs=0, seed=seed).fit(graphs, accuracy).predict(graphs) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_fitting_leaves_the_callers_generators_and_data_alone(name, nasbench201):
    graphs, accuracy = few(nasbench201, 12)
    before = accuracy.clone(), graphs.ops.clone()
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    make(name).fit(graphs, accuracy)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(accuracy, before[0])
    assert torch.equal(graphs.ops, before[1])


def test_of_six_labels_thirteen_of_fifteen_pairs_are_in_order_after_forty_epochs(name, nasbench201):
    if not make(name).predicts_accuracy:
        pytest.skip("learns no accuracies")
    graphs = nasbench201.graphs("contracted")[torch.arange(100, 13000, 2500)]
    accuracy = torch.tensor([84.0, 90.0, 86.0, 92.0, 88.0, 94.0])
    fitted = make(name, epochs=40, learning_rate=2e-2, accumulate=6, image_batch=2, dropout=0.0).fit(graphs, accuracy)
    # 13 pairs right and 2 wrong; a random order has at most two wrong in 20 of 720 cases.
    assert kendall_tau(fitted.predict(graphs), accuracy) >= 11 / 15 - 1e-9


def test_isomorphic_architectures_get_equal_predictions(name, nasbench201, twin, fitted):
    graphs, _ = few(nasbench201, 12)
    fitted = fitted(name)
    mixed = collate([twin(graphs.architecture(i)) for i in range(12)], graphs.space)
    assert not torch.equal(mixed.ops, graphs[:12].trimmed().ops)
    counted_images = not fitted.predicts_accuracy  # where a last bit can turn a tie between two classes
    assert torch.allclose(fitted.predict(mixed), fitted.predict(graphs), rtol=0, atol=1.0 * counted_images)


def test_padding_and_batch_mates_change_nothing(name, nasbench201, fitted):
    graphs, _ = few(nasbench201, 12)
    fitted = fitted(name)
    together = fitted.predict(graphs)
    alone = torch.cat([fitted.predict(graphs[i : i + 1].trimmed()) for i in range(12)])
    assert torch.allclose(alone, together, rtol=1e-5)


def test_diverged_runs_are_clipped_by_the_one_rule(name, nasbench201):
    """How far off a diverged label is does not matter to any predictor."""
    graphs, accuracy = few(nasbench201, 12)
    outcomes = []
    for diverged in (10.0, 0.1):
        labels = accuracy.clone()
        labels[labels.argmax()] = diverged
        outcomes.append(make(name).fit(graphs, labels).predict(graphs))
    assert torch.equal(*outcomes)


def test_seeds_fitted_together_are_each_as_fitted_alone(name, nasbench201):
    sets = [few(nasbench201, 12, seed) for seed in (0, 1)]
    accepted = inspect.signature(predictors.get(name)).parameters
    settings = {k: v for k, v in {"epochs": 1, **SMALL}.items() if k in accepted}
    together = predictors.fit_many(name, settings, [g for g, _ in sets], [a for _, a in sets], [5, 6])
    test = nasbench201.graphs("contracted")[:30]
    for fitted, seed, (graphs, accuracy) in zip(together, (5, 6), sets, strict=True):
        alone = make(name, seed=seed).fit(graphs, accuracy)
        # An accuracy of generated networks is a count of 256 images, and a near tie of two classes may fall either way.
        one_image = 0.0 if fitted.predicts_accuracy else 100 / 256
        assert torch.allclose(fitted.predict(test), alone.predict(test), rtol=1e-4, atol=one_image)
        assert fitted.n_parameters == alone.n_parameters
        assert [row.keys() for row in fitted.history] == [row.keys() for row in alone.history]


def test_a_stopped_fit_resumes_with_the_same_bits(name, nasbench201, tmp_path, monkeypatch):
    if "checkpoint" not in inspect.signature(predictors.get(name)).parameters:
        pytest.skip("has no checkpoint")
    graphs, accuracy = few(nasbench201, 12)
    straight = make(name, epochs=2).fit(graphs, accuracy)
    stopping, calls = make(name, epochs=2, checkpoint=tmp_path / "state"), []
    step = type(stopping).step

    def stopped(self, *arguments):
        calls.append(1)
        # The first of the two steps of the second epoch.
        if len(calls) == 3:
            raise KeyboardInterrupt
        return step(self, *arguments)

    monkeypatch.setattr(type(stopping), "step", stopped)
    with pytest.raises(KeyboardInterrupt):
        stopping.fit(graphs, accuracy)
    assert (tmp_path / "state").exists()
    resumed = make(name, epochs=2, checkpoint=tmp_path / "state").fit(graphs, accuracy)
    assert resumed.history == straight.history
    assert torch.equal(resumed.predict(graphs), straight.predict(graphs))
    with pytest.raises(UserError, match="same settings and data"):
        make(name, epochs=2, checkpoint=tmp_path / "state").fit(graphs, accuracy + torch.arange(12))


def test_what_cannot_be_fitted_is_a_user_error(name, nasbench201):
    graphs, accuracy = few(nasbench201, 12)
    with pytest.raises(UserError, match="at least 2 architectures"):
        make(name).fit(graphs[:1], accuracy[:1])
    with pytest.raises(UserError, match="one accuracy an architecture, got 11 for 12"):
        make(name).fit(graphs, accuracy[:11])
    with pytest.raises(UserError, match="finite"):
        make(name).fit(graphs, accuracy * float("nan"))
    with pytest.raises(UserError, match="fitted predictor; call fit"):
        make(name).predict(graphs)


@pytest.mark.parametrize(
    ("setting", "value"), [("epochs", -1), ("seed", -1), ("width", 0), ("channels", 0), ("accumulate", 0)]
)
def test_settings_out_of_range_are_a_user_error(name, setting, value):
    if setting not in inspect.signature(predictors.get(name)).parameters:
        pytest.skip("has no such setting")
    with pytest.raises(UserError, match=f"{setting} must be at least"):
        make(name, **{setting: value})


@pytest.mark.parametrize("q", [0, -1.0, float("nan")])
def test_a_wrong_q_is_a_user_error_before_anything_trains(q):
    with pytest.raises(UserError, match="q must be a finite number above 0"):
        predictors.get("hypernas")(q=q)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"loss": "l1"}, "loss must be one of mse, cubed, bce, got 'l1'"),
        ({"engine": "jit"}, "engine must be one of fast, plain"),
        ({"context": "mean"}, "context must be one of sum, concat, position, none"),
        ({"reading": "both"}, "reading must be one of printed, text"),
        ({"engine": "plain", "loss": "bce"}, "loss must be mse, the paper's, with engine='plain'"),
    ],
)
def test_a_wrong_choice_is_a_user_error(settings, words):
    with pytest.raises(UserError, match=words):
        predictors.get("hypernas")(**settings)


def test_an_unknown_method_is_a_user_error():
    with pytest.raises(UserError, match=r"method must be one of .*hypernas-p.* got 'gpt'"):
        predictors.get("gpt")


def test_images_that_cannot_be_halved_are_a_user_error(nasbench201):
    with pytest.raises(UserError, match="8 x 8 with stem_stride 4"):
        make("hypernas", stem_stride=4).fit(*few(nasbench201, 12))


def test_weights_cannot_be_generated_for_graphs_of_no_space(architecture):
    graphs = collate([architecture() for _ in range(4)])
    with pytest.raises(UserError, match="needs to know the search space"):
        make("hypernas").fit(graphs, torch.arange(4.0))
    assert make("hypernas-p").fit(graphs, torch.arange(4.0)).predict(graphs).shape == (4,)


@pytest.mark.parametrize("space", spaces.names())
@pytest.mark.parametrize("method", ["hypernas", "hypernas-h", "hypernas-p"])
def test_the_fast_engine_is_the_plain_one(method, space, double, rng):
    """Same seed, same draws of architectures and images, so the same losses; and the same order in the end."""
    space = spaces.get(space)
    graphs = collate([space.canonical(space.sample(rng)) for _ in range(8)], space)
    accuracy = torch.from_numpy(rng.normal(90, 2, 8))
    settings = {"epochs": 1, "seed": 2, "image_batch": 6, "accumulate": 4}
    fast, plain = (make(method, engine=engine, **settings).fit(graphs, accuracy) for engine in ("fast", "plain"))
    for ours, theirs in zip(fast.history, plain.history, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)
    scores = [p.predict(graphs) if method != "hypernas-h" else p.target_accuracies(graphs) for p in (fast, plain)]
    assert kendall_tau(*scores) >= 0.999


def test_the_plain_engine_trains_every_seed_with_a_checkpoint_of_its_own(nasbench201, tmp_path):
    sets = [few(nasbench201, 12, seed) for seed in (0, 1)]
    settings = {"engine": "plain", "epochs": 1, "n_layers": 2, "width": 16, "checkpoint": tmp_path / "state.pt"}
    fitted = predictors.fit_many("hypernas-p", settings, [g for g, _ in sets], [a for _, a in sets], [5, 6])
    alone = make("hypernas-p", seed=6, **settings).fit(*sets[1])
    assert torch.equal(fitted[1].predict(sets[1][0]), alone.predict(sets[1][0]))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["state-0.pt", "state-1.pt", "state.pt"]
    assert fitted[1].checkpoint == tmp_path / "state.pt"


def test_u_is_learned_unless_it_is_fixed(nasbench201):
    data = few(nasbench201, 12)
    assert not torch.equal(make("hypernas").fit(*data).model.loss.u, torch.ones(2))
    assert torch.equal(make("hypernas", learn_u=False).fit(*data).model.loss.u, torch.ones(2))


def test_the_history_of_hypernas_holds_both_losses_weights_and_the_accuracy_of_the_networks(nasbench201):
    history = make("hypernas", epochs=1).fit(*few(nasbench201, 12)).history
    assert set(history[0]) == {"epoch", "loss_pred", "loss_hyper", "weight_pred", "weight_hyper", "target_accuracy"}
    assert set(make("hypernas-p", epochs=1).fit(*few(nasbench201, 12)).history[0]) == {"epoch", "loss_pred"}


def test_generated_networks_learn_to_read_digits(nasbench201):
    """A tenth would be chance."""
    graphs, accuracy = few(nasbench201, 4)
    fitted = make("hypernas-h", epochs=30, image_batch=64, learning_rate=2e-2, channels=8).fit(graphs, accuracy)
    assert fitted.history[0]["target_accuracy"] < 25
    assert fitted.history[-1]["target_accuracy"] > 40
    assert fitted.predict(graphs).mean() > 40


def test_architectures_of_any_sequence_are_trained_and_predicted_by_both_engines(double, architecture):
    graphs = collate([architecture((0,) * (1 + i % 3)) for i in range(9)])
    fast, plain = (
        make("hypernas-p", engine=engine).fit(graphs, torch.arange(9.0)).predict(graphs) for engine in ("fast", "plain")
    )
    assert torch.allclose(fast, plain, atol=1e-8)
    assert make("np").fit(graphs, torch.arange(9.0)).predict(graphs).isfinite().all()


@pytest.mark.parametrize("context", ["sum", "concat", "position", "none"])
def test_nothing_of_a_training_step_stays_behind_on_the_cpu(context, nasbench201):
    """The device without memory, which computes with no other, stands in for a GPU."""
    graphs, _ = few(nasbench201, 4)
    model = make("hypernas", context=context).new_model(graphs)
    away = make("hypernas", context=context, device="meta")
    run = away.new_pass([model], [graphs])
    index, labels = torch.tensor([[0, 2, 1]]), torch.zeros(1, 4, device="meta")
    loss, log = away.step(run, labels, index, [np.random.default_rng(0)])
    loss.backward()
    assert {t.device.type for t in [loss, *log.values()]} == {"meta"}
    assert all(parameter.grad is not None for parameter in run.trained)


def test_variants_of_loss_and_images_train_together_as_each_alone(nasbench201, double):
    graphs, accuracy = few(nasbench201, 12)
    accuracy = accuracy.double()
    variants = [
        {"q": 1.5},
        {"q": 2.0, "learn_u": False, "images": "noise"},
        {"q": 1.25, "reading": "text", "n_images": 100},
    ]
    accepted = inspect.signature(predictors.get("hypernas")).parameters
    settings = {k: v for k, v in {"epochs": 1, **SMALL}.items() if k in accepted}
    together = predictors.fit_many("hypernas", settings, [graphs] * 3, [accuracy] * 3, [5, 6, 5], of_each=variants)
    for fitted, seed, own in zip(together, [5, 6, 5], variants, strict=True):
        alone = make("hypernas", seed=seed, **own).fit(graphs, accuracy)
        assert {name: fitted.settings()[name] for name in own} == own
        for ours, theirs in zip(fitted.model.parameters(), alone.model.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)
    assert torch.equal(together[1].model.loss.u, torch.ones(2))
    assert not torch.equal(together[0].model.loss.u, torch.ones(2))


def test_images_of_two_kinds_do_not_train_at_once(nasbench201):
    graphs, accuracy = few(nasbench201, 6)
    own = [{"images": "digits"}, {"images": "digits+noise"}]
    settings = {"epochs": 1, "n_layers": 1, "width": 8}
    rule = "images that train at once must have one size and number of classes"
    with pytest.raises(UserError, match=f"^{rule}, got digits, digits[+]noise$"):
        predictors.fit_many("hypernas", settings, [graphs] * 2, [accuracy] * 2, [0, 1], of_each=own)


def test_target_networks_in_half_the_precision_train_nearly_as_in_the_whole(nasbench201):
    graphs, accuracy = few(nasbench201, 12)
    whole, half = (make("hypernas", target_precision=of).fit(graphs, accuracy) for of in ("float32", "bfloat16"))
    assert half.history[-1] == pytest.approx(whole.history[-1], rel=0.2)
    assert half.history[-1]["loss_hyper"] != whole.history[-1]["loss_hyper"]
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.float32}
    with pytest.raises(UserError, match="target_precision must be float32 with engine='plain', got 'bfloat16'"):
        make("hypernas", target_precision="bfloat16", engine="plain")
    with pytest.raises(UserError, match="target_precision must be one of float32, bfloat16, got 'int8'"):
        make("hypernas", target_precision="int8")


@pytest.mark.parametrize(
    ("setting", "value", "rule"),
    [
        ("learning_rate", 0.0, "a finite number above 0"),
        ("learning_rate", float("nan"), "a finite number above 0"),
        ("weight_decay", -1e-3, "at least 0"),
        ("subsample", 1.5, "above 0 and at most 1"),
        ("image_batch", 1, "at least 2"),
        ("seed", 2**32, "from 0 to 4294967295"),
    ],
)
def test_settings_that_only_the_training_would_find_wrong_are_a_user_error(name, setting, value, rule):
    if setting not in inspect.signature(predictors.get(name)).parameters:
        pytest.skip("has no such setting")
    with pytest.raises(UserError, match=f"{setting} must be {rule}, got {value}"):
        predictors.get(name)(**{setting: value})


def test_settings_are_plain_types_from_the_start():
    q, epochs = np.linspace(1, 2, 3)[1], np.int64(7)
    settings = predictors.get("hypernas")(q=q, epochs=epochs, learn_u=np.bool_(False), learning_rate=1).settings()
    plain = {"q": 1.5, "epochs": 7, "learn_u": False, "learning_rate": 1.0}
    assert {key: (value, type(value)) for key, value in settings.items() if key in plain} == {
        key: (value, type(value)) for key, value in plain.items()
    }


@pytest.mark.parametrize(("name", "value"), [("epochs", 1.5), ("q", "high"), ("learn_u", 3), ("context", None)])
def test_a_setting_of_another_type_is_a_user_error(name, value):
    with pytest.raises(UserError, match=f"{name} must be .*, got {value!r}"):
        predictors.get("hypernas")(**{name: value})


@pytest.mark.parametrize("name", ["epochs", "width", "n_layers", "image_batch", "channels"])
def test_a_number_that_no_machine_could_hold_is_a_user_error(name):
    with pytest.raises(UserError, match=f"{name} must be at most [0-9,]+, got 1{'0' * 23}"):
        predictors.get("hypernas")(**{name: 10**23})


def test_a_device_is_named_or_given_as_an_object():
    assert predictors.get("np")(device=torch.device("cpu")).device == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("device", ["cuda", "gpu", "cuda:1", torch.device("cuda"), "tpu", 3])
def test_a_device_that_is_not_there_is_a_user_error(device):
    with pytest.raises(UserError, match=r"device must be one that this machine has \(cpu\), got"):
        predictors.get("np")(device=device)
