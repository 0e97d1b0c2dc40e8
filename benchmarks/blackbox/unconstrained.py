"""Unconstrained coordinates of a problem, in plain JAX: what samplers and peers work in.

real: u = x; positive: u = log x; interval (low, high): u = logit((x - low) / (high - low));
ordered: u = the first, then the logs of the differences. The order of coordinates is that of
`jax.flatten_util.ravel_pytree` of `like`: names sorted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from .problems import Constraint, Params, Problem


def log_density(problem: Problem, *, jacobian: bool = True, prior: bool = True) -> Callable:
    """logp(u), u of shape (d,), in nats with the Jacobian; False leaves a part out, for tests."""
    rows = None if problem.rows is None else jax.tree.map(jnp.asarray, problem.rows)

    def logp(u: jax.Array) -> jax.Array:
        params, log_det = constrain(problem, u)
        total = log_det if jacobian else jnp.zeros_like(log_det)
        if prior:
            total += problem.log_prior(params)
        if problem.log_lik is not None:
            total += jnp.sum(problem.log_lik(params, rows))
        return total

    return logp


def constrain(problem: Problem, u: jax.Array) -> tuple[Params, jax.Array]:
    """Parameters at u of shape (d,), and log |det| of their Jacobian in nats."""
    like = {name: jnp.zeros(np.shape(x), u.dtype) for name, x in problem.like.items()}
    free = ravel_pytree(like)[1](u)
    pairs = {name: _forward(problem.constraints[name], x) for name, x in free.items()}
    log_det = sum(log_det for _, log_det in pairs.values())
    return {name: x for name, (x, _) in pairs.items()}, jnp.asarray(log_det, u.dtype)


def unconstrain(problem: Problem, params: Params) -> jax.Array:
    """u of shape (d,) of parameters inside of their constraints."""
    return ravel_pytree(
        {name: _inverse(problem.constraints[name], x) for name, x in params.items()}
    )[0]


def coordinates(problem: Problem) -> list[str]:
    """A name for each of the d coordinates, such as `log tau` or `theta[3]`."""
    names = []
    for name in sorted(problem.like):
        for index in np.ndindex(np.shape(problem.like[name])):
            entry = name + "".join(f"[{i}]" for i in index)
            match problem.constraints[name]:
                case "positive":
                    entry = f"log {entry}"
                case ("interval", 0.0, 1.0):
                    entry = f"logit {entry}"
                case ("interval", low, high):
                    entry = f"logit ({entry} - {low:g}) / {high - low:g}"
                case "ordered" if index[-1]:
                    entry = f"log ({entry} - {name}[{index[-1] - 1}])"
            names.append(entry)
    return names


def _forward(constraint: Constraint, u: jax.Array) -> tuple[jax.Array, jax.Array]:
    match constraint:
        case "real":
            return u, jnp.zeros((), u.dtype)
        case "positive":
            return jnp.exp(u), jnp.sum(u)
        case ("interval", low, high):
            log_slope = jax.nn.log_sigmoid(u) + jax.nn.log_sigmoid(-u) + math.log(high - low)
            return low + (high - low) * jax.nn.sigmoid(u), jnp.sum(log_slope)
        case "ordered":
            steps = jnp.concatenate([u[..., :1], jnp.exp(u[..., 1:])], -1)
            return jnp.cumsum(steps, -1), jnp.sum(u[..., 1:])
    raise ValueError(f"constraint: no such word as {constraint!r}")


def _inverse(constraint: Constraint, x: Any) -> jax.Array:
    match constraint:
        case "real":
            return jnp.asarray(x)
        case "positive":
            return jnp.log(x)
        case ("interval", low, high):
            return jnp.log(x - low) - jnp.log(high - x)
        case "ordered":
            return jnp.concatenate([x[..., :1], jnp.log(jnp.diff(x, axis=-1))], -1)
    raise ValueError(f"constraint: no such word as {constraint!r}")
