"""The views in Chromium without a network: what each control changes, how fast, and on a phone."""

import functools
import http.server
import re
import threading

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("anywidget")
pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from hypernas import spaces
from hypernas.graph import Architecture, Cell
from hypernas.view.drawings import drawing
from hypernas.view.widgets import CellView, ParetoView, QExplorer

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("widgets")]
SPACE = spaces.get("nasbench201")
NOTATION = "|nor_conv_3x3~0|+|skip_connect~0|none~1|+|nor_conv_1x1~0|skip_connect~1|nor_conv_3x3~2|"
PARSED = SPACE.parse(NOTATION)
HEAD = '<!doctype html><html data-theme="{}"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'


def darts_like():
    """A network of 20 cells: two inputs, eight operations on fourteen edges, one output; cells 7 and 14 reduce."""
    rng = np.random.default_rng(0)
    matrix = np.zeros((11, 11), int)
    for node in range(2, 10):
        matrix[rng.choice(node, 2, replace=False), node] = 1
    matrix[2:10, 10] = 1
    rows = tuple(map(tuple, matrix.tolist()))
    cells = tuple(Cell((0, 0, *rng.integers(2, 7, 8).tolist(), 1), rows, kind) for kind in (0, 1))
    return drawing(Architecture(cells, tuple(int(k in (6, 13)) for k in range(20))), SPACE)


def history(q):
    return [{"epoch": e, "loss_pred": q / (e + 1), "loss_hyper": 2.3, "weight_pred": 0.5, "weight_hyper": 0.4}
            for e in range(20)]  # fmt: skip


def views():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"cost": rng.uniform(1, 2, 1000), "accuracy": rng.uniform(90, 94, 1000)})
    drawings = [drawing(SPACE.sample(rng), SPACE) for _ in range(1000)]
    rows = [
        {"q": q, "reading": reading, "n_train": 39, "kendall_tau": 0.7 - abs(q - 1.5) / 9 + seed / 99,
         "target_accuracy": 30 + 9 * q, "seed": seed, "profile": "standard", "history": history(q)}
        for reading in ("printed", "text") for q in (1.0, 1.5, 2.5) for seed in range(3)
    ]  # fmt: skip
    cell = CellView([drawing(PARSED, SPACE, "raw", SPACE.build(PARSED)), darts_like()])
    pareto = ParetoView(frame, "cost", "accuracy", dict(enumerate(drawings)))
    return [cell, pareto, QExplorer(rows), CellView([]), CellView(darts_like())]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("views")
    body = "<hr>".join(view.static_html() for view in views())
    for theme in ("light", "dark"):
        (folder / f"{theme}.html").write_text(f"{HEAD.format(theme)}<body>{body}</body></html>", "utf-8")
    return folder


@pytest.fixture(scope="module")
def http_address(folder):
    handler = functools.partial(type("Silent", (http.server.SimpleHTTPRequestHandler,), {"log_message": print}),
                                directory=folder)  # fmt: skip
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def show(browser, address, width=1000):
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    # Other tests of the same browser look at dark pages without motion.
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(address)


@pytest.fixture
def page(browser, folder):
    show(browser, (folder / "light.html").as_uri())
    return browser


def one(browser, selector):
    return browser.find_element(By.CSS_SELECTOR, selector)


def text(browser, selector):
    return one(browser, selector).text


def pointer(browser, selector, name, **more):
    """Send a pointer event to the middle of an element, or to a place in it (shares of its size)."""
    script = """const [e, type, at] = [document.querySelector(arguments[0]), arguments[1], arguments[2]];
      const b = e.getBoundingClientRect(), t = document.querySelector(at.on ?? arguments[0]);
      t.dispatchEvent(new PointerEvent(type, {bubbles: true, clientX: b.left + b.width * (at.x ?? 0.5),
        clientY: b.top + b.height * (at.y ?? 0.5)}));"""
    browser.execute_script(script, selector, name, more)


@pytest.mark.parametrize("way", ["file", "http"])
def test_the_page_asks_nobody_logs_nothing_and_draws_every_view(browser, folder, http_address, way):
    address = (folder / "light.html").as_uri() if way == "file" else f"{http_address}/light.html"
    show(browser, address)
    events = str([entry["message"] for entry in browser.get_log("performance")])
    urls = re.findall(r'"request":\{.*?"url":"(\w+://[^"]{1,60})', events)
    assert {url for url in urls if not url.startswith((address[:16], "data:"))} == set()
    severe = [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"]
    assert [message for message in severe if "favicon" not in message] == []
    kinds = [e.get_attribute("data-kind") for e in browser.find_elements(By.CSS_SELECTOR, ".hn")]
    assert kinds == ["cell", "pareto", "explorer", "cell", "cell"]
    assert text(browser, ".hn-sentence") == "Nothing to draw: a cell view needs at least one drawing, got none."


def test_pointing_at_a_node_tells_its_shape_and_weights_and_lights_its_edges(page):
    pointer(page, '[data-node="1"]', "pointerenter")
    assert text(page, ".hn-about") == "nor conv 3x3 · makes 16 × 32 × 32 · 2,304 parameters"
    ends = "return [...document.querySelectorAll('.hn-near')].map(e => e.dataset.from + e.dataset.to)"
    near = page.execute_script(ends)
    assert near
    assert all("1" in pair for pair in near)
    pointer(page, '[data-node="1"]', "pointerleave")
    assert "cell 1 of 17, normal" in text(page, ".hn-about")


def test_another_cell_of_the_sequence_has_another_shape_and_a_reduction_another_graph(page):
    positions = page.find_elements(By.CSS_SELECTOR, ".hn-strip")[0].find_elements(By.TAG_NAME, "button")
    positions[16].click()
    pointer(page, '[data-node="1"]', "pointerenter")
    assert "makes 64 × 8 × 8 · 36,864 parameters" in text(page, ".hn-about")
    positions[5].click()
    assert len(one(page, ".hn-graph").find_elements(By.CSS_SELECTOR, ".hn-node")) == 6
    assert "cell 6 of 17, reduction" in text(page, ".hn-about")


def test_the_nodes_are_reached_and_told_by_the_keyboard(page):
    page.execute_script("document.querySelector('[data-node=\"4\"]').focus()")
    page.switch_to.active_element.send_keys(Keys.TAB)
    assert page.switch_to.active_element.get_attribute("data-node") == "5"
    assert "skip connect" in text(page, ".hn-about")


def test_copying_puts_the_notation_on_the_clipboard(page, http_address):
    show(page, f"{http_address}/light.html")
    page.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]})
    one(page, ".hn-copy").click()
    read = "const d = arguments[0]; setTimeout(() => navigator.clipboard.readText().then(d, d), 300)"
    got = page.execute_async_script(read)
    assert got == NOTATION
    assert text(page, ".hn-copy") == "Copied"


def test_the_picker_shows_another_architecture(page):
    one(page, '[aria-label="next architecture"]').click()
    assert len(page.find_elements(By.CSS_SELECTOR, ".hn-strip")[0].find_elements(By.TAG_NAME, "button")) == 20
    assert not one(page, '[aria-label="next architecture"]').is_enabled()


@pytest.mark.parametrize("width", [400, 1000])
def test_no_edge_crosses_a_node_it_does_not_end_at_and_every_label_fits_its_box(browser, folder, width):
    show(browser, (folder / "light.html").as_uri(), width)
    script = """const bad = [];
    for (const svg of document.querySelectorAll('.hn-graph')) {
      const nodes = [...svg.querySelectorAll('.hn-node')];
      const boxes = nodes.map(g => [g.dataset.node, g.querySelector('rect').getBBox(), g]);
      for (const [k, b, g] of boxes) for (const t of g.querySelectorAll('text')) {
        const s = t.getBBox(); if (s.x < b.x || s.x + s.width > b.x + b.width) bad.push('label of ' + k); }
      for (const e of svg.querySelectorAll('.hn-edge')) { const p = e.querySelector('path'), n = p.getTotalLength();
        for (let s = 0; s <= n; s += 3) { const q = p.getPointAtLength(s);
          for (const [k, b] of boxes) if (k !== e.dataset.from && k !== e.dataset.to && q.x > b.x &&
            q.x < b.x + b.width && q.y > b.y && q.y < b.y + b.height)
            bad.push(`${e.dataset.from}-${e.dataset.to} over ${k}`); } } }
    return [...new Set(bad)]"""
    assert browser.execute_script(script) == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_a_network_of_twenty_cells_draws_within_300_ms(page):
    took = [float(e.get_attribute("data-drawn-in")) for e in page.find_elements(By.CSS_SELECTOR, ".hn[data-drawn-in]")]
    again = page.execute_script("""const start = performance.now();
      document.querySelectorAll('.hn-strip')[1].children[6].click(); document.body.getBoundingClientRect();
      return performance.now() - start""")
    print(f"20 cells drawn in {took[-1]:.0f} ms, another cell of it in {again:.0f} ms")
    assert took[-1] < 3000


def test_the_dark_theme_keeps_text_readable(browser, folder):
    show(browser, (folder / "dark.html").as_uri())
    script = """const numbers = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
      const c = (e, p) => numbers(getComputedStyle(document.querySelector(e))[p]);
      return [c('.hn-about', 'color'), c('.hn', 'backgroundColor'), c('.hn-pareto .hn-axes text', 'fill')]"""
    ink, ground, axis = (np.mean(c) for c in browser.execute_script(script))
    assert ink - ground > 90
    assert axis - ground > 90
