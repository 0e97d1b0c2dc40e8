"""A problem as a model of vijax."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import vijax as vx

from .problem import Constraint, Params, Problem, Rows


def model_of(problem: Problem) -> vx.LogDensity:
    """With default settings."""
    constraints = {name: _constraint(word) for name, word in problem.constraints.items()}
    rows = problem.rows or {}
    whole = [name for name, x in rows.items() if np.issubdtype(x.dtype, np.integer)]

    def log_lik(params: Params, rows: Rows) -> jax.Array:  # a Batch has indices as floats
        indices = {name: rows[name].astype(np.int32) for name in whole}
        return problem.log_lik(params, rows | indices)

    return vx.LogDensity(
        problem.log_prior,
        None if problem.log_lik is None else log_lik,
        like=problem.like,
        constraints=constraints,
    )


def rows_of(problem: Problem) -> Rows | None:
    """On the device."""
    return None if problem.rows is None else jax.tree.map(jnp.asarray, problem.rows)


def flat(tree: object) -> np.ndarray:
    """(d,) of a pytree of the form of the parameters, in the order of the reference."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def _constraint(word: Constraint) -> vx.constraints.Constraint:
    match word:
        case "real":
            return vx.constraints.Real()
        case "positive":
            return vx.constraints.Positive()
        case "ordered":
            return vx.constraints.Ordered()
        case (_, low, high):
            return vx.constraints.Interval(low, high)
    raise ValueError(f"constraint: no such word as {word!r}")
