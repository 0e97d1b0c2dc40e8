"""Smooth one-to-one maps from free numbers to parameters that satisfy a constraint.

A Gaussian lives on all of R^m, a scale or a probability does not. So a density p(x) of constrained
x is fitted in free numbers u with x = f(u), as the density p(f(u)) |det df/du|. The log of the
determinant is the `log_det` that `forward` returns beside x, in nats; with it bounds stay bounds on
the evidence of p itself.

Determinants are with respect to Lebesgue measure on coordinates of x that are free: all of them, for
`Simplex` the first k - 1, for `CholeskyCorrelation` those below the diagonal. Densities of the
textbooks, such as the Dirichlet's, are written with respect to the same.

Constraints are part of the program, as shapes are: they hold no arrays, and two that say the same
are equal. In the formulas below rows and columns count from 1.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from ._pytree import pytree, static
from .data.host import as_floats, is_concrete, to_device, unguarded
from .data.reader import read_numbers


class Constraint(abc.ABC):
    """A smooth one-to-one map from free numbers u to values that satisfy a constraint.

    A constraint of your own is a subclass decorated with `vijax.pytree`, whose fields, if it has
    any, are `vijax.static()`: numbers, strings or tuples of these. It writes `forward` and
    `inverse` with `jax.numpy`, for u of any size, and `free_shape` where u has another shape than
    the value. Equality and hash are by class and fields::

        @vx.pytree
        class GreaterThanOne(vx.constraints.Constraint):
            def forward(self, u):
                return 1.0 + jnp.exp(u), jnp.sum(u)

            def inverse(self, value):
                return jnp.log(value - 1.0)
    """

    @abc.abstractmethod
    def forward(self, u: ArrayLike) -> tuple[Float[Array, "..."], Float[Array, ""]]:
        """The value at u, and log |det d value / d u| in nats, summed over the whole array."""

    @abc.abstractmethod
    def inverse(self, value: ArrayLike) -> Float[Array, "..."]:
        """The free numbers u at which `forward` has this value; finite ones at the boundary."""

    def free_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of u for a value of this shape; the same one unless a subclass says otherwise.

        Raises ValueError naming the constraint if no value of this shape can satisfy it.
        """
        return tuple(shape)

    def check(self, value: Any) -> Bool[np.ndarray, "..."]:
        """Whether a concrete value satisfies the constraint, in NumPy, one answer per free event.

        An event is a number, a vector or a matrix, whatever is constrained as one. By default each
        number has to survive `forward(inverse(value))` to half of its digits.
        """
        given = _concrete(value)
        with unguarded():
            back = np.asarray(self.forward(self.inverse(given))[0])
        near = _tolerance(given) * np.maximum(np.abs(given), 1.0)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.abs(back - given) <= near)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Constraint):
            return NotImplemented
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *sorted(vars(self).items())))


# -- one number at a time -------------------------------------------------------------------------


@pytree
class Real(Constraint):
    """Any finite numbers: the value is u itself."""

    def forward(self, u: ArrayLike) -> tuple[Float[Array, "..."], Float[Array, ""]]:
        value = _floats("u", u)
        return value, jnp.zeros((), value.dtype)

    def inverse(self, value: ArrayLike) -> Float[Array, "..."]:
        return _floats("value", value)

    def check(self, value: Any) -> Bool[np.ndarray, "..."]:
        return np.asarray(np.isfinite(_concrete(value)))


@pytree
class Positive(Constraint):
    """Numbers above 0: exp(u).

    Values that would underflow to 0 or overflow are held at the ends of what the dtype can hold.
    """

    def forward(self, u: ArrayLike) -> tuple[Float[Array, "..."], Float[Array, ""]]:
        value, log_det = _exp(_floats("u", u))
        return value, log_det.sum()

    def inverse(self, value: ArrayLike) -> Float[Array, "..."]:
        return _log(_floats("value", value))

    def check(self, value: Any) -> Bool[np.ndarray, "..."]:
        given = _concrete(value)
        return np.asarray((given > 0) & np.isfinite(given))


@pytree
class Interval(Constraint):
    """Numbers strictly between low and high: low + (high - low) / (1 + exp(-u)).

    Either end may be infinite: low + exp(u) without an upper end, high - exp(-u) without a lower
    one. Ends may be arrays that broadcast to the shape of the value; they are kept as tuples of
    floats. Values never reach an end, though they may come as close as the dtype can tell.

    Raises ValueError for low >= high, NaN, and two infinite ends, and TypeError for what is no
    number or traced.
    """

    low: Any = static()
    high: Any = static()

    def __post_init__(self) -> None:
        low, high = _end("low", self.low), _end("high", self.high)
        try:
            pairs = np.broadcast_arrays(low, high)
        except ValueError:
            raise ValueError(
                f"Interval: low has shape {low.shape} and high {high.shape}; expected shapes that "
                "broadcast"
            ) from None
        for a, b in zip(*(np.ravel(pair) for pair in pairs), strict=True):
            if not a < b:
                raise ValueError(f"Interval: low must be below high, got {a:g} and {b:g}")
            if np.isinf(a) and np.isinf(b):
                raise ValueError("Interval: both ends are infinite; give Real() instead")
        object.__setattr__(self, "low", _nested(low.tolist()))
        object.__setattr__(self, "high", _nested(high.tolist()))

    def forward(self, u: ArrayLike) -> tuple[Float[Array, "..."], Float[Array, ""]]:
        u = _floats("u", u)
        self.free_shape(u.shape)
        ends = _Ends(self, u.dtype)
        value, log_det = jnp.zeros_like(u), jnp.zeros_like(u)

        def chosen(which: np.ndarray, new: Array, old: Array) -> Array:
            return new if which.all() else jnp.where(which, new, old)

        only_low, only_high = ends.has_low & ~ends.has_high, ends.has_high & ~ends.has_low
        both = ends.has_low & ends.has_high
        if both.any():
            inside = ends.low * jax.nn.sigmoid(-u) + ends.high * jax.nn.sigmoid(u)
            value = chosen(both, inside, value)
            log_slope = ends.log_width - jax.nn.softplus(u) - jax.nn.softplus(-u)
            log_det = chosen(both, log_slope, log_det)
        if only_low.any():
            step, log_step = _exp(u)
            value = chosen(only_low, ends.low + step, value)
            log_det = chosen(only_low, log_step, log_det)
        if only_high.any():
            step, log_step = _exp(-u)
            value = chosen(only_high, ends.high - step, value)
            log_det = chosen(only_high, log_step, log_det)
        return jnp.clip(value, ends.least, ends.most), log_det.sum()

    def inverse(self, value: ArrayLike) -> Float[Array, "..."]:
        value = _floats("value", value)
        self.free_shape(value.shape)
        ends = _Ends(self, value.dtype)
        value = jnp.clip(value, ends.least, ends.most)
        from_low = jnp.where(ends.has_low, _log(value - ends.low), 0.0)
        from_high = jnp.where(ends.has_high, _log(ends.high - value), 0.0)
        return from_low - from_high

    def free_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        own = np.broadcast_shapes(np.shape(self.low), np.shape(self.high))
        fits = len(own) <= len(shape) and all(
            a in (1, b) for a, b in zip(own[::-1], tuple(shape)[::-1], strict=False)
        )
        if not fits:
            raise ValueError(
                f"Interval: its ends of shape {own} do not broadcast to a value of shape "
                f"{tuple(shape)}"
            )
        return tuple(shape)

    def check(self, value: Any) -> Bool[np.ndarray, "..."]:
        given = _concrete(value)
        self.free_shape(given.shape)
        inside = (given > np.asarray(self.low)) & (given < np.asarray(self.high))
        return np.asarray(inside & np.isfinite(given))

    def __repr__(self) -> str:
        return f"Interval({_shown(self.low)}, {_shown(self.high)})"


class _Ends:
    """The ends of an interval in one dtype, 0 where infinite, and the numbers next to them."""

    def __init__(self, interval: Interval, dtype: Any):
        wide = np.broadcast_arrays(np.asarray(interval.low), np.asarray(interval.high))
        self.has_low, self.has_high = np.isfinite(wide[0]), np.isfinite(wide[1])
        both = self.has_low & self.has_high
        info = jnp.finfo(dtype)
        tiny, largest = float(info.tiny), float(info.max)
        with np.errstate(over="ignore", invalid="ignore"):
            low, high = (end.astype(dtype) for end in wide)
            width = np.where(both, high - low, 1.0)
            exact = np.where(both, wide[1] - wide[0], 1.0)
        kept = np.isfinite(low) == self.has_low, np.isfinite(high) == self.has_high
        if not (kept[0] & kept[1] & np.isfinite(width)).all():
            raise ValueError(f"{interval!r}: too wide for {np.dtype(dtype).name}; change the unit")
        # XLA takes subnormal numbers for 0
        least = np.nextafter(low, np.asarray(np.inf, dtype))
        least = np.where(np.abs(least) < tiny, np.where(low < 0, 0.0, tiny), least)
        most = np.nextafter(high, np.asarray(-np.inf, dtype))
        most = np.where(np.abs(most) < tiny, np.where(high > 0, 0.0, -tiny), most)
        if not (least <= most).all():
            raise ValueError(
                f"{interval!r}: {np.dtype(dtype).name} has no number between the ends; subtract "
                "an offset, or take another unit"
            )
        self.least = np.maximum(least, -largest).astype(dtype)
        self.most = np.minimum(most, largest).astype(dtype)
        self.low = np.where(self.has_low, low, 0.0).astype(dtype)
        self.high = np.where(self.has_high, high, 0.0).astype(dtype)
        self.log_width = np.log(exact).astype(dtype)


# -- vectors along the last axis ------------------------------------------------------------------


class _Vector(Constraint):
    """A constraint on vectors along the last axis."""

    def free_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        if not shape or shape[-1] < 1:
            raise ValueError(
                f"{type(self).__name__}: expected a vector along the last axis, got shape "
                f"{tuple(shape)}"
            )
        return tuple(shape)


@pytree
class Ordered(_Vector):
    """Ascending numbers along the last axis (*b, k): x_1 = u_1, x_i = x_(i-1) + exp(u_i).

    Steps that are lost in the rounding of x leave neighbours equal.
    """

    def forward(self, u: ArrayLike) -> tuple[Float[Array, "..."], Float[Array, ""]]:
        u = _floats("u", u)
        self.free_shape(u.shape)
        steps, log_det = _exp(u[..., 1:], terms=u.shape[-1])
        return jnp.cumsum(jnp.concatenate([u[..., :1], steps], -1), -1), log_det.sum()

    def inverse(self, value: ArrayLike) -> Float[Array, "..."]:
        value = _floats("value", value)
        self.free_shape(value.shape)
        return jnp.concatenate([value[..., :1], _log(jnp.diff(value, axis=-1))], -1)

    def check(self, value: Any) -> Bool[np.ndarray, "..."]:
        given = _concrete(value)
        self.free_shape(given.shape)
        return np.asarray((given[..., 1:] > given[..., :-1]).all(-1) & np.isfinite(given).all(-1))


@pytree
class PositiveOrdered(_Vector):
    """Ascending numbers above 0 along the last axis (*b, k): x_1 = exp(u_1), then as `Ordered`."""

    def forward(self, u: ArrayLike) -> tuple[Float[Array, "..."], Float[Array, ""]]:
        u = _floats("u", u)
        self.free_shape(u.shape)
        steps, log_det = _exp(u, terms=u.shape[-1])
        return jnp.cumsum(steps, -1), log_det.sum()

    def inverse(self, value: ArrayLike) -> Float[Array, "..."]:
        value = _floats("value", value)
        self.free_shape(value.shape)
        return _log(jnp.diff(value, axis=-1, prepend=jnp.zeros_like(value[..., :1])))

    def check(self, value: Any) -> Bool[np.ndarray, "..."]:
        given = _concrete(value)
        return Ordered().check(given) & (given[..., 0] > 0)


@pytree
class Simplex(_Vector):
    """Probabilities along the last axis (*b, k) from u of shape (*b, k - 1): softmax(H u).

    The k - 1 columns of H are the Helmert basis, orthonormal and orthogonal to 1, so that a
    permutation of the probabilities is an orthogonal map of u: the isometric log-ratio transform
    (Egozcue et al. 2003, Mathematical Geology 35). No category is special, as the last one is in
    stick breaking.

    `log_det` is that of the first k - 1 probabilities, the coordinates in which the density of the
    uniform distribution is (k - 1)!. For x = softmax(y_1 .. y_(k-1), 0) it is sum_i log x_i, and
    y = [I, -1] H u has the determinant det([I, -1] [I, -1]')^(1/2) = sqrt(k). Hence
    log_det = sum_i log x_i + log(k) / 2.
    """

    def forward(self, u: ArrayLike) -> tuple[Float[Array, "..."], Float[Array, ""]]:
        u = _floats("u", u)
        if not u.ndim:
            raise ValueError("Simplex: expected free numbers along the last axis, got one number")
        index, norm = _helmert(u)
        scaled = u / norm
        none = jnp.zeros_like(u, shape=(*u.shape[:-1], 1))
        tails = lax.cumsum(scaled, u.ndim - 1, reverse=True)
        score = jnp.concatenate([tails, none], -1) - jnp.concatenate([none, index * scaled], -1)
        log_value = jax.nn.log_softmax(score, -1)
        num_events = math.prod(u.shape[:-1])
        log_det = log_value.sum() + 0.5 * num_events * math.log(score.shape[-1])
        return _exp(log_value)[0], log_det

    def inverse(self, value: ArrayLike) -> Float[Array, "..."]:
        value = _floats("value", value)
        self.free_shape(value.shape)
        score = _log(value)
        score = score - score.mean(-1, keepdims=True)
        index, norm = _helmert(score[..., 1:])
        return (jnp.cumsum(score, -1)[..., :-1] - index * score[..., 1:]) / norm

    def free_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        *batch, k = super().free_shape(shape)
        return (*batch, k - 1)

    def check(self, value: Any) -> Bool[np.ndarray, "..."]:
        given = _concrete(value)
        self.free_shape(given.shape)
        near = np.abs(given.sum(-1) - 1.0) <= _tolerance(given)
        return np.asarray((given > 0).all(-1) & near)


# -- matrices along the last two axes -------------------------------------------------------------


@pytree
class CholeskyCorrelation(Constraint):
    """Cholesky factors L of correlation matrices, (*b, d, d), from u of shape (*b, d (d - 1) / 2).

    L is lower triangular with rows of length 1 and a positive diagonal; L L' is the correlation
    matrix. The numbers tanh(u), row by row below the diagonal, are canonical partial correlations z
    (Lewandowski, Kurowicka, Joe 2009, J. Multivariate Analysis 100): L_ij is z_ij times the length
    that the entries left of it leave to the row, prod_(m<j) sqrt(1 - z_im^2).

    `log_det` is that of the entries below the diagonal. Row by row that Jacobian is triangular with
    diagonal (1 - z_ij^2) prod_(m<j) sqrt(1 - z_im^2), which makes
    log_det = sum_(i>j) (i - j + 1) log(1 - z_ij^2) / 2.
    """

    def forward(self, u: ArrayLike) -> tuple[Float[Array, "..."], Float[Array, ""]]:
        u = _floats("u", u)
        i, j = _below_diagonal(u)
        d = 1 + int(i.max(initial=0))
        log_sech = math.log(2.0) - jnp.logaddexp(u, -u)  # log(1 - z^2) / 2
        square = jnp.zeros_like(u, shape=(*u.shape[:-1], d, d))
        used = jnp.cumsum(square.at[..., i, j].set(log_sech), -1)
        log_left = jnp.concatenate([square[..., :1], used[..., :-1]], -1)
        partial = (square + jnp.eye(d, dtype=u.dtype)).at[..., i, j].set(jnp.tanh(u))
        log_det = ((i - j + 1).astype(u.dtype) * log_sech).sum()
        return partial * _exp(log_left)[0], log_det

    def inverse(self, value: ArrayLike) -> Float[Array, "..."]:
        value = _floats("value", value)
        d = value.shape[-1] if self.free_shape(value.shape) else 1
        i, j = np.tril_indices(d, -1)
        log_square = 2.0 * _log(jnp.abs(value))
        lower = np.tri(d, dtype=bool)
        log_square = jnp.where(lower, log_square, 4.0 * math.log(jnp.finfo(value.dtype).tiny))
        # logs, for the squares of small numbers underflow
        log_rest = lax.cumlogsumexp(log_square, value.ndim - 1, reverse=True)
        rest = _exp(0.5 * log_rest)[0]
        return jnp.arcsinh(value[..., i, j] / rest[..., i, j + 1])

    def free_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        if len(shape) < 2 or shape[-1] != shape[-2] or shape[-1] < 1:
            raise ValueError(
                "CholeskyCorrelation: expected a square matrix along the last two axes, got shape "
                f"{tuple(shape)}"
            )
        *batch, _, d = shape
        return (*batch, d * (d - 1) // 2)

    def check(self, value: Any) -> Bool[np.ndarray, "..."]:
        given = _concrete(value)
        self.free_shape(given.shape)
        near = np.abs((given**2).sum(-1) - 1.0) <= _tolerance(given)
        positive = np.diagonal(given, axis1=-2, axis2=-1) > 0
        return np.asarray((near & positive).all(-1) & (np.triu(given, 1) == 0).all((-2, -1)))


# -- inside ---------------------------------------------------------------------------------------


def _floats(name: str, value: ArrayLike) -> Array:
    return to_device(as_floats(name, value))


def _concrete(value: Any) -> np.ndarray:
    if not is_concrete(*jax.tree.leaves(value)):
        raise TypeError("value: a tracer has no value to check; check outside of jit")
    return np.asarray(as_floats("value", value))


def _tolerance(value: np.ndarray) -> float:
    """Half of the digits, for values that people type or other programs round."""
    return math.sqrt(float(np.finfo(value.dtype).eps))


def _exp(u: Array, terms: int = 1) -> tuple[Array, Array]:
    """exp(u), never 0 and so small that `terms` of them have a finite sum; and its log, u.

    Where the value is held at its upper end the log is too, so that no density rises there.
    """
    info = jnp.finfo(u.dtype)
    least = math.log(float(info.tiny)) + 1.0
    most = math.log(float(info.max)) - math.log(max(terms, 1)) - 1.0
    return jnp.exp(jnp.clip(u, least, most)), jnp.minimum(u, most)


def _log(value: Array) -> Array:
    """log(value), finite at 0, below it and at infinity."""
    info = jnp.finfo(value.dtype)
    return jnp.log(jnp.clip(value, float(info.tiny), float(info.max)))


def _helmert(u: Array) -> tuple[np.ndarray, np.ndarray]:
    """j = 1 .. k - 1, and the length sqrt(j (j + 1)) of (1, .. 1, -j, 0, ..) with j ones."""
    index = np.arange(1, u.shape[-1] + 1, dtype=u.dtype)
    return index, np.sqrt(index * (index + 1.0))


def _below_diagonal(u: Array) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns, from 0, of the free numbers of a Cholesky factor."""
    size = u.shape[-1] if u.ndim else -1
    d = (1 + math.isqrt(1 + 8 * max(size, 0))) // 2
    if d * (d - 1) // 2 != size:
        raise ValueError(
            "CholeskyCorrelation: expected d (d - 1) / 2 free numbers along the last axis, got "
            f"shape {u.shape}"
        )
    return np.tril_indices(d, -1)


def _end(name: str, value: Any) -> np.ndarray:
    """An end of an interval in float64."""
    if not is_concrete(*jax.tree.leaves(value)):
        raise TypeError(
            f"{name}: a tracer cannot be an end of an Interval, which is part of the program; give "
            "numbers, or give the parameter Interval(0, 1) and scale it in the log density"
        )
    return read_numbers(name, value).astype(np.float64)


def _nested(value: Any) -> Any:
    return tuple(map(_nested, value)) if isinstance(value, list) else value


def _shown(end: Any) -> str:
    """A number or a short tuple as it is, else its shape."""
    line = f"{end:.6g}" if isinstance(end, float) else repr(end)
    return line if len(line) <= 40 else f"array of shape {np.shape(end)}"
