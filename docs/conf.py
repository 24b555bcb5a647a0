"""How Sphinx builds the site: ``nox -s docs``. Pages are Markdown; what is not among them is linked to where the source is."""

from __future__ import annotations

import re

from sphinx.application import Sphinx

project = "asyncdup"
author = "the authors of asyncdup"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "asyncdup"
html_show_sphinx = False
html_extra_path = ["systemd"]
myst_heading_anchors = 3


def _link_to_copies(app: Sphinx, name: str, source: list[str]) -> None:
    """README and SECURITY are no pages of the site: links to them lead to copies of the files."""
    source[0] = re.sub(r"\]\(\.\./(\w+\.md)\)", r"](path:../\1)", source[0])


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _link_to_copies)
