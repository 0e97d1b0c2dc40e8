"""What a fit tells while it runs: one report for all lanes of a batch, off unless asked for."""

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

from ..._pytree import pytree
from ...data.host import is_concrete

_EVERY = 10  # iterations between two reports from a traced loop: a report costs about 50 us
_LINE_SECONDS = 1.0  # between two lines where there is no tqdm


@dataclasses.dataclass(frozen=True)
class Report:
    """The state of all `lanes` of a fit: restarts, data sets, and whatever else is vmapped.

    `iteration` is the largest of any lane; `best`, `median` and `worst` are objectives in nats,
    of the lanes where it is finite (NaN where it is in none); `running` lanes have not stopped.
    `rows_per_second` counts the rows of all lanes, once per iteration, since the report before.
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
        spread = f"{self.best:.6g}"
        if self.lanes > 1:
            spread += f", median {self.median:.6g}, worst {self.worst:.6g}"
            spread += f", {self.running} of {self.lanes} running"
        return f"iteration {self.iteration}: {spread} nats{speed}"


class Listener:
    """The host's side of one fit: a clock, and the function that hears the reports.

    What that function raises is kept and told after the fit by `close`; it hears no more then.
    """

    def __init__(self, callback: Callable[[Report], Any], num_rows: int, close: Any = None):
        self.callback, self.num_rows, self._close = callback, num_rows, close
        self.error: BaseException | None = None
        self._begin = self._last = time.perf_counter()
        self._passes = 0

    def hear(self, figures: Any, counts: Any) -> None:
        """`figures` are best, median and worst; `counts` running, lanes, iteration, passes."""
        if self.error is not None:
            return
        now = time.perf_counter()
        running, lanes, iteration, passes = (int(c) for c in counts)
        if passes == 0:  # the program begins, maybe again: compilation does not count
            self._begin, self._last, self._passes = now, now, 0
            return
        rows = (passes - self._passes) * self.num_rows
        speed = rows / max(now - self._last, 1e-9)
        self._last, self._passes = now, passes
        best, median, worst = (float(f) for f in figures)
        try:
            self.callback(
                Report(iteration, best, median, worst, running, lanes, speed, now - self._begin)
            )
        except Exception as error:
            self.error = error

    def close(self) -> None:
        """Tell once, as a RuntimeWarning, what the callback raised."""
        if self._close is not None:
            self._close()
        if self.error is not None:
            error, where = self.error, "the fit went on without it"
            warnings.warn(f"callback: raised {error!r}; {where}", RuntimeWarning, stacklevel=4)


_LISTENERS: dict[int, Listener] = {}  # who hears the programs that run now
_TOKENS = itertools.count()


@pytree
class Reporter:
    """What a program must know to report. Traced: another callback is not another program."""

    token: Int[Array, ""]
    every: Int[Array, ""]

    @classmethod
    def to(
        cls, callback: Callable[[Report], Any] | Listener, num_rows: int = 0, every: int = _EVERY
    ) -> Reporter:
        """For `iterate`: `callback` hears a Report every so many iterations, until `leave`.

        `num_rows`, of one lane, is for `rows_per_second`.
        """
        token = next(_TOKENS)
        known = isinstance(callback, Listener)
        _LISTENERS[token] = callback if known else Listener(callback, num_rows)
        return cls(jnp.asarray(token, jnp.int32), jnp.asarray(every, jnp.int32))

    def leave(self) -> None:
        """Host side: wait for the reports under way, and end."""
        jax.effects_barrier()
        _LISTENERS.pop(int(self.token), None)


def report(
    reporter: Reporter | None,
    elbo: Float[Array, ""],
    running: Bool[Array, ""],
    n_iter: Int[Array, ""],
    *,
    step: Int[Array, ""] | None = None,
    passes: Int[Array, ""] | None = None,
    last: bool = False,
) -> None:
    """Report from within any traced loop, once for all lanes that vmaps around it make.

    Call it with what a lane has before the iteration: lanes that have stopped are then shown as
    they ended. The first call starts the clock and is not heard. `step` counts the rounds of the
    loop (default `n_iter`) and decides when a report is due; `passes` how often this lane has read
    its rows (default `n_iter`). `last`, after the loop, is always due. Nothing is added to the
    program where `reporter` is None.
    """
    if reporter is None:
        return
    step = n_iter if step is None else step
    passes = n_iter if passes is None else passes
    due = jnp.asarray(last) | ((step % reporter.every == 0) & running)
    known = jnp.isfinite(elbo) & (elbo > -jnp.finfo(elbo.dtype).max)
    lane = (jnp.where(known, elbo, jnp.nan), running, n_iter, passes, due)
    _emit(reporter.token, *(value[None] for value in lane))


@custom_vmap
def _emit(token: Array, elbo: Array, running: Array, n_iter: Array, passes: Array, due: Array):
    """Lanes on one axis. Figures, not lanes, leave the device: few bytes, however many lanes."""

    def send() -> None:
        figures = jnp.stack([jnp.nanmax(elbo), jnp.nanmedian(elbo), jnp.nanmin(elbo)])
        lanes = jnp.asarray(elbo.shape[0], n_iter.dtype)
        counts = [jnp.sum(running, dtype=n_iter.dtype), lanes, jnp.max(n_iter)]
        total = jnp.sum(passes, dtype=n_iter.dtype)
        jax.debug.callback(_deliver, token, figures, jnp.stack([*counts, total]))

    lax.cond(jnp.any(due), send, lambda: None)
    return ()


@_emit.def_vmap
def _emit_lanes(size: int, batched: Any, token: Array, *lanes: Array) -> Any:
    def flat(value: Array, has_axis: bool) -> Array:
        whole = value if has_axis else jnp.broadcast_to(value, (size, *value.shape))
        return whole.reshape(-1)

    token = token[0] if batched[0] else token
    _emit(token, *(flat(v, b) for v, b in zip(lanes, batched[1:], strict=True)))
    return (), ()


def _deliver(token: Any, figures: Any, counts: Any) -> None:
    """Must not raise: that would end the computation."""
    listener = _LISTENERS.get(int(token))
    if listener is None:
        return
    try:
        listener.hear(figures, counts)
    except BaseException as error:  # Ctrl-C on a thread of the runtime
        listener.error = error


def tell(listener: Listener | None, elbo: Any, running: Any, n_iter: Any) -> None:
    """As `report`, from a loop on the host; arrays over lanes."""
    if listener is None:
        return
    elbo, n_iter = np.asarray(elbo, np.float64), np.asarray(n_iter)
    known = elbo[np.isfinite(elbo) & (elbo > np.finfo(np.float32).min)]
    figures = [f(known) if known.size else math.nan for f in (np.max, np.median, np.min)]
    listener.hear(figures, [np.sum(running), elbo.size, n_iter.max(), n_iter.sum()])


def listener_of(progress: Any, callback: Any, num_rows: int) -> Listener | None:
    """None where nothing is asked for; TypeError for what is no callback."""
    if not isinstance(progress, bool):
        raise TypeError(f"progress: expected True or False, got {progress!r:.80}")
    if callback is not None and not callable(callback):
        raise TypeError(f"callback: expected a function of a Report, got {callback!r:.80}")
    shown = _Display() if progress else None
    if callback is None and shown is None:
        return None
    heard = [f for f in (shown, callback) if f is not None]

    def both(news: Report) -> None:
        for each in heard:
            each(news)

    return Listener(both, num_rows, None if shown is None else shown.close)


def watched(fit: Callable[[Reporter | None], Any], listener: Listener | None) -> Any:
    """`fit` of a Reporter that `listener` hears until it is done.

    Where the result is traced, the program runs later, nobody knows how often: it is heard then.
    """
    if listener is None:
        return fit(None)
    reporter = Reporter.to(listener)
    try:
        result = fit(reporter)
        traced = not is_concrete(*jax.tree.leaves(result))
        if not traced:
            jax.block_until_ready(result)
    except BaseException:
        reporter.leave()
        raise
    if not traced:
        reporter.leave()
        listener.close()
    return result


class _Display:
    """A bar of tqdm if that is installed, else now and then a line: logged, or on stderr."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.news: Report | None = None
        self.shown = -math.inf

    def __call__(self, news: Report) -> None:
        try:
            from tqdm import tqdm  # pyright: ignore[reportMissingModuleSource]
        except ImportError:
            self.news = news
            if news.seconds - self.shown >= _LINE_SECONDS:
                self.line()
            return
        if self.bar is None:
            self.bar = tqdm(desc="vijax", unit="it")
        self.bar.set_postfix_str(str(news).partition(": ")[2], refresh=False)
        self.bar.update(news.iteration - self.bar.n)

    def line(self) -> None:
        if self.news is None:
            return
        log, text = logging.getLogger("vijax"), str(self.news)
        self.shown, self.news = self.news.seconds, None
        if log.hasHandlers() and log.isEnabledFor(logging.INFO):
            log.info(text)
        else:
            sys.stderr.write(f"vijax: {text}\n")

    def close(self) -> None:
        self.line()
        if self.bar is not None:
            self.bar.close()
