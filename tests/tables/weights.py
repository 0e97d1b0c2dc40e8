"""Priors on mixture weights: rows of the family table."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy import stats

from vijax.families.weights.stick_breaking import StickBreaking

from ..rows import Family, gammas


def _make(truncated: bool) -> Any:
    def make(rng: np.random.Generator) -> StickBreaking:
        # so large that the weights have a mode: b_t >= 1 + number of later sticks
        a, b = gammas(rng, 3, 4, least=1.5), gammas(rng, 3, 4, least=5.0)
        on = jnp.arange(4) < (3 if truncated else 4)
        return StickBreaking.from_standard(
            jnp.where(on, a, 0.0), jnp.where(on, b, 0.0), truncated=truncated
        )

    return make


def _num_sticks(pi: Any, truncated: bool) -> int:
    return pi.shape[-1] - truncated


def _log_prob(truncated: bool) -> Any:
    """Betas of the proportions, over the Jacobian of the weights."""

    def log_prob(value: Any, i: int, q: StickBreaking) -> float:
        pi, a, b = np.asarray(value[i]), np.asarray(q.a[i]), np.asarray(q.b[i])
        total, left = 0.0, 1.0
        for t in range(_num_sticks(pi, truncated)):
            total += stats.beta.logpdf(pi[t] / left, a[t], b[t]) - np.log(left)
            left -= pi[t]
        return total

    return log_prob


def _sticks(pi: Any, truncated: bool) -> tuple[Any, Any]:
    """v_t and what is left before it, of the sticks that are on."""
    m = _num_sticks(pi, truncated)
    left = 1.0 - jnp.cumsum(pi, -1) + pi
    return (pi / left)[..., :m], left[..., :m]


def _log_base(truncated: bool) -> Any:
    def log_base(pi: Any) -> Any:
        total = jnp.sum(pi, -1, keepdims=True)
        v, left = _sticks(pi / total if truncated else pi, truncated)
        return -jnp.sum(jnp.log(v) + jnp.log1p(-v) + jnp.log(left), -1)

    return log_base


def _log_v(truncated: bool) -> Any:
    def log_v(pi: Any) -> Any:
        v = jnp.log(_sticks(pi, truncated)[0])
        return jnp.pad(v, [(0, 0)] * (v.ndim - 1) + [(0, pi.shape[-1] - v.shape[-1])])

    return log_v


def _family(name: str, truncated: bool) -> Family:
    return Family(
        name,
        _make(truncated),
        {"a": lambda q: q.a, "b": lambda q: q.b, "truncated": lambda q: q.truncated},
        _log_prob(truncated),
        _log_base(truncated),
        {"mean": lambda v: v, "expectation().a": _log_v(truncated)},
        lambda moments: moments.mean,
    )


FAMILIES = [
    _family("StickBreaking", truncated=True),
    _family("StickBreaking(truncated=False)", truncated=False),
]
SPREADS = {family.name: {"sd": lambda v: v} for family in FAMILIES}
