"""The density that a Gaussian mixture predicts, and its marginals and conditionals."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from .._pytree import pytree, replace, static
from ..data.batch import Batch
from ..data.host import as_floats, is_concrete, to_device
from ..data.padding import read_rows
from ..families.column_scale import check_matrix, refuse_exposure
from ..families.gaussian.predictive import Student, log_student_with_noise
from ..numerics import linalg, special


@pytree
class MixtureDensity:
    """p(x) = sum_k weight_k St(x | location_k, scale_k, dof_k) in data units; normal without `dof`.

    `dof` is (k,), or (k, d) if the columns of a component are independent, each Student-t.
    Marginals and conditionals have the same form. `names` are those of the columns, if they have
    any; rows with names are then matched by name.
    """

    weight: Float[Array, "k"]
    location: Float[Array, "k d"]
    scale: Float[Array, "k d d"]
    dof: Float[Array, "..."] | None
    names: tuple[str, ...] | None = static(default=None)

    @property
    def _independent(self) -> bool:
        return self.dof is not None and self.dof.ndim == 2

    def log_prob(self, x: Any) -> Float[Array, "n"]:
        """Log density in nats of the observed entries of rows (n, d), array-like or a Batch.

        Measurement noise of a row is added to it, by quadrature where the density is no normal.
        Raises ValueError for errors that columns have in common where t densities are independent.
        """
        batch = x if isinstance(x, Batch) else Batch.for_jit(x)
        check_matrix(batch, self.location.shape[1])
        refuse_exposure(batch, "a density of Gaussian components")
        if self._independent:
            _check_independent(batch)
        batch = batch.in_order(self.names).numeric().unfilled
        held = {"x": batch.x, "noise": batch.noise}
        held = jax.tree.map(lambda a: a.astype(self.location.dtype), held)
        batch = replace(batch, **held, names=None)
        return read_rows(_log_prob, batch, replace(self, names=None))

    @property
    def _log_weight(self) -> Float[Array, "k"]:
        on = self.weight > 0
        return jnp.where(on, jnp.log(jnp.where(on, self.weight, 1.0)), -jnp.inf)

    def _by_component(self, batch: Batch) -> Float[Array, "n k"]:
        """Log density in nats under each component."""
        if not self._independent:
            zero = jnp.zeros_like(self.location)
            return Student(self.location, zero, self.scale, self.dof).log_prob(batch)
        assert self.dof is not None  # `_independent` says so
        variance = linalg.diagonal(self.scale)[None]
        dof = self.dof[None]
        z = batch.x[:, None] - self.location[None]
        if batch.noise is None:
            columns = special.log_student(z**2 / variance, jnp.log(variance), dof, 1.0)
        else:
            noise = linalg.diagonal(batch.noise)[:, None]
            columns = log_student_with_noise(z, variance, dof, noise)
        if batch.mask is not None:
            columns = jnp.where(batch.mask[:, None], columns, 0.0)
        return jnp.sum(columns, -1)

    @property
    def component_covariance(self) -> Float[Array, "k d d"]:
        """Covariance of each component; NaN where it has none (dof <= 2)."""
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
        within = jnp.where(on, self.component_covariance, 0.0)
        move = self.location - self.mean[None]
        return jnp.sum(self.weight[:, None, None] * (within + linalg.outer(move, move)), 0)

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
        """The density of these columns, in this order."""
        keep = _columns("columns", columns, self.location.shape[1])
        dof = self.dof[:, keep] if self._independent and self.dof is not None else self.dof
        scale = self.scale[:, keep][:, :, keep]
        names = None if self.names is None else tuple(self.names[j] for j in keep)
        return MixtureDensity(self.weight, self.location[:, keep], scale, dof, names)

    def conditional(self, columns: Any, values: Any) -> MixtureDensity:
        """The density of all other columns given `values`, one number for each of `columns`."""
        d = self.location.shape[1]
        fixed = _columns("columns", columns, d)
        others = np.setdiff1d(np.arange(d), fixed)
        if not len(others):
            raise ValueError("columns: at least one must be left")
        values = to_device(as_floats("values", values, dtype=self.location.dtype))
        if values.shape != fixed.shape:
            raise ValueError(f"values: expected shape {fixed.shape}, got {values.shape}")
        known = self.marginal(fixed)
        row = Batch(values[None], jnp.ones_like(values[:1]))
        weight = jax.nn.softmax(self._log_weight + known._by_component(row)[0])
        free = self.marginal(others)
        if self._independent:
            return replace(free, weight=weight)
        root = linalg.chol(known.scale)
        cross = linalg.tri_solve(root, self.scale[:, fixed][:, :, others])
        white = linalg.tri_solve_vector(root, values[None] - known.location)
        location = free.location + jnp.sum(cross * white[:, :, None], 1)
        scale = free.scale - linalg.matmul(cross.mT, cross)
        if self.dof is None:
            return MixtureDensity(weight, location, scale, None, free.names)
        dof = self.dof + float(len(fixed))
        factor = (self.dof + jnp.sum(white**2, -1)) / dof
        return MixtureDensity(weight, location, factor[:, None, None] * scale, dof, free.names)


def _log_prob(density: MixtureDensity, batch: Batch) -> Float[Array, "n"]:
    return jax.nn.logsumexp(density._log_weight[None] + density._by_component(batch), -1)


def _check_independent(batch: Batch) -> None:
    """Raise ValueError for measurement noise with covariances between columns."""
    if batch.noise is None or not is_concrete(batch.noise, batch.weight):
        return
    off = ~np.eye(batch.x.shape[1], dtype=bool)
    bad = ((batch.noise != 0) & off).any((1, 2)) & (batch.weight > 0)
    if bool(bad.any()):
        raise ValueError(
            f"noise: row {int(bad.argmax())} has errors that columns have in common, but columns "
            "are independent in this density; give independent errors (n, d), or use the "
            "full-covariance Gaussian mixture"
        )


def _columns(name: str, columns: Any, d: int) -> Int[np.ndarray, "m"]:
    index = np.atleast_1d(np.asarray(columns))
    if index.ndim != 1 or index.dtype.kind not in "iu" or not len(index):
        raise ValueError(f"{name}: expected column numbers, got {columns!r}")
    if (index < 0).any() or (index >= d).any() or len(set(index.tolist())) < len(index):
        raise ValueError(f"{name}: expected different numbers from 0 to {d - 1}, got {columns!r}")
    return index
