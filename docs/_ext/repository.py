"""The first page at the root of the site, and a check of links to files of the repository."""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.util import logging

_REDIRECT = """<!doctype html><meta charset="utf-8"><title>vijax</title>
<meta http-equiv="refresh" content="0; url=docs/index.html">
<a href="docs/index.html">vijax</a>
"""
_LINK = re.compile(r"\]\(([^)\s#]+)(?:#[^)\s]*)?\)")


def missing(path: Path, text: str) -> list[str]:
    """Targets of Markdown links in the text of a page that are no files of the repository."""
    text = re.sub(r"```.*?```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$", "", text, flags=re.DOTALL)
    targets = (target for target in _LINK.findall(text) if not re.match(r"\w+:", target))
    return [target for target in targets if not (path.parent / target).exists()]


def _check(app, docname, source):
    path = Path(app.env.doc2path(docname))
    if path.suffix == ".md":
        for target in missing(path, source[0]):
            logging.getLogger(__name__).warning("no such file: %s", target, location=docname)


def _finish(app, exception):
    if exception is None and app.builder.format == "html":
        (Path(app.outdir) / "index.html").write_text(_REDIRECT)


def setup(app):
    app.connect("source-read", _check)
    app.connect("build-finished", _finish)
    return {"parallel_read_safe": True}
