"""What a fit is given, carries and returns: stopping rule, state, status, result."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._pytree import pytree, replace, shown_as, static
from .._text import Described, Overview
from ..data.absent import with_nan
from ..data.host import fetched, is_concrete, readable, to_device
from ..exponential_family import Q_co
from .frames import frame_of_components
from .status import REMEDIES, Status

_R = TypeVar("_R", bound="Result[Any]")

_AGREE = 0.1  # nats between two runs that found the same optimum
_ROUNDING = 32.0  # times eps and the objective: nats that summing it may cost
_SHOWN = 10  # of many fits, in a notebook
_SEVERAL = 3  # restarts, of which more than one should find the optimum
_ADVICE = "a better one may be left: raise num_restarts, or let moves=Moves() search on"


class FitError(RuntimeError):
    """Raised by `Result.check`; it names the fits, the reason and the remedy."""


class RestartWarning(UserWarning):
    """Given by `Result.check` where only one of several restarts found the optimum."""


@pytree
class Stop:
    """When to stop. Numbers are traced, so that a new value never compiles anew.

    A fit has CONVERGED when, `patience` times in a row, all future iterations together were
    forecast to improve the objective by less than `tol` nats. The forecast is Aitken's: an
    improvement g that shrinks by the ratio r per iteration has g / (1 - r) to come (Boehning et al.
    1994), with r taken as at least 0.9. An improvement that still grows, as on the plateau before a
    component dies, forecasts no end. Improvements of rounding size end a fit too: those that move q
    by no more than the dtype or the E-step's kernel can resolve, and those below 1e-4 `tol` that
    did not rise in 50 steps and brought no new minimum.

    The method reports the improvement. CAVI and EM measure the move of q in nats, since differences
    of a float32 objective over 1e6 rows are rounding. Nats mean the same for any number of rows and
    any unit of the data: if the bound is within `tol` of its limit, q is within about sqrt(2 tol)
    posterior standard deviations of its own. The forecast cannot see an escape that has not begun:
    a start on a plateau may end there, which is one more reason for several starts.

    `max_iter` iterations end a fit as MAX_ITER. ELBO_DECREASED is set when the objective falls by
    more than `slack` times eps * (|objective| + rows); less is rounding. Larger terms that cancel,
    as in an `Energy`, count too, unless their rounding spoils q. `trace`, the length of
    `elbo_trace`, is part of the program; iterations beyond it are not recorded.

    Example:
        stop = vx.Stop(tol=0.1, max_iter=200)  # as in vx.fit(model, x, stop=stop)
    """

    tol: float | Float[Array, ""] = 1e-3
    patience: int | Int[Array, ""] = 3
    max_iter: int | Int[Array, ""] = 1000
    slack: float | Float[Array, ""] = 32.0
    trace: int = static(default=1024)


@pytree
class State:
    """The state between two steps: `q` with its objective `elbo` in nats, and `next_q` to evaluate.

    `improvement` is about what the last step gained, in nats. `failure` is a Status that the method
    sets, 0 for none. `memory` is all else that the method must remember. `rate` is the ratio by
    which improvements shrink per step; None has it taken from the last two improvements.
    `magnitude` is that of the model, the nats that rounding of `elbo` is relative to, and only read
    when the step is judged; None is |`elbo`| + rows. `rows` is the state of the rows, for models
    whose rows have one.
    """

    q: Any
    next_q: Any
    elbo: Float[Array, "*b"]
    improvement: Float[Array, "*b"]
    failure: Int[Array, "*b"]
    memory: Any = None
    rate: Float[Array, "*b"] | None = None
    magnitude: Float[Array, "*b"] | None = None
    rows: Any = None


@pytree
class Runs:
    """All restarts of a fit, without their q, on a leading axis r."""

    elbo: Float[Array, "*b r"]
    status: Int[Array, "*b r"]
    n_iter: Int[Array, "*b r"]
    _elbo_trace: Float[Array, "*b r t"] = shown_as("elbo_trace")

    @property
    def elbo_trace(self) -> Float[Array, "*b r t"]:
        """The objective of every iteration of every restart in nats, NaN after the last."""
        return with_nan(self._elbo_trace)


@pytree
class Result(Generic[Q_co]):
    """The result of a fit; under vmap every array has the batch axes in front.

    `elbo` is the objective of exactly this `q` in nats, NaN if it was never finite: the bound of
    CAVI, the log-likelihood (plus log-prior) of EM. `elbo_se` is its standard error in nats where
    it is an estimate, as after GaussianVI, and None where it is exact. `point` says that the
    estimate is `q.point()`, as after EM. `names` are those of the data's columns, if any.
    """

    q: Q_co
    elbo: Float[Array, "*b"]
    status: Int[Array, "*b"]
    n_iter: Int[Array, "*b"]
    _elbo_trace: Float[Array, "*b t"] = shown_as("elbo_trace")
    runs: Runs | None = None
    elbo_se: Float[Array, "*b"] | None = None
    point: bool = static(default=False)
    names: tuple[str, ...] | None = static(default=None)

    def __getitem__(self: _R, index: Any) -> _R:
        """One of many fits, or those of a slice or an array of indices or booleans.

        Raises IndexError for a number out of range, and TypeError for a single fit.
        """
        if not jnp.ndim(self.elbo):
            raise TypeError("a single fit cannot be indexed; only many fits have members")
        m = self.elbo.shape[0]
        if isinstance(index, int | np.integer) and not -m <= index < m:
            raise IndexError(f"index {index}, but there are {m} fits")
        if not is_concrete(index, *jax.tree.leaves(self)) or not _is_plain(index):
            return jax.tree.map(lambda a: a[index], self)
        chosen = np.arange(m)[index if isinstance(index, slice) else fetched(index)]
        return _members(self, chosen)

    @property
    def elbo_trace(self) -> Float[Array, "*b t"]:
        """The objective of every iteration in nats, NaN after the last."""
        return with_nan(self._elbo_trace)

    @property
    def elbos(self) -> Float[Array, "*b r"]:
        """Final objective of every restart, in nats."""
        return self.elbo[..., None] if self.runs is None else self.runs.elbo

    @property
    def statuses(self) -> Int[Array, "*b r"]:
        """Status of every restart."""
        return self.status[..., None] if self.runs is None else self.runs.status

    @property
    def converged(self) -> Any:
        """Whether status is CONVERGED, elementwise."""
        return _has_status(self.status, status=Status.CONVERGED)

    @property
    def usable(self) -> Bool[Array, "*b"]:
        """Whether the objective is finite, and the status neither NON_FINITE nor COLLAPSED."""
        return _usable(self.status, self.elbo)

    @property
    def agreeing(self) -> Int[Array, "*b"]:
        """Number of restarts whose objective is within 0.1 nats, and rounding, of the returned."""
        return _agreeing(self.elbo, self.statuses, self.elbos)

    def check(self: _R) -> _R:
        """Return self if every fit converged; otherwise raise FitError.

        It warns with a RestartWarning of fits that only one of three or more restarts found, and
        waits for the device.
        """
        status = fetched(self.status)
        if (status == Status.CONVERGED).all():
            lonely = self._lonely()
            if lonely.any():
                fits = f" in {lonely.sum()} of {lonely.size} fits" if lonely.ndim else ""
                number = self.elbos.shape[-1]
                message = f"only 1 of {number} restarts found the optimum{fits}; {_ADVICE}"
                warnings.warn(message, RestartWarning, stacklevel=2)
            return self
        lanes = np.argwhere(status != Status.CONVERGED)
        failures = [Status(s) for s in np.unique(status[status != Status.CONVERGED])]
        reasons = "; ".join(f"{s.name}: {REMEDIES[s]}" for s in reversed(failures))
        if status.ndim == 0:
            raise FitError(f"after {int(fetched(self.n_iter))} iterations, {reasons}")
        some = ", ".join(str(tuple(map(int, lane))).replace(",)", ")") for lane in lanes[:5])
        more = ", ..." if len(lanes) > 5 else ""
        raise FitError(f"{len(lanes)} of {status.size} fits, lanes {some}{more}: {reasons}")

    def __repr__(self) -> str:
        numbers = self.elbo, self.status, self.n_iter
        if any(a is None for a in numbers) or not readable(numbers):
            return f"{type(self).__name__}(traced)"
        ended = _summary_of_many(self).splitlines()[0] if jnp.ndim(self.status) else self._ended()
        return f"{type(self).__name__}({ended})"

    def _repr_html_(self) -> str:
        if not readable(self):
            return Overview([repr(self)]).html()
        if self.status.ndim:
            return _table_of_many(self).html()
        if not isinstance(self.q, Described):
            return Overview([*self._lines(), repr(self.q)]).html()
        names = {} if self.names is None else {"names": list(self.names)}
        return self.q.overview(point=self.point, **names).below(self._lines()).html()

    def _ended(self) -> str:
        elbo, n_iter, status = (fetched(a) for a in (self.elbo, self.n_iter, self.status))
        label = "objective" if self.point else "ELBO"
        error = "" if self.elbo_se is None else f" ± {float(fetched(self.elbo_se)):.2g}"
        best = f"{label} {float(elbo):.4f}{error} nats after {int(n_iter)} iterations"
        return f"{Status(int(status)).name}, {best}"

    def summary(self, **options: Any) -> str:
        """A table as text: how the fit ended, and `q.summary(**options)`."""
        if self.status.ndim:
            return _summary_of_many(self)
        if self.names is not None:
            options = {"names": list(self.names), **options}
        q: Any = self.q
        table = q.summary(point=self.point, **options)
        return "\n".join([*self._lines(), *([table] if table else [])])

    def to_frame(self) -> Any:
        """One row for each component: number, weight and parameters; of many fits `data_set` too.

        It is a data frame of pandas or of polars, whichever is installed, else a dict of arrays.
        Raises TypeError for a q without components.
        """
        return frame_of_components(self.q, self.names, self.point, jnp.ndim(self.elbo) > 0)

    def _lines(self) -> list[str]:
        """How the fit ended, and what its restarts found."""
        lines = [self._ended()]
        if self.elbos.shape[-1] > 1:
            counts = _count_statuses(fetched(self.statuses))
            number = self.elbos.shape[-1]
            lines.append(f"best of {number} restarts ({counts})")
            lines.append(
                f"found by {int(fetched(self.agreeing))} of {number} restarts, within {_AGREE} nats"
            )
            if self._lonely():
                lines.append(_ADVICE)
        return lines

    def _lonely(self) -> np.ndarray:
        """Which fits only one of several restarts found; restarts that were dropped do not count.

        Nor do fits of which no objective is known.
        """
        compared = np.sum(fetched(self.statuses) != Status.DROPPED, -1)
        return np.asarray((compared >= _SEVERAL) & (fetched(self.agreeing) == 1))


def rank(status: Int[Array, "*b r"], elbo: Float[Array, "*b r"]) -> Float[Array, "*b r"]:
    """The objective of the runs that `best` chooses from; -inf for the others."""
    usable = _usable(status, elbo)
    sound = usable & (status != Status.ELBO_DECREASED)
    return jnp.where(jnp.where(jnp.any(sound, -1, keepdims=True), sound, usable), elbo, -jnp.inf)


# programs, since an operation by itself would move its constants to the device


@partial(jax.jit, static_argnames="status")
def _has_status(found: Int[Array, "*b"], *, status: int) -> Bool[Array, "*b"]:
    return found == status


@jax.jit
def _agreeing(
    elbo: Float[Array, "*b"], statuses: Int[Array, "*b r"], elbos: Float[Array, "*b r"]
) -> Int[Array, "*b"]:
    best = elbo[..., None]
    near = _AGREE + _ROUNDING * jnp.finfo(best.dtype).eps * jnp.abs(best)
    return jnp.sum(rank(statuses, elbos) >= best - near, -1, dtype=jnp.int32)


@jax.jit
def _take(arrays: list[Array], index: Int[Array, "..."]) -> list[Array]:
    return [a[index] for a in arrays]


def _is_plain(index: Any) -> bool:
    """Whether it picks members of the leading axis alone."""
    return isinstance(index, int | np.integer | slice | list | np.ndarray | jax.Array)


def _members(results: _R, index: np.ndarray | np.integer) -> _R:
    """Members of the leading axis: of all arrays of the device by one program, of others here."""
    leaves, structure = jax.tree.flatten(results)
    there = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)]
    taken = _take([leaves[i] for i in there], to_device(index, np.int32))
    new = dict(zip(there, taken, strict=True))
    picked = [new[i] if i in new else leaf[index] for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(structure, picked)


@jax.jit
def _usable(status: Int[Array, "*b"], elbo: Float[Array, "*b"]) -> Bool[Array, "*b"]:
    failed = (status == Status.NON_FINITE) | (status == Status.COLLAPSED)
    return ~failed & jnp.isfinite(elbo)


def best(results: _R) -> _R:
    """The run with the highest finite objective along the last batch axis.

    A run that ended NON_FINITE or COLLAPSED loses against any other, whatever its objective, and
    one that ended ELBO_DECREASED against all others that are usable.

    Args:
        results: Runs on the last batch axis of `results.status`; all are kept in `runs`.

    Example:
        model = vx.NormalGammaExact.with_prior(mean=0.0, kappa=1.0, shape=1.0, rate=1.0)
        runs = jax.vmap(lambda i: vx.fit(model, jnp.ones(9)))(jnp.arange(3))
        result = vx.best(runs)
    """
    axis = results.status.ndim - 1
    winner = jnp.argmax(rank(results.status, results.elbo), -1)

    def take(leaf: Array) -> Array:
        index = jnp.expand_dims(winner, tuple(range(axis, leaf.ndim)))
        return jnp.take_along_axis(leaf, index, axis).squeeze(axis)

    runs = Runs(results.elbo, results.status, results.n_iter, results._elbo_trace)
    return replace(jax.tree.map(take, results), runs=runs)


def _count_statuses(status: np.ndarray) -> str:
    values, counts = np.unique(status, return_counts=True)
    return ", ".join(f"{n} {Status(s).name}" for s, n in zip(values, counts, strict=True))


def _summary_of_many(results: Result) -> str:
    status, elbo = fetched(results.status), fetched(results.elbo)
    iterations = fetched(results.n_iter)
    head = f"{status.size} fits: {_count_statuses(status)}"
    known = elbo[np.isfinite(elbo)]
    label = "objective" if results.point else "ELBO"
    bounds = f"{label} {known.min():.4f} to {known.max():.4f} nats" if known.size else "no bound"
    return f"{head}\n{bounds}, {np.median(iterations):.0f} iterations in the median"


def _table_of_many(results: Result) -> Overview:
    """The first of many fits, one below the other."""
    status = fetched(results.status)
    numbers = [index for index, _ in zip(np.ndindex(status.shape), range(_SHOWN), strict=False)]
    elbo, n_iter = fetched(results.elbo), fetched(results.n_iter)
    rows = {
        "status": [Status(int(status[i])).name for i in numbers],
        "objective" if results.point else "ELBO": [f"{float(elbo[i]):.4f}" for i in numbers],
        "iterations": [str(int(n_iter[i])) for i in numbers],
    }
    lines = _summary_of_many(results).splitlines()
    if status.size > _SHOWN:
        lines.append(f"the first {_SHOWN} of them:")
    return Overview(lines, [", ".join(map(str, i)) for i in numbers], rows, corner="fit")
