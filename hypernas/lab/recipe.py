"""What a command trains or scores: one kind of description, whose settings obey one table of ranges."""

from __future__ import annotations

from dataclasses import dataclass

from hypernas.training.settings import checked


@dataclass(frozen=True)
class Recipe:
    """Settings of jobs other than experiments: labelling a space, a full training, scoring untrained networks.

    A subclass adds its fields. Raise UserError if a value breaks the rule for its name in `settings.RULES`. None stands
    for a size that the space decides later.
    """

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None:
                checked(name, value)
