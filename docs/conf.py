"""Builds the documentation site from the repository's own documents: `make docs`.

The repository is the source folder, so links between documents are the same here as anywhere
else. Nothing is fetched: theme, fonts and search are local.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from myst_parser.parsers.sphinx_ import MystParser
from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring

project = "adem-bench"
author = copyright = "adem-bench contributors"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
include_patterns = ["*.md", "docs/**.md", "docs/*.rst", "docs/*.ipynb", "*/README.md"]
exclude_patterns = [".*", "build", "dist", "data", "results/*/**", "adem_bench", "tests", "tools"]
root_doc = "README"
nitpicky = False  # names of the standard library and torch could be looked up on the network only

html_theme = "furo"
html_title = "adem-bench"
html_copy_source = False

myst_enable_extensions = ["html_image"]
myst_heading_anchors = 4
default_role = "code"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_type_aliases = {"Json": "adem_bench.records.Json"}

CONTENTS = {
    "Using it": [
        "docs/published-checkpoints",
        "docs/models",
        "docs/training",
        "docs/data",
        "docs/images",
        "docs/run-folder",
        "docs/run-files",
        "docs/paper",
        "docs/from-lmms-eval",
    ],
    "Benchmarks": ["tasks/README", "docs/tsv", "docs/vlm-evaluation"],
    "Results": [
        "docs/python",
        "docs/leaderboard",
        "docs/report",
        "docs/view",
        "docs/statistics",
        "docs/ci-gate",
        "docs/published-records",
        "results/README",
    ],
    "ADEM-VL": [
        "docs/method",
        "docs/answers",
        "docs/answers-compared",
        "docs/quirks",
        "docs/adem-tiny/README",
        "docs/comparison-of-methods",
        "models/README",
        "trainers/README",
    ],
    "Extending it": [
        "docs/own-data",
        "docs/own-tasks",
        "docs/own-methods",
        "docs/own-base",
        "docs/plugins",
        "docs/api",
        "docs/integrations",
        "docs/judges",
    ],
    "The project": [
        "ARCHITECTURE",
        "CONTRIBUTING",
        "CHANGELOG",
        "docs/dependencies",
        "benchmarks/README",
    ],
}
"""The navigation: a heading, and the documents below it."""


class NotebookParser(MystParser):
    """Reads a notebook as the Markdown that its cells and their stored outputs are."""

    supported = ("ipynb",)

    def parse(self, inputstring: str, document: nodes.document) -> None:
        """Turn a notebook into a document."""
        cells = json.loads(inputstring)["cells"]
        super().parse("\n\n".join(part for cell in cells for part in markdown(cell)), document)


def markdown(cell: dict[str, Any]) -> list[str]:
    """Return a cell of a notebook, and its outputs, as Markdown."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return [source]
    found = [f"```python\n{source}\n```"]
    for output in cell["outputs"]:
        data = output.get("data", {})
        if "text/html" in data:
            # The theme's own look, and its frame in which a wide table scrolls.
            table = "".join(data["text/html"]).replace('border="1" class="', 'class="docutils ')
            found.append(f"```{{raw}} html\n<div class='table-wrapper'>{table}</div>\n```")
        else:
            text = "".join(output.get("text") or data["text/plain"])
            found.append(f"```text\n{text.rstrip()}\n```")
    return found


def add_contents(app: Sphinx, document: str, source: list[str]) -> None:
    """Append the navigation to the first page, whose text on a code host does without it."""
    if document == app.config.root_doc:
        for caption, names in CONTENTS.items():
            lines = "\n".join(f"/{name}" for name in names)
            source[0] += f"\n\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{lines}\n```\n"


def add_index(app: Sphinx, error: Exception | None) -> None:
    """Let the first page be found under the name that browsers and servers look for."""
    if error is None and app.builder.format == "html":
        folder = Path(app.outdir)
        shutil.copyfile(folder / "README.html", folder / "index.html")


def read_google_sections(
    app: Sphinx, what: str, name: str, member: Any, options: Any, lines: list[str]
) -> None:
    """Turn `Args:` and the like into reStructuredText.

    This is what the extension napoleon does, but for attributes, whose text it cuts at the first
    colon and takes the first half for a type.
    """
    if what not in ("attribute", "data", "property"):
        found = GoogleDocstring("\n".join(lines), Config(), app, what, name, member, options)
        lines[:] = found.lines()


def setup(app: Sphinx) -> None:
    """Connect them."""
    app.add_source_suffix(".ipynb", "ipynb")
    app.add_source_parser(NotebookParser)
    app.connect("autodoc-process-docstring", read_google_sections)
    app.connect("source-read", add_contents)
    app.connect("build-finished", add_index)
