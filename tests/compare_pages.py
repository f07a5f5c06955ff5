"""Which numbers two builds of the book do not share: `python tests/compare_pages.py BEFORE AFTER [OLD=NEW ...]`.

BEFORE and AFTER are folders of executed notebooks and generated Markdown; OLD=NEW names a page that was renamed. Page
by page, prints each number that only one build shows in the outputs (of Markdown in all text), with its column and row
or its sentence. `~`: the other build has it there with more or fewer decimals; `^`: it has it on another page.
"""

import json
import re
import sys
from collections import Counter
from pathlib import Path

from bs4 import BeautifulSoup
from markdown_it import MarkdownIt

# A number by itself: none in a commit, a name such as NAS-Bench-201, or the notation of a cell.
NUMBER = re.compile(r"(?<![\w.,:/~|=-])[+−-]?(?!0\d)\d+(?:,\d{3})*(?:\.\d+)?(?![\w:/~|]|\.\d|-\w)")
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")


def outputs(path):
    """The outputs of a notebook, or a Markdown file, as HTML."""
    if path.suffix == ".md":
        yield MARKDOWN.render(path.read_text(encoding="utf-8"))
        return
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {"text/markdown": output.get("text", "")})
            html, markdown = ("".join(data.get(kind, "")) for kind in ("text/html", "text/markdown"))
            yield html or MARKDOWN.render(markdown)


def numbers(path):
    """By number, without plus sign and thousands' commas: the first place that shows it."""
    places = {}
    for html in outputs(path):
        soup = BeautifulSoup(html, "html.parser")
        for element in soup(["style", "script", "svg", "code"]):
            element.decompose()
        texts = []
        for table in soup("table"):
            rows = [[cell.get_text(" ", strip=True) for cell in row(["th", "td"])] for row in table("tr")]
            for row in rows:
                head = rows[0] if len(rows[0]) == len(row) else row
                texts += [(cell, f"{name}: {' | '.join(row)}") for name, cell in zip(head, row, strict=True)]
            table.decompose()
        for block in soup(["p", "li", "br", "summary"]):
            block.append("\n")
        texts += [(line, line) for line in soup.get_text().splitlines()]
        for text, place in texts:
            for number in NUMBER.findall(text):
                plain = number.replace(",", "").replace("−", "-").removeprefix("+")
                places.setdefault(plain, " ".join(place.split()))
    return places


def is_rounded(number, other):
    """Whether these are one number with more and with fewer decimals, two digits at least."""
    fewer, more = sorted((number, other), key=lambda text: len(text.partition(".")[2]))
    decimals = len(fewer.partition(".")[2])
    is_shorter = decimals < len(more.partition(".")[2])
    return is_shorter and len(fewer.strip("-0.")) > 1 and f"{float(more):.{decimals}f}" == fewer


def pages(folder):
    """The numbers of each page in a folder, by its name."""
    paths = [path for path in sorted(Path(folder).glob("[!.]*")) if path.suffix in (".ipynb", ".md")]
    return {path.stem: numbers(path) for path in paths}


def main():
    before, after = map(pages, sys.argv[1:3])
    renamed = dict(words.split("=") for words in sys.argv[3:])
    total = Counter()
    for page, old in before.items():
        new = after.get(renamed.get(page, page), {})
        print(f"\n{page}: {len(old)} numbers before, {len(new)} after, {len(old.keys() & new.keys())} in both")
        for sign, here, there, build in (("-", old, new, after), ("+", new, old, before)):
            for number in [number for number in here if number not in there]:
                if any(is_rounded(number, other) for other in there):
                    mark = "~"
                else:
                    mark = "^" if any(number in other for other in build.values()) else " "
                total[sign + mark] += 1
                print(f"{sign}{mark} {number:>8}  {here[number]}")
    print(f"\n{dict(total)}")


if __name__ == "__main__":
    main()
