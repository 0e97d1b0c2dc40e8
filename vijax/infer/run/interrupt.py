"""Ending a fit early: by Ctrl-C, or by a callback that answers `STOP`."""

from __future__ import annotations

import enum
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax

from ...data.host import is_concrete

_T = TypeVar("_T")

_SHORTEST, _LONGEST = 1e-4, 1e-2  # seconds between two looks at whether a program has ended
_SHORT = 2e8  # floats that E-steps pass through in well under a second, on one core
_BETWEEN = 1e7  # floats between two looks at whether to stop
_LEAST = 1e4  # floats that an iteration counts for, however few it has


class Answer(enum.Enum):
    """What a callback may return; anything but STOP lets the fit go on."""

    STOP = "stop"

    def __repr__(self) -> str:
        return "vx.STOP"


STOP = Answer.STOP


def iterations_between_looks(floats: int, iterations: Any) -> int | None:
    """How often a program should look whether to stop; None if it is over in a second anyway.

    `floats` is the number that all its lanes together hold in an iteration. Programs that are kept
    on disk, by `jax_compilation_cache_dir`, cannot look, nor can those of other threads than the
    main one be interrupted.
    """
    floats = max(floats, int(_LEAST))
    if not is_concrete(iterations) or floats * int(iterations) <= _SHORT:
        return None
    kept = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if kept or threading.current_thread() is not threading.main_thread():
        return None
    return max(1, int(_BETWEEN / floats))


class CtrlC:
    """A context in which the first Ctrl-C calls `stop`, and `heard` says so; a second one raises.

    A program may run on the main thread, where Python would not see the signal before its end. So
    `look`, which the program calls from any thread, asks the operating system. Where signals do not
    arrive, on other threads, or have a handler that is not Python's own, nothing changes.
    """

    def __init__(self, stop: Callable[[], None]):
        self.stop, self.heard = stop, False
        self._reader: socket.socket | None = None

    def __enter__(self) -> CtrlC:
        own = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if own and threading.current_thread() is threading.main_thread():
            self._reader, self._writer = socket.socketpair()
            self._reader.setblocking(False)
            self._writer.setblocking(False)
            fd = self._writer.fileno()
            self._before = signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
            signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *_: Any) -> None:
        if self._reader is None:
            return
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.set_wakeup_fd(self._before, warn_on_full_buffer=False)
        self._reader.close()
        self._writer.close()
        self._reader = None

    def unless_heard(self, items: Iterable[_T]) -> Iterator[_T]:
        """The items; raises KeyboardInterrupt before the next one after Ctrl-C."""
        for item in items:
            if self.heard:
                raise KeyboardInterrupt
            yield item

    def look(self) -> None:
        """Call `stop` if the signal has arrived, though no handler has run yet."""
        reader = self._reader
        if reader is None:
            return
        try:
            numbers = reader.recv(64)
        except (BlockingIOError, OSError):  # none came, or the context is over
            return
        if signal.SIGINT in numbers:
            self.stop()

    def _on_signal(self, number: int, frame: Any) -> None:
        if self.heard:
            signal.default_int_handler(number, frame)
        self.heard = True
        self.stop()


def wait(tree: Any) -> None:
    """Wait for the arrays of a tree, while signals are heard."""
    pause = _SHORTEST
    arrays: list[Any] = [a for a in jax.tree.leaves(tree) if isinstance(a, jax.Array)]
    while arrays:
        if arrays[-1].is_ready():
            arrays.pop()
            continue
        time.sleep(pause)
        pause = min(1.1 * pause, _LONGEST)
