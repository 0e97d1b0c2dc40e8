"""The code of a page of the documentation, run as it stands."""

import contextlib
import io
import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def run_page(name):
    """What all blocks of docs/`name` define, in the order of the page, and what they print."""
    scope, printed = {}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        for block in re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(), re.DOTALL):
            exec(block, scope)
    return scope, printed.getvalue()
