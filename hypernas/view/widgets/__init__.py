"""Views for pages and notebooks: cells, a cell to build, Pareto fronts, numbers of labels, the q dial.

Their inputs are only DataFrames, arrays and plain dicts.

Each view is an anywidget in a live notebook. From the same code, a static page gets a self-contained piece of HTML that
makes no network request. `hypernas.view.drawings` makes the dict that draws an architecture.
"""

from hypernas.view.widgets.builder import CellBuilder
from hypernas.view.widgets.cell import CellView
from hypernas.view.widgets.labels import HowManyLabels
from hypernas.view.widgets.pareto import ParetoView
from hypernas.view.widgets.q_explorer import QExplorer

__all__ = ["CellBuilder", "CellView", "HowManyLabels", "ParetoView", "QExplorer"]
