"""`StochasticVI`: stochastic gradients of any objective, by any optimiser, for a normal q."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, Key

from ..._pytree import pytree, replace, static
from ...data.batch import Batch
from ...data.host import check_bound, check_integer, described
from ...guides.roots import LowRankRoot
from ...guides.transformed_normal import TransformedNormal
from ...model import DensityModel, Model
from ...numerics.batch_means import BatchMeans
from ..result import State
from ..run.loop import unevaluated
from .black_box import BlackBox
from .objectives import ESTIMATORS, Elbo, ForwardKL, Objective, value_and_gradient
from .optimiser import climb, first_state, optimiser_of
from .svi import Epoch

_UPDATES = 100  # of the optimiser in one step of the loop
_RATE = 0.9  # the slowest decay that the loop assumes, so that it forecasts exactly the excess
_NAMED = {"elbo": Elbo, "forward_kl": ForwardKL}


@pytree
class _Progress:
    """The state of the optimiser, and means of iterates and of gradients, one after the other."""

    optimiser: Any
    past: BatchMeans


@pytree
class StochasticVI(BlackBox):
    """Stochastic gradients of a normal q(u) of any covariance, for research, teaching, many rows.

    For a plain fit `GaussianVI` is faster and needs no step size. The optimiser moves `q.free`: the
    location, logs of scales, and all other entries of the root (for a full covariance, of its
    Cholesky factor).

    A step of the loop is 100 updates, so that `n_iter` and `Stop.max_iter` count hundreds. `q` is
    the mean of the iterates of the last half of all updates (Polyak & Juditsky 1992). Its excess,
    the nats of the objective that q lacks for the noise of its iterates, is estimated from the
    spread of the means of at least 4 stretches of them, and from the mean gradient, which is 0 at
    the end; both in the metric of KL. A fit has CONVERGED when the excess is below `Stop.tol` nats,
    `Stop.patience` times in a row, after 800 updates or more. A step size that is too small moves
    nothing but leaves a gradient; one that is too large leaves a spread: both end as MAX_ITER. What
    the rule cannot see is the bias of a mean of iterates of constant step size, which falls with
    it: give a schedule. A density or gradient that is not finite ends a fit as NON_FINITE, with the
    q before.

    `elbo` of a step, and `elbo_trace`, are the mean of the estimates of the objective over its
    updates; `Result.elbo` is an estimate of the ELBO of q, whatever the objective, from
    `elbo_draws` draws.

    Args:
        optimiser: An optax GradientTransformation, such as `optax.adam(0.01)`: part of the program,
            so make it once. A number or an optax schedule stands for Adam with this step size.
        num_draws: Number of draws of an update; of sets of draws for `IWAE` and `Renyi`.
        objective: "elbo", `IWAE(num_samples)`, `Renyi(alpha, num_samples)` or "forward_kl", which
            needs many draws, 100 or more.
        estimator: "reparameterised", or "sticking_the_landing", which leaves out the score of q and
            has no variance where q is the posterior (Roeder, Wu & Duvenaud 2017; for the ELBO), or
            "score", the score function with a leave-one-out baseline, or "score_without_baseline".
            "forward_kl" has an estimator of its own.
        batch_size: Number of rows of an update, whose log-likelihoods count for all: unbiased, for
            the ELBO alone. Rows come in random order, all once before any comes again. None is all
            rows.
        average: Whether q is the mean of iterates; the last iterate if not, whose excess then
            counts too.
        seed: Fixes the draws of the bound that is returned.
        elbo_draws: The most draws for it, even; 128 at a time until its error is below 0.01.

    Example:
        def log_lik(p, rows):
            return jax.scipy.stats.norm.logpdf(rows, p)

        prior = jax.scipy.stats.norm.logpdf
        model = vx.LogDensity(prior, log_lik, like=0.0, independent_rows=True)
        x = np.random.default_rng(0).normal(3.0, 1.0, 40)
        method = vx.StochasticVI(0.05, batch_size=10)  # Adam with this step, or optax.adam(...)
        result = vx.fit(model, x, key=jax.random.key(0), method=method)
    """

    optimiser: Any = static()
    num_draws: int = static(default=10)
    objective: Any = "elbo"
    estimator: str = static(default="reparameterised")
    batch_size: int | None = static(default=None)
    average: bool = static(default=True)
    seed: int | Int[Array, ""] = 0
    elbo_draws: int = static(default=2048)
    draws: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if isinstance(self.objective, str):
            if self.objective not in _NAMED:
                raise ValueError(
                    "objective: expected 'elbo', 'forward_kl', IWAE(...) or Renyi(...), got "
                    f"{self.objective!r:.80}"
                )
            object.__setattr__(self, "objective", _NAMED[self.objective]())

    def check(self, model: Model) -> None:
        super().check(model)
        optimiser_of(self.optimiser)
        if not isinstance(self.objective, Objective):
            raise TypeError(
                "objective: expected 'elbo', 'forward_kl', IWAE(...) or Renyi(...), got "
                f"{described(self.objective)}"
            )
        check_integer("objective: num_samples", self.objective.num_samples)
        check_bound("objective: num_samples", self.objective.num_samples, least=1.0)
        if self.estimator not in ESTIMATORS:
            raise ValueError(
                f"estimator: expected one of {', '.join(ESTIMATORS)}, got {self.estimator!r:.80}"
            )
        if self.estimator == "sticking_the_landing" and not isinstance(self.objective, Elbo):
            raise ValueError("estimator: sticking_the_landing is unbiased for the ELBO alone")
        check_integer("num_draws", self.num_draws)
        check_bound("num_draws", self.num_draws, least=2.0 if self.estimator == "score" else 1.0)
        if self.batch_size is not None:
            check_integer("batch_size", self.batch_size)
            check_bound("batch_size", self.batch_size, least=1.0)
            if not self.objective.unbiased:
                raise ValueError("batch_size: minibatches are unbiased for the ELBO alone")

    def init(self, model: DensityModel, q: TransformedNormal, batch: Batch) -> State:
        if isinstance(q.root, LowRankRoot):
            q = replace(q, root=q.root.spread(self.seed))
        free = q.free
        vector = ravel_pytree(free)[0]
        memory = _Progress(
            first_state(optimiser_of(self.optimiser), free),
            BatchMeans.empty(2 * vector.size, vector.dtype),
        )
        state = unevaluated(q.with_free(free), batch, memory=memory)
        return replace(state, rate=jnp.full_like(state.elbo, _RATE))

    def step(
        self, model: DensityModel, state: State, batch: Batch, key: Key[Array, ""] | None
    ) -> State:
        """100 updates; `next_q` is the last iterate, `q` the mean of the last half of all."""
        assert key is not None  # `draws` says that there is one
        of_rows, of_draws = jax.random.split(key)
        optimiser = optimiser_of(self.optimiser)
        start: TransformedNormal = state.next_q
        memory: _Progress = state.memory
        vector, unravel = ravel_pytree(start.free)
        epoch = None
        if self.batch_size is not None:
            epoch = Epoch.draw(of_rows, batch, self.batch_size)

        def update(i: Array, carry: Any) -> Any:
            free, inner, sums, value = carry
            part = batch if epoch is None else minibatch(epoch, batch, i)
            new, gradient = value_and_gradient(
                model,
                start,
                free,
                part,
                jax.random.fold_in(of_draws, i),
                self.num_draws,
                self.objective,
                self.estimator,
            )
            free, inner = climb(optimiser, free, inner, gradient)
            seen = jnp.concatenate([ravel_pytree(free)[0], ravel_pytree(gradient)[0]])
            return free, inner, sums + seen, value + new

        zero, first = jnp.zeros_like(state.elbo), jnp.asarray(0, jnp.int32)
        carry = start.free, memory.optimiser, jnp.zeros(2 * vector.size, vector.dtype), zero
        free, inner, sums, value = lax.fori_loop(first, first + _UPDATES, update, carry)
        last = start.with_free(free)
        past = memory.past.add(sums / _UPDATES)
        mean, gradient = jnp.split(past.tail, 2)
        averaged = start.with_free(unravel(mean))
        q = averaged if self.average else last
        excess = self._excess(averaged, last, unravel(gradient), past, unravel)
        sound = jnp.all(jnp.isfinite(sums))
        elbo = jnp.where(sound, value / _UPDATES, jnp.nan)
        return State(
            q,
            last,
            elbo,
            (1.0 - _RATE) * excess,
            jnp.zeros_like(state.failure),
            _Progress(inner, past),
            jnp.full_like(elbo, _RATE),
        )

    def _excess(
        self,
        averaged: TransformedNormal,
        last: TransformedNormal,
        gradient: Any,
        past: BatchMeans,
        unravel: Any,
    ) -> Float[Array, ""]:
        """Nats that q lacks for noise and for the way still to go; huge if nothing is known."""

        def distance(mean: Array) -> Array:
            return averaged.squared_distance(averaged.with_free(unravel(jnp.split(mean, 2)[0])))

        among = past.in_tail
        count = jnp.maximum(jnp.sum(among), 2).astype(averaged.location.dtype)
        spread = jnp.sum(jnp.where(among, jax.vmap(distance)(past.means), 0.0))
        natural = averaged.natural(gradient)
        promise = ravel_pytree(jax.tree.map(jnp.multiply, gradient, natural))[0].sum()
        excess = 0.5 * (spread / (count * (count - 1.0)) + promise)
        if not self.average:
            excess = excess + 0.5 * averaged.squared_distance(last)
        known: Bool[Array, ""] = past.known & jnp.isfinite(excess)
        return jnp.where(known, excess, jnp.finfo(excess.dtype).max)


def minibatch(epoch: Epoch, batch: Batch, i: Int[Array, ""] | int) -> Batch:
    """The rows of update i with weights scaled up to all rows; passes have orders of their own."""
    passes, index = i // epoch.num_batches, i % epoch.num_batches
    epoch = replace(epoch, key=jax.random.fold_in(epoch.key, passes))
    part, share = epoch.minibatch(batch, index)
    return replace(part, weight=part.weight / share)
