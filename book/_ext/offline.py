"""Everything a page needs lies beside it: MathJax from its PyPI package, no script from another host."""

import re
import shutil
from importlib.util import find_spec
from pathlib import Path

VIEW_CODE = re.compile(r'<(style|script) class="hn-(?:style|code)">.*?</\1>', re.DOTALL)
STATE = "application/vnd.jupyter.widget-state+json"
MATHJAX = ("tex-chtml.js", "output/chtml/fonts/woff-v2")


def copy_mathjax(app, exception):
    """Copy the one script and the fonts that the pages use, 2 MB of the 24 in the package."""
    if exception is not None or app.builder.format != "html":
        return
    origin = Path(find_spec("sphinx-mathjax-offline").origin).parent / "static" / "mathjax"
    target = Path(app.outdir) / "_static" / "mathjax"
    for name in MATHJAX:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if (origin / name).is_dir():
            shutil.copytree(origin / name, target / name, dirs_exist_ok=True)
        else:
            shutil.copyfile(origin / name, target / name)


def without_thebe(app, pagename, templatename, context, doctree):
    """Leave out Thebe, which would fetch itself and a kernel from elsewhere."""
    scripts = context.get("script_files", [])
    said = [f"{script.filename or ''} {script.attributes.get('body', '')}" for script in scripts]
    context["script_files"] = [
        script for script, text in zip(scripts, said, strict=True) if "thebe" not in text.lower()
    ]


def views_once(app, pagename, templatename, context, doctree):
    """Every view of `hypernas.view.widgets` brings its code; a page keeps the first copy. No kernel reads widget state."""
    seen = set()

    def first(match):
        copy = match[0] in seen
        seen.add(match[0])
        return "" if copy else match[0]

    context["body"] = VIEW_CODE.sub(first, context.get("body") or "")
    context["script_files"] = [
        script for script in context.get("script_files", []) if STATE not in str(getattr(script, "attributes", ""))
    ]


def setup(app):
    app.config.mathjax_path = "mathjax/tex-chtml.js"
    app.connect("html-page-context", without_thebe, priority=900)
    app.connect("html-page-context", views_once, priority=901)
    app.connect("build-finished", copy_mathjax)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
