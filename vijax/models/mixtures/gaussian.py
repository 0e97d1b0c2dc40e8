"""Mixtures of Gaussians with four covariance structures, and of Student-t with the same priors."""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ..._pytree import pytree
from ...data.chunks import Chunks
from ...data.types import ArrayLike, Data
from ...families.emission import Emission
from ...families.gaussian.diagonal_normal_gamma import DiagonalNormalGamma
from ...families.gaussian.spherical_normal_gamma import SphericalNormalGamma
from ...families.normal_gamma import MeanPrecision
from ...families.weights.base import Weights
from ...numerics import linalg
from ..density import MixtureDensity
from ..mixture import Mixture
from ..mixture_params import MixtureMoments, MixtureParams
from ..priors import gaussian as prior
from ..priors import student_t
from ..priors.weights import default_conc
from . import assemble

_G = TypeVar("_G", bound="GaussianMixture")


@pytree
class GaussianMixture(Mixture):
    """x_n | z_n = k ~ N(mu_k, Sigma_k), with Sigma_k^-1 = Lambda_k of one of four structures.

    - "full": Lambda_k ~ Wishart(scatter_k^-1, df_k)   (Bishop 2006, eq. 10.38-10.40);
    - "tied": one Lambda ~ Wishart(scatter^-1, df) for all components;
    - "diag": 1 / Sigma_kd ~ Gamma(df_k / 2, scatter_kd / 2) for each column d;
    - "spherical": Sigma_k = I / tau_k, tau_k ~ Gamma(df_k / 2, scatter_k / 2);

    mu_k | Lambda_k ~ N(mean_k, (kappa_k Lambda_k)^-1), weights ~ Dirichlet(conc) or a
    stick-breaking process. Build it with `from_data`, `with_prior` or `flat`; fields as in
    `Mixture`.
    """

    @classmethod
    def from_data(
        cls: type[_G],
        x: Data | Chunks,
        num_components: int,
        *,
        covariance: str = "full",
        conc: ArrayLike | None = None,
        weights: Weights | None = None,
        kappa: ArrayLike = 0.01,
        df: ArrayLike | None = None,
        mean: ArrayLike | None = None,
        scatter: ArrayLike | None = None,
        noise: bool = False,
        k_max: int | None = None,
    ) -> _G:
        """Build a mixture with a weak default prior at the location and scale of the data.

        Any part of the prior can be given, in the shapes that `with_prior` takes. Components have
        the same prior however many they are, so bounds are comparable across their number, and
        everything follows the units and the offset of the data.

        Args:
            x: Rows, array-like (n, d), a Batch or Chunks. Missing entries are left out of the
                figures below; those of Chunks are of `Chunks.sample()`.
            num_components: Number of components, k.
            covariance: "full", "tied", "diag" or "spherical".
            conc: Concentration of the weights, by default 1 / num_components each: one pseudo-row
                in all, so that components without rows keep next to no weight.
            weights: A prior on the weights in place of `conc`.
            kappa: Rows of weight of the prior of mu_k. With 0.01 it spreads over 10 times the
                component's own standard deviations.
            df: Degrees of freedom, by default d + 2, or 3 for "diag" and "spherical": the prior
                of Sigma_k has the weight of about one row.
            mean: Centre of the prior of mu_k, by default the mean of the data.
            scatter: By default the covariance of the data, so that it is E[Sigma_k]; the columns'
                variances for "diag", or their mean for "spherical". Correlations are shrunk by
                the factor d / (n + d), at least 0.001, so that it is positive definite for any
                data; a constant column is given the mean variance of the others, or 1 if no
                column varies.
            noise: Add one last component, uniform over the smallest box that holds the data.
            k_max: Number of components to make room for.
        """
        given = {"mean": mean, "kappa": kappa, "df": df, "scatter": scatter, "noise": noise}
        components = prior.from_data(
            x, num_components, covariance=covariance, k_max=k_max, like=conc, **given
        )
        conc = default_conc(conc, weights, num_components)
        return assemble.proper(cls, components, conc, weights, num_components, k_max)

    @classmethod
    def with_prior(
        cls: type[_G],
        num_components: int,
        *,
        mean: ArrayLike,
        kappa: ArrayLike,
        df: ArrayLike,
        scatter: ArrayLike,
        conc: ArrayLike | None = None,
        weights: Weights | None = None,
        covariance: str = "full",
        noise_box: ArrayLike | None = None,
        k_max: int | None = None,
    ) -> _G:
        """Build a mixture with an explicit prior.

        Raises ValueError naming the argument, its shape or value, and the bound.

        Args:
            num_components: Number of components, k.
            mean: Centre of the prior of mu_k in data units: a scalar, (d,) or (k, d).
            kappa: Rows of weight of the prior of mu_k, > 0: a scalar or (k,).
            df: Degrees of freedom nu of the precisions: > d - 1 for "full" and "tied", > 0 for
                "diag" and "spherical". A scalar or (k,), for "tied" a scalar.
            scatter: Scatter matrix in data units squared, W^-1 of a Wishart prior. For "full"
                (d, d) or (k, d, d) and for "tied" (d, d), positive definite; for "diag" (d,) or
                (k, d) and for "spherical" a scalar or (k,), positive. A scalar stands for that
                multiple of the identity in all of them.
            conc: Concentration alpha of the weights in pseudo-rows, > 0: a scalar or (k,).
            weights: A prior of `num_components` weights, such as
                `StickBreaking.dirichlet_process(...)`, in place of `conc`.
            covariance: "full", "tied", "diag" or "spherical".
            noise_box: A pair (low, high) of (d,) in data units, which adds one last component,
                uniform between the two.
            k_max: Number of components to make room for, of which the first `num_components` are
                switched on: models of different size then share one program.
        """
        given = {"mean": mean, "kappa": kappa, "df": df, "scatter": scatter, "noise_box": noise_box}
        components = prior.with_prior(
            num_components, covariance=covariance, k_max=k_max, like=conc, **given
        )
        return assemble.proper(cls, components, conc, weights, num_components, k_max)

    @classmethod
    def flat(
        cls: type[_G],
        num_components: int,
        num_features: int,
        *,
        covariance: str = "full",
        k_max: int | None = None,
    ) -> _G:
        """Build a mixture without any prior, so that q is the statistics alone.

        With `EM`, maximum likelihood: the objective is the log-likelihood in nats, and the
        estimates are `q.point()`. `CAVI` refuses it, as it has no evidence to bound.
        """
        components = prior.flat(num_components, num_features, covariance=covariance, k_max=k_max)
        return assemble.flat(cls, components, num_components, k_max)

    def sample_parameters(
        self, key: Key[Array, ""], q: MixtureParams, shape: tuple[int, ...] = ()
    ) -> dict[str, Any]:
        """Draw "weights" (k,), "means" (k, d) and "covariances" (k, d, d) from q, in data units.

        They have leading axes `shape`, and this form whatever the covariance structure.
        """
        draws = super().sample_parameters(key, q, shape)
        value = draws.pop("components")
        covariances = _covariances(getattr(q.components, "others", q.components), value)
        return draws | {"means": value.mean, "covariances": covariances}

    def density(self, q: MixtureParams | MixtureMoments) -> MixtureDensity:
        """Return the predictive density, which has marginals, conditionals, moments and samples.

        A mixture of Student-t for a q, as `log_predictive`; of normals for a point such as
        `q.point()`, and after maximum likelihood. Components of noise have no place in it:
        ValueError.
        """
        if self.components.num_background:
            raise ValueError(
                "density: a uniform component has no Student-t form; use log_predictive"
            )
        if isinstance(q, MixtureParams) and self.improper:
            q = q.point()
        if not isinstance(q, MixtureParams):
            mean, covariance = q.components.mean, q.components.covariance
            return MixtureDensity(q.weights.mean, mean, covariance, None)
        weight, each = q.weights.mean, q.components.predictive()
        if q.weights.rest is not None:
            new = self._unseen(q.components).predictive()
            weight = jnp.append(weight, q.weights.rest)
            each = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), each, new)
        location = each.origin + each.shift
        return MixtureDensity(weight / jnp.sum(weight), location, each.scale, each.dof)


def _covariances(components: Emission, value: MeanPrecision) -> Float[Array, "..."]:
    """Covariance matrices (*s, k, d, d) of values that `components.sample` drew."""
    d = value.mean.shape[-1]
    eye = jnp.eye(d, dtype=value.mean.dtype)
    if isinstance(components, DiagonalNormalGamma):
        return eye / value.precision[..., None]
    if isinstance(components, SphericalNormalGamma):
        return eye / value.precision[..., None, None]
    matrix = linalg.precision_from_chol(linalg.chol(value.precision))
    if not components.separable:  # one for all components
        matrix = matrix[..., None, :, :]
    return jnp.broadcast_to(matrix, (*value.mean.shape, d))


@pytree
class StudentTMixture(Mixture):
    """x_n | z_n = k ~ St(mu_k, Lambda_k^-1, dof_k), under the priors of `GaussianMixture`.

    It is written with a latent precision per row (Peel & McLachlan 2000; Svensen & Bishop 2005).
    `dof` is fixed where it is given, else maximised over between 0.1 and 200.
    """

    @classmethod
    def from_data(
        cls,
        x: Data | Chunks,
        num_components: int,
        *,
        dof: ArrayLike | None = None,
        covariance: str = "full",
        k_max: int | None = None,
        **prior: Any,
    ) -> StudentTMixture:
        """Build a mixture with the default prior of `GaussianMixture.from_data`.

        Raises ValueError naming the argument and the bound.

        Args:
            x: Rows, array-like (n, d), a Batch or Chunks.
            num_components: Number of components, k.
            dof: Degrees of freedom, > 0: a scalar or (k,). None has them learned.
            covariance: "full", "tied", "diag" or "spherical".
            k_max: Number of components to make room for.
            prior: Other arguments of `GaussianMixture.from_data`, but for noise.
        """
        own = GaussianMixture.from_data(
            x, num_components, covariance=covariance, k_max=k_max, **prior
        )
        return cls._over(own, num_components, k_max, dof)

    @classmethod
    def with_prior(
        cls,
        num_components: int,
        *,
        dof: ArrayLike | None = None,
        k_max: int | None = None,
        **prior: Any,
    ) -> StudentTMixture:
        """Build a mixture with an explicit prior, that of `GaussianMixture.with_prior`.

        `dof` is as in `from_data`.
        """
        own = GaussianMixture.with_prior(num_components, k_max=k_max, **prior)
        return cls._over(own, num_components, k_max, dof)

    @classmethod
    def flat(
        cls,
        num_components: int,
        num_features: int,
        *,
        dof: ArrayLike | None = None,
        covariance: str = "full",
        k_max: int | None = None,
    ) -> StudentTMixture:
        """Build a mixture without any prior: with `EM`, maximum likelihood."""
        own = GaussianMixture.flat(num_components, num_features, covariance=covariance, k_max=k_max)
        return cls._over(own, num_components, k_max, dof)

    @classmethod
    def _over(
        cls,
        own: GaussianMixture,
        num_components: int,
        k_max: int | None,
        dof: ArrayLike | None,
    ) -> StudentTMixture:
        components = student_t.over(own.components, num_components, dof=dof, k_max=k_max)
        return cls(own.weights, components, own.switch, improper=own.improper)
