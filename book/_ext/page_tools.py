"""What stands under the title of every notebook's page: the notebook to download, how to run it, how to cite it."""

import json
import os
import re
import shutil
from html import escape
from pathlib import Path

RUN = "hypernas run notebooks/{name}.ipynb --profile quick -o executed"
LAB = "jupyter lab notebooks/{name}.ipynb"
TOOLS = """<div class="hn-tools">
<a class="hn-tool" href="{href}" download="{name}.ipynb">Download the notebook</a>
{launch}<details class="hn-tool"><summary>Run it</summary><div><pre>{run}</pre><button type="button">Copy</button></div></details>
<details class="hn-tool"><summary>Cite</summary><div><pre>{cite}</pre><button type="button">Copy</button></div></details>
</div>
"""


# Where a notebook is opened, by the address of the repository and its branch.
LAUNCH = {
    "Source": "https://{host}/{name}/blob/{branch}/notebooks/{{notebook}}.ipynb",
    "Binder": "https://mybinder.org/v2/gh/{name}/{branch}?labpath=notebooks/{{notebook}}.ipynb",
    "Colab": "https://colab.research.google.com/github/{name}/blob/{branch}/notebooks/{{notebook}}.ipynb",
}
ARCHIVE = "hypernas-book"


def launch_links(repository, branch, notebook):
    """Links that open a notebook elsewhere; none where the book knows no public repository."""
    host, _, name = repository.removeprefix("https://").rstrip("/").partition("/")
    if not name:
        return ""
    links = ""
    for label, address in LAUNCH.items():
        url = address.format(host=host, name=name, branch=branch).format(notebook=notebook)
        links += f'<a class="hn-tool" href="{escape(url)}">{label}</a>\n'
    return links


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
        launch=launch_links(app.config.hypernas_repository, app.config.hypernas_branch, name),
        run=escape("\n".join((RUN, LAB)).format(name=name)),
        cite=escape(citation(Path(app.srcdir) / "references.bib")),
    )
    context["body"] = context.get("body", "").replace("</h1>", f"</h1>\n{tools}", 1)


def archive(app, exception):
    """The whole book as one file beside its pages, to be read where there is no network."""
    if exception is not None or app.builder.format != "html":
        return
    out = Path(app.outdir)
    target = out / "_downloads" / f"{ARCHIVE}.zip"
    target.unlink(missing_ok=True)
    target.parent.mkdir(exist_ok=True)
    os.replace(shutil.make_archive(str(out.parent / ARCHIVE), "zip", out), target)


def setup(app):
    # The address of the public repository, as https://github.com/NAME/REPOSITORY; links to it are made where it is set.
    app.add_config_value("hypernas_repository", os.environ.get("HYPERNAS_REPOSITORY", ""), "html")
    app.add_config_value("hypernas_branch", "main", "html")
    app.connect("html-page-context", add_tools, priority=902)
    # After the formulas' fonts are there.
    app.connect("build-finished", archive, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
