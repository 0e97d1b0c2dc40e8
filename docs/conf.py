"""Sphinx: `make docs`. The sources are the repository's own pages, so that links hold in both.

`sphinx-build -c docs . build/docs` reads docs/, the executed notebooks, benchmarks/*.md and a few
pages more from where they are; the reference is generated from `vijax/_names.py` by `_ext/`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import vijax

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project, author, release = "vijax", "The vijax developers", vijax.__version__
copyright = author
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "docstrings",
    "reference",
    "repository",
]
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "docs/**.rst",
    "notebooks/*.ipynb",
    "notebooks/README.md",
    "benchmarks/*.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
]
exclude_patterns = [".*", "build", "dist", "node_modules", "vijax", "tests", "benchmarks/*/"]

html_theme = "furo"
html_title = f"vijax {release}"
html_static_path = ["_static"]
html_css_files = ["vijax.css"]
html_show_sourcelink = False
html_copy_source = False

nb_execution_mode = "off"  # notebooks are committed with what they print
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist", "attrs_inline"]
myst_heading_anchors = 3

add_module_names = False
# formulas that are too wide are broken, but not those within text and tables
mathjax4_config = {"output": {"displayOverflow": "linebreak", "linebreaks": {"inline": False}}}

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True  # `stop=Stop()`, not its repr
autodoc_type_aliases = {
    name: name for name in ("ArrayLike", "AnyArray", "Data", "Fitted", "Init", "Known", "Q")
}
napoleon_google_docstring, napoleon_numpy_docstring = True, False
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
default_role = "code"  # single backticks are code in vijax's docstrings
suppress_warnings = ["ref.python"]  # fields of the same name in several families
