"""`GaussianVI`: the normal that is closest to any log density, by natural gradients."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from ..._pytree import pytree, replace, static
from ...data.batch import Batch
from ...data.host import check_bound, check_integer, described
from ...guides.roots import LowRankRoot, SquareRoot
from ...guides.transformed_normal import TransformedNormal
from ...model import DensityModel, Model
from ...numerics import linalg
from ...numerics.matched_draws import antithetic, map_draws, matched
from ..method import Method
from ..result import State, Status
from ..run.loop import unevaluated

_FEWEST_DRAWS = 64
_LARGEST_CURVATURE = 512  # parameters, up to which means are moved by the whole curvature
_SHORTER = 0.4  # a step that does not climb is tried again at this share of its length
_SHORTEST = 1e-6
_STILL = 1e-3  # nats that a step may promise without a climb, as a q that rests
_SLACK = 32.0  # times eps and the objective: nats that are rounding
_FLOATS = 2**24  # numbers of rows times draws that are in memory together


class _Proposal(NamedTuple):
    """A q at the end of a step of length `rho`, its objective, and KL(new || old) in nats."""

    rho: Float[Array, ""]
    q: TransformedNormal
    elbo: Float[Array, ""]
    move: Float[Array, ""]
    tries: Int[Array, ""]


@pytree
class GaussianVI(Method[DensityModel]):
    """Natural-gradient ascent of a normal q(u) on fixed draws, from gradients of log p alone.

    The draws z are fixed, antithetic, and have moments 0 and I exactly, so that the objective

        mean_s log p(m + C z_s) + log |C| + const

    is a function without noise, and exact for a normal posterior. With g and A the mean of the
    gradient and of minus the curvature where q is standard (Stein's lemma: A from gradients),
    A = V diag(w) V^T, a step of length rho is

        lam = 1 - rho + rho max(|w|, floor)
        m += rho C V diag(1 / lam) V^T g,    C <- C V diag(lam)^-1/2 V^T

    It is shortened until the objective does not fall, so every step climbs; steps are invariant
    under affine maps of u (Opper & Archambeau 2009; Khan & Rue 2023; Dauphin et al. 2014 for |w|).
    Standard deviations of a skewed posterior are too small in any q that minimises KL(q || p):
    `linear_response` corrects them.

    The `elbo` of a step, and `elbo_trace`, are this objective, which is above the bound of q.
    `Result.elbo` is an unbiased estimate of the bound from `elbo_draws` other draws, with its
    standard error `elbo_se`, both 0-noise for a normal posterior. A fit ends as STALLED where no
    step climbs but q still wants to move, and as NON_FINITE where the density of its start is not
    finite.

    Args:
        num_draws: Number of draws, even, more than 2 d for a full covariance; None is the larger of
            64 and 4 (d + 1). More draws bring the bound nearer to its maximum.
        seed: Fixes the draws; all restarts have the same.
        floor: The least curvature, relative to that of q: no variance grows by more than 1 / floor
            in a step.
        elbo_draws: Number of draws for the bound that is returned, even.
    """

    num_draws: int | None = static(default=None)
    seed: int | Int[Array, ""] = 0
    floor: float | Float[Array, ""] = 0.05
    elbo_draws: int = static(default=2048)
    monotone: ClassVar[bool] = True
    estimates: ClassVar[bool] = True

    def check(self, model: Model) -> None:
        space = need_density(self, model).space
        low_rank = jax.eval_shape(lambda m: m.template, model).root
        if isinstance(low_rank, LowRankRoot):
            raise ValueError("covariance: low rank needs LBFGS() or StochasticVI(), not GaussianVI")
        check_integer("seed", self.seed) if not isinstance(self.seed, jax.Array) else None
        check_bound("floor", self.floor, above=0.0, most=1.0)
        check_draws("elbo_draws", self.elbo_draws, 4)
        if self.num_draws is not None:
            full = space.size <= _LARGEST_CURVATURE
            check_draws("num_draws", self.num_draws, 2 * space.size + 2 if full else 2)

    def init(self, model: DensityModel, q: TransformedNormal, batch: Batch) -> State:
        d = model.space.size
        size = self.num_draws or max(_FEWEST_DRAWS, 4 * (d + 1) if d <= _LARGEST_CURVATURE else 0)
        z = matched(jnp.asarray(self.seed), size, d, q.location.dtype)
        return unevaluated(q, batch, memory=(z, jnp.ones((), q.location.dtype)))

    def step(
        self,
        model: DensityModel,
        state: State,
        batch: Batch,
        key: Key[Array, ""] | None,
    ) -> State:
        """A step that climbs from `next_q`; `q` is the same as the new `next_q`, evaluated."""
        z, rho = state.memory
        q: TransformedNormal = state.next_q
        at_once = draws_at_once(batch)
        eps = jnp.finfo(z.dtype).eps
        worst = -jnp.sqrt(jnp.finfo(z.dtype).max)

        def log_density(u: Array) -> Array:
            return model.log_density(u, batch)

        def objective(q: TransformedNormal) -> Array:
            values = map_draws(log_density, q.at(z), at_once)
            return jnp.mean(jnp.where(jnp.isfinite(values), values, worst)) + q.entropy()

        values, gradients = map_draws(jax.value_and_grad(log_density), q.at(z), at_once)
        elbo = jnp.mean(values) + q.entropy()
        g_draws = q.root.pull(gradients)
        finite = jnp.isfinite(elbo) & jnp.all(jnp.isfinite(g_draws))
        g_draws = jnp.where(finite, g_draws, 0.0)
        propose = _direction(q, z, g_draws, self.floor)
        slack = _SLACK * eps * (jnp.abs(elbo) + z.shape[1])

        def evaluated(rho: Array, tries: Array) -> _Proposal:
            new, move = propose(rho)
            return _Proposal(rho, new, objective(new), move, tries)

        def falls(p: _Proposal) -> Array:
            return ~(p.elbo >= elbo - slack) & (p.rho > _SHORTEST) & finite

        def shorten(p: _Proposal) -> _Proposal:
            return evaluated(_SHORTER * p.rho, p.tries + 1)

        first = evaluated(rho, jnp.asarray(1, jnp.int32))
        p = lax.while_loop(falls, shorten, first)
        climbs = finite & (p.elbo >= elbo - slack)
        whole = 2.0 * p.move / p.rho**2  # what a step of length 1 would gain, near the end
        stalled = ~climbs & (whole > jnp.maximum(_STILL, 4.0 * slack))
        new_q = jax.tree.map(lambda a, b: jnp.where(climbs, a, b), p.q, q)
        elbo = jnp.where(climbs, p.elbo, jnp.where(finite, elbo, jnp.nan))
        grown = jnp.where(p.tries == 1, jnp.minimum(2.0 * p.rho, 1.0), p.rho)
        failure = jnp.where(finite & stalled, int(Status.STALLED), 0).astype(state.failure.dtype)
        improvement = jnp.where(climbs, whole, 0.0)
        memory = (z, jnp.where(climbs, grown, 1.0).astype(rho.dtype))
        return State(new_q, new_q, elbo, improvement, failure, memory=memory)

    def evaluate(self, model: DensityModel, q: TransformedNormal, batch: Batch) -> Float[Array, ""]:
        return self.estimate(model, q, batch)[0]

    def estimate(
        self, model: DensityModel, q: TransformedNormal, batch: Batch
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """An unbiased estimate of the bound in nats, from draws that the fit has not seen."""
        return estimated_elbo(model, q, batch, jnp.asarray(self.seed) + 1, self.elbo_draws)


def _direction(q: TransformedNormal, z: Array, g_draws: Array, floor: Any) -> Any:
    """A function from the length of a step to the q at its end, and KL(new || old)."""
    root: SquareRoot = q.root
    s, d = z.shape
    g = jnp.mean(g_draws, 0)
    if d > _LARGEST_CURVATURE:
        w, vectors = -jnp.mean(g_draws * z, 0), None
        spread, own = w, None
    else:
        a = -linalg.matmul(g_draws.T, z) / s
        a = 0.5 * (a + a.T)
        spread, own = root.spectrum(a)
        w, vectors = (spread, own) if own is not None else jnp.linalg.eigh(a)
    w, spread = (jnp.maximum(jnp.abs(v), floor) for v in (w, spread))

    def along(v: Array) -> Array:
        return v if vectors is None else linalg.matmul(vectors, v[:, None])[:, 0]

    def across(v: Array) -> Array:
        return v if vectors is None else linalg.matmul(vectors.T, v[:, None])[:, 0]

    def propose(rho: Array) -> tuple[TransformedNormal, Array]:
        step = rho * along(across(g) / (1.0 - rho + rho * w))
        lam = 1.0 - rho + rho * spread
        new = TransformedNormal(q.location + root.apply(step), root.shrunk(lam, own), q.space)
        move = 0.5 * (jnp.sum(1.0 / lam - 1.0 + jnp.log(lam)) + jnp.sum(step**2))
        return new, move

    return propose


def estimated_elbo(
    model: DensityModel, q: TransformedNormal, batch: Batch, seed: Array, size: int
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The mean of log p(u) - log q(u) over antithetic draws of q, in nats, and its standard error.

    For a normal posterior every draw gives log Z, so that the error is 0.
    """
    z = antithetic(seed, size, q.root.noise_size, q.location.dtype)

    def log_ratio(z: Array) -> Array:
        return model.log_density(q.at(z), batch) - q.log_density_at(z)

    pairs = jnp.mean(map_draws(log_ratio, z, draws_at_once(batch)).reshape(2, -1), 0)
    return jnp.mean(pairs), jnp.std(pairs) / jnp.sqrt(jnp.asarray(pairs.size, z.dtype))


def draws_at_once(batch: Batch) -> int:
    """The number of draws whose log densities of all rows are in memory together."""
    return max(1, _FLOATS // max(1, batch.weight.shape[0]))


def need_density(method: Method[Any], model: Model) -> DensityModel:
    """The model as a DensityModel; raises TypeError naming the method if it is none."""
    if not isinstance(model, DensityModel):
        raise TypeError(
            f"method: {type(method).__name__} needs a DensityModel, such as LogDensity, got "
            f"{type(model).__name__}"
        )
    return model


def check_draws(name: str, value: Any, least: int) -> None:
    """Raise TypeError or ValueError unless it is an even number of draws, `least` or more."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an integer, got {described(value)}")
    if value % 2 or value < least:
        raise ValueError(f"{name}: expected an even number of at least {least}, got {value}")
