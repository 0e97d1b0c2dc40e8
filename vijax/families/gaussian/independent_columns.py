"""Gaussian components with independent columns."""

from __future__ import annotations

import abc
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from ...data.batch import Batch
from ..column_scale import refuse_noise
from ..gamma import Gamma
from . import diagonal_likelihood
from .base import Gaussian
from .diagonal_likelihood import diagonal_matrix
from .features import DiagonalFeatures
from .predictive import Student


class IndependentColumns(Gaussian):
    """mu_d | tau ~ N(m_d, 1 / (kappa_d tau)), with one precision tau per column or one for all.

    kappa_d differs between columns where entries are missing.
    """

    correlated: ClassVar[bool] = False
    feature_moments: ClassVar[Any] = DiagonalFeatures

    @property
    @abc.abstractmethod
    def tau(self) -> Gamma:
        """The marginal distributions of the precisions, (*b, d) or (*b)."""

    @abc.abstractmethod
    def _each(self, a: Float[Array, "..."]) -> Float[Array, "*b d"]:
        """Values of the form of `tau` as one value for each column."""

    @property
    def dim(self) -> int:
        return self.origin.shape[-1]

    @property
    def df(self) -> Float[Array, "..."]:
        """Degrees of freedom, twice the shape of tau."""
        return 2.0 * self.tau.shape

    @property
    def mean_sd(self) -> Float[Array, "*b d"]:
        """Standard deviation of each entry of mu; NaN unless df > 2."""
        return jnp.sqrt(self._each(self.variance) / self.kappa)

    @property
    def variance(self) -> Float[Array, "..."]:
        """E[1 / tau] = scatter / (df - 2); NaN unless df > 2."""
        tau = self.tau
        return tau.rate / jnp.where(tau.shape > 1.0, tau.shape - 1.0, jnp.nan)

    @property
    def variance_sd(self) -> Float[Array, "..."]:
        """Standard deviation of 1 / tau; NaN unless df > 4."""
        shape = self.tau.shape
        return self.variance / jnp.sqrt(jnp.where(shape > 2.0, shape - 2.0, jnp.nan))

    @property
    def covariance(self) -> Float[Array, "*b d d"]:
        """E[Sigma], with `variance` on the diagonal."""
        return diagonal_matrix(self._each(self.variance))

    @property
    def covariance_sd(self) -> Float[Array, "*b d d"]:
        """Standard deviation of each entry of Sigma; NaN on the diagonal unless df > 4."""
        return diagonal_matrix(self._each(self.variance_sd))

    @property
    def precision(self) -> Float[Array, "*b d d"]:
        """E[Lambda], with E[tau] on the diagonal."""
        return diagonal_matrix(self._each(self.tau.mean))

    @property
    def precision_sd(self) -> Float[Array, "*b d d"]:
        """Standard deviation of each entry of Lambda."""
        return diagonal_matrix(self._each(self.tau.sd))

    def check(self, rows: Batch) -> None:
        """Raise ValueError unless rows are (n, d) with the prior's d, and without noise."""
        super().check(rows)
        refuse_noise(rows, "a Gaussian with independent columns")

    def row_size(self, rows: Batch) -> int:
        return diagonal_likelihood.row_size(*self.origin.shape[-2:])

    @property
    def _inverse_tau(self) -> Float[Array, "*b d"]:
        """1 / E[tau] of each column."""
        tau = self.tau
        return self._each(tau.rate / tau.shape)

    def _log_predictive_width(
        self, log_scale: Float[Array, "n k"] | None
    ) -> Float[Array, "k d #n"]:
        """log of (1 / scale + 1 / kappa) / E[tau], for each column of each row."""
        log_row = jnp.zeros_like(self.kappa[:, :1, None])
        log_row = log_row if log_scale is None else -log_scale.T[:, None, :]
        log_mean = -jnp.log(self.kappa)[:, :, None]
        return jnp.logaddexp(log_row, log_mean) + jnp.log(self._inverse_tau)[:, :, None]

    def predictive(self) -> Student:
        """Student-t with df degrees of freedom, of whole rows or, with `df` (*b, d), of columns."""
        scale = diagonal_matrix((1.0 + 1.0 / self.kappa) * self._inverse_tau)
        return Student(self.origin, self._offset, scale, self.df)

    def draw(
        self,
        key: Key[Array, ""],
        index: Int[Array, "n"],
        scale: Float[Array, "n"] | None = None,
    ) -> Float[Array, "n d"]:
        k_normal, k_scale = jax.random.split(key)
        own = self.take(index)
        half = own.tau.shape
        tau = own._each(jax.random.gamma(k_scale, half, dtype=half.dtype) / half)
        noise = jax.random.normal(k_normal, own.mean.shape, half.dtype)
        row = 1.0 if scale is None else 1.0 / scale[:, None]
        return own.mean + noise * jnp.sqrt((row + 1.0 / own.kappa) * own._inverse_tau / tau)
