"""Contenders in turn, round after round: medians, and compilation apart from running."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

_SHORT = 0.1  # seconds
_QUIET = 0.05  # seconds: as long as threads of what ran before may spin
_REPEATS = 5  # timed calls of a short one


@dataclass
class Timing:
    """Seconds of the first call (with compilation, imports on demand) and of all later ones."""

    first: float | None = None
    runs: list[float] = field(default_factory=list)
    output: Any = None
    error: str | None = None

    @property
    def median(self) -> float | None:
        """Of the later runs; None if none was made."""
        return statistics.median(self.runs) if self.runs else None


def message(error: Exception) -> str:
    """Its kind and its first line; of a process, the last that it wrote."""
    text = str(getattr(error, "stderr", None) or error).strip()
    lines = text.splitlines() or [""]
    line = lines[-1] if getattr(error, "stderr", None) else lines[0]
    return f"{type(error).__name__}: {line[:200]}"


def clock(fn: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds until the result of `fn` is there, and the result."""
    begin = time.perf_counter()
    out = fn()
    if "jax" in sys.modules:
        sys.modules["jax"].block_until_ready(out)
    return time.perf_counter() - begin, out


def alternate(
    fns: Mapping[str, Callable[[], Any]],
    rounds: int,
    *,
    budget: float = 60.0,
    warm: bool = True,
) -> dict[str, Timing]:
    """Each of `fns` once to warm up, then in turn for `rounds` rounds.

    One whose timed runs have taken more than `budget` seconds has no more of them; one that fails
    keeps its message as `error`. With `warm=False` the first call is a timed run. A run of one
    that takes less than a tenth of a second is the median of five calls, after some untimed ones.
    """
    times = {name: Timing() for name in fns}
    last: dict[str, float] = {}
    for turn in range(rounds + warm):
        for name, fn in fns.items():
            timing = times[name]
            if timing.error or sum(timing.runs) > budget:
                continue
            try:
                short = timing.first is not None and last[name] < _SHORT
                seconds, timing.output = _quiet(fn) if short else clock(fn)
            except Exception as error:  # a peer's failure is a result, not the end of the run
                timing.error = message(error)
                continue
            last[name] = seconds
            if turn == 0:
                timing.first = seconds
            if turn or not warm:
                timing.runs.append(seconds)
    return times


def _quiet(fn: Callable[[], Any]) -> tuple[float, Any]:
    """A short call by itself: what ran before may still hold caches and threads."""
    begin = time.perf_counter()
    while time.perf_counter() - begin < _QUIET:
        clock(fn)
    runs = [clock(fn) for _ in range(_REPEATS)]
    return statistics.median(seconds for seconds, _ in runs), runs[-1][1]


def slopes(
    fns: Mapping[str, Callable[[int], Any]],
    steps: Mapping[str, tuple[int, int]],
    rounds: int,
    *,
    budget: float = 60.0,
    again: tuple[str, ...] = (),
) -> dict[str, Timing]:
    """Seconds per iteration: the difference of two runs of few and of more iterations.

    What a call costs besides its iterations cancels; it is more in the first call after another
    tool's, so that one is not timed. Those named in `again` compile for each number of iterations,
    so both numbers are warmed up. `output` is that of the short run.
    """
    times = {name: Timing() for name in fns}
    spent = dict.fromkeys(fns, 0.0)
    for turn in range(rounds + 1):
        for name, fn in fns.items():
            timing, (few, more) = times[name], steps[name]
            if timing.error or spent[name] > budget:
                continue
            try:
                short, out = clock(lambda fn=fn, few=few: fn(few))
                if turn:
                    short, _ = clock(lambda fn=fn, few=few: fn(few))
                else:
                    timing.first, timing.output = short, out
                    if name in again:
                        clock(lambda fn=fn, more=more: fn(more))
                    continue
                long, _ = clock(lambda fn=fn, more=more: fn(more))
            except Exception as error:  # as above
                timing.error = message(error)
                continue
            timing.runs.append((long - short) / (more - few))
            spent[name] += short + long
    return times
