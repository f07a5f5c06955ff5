"""What stands under the title of every notebook's page: the notebook to download, how to run it, how to cite it."""

import json
import re
from html import escape
from pathlib import Path

RUN = "hypernas run notebooks/{name}.ipynb --profile quick -o executed"
LAB = "jupyter lab notebooks/{name}.ipynb"
TOOLS = """<div class="hn-tools">
<a class="hn-tool" href="{href}" download="{name}.ipynb">Download the notebook</a>
<details class="hn-tool"><summary>Run it</summary><div><pre>{run}</pre><button type="button">Copy</button></div></details>
<details class="hn-tool"><summary>Cite</summary><div><pre>{cite}</pre><button type="button">Copy</button></div></details>
</div>
"""


def without_outputs(path):
    """A notebook as text, ready to be run again."""
    notebook = json.loads(Path(path).read_text(encoding="utf-8"))
    notebook["metadata"] = {k: notebook["metadata"][k] for k in ("kernelspec", "language_info") if k in notebook["metadata"]}
    for cell in notebook["cells"]:
        cell["metadata"] = {"tags": cell["metadata"]["tags"]} if cell["metadata"].get("tags") else {}
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)
    cells = [c for c in notebook["cells"] if "injected-parameters" not in c["metadata"].get("tags", ())]
    return json.dumps(notebook | {"cells": cells}, indent=1) + "\n"


def citation(bibliography):
    """The BibTeX entry of the paper."""
    found = re.search(r"@\w+\{hypernas,.*?\n\}", Path(bibliography).read_text(encoding="utf-8"), re.DOTALL)
    return found[0] if found else ""


def add_tools(app, pagename, templatename, context, doctree):
    source = app.env.doc2path(pagename) if doctree is not None else ""
    if Path(source).suffix != ".ipynb":
        return
    name = Path(pagename).name
    folder = Path(app.outdir) / "_downloads"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.ipynb").write_text(without_outputs(source), encoding="utf-8")
    tools = TOOLS.format(
        href="../" * pagename.count("/") + f"_downloads/{name}.ipynb",
        name=escape(name),
        run=escape("\n".join((RUN, LAB)).format(name=name)),
        cite=escape(citation(Path(app.srcdir) / "references.bib")),
    )
    context["body"] = context.get("body", "").replace("</h1>", f"</h1>\n{tools}", 1)


def setup(app):
    app.connect("html-page-context", add_tools, priority=902)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
