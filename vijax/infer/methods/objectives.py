"""Objectives of black-box inference as functions of log weights, and estimators of gradients."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from ..._pytree import pytree, static
from ...data.batch import Batch
from ...guides.transformed_normal import TransformedNormal
from ...model import DensityModel
from ...numerics.matched_draws import map_draws
from .black_box import draws_at_once

ESTIMATORS = ("reparameterised", "sticking_the_landing", "score", "score_without_baseline")
_SMALL = 0.5  # exponents up to which a mean of powers is computed about 1


class Objective(abc.ABC):
    """A function of log weights log p(u, x) - log q(u) of `num_samples` draws of q, in nats.

    `unbiased` says that estimates from minibatches of rows are unbiased: it is linear.
    """

    num_samples: ClassVar[int] = 1
    unbiased: ClassVar[bool] = False

    @abc.abstractmethod
    def bound(self, log_weight: Float[Array, "n k"]) -> Float[Array, "n"]:
        """The bound on log p(x) of each set of k draws, in nats."""

    def score(self, log_weight: Float[Array, "n k"], baseline: bool) -> Float[Array, "n k"]:
        """Factors of grad log q(u) whose sum over all draws is an unbiased gradient."""
        n, k = log_weight.shape
        value, pull = jax.vjp(self.bound, log_weight)
        share = pull(jnp.ones_like(value))[0]
        if baseline:
            value = _less_others(value)
        # E[grad log q] = 0: with 1 / k, one draw has no term of its own
        return (value[:, None] - share + 1.0 / k) / n


@pytree
class Elbo(Objective):
    """E_q[log p(u, x) - log q(u)]."""

    unbiased: ClassVar[bool] = True

    def bound(self, log_weight: Float[Array, "n k"]) -> Float[Array, "n"]:
        return jnp.mean(log_weight, -1)


@pytree
class IWAE(Objective):
    """The importance-weighted bound E[log mean_k(w_k)] of `num_samples` draws, w = p(u, x) / q(u).

    It rises with the number of draws, from the ELBO of one to log p(x) (Burda, Grosse &
    Salakhutdinov 2016). The q that maximises it is the better proposal, not the better posterior.
    """

    num_samples: int = static()  # type: ignore[misc]

    def bound(self, log_weight: Float[Array, "n k"]) -> Float[Array, "n"]:
        return jax.nn.logsumexp(log_weight, -1) - math.log(self.num_samples)


@pytree
class Renyi(Objective):
    """The bound E[log mean_k(w_k^(1 - alpha))] / (1 - alpha) of `num_samples` draws.

    As k grows, it tends to log p(x) minus Renyi's divergence of order alpha of q from the posterior
    (Li & Turner 2016): alpha = 1 is the ELBO, alpha = 0 is `IWAE`, and a larger alpha makes q
    narrower. With alpha < 0 it tends to an upper bound.
    """

    alpha: float | Float[Array, ""]
    num_samples: int = static()  # type: ignore[misc]

    def bound(self, log_weight: Float[Array, "n k"]) -> Float[Array, "n"]:
        power = 1.0 - jnp.asarray(self.alpha, log_weight.dtype)
        centre = lax.stop_gradient(jnp.mean(log_weight, -1, keepdims=True))
        exponent = power * (log_weight - centre)
        near = jnp.max(jnp.abs(exponent), -1, keepdims=True) <= _SMALL
        zero = power == 0
        divisor = jnp.where(zero, 1.0, power)
        small = jnp.where(near, exponent, 0.0)
        about_one = jnp.log1p(jnp.mean(jnp.expm1(small), -1)) / divisor
        large = jnp.where(near, 0.0, exponent)
        of_powers = (jax.nn.logsumexp(large, -1) - math.log(self.num_samples)) / divisor
        found = centre[:, 0] + jnp.where(near[:, 0], about_one, of_powers)
        return jnp.where(zero, jnp.mean(log_weight, -1), found)


@pytree
class ForwardKL(Objective):
    """E_p[log q(u)] by self-normalised importance sampling, so that q covers the posterior.

    Its gradient is the mean of grad log q(u) over draws of q with weights w / sum(w), whose bias
    falls as 1 / num_draws. The value that it shows is the ELBO.
    """

    def bound(self, log_weight: Float[Array, "n k"]) -> Float[Array, "n"]:
        return jnp.mean(log_weight, -1)

    def score(self, log_weight: Float[Array, "n k"], baseline: bool) -> Float[Array, "n k"]:
        return jax.nn.softmax(log_weight.ravel()).reshape(log_weight.shape)


def score_gradient(
    log_q: Callable[[Any, Any], Float[Array, ""]],
    params: Any,
    draws: Any,
    values: Float[Array, "s"],
    *,
    baseline: bool = True,
) -> Any:
    """The score-function estimate of the gradient of E_q[f] by the parameters of q.

    mean_s (f_s - b_s) grad log q(u_s), for any q whose density is known, over discrete u too
    (Williams 1992). It is unbiased: b_s is the mean of all other f (Kool, van Hoof & Welling 2019).

    Args:
        log_q: A function of the parameters and one draw: log q(u) in nats.
        params: The parameters, a pytree.
        draws: Independent draws of this q on a leading axis, in any pytree.
        values: f of each draw; log p(u, x) - log q(u) for the gradient of the ELBO.
        baseline: Whether to subtract b, which needs two draws or more.

    Example:
        logits = jnp.zeros(3)
        draws = jax.random.categorical(key, logits, shape=(100,))
        log_q = lambda logits, k: jax.nn.log_softmax(logits)[k]
        gradient = vx.score_gradient(log_q, logits, draws, f(draws))
    """
    factor = lax.stop_gradient(_less_others(values) if baseline else values)

    def surrogate(params: Any) -> Array:
        return jnp.mean(factor * jax.vmap(lambda u: log_q(params, u))(draws))

    return jax.grad(surrogate)(params)


def value_and_gradient(
    model: DensityModel,
    q: TransformedNormal,
    free: Any,
    batch: Batch,
    key: Key[Array, ""],
    num_draws: int,
    objective: Objective,
    estimator: str,
) -> tuple[Float[Array, ""], Any]:
    """An estimate of the objective in nats of `q.with_free(free)`, and of its gradient by `free`.

    Each of `num_draws` terms has `objective.num_samples` independent draws.
    """
    shape = num_draws, objective.num_samples
    z = jax.random.normal(key, (num_draws * shape[1], q.root.noise_size), q.location.dtype)
    at_once = draws_at_once(batch)

    def log_density(u: Array) -> Array:
        return model.log_density(u, batch)

    def along_draws(free: Any) -> tuple[Array, Array]:
        new = q.with_free(free)
        u = new.at(z)
        fixed = estimator == "sticking_the_landing"
        log_q = lax.stop_gradient(new).log_density(u) if fixed else new.log_density_at(z)
        log_weight = map_draws(log_density, u, at_once) - log_q
        value = jnp.mean(objective.bound(log_weight.reshape(shape)))
        return value, value

    def by_score(free: Any) -> tuple[Array, Array]:
        new = q.with_free(free)
        u = lax.stop_gradient(new.at(z))
        log_q = new.log_density(u)
        log_weight = map_draws(log_density, u, at_once) - log_q
        log_weight = lax.stop_gradient(log_weight).reshape(shape)
        factor = objective.score(log_weight, estimator == "score")
        return jnp.sum(factor * log_q.reshape(shape)), jnp.mean(objective.bound(log_weight))

    moving = estimator in ("reparameterised", "sticking_the_landing")
    surrogate = along_draws if moving and not isinstance(objective, ForwardKL) else by_score
    gradient, value = jax.grad(surrogate, has_aux=True)(free)
    return value, gradient


def _less_others(values: Float[Array, "s"]) -> Float[Array, "s"]:
    """Each value less the mean of all others."""
    size = values.shape[0]
    return (values - jnp.mean(values)) * (size / (size - 1.0))
