"""Views for pages and notebooks: cells, Pareto fronts and the q dial. They see only DataFrames and plain dicts.

Each view is an anywidget in a live notebook and, from the same code, a self-contained piece of HTML on a static page
that asks the network for nothing. A drawing of an architecture is the dict that `hypernas.view.drawings` makes.
"""

from hypernas.view.widgets.cell import CellView
from hypernas.view.widgets.pareto import ParetoView
from hypernas.view.widgets.q_explorer import QExplorer

__all__ = ["CellView", "ParetoView", "QExplorer"]
