"""What Gaussian components have in common, whatever the structure of their covariance."""

from __future__ import annotations

import abc
from typing import Any, TypeVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from ..batch import Batch
from ..numerics import linalg
from . import gaussian_rows, student
from .captions import mean_and_sd
from .emission import Emission
from .standardize import check_matrix, standardize

_G = TypeVar("_G", bound="Gaussian")


class Gaussian(Emission):
    """Means and precisions of k components, written about `origin` (k, d).

    `observe`, `log_predictive` and `draw` take a `scale`, by which the precision of a row is
    multiplied given its component: what Student-t components are made with.
    """

    kappa: Any
    origin: Any
    _offset: Any
    covariance: Any

    @property
    @abc.abstractmethod
    def dim(self) -> int:
        """d."""

    @abc.abstractmethod
    def observe(
        self: _G,
        rows: Batch,
        mass: Float[Array, "n k"],
        at: Any,
        latent: Any = None,
        scale: Float[Array, "n k"] | float = 1.0,
    ) -> _G:
        """Weighted sufficient statistics of what was observed, each component's next to its mean.

        `scale` multiplies the precision of each row.
        """

    @abc.abstractmethod
    def predictive(self) -> student.Student:
        """The predictive density of whole rows."""

    @property
    def mean(self) -> Float[Array, "*b d"]:
        """E[mu] = m."""
        return self.origin + self._offset

    @property
    def _on(self) -> Any:
        return self.kappa > 0

    @property
    def _safe_kappa(self) -> Any:
        """kappa, and 1 where there is no mass, real or prior, and so no weight."""
        return jnp.where(self._on, self.kappa, 1.0)

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """Posterior mean and expected standard deviation of every column."""
        return mean_and_sd(self.mean, linalg.diagonal(self.covariance), names)

    def check(self, rows: Batch) -> None:
        """Raise ValueError unless rows are (n, d) with the prior's d."""
        check_matrix(rows, self.dim)

    def embed(self, rows: Batch) -> Float[Array, "n f"]:
        """Rows in standard deviations of the columns."""
        return standardize(rows)

    def log_predictive(
        self, rows: Batch, scale: Float[Array, "n k"] | None = None
    ) -> Float[Array, "n k"]:
        """log density of the predictive Student-t, of the observed entries.

        `scale` multiplies the precision of the row given theta.
        """
        return self.predictive().log_prob(rows, student.inflation(self._safe_kappa, scale))

    def draw(
        self,
        key: Key[Array, ""],
        index: Int[Array, "n"],
        scale: Float[Array, "n"] | None = None,
    ) -> Float[Array, "n d"]:
        """Rows from the predictive density; `scale` as in `log_predictive`."""
        return self.predictive().sample(
            key, index, student.inflation(self._safe_kappa[index], scale)
        )

    def row_size(self, rows: Batch) -> int:
        """Whitened differences, log-densities and responsibilities."""
        return gaussian_rows.row_size(rows, *self.origin.shape[-2:])
