"""Claims about the sampler for Optuna's studies."""

import pytest

from hypernas.search.optuna_sampler import sampler
from hypernas.spaces.choice import ChoiceSpace

optuna = pytest.importorskip("optuna")
CHOICES = {"a.kernel": [3, 5, 7], "a.width": [8, 16, 32], "a.depth": [1, 2, 3], "b.kernel": [3, 5]}


def studied(n_trials, objective, direction="maximize", **settings):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = ChoiceSpace(CHOICES, name="studied")
    study = optuna.create_study(direction=direction, sampler=sampler(space, seed=100, **settings))
    study.optimize(objective, n_trials=n_trials, catch=(RuntimeError,))
    return study


def cost(trial):
    chosen = {name: trial.suggest_categorical(name, values) for name, values in CHOICES.items()}
    return abs(chosen["a.kernel"] - 5) + abs(chosen["a.width"] - 16) / 8 + abs(chosen["a.depth"] - 3)


def test_a_study_tries_nothing_twice_and_finds_the_least_cost():
    study = studied(24, cost, "minimize", first=10, parents=4, fresh=30)
    tried = [tuple(trial.params.values()) for trial in study.trials]
    assert len(set(tried)) == 24
    assert study.best_value == 0


def test_a_failed_trial_is_not_tried_again_and_what_is_no_choice_is_drawn():
    def breaks(trial):
        assert 0 <= trial.suggest_float("rate", 0, 1) <= 1
        value = cost(trial)
        if trial.number == 2:
            raise RuntimeError("out of memory")
        return -value

    study = studied(8, breaks, method="random")
    assert [trial.state.name for trial in study.trials].count("FAIL") == 1
    tried = [tuple(trial.params[name] for name in CHOICES) for trial in study.trials]
    assert len(set(tried)) == 8
