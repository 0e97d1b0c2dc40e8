"""`LBFGS`: a normal q of many parameters, by quasi-Newton steps on fixed draws."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, Key

from ..._pytree import pytree, replace, static
from ...data.batch import Batch
from ...data.host import check_bound, check_integer
from ...guides.roots import BlockRoot, DiagonalRoot, LowRankRoot, Root
from ...guides.transformed_normal import TransformedNormal
from ...model import DensityModel, Model
from ...numerics.matched_draws import map_draws, matched_parts
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

_FEWEST_DRAWS = 64
_LARGEST_MATCHED = 512  # standard normal numbers of a draw, up to which all moments are matched
_ENOUGH = 1e-4  # share of the promised climb that a step must make (Armijo)
_FLATTER = 0.9  # share of the slope that may be left at the end of a step (Wolfe)
_TRIES = 60
_VISIBLE = 64.0  # times rounding: a slope whose climb cannot be lost in it
_STILL = 1e-3  # nats that a step may promise without a climb, as a q that rests
_SLACK = 32.0  # times eps and the objective: nats that are rounding, no more than the loop allows
_PARAMETERS = 1000  # that count in it


class _Point(NamedTuple):
    """The free numbers of a q as one vector, its objective in nats, and the gradient of that."""

    free: Float[Array, "p"]
    elbo: Float[Array, ""]
    gradient: Float[Array, "p"]


class _Search(NamedTuple):
    """A line search: the last trial, at `length`, the best so far, and what encloses the end."""

    length: Float[Array, ""]
    low: Float[Array, ""]
    high: Float[Array, ""]
    trial: _Point
    best: _Point
    best_length: Float[Array, ""]
    ended: Bool[Array, ""]
    tries: Int[Array, ""]


@pytree
class _Pairs:
    """What a step knows of the last ones; `steps` and `changes` have the newest pair at the end."""

    z: Float[Array, "*b s k"]
    at: _Point
    steps: Float[Array, "*b m p"]
    changes: Float[Array, "*b m p"]


@pytree
class LBFGS(FixedDraws):
    """Quasi-Newton ascent of a normal q(u) on fixed draws, for many parameters and for low rank.

    The objective is that of `GaussianVI`, mean_s log p(m + C z_s) + log |C| + const on fixed draws
    with matched moments (Giordano, Ingram & Broderick 2024), as a function of m, the logs of scales
    and the other entries of C. A step costs about one gradient for each draw and O(memory) vectors,
    nothing of the size d^2. Its direction is that of L-BFGS, started anew each time from the metric
    of KL at q, so that units do not matter; its length satisfies the weak Wolfe conditions
    (Lewis & Overton 2013), so that the objective does not fall.

    With fewer draws than 2 d, correlations of the draws are noise in the standard deviations, of
    about 1 / sqrt(num_draws) where the posterior is correlated; the location has none if it is
    normal.

    The improvement is the larger of what the gradient promises and of the squared move in standard
    deviations of q, in nats: a small climb along a flat ridge is no end. A fit ends as STALLED
    where no step climbs although the gradient promises one, and as NON_FINITE where the density of
    its start is not finite. `elbo` of a step is the objective, above the bound of q; `Result.elbo`
    is an estimate of the bound from other draws, with its error `elbo_se`.

    Args:
        num_draws: Number of draws, even. None is 64 for a diagonal covariance; 30 are enough for a
            first look. For others, which few draws would overfit, it is the larger of 64 and
            4 (k + 1), where a draw has k <= 512 standard normal numbers, d + r for rank r; and
            64 + 8 r for low rank beyond.
        memory: Number of past steps that a direction knows of.
        seed: Fixes the draws; all restarts have the same.
        elbo_draws: The most draws for the bound that is returned, even; 128 at a time are taken
            until its standard error is below 0.01 nats.

    Example:
        def log_prior(p):
            return -jnp.sum((p - 1.0) ** 2)  # a density without rows

        model = vx.LogDensity(log_prior, like=np.zeros(50), covariance="diag")
        fit = vx.fit(model, method=vx.LBFGS())
    """

    num_draws: int | None = static(default=None)
    memory: int = static(default=10)
    seed: int | Int[Array, ""] = 0
    elbo_draws: int = static(default=2048)

    def check(self, model: Model) -> None:
        super().check(model)
        root = root_of(need_density(self, model))
        check_integer("memory", self.memory)
        check_bound("memory", self.memory, least=1.0)
        if self.num_draws is not None:
            check_draws("num_draws", self.num_draws, _fewest(root))

    def base_draws(self, q: TransformedNormal) -> Float[Array, "s k"]:
        size, d, k = self.num_draws or _usual(q.root), q.location.shape[0], q.root.noise_size
        return matched_parts(jnp.asarray(self.seed), size, d, k - d, q.location.dtype)

    def init(self, model: DensityModel, q: TransformedNormal, batch: Batch) -> State:
        if isinstance(q.root, LowRankRoot):
            q = replace(q, root=q.root.spread(self.seed))
        free, with_free = _as_vector(q)
        z, dtype = self.base_draws(q), q.location.dtype
        at = _objective(model, batch, with_free, z)(free)
        none = jnp.zeros((self.memory, free.size), dtype)
        return unevaluated(with_free(free), batch, memory=_Pairs(z, at, none, none))

    def step(
        self, model: DensityModel, state: State, batch: Batch, key: Key[Array, ""] | None
    ) -> State:
        """A step that climbs from `next_q`; `q` is the same as the new `next_q`, evaluated."""
        old: _Pairs = state.memory
        q: TransformedNormal = state.next_q
        at = old.at
        _, with_free = _as_vector(q)
        objective = _objective(model, batch, with_free, old.z)
        unravel = ravel_pytree(q.free)[1]

        def natural(g: Array) -> Array:
            return ravel_pytree(q.natural(unravel(g)))[0]

        direction = lbfgs_direction(at.gradient, old.steps, old.changes, natural)
        slope = jnp.sum(at.gradient * direction)
        finite = jnp.isfinite(at.elbo) & jnp.all(jnp.isfinite(at.gradient))
        slack = (
            _SLACK
            * jnp.finfo(at.elbo.dtype).eps
            * (jnp.abs(at.elbo) + min(q.location.shape[0], _PARAMETERS))
        )
        best, length = _climb(objective, at, direction, slope, slack, finite)
        climbs = finite & (length > 0)
        step, change = best.free - at.free, at.gradient - best.gradient
        tiny = jnp.finfo(slope.dtype).eps * jnp.linalg.norm(step) * jnp.linalg.norm(change)
        keep = climbs & (jnp.sum(step * change) > tiny)
        fresh = ~jnp.any(old.steps != 0)

        new_q = with_free(best.free)
        whole = jnp.minimum(jnp.where(climbs, length, 1.0), 1.0)
        moved = q.squared_distance(new_q) / whole**2
        # without a climb, the next step has the natural gradient alone
        huge = jnp.asarray(jnp.finfo(slope.dtype).max, slope.dtype)
        rests = jnp.where(fresh, 0.0, huge)
        improvement = jnp.where(climbs, jnp.maximum(moved, slope), rests)
        stalled = finite & ~climbs & fresh & (slope > jnp.maximum(_STILL, 4.0 * slack))
        failure = jnp.where(stalled, int(Status.STALLED), 0).astype(state.failure.dtype)
        past = (remembered(a, b, keep) for a, b in ((old.steps, step), (old.changes, change)))
        steps, changes = (jnp.where(climbs, a, 0.0) for a in past)
        new_q = jax.tree.map(lambda a, b: jnp.where(climbs, a, b), new_q, q)
        elbo = jnp.where(finite, best.elbo, jnp.nan)
        return State(new_q, new_q, elbo, improvement, failure, _Pairs(old.z, best, steps, changes))


def _fewest(root: Root) -> int:
    """The fewest draws on which the objective has a maximum."""
    if isinstance(root, DiagonalRoot):
        return 4
    if isinstance(root, LowRankRoot):
        return 2 * root.factor.shape[-1] + 4
    if isinstance(root, BlockRoot):
        return 2 * max(Counter(root.groups).values()) + 2
    return 2 * root.noise_size + 2


def _usual(root: Root) -> int:
    """The default number of draws."""
    if isinstance(root, DiagonalRoot):
        return _FEWEST_DRAWS
    k = root.noise_size
    if k <= _LARGEST_MATCHED or not isinstance(root, LowRankRoot):
        return max(_FEWEST_DRAWS, 4 * (k + 1))
    return _FEWEST_DRAWS + 8 * root.factor.shape[-1]


def _as_vector(q: TransformedNormal) -> tuple[Array, Callable[[Array], TransformedNormal]]:
    """The free numbers of q as one vector, and the q of such a vector."""
    free, unravel = ravel_pytree(q.free)
    return free, lambda vector: q.with_free(unravel(vector))


def _objective(
    model: DensityModel,
    batch: Batch,
    with_free: Callable[[Array], TransformedNormal],
    z: Float[Array, "s k"],
) -> Callable[[Array], _Point]:
    """The objective on the draws z and its gradient, as a function of a vector of free numbers."""

    def log_density(u: Array) -> Array:
        return model.log_density(u, batch)

    def value_and_gradient(free: Array) -> _Point:
        u, pull = jax.vjp(lambda free: with_free(free).at(z), free)
        values, gradients = map_draws(jax.value_and_grad(log_density), u, draws_at_once(batch))
        entropy, of_entropy = jax.value_and_grad(lambda free: with_free(free).entropy())(free)
        gradient = pull(gradients / z.shape[0])[0] + of_entropy
        return _Point(free, jnp.mean(values) + entropy, gradient)

    return value_and_gradient


def _climb(
    objective: Callable[[Array], _Point],
    at: _Point,
    direction: Float[Array, "p"],
    slope: Float[Array, ""],
    slack: Float[Array, ""],
    finite: Bool[Array, ""],
) -> tuple[_Point, Float[Array, ""]]:
    """The best point of a bisection for the weak Wolfe conditions, and its length; 0 for none."""
    lost = jnp.where(slope <= _VISIBLE * slack, slack, 0.0)

    def tried(search: _Search) -> _Search:
        point = objective(at.free + search.length * direction)
        sound = jnp.isfinite(point.elbo) & jnp.all(jnp.isfinite(point.gradient))
        needed = at.elbo + _ENOUGH * search.length * slope - lost
        high_enough = sound & (point.elbo >= needed)
        flat_enough = jnp.sum(point.gradient * direction) <= _FLATTER * slope
        low = jnp.where(high_enough, search.length, search.low)
        high = jnp.where(high_enough, search.high, search.length)
        best = jax.tree.map(lambda a, b: jnp.where(high_enough, a, b), point, search.best)
        best_length = jnp.where(high_enough, search.length, search.best_length)
        length = jnp.where(jnp.isfinite(high), 0.5 * (low + high), 2.0 * low)
        ended = (high_enough & flat_enough) | (search.tries + 1 >= _TRIES)
        return _Search(length, low, high, point, best, best_length, ended, search.tries + 1)

    zero = jnp.zeros_like(slope)
    begin = _Search(
        zero + 1.0, zero, zero + jnp.inf, at, at, zero, ~finite, jnp.asarray(0, jnp.int32)
    )
    search = lax.while_loop(lambda search: ~search.ended, tried, begin)
    return search.best, search.best_length
