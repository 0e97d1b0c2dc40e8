"""Progress of a fit while it runs: one report for all lanes of a batch, off by default.

The answer to a report says whether the fit shall end.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Float, Int

from ..._pytree import pytree, static
from ...data.absent import is_absent
from ...data.host import fetched, is_concrete, to_device
from .interrupt import STOP, CtrlC, wait

_EVERY = 10  # iterations between two reports from a traced loop; a report costs about 50 us
_FLAG = jax.ShapeDtypeStruct((), np.bool_)
_LINE_SECONDS = 1.0  # between two lines without tqdm


@dataclasses.dataclass(frozen=True)
class Report:
    """The state of all `lanes` of a fit: restarts, data sets, and surrounding vmaps.

    `iteration` is the largest of all lanes. `best`, `median` and `worst` are the objectives in nats
    of lanes in which it is finite, NaN if there are none. `running` lanes have not ended.
    `rows_per_second` counts the rows of all lanes once per iteration, since the last report.
    """

    iteration: int
    best: float
    median: float
    worst: float
    running: int
    lanes: int
    rows_per_second: float
    seconds: float

    def __str__(self) -> str:
        speed = f", {self.rows_per_second:.3g} rows/s" if self.rows_per_second > 0 else ""
        values = f"{self.best:.6g}"
        if self.lanes > 1:
            values += f", median {self.median:.6g}, worst {self.worst:.6g}"
            values += f", {self.running} of {self.lanes} running"
        return f"iteration {self.iteration}: {values} nats{speed}"


class Listener:
    """The host's side of one fit: a clock, and the callback that gets the reports.

    The fit ends if the callback answers `STOP`, or raises: then it gets no further reports, and
    `close` warns of it after the fit. Without a callback it ends on Ctrl-C alone. Programs of a
    user's jit, `replayed` with the same listener, end only while they are told to.
    """

    def __init__(self, callback: Callable[[Report], Any] | None, num_rows: int, close: Any = None):
        self.callback, self.num_rows, self._close = callback, num_rows, close
        self.error: BaseException | None = None
        self.stopped = self.replayed = False
        self.look: Callable[[], None] = lambda: None
        self._begin = self._last = time.perf_counter()
        self._passes = 0

    def stop(self) -> None:
        """End the fit at its next report."""
        self.stopped = True

    def asked(self) -> bool:
        """Whether the fit shall end."""
        self.look()
        return self.stopped

    def receive(self, values: Any, counts: Any) -> bool:
        """Call the callback with a Report of these numbers, and return whether the fit shall end.

        `values` are best, median and worst objective; `counts` running, lanes, iteration, passes.
        """
        self.look()
        if self.error is not None or self.stopped or self.callback is None:
            return self.stopped
        now = time.perf_counter()
        running, lanes, iteration, passes = (int(c) for c in counts)
        if passes == 0:  # the program begins, for the first time or again
            self._begin, self._last, self._passes = now, now, 0
            return False
        rows = (passes - self._passes) * self.num_rows
        speed = rows / max(now - self._last, 1e-9)
        self._last, self._passes = now, passes
        best, median, worst = (float(v) for v in values)
        news = Report(iteration, best, median, worst, running, lanes, speed, now - self._begin)
        try:
            stop = self.callback(news) is STOP
        except Exception as error:
            self.error, stop = error, not self.replayed
        self.stopped = stop and not self.replayed
        return stop

    def close(self) -> None:
        """Warn once, with a RuntimeWarning, of what the callback raised."""
        if self._close is not None:
            self._close()
        if self.error is not None and not isinstance(self.error, KeyboardInterrupt):
            end = f"callback: raised {self.error!r}; the fit ended there"
            warnings.warn(end, RuntimeWarning, stacklevel=4)


_LISTENERS: dict[int, Listener] = {}  # the listener of each running program, by its token
_TOKENS = itertools.count()


@pytree
class Reporter:
    """The listener of a program, as a traced token: another callback is not another program.

    A `quiet` one reports nothing, but asks whether to stop.
    """

    token: Int[Array, ""]
    every: Int[Array, ""]
    quiet: bool = static(default=False)

    @classmethod
    def to(
        cls, callback: Callable[[Report], Any] | Listener, num_rows: int = 0, every: int = _EVERY
    ) -> Reporter:
        """A reporter for `iterate`: until `leave`, `callback` is called with a Report.

        Reports come at multiples of `every` iterations and at the end; a callback that returns
        `vx.STOP` ends the loop. `num_rows`, the number of rows of one lane, is for
        `rows_per_second`.
        """
        token = next(_TOKENS)
        listener = callback if isinstance(callback, Listener) else Listener(callback, num_rows)
        _LISTENERS[token] = listener
        quiet = listener.callback is None
        return cls(to_device(token, np.int32), to_device(every, np.int32), quiet)

    @property
    def stopped(self) -> bool:
        """Whether the fit shall end, asked on the host; False if the token is traced."""
        if not is_concrete(self.token):
            return False
        listener = _LISTENERS.get(int(self.token))
        return listener is not None and listener.asked()

    def leave(self) -> None:
        """Wait, on the host, for reports on their way, and end them."""
        jax.effects_barrier()
        _LISTENERS.pop(int(self.token), None)


def report(
    reporter: Reporter | None,
    elbo: Float[Array, ""],
    running: Bool[Array, ""],
    n_iter: Int[Array, ""],
    *,
    step: Int[Array, ""] | None = None,
    last: bool = False,
) -> Bool[Array, ""] | None:
    """Report from a traced loop, once for all lanes of the vmaps around it.

    Returns whether the fit shall end, for all lanes alike; None without a reporter, and then
    nothing is added to the program.

    Call it before an iteration, with the objective of this lane in nats, whether it is running and
    its number of iterations; the first call only starts the clock. A report is due at multiples of
    `reporter.every` of `step`, by default `n_iter`, and with `last`, after the loop.
    """
    if reporter is None:
        return None
    step = n_iter if step is None else step
    due = (step % reporter.every == 0) & running
    if reporter.quiet:
        return None if last else _ask(reporter.token, n_iter[None], due[None])
    due = jnp.asarray(last) | due
    known = jnp.isfinite(elbo) & ~is_absent(elbo)
    # a pass over the rows is an iteration
    lane = (jnp.where(known, elbo, jnp.nan), running, n_iter, n_iter, due)
    stopped = _emit(reporter.token, *(value[None] for value in lane))
    if last:
        # JAX leaves out a call whose result nobody takes, but for one that is there to be seen
        jax.debug.callback(lambda _: None, stopped)
    return stopped


@custom_vmap
def _emit(
    token: Array, elbo: Array, running: Array, n_iter: Array, passes: Array, due: Array
) -> Array:
    """Report lanes on one axis; only their summary leaves the device, a few bytes."""

    def send() -> Array:
        values = jnp.stack([jnp.nanmax(elbo), jnp.nanmedian(elbo), jnp.nanmin(elbo)])
        lanes = jnp.asarray(elbo.shape[0], n_iter.dtype)
        counts = [jnp.sum(running, dtype=n_iter.dtype), lanes, jnp.max(n_iter)]
        total = jnp.sum(passes, dtype=n_iter.dtype)
        return jax.pure_callback(_deliver, _FLAG, token, values, jnp.stack([*counts, total]))

    return lax.cond(jnp.any(due), send, lambda: jnp.asarray(False))


@custom_vmap
def _ask(token: Array, n_iter: Array, due: Array) -> Array:
    """Ask whether to stop, for all lanes; with the time as an argument, so as to be asked anew."""

    def send() -> Array:
        return jax.pure_callback(_deliver, _FLAG, token, jnp.max(n_iter))

    return lax.cond(jnp.any(due), send, lambda: jnp.asarray(False))


def _flat(size: int, value: Array, has_axis: bool) -> Array:
    full = value if has_axis else jnp.broadcast_to(value, (size, *value.shape))
    return full.reshape(-1)


@_emit.def_vmap
def _emit_lanes(size: int, batched: Any, token: Array, *lanes: Array) -> Any:
    token = token[0] if batched[0] else token
    flat = (_flat(size, v, b) for v, b in zip(lanes, batched[1:], strict=True))
    return _emit(token, *flat), False


@_ask.def_vmap
def _ask_lanes(size: int, batched: Any, token: Array, *lanes: Array) -> Any:
    token = token[0] if batched[0] else token
    flat = (_flat(size, v, b) for v, b in zip(lanes, batched[1:], strict=True))
    return _ask(token, *flat), False


def _deliver(token: Any, *news: Any) -> np.ndarray:
    """Pass a report to its listener, and return its answer.

    It must not raise, which would end the computation.
    """
    listener = _LISTENERS.get(int(token))
    stop = False
    if listener is not None:
        try:
            stop = listener.receive(*news) if len(news) > 1 else listener.asked()
        except BaseException as error:  # Ctrl-C, if the program runs on the main thread
            listener.error, stop = error, True
            listener.stop()
    return np.asarray(stop)


def report_from_host(listener: Listener | None, elbo: Any, running: Any, n_iter: Any) -> bool:
    """Report from a loop on the host; `elbo`, `running` and `n_iter` are arrays over lanes.

    Returns whether the fit shall end.
    """
    if listener is None:
        return False
    elbo, n_iter = fetched(elbo).astype(np.float64), fetched(n_iter)
    known = elbo[np.isfinite(elbo) & ~is_absent(elbo)]
    values = [f(known) if known.size else math.nan for f in (np.max, np.median, np.min)]
    return listener.receive(values, [np.sum(running), elbo.size, n_iter.max(), n_iter.sum()])


def listener_of(progress: Any, callback: Any, num_rows: int) -> Listener | None:
    """The listener that `fit` asks for, None for none; raises TypeError for a bad callback."""
    if not isinstance(progress, bool):
        raise TypeError(f"progress: expected True or False, got {progress!r:.80}")
    if callback is not None and not callable(callback):
        raise TypeError(f"callback: expected a function of a Report, got {callback!r:.80}")
    display = _Display() if progress else None
    if callback is None and display is None:
        return None

    def call_both(report: Report) -> Any:
        answers = [f(report) for f in (display, callback) if f is not None]
        return answers[-1]

    return Listener(call_both, num_rows, None if display is None else display.close)


def with_reporter(
    fit: Callable[[Reporter | None], Any], listener: Listener | None, every: int | None = None
) -> Any:
    """Call `fit` with a Reporter to `listener`, and end the reports when it is done.

    On Ctrl-C the fit ends at its next report; without a `listener` it is asked `every` so many
    iterations, and KeyboardInterrupt is raised when it has ended. If the result is traced, the
    program runs later and maybe often; then the reports do not end.
    """
    if listener is None and every is None:
        return fit(None)
    asked_for = listener is not None
    listener = listener or Listener(None, 0)
    reporter = Reporter.to(listener, every=_EVERY if asked_for or every is None else every)
    ctrl_c = CtrlC(listener.stop)
    try:
        with ctrl_c:
            listener.look = ctrl_c.look
            result = fit(reporter)
            if not is_concrete(*jax.tree.leaves(result)):
                listener.replayed = True
                return result
            wait(result)
    except BaseException:
        listener.stop()
        reporter.leave()
        raise
    reporter.leave()
    listener.close()
    if listener.stopped and not asked_for:
        raise KeyboardInterrupt
    return result


class _Display:
    """A bar of tqdm if it is installed, otherwise a line per second, in the log or on stderr."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.pending: Report | None = None
        self.last_line = -math.inf  # in seconds of the fit

    def __call__(self, report: Report) -> None:
        try:
            from tqdm import tqdm  # pyright: ignore[reportMissingModuleSource]
        except ImportError:
            self.pending = report
            if report.seconds - self.last_line >= _LINE_SECONDS:
                self.line()
            return
        if self.bar is None:
            self.bar = tqdm(desc="vijax", unit="it")
        self.bar.set_postfix_str(str(report).partition(": ")[2], refresh=False)
        self.bar.update(report.iteration - self.bar.n)

    def line(self) -> None:
        if self.pending is None:
            return
        log, text = logging.getLogger("vijax"), str(self.pending)
        self.last_line, self.pending = self.pending.seconds, None
        if log.hasHandlers() and log.isEnabledFor(logging.INFO):
            log.info(text)
        else:
            sys.stderr.write(f"vijax: {text}\n")

    def close(self) -> None:
        self.line()
        if self.bar is not None:
            self.bar.close()
