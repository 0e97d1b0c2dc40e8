"""Gaussian rows seen in part or through noise: what is known of the whole row, exactly.

A missing entry and a noisy one are the same thing (Ghahramani & Jordan 1994; Bovy, Hogg & Roweis
2011): x_n is y_n with entries left out or noise added, and q(y_n | z_n) is normal.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._pytree import pytree
from ..batch import Batch
from ..numerics import linalg, special


@pytree
class Completed:
    """q(y_n | z_n = k): E[y] - mean_k, and Cov[y] of each distinct pattern or of each row."""

    move: Float[Array, "n k d"]
    spread: Float[Array, "p k d d"]
    group: Int[Array, "n"] | None
    square: Float[Array, "n k"]
    log_det: Float[Array, "... k"]
    observed: Float[Array, "... 1"]

    @property
    def log_density(self) -> Float[Array, "n k"]:
        """log N(x_o | mean_o, V_oo + noise) in nats."""
        return -0.5 * (self.square + self.log_det + self.observed * special.LOG_2PI)


@pytree
class Quadratic:
    """E[log N(x_o | mu, (u Lambda)^-1)] = (observed log(u / 2 pi) + log_det - u square) / 2."""

    square: Float[Array, "n k"]
    log_det: Float[Array, "... k"]
    observed: Float[Array, "... 1"]
    latent: Completed | None

    @property
    def log_lik(self) -> Float[Array, "n k"]:
        """At u = 1, in nats."""
        return 0.5 * (self.log_det - self.observed * special.LOG_2PI - self.square)


def incomplete(rows: Batch) -> bool:
    """Whether anything is missing or noisy."""
    return rows.mask is not None or rows.noise is not None


def row_size(rows: Batch, k: int, d: int) -> int:
    """Floats per row: whitened differences, and a matrix for each component if incomplete."""
    return k * (2 * d + 2) + (k * (2 * d * d + 4 * d) if incomplete(rows) else 0)


def complete(rows: Batch, origin: Any, shift: Any, covariance: Any) -> Completed:
    """Condition N(origin + shift, covariance) of every component on what was seen of each row."""
    d = rows.x.shape[1]
    dtype = rows.x.dtype
    table, group = _patterns(rows)
    seen = table.astype(dtype)
    eye = jnp.eye(d, dtype=dtype)
    total = covariance[None] if rows.noise is None else covariance + rows.noise[:, None]
    both = seen[:, None, :, None] * seen[:, None, None, :]
    root = linalg.tri_inverse(linalg.chol(both * total + (1.0 - seen[:, None, :, None]) * eye))
    gain = linalg.matmul(covariance[None] * seen[:, None, None, :], root.mT)
    spread = covariance - linalg.matmul(gain, gain.mT)
    if rows.noise is None:
        # the observed entries are known exactly; what is left there is rounding
        unseen = 1.0 - seen
        spread = spread * unseen[:, None, :, None] * unseen[:, None, None, :]
    log_det = -2.0 * jnp.sum(jnp.log(linalg.diagonal(root)), -1)
    mask = seen if group is None else seen[group]
    z = ((rows.x[:, None, :] - origin) - shift) * mask[:, None, :]
    if group is not None:
        root, gain, log_det = root[group], gain[group], log_det[group]
    white = _apply(root, z)
    return Completed(
        _apply(gain, white),
        spread,
        group,
        jnp.sum(white**2, -1),
        log_det,
        jnp.sum(mask, -1, keepdims=True),
    )


def moments_of(
    latent: Completed, mass: Float[Array, "n k"], scaled: Float[Array, "n k"], rest: Any
) -> tuple[Array, Array]:
    """Weighted sums of E[y - c] (k, d) and E[(y - c)(y - c)^T] (k, d, d), c = mean - rest.

    Means count `scaled` times, covariances `mass` times.
    """
    z = latent.move + rest
    weighted = z * scaled[:, :, None]
    square = linalg.matmul(jnp.moveaxis(weighted, 0, 2), jnp.moveaxis(z, 0, 1))
    if latent.group is not None:
        mass = jax.ops.segment_sum(mass, latent.group, latent.spread.shape[0])
    spread = jnp.sum(mass[:, :, None, None] * latent.spread, 0)
    return jnp.sum(weighted, 0), square + spread


def _patterns(rows: Batch) -> tuple[Array, Any]:
    """Distinct rows of the mask and which one each row has; None where that is its own."""
    if rows.mask is None:
        n = 1 if rows.noise is None else rows.x.shape[0]
        return jnp.ones((n, rows.x.shape[1]), bool), None
    if rows.group is None or rows.noise is not None:
        return rows.mask, None
    assert rows.patterns is not None  # comes with `group`
    return rows.patterns, rows.group


def _apply(a: Float[Array, "p k d e"], b: Float[Array, "n k e"]) -> Float[Array, "n k d"]:
    return linalg.matmul(a, b[..., None])[..., 0]
