"""Optuna's tree-structured Parzen estimator (TPE) as a search method, to compare with. Needs `hypernas[optuna]`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hypernas.errors import UserError
from hypernas.graph import Architecture
from hypernas.search.domains import Candidate
from hypernas.search.methods import Task, Trials

# So many random notations hold every character of every place, for all spaces that we know.
SAMPLES = 300
Assignment = Mapping[str, Any]


def suggest(task: Task, trials: Trials) -> Candidate:
    """The architecture that TPE suggests after all answers, or a random one within the limits where it is outside."""
    try:
        import optuna
    except ImportError as error:
        raise UserError("the method tpe needs Optuna: pip install 'hypernas[optuna]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    choices, encode, decode = choices_of(task.domain.space)
    distributions = {name: optuna.distributions.CategoricalDistribution(values) for name, values in choices.items()}
    sampler = optuna.samplers.TPESampler(seed=int(task.rng.integers(2**31)))
    study = optuna.create_study(directions=["maximize"] * len(task.objectives), sampler=sampler)
    objectives = task.answered(trials.answers) if trials.answers else np.zeros((0, 1))
    for (candidate, _), values in zip(trials.answers, objectives.tolist(), strict=True):
        assignment = encode(task.domain.architecture(candidate))
        told = {name: distributions[name] for name in assignment}
        study.add_trial(optuna.create_trial(params=dict(assignment), distributions=told, values=values))
    candidate = task.domain.candidate(decode(study.ask(distributions).params))
    return candidate if task.fits(candidate) else task.draw()


def choices_of(
    space: Any,
) -> tuple[Mapping[str, Sequence[Any]], Callable[[Architecture], Assignment], Callable[[Assignment], Architecture]]:
    """The choices of a space by name, an architecture as an assignment of them, and the inverse.

    Those of a ChoiceSpace are its own; a notation of one length is a choice a character. UserError for other spaces.
    """
    if isinstance(getattr(space, "choices", None), Mapping):
        return space.choices, space.assignment, space.architecture
    rng = np.random.default_rng(0)
    notations = [space.sample(rng).notation for _ in range(SAMPLES)]
    if len({len(notation) for notation in notations}) > 1:
        raise UserError(f"tpe needs a space of choices, or of notations of one length, got {space.name}")
    characters = {f"place {i}": sorted(set(column)) for i, column in enumerate(zip(*notations, strict=True))}

    def encode(architecture: Architecture) -> Assignment:
        return dict(zip(characters, space.canonical(architecture, "raw").notation, strict=True))

    def decode(assignment: Assignment) -> Architecture:
        return space.parse("".join(assignment[name] for name in characters))

    return characters, encode, decode
