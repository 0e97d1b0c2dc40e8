"""Bounds of models with a latent variable for each row, whose q comes from an encoder."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.tree_util import Partial
from jaxtyping import Array, Float, Key

from ...data.host import check_bound, check_integer, described
from ...numerics.matched_draws import map_draws
from .objectives import Elbo, ForwardKL, Objective

_ESTIMATORS = ("reparameterised", "sticking_the_landing")
_DRAWS = 2**18  # of all rows that are in memory together


def amortised_bound(
    log_joint: Callable[[Any, Any, Any], Float[Array, ""]],
    encoder: Callable[[Any, Any], tuple[Float[Array, "k"], Float[Array, "k"]]],
    params: Any,
    rows: Any,
    *,
    key: Key[Array, ""],
    num_draws: int = 1,
    objective: Any = "elbo",
    estimator: str = "reparameterised",
) -> Float[Array, "n"]:
    """Unbiased estimates of a bound on log p(x_n) of each row, q(z_n) = N(mean, diag(sd^2)).

    Mean and sd come from an encoder of the row (Kingma & Welling 2014). Values are in nats, with
    the constants that `log_joint` has. Their mean over rows can be differentiated by `params`,
    those of model and encoder alike; `fit_amortised` maximises it. The function is pure.

    The best encoder of a linear decoder with normal noise, or of any model whose posterior of a row
    is a normal with independent coordinates, makes every draw of the ELBO log p(x_n). Raises
    TypeError or ValueError naming the argument.

    Args:
        log_joint: A function of the parameters, one z (k,) and one row: log p(x_n, z_n), a scalar.
        encoder: A function of the parameters and one row: the mean of z_n and the log of its
            standard deviation, (k,) each.
        params: All parameters, a pytree.
        rows: An array (n, ...) or a pytree of them.
        key: A typed key. Each row has draws of its own.
        num_draws: Number of draws of a row, or of sets of draws for `IWAE` and `Renyi`.
        objective: "elbo", `IWAE(num_samples)` or `Renyi(alpha, num_samples)`, for each row.
        estimator: "reparameterised", or for the ELBO "sticking_the_landing", whose gradient has no
            variance where q is the posterior (Roeder, Wu & Duvenaud 2017).

    Example:
        def log_joint(params, z, x):
            noise = jax.scipy.stats.norm.logpdf(x, params["w"] @ z, jnp.exp(params["log_sd"]))
            return jax.scipy.stats.norm.logpdf(z).sum() + noise.sum()

        def encoder(params, x):
            return params["a"] @ x, params["log_width"]

        bounds = vx.amortised_bound(log_joint, encoder, params, x, key=jax.random.key(0))
    """
    objective = _objective(objective, estimator)
    check_integer("num_draws", num_draws)
    check_bound("num_draws", num_draws, least=1.0)
    rows = _arrays(rows)
    functions = _function("log_joint", log_joint), _function("encoder", encoder)
    return _amortised_bound(*functions, params, rows, key, num_draws, objective, estimator)


def amortised_mixture_bound(
    log_joint: Callable[[Any, Any], Float[Array, "k"]],
    encoder: Callable[[Any, Any], Float[Array, "k"]],
    params: Any,
    rows: Any,
) -> Float[Array, "n"]:
    """The exact ELBO of each row, in nats, of a class among k whose probabilities are encoded.

    It is sum_k r_nk (log p(x_n, k) - log r_nk) with r_n the softmax of the encoder, at most
    log p(x_n) = logsumexp_k log p(x_n, k), and equal to it if r_n are the responsibilities of an
    exact E-step. It has no draws. Raises TypeError or ValueError naming the argument.

    Args:
        log_joint: A function of the parameters and one row: log p(x_n, k) of every class, (k,).
        encoder: A function of the parameters and one row: log r_nk up to a constant, (k,).
        params: All parameters, a pytree.
        rows: An array (n, ...) or a pytree of them.

    Example:
        def log_joint(params, x):
            parts = jax.scipy.stats.norm.logpdf(x, params["means"], 1.0)
            return jax.nn.log_softmax(params["logits"]) + parts

        def encoder(params, x):
            return params["a"] * x + params["b"]

        bounds = vx.amortised_mixture_bound(log_joint, encoder, params, x)
    """
    rows = _arrays(rows)
    functions = _function("log_joint", log_joint), _function("encoder", encoder)
    return _amortised_mixture_bound(*functions, params, rows)


@partial(jax.jit, static_argnames=("num_draws", "estimator"))
def _amortised_bound(
    log_joint: Partial,
    encoder: Partial,
    params: Any,
    rows: Any,
    key: Key[Array, ""],
    num_draws: int,
    objective: Objective,
    estimator: str,
) -> Float[Array, "n"]:
    shape = num_draws, objective.num_samples

    def of_row(given: tuple[Any, Array]) -> Array:
        row, index = given
        mean, log_sd = _encoded(encoder(params, row))
        noise_key = jax.random.fold_in(key, index)
        noise = jax.random.normal(noise_key, (math.prod(shape), mean.size), mean.dtype)
        z = mean + jnp.exp(log_sd) * noise
        if estimator == "sticking_the_landing":
            mean, log_sd = lax.stop_gradient((mean, log_sd))
            noise = (z - mean) * jnp.exp(-log_sd)
        log_q = -0.5 * jnp.sum(noise**2, -1) - jnp.sum(log_sd)
        log_q = log_q - 0.5 * mean.size * math.log(2.0 * math.pi)
        log_p = jax.vmap(lambda one: log_joint(params, one, row))(z)
        if jnp.shape(log_p) != log_q.shape:
            raise ValueError(
                "log_joint: expected a scalar for one z and one row, got an array of shape "
                f"{jnp.shape(log_p)[1:]}"
            )
        return jnp.mean(objective.bound((log_p - log_q).reshape(shape)))

    index = jnp.arange(_length(rows), dtype=jnp.int32)
    return map_draws(of_row, (rows, index), max(1, _DRAWS // math.prod(shape)))


@jax.jit
def _amortised_mixture_bound(
    log_joint: Partial, encoder: Partial, params: Any, rows: Any
) -> Float[Array, "n"]:
    def of_row(row: Any) -> Array:
        logits, log_p = encoder(params, row), log_joint(params, row)
        if jnp.ndim(logits) != 1 or jnp.shape(logits) != jnp.shape(log_p):
            raise ValueError(
                "log_joint, encoder: expected one number for each class, got shapes "
                f"{jnp.shape(log_p)} and {jnp.shape(logits)}"
            )
        log_r = jax.nn.log_softmax(logits)
        return jnp.sum(jnp.exp(log_r) * (log_p - log_r))

    return map_draws(of_row, rows, _DRAWS)


def _encoded(found: Any) -> tuple[Array, Array]:
    """Mean and log standard deviation; ValueError unless they are vectors of one size."""
    shapes = [jnp.shape(a) for a in found] if isinstance(found, tuple | list) else None
    if shapes is None or len(shapes) != 2 or len(shapes[0]) != 1 or shapes[0] != shapes[1]:
        raise ValueError(
            "encoder: expected the mean and the log standard deviation of one z, (k,) each, got "
            f"{described(found) if shapes is None else f'shapes {shapes}'}"
        )
    return found[0], found[1]


def _objective(given: Any, estimator: str) -> Objective:
    if estimator not in _ESTIMATORS:
        raise ValueError(
            f"estimator: expected one of {', '.join(_ESTIMATORS)}, got {estimator!r:.80}"
        )
    if isinstance(given, str) and given == "elbo":
        given = Elbo()
    if not isinstance(given, Objective) or isinstance(given, ForwardKL):
        raise TypeError(f"objective: expected 'elbo', IWAE(...) or Renyi(...), got {given!r:.80}")
    check_integer("objective: num_samples", given.num_samples)
    check_bound("objective: num_samples", given.num_samples, least=1.0)
    if estimator == "sticking_the_landing" and not isinstance(given, Elbo):
        raise ValueError("estimator: sticking_the_landing is unbiased for the ELBO alone")
    return given


def _function(name: str, value: Any) -> Partial:
    if not callable(value):
        raise TypeError(f"{name}: expected a function, got {described(value)}")
    return value if isinstance(value, Partial) else Partial(value)


def _arrays(rows: Any) -> Any:
    """The rows as arrays; ValueError unless all have one number of rows."""
    rows = jax.tree.map(jnp.asarray, rows)
    lengths = {a.shape[:1] for a in jax.tree.leaves(rows)}
    if len(lengths) != 1 or () in lengths:
        raise ValueError("rows: expected arrays with as many rows each, first axis first")
    return rows


def _length(rows: Any) -> int:
    return jax.tree.leaves(rows)[0].shape[0]
