"""What the views share: their data, one script and style sheet, and the static version for pages."""

from __future__ import annotations

import html
import itertools
import json
from functools import cache
from pathlib import Path
from typing import Any

try:
    import anywidget
    import traitlets
except ImportError as error:
    raise ImportError("widgets need anywidget: pip install 'hypernas[book]'") from error

# Scripts and style sheet lie beside this file.
HERE = Path(__file__).parent
# The data of one view, bytes of JSON: pages stay light.
DATA_LIMIT = 20_000
# Makes the names of views unique on a page.
_numbers = itertools.count(1)


class WrongInput(ValueError):
    """Input from which no view can be made; the text is the sentence shown instead."""


@cache
def script() -> str:
    """Return the functions of `js/` without indentation and comment lines."""
    lines = [
        line.strip() for path in sorted((HERE / "js").glob("*.js")) for line in path.read_text("utf-8").splitlines()
    ]
    return "\n".join(line for line in lines if line and not line.startswith("//"))


@cache
def style() -> str:
    return (HERE / "views.css").read_text("utf-8")


def compact_json(data: Any) -> str:
    """Return JSON without spaces. Raise ValueError if a number is not finite."""
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def inline_json(data: Any) -> str:
    """Return JSON that is safe inside a script of a page: no `<` can end the script early.

    >>> inline_json({"a": "</script>"})
    '{"a":"\\\\u003c/script>"}'
    """
    return compact_json(data).replace("<", "\\u003c")


def static_html(data: dict[str, Any], instead: str) -> str:
    """Return a view as one piece of HTML with the script inline; `instead` (HTML) is shown where scripts do not run.

    Style and code are the same in every view, so a page with several may keep only the first copy.
    """
    name = f"hn-{next(_numbers)}-{abs(hash(compact_json(data))):x}"
    call = f'hypernasViews(document.getElementById("{name}"),{inline_json(data)})'
    return (
        f'<div class="hn-twin" id="{name}">{instead}</div><style class="hn-style">{style()}</style>'
        f'<script class="hn-code">window.hypernasViews=(()=>{{{script()}\nreturn renderStatic}})()</script>'
        f"<script>{call}</script>"
    )


class View(anywidget.AnyWidget):
    """A widget whose output also contains its static version; `data` is what the script draws."""

    _esm = script() + "\nexport default { render };"
    _css = style()
    data = traitlets.Dict().tag(sync=True)
    selected = traitlets.Int(-1).tag(sync=True)

    def instead(self) -> str:
        """Return HTML for a viewer that runs no script."""
        return f"<p>{html.escape(self.data.get('sentence') or 'An interactive view, which needs scripts.')}</p>"

    def static_html(self) -> str:
        return static_html(self.data, self.instead())

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        formats, metadata = bundle
        return {**formats, "text/html": self.static_html()}, metadata
