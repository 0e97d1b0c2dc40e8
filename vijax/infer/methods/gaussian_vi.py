"""`GaussianVI`: the normal that is closest to any log density, by natural gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from ..._pytree import pytree, static
from ...data.absent import is_absent
from ...data.batch import Batch
from ...data.host import check_bound
from ...guides.roots import BlockRoot, FullRoot, LowRankRoot, SquareRoot
from ...guides.transformed_normal import TransformedNormal
from ...model import DensityModel, Model
from ...numerics import linalg
from ...numerics.broadcasting import broadcasts
from ...numerics.chunked import zeros_like_result
from ...numerics.matched_draws import map_draws, matched
from ...numerics.quasi_newton import lbfgs_direction, remembered
from ..result import State
from ..run.loop import unevaluated
from ..status import Status
from .black_box import (
    FixedDraws,
    check_draws,
    draws_at_once,
    need_density,
    root_of,
)

_FEWEST_DRAWS, _MORE_DRAWS = 64, 128
_MANY = 8  # parameters, from which and up to _LARGEST_CURVATURE there are more draws
_LARGEST_CURVATURE = 512  # parameters, up to which means are moved by the whole curvature
_FLATTEST = 1e-6  # least curvature of means where q cannot take it up, as a narrow diagonal one
_SETTLED = 0.001  # nats that a step promises, below which steps are symmetric
_PAIRS = 8  # last steps that a quasi-Newton step remembers
_NEAR = 1.0  # squared length of a step, in nats, up to which it may be a quasi-Newton one
_CURVED = 0.1  # least curvature along a step that is remembered, relative to that of q
_UPWARD = 0.05  # least cosine between a quasi-Newton step and the natural gradient
_SHORTER = 0.4  # a step that does not climb is tried again at this share of its length
_SHORTEST = 1e-6
_STILL = 1e-3  # nats that a step may promise without a climb, as a q that rests
_SLACK = 32.0  # times eps and the objective: nats that are rounding
_COUNTED = 1000  # parameters that count in it, no more than the loop allows
_RESOLVED = 1e-5  # share of these nats that gradients, which are better known, resolve


class Slope(NamedTuple):
    """The natural gradient of the objective where q is standard normal; 0 at the best q.

    `mean` (d,) is |A|^-1/2 g with the curvature A, or g itself where q is to have A = I, and
    `spread` the part of I - A that fits the structure of the covariance, (d, d) or (d,).
    """

    mean: Float[Array, "d"]
    spread: Float[Array, "..."]

    def flat(self) -> Float[Array, "p"]:
        """As a vector whose inner products are those of the Fisher metric, in nats."""
        return jnp.concatenate([self.mean, (0.5**0.5 * self.spread).ravel()])

    def like(self, flat: Float[Array, "p"]) -> Slope:
        """The slope that `flat` made a vector of."""
        d = self.mean.size
        return Slope(flat[:d], (flat[d:] / 0.5**0.5).reshape(self.spread.shape))


class Curvature(NamedTuple):
    """|A| of the means, as eigenvalues w and vectors V, for a q that cannot have A = I.

    Both are None for a full covariance; V is None where only the diagonal of A is known.
    """

    w: Float[Array, "d"] | None = None
    vectors: Float[Array, "d d"] | None = None

    @broadcasts
    def function(self, fn: Callable[[Array], Array], v: Float[Array, "d"]) -> Float[Array, "d"]:
        """V diag(fn(w)) V^T v; v itself if there is no curvature."""
        if self.w is None:
            return v
        if self.vectors is None:
            return fn(self.w) * v
        return _times(self.vectors, fn(self.w) * _times(self.vectors.mT, v))


class Ascent(NamedTuple):
    """The fixed draws, the slope at q, the direction and length of the next step, past steps.

    `far` says that steps still multiply C by lower triangles.
    """

    z: Float[Array, "s d"]
    slope: Slope
    curvature: Curvature
    direction: Slope
    rho: Float[Array, ""]
    steps: Float[Array, "m p"]
    changes: Float[Array, "m p"]
    far: Bool[Array, ""]


class _Trial(NamedTuple):
    """A q at the end of a step of length `rho`, how far it moved, its objective and slope."""

    rho: Float[Array, ""]
    q: TransformedNormal
    moved: Slope
    elbo: Float[Array, ""]
    slope: Slope
    curvature: Curvature
    far: Bool[Array, ""]
    finite: Bool[Array, ""]
    tries: Int[Array, ""]


@pytree
class GaussianVI(FixedDraws):
    """Natural-gradient ascent of a normal q(u) on fixed draws, from gradients of log p alone.

    The draws z are fixed, antithetic, and have moments 0 and I exactly, so that the objective

        mean_s log p(m + C z_s) + log |C| + const

    is a function without noise, and exact for a normal posterior. With g and A the mean of the
    gradient and of minus the curvature where q is standard (Stein's lemma: A from gradients),
    A = V diag(w) V^T, a step of length rho is

        lam = 1 - rho + rho max(|w|, floor)
        m += rho C V diag(1 / lam) V^T g,    C <- C S with S S^T = V diag(1 / lam) V^T

    It is shortened until the objective does not fall, so every step climbs; steps are invariant
    under affine maps of u (Opper & Archambeau 2009; Khan & Rue 2023; Dauphin et al. 2014 for |w|).

    Another rotation of C is another objective. While S is a lower triangle, C is a function of its
    covariance and of the root of the start, which all starts share, so that they climb the same
    one; A then has the entries below the diagonal. Where a step promises 0.001 nats or less, S
    becomes symmetric, and A the mean of both triangles, which has less of the noise of the draws.
    Next to the best q, g and I - A are multiplied by a limited-memory inverse Hessian of past steps
    first, which halves the number of iterations on skewed posteriors.

    Standard deviations of a skewed posterior are too small in any q that minimises KL(q || p):
    `linear_response` corrects them.

    The `elbo` of a step, and `elbo_trace`, are this objective, which is above the bound of q.
    `Result.elbo` is an estimate of the bound from other draws, with its standard error `elbo_se`;
    the error is 0 for a normal posterior. The first step only evaluates
    the start. A fit ends as STALLED where no step climbs but q still wants to move, and as
    NON_FINITE where the density of its start, or its gradient, is not finite.

    Args:
        num_draws: Number of draws, even, more than 2 d for a full covariance; None is 64 for d < 8,
            otherwise the larger of 128 and 4 (d + 1), and 64 again above d = 512. More draws bring
            the bound nearer to its maximum.
        seed: Fixes the draws; all restarts have the same.
        floor: The least curvature, relative to that of q: no variance grows by more than 1 / floor
            in a step.
        elbo_draws: The most draws for the bound that is returned, even; 128 at a time are taken
            until its standard error is below 0.01 nats.

    Example:
        def log_prior(p):
            return -jnp.sum((p - 1.0) ** 2)  # a density without rows

        model = vx.LogDensity(log_prior, like=np.zeros(2))
        fit = vx.fit(model, method=vx.GaussianVI())
    """

    num_draws: int | None = static(default=None)
    seed: int | Int[Array, ""] = 0
    floor: float | Float[Array, ""] = 0.05
    elbo_draws: int = static(default=2048)

    def check(self, model: Model) -> None:
        super().check(model)
        d = need_density(self, model).space.size
        if isinstance(root_of(need_density(self, model)), LowRankRoot):
            raise ValueError("method: GaussianVI takes no covariance of low rank; take LBFGS()")
        check_bound("floor", self.floor, above=0.0, most=1.0)
        if self.num_draws is not None:
            check_draws("num_draws", self.num_draws, 2 * (d + 1) if _is_small(d) else 2)

    def base_draws(self, q: TransformedNormal) -> Float[Array, "s k"]:
        d, dtype = q.root.noise_size, q.location.dtype
        return matched(jnp.asarray(self.seed), self.num_draws or _usual_draws(d), d, dtype)

    def init(self, model: DensityModel, q: TransformedNormal, batch: Batch) -> State:
        d, dtype = model.space.size, q.location.dtype
        root = _square(q)
        zero = jnp.zeros((d, d) if _is_small(d) else d, dtype)
        slope = Slope(jnp.zeros(d, dtype), root.part(zero) if _is_small(d) else zero)
        far = jnp.asarray(isinstance(root, FullRoot))  # else there is nothing to turn
        past = jnp.zeros((_PAIRS, slope.flat().size), dtype)
        z, rho = self.base_draws(q), jnp.zeros((), dtype)
        curvature = _curvature(root, zero)
        memory = Ascent(z, slope, curvature, slope, rho, past, past, far)
        return unevaluated(q, batch, memory=memory)

    def step(
        self, model: DensityModel, state: State, batch: Batch, key: Key[Array, ""] | None
    ) -> State:
        """A step that climbs; the new `q` is the same as its `next_q`, evaluated."""
        q: TransformedNormal = state.next_q
        z, slope, curvature, direction, rho, steps, changes, far = state.memory
        begins = is_absent(state.elbo)
        slack = _SLACK * jnp.finfo(z.dtype).eps * (jnp.abs(state.elbo) + min(z.shape[1], _COUNTED))
        least = jnp.where(begins, -jnp.inf, state.elbo - slack)
        move = _ray(q, direction, curvature, self.floor, far)
        at_once = draws_at_once(batch)

        def trial(rho: Array, tries: Array) -> _Trial:
            new, moved = move(jnp.where(begins, 0.0, rho))
            density = jax.value_and_grad(lambda u: model.log_density(u, batch))
            values, gradients = map_draws(density, new.at(z), at_once)
            pulled = new.root.pull(gradients)
            elbo = jnp.mean(values) + new.entropy()
            finite = jnp.isfinite(elbo) & jnp.all(jnp.isfinite(pulled))
            found = _slope(new, pulled, z, far)
            return _Trial(rho, new, moved, elbo, *found, finite, tries)

        def climbs(t: _Trial) -> Array:
            return t.finite & (t.elbo >= least)

        def goes_on(t: _Trial) -> Array:
            return (t.tries == 0) | (~climbs(t) & (t.rho > _SHORTEST) & ~begins)

        def shorten(t: _Trial) -> _Trial:
            return trial(jnp.where(t.tries > 0, _SHORTER * t.rho, t.rho), t.tries + 1)

        # a loop, so that the program has one copy of the density
        none = zeros_like_result(lambda: trial(rho, jnp.zeros((), jnp.int32)))
        end = lax.while_loop(goes_on, shorten, none._replace(rho=rho))
        climbed = climbs(end)

        def chosen(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda a, b: jnp.where(climbed, a, b), new, old)

        new_slope = chosen(end.slope, slope)
        own = new_slope.flat()
        whole = jnp.sum(own**2)  # nats that a step of length 1 gains next to the best q
        # a step that fails forgets the past, and only one along the natural gradient is the last
        natural = jnp.all(direction.flat() == slope.flat())
        stalled = ~climbed & ~begins & natural & (whole > jnp.maximum(_STILL, 4.0 * slack))
        failure = jnp.where(stalled, int(Status.STALLED), 0).astype(state.failure.dtype)
        elbo = jnp.where(climbed, end.elbo, jnp.where(begins, jnp.nan, state.elbo))
        moved, change = end.moved.flat(), slope.flat() - own
        square = jnp.sum(moved**2)
        alike = end.far == far  # otherwise the change is that between two kinds of slopes
        good = climbed & ~begins & alike & (square < _NEAR)
        good = good & (jnp.sum(moved * change) > _CURVED * square)
        steps = remembered(jnp.where(climbed, steps, 0.0), moved, good)
        changes = remembered(changes, change, good)
        grown = jnp.where(end.tries == 1, jnp.minimum(2.0 * end.rho, 1.0), end.rho)
        rho = jnp.where(begins | ~climbed, 1.0, grown).astype(z.dtype)
        next_step = _direction(steps, changes, new_slope)
        new_curvature, new_far = chosen((end.curvature, end.far), (curvature, far))
        memory = Ascent(z, new_slope, new_curvature, next_step, rho, steps, changes, new_far)
        resolved = whole > _RESOLVED * slack
        improvement = jnp.where(resolved & ~(~climbed & natural), whole, 0.0)
        new_q = chosen(end.q, q)
        return State(new_q, new_q, elbo, improvement, failure, memory=memory)


def _is_small(d: int) -> bool:
    return d <= _LARGEST_CURVATURE


def _usual_draws(d: int) -> int:
    if not _is_small(d):
        return _FEWEST_DRAWS
    return max(_FEWEST_DRAWS if d < _MANY else _MORE_DRAWS, 4 * (d + 1))


def _square(q: TransformedNormal) -> SquareRoot:
    assert isinstance(q.root, SquareRoot)  # `check` has seen to it
    return q.root


def _slope(
    q: TransformedNormal, pulled: Float[Array, "s d"], z: Float[Array, "s d"], far: Bool[Array, ""]
) -> tuple[Slope, Curvature, Bool[Array, ""]]:
    """Slope at q, curvature of the means, and whether q is far, from gradients by z of all draws.

    The slope is by lower triangles while q is far, and by symmetric changes once it has been near.
    """
    root, g = _square(q), jnp.mean(pulled, 0)
    if not _is_small(g.size):
        tilt = 1.0 + jnp.mean(pulled * z, 0)
        curvature = _curvature(root, tilt)
        return Slope(curvature.function(_inverse_root, g), tilt), curvature, far
    tilt = jnp.eye(g.size, dtype=g.dtype) + linalg.matmul(pulled.T, z) / z.shape[0]
    symmetric, below = 0.5 * (tilt + tilt.T), jnp.tril(tilt) + jnp.tril(tilt, -1).T
    curvature = _curvature(root, symmetric)
    slope = Slope(curvature.function(_inverse_root, g), root.part(below))
    far = far & (jnp.sum(slope.flat() ** 2) > _SETTLED)
    return slope._replace(spread=root.part(jnp.where(far, below, symmetric))), curvature, far


def _curvature(root: SquareRoot, tilt: Float[Array, "..."]) -> Curvature:
    """|A| of A = I - `tilt`, away from 0."""
    if isinstance(root, FullRoot) and not isinstance(root, BlockRoot):
        return Curvature()
    if tilt.ndim == 1:
        return Curvature(jnp.maximum(jnp.abs(1.0 - tilt), _FLATTEST))
    w, vectors = jnp.linalg.eigh(jnp.eye(tilt.shape[0], dtype=tilt.dtype) - tilt)
    return Curvature(jnp.maximum(jnp.abs(w), _FLATTEST), vectors)


def _inverse_root(w: Array) -> Array:
    return 1.0 / jnp.sqrt(w)


def _times(matrix: Array, v: Array) -> Array:
    return linalg.matmul(matrix, v[:, None])[:, 0]


def _direction(steps: Float[Array, "m p"], changes: Float[Array, "m p"], slope: Slope) -> Slope:
    """The quasi-Newton step if it is short and goes up, otherwise the natural gradient."""
    natural = slope.flat()
    step = lbfgs_direction(natural, steps, changes, lambda g: g)
    length, steepest = jnp.sum(step**2), jnp.sum(natural**2)
    upward = jnp.sum(step * natural) > _UPWARD * jnp.sqrt(length * steepest)
    taken = upward & (jnp.maximum(length, steepest) < _NEAR)
    return slope.like(jnp.where(taken, step, natural))


@broadcasts
def _ray(
    q: TransformedNormal, direction: Slope, curvature: Curvature, floor: Any, far: Bool[Array, ""]
) -> Callable[[Array], tuple[TransformedNormal, Slope]]:
    """A function from the length of a step to the q at its end, and the whole way as a Slope."""
    root, (mean, tilt) = _square(q), direction
    one = jnp.ones_like(tilt) if tilt.ndim == 1 else jnp.eye(mean.size, dtype=mean.dtype)
    spread, vectors = root.spectrum(one - tilt)
    spread = jnp.maximum(jnp.abs(spread), floor)
    own = Curvature(spread, vectors) if curvature.w is None else curvature

    @broadcasts
    def move(rho: Array) -> tuple[TransformedNormal, Slope]:
        step = own.function(lambda w: rho / (1.0 - rho + rho * w), mean)
        moved = step
        if curvature.w is not None:
            step = curvature.function(jnp.sqrt, step)
            moved = curvature.function(jnp.sqrt, step)
        lam = 1.0 - rho + rho * spread
        new_root = root.times(_factor(lam, vectors, far), -0.5 * jnp.sum(jnp.log(lam)))
        new = TransformedNormal(q.location + root.apply(step), new_root, q.space)
        widened = -jnp.log(lam)
        if vectors is not None:
            widened = linalg.matmul(vectors * widened, vectors.mT)
        return new, Slope(moved, widened)

    return move


def _factor(lam: Float[Array, "d"], vectors: Any, far: Bool[Array, ""]) -> Float[Array, "..."]:
    """S with S S^T = V diag(1 / lam) V^T, V = `vectors`: a lower triangle if far, or symmetric."""
    if vectors is None:
        return 1.0 / jnp.sqrt(lam)
    half = vectors / jnp.sqrt(lam)
    return lax.cond(far, linalg.lower_root, lambda half: linalg.matmul(half, vectors.mT), half)
