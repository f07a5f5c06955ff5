"""Claims about every page of the built book in a real browser with no network: it asks nobody, logs nothing, fits."""

import functools
import http.server
import re
import threading
from pathlib import Path
from typing import NamedTuple

import pytest
from test_book import BOOK, look, show

from hypernas.lab.pages import wording

SITE = BOOK / "_build" / "html"
PAGES = sorted(
    page.relative_to(SITE).as_posix() for page in SITE.rglob("*.html") if not {"_static", "_sources"} & {*page.parts}
)
# All tests of a page run in one process, so that they can share what is loaded.
GROUPED = [pytest.param(page, marks=pytest.mark.xdist_group(page)) for page in PAGES]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (SITE / "index.html").is_file(), reason="the book is not built: make book"),
]
KILOBYTES = 400
SCREEN, PHONE = 1400, 400
WORDLESS = """
return [...document.querySelectorAll('main img, main svg[role=img]:not([aria-hidden=true])')]
  .filter(e => !(e.getAttribute('alt') || e.getAttribute('aria-label') || e.querySelector?.('title')))
  .map(e => e.outerHTML.slice(0, 120))
"""


@pytest.fixture(scope="module")
def address():
    """The book over http."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=SITE))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class Address(str):
    """A page by its address, as `show` takes a path."""

    def as_uri(self):
        return str(self)


class Shown(NamedTuple):
    """A loaded page: its name, the addresses that it asked of other hosts, and the errors of its scripts."""

    page: str
    urls: list[str]
    errors: list[str]


@pytest.fixture(scope="module", params=GROUPED)
def on_screen(browser, request):
    """Each page, loaded once from its file on a screen; a test may change the theme, and nothing else."""
    return Shown(request.param, *show(browser, SITE / request.param, width=SCREEN))


@pytest.fixture(scope="module", params=GROUPED)
def on_phone(browser, address, request):
    """Each page, loaded once over http on a phone; a test may change the theme, and nothing else."""
    return Shown(request.param, *show(browser, Address(f"{address}/{request.param}"), width=PHONE))


def test_a_built_page_asks_nobody_logs_nothing_and_has_words_for_its_figures(browser, on_screen):
    assert on_screen[1:] == ([], [])
    assert browser.execute_script(WORDLESS) == []


def test_a_built_page_served_over_http_asks_nobody_else_and_fits_a_phone(browser, address, on_phone):
    assert [url for url in on_phone.urls if not url.startswith(address)] == on_phone.errors == []
    assert browser.execute_script("return document.documentElement.scrollWidth - window.innerWidth") <= 0


def weight(page):
    """Kilobytes of a page and of the figures that it shows; the theme's files are not its own."""
    shown = set(re.findall(r'(?:src|data)="([^"]*_images/[^"?]*)', page.read_text(encoding="utf-8")))
    return (page.stat().st_size + sum((page.parent / name).stat().st_size for name in shown)) / 1000


def test_no_page_is_heavy():
    assert {page: size for page in PAGES if (size := weight(SITE / page)) > KILOBYTES} == {}


# Pages whose question is answered by a verdict; on the others the lesson or the view is the answer.
VERDICTS = [f"notebooks/{name}.html" for name in wording()["pages"]]
OUT_OF_SIGHT = """
return [...document.querySelectorAll('.hn-scroll')]
  .filter((box) => box.scrollWidth > box.clientWidth + 2)
  .map((box) => box.textContent.slice(0, 60))
"""
OPEN_CODE = "return document.querySelectorAll('div.cell.tag_hide-input > details[open]').length"
COLOURS = """
const shown = document.querySelector('.hn-verdict p:last-child');
const ground = getComputedStyle(document.querySelector('.hn-verdict')).backgroundColor;
return [getComputedStyle(shown).color, ground];
"""


def test_the_verdict_is_in_the_first_screen_and_no_column_is_out_of_sight(browser, on_screen):
    if on_screen.page in VERDICTS:
        bottom = browser.execute_script("return document.querySelector('.hn-verdict').getBoundingClientRect().bottom")
        assert bottom < 900
    assert browser.execute_script(OUT_OF_SIGHT) == []
    assert browser.execute_script(OPEN_CODE) == 0


# What a reader with one minute asks, in the order of the front page, and words of the sentence that answers it.
QUESTIONS = {
    "Does the hypernetwork help?": "The hypernetwork does not improve the ranking",
    "What should I use for 100 labels of my macro space?": "HyperNAS-P where the layers of a network differ",
    "How does the hypernetwork make a 3×3 kernel?": "makes a 3×3 kernel by slicing or tiling",
    "What does q do?": "sets how much a nearly solved task still counts",
    "How do I run it with other parameters?": "Run any page with other parameters by hypernas run notebooks",
}
FIRST_SCREEN = """
const words = [];
const walk = document.createTreeWalker(document.querySelector('.bd-article'), NodeFilter.SHOW_TEXT);
for (let node; (node = walk.nextNode());) {
  const range = document.createRange();
  range.selectNodeContents(node);
  const box = range.getBoundingClientRect();
  if (box.height && box.bottom < 900) words.push(node.textContent);
}
return words.join('');
"""


def test_five_questions_are_asked_in_the_first_screen_and_answered_one_click_away(browser):
    from selenium.webdriver.common.by import By

    show(browser, SITE / "index.html", width=SCREEN)
    shown = browser.execute_script(FIRST_SCREEN)
    links = [link.get_attribute("href") for link in browser.find_elements(By.CSS_SELECTOR, ".hn-questions a")]
    assert [question for question in QUESTIONS if question not in shown] == []
    assert len(links) == len(QUESTIONS)
    for answer, link in zip(QUESTIONS.values(), links, strict=True):
        show(browser, Address(link), width=SCREEN)
        assert answer in " ".join(browser.execute_script(FIRST_SCREEN).split()), link


def test_no_line_of_code_is_cut_and_letters_of_figures_are_large_enough(browser, on_screen):
    assert browser.execute_script(SMALL_LETTERS, LEAST_LETTER) == []
    # The docstrings of the library keep the width of its source.
    if on_screen.page != "library.html":
        assert browser.execute_script(CUT_CODE) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_verdict_can_be_read_in_both_themes(browser, theme):
    show(browser, SITE / "notebooks" / "components.html", width=SCREEN, theme=theme)
    text, ground = (
        sum(float(part) for part in re.findall(r"[\d.]+", colour)[:3]) / 3 for colour in browser.execute_script(COLOURS)
    )
    assert abs(text - ground) > 120


# --- every page, on a screen and on a phone, in both themes ---

# A phone may scroll inside a table, which has its own box; on a screen no column is out of sight.
HIDDEN_COLUMNS = """
return [...document.querySelectorAll('.hn-scroll, .bd-article .pst-scrollable-table-container, .bd-article .output')]
  .filter((box) => box.querySelector('table') && box.scrollWidth > box.clientWidth + 2)
  .map((box) => box.textContent.trim().slice(0, 60))
"""
OPEN_INPUTS = """
return [...document.querySelectorAll('div.cell > .cell_input, div.cell > details[open] .cell_input')]
  .filter((cell) => cell.offsetHeight).map((cell) => cell.textContent.trim().slice(0, 60))
"""
WIDE_FIGURES = """
return [...document.querySelectorAll('.hn-figure')].filter((box) => box.scrollWidth > box.clientWidth + 2).length
"""
# Letters of a figure in pixels on the screen: a figure that is shrunk into its column shrinks its letters too.
SMALL_LETTERS = """
return [...document.querySelectorAll('.hn-figure svg text, .hn-method svg text')]
  .map((text) => [text.getScreenCTM(), text])
  .map(([m, text]) => [Math.hypot(m.a, m.b) * parseFloat(getComputedStyle(text).fontSize), text.textContent])
  .filter(([size]) => size < arguments[0]).slice(0, 5)
"""
LEAST_LETTER = 9
CUT_CODE = """
return [...document.querySelectorAll('.bd-article .highlight pre')]
  .filter((code) => !code.closest('details:not([open])') && code.scrollWidth > code.clientWidth + 1)
  .map((code) => code.textContent.trim().slice(0, 60))
"""
# Chapters whose lesson is the code itself.
LESSONS = {
    f"notebooks/{name}.html"
    for name in ("sixty_lines", "global_encoding", "hypernetwork", "multi_task_loss", "your_own_space")
}
THEME = "return document.documentElement.dataset.theme"
# Rules of axe that say whether a page can be read and found one's way in.
CONTRAST = "color-contrast"
RULES = [CONTRAST, "landmark-one-main", "region", "document-title", "html-has-lang", "image-alt", "link-name",
         "button-name", "label", "select-name", "svg-img-alt", "aria-valid-attr-value", "duplicate-id-aria", "list",
         "listitem", "td-headers-attr", "page-has-heading-one"]  # fmt: skip
AXE = """
const done = arguments[arguments.length - 1];
const options = { runOnly: { type: 'rule', values: arguments[0] }, resultTypes: ['violations'] };
axe.run(document, options).then((found) => done(found.violations.map((rule) =>
  [rule.id, rule.nodes.length, rule.nodes[0].target.join(' '), rule.nodes[0].failureSummary])));
"""


# Each colour of letters with the grounds behind it and how opaque it is, and whether the letters are so large that less
# contrast will do.
LETTERS = """
const seen = new Set();
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node; (node = walk.nextNode());) {
  const element = node.parentElement;
  // As axe does, one letter alone is not judged: it is the sign of a link beside a heading.
  if (!node.textContent.trim() || element.textContent.trim().length < 2 || !element.checkVisibility()) continue;
  const { color, fill, fontSize, fontWeight } = getComputedStyle(element);
  const pixels = parseFloat(fontSize);
  const large = pixels >= 24 || (pixels >= 18.66 && fontWeight >= 700);
  const behind = new Set();
  for (let box = element; box; box = box.parentElement) {
    const { backgroundColor, opacity } = getComputedStyle(box);
    behind.add(`${backgroundColor} ${opacity}`);
  }
  seen.add([color, fill, large, ...behind].join(' '));
}
return [...seen]
"""


@pytest.fixture(scope="module")
def axe_script():
    axe = pytest.importorskip("axe_core_python", reason="axe-core-python is not installed")
    return (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


def shows_more_colours_on_a_phone(browser, theme):
    """Whether letters of the shown page have a colour or ground, or are small on one, only on a phone."""
    colours = {}
    for width in (SCREEN, PHONE):
        look_in_theme(browser, width, theme)
        colours[width] = set(browser.execute_script(LETTERS))
    return not colours[PHONE] <= colours[SCREEN]


def look_in_theme(browser, width, theme):
    """Show the page in a theme and wait until it has heard of it, which is with its next frame."""
    from selenium.webdriver.support.ui import WebDriverWait

    look(browser, width, theme)
    wait = WebDriverWait(browser, 20, poll_frequency=0.02)
    wait.until(lambda shown: shown.execute_script(THEME) == theme, f"no {theme} theme")


def faults(browser, axe_script, page, width):
    """What keeps a reader of the shown page from reading it, in either theme."""
    browser.execute_script(axe_script)
    # Another theme changes colours alone: no element of the book belongs to one of them.
    for theme, rules in (("light", RULES), ("dark", [CONTRAST])):
        look_in_theme(browser, width, theme)
        if page not in LESSONS:
            yield theme, "open code", browser.execute_script(OPEN_INPUTS)
        # Contrast takes nine tenths of axe's time, and colours seen on a screen are judged there.
        if width == PHONE and not shows_more_colours_on_a_phone(browser, theme):
            rules = [rule for rule in rules if rule != CONTRAST]
        if rules:
            yield theme, "axe", browser.execute_async_script(AXE, rules)


def test_every_page_can_be_read_on_a_screen_in_both_themes(browser, axe_script, on_screen):
    assert browser.execute_script(HIDDEN_COLUMNS) == []
    assert browser.execute_script(WIDE_FIGURES) == 0
    assert [fault for fault in faults(browser, axe_script, on_screen.page, SCREEN) if fault[-1]] == []


def test_every_page_can_be_read_on_a_phone_in_both_themes(browser, axe_script, on_phone):
    assert [fault for fault in faults(browser, axe_script, on_phone.page, PHONE) if fault[-1]] == []
