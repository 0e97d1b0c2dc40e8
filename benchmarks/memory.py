"""Peak resident memory of this process, as Linux counts it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def _status(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {name} in /proc/self/status")


def peak_rise(fn: Callable[[], Any]) -> float | None:
    """MiB that the resident memory rises above what it is now while `fn` runs.

    None where the system does not say (not Linux). `fn` must wait for its own result.
    """
    try:
        before = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    except OSError:
        return None
    fn()
    return _status("VmHWM") - before
