"""NAS-Bench-Macro again, as a dictionary of choices: no graph, no network."""

import numpy as np

from hypernas.data import Table
from hypernas.spaces import get
from hypernas.spaces.choice import ChoiceSpace

LAYERS = [f"layer{i}.block" for i in range(1, 9)]


class MacroChoices(ChoiceSpace):
    datasets = ("cifar10",)

    def table(self, dataset):
        """The labels of the graph space, each with the notation of this one."""
        table = get("nasbenchmacro").read(dataset)
        rows = [dict(zip(LAYERS, row, strict=True)) for row in table.columns["choices"].tolist()]
        columns = {"notation": np.array(rows)}
        return Table(table.source, table.kind, columns, table.validation, table.test)


space = MacroChoices({layer: [0, 1, 2] for layer in LAYERS}, name="macro_choices")
