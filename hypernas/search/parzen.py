"""Optuna's tree-structured Parzen estimator (TPE) as a search method for comparison. Needs `hypernas[optuna]`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hypernas.errors import UserError
from hypernas.graph import Architecture
from hypernas.search.domains import Candidate
from hypernas.search.methods import Task, Trials

# So many random notations hold every part of every place, for all spaces that we know.
SAMPLES = 300
# Of the cells of NAS-Bench-101 one in fourteen has a validation accuracy, so a search of the table asks some twenty
# times for one of them.
ATTEMPTS = 200
NOT_A_WORD = re.compile(r"(\W+)")
Assignment = Mapping[str, Any]


def suggest(task: Task, trials: Trials) -> Candidate:
    """Return the new architecture that TPE suggests given all answers, or a random one if none is within the limits."""
    try:
        import optuna
    except ImportError as error:
        raise UserError("the method tpe needs Optuna: pip install 'hypernas[optuna]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    choices, encode, decode = choices_of(task.domain.space)
    categorical = optuna.distributions.CategoricalDistribution
    distributions: dict[str, Any] = {name: categorical(values) for name, values in choices.items()}
    # A seed of Optuna has 31 bits.
    sampler = optuna.samplers.TPESampler(seed=int(task.rng.integers(2**31)))
    directions: Any = ["maximize"] * len(task.objectives)
    study = optuna.create_study(directions=directions, sampler=sampler)
    objectives = np.zeros((0, 1))
    if trials.answers:
        objectives = task.answered(trials.answers)
    # A search keeps no state between its questions, so all answers are told to a new study.
    for (candidate, _), values in zip(trials.answers, objectives.tolist(), strict=True):
        assignment = encode(task.domain.architecture(candidate))
        told = {name: distributions[name] for name in assignment}
        trial = optuna.create_trial(params=dict(assignment), distributions=told, values=values)
        study.add_trial(trial)
    for _ in range(ATTEMPTS):
        try:
            candidate = task.domain.candidate(decode(study.ask(distributions).params))
        except UserError:
            # Choices that are each possible may be no architecture together, or none of the table.
            continue
        # Several assignments may be one architecture, the small cells of NAS-Bench-101 above all.
        known = task.domain.keys([candidate])[0] in trials.taken
        if not known:
            return candidate if task.fits(candidate) else task.draw()
    return task.draw()


def choices_of(
    space: Any,
) -> tuple[Mapping[str, Sequence[Any]], Callable[[Architecture], Assignment], Callable[[Assignment], Architecture]]:
    """Return the choices of a space by name, a function from architecture to assignment, and its inverse.

    ChoiceSpace and NAS-Bench-101 have their own choices. In another space each word of a notation is one, or each
    character of a single word; all notations must have the same number of them. Raise UserError if they do not.
    """
    if isinstance(getattr(space, "choices", None), Mapping):
        return space.choices, space.assignment, space.architecture
    rng = np.random.default_rng(0)
    notations = [_parts(space.sample(rng).notation) for _ in range(SAMPLES)]
    if len({len(parts) for parts in notations}) > 1:
        raise UserError(f"tpe needs a space with a fixed number of choices, got {space.name}")
    columns = zip(*notations, strict=True)
    choices = {f"place {i}": sorted(set(column)) for i, column in enumerate(columns)}

    def encode(architecture: Architecture) -> Assignment:
        notation = space.canonical(architecture, "raw").notation
        return dict(zip(choices, _parts(notation), strict=True))

    def decode(assignment: Assignment) -> Architecture:
        return space.parse("".join(assignment[name] for name in choices))

    return choices, encode, decode


def _parts(notation: str) -> list[str]:
    """Split a notation into words and what separates them, a single word into its characters.

    >>> _parts("|none~0|+|skip_connect~0|")
    ['', '|', 'none', '~', '0', '|+|', 'skip_connect', '~', '0', '|', '']
    >>> _parts("2210")
    ['2', '2', '1', '0']
    """
    words = NOT_A_WORD.split(notation)
    return words if len(words) > 1 else list(notation)
