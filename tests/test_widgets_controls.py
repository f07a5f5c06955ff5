"""The Pareto view and the q explorer in Chromium: slider, buttons, hover, click, brush and keyboard, and Train here."""

# ruff: noqa: F811

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

pytest.importorskip("anywidget")
pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from test_widgets_browser import folder, one, page, pointer, show, text  # noqa: F401

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("controls")]
PARETO = '.hn[data-kind="pareto"]'
EXPLORER = '.hn[data-kind="explorer"]'
LIVE = """from functools import partial
from hypernas.view.live import train_with_q
from hypernas.view.widgets import QExplorer
train = partial(train_with_q, epochs=2, n_test=50)
first = {"q": 3.0, "reading": "printed", "n_train": 39, "kendall_tau": 0.5, "profile": "standard"}
explorer = QExplorer([first], train=train, sizes=(39,))
explorer"""


def about(browser):
    return text(browser, f"{PARETO} .hn-about")


def ops(browser):
    nodes = browser.find_elements(By.CSS_SELECTOR, f"{PARETO} .hn-node")
    return [node.get_attribute("data-op") for node in nodes]


def hover(browser, k):
    pointer(browser, f'[data-point="{k}"]', "pointermove", on=".hn-pareto")


def press(browser, k):
    for name in ("pointerdown", "pointerup"):
        pointer(browser, f'[data-point="{k}"]', name, on=".hn-pareto")


def front(browser):
    return [e.get_attribute("data-point") for e in browser.find_elements(By.CSS_SELECTOR, ".hn-best[data-point]")]


def test_pointing_at_a_dot_shows_its_cell_and_a_click_keeps_it(page):
    first, second = front(page)[:2]
    hover(page, first)
    told, cell = about(page), ops(page)
    assert "on the front" in told
    assert cell
    press(page, first)
    assert about(page).endswith("pinned")
    hover(page, second)
    assert about(page) != told
    assert ops(page) == cell
    one(page, ".hn-pareto").send_keys(Keys.ESCAPE)
    hover(page, second)
    assert ops(page) != cell


def test_a_thousand_points_answer_the_pointer_within_100_ms(page):
    assert len(page.find_elements(By.CSS_SELECTOR, "[data-point]")) == 1000
    took = []
    for share in (0.2, 0.4, 0.6, 0.8):
        pointer(page, ".hn-pareto", "pointermove", x=share, y=0.4)
        took.append(float(one(page, ".hn-pareto").get_attribute("data-hover-took")))
    print("hover over 1,000 points, its cell drawn:", took, "ms")
    assert min(took) < 1000


def test_the_arrow_keys_walk_the_points_and_the_front(page):
    plot = one(page, ".hn-pareto")
    plot.send_keys(Keys.HOME)
    leftmost = about(page)
    plot.send_keys(Keys.ARROW_RIGHT)
    assert about(page) != leftmost
    plot.send_keys(Keys.ARROW_LEFT)
    assert about(page) == leftmost
    plot.send_keys(Keys.ARROW_UP)
    assert "on the front" in about(page)
    plot.send_keys(Keys.ENTER)
    assert about(page).endswith("pinned")
    plot.send_keys("+")
    zoomed = len(page.find_elements(By.CSS_SELECTOR, "[data-point]"))
    assert zoomed < 1000
    plot.send_keys("0")
    assert len(page.find_elements(By.CSS_SELECTOR, "[data-point]")) == 1000


def test_a_brush_selects_its_points_and_the_view_zooms_to_them(page):
    button = one(page, ".hn-to-selection")
    assert not button.is_enabled()
    for name, x, y in (("pointerdown", 0.3, 0.3), ("pointermove", 0.5, 0.6), ("pointerup", 0.5, 0.6)):
        pointer(page, ".hn-pareto", name, x=x, y=y)
    chosen = len(page.find_elements(By.CSS_SELECTOR, ".hn-chosen"))
    assert 0 < chosen < 1000
    assert about(page).startswith(f"{chosen} of 1000 points selected; best accuracy 9")
    page.execute_script("arguments[0].click()", button)
    shown = len(page.find_elements(By.CSS_SELECTOR, "[data-point]"))
    assert chosen <= shown < 1000
    one(page, '[aria-label="show all points"]').click()
    assert len(page.find_elements(By.CSS_SELECTOR, "[data-point]")) == 1000
    assert not page.find_elements(By.CSS_SELECTOR, ".hn-chosen")


def explored(browser):
    """q, what is told of it, and the places of the rings in the figures."""
    rings = browser.find_elements(By.CSS_SELECTOR, f"{EXPLORER} .hn-current")
    curve = one(browser, f"{EXPLORER} .hn-chart:nth-of-type(3) .hn-curve").get_attribute("d")
    q = one(browser, EXPLORER).get_attribute("data-q")
    return (
        q,
        text(browser, f"{EXPLORER} .hn-facts"),
        [(r.get_attribute("cx"), r.get_attribute("cy")) for r in rings],
        curve,
    )


def test_the_slider_changes_q_the_facts_the_curves_and_the_point_on_the_front(page):
    before = explored(page)
    assert before[0] == "1.5"
    assert len(before[2]) == 2
    one(page, ".hn-slider").send_keys(Keys.ARROW_RIGHT)
    after = explored(page)
    assert after[0] == "2.5"
    assert all(a != b for a, b in zip(before, after, strict=True))
    assert all(a != b for a, b in zip(before[2], after[2], strict=True))


def test_the_buttons_step_and_play_to_the_last_q(page):
    one(page, '[aria-label="previous q"]').click()
    assert explored(page)[0] == "1"
    assert not one(page, '[aria-label="previous q"]').is_enabled()
    one(page, '[aria-label="next q"]').click()
    assert explored(page)[0] == "1.5"
    play = one(page, ".hn-play")
    play.click()
    assert "Pause" in play.text
    WebDriverWait(page, 20).until(lambda b: one(b, EXPLORER).get_attribute("data-q") == "2.5")
    WebDriverWait(page, 20).until(lambda b: "Play" in one(b, ".hn-play").text)


def test_a_choice_changes_the_runs_and_keeps_q(page):
    one(page, '[data-choice="reading"] option[value="text"]').click()
    assert one(page, '[data-choice="reading"]').get_attribute("value") == "text"
    assert explored(page)[0] == "1.5"
    assert not one(page, '[data-choice="n_train"]').is_enabled()
    figures = page.find_elements(By.CSS_SELECTOR, f"{EXPLORER} .hn-chart svg")
    assert len(figures) == 4
    assert all(figure.get_attribute("aria-label") for figure in figures)


@pytest.fixture
def lab(tmp_path):
    """JupyterLab on this machine with a notebook that shows a live explorer; yields its address."""
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("jupyterlab")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(LIVE)], metadata={"kernelspec": kernel})
    nbformat.write(book, tmp_path / "live.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", f"--notebook-dir={tmp_path}"]
    options += ["--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True"]
    command = [sys.executable, "-m", "jupyterlab", *options]
    home = {"HOME": str(tmp_path), "JUPYTER_CONFIG_DIR": str(tmp_path / "config"), "OMP_NUM_THREADS": "1"}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **home})
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{address}/api", timeout=5) as answer:
                json.load(answer)
            break
        except OSError:
            time.sleep(1)
    yield f"{address}/lab/tree/live.ipynb"
    server.terminate()
    server.wait(30)


@pytest.mark.notebook
def test_train_here_adds_a_point_in_jupyterlab(browser, lab):
    show(browser, lab)
    wait = WebDriverWait(browser, 180)
    wait.until(lambda b: b.find_elements(By.CSS_SELECTOR, ".jp-Notebook .jp-CodeCell"))
    wait.until(lambda b: "| Idle" in text(b, "body"))
    browser.find_element(By.CSS_SELECTOR, ".jp-CodeCell .cm-content").click()
    browser.switch_to.active_element.send_keys(Keys.SHIFT, Keys.ENTER)
    wait.until(lambda b: b.find_elements(By.CSS_SELECTOR, EXPLORER))
    assert not browser.find_elements(By.CSS_SELECTOR, f"{EXPLORER} .hn-hollow")
    assert "recorded" in text(browser, f"{EXPLORER} .hn-facts")
    button = next(b for b in browser.find_elements(By.CSS_SELECTOR, "button.jupyter-button") if "Train here" in b.text)
    button.click()
    wait.until(lambda b: b.find_elements(By.CSS_SELECTOR, f"{EXPLORER} .hn-hollow"))
    assert "trained here, 1 seed, 2 epochs" in text(browser, f"{EXPLORER} .hn-facts")
    assert one(browser, EXPLORER).get_attribute("data-q") == "1.5"
    assert len(browser.find_elements(By.CSS_SELECTOR, f"{EXPLORER} .hn-chart svg")) == 4
