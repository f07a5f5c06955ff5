"""A sampler for Optuna studies that suggests what a search method of this library would propose."""

from __future__ import annotations

from typing import Any

from hypernas.errors import UserError
from hypernas.search.ask_tell import Search
from hypernas.search.parzen import choices_of

# A study says itself when it ends; a search only has to know that it is not over.
ENDLESS = 10**9


def sampler(space: Any, method: str = "bayesian", seed: int = 0, **settings: Any) -> Any:
    """Return a sampler for `optuna.create_study(sampler=sampler(space))` over the choices of a ChoiceSpace.

    Trials must suggest the choices by their names; other parameters are drawn at random. Only the first of several
    objectives counts. Raise UserError if Optuna is not installed or the space has no choices.
    """
    try:
        import optuna
    except ImportError as error:
        raise UserError("a sampler for Optuna needs it: pip install 'hypernas[optuna]'") from error
    search = Search(space, method=method, queries=ENDLESS, seed=seed, **settings)
    choices, encode, decode = choices_of(search.domain.space)
    others = optuna.samplers.RandomSampler(seed)
    over = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL, optuna.trial.TrialState.PRUNED)
    told: set[int] = set()

    class GraphSampler(optuna.samplers.BaseSampler):
        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
            return {name: optuna.distributions.CategoricalDistribution(values) for name, values in choices.items()}

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
            for one in study.get_trials(deepcopy=False, states=over):
                if one.number not in told:
                    told.add(one.number)
                    self.learn(study, one)
            asked = search.ask(1)
            return dict(encode(asked[0])) if asked else {}

        def learn(self, study: Any, trial: Any) -> None:
            """Tell the search of a trial that is over; one whose choices are no architecture teaches nothing."""
            try:
                architecture = decode({name: value for name, value in trial.params.items() if name in choices})
            except (KeyError, UserError):
                return
            if trial.state != optuna.trial.TrialState.COMPLETE:
                search.tell(architecture, failed=trial.state.name)
                return
            maximise = study.directions[0] == optuna.study.StudyDirection.MAXIMIZE
            search.tell(architecture, accuracy=trial.values[0] if maximise else -trial.values[0])

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            return others.sample_independent(study, trial, param_name, param_distribution)

    return GraphSampler()
