"""The book: its pages ask the network for nothing, and its generated pages say what the data say."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import hypernas
from hypernas.lab.pages import Page
from hypernas.lab.schema import FACTS

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
BUILD = "from jupyter_book.cli.main import main; main()"
ASSETS = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "object": "data"}
PAGE = """# Tiny

{{cite}}`hypernas` said $u^2 = \\frac{{1 + \\sqrt 9}}{{4}}$:

$$ {wide} = 1 $$

| {head} |
| {rule} |

| method | tau |
| --- | --- |
| b | 0.8 ± 0.1 |
| a | – |
| c | 0.75 |
| d | 0.9 (5) |

[A chapter](chapter.ipynb) {{term}}`cell`
"""

pytestmark = pytest.mark.xdist_group("book")


def load_generate():
    spec = importlib.util.spec_from_file_location("generate", BOOK / "generate.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["generate"] = module
    spec.loader.exec_module(module)
    return module


generate = load_generate()


@pytest.fixture(scope="module")
def tiny_book(tmp_path_factory):
    """A book of three small pages, built with the engine, style and extensions of the real one."""
    pytest.importorskip("jupyter_book")
    nbformat = pytest.importorskip("nbformat")
    folder = tmp_path_factory.mktemp("book")
    for name in ("_config.yml", "references.bib", "references.md", "glossary.md"):
        shutil.copy(BOOK / name, folder)
    for name in ("_ext", "_static"):
        shutil.copytree(BOOK / name, folder / name)
    chapters = [{"file": name} for name in ("chapter", "glossary", "references")]
    (folder / "_toc.yml").write_text(yaml.safe_dump({"format": "jb-book", "root": "index", "chapters": chapters}))
    wide, head = " + ".join(["x^2"] * 60), " | ".join(["column"] * 30)
    (folder / "index.md").write_text(PAGE.format(wide=wide, head=head, rule="|".join(["---"] * 30)))
    v4 = nbformat.v4
    image = {"image/svg+xml": "<svg xmlns='http://www.w3.org/2000/svg' width='900' height='9'/>"}
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "a"}, "text/html": "<p>twin</p>"}
    outputs = [v4.new_output("display_data", data=data) for data in (image, widget)]
    cells = [v4.new_markdown_cell("# Chapter"), v4.new_code_cell("1 + 1  # " + "x" * 200, outputs=outputs)]
    state = {"state": {"a": {}}, "version_major": 2, "version_minor": 0}
    widgets = {"application/vnd.jupyter.widget-state+json": state}
    metadata = {"widgets": widgets, "language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    nbformat.write(v4.new_notebook(cells=cells, metadata=metadata), folder / "chapter.ipynb")
    command = [sys.executable, "-c", BUILD, "build", str(folder), "--quiet", "-W", "--keep-going"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "_build" / "html"


@pytest.fixture(params=["tiny", "built"])
def pages(request):
    """The HTML files of a book: the tiny one, and the real one where it has been built."""
    folder = request.getfixturevalue("tiny_book") if request.param == "tiny" else BOOK / "_build" / "html"
    if not (folder / "index.html").is_file():
        pytest.skip("the book is not built: make book")
    return sorted(page for page in folder.rglob("*.html") if "_static" not in page.parts)


@cache
def assets(page):
    """What a page asks for: scripts, style sheets, images."""
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    return [tag[name] for tag, name in ((t, ASSETS[t.name]) for t in soup.find_all(list(ASSETS))) if tag.has_attr(name)]


def test_no_page_asks_another_host_for_a_script_style_font_or_image(pages):
    outside = {(page.name, url) for page in pages for url in assets(page) if re.match(r"(https?:)?//", url)}
    assert not outside
    for page in pages:
        scripts = re.findall(r"<script[^>]*>(.*?)</script>", page.read_text(encoding="utf-8"), re.DOTALL)
        assert not re.search(r"(import|require|fetch)[^\n]{0,40}https?://", "\n".join(scripts))


def test_no_style_sheet_imports_from_another_host(pages):
    for sheet in {path for page in pages for path in page.parent.rglob("*.css")}:
        assert not re.search(r"(@import|url\()[^;)]{0,9}(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_every_file_that_a_page_asks_for_is_there(pages):
    for page in pages:
        for url in assets(page):
            path = url.split("?")[0].split("#")[0]
            if path and not path.startswith("data:"):
                assert (page.parent / path).exists(), f"{page.name} asks for {url}"


def look(browser, width=1200, theme="light"):
    """Change the window and the theme, of the page that is shown too."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    # A colour that is still changing has no contrast of its own.
    wanted = {"prefers-color-scheme": theme, "prefers-reduced-motion": "reduce"}
    features = [{"name": name, "value": value} for name, value in wanted.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def show(browser, page, width=1200, theme="light"):
    """Load a page -> the addresses it asked of other hosts, and the errors of its scripts."""
    look(browser, width, theme)
    # What the page before asked for is no matter of this one.
    for log in ("performance", "browser"):
        browser.get_log(log)
    browser.get(page.as_uri())
    # Seconds, for a machine that does something else as well.
    browser.set_script_timeout(100)
    browser.execute_async_script("(window.MathJax?.startup?.promise ?? Promise.resolve()).then(arguments[0])")
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    # A page opened from a file may not preload fonts; it loads them through its style sheet instead.
    severe = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    errors = [message for message in severe if "/webfonts/" not in message]
    return [url for url in urls if not url.startswith(("file:", "data:"))], errors


@pytest.mark.browser
def test_a_page_works_without_a_network(browser, tiny_book):
    for page in tiny_book.glob("*.html"):
        assert show(browser, page) == ([], [])


@pytest.mark.browser
def test_formulas_are_set_without_a_network(browser, tiny_book):
    show(browser, tiny_book / "index.html")
    fonts = browser.execute_script("return document.fonts.check('12px MJXTEX-I') && document.fonts.size > 5")
    count = browser.execute_script("return document.querySelectorAll('mjx-container mjx-math').length")
    assert (count, fonts) == (2, True)


@pytest.mark.browser
@pytest.mark.parametrize("width", [400, 1200])
def test_wide_formulas_tables_and_figures_do_not_widen_the_page(browser, tiny_book, width):
    for name in ("index.html", "chapter.html"):
        show(browser, tiny_book / name, width)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.browser
def test_the_dark_theme_keeps_text_readable(browser, tiny_book):
    show(browser, tiny_book / "index.html", theme="dark")
    script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    text = browser.execute_script(script, ".bd-article p", "color")
    ground = browser.execute_script(script, "body", "backgroundColor")
    light, dark = (np.mean([float(x) for x in re.findall(r"[\d.]+", colour)[:3]]) for colour in (text, ground))
    assert light - dark > 120


SORTED = """
const table = [...document.querySelectorAll('.bd-article table')].find((t) => t.tBodies[0]?.rows.length > 2);
return [[...table.tBodies[0].rows].map((row) => row.cells[1].innerText), table.tHead.rows[0].cells[1].ariaSort];
"""


@pytest.mark.browser
def test_a_table_sorts_by_number_with_missing_ones_last_by_mouse_and_by_keyboard(browser, tiny_book):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    show(browser, tiny_book / "index.html")
    heads = browser.find_elements(By.CSS_SELECTOR, "th.hn-sortable")
    assert [head.text.split()[0] for head in heads] == ["method", "tau"]
    assert browser.execute_script(SORTED) == [["0.8 ± 0.1", "–", "0.75", "0.9 (5)"], None]
    heads[1].click()
    assert browser.execute_script(SORTED) == [["0.75", "0.8 ± 0.1", "0.9 (5)", "–"], "ascending"]
    heads[1].send_keys(Keys.ENTER)
    assert browser.execute_script(SORTED) == [["0.9 (5)", "0.8 ± 0.1", "0.75", "–"], "descending"]


@pytest.mark.browser
def test_a_notebooks_page_offers_its_notebook_its_commands_and_the_citation(browser, tiny_book):
    from selenium.webdriver.common.by import By

    show(browser, tiny_book / "chapter.html")
    link = browser.find_element(By.CSS_SELECTOR, ".hn-tools a")
    notebook = json.loads((tiny_book / link.get_dom_attribute("href")).read_text())
    assert [cell.get("outputs", []) for cell in notebook["cells"]] == [[], []]
    run, cite = browser.find_elements(By.CSS_SELECTOR, ".hn-tools details")
    for part, said in ((run, "hypernas run notebooks/chapter.ipynb"), (cite, "@")):
        part.find_element(By.TAG_NAME, "summary").click()
        assert said in part.find_element(By.TAG_NAME, "pre").text
    run.find_element(By.TAG_NAME, "button").click()
    button = "document.querySelector('.hn-tools button')"
    pressed = f"return new Promise(done => setTimeout(() => done({button}.textContent), 200))"
    assert browser.execute_script(pressed) == "Copied"
    show(browser, tiny_book / "index.html")
    assert not browser.find_elements(By.CSS_SELECTOR, ".hn-tools")


def test_every_page_of_the_contents_has_a_source():
    toc = yaml.safe_load((BOOK / "_toc.yml").read_text())
    names = [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]
    for name in names:
        sources = (BOOK / f"{name}.md", ROOT / f"{name}.ipynb")
        assert name in ("rows", "notes_paper") or any(path.is_file() for path in sources), name


def test_every_note_says_what_the_paper_says_what_we_do_and_why():
    for note in generate.notes(ROOT / "hypernas"):
        assert re.fullmatch(r"paper .*; we .*; because .*", note.text), f"{note.file}:{note.line} {note.text}"


def test_notes_are_found_in_docstrings_and_comments(tmp_path):
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "a.py").write_text(
        '"""One.\n\nNOTE[PAPER]: paper a; we\n    b; because c.\n\nnot part of it\n"""\n'
        "# NOTE[PAPER]: paper d; we e;\n# because f.\nx = 1\n"
        '"""NOTE[PAPER]: paper g; we h; because i."""\ny = 2\n'
    )
    texts = [(note.line, note.text) for note in generate.notes(folder)]
    assert texts == [
        (3, "paper a; we b; because c."), (8, "paper d; we e; because f."), (11, "paper g; we h; because i."),
    ]  # fmt: skip


def test_the_readme_says_what_the_recorded_rows_say(monkeypatch):
    """Else: python book/generate.py --readme."""
    monkeypatch.setenv("HYPERNAS_RESULTS", str(ROOT / "data" / "results"))
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert generate.readme(text) == text


def test_a_number_is_the_same_on_every_page_that_shows_it():
    """Claims about the same two methods at the same place agree wherever they are made."""
    said = {}
    for page in ("components", "nasbench201", "nasbench101", "peers"):
        for line in Page(page).answers.query("level == 'size' and metric == 'kendall_tau'").to_dict("records"):
            one, _, other = line["says"].partition(" ranks better than ")
            if "graph" not in line["says"] and "settings" not in line["says"]:
                values = said.setdefault((one, other, line["where"]), set())
                values.add((round(line["difference"], 9), line["n_seeds"]))
    assert len(said) > 20
    assert {key: values for key, values in said.items() if len(values) > 1} == {}


def test_all_rows_are_data_on_their_page_and_never_markup():
    hostile = "</script><img src=x onerror=alert(1)>"
    rows = pd.DataFrame([{"table": "few_shot", "method": hostile, "seed": 0, "kendall_tau": 0.5}])
    page = generate.rows_page(rows)
    assert "<img" not in page
    assert page.count("</script>") == 1


def test_the_words_of_all_rows_are_those_of_the_rows():
    rows = pd.DataFrame({"table": ["b", "a", "b"], "method": ["x", "x", None], "seed": [0, 1, 2]})
    page = generate.rows_page(rows.assign(graph_form=["", "raw", ""], seconds=[1.0, float("nan"), 0.26]))
    data = json.loads(re.search(r'id="hn-rows-data">(.*?)</script>', page)[1])
    shown = []
    for row in data["rows"]:
        pairs = zip(row, data["words"], strict=True)
        shown.append([words[value] if words and value is not None else value for value, words in pairs])
    assert data["columns"] == ["table", "method", "seed", "graph_form", "seconds", "settings"]
    assert shown == [["b", "x", 0, "", 1.0, ""], ["a", "x", 1, "raw", None, ""], ["b", None, 2, "", 0.3, ""]]


def test_the_code_of_the_page_on_spaces_of_your_own_runs(tmp_path, monkeypatch, capsys):
    """With one epoch in place of many, and a training that is none; the third block needs the official table."""
    page = (BOOK / "own_space.md").read_text(encoding="utf-8")
    code, ask, _ = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    quick = code.replace('get("hypernas-p")()', 'get("hypernas-p")(epochs=1)')
    assert quick != code
    monkeypatch.chdir(tmp_path)
    exec(compile(quick, "own_space.md", "exec"), {})
    assert re.fullmatch(r"tensor\(\[[0-9.]+\]\)\n", capsys.readouterr().out)
    names = {"hypernas": hypernas, "train": lambda architecture: 90.0}
    exec(compile(ask, "own_space.md", "exec"), names)
    assert [trial.state for trial in names["search"].trials.values()] == ["told"] * 10


def test_pages_that_show_the_same_experiment_show_the_same_seeds_of_it():
    """Means and intervals of one experiment can differ between pages only where their seeds do."""
    from hypernas.lab import grids

    seeds = {}
    for name in grids.names():
        rows = grids.rows(name)
        settings = [column for column in rows.columns if column not in FACTS | {"seed", "table"}]
        for row in rows[[*settings, "seed"]].to_dict("records"):
            seed = row.pop("seed")
            # A setting that a row lacks is no column of some pages, and NaN on others.
            what = tuple(
                sorted((key, str(value)) for key, value in row.items() if value == value and value is not None)
            )
            seeds.setdefault(what, {}).setdefault(name, set()).add(seed)
    shared = {what: pages for what, pages in seeds.items() if len(pages) > 1}
    assert len(shared) > 20
    assert {what: pages for what, pages in shared.items() if len(set(map(frozenset, pages.values()))) > 1} == {}
