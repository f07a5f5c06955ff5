"""The views of kept predictions in Chromium: a cell is built by clicks, labels are chosen by a slider."""

import re

import numpy as np
import pytest
from test_widgets_browser import HEAD, one, show, text

from hypernas import spaces
from hypernas.graph import Cell
from hypernas.spaces.edge_cells import EDGES, NONE, OPS, format_cell
from hypernas.view.drawings import colours
from hypernas.view.kept import told
from hypernas.view.widgets import CellBuilder, HowManyLabels
from hypernas.view.widgets.builder import packed, places
from hypernas.view.widgets.view import HERE

By = pytest.importorskip("selenium.webdriver.common.by").By
pytestmark = pytest.mark.xdist_group("widgets")
SPACE = spaces.get("nasbench201")
# What a figure of the page shows of its graph: operations in order, and the number of edges between any two.
SHOWN = """
const graph = document.querySelectorAll('.hn-form svg')[arguments[0]];
const nodes = [...graph.querySelectorAll('.hn-node')].map((node) => node.dataset.op);
const edges = [...graph.querySelectorAll('.hn-edge')].map((edge) =>
  [+edge.dataset.from, +edge.dataset.to, +(edge.querySelector('text')?.textContent.slice(1) ?? 1)]);
return [nodes, edges];
"""


def all_cells():
    return np.array(np.meshgrid(*[range(NONE, len(OPS))] * 6, indexing="ij")).reshape(6, -1).T


@pytest.fixture(scope="module")
def builder_page(tmp_path_factory):
    rng = np.random.default_rng(0)
    ops = rng.permutation(all_cells())
    accuracy = rng.uniform(80, 94, len(ops)).round(2)
    functions = SPACE.encode(ops, "contracted").function_ids()
    view = CellBuilder(np.array(OPS)[ops], accuracy, functions, {"perfect": accuracy}, colours(SPACE), EDGES)
    cells = np.arange(900)
    good = told(accuracy, accuracy, cells, cells[:9])
    runs = {"good": {10: good, 20: good}, "bad": {10: told(-accuracy, accuracy, cells, cells[:9])}}
    page = tmp_path_factory.mktemp("builder") / "page.html"
    body = view.static_html() + HowManyLabels(len(accuracy), good["places"], runs).static_html()
    page.write_text(f"{HEAD.format('light')}<body>{body}</body></html>", "utf-8")
    return page, ops, accuracy


def click_until(browser, edge, op):
    for _ in range(len(OPS)):
        button = browser.find_elements(By.CSS_SELECTOR, ".hn-edge-button")[edge]
        if op.replace("_", " ") in button.get_attribute("aria-label"):
            return
        browser.execute_script("arguments[0].dispatchEvent(new MouseEvent('click', {bubbles: true}))", button)
    raise AssertionError(f"no click shows {op}")


def shown(browser, form):
    nodes, edges = browser.execute_script(SHOWN, form)
    adjacency = np.zeros((len(nodes), len(nodes)), int)
    for i, j, count in edges:
        adjacency[i, j] = count
    return nodes, adjacency.tolist()


def in_python(ops, form):
    cell: Cell = SPACE.encode(ops[None], form).architecture(0).cells[0]
    return [OPS[op] for op in cell.ops], np.array(cell.adjacency).tolist()


@pytest.mark.browser
def test_the_three_graphs_of_a_built_cell_are_those_of_the_library(browser, builder_page):
    page, _, _ = builder_page
    show(browser, page.as_uri())
    rng = np.random.default_rng(1)
    cells = [*rng.permutation(all_cells())[:12], np.full(6, NONE), np.full(6, OPS.index("skip_connect"))]
    for ops in cells:
        for edge, op in enumerate(ops):
            click_until(browser, edge, OPS[op])
        for k, form in enumerate(("raw", "pruned", "contracted")):
            assert shown(browser, k) == in_python(ops, form), (ops, form)


@pytest.mark.browser
def test_a_built_cell_has_its_own_accuracy_place_and_notation(browser, builder_page):
    page, cells, accuracy = builder_page
    show(browser, page.as_uri())
    ops = cells[77]
    for edge, op in enumerate(ops):
        click_until(browser, edge, OPS[op])
    assert text(browser, ".hn-truth").startswith(f"{accuracy[77]:.2f} %")
    assert text(browser, ".hn-ranks tr:first-child td") == f"{places(accuracy)[77]:,}"
    assert text(browser, ".hn-notation") == format_cell(ops)


@pytest.mark.browser
def test_the_keyboard_builds_too_and_keeps_its_place(browser, builder_page):
    from selenium.webdriver.common.keys import Keys

    show(browser, builder_page[0].as_uri())
    button = browser.find_elements(By.CSS_SELECTOR, ".hn-edge-button")[2]
    before = button.get_attribute("aria-label")
    button.send_keys(Keys.ENTER)
    active = browser.switch_to.active_element
    assert active.get_attribute("aria-label").split(":")[0] == before.split(":")[0]
    assert active.get_attribute("aria-label") != before


@pytest.mark.browser
def test_the_slider_shows_another_number_of_labels(browser, builder_page):
    show(browser, builder_page[0].as_uri())
    labels = '[data-kind="labels"] '
    assert text(browser, labels + ".hn-tau") == "1.000"
    assert "10 labels" in text(browser, labels + ".hn-compared")
    one(browser, labels + 'button[title="next labels"]').click()
    assert "20 labels" in text(browser, labels + ".hn-compared")
    assert "no run with 20 labels" in text(browser, labels + ".hn-charts")


def test_regret_is_what_the_best_of_ten_first_choices_lacks():
    accuracy = np.arange(100.0)
    wrong = np.where(accuracy >= 90, -accuracy, accuracy)
    shown_run = told(wrong, accuracy, np.arange(100), np.arange(5))
    # The ten best cells are ranked last; the best of the ten first choices is cell 89, the best of all 99.
    assert shown_run["regret"] == 10
    assert told(accuracy, accuracy, np.arange(100), np.arange(5))["tau"] == 1


def test_a_builder_needs_every_cell_once():
    ops = np.array(OPS)[all_cells()[:-1]]
    n = len(ops)
    view = CellBuilder(ops, np.zeros(n), np.zeros(n, int), {}, colours(SPACE), EDGES)
    assert "each of the 15,625 cells must be there once, got 15,624" in view.data["sentence"]


def test_numbers_are_packed_in_two_bytes():
    assert packed(np.array([1, 258])) == "AQACAQ=="


def test_no_two_functions_of_the_views_share_a_name():
    """All files are one script: of two functions with one name the later would stand for both."""
    text = "\n".join(path.read_text("utf-8") for path in (HERE / "js").glob("*.js"))
    names = re.findall(r"^(?:async )?(?:function|const) (\w+)", text, re.MULTILINE)
    assert len(names) > 50
    assert sorted(names) == sorted(set(names))
