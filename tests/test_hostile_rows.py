"""What came from a row, a table or a file is text on every page, whatever it says: tried in a real browser."""

import shutil

import numpy as np
import pandas as pd
import pytest

from hypernas.graph import Architecture, Cell
from hypernas.lab import markup, pages
from hypernas.lab.claims import Claim, answers
from hypernas.lab.formats import plain
from hypernas.lab.summary import summary

pytest.importorskip("matplotlib")
pytest.importorskip("anywidget")

HOSTILE = "</script></style><img src=x onerror=\"window.hacked='yes'\"><script>window.hacked='yes'</script>"
MARKDOWN = "[x](javascript:window.hacked=1) | `a` **b** $x$ <img src=x onerror=window.hacked=1>"


@pytest.fixture
def rows():
    """Rows in which every text is markup, of two methods and five seeds."""
    rng = np.random.default_rng(0)
    texts = dict.fromkeys(("dataset", "graph_form", "source", "device", "version", "commit"), HOSTILE)
    return pd.DataFrame(
        [
            {"table": HOSTILE, "space": HOSTILE, "method": method, "n_train": size, "seed": seed, "profile": "standard"}
            | {"kendall_tau": rng.random(), "seconds": 1.0, "started": HOSTILE, "reading": HOSTILE, "q": 1.5}
            | texts
            for method in (HOSTILE, MARKDOWN)
            for size in (39, 78)
            for seed in range(5)
        ]
    )


@pytest.fixture
def fragments(rows, monkeypatch):
    """Everything that a page makes of rows: name -> HTML."""
    from hypernas import spaces
    from hypernas.lab import claims
    from hypernas.view import comparisons
    from hypernas.view.drawings import drawing
    from hypernas.view.style import Picture
    from hypernas.view.widgets import CellView, ParetoView, QExplorer

    claim = Claim("page", HOSTILE, HOSTILE, one={"method": HOSTILE}, other={"method": MARKDOWN})
    monkeypatch.setattr(claims, "claims", lambda: [claim])
    lines = answers(rows, "page")
    means = summary(rows, metrics=["kendall_tau"])
    space = spaces.get("nasbench201")
    cell = Architecture((Cell((0, 5, 1), ((0, 1, 0), (0, 0, 1), (0, 0, 0))),), (0,), HOSTILE)
    points = pd.DataFrame({HOSTILE: [1.0, 2.0], "accuracy": [1.0, 2.0], "name": [HOSTILE, MARKDOWN]})
    search = pd.DataFrame({"method": HOSTILE, "predictor": MARKDOWN, "first": 1.0, "queries": [1, 2], "n_random": 0})
    search = search.assign(mean=[1.0, 2.0], low=[0.5, 1.0], high=[1.5, 3.0], n_seeds=2)
    return {
        "verdict": pages.verdict_html(lines, HOSTILE),
        "claims": pages.claims_table(lines, linked=True),
        "sizes": pages.sizes_table(lines),
        "means": pages.means_table(means),
        "frame": pages.frame_table(rows),
        "provenance": pages.provenance(rows),
        "curves": Picture(comparisons.learning_curves(rows), HOSTILE)._repr_html_(),
        "strips": Picture(comparisons.paired_strips(lines), HOSTILE)._repr_html_(),
        "dumbbells": Picture(comparisons.dumbbells(comparisons.beside_paper(means)), HOSTILE)._repr_html_(),
        "front": Picture(comparisons.cost_front(means, "seconds", "kendall_tau_mean"), HOSTILE)._repr_html_(),
        "searches": Picture(comparisons.best_so_far(search), HOSTILE)._repr_html_(),
        "cell view": CellView([drawing(cell, space, HOSTILE)]).static_html(),
        "Pareto view": ParetoView(points, HOSTILE, "accuracy", title=HOSTILE).static_html(),
        "q explorer": QExplorer(rows, note=HOSTILE).static_html(),
    }


def test_a_value_is_text_in_html_in_markdown_and_in_a_formula():
    escaped = plain(HOSTILE) + plain(MARKDOWN)
    assert not set("<>|`*[]()$\\\"'") & set(escaped)


def test_a_markdown_table_of_hostile_cells_has_no_markup():
    markdown_it = pytest.importorskip("markdown_it")
    html = (
        markdown_it.MarkdownIt("commonmark", {"html": True})
        .enable("table")
        .render(markup.markdown_table(["a", MARKDOWN], [[HOSTILE, MARKDOWN], [MARKDOWN, HOSTILE]]))
    )
    assert html.count("<td>") == 4
    assert not any(tag in html for tag in ("<img", "<script", "<a ", "<strong", "<code"))


@pytest.mark.browser
def test_hostile_rows_stay_text_in_every_table_figure_and_view(fragments, tmp_path):
    webdriver = pytest.importorskip("selenium.webdriver")
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("chromium and its driver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        for name, html in fragments.items():
            page = tmp_path / "page.html"
            page.write_text(f"<!doctype html><meta charset=utf-8><main>{html}</main>", encoding="utf-8")
            browser.get(page.as_uri())
            hacked = browser.execute_script("return [window.hacked ?? null, document.images.length]")
            assert hacked == [None, 0], name
            text = browser.execute_script("return document.querySelector('main').textContent")
            assert "onerror" in text or "javascript:" in text, name
    finally:
        browser.quit()
