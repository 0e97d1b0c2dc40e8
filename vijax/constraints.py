"""Smooth one-to-one maps from free numbers to parameters that satisfy a constraint.

A Gaussian lives on all of R^m, a scale or a probability does not. A density p(x) of such x = f(u)
is therefore fitted as the density p(f(u)) |det df/du| of free numbers u, which leaves bounds on the
evidence what they are. `log_det` is the log of that determinant in nats, with respect to Lebesgue
measure on the coordinates of x that are free, as the densities of textbooks are: for `Simplex`
the first k - 1, for `CholeskyCorrelation` those below the diagonal, otherwise all.

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
from .numerics.broadcasting import broadcasts
from .numerics.clipped import Ends, clipped_exp, clipped_log


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


class _BuiltIn(Constraint):
    """What the constraints below share: arguments are read, and determinants summed, in one place.

    `_forward` returns the value and terms of log_det, `_inverse` u, `_holds` what `check` returns.
    """

    @broadcasts
    def forward(self, u: ArrayLike) -> tuple[Float[Array, "..."], Float[Array, ""]]:
        value, log_det = self._forward(to_device(as_floats("u", u)))
        return value, log_det.sum()

    @broadcasts
    def inverse(self, value: ArrayLike) -> Float[Array, "..."]:
        given = to_device(as_floats("value", value))
        self.free_shape(given.shape)
        return self._inverse(given)

    def check(self, value: Any) -> Bool[np.ndarray, "..."]:
        given = _concrete(value)
        self.free_shape(given.shape)
        return np.asarray(self._holds(given))

    @abc.abstractmethod
    def _forward(self, u: Array) -> tuple[Array, Array]: ...

    @abc.abstractmethod
    def _inverse(self, value: Array) -> Array: ...

    @abc.abstractmethod
    def _holds(self, value: np.ndarray) -> Any: ...


# -- one number at a time -------------------------------------------------------------------------


@pytree
class Real(_BuiltIn):
    """Any finite numbers: the value is u itself."""

    def _forward(self, u: Array) -> tuple[Array, Array]:
        return u, jnp.zeros_like(u)

    def _inverse(self, value: Array) -> Array:
        return value

    def _holds(self, value: np.ndarray) -> Any:
        return np.isfinite(value)


@pytree
class Positive(_BuiltIn):
    """Numbers above 0: exp(u).

    Values that would underflow to 0 or overflow are held at the ends of what the dtype can hold.
    """

    def _forward(self, u: Array) -> tuple[Array, Array]:
        return clipped_exp(u)

    def _inverse(self, value: Array) -> Array:
        return clipped_log(value)

    def _holds(self, value: np.ndarray) -> Any:
        return (value > 0) & np.isfinite(value)


@pytree
class Interval(_BuiltIn):
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
        if _broadcast(low.shape, high.shape) is None:
            shapes = f"{low.shape} and {high.shape}"
            raise ValueError(f"Interval: low and high have shapes {shapes}, which do not broadcast")
        if not (low < high).all():
            raise ValueError(f"Interval: low must be below high, got {low} and {high}")
        if np.any(np.isinf(low) & np.isinf(high)):
            raise ValueError("Interval: both ends are infinite; give Real() instead")
        object.__setattr__(self, "low", _nested(low.tolist()))
        object.__setattr__(self, "high", _nested(high.tolist()))

    def free_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        if _broadcast(np.shape(self.low), np.shape(self.high), shape) != tuple(shape):
            raise ValueError(f"{self!r}: does not broadcast to a value of shape {tuple(shape)}")
        return tuple(shape)

    def _forward(self, u: Array) -> tuple[Array, Array]:
        self.free_shape(u.shape)
        ends = Ends(self.low, self.high, u.dtype)
        inside = ends.low * jax.nn.sigmoid(-u) + ends.high * jax.nn.sigmoid(u)
        log_slope = ends.log_width - jax.nn.softplus(u) - jax.nn.softplus(-u)
        # beside one end: low + exp(u), or high - exp(-u)
        step, log_step = clipped_exp(ends.sign * u)
        beside = ends.one + ends.sign * step
        value = jnp.where(ends.both, inside, beside)
        return jnp.clip(value, ends.least, ends.most), jnp.where(ends.both, log_slope, log_step)

    def _inverse(self, value: Array) -> Array:
        ends = Ends(self.low, self.high, value.dtype)
        value = jnp.clip(value, ends.least, ends.most)
        from_low, from_high = clipped_log(value - ends.low), clipped_log(ends.high - value)
        beside = jnp.where(ends.sign > 0, from_low, -from_high)
        return jnp.where(ends.both, from_low - from_high, beside)

    def _holds(self, value: np.ndarray) -> Any:
        inside = (value > np.asarray(self.low)) & (value < np.asarray(self.high))
        return inside & np.isfinite(value)

    def __repr__(self) -> str:
        return f"Interval({_shown(self.low)}, {_shown(self.high)})"


# -- vectors along the last axis ------------------------------------------------------------------


class _Vector(_BuiltIn):
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

    def _forward(self, u: Array) -> tuple[Array, Array]:
        self.free_shape(u.shape)
        steps, log_det = clipped_exp(u[..., 1:], terms=u.shape[-1])
        return jnp.cumsum(jnp.concatenate([u[..., :1], steps], -1), -1), log_det

    def _inverse(self, value: Array) -> Array:
        return jnp.concatenate([value[..., :1], clipped_log(jnp.diff(value, axis=-1))], -1)

    def _holds(self, value: np.ndarray) -> Any:
        return (value[..., 1:] > value[..., :-1]).all(-1) & np.isfinite(value).all(-1)


@pytree
class PositiveOrdered(Ordered):
    """Ascending numbers above 0 along the last axis (*b, k): x_1 = exp(u_1), then as `Ordered`."""

    def _forward(self, u: Array) -> tuple[Array, Array]:
        self.free_shape(u.shape)
        steps, log_det = clipped_exp(u, terms=u.shape[-1])
        return jnp.cumsum(steps, -1), log_det

    def _inverse(self, value: Array) -> Array:
        return clipped_log(jnp.diff(value, axis=-1, prepend=jnp.zeros_like(value[..., :1])))

    def _holds(self, value: np.ndarray) -> Any:
        return super()._holds(value) & (value[..., 0] > 0)


@pytree
class Simplex(_Vector):
    """Probabilities along the last axis (*b, k) from u of shape (*b, k - 1): softmax(H u).

    The k - 1 columns of H are the Helmert basis, orthonormal and orthogonal to 1, so that a
    permutation of the probabilities is an orthogonal map of u: the isometric log-ratio transform
    (Egozcue et al. 2003, Mathematical Geology 35). No category is special.

    `log_det` is that of the first k - 1 probabilities, the coordinates in which the density of the
    uniform distribution is (k - 1)!. For x = softmax(y_1 .. y_(k-1), 0) it is sum_i log x_i, and
    y = [I, -1] H u has the determinant det([I, -1] [I, -1]')^(1/2) = sqrt(k). Hence
    log_det = sum_i log x_i + log(k) / 2.
    """

    def free_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        *batch, k = super().free_shape(shape)
        return (*batch, k - 1)

    def _forward(self, u: Array) -> tuple[Array, Array]:
        if not u.ndim:
            raise ValueError("Simplex: expected free numbers along the last axis, got one number")
        index, norm = _helmert(u)
        scaled = u / norm
        none = jnp.zeros_like(u, shape=(*u.shape[:-1], 1))
        tails = lax.cumsum(scaled, u.ndim - 1, reverse=True)
        score = jnp.concatenate([tails, none], -1) - jnp.concatenate([none, index * scaled], -1)
        log_value = jax.nn.log_softmax(score, -1)
        return clipped_exp(log_value)[0], log_value.sum(-1) + 0.5 * math.log(score.shape[-1])

    def _inverse(self, value: Array) -> Array:
        score = clipped_log(value)
        score = score - score.mean(-1, keepdims=True)
        index, norm = _helmert(score[..., 1:])
        return (jnp.cumsum(score, -1)[..., :-1] - index * score[..., 1:]) / norm

    def _holds(self, value: np.ndarray) -> Any:
        return (value > 0).all(-1) & (np.abs(value.sum(-1) - 1.0) <= _tolerance(value))


# -- matrices along the last two axes -------------------------------------------------------------


@pytree
class CholeskyCorrelation(_BuiltIn):
    """Cholesky factors L of correlation matrices, (*b, d, d), from u of shape (*b, d (d - 1) / 2).

    L is lower triangular with rows of length 1 and a positive diagonal; L L' is the correlation
    matrix. The numbers tanh(u), row by row below the diagonal, are canonical partial correlations z
    (Lewandowski, Kurowicka, Joe 2009, J. Multivariate Analysis 100): L_ij is z_ij times the length
    that the entries left of it leave to the row, prod_(m<j) sqrt(1 - z_im^2).

    `log_det` is that of the entries below the diagonal. Row by row that Jacobian is triangular with
    diagonal (1 - z_ij^2) prod_(m<j) sqrt(1 - z_im^2), which makes
    log_det = sum_(i>j) (i - j + 1) log(1 - z_ij^2) / 2.
    """

    def free_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        if len(shape) < 2 or shape[-1] != shape[-2] or shape[-1] < 1:
            raise ValueError(
                "CholeskyCorrelation: expected a square matrix along the last two axes, got shape "
                f"{tuple(shape)}"
            )
        return (*shape[:-2], shape[-1] * (shape[-1] - 1) // 2)

    def _forward(self, u: Array) -> tuple[Array, Array]:
        size = u.shape[-1] if u.ndim else -1
        d = (1 + math.isqrt(1 + 8 * max(size, 0))) // 2
        if d * (d - 1) // 2 != size:
            raise ValueError(
                "CholeskyCorrelation: expected d (d - 1) / 2 free numbers along the last axis, got "
                f"shape {u.shape}"
            )
        i, j = np.tril_indices(d, -1)
        log_sech = math.log(2.0) - jnp.logaddexp(u, -u)  # log(1 - z^2) / 2
        square = jnp.zeros_like(u, shape=(*u.shape[:-1], d, d))
        used = jnp.cumsum(square.at[..., i, j].set(log_sech), -1)
        log_left = jnp.concatenate([square[..., :1], used[..., :-1]], -1)
        partial = (square + jnp.eye(d, dtype=u.dtype)).at[..., i, j].set(jnp.tanh(u))
        return partial * clipped_exp(log_left)[0], jnp.asarray(i - j + 1, u.dtype) * log_sech

    def _inverse(self, value: Array) -> Array:
        d = value.shape[-1]
        i, j = np.tril_indices(d, -1)
        # in logs, for squares of small numbers underflow
        log_square = 2.0 * clipped_log(jnp.where(np.tri(d, dtype=bool), jnp.abs(value), 0.0))
        log_rest = lax.cumlogsumexp(log_square, value.ndim - 1, reverse=True)
        return jnp.arcsinh(value[..., i, j] / jnp.exp(0.5 * log_rest[..., i, j + 1]))

    def _holds(self, value: np.ndarray) -> Any:
        lower = (np.triu(value, 1) == 0).all((-2, -1))
        positive = (np.diagonal(value, axis1=-2, axis2=-1) > 0).all(-1)
        return lower & positive & (np.abs((value**2).sum(-1) - 1.0) <= _tolerance(value)).all(-1)


# -- inside ---------------------------------------------------------------------------------------


def _concrete(value: Any) -> np.ndarray:
    if not is_concrete(*jax.tree.leaves(value)):
        raise TypeError("value: a tracer has no value to check; check outside of jit")
    return np.asarray(as_floats("value", value))


def _tolerance(value: np.ndarray) -> float:
    """Half of the digits, for values that people type or other programs round."""
    return math.sqrt(float(np.finfo(value.dtype).eps))


def _helmert(u: Array) -> tuple[np.ndarray, np.ndarray]:
    """j = 1 .. k - 1, and the length sqrt(j (j + 1)) of (1, .. 1, -j, 0, ..) with j ones."""
    index = np.arange(1, u.shape[-1] + 1, dtype=u.dtype)
    return index, np.sqrt(index * (index + 1.0))


def _end(name: str, value: Any) -> np.ndarray:
    """An end of an interval in float64."""
    if not is_concrete(*jax.tree.leaves(value)):
        raise TypeError(
            f"{name}: a tracer cannot be an end of an Interval, which is part of the program; give "
            "numbers, or give the parameter Interval(0, 1) and scale it in the log density"
        )
    return read_numbers(name, value).astype(np.float64)


def _broadcast(*shapes: Sequence[int]) -> tuple[int, ...] | None:
    """The common shape; None if there is none."""
    try:
        return np.broadcast_shapes(*map(tuple, shapes))
    except ValueError:
        return None


def _nested(value: Any) -> Any:
    return tuple(map(_nested, value)) if isinstance(value, list) else value


def _shown(end: Any) -> str:
    """A number or a short tuple as it is, else its shape."""
    line = f"{end:.6g}" if isinstance(end, float) else repr(end)
    return line if len(line) <= 40 else f"array of shape {np.shape(end)}"
