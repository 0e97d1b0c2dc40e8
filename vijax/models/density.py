"""The density that a Gaussian mixture predicts, and its marginals and conditionals."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from .._pytree import pytree, replace
from ..data.batch import Batch
from ..families.column_scale import check_matrix
from ..families.gaussian.predictive import Student
from ..numerics import linalg, special


@pytree
class MixtureDensity:
    """sum_k weight_k St(x | location_k, scale_k, dof_k), normal where `dof` is None.

    `dof` is (k,), or (k, d) for components whose columns are independent Student-t each. Closed
    under marginals and conditionals. All in data units.
    """

    weight: Float[Array, "k"]
    location: Float[Array, "k d"]
    scale: Float[Array, "k d d"]
    dof: Float[Array, "..."] | None

    @property
    def _independent(self) -> bool:
        return self.dof is not None and self.dof.ndim == 2

    def log_prob(self, x: Any) -> Float[Array, "n"]:
        """log density in nats of rows (n, d), array-like or a Batch: of their observed entries."""
        batch = Batch.of(x)
        check_matrix(batch, self.location.shape[1])
        batch = replace(batch, x=batch.x.astype(self.location.dtype))
        return jax.nn.logsumexp(self._log_weight + self._each(batch), -1)

    @property
    def _log_weight(self) -> Float[Array, "k"]:
        on = self.weight > 0
        return jnp.where(on, jnp.log(jnp.where(on, self.weight, 1.0)), -jnp.inf)

    def _each(self, batch: Batch) -> Float[Array, "n k"]:
        if not self._independent:
            zero = jnp.zeros_like(self.location)
            return Student(self.location, zero, self.scale, self.dof).log_prob(batch)
        assert self.dof is not None  # `_independent` says so
        variance = linalg.diagonal(self.scale)
        square = (batch.x[:, None] - self.location) ** 2 / variance
        each = special.log_student(square, jnp.log(variance), self.dof, 1.0)
        seen = each if batch.mask is None else jnp.where(batch.mask[:, None], each, 0.0)
        return jnp.sum(seen, -1)

    @property
    def component_covariance(self) -> Float[Array, "k d d"]:
        """Of each component; NaN where it has none (dof <= 2)."""
        if self.dof is None:
            return self.scale
        factor = self.dof / jnp.where(self.dof > 2.0, self.dof - 2.0, jnp.nan)
        return self.scale * (factor[:, :, None] if self._independent else factor[:, None, None])

    @property
    def mean(self) -> Float[Array, "d"]:
        """E[x]."""
        return jnp.sum(self.weight[:, None] * self.location, 0)

    @property
    def covariance(self) -> Float[Array, "d d"]:
        """Cov[x]; NaN where a component with weight has none."""
        on = (self.weight > 0)[:, None, None]
        each = jnp.where(on, self.component_covariance, 0.0)
        move = self.location - self.mean
        return jnp.sum(self.weight[:, None, None] * (each + linalg.outer(move, move)), 0)

    def sample(self, key: Key[Array, ""], n: int) -> Float[Array, "n d"]:
        """n independent rows."""
        k_label, k_row = jax.random.split(key)
        label = jax.random.categorical(k_label, self._log_weight, shape=(n,))
        if not self._independent:
            zero = jnp.zeros_like(self.location)
            return Student(self.location, zero, self.scale, self.dof).sample(k_row, label)
        assert self.dof is not None  # `_independent` says so
        step = jax.random.t(k_row, self.dof[label], dtype=self.location.dtype)
        return self.location[label] + jnp.sqrt(linalg.diagonal(self.scale))[label] * step

    def marginal(self, columns: Any) -> MixtureDensity:
        """Of these columns, in this order."""
        keep = _columns("columns", columns, self.location.shape[1])
        dof = self.dof[:, keep] if self._independent and self.dof is not None else self.dof
        scale = self.scale[:, keep][:, :, keep]
        return MixtureDensity(self.weight, self.location[:, keep], scale, dof)

    def conditional(self, columns: Any, values: Any) -> MixtureDensity:
        """Of all other columns, given that `columns` have `values` (one number each)."""
        d = self.location.shape[1]
        given = _columns("columns", columns, d)
        rest = np.setdiff1d(np.arange(d), given)
        if not len(rest):
            raise ValueError("columns: at least one must be left")
        values = jnp.asarray(values, self.location.dtype)
        if values.shape != given.shape:
            raise ValueError(f"values: expected shape {given.shape}, got {values.shape}")
        known = self.marginal(given)
        log_weight = (
            self._log_weight + known._each(Batch(values[None], jnp.ones_like(values[:1])))[0]
        )
        weight = jax.nn.softmax(log_weight)
        left = self.marginal(rest)
        if self._independent:
            return replace(left, weight=weight)
        root = linalg.chol(known.scale)
        cross = linalg.tri_solve(root, self.scale[:, given][:, :, rest])
        white = linalg.tri_solve_vector(root, values - known.location)
        location = left.location + jnp.sum(cross * white[:, :, None], 1)
        scale = left.scale - linalg.matmul(cross.mT, cross)
        if self.dof is None:
            return MixtureDensity(weight, location, scale, None)
        dof = self.dof + float(len(given))
        factor = (self.dof + jnp.sum(white**2, -1)) / dof
        return MixtureDensity(weight, location, factor[:, None, None] * scale, dof)


def _columns(name: str, columns: Any, d: int) -> Int[np.ndarray, "m"]:
    found = np.atleast_1d(np.asarray(columns))
    if found.ndim != 1 or found.dtype.kind not in "iu" or not len(found):
        raise ValueError(f"{name}: expected column numbers, got {columns!r}")
    if (found < 0).any() or (found >= d).any() or len(set(found.tolist())) < len(found):
        raise ValueError(f"{name}: expected different numbers from 0 to {d - 1}, got {columns!r}")
    return found
