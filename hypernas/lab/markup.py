"""HTML and Markdown for pages. Values from rows, tables and files are escaped as they enter a page, only here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from hypernas.lab.formats import plain

# Rows of a table that a reader sees without scrolling inside it.
LONG_TABLE = 20


class Html(str):
    """Text that is already markup: notebooks render it, and tables insert it unescaped."""

    def _repr_html_(self) -> str:
        return str(self)


def _cell(value: Any) -> str:
    return str(value) if isinstance(value, Html) else plain(value)


def html_table(head: Sequence[Any], rows: Iterable[Sequence[Any]], caption: str = "", above: str = "") -> Html:
    """Return a table. Cells that are not `Html` are escaped. `above` is an additional first row of the head."""
    lines = []
    for row in rows:
        cells = [f"<td>{_cell(cell)}</td>" for cell in row]
        lines.append("".join(cells))
    heads = "".join(f"<th>{_cell(name)}</th>" for name in head)
    kind = "table hn-table hn-long" if len(lines) > LONG_TABLE else "table hn-table"
    text = f'<div class="hn-scroll"><table class="{kind}">'
    text += f"<caption>{caption}</caption>" if caption else ""
    text += f"<thead>{above}<tr>{heads}</tr></thead><tbody>"
    text += "".join(f"<tr>{line}</tr>" for line in lines)
    return Html(text + "</tbody></table></div>")


def markdown_table(head: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """Return the same table as Markdown."""
    rule = [Html("---") for _ in head]
    text = ""
    for line in [head, rule, *rows]:
        cells = [_cell(cell) for cell in line]
        text += f"| {' | '.join(cells)} |\n"
    return text


def folded(summary_line: str, body: str) -> Html:
    """Return HTML that shows the summary line and, when opened, the body."""
    return Html(f'<details class="hn-fold"><summary>{plain(summary_line)}</summary>{body}</details>')
