"""One file for each workload: its jobs, each a process of its own, and what a job measures.

A module has `TITLE`, `jobs(machine)` and `run(job)`. A job is a plain dict: `workload`, `dtype`,
`devices` (of JAX on the CPU), `quick`, `peers` and whatever else its `run` reads.
"""

from __future__ import annotations

import importlib
from typing import Any

NAMES = ("A", "B", "C", "D", "E", "G")
_MODULES = {
    "A": "tutorial",
    "B": "medium",
    "C": "large",
    "D": "many",
    "E": "restarts",
    "G": "gpu",
}


def load(name: str) -> Any:
    """The module of a workload."""
    return importlib.import_module(f".{_MODULES[name]}", __name__)
