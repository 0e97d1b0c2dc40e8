"""Mixtures of Gaussians with four covariance structures, and of Student-t with the same priors."""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ..._pytree import pytree
from ...data.chunks import Chunks
from ...data.host import unguarded
from ...data.padding import compiled
from ...data.types import ArrayLike, Data
from ...families.compound.noise import NoiseMoments, WithNoise
from ...families.compound.student_t import StudentT
from ...families.dirichlet import CategoricalMoments
from ...families.emission import Emission
from ...families.gaussian.base import Gaussian
from ...families.gaussian.diagonal_normal_gamma import DiagonalNormalGamma
from ...families.gaussian.likelihood import GaussianMoments
from ...families.gaussian.spherical_normal_gamma import SphericalNormalGamma
from ...families.normal_gamma import MeanPrecision
from ...families.weights.base import Weights
from ...numerics import linalg
from ..density import MixtureDensity
from ..mixture import Mixture
from ..mixture_params import Fitted, MixtureMoments, MixtureParams, q_of
from ..prediction import Known
from ..priors import gaussian as prior
from . import assemble

_G = TypeVar("_G", bound="GaussianMixture")


@pytree
class GaussianMixture(Mixture[Weights, Gaussian]):
    """x_n | z_n = k ~ N(mu_k, Sigma_k), with Sigma_k^-1 = Lambda_k of one of four structures.

    - "full": Lambda_k ~ Wishart(scatter_k^-1, df_k)   (Bishop 2006, eq. 10.38-10.40);
    - "tied": one Lambda ~ Wishart(scatter^-1, df) for all components;
    - "diag": 1 / Sigma_kd ~ Gamma(df_k / 2, scatter_kd / 2) for each column d;
    - "spherical": Sigma_k = I / tau_k, tau_k ~ Gamma(df_k / 2, scatter_k / 2);

    mu_k | Lambda_k ~ N(mean_k, (kappa_k Lambda_k)^-1), and weights ~ Dirichlet(conc) or a
    stick-breaking process. Build it with `from_data`, `with_prior` or `flat`. Fields as in
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
        kappa: ArrayLike | None = None,
        df: ArrayLike | None = None,
        mean: ArrayLike | None = None,
        scatter: ArrayLike | None = None,
        noise: bool = False,
        k_max: int | None = None,
    ) -> _G:
        """Build a mixture with a weak default prior, as wide as one cluster of the data.

        The prior of a component does not depend on their number, so bounds are comparable across
        it, and it follows the units and the offset of the data. Arguments and shapes that are not
        described here are those of `with_prior`. Raises ValueError that names the argument.

        Args:
            x: Rows, array-like (n, d), a Batch or Chunks. Missing entries are left out of the
                statistics below; those of Chunks are of `Chunks.sample()`.
            num_components, covariance, weights, k_max: As in `with_prior`.
            conc: By default 1 / num_components each: one pseudo-row in all, so that components
                without rows keep next to no weight.
            kappa: By default 0.01, so that the standard deviation of mu_k is 10 times that of a
                component, or less, so that it is at least twice that of every column.
            df: By default d + 5, or 6 for "diag" and "spherical": the prior of Sigma_k counts as
                four rows.
            mean: By default the mean of the data.
            scatter: By default E[Sigma_k] is the covariance of rows in one cluster, estimated
                without labels (`numerics/cells.py`); for "diag" the variances of the columns, for
                "spherical" their mean. Correlations are shrunk by the factor d / (n + d), so that
                it is positive definite. A constant column has the mean variance of the others,
                or 1 if no column varies. Up to a fifth of the entries of a column may be wrong:
                for mean and scatter, entries far from the shortest interval with 80 % of their
                column are left out.
            noise: Add one last component, uniform over the smallest box that holds the data. The
                components are then a `WithNoise`, and the Gaussians its `others`.

        Example:
            x, _ = vx.datasets.three_clusters()
            model = vx.GaussianMixture.from_data(x, 10, covariance="diag")
        """
        given = {"mean": mean, "kappa": kappa, "df": df, "scatter": scatter, "noise": noise}
        components = prior.from_data(
            x, num_components, covariance=covariance, k_max=k_max, like=conc, **given
        )
        return assemble.from_data(cls, x, components, num_components, conc, weights, k_max)

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
        """Build a mixture with an explicit prior; ValueError names the argument and the bound.

        Args:
            num_components: Number of components, k.
            mean: Centre of the prior of mu_k in data units: a scalar, (d,) or (k, d).
            kappa: Weight of the prior of mu_k in rows, > 0: a scalar or (k,).
            df: Degrees of freedom nu of the precisions: > d - 1 for "full" and "tied", > 0 for
                "diag" and "spherical". A scalar or (k,), for "tied" a scalar.
            scatter: Scatter in data units squared, W^-1 of a Wishart prior. For "full" (d, d) or
                (k, d, d) and for "tied" (d, d), positive definite; for "diag" (d,) or (k, d) and
                for "spherical" a scalar or (k,), positive. A scalar is that multiple of the
                identity for all four.
            conc: Concentration alpha of the weights in pseudo-rows, > 0: a scalar or (k,). Either
                it or `weights` must be given.
            weights: A prior of the weights, such as `StickBreaking`, in place of `conc`.
            covariance: "full", "tied", "diag" or "spherical".
            noise_box: A pair (low, high) of (d,) in data units; adds a last, uniform component.
            k_max: Number of components to make room for. The first `num_components` are switched
                on, so that models of different size share one program.

        Example:
            model = vx.GaussianMixture.with_prior(5, mean=[0, 0], kappa=1, df=6, scatter=2, conc=1)
        """
        given = {"mean": mean, "kappa": kappa, "df": df, "scatter": scatter, "noise_box": noise_box}
        components = prior.with_prior(
            num_components, covariance=covariance, k_max=k_max, like=conc, **given
        )
        return assemble.with_prior(cls, components, num_components, conc, weights, k_max)

    @classmethod
    def flat(
        cls: type[_G],
        num_components: int,
        num_features: int,
        *,
        covariance: str = "full",
        k_max: int | None = None,
    ) -> _G:
        """Build a mixture without a prior, for maximum likelihood with `EM`.

        The objective is the log-likelihood in nats, and the estimate is `q.point()`. `CAVI` refuses
        it, as there is no evidence to bound. Raises ValueError that names the argument.

        Args:
            num_components: Number of components, k.
            num_features: Number of columns, d.
            covariance: As in `with_prior`, and so is `k_max`.

        Example:
            x, _ = vx.datasets.three_clusters()
            model = vx.GaussianMixture.flat(3, 2)
            fit = vx.fit(model, x, method=vx.EM(), key=jax.random.key(0))
            print(fit.q.point().components.mean)  # (3, 2)
        """
        components = prior.flat(num_components, num_features, covariance=covariance, k_max=k_max)
        return assemble.flat(cls, components, num_components, k_max)

    def sample_parameters(
        self, q: Known | Fitted, key: Key[Array, ""], shape: tuple[int, ...] = ()
    ) -> dict[str, Any]:
        """Draw "weights" (k,), "means" (k, d) and "covariances" (k, d, d) from q, in data units.

        They have leading axes `shape`, and the same form for all covariance structures.
        """
        draws = super().sample_parameters(q, key, shape)
        value, components = draws.pop("components"), q_of(q).components
        components = components.others if isinstance(components, WithNoise) else components
        covariances = compiled(_covariances)(components, value)
        return draws | {"means": value.mean, "covariances": covariances}

    def moments_at(self, theta: dict[str, Any]) -> MixtureMoments:
        components = GaussianMoments.at(theta["means"], theta["covariances"])
        weights = CategoricalMoments.at(theta["weights"])
        if not isinstance(self.components, WithNoise):
            return MixtureMoments(weights, components)
        box = self.components
        return MixtureMoments(weights, NoiseMoments(components, box.low, box.high))

    def density(self, q: MixtureParams | MixtureMoments | Fitted) -> MixtureDensity:
        """Return the predictive density, which has marginals, conditionals, moments and samples.

        For a q it is a mixture of Student-t, as `log_predictive`; for a point such as `q.point()`,
        and after maximum likelihood, a mixture of normals. Raises ValueError if there is a noise
        component.
        """
        if self.components.num_background:
            raise ValueError(
                "density: a uniform component has no Student-t form; use log_predictive"
            )
        with unguarded():  # a few numbers for each component
            return self._density(q_of(q))

    def _density(self, known: Known) -> MixtureDensity:
        if isinstance(known, MixtureParams) and self.improper:
            known = known.point()
        weight, components = known.weights.mean, known.components
        if not isinstance(known, MixtureParams):
            spread = components.covariance
            return MixtureDensity(weight, components.mean, spread, None, self.names)
        student, rest = components.predictive(), known.weights.rest
        if rest is not None:
            unseen = self._unseen(components).predictive()
            weight = jnp.append(weight, rest)
            student = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), student, unseen)
        location = student.origin + student.shift
        weight = weight / jnp.sum(weight)
        return MixtureDensity(weight, location, student.scale, student.dof, self.names)


def _covariances(components: Emission, value: MeanPrecision) -> Float[Array, "..."]:
    """Covariance matrices (*s, k, d, d) of values that `components.sample` drew."""
    d = value.mean.shape[-1]
    eye = jnp.eye(d, dtype=value.mean.dtype)
    eye = eye.reshape(*[1] * (value.mean.ndim - 1), d, d)
    if isinstance(components, DiagonalNormalGamma):
        return eye / value.precision[..., None]
    if isinstance(components, SphericalNormalGamma):
        return eye / value.precision[..., None, None]
    matrix = linalg.precision_from_chol(linalg.chol(value.precision))
    if not components.separable:  # one for all components
        matrix = matrix[..., None, :, :]
    return jnp.broadcast_to(matrix, (*value.mean.shape, d))


@pytree
class StudentTMixture(Mixture[Weights, StudentT]):
    """x_n | z_n = k ~ St(mu_k, Lambda_k^-1, dof_k), under the priors of `GaussianMixture`.

    Each row has a latent precision (Peel & McLachlan 2000; Svensen & Bishop 2005). The degrees of
    freedom `dof` are > 0, a scalar or (k,), and fixed; None has them maximised over between 0.1
    and 200. Other arguments of the constructors are those of `GaussianMixture`, but for noise.
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
        """Build a mixture with the default prior of `GaussianMixture.from_data`, in data units.

        Raises ValueError that names the argument.

        Args:
            x, num_components, covariance, k_max, prior: As in `GaussianMixture.from_data`.
            dof: Degrees of freedom > 0, a scalar or (k,); None learns them, from 0.1 to 200.

        Example:
            x, _ = vx.datasets.three_clusters()
            model = vx.StudentTMixture.from_data(x, 5, dof=4.0)
        """
        gaussian = GaussianMixture.from_data(
            x, num_components, covariance=covariance, k_max=k_max, **prior
        )
        return cls._over(gaussian, num_components, k_max, dof)

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

        It is in data units. Raises ValueError that names the argument.

        Args:
            num_components, k_max, prior: As in `GaussianMixture.with_prior`.
            dof: As in `from_data`.

        Example:
            prior = {"mean": [0, 0], "kappa": 0.01, "df": 6, "scatter": 2, "conc": 0.2}
            model = vx.StudentTMixture.with_prior(5, dof=4.0, **prior)
        """
        gaussian = GaussianMixture.with_prior(num_components, k_max=k_max, **prior)
        return cls._over(gaussian, num_components, k_max, dof)

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
        """Build a mixture without a prior, for maximum likelihood with `EM`.

        The objective is the log-likelihood in nats. Raises ValueError that names the argument.

        Args:
            num_components, num_features, covariance, k_max: As in `GaussianMixture.flat`.
            dof: As in `from_data`.

        Example:
            model = vx.StudentTMixture.flat(3, 2)
        """
        gaussian = GaussianMixture.flat(
            num_components, num_features, covariance=covariance, k_max=k_max
        )
        return cls._over(gaussian, num_components, k_max, dof)

    @classmethod
    def _over(
        cls, base: GaussianMixture, num_components: int, k_max: int | None, dof: ArrayLike | None
    ) -> StudentTMixture:
        components = prior.student_t(base.components, num_components, dof=dof, k_max=k_max)
        return cls(base.weights, components, base.switch, improper=base.improper, names=base.names)
