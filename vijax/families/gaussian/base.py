"""Gaussian components with a covariance of any structure."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, TypeVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from ..._text import count
from ...data.batch import Batch
from ...kernel import Kernel
from ...numerics import linalg
from ..column_scale import check_matrix, standardize
from ..describe import mean_and_sd
from ..emission import Emission
from . import kernels, likelihood, predictive
from .features import FeatureMoments, FullFeatures
from .predictive import Student
from .sums import GaussianLikelihood, GaussianSums, Scale

_G = TypeVar("_G", bound="Gaussian")


class Gaussian(Emission):
    """Means and precisions of k components, written about `origin` (k, d).

    `observe` and `draw` take a `scale`, a factor of each row's precision given its component, for
    Student-t components, and `log_predictive` takes its logarithm.
    """

    kappa: Any
    df: Any
    scatter: Any
    origin: Any
    precision: Any
    covariance: Any
    mean_sd: Any
    covariance_sd: Any
    _offset: Any
    kind: ClassVar[str]  # of the covariance
    correlated: ClassVar[bool] = True  # whether columns are correlated, given the component
    feature_moments: ClassVar[type[FeatureMoments]] = FullFeatures

    @property
    @abc.abstractmethod
    def dim(self) -> int:
        """Number of columns d."""

    @classmethod
    @abc.abstractmethod
    def from_sums(cls: type[_G], sums: GaussianSums) -> _G:
        """The sufficient statistics that these sums make, written about their origins."""

    def observe(
        self: _G,
        rows: Batch,
        soft_counts: Float[Array, "n k"],
        moments: GaussianLikelihood,
        row_posterior: Any,
        scale: Scale = 1.0,
    ) -> _G:
        """Expected sufficient statistics, about the origin that `moments` decide on."""
        return self.from_sums(moments.sums(rows, soft_counts, row_posterior, scale))

    def e_step(
        self: _G,
        rows: Batch,
        moments: GaussianLikelihood,
        log_weight: Float[Array, "m"],
        background: Float[Array, "n b"] | None = None,
    ) -> tuple[_G, Float[Array, "m"], Float[Array, "n"]]:
        sums, count, log_z = moments.e_step(rows, log_weight, background)
        return self.from_sums(sums), count, log_z

    def kernels(self, rows: Batch, moments: GaussianLikelihood) -> tuple[Kernel, ...]:
        """The exact moments, preceded by feature moments where these serve the rows."""
        exact = super().kernels(rows, moments)
        if "features" not in kernels.choose(rows, self.origin.shape[-2], full=self.correlated):
            return exact
        return (self.feature_moments.of(moments, rows), *exact)

    @abc.abstractmethod
    def predictive(self) -> Student:
        """The predictive density of a whole row under each component."""

    @property
    def mean(self) -> Float[Array, "*b d"]:
        """E[mu] = m."""
        return self.origin + self._offset

    @property
    def _on(self) -> Any:
        return self.kappa > 0

    @property
    def _safe_kappa(self) -> Any:
        """kappa, or 1 for a component with neither rows nor a prior."""
        return jnp.where(self._on, self.kappa, 1.0)

    def words(self) -> list[str]:
        return [count(self.dim, "column"), f"covariance {self.kind}"]

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """Posterior mean and expected standard deviation of every column."""
        return mean_and_sd(self.mean, linalg.diagonal(self.covariance), names)

    def check(self, rows: Batch) -> None:
        """Raise ValueError unless rows are (n, d) with the prior's d."""
        check_matrix(rows, self.dim)

    def embed(self, rows: Batch) -> Float[Array, "n f"]:
        """Rows in standard deviations from the mean of each column."""
        return standardize(rows)

    def log_predictive(
        self, rows: Batch, log_scale: Float[Array, "n k"] | None = None
    ) -> Float[Array, "n k"]:
        """log density in nats of the predictive Student-t, over the observed entries."""
        log_inflate = predictive.log_inflation(self._safe_kappa, log_scale)
        return self.predictive().log_prob(rows, log_inflate)

    def draw(
        self,
        key: Key[Array, ""],
        index: Int[Array, "n"],
        scale: Float[Array, "n"] | None = None,
    ) -> Float[Array, "n d"]:
        return self.predictive().sample(
            key, index, predictive.inflation(self._safe_kappa[index], scale)
        )

    def row_size(self, rows: Batch) -> int:
        return likelihood.row_size(rows, *self.origin.shape[-2:])
