"""The other tools, one file each; all are optional.

A module says its `PACKAGE`, which `DTYPES` it computes in, what it does (`WORK`), and
`iterations(problem)`: a function of a number of iterations that runs so many from the problem's
start and returns the means (k, d) it ends at.
"""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import Any

NAMES = ("scikit-learn", "gmmx", "dynamax", "bnpy", "pomegranate", "torchgmm")
_MODULES = {"scikit-learn": "sklearn"}


def installed() -> dict[str, str | None]:
    """The version of each peer, None where it is absent."""
    out: dict[str, str | None] = {}
    for name in NAMES:
        try:
            out[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            out[name] = None
    return out


def load(name: str) -> Any:
    """The module of a peer."""
    return importlib.import_module(f".{_MODULES.get(name, name)}", __name__)
