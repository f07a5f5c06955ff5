"""Views for pages and notebooks: cells, a cell to build, Pareto fronts, numbers of labels, the q dial.

They see only DataFrames, arrays and plain dicts.

Each view is an anywidget in a live notebook and, from the same code, a self-contained piece of HTML on a static page
that asks the network for nothing. A drawing of an architecture is the dict that `hypernas.view.drawings` makes.
"""

from hypernas.view.widgets.builder import CellBuilder
from hypernas.view.widgets.cell import CellView
from hypernas.view.widgets.labels import HowManyLabels
from hypernas.view.widgets.pareto import ParetoView
from hypernas.view.widgets.q_explorer import QExplorer

__all__ = ["CellBuilder", "CellView", "HowManyLabels", "ParetoView", "QExplorer"]
