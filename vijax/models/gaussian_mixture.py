"""Gaussian mixtures: four covariance structures, each with its own conjugate prior."""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from .._host import check_integer, common_dtype, to_device
from .._pytree import pytree
from ..batch import Batch
from ..chunks import Chunks
from ..families.dirichlet import Dirichlet
from ..families.standardize import check_matrix
from . import gaussian_prior
from .density import MixtureDensity
from .mixture import Mixture
from .mixture_params import MixtureParams
from .sizes import check_size, shared_conc, weights_prior

_G = TypeVar("_G", bound="GaussianMixture")


@pytree
class GaussianMixture(Mixture):
    """x_n | z_n = k ~ N(mu_k, Sigma_k), with Sigma_k^-1 = Lambda_k and covariance structures

    - "full": Lambda_k ~ Wishart(scatter_k^-1, df_k)   (Bishop 2006, eq. 10.38-10.40);
    - "tied": one Lambda ~ Wishart(scatter^-1, df) for all components;
    - "diag": 1 / Sigma_kd ~ Gamma(df_k / 2, scatter_kd / 2) for each column d;
    - "spherical": Sigma_k = I / tau_k, tau_k ~ Gamma(df_k / 2, scatter_k / 2);

    mu_k | Lambda_k ~ N(mean_k, (kappa_k Lambda_k)^-1), weights ~ Dirichlet(conc) or a
    stick-breaking process. Build it with `from_data`, `with_prior` or `flat`; fields as in
    `Mixture`.
    """

    # -- constructors ---------------------------------------------------------------------------

    @classmethod
    def from_data(
        cls: type[_G],
        x: Any,
        num_components: int,
        *,
        covariance: str = "full",
        conc: Any = None,
        weights: Any = None,
        kappa: Any = 0.01,
        df: Any = None,
        mean: Any = None,
        scatter: Any = None,
        noise: bool = False,
        k_max: int | None = None,
    ) -> _G:
        """A weak default prior at the location and scale of the data; any part can be given.

        - weights: conc = 1 / num_components each, one pseudo-row in all, so that components
          without rows keep next to no weight;
        - mu_k: around the data mean with kappa = 0.01 rows of weight, that is with 10 times the
          component's own standard deviations;
        - Sigma_k: df = d + 2 and `scatter` = the data covariance, so that E[Sigma_k] is the
          covariance of all the data, with the weight of about one row; for "diag" and
          "spherical" df = 3 and the columns' variances, or their mean.

        Correlations in `scatter` are shrunk by the factor d / (n + d), at least 0.001, so that it
        is positive definite for any data; a constant column is given the mean variance of the
        others, or 1 if no column varies. Components have the same prior however many they are,
        so bounds are comparable across their number, and everything follows the units and the
        offset of the data.

        `x` is array-like (n, d) or a Batch; missing entries are left out of these figures. Of
        Chunks they are those of `Chunks.sample()`. `noise=True` adds one last component, uniform
        over the smallest box that holds the data. See `with_prior` for the shapes of the rest.
        """
        check_size(num_components, k_max)
        if isinstance(x, Chunks) and noise:
            raise ValueError("noise: the box of Chunks is not known; give noise_box to with_prior")
        batch = x.sample() if isinstance(x, Chunks) else Batch.of(x)
        check_matrix(batch)
        center, own_df, own = gaussian_prior.default(batch, covariance)
        return cls.with_prior(
            num_components,
            covariance=covariance,
            conc=shared_conc(conc, weights, num_components),
            weights=weights,
            mean=center if mean is None else mean,
            kappa=kappa,
            df=own_df if df is None else df,
            scatter=own if scatter is None else scatter,
            noise_box=gaussian_prior.box(batch) if noise else None,
            k_max=k_max,
        )

    @classmethod
    def with_prior(
        cls: type[_G],
        num_components: int,
        *,
        mean: Any,
        kappa: Any,
        df: Any,
        scatter: Any,
        conc: Any = None,
        weights: Any = None,
        covariance: str = "full",
        noise_box: Any = None,
        k_max: int | None = None,
    ) -> _G:
        """An explicit prior.

        `conc` > 0 and `kappa` > 0 (in rows) are scalars or (k,); `mean` (data units) is a scalar,
        (d,) or (k, d). `scatter` (data units squared) and `df`, by `covariance`:

        - "full": scatter (d, d) or (k, d, d), positive definite; df > d - 1, scalar or (k,);
        - "tied": scatter (d, d), positive definite; df > d - 1, a scalar;
        - "diag": scatter (d,) or (k, d), positive; df > 0, scalar or (k,);
        - "spherical": scatter a positive scalar or (k,); df > 0, scalar or (k,);

        a scalar `scatter` stands for that multiple of the identity in all of them. `weights`, a
        prior such as `StickBreaking.dirichlet_process(...)` of `num_components`, takes the place
        of `conc`. `noise_box`, a pair (low, high) of (d,) in data units, adds one last component,
        uniform between the two.

        With `k_max` the arrays have room for that many components, and only the first
        `num_components` are switched on: models of different size then share one program.

        Raises ValueError naming the argument, its shape or value, and the bound.
        """
        size = check_size(num_components, k_max)
        given = {"mean": mean, "kappa": kappa, "df": df, "scatter": scatter}
        extra = noise_box is not None
        sides = gaussian_prior.sides(noise_box) if extra else []
        dtype = common_dtype(*given.values(), conc, *sides)
        prior = weights_prior(conc, weights, num_components, size, dtype, extra)
        components = gaussian_prior.build(covariance, given, num_components, size, dtype)
        if extra:
            components = gaussian_prior.with_noise(components, sides[0], sides[1], dtype)
        on = np.arange(size) < num_components
        return cls(prior, components, to_device(np.append(on, True) if extra else on))

    @classmethod
    def flat(
        cls: type[_G],
        num_components: int,
        num_features: int,
        *,
        covariance: str = "full",
        k_max: int | None = None,
    ) -> _G:
        """No prior at all: every natural parameter is zero, so q is the statistics alone.

        With `EM`, maximum likelihood: the objective is the log-likelihood in nats, and the
        estimates are `q.point()`. `CAVI` refuses it, as it has no evidence to bound.
        """
        size = check_size(num_components, k_max)
        check_integer("num_features", num_features)
        if num_features < 1:
            raise ValueError(f"num_features: must be at least 1, got {num_features}")
        dtype = jnp.result_type(float)
        components = gaussian_prior.flat(covariance, size, num_features, dtype)
        weights = Dirichlet(to_device(np.zeros(size, dtype)))
        on = to_device(np.arange(size) < num_components)
        return cls(weights, components, on, improper=True)

    def sample_parameters(
        self, key: Key[Array, ""], q: MixtureParams, shape: tuple[int, ...] = ()
    ) -> dict[str, Any]:
        """Draws from q with leading axes `shape`: "weights" (k,), "means" (k, d) and

        "covariances" (k, d, d), in data units, whatever the covariance structure.
        """
        draws = super().sample_parameters(key, q, shape)
        components = getattr(q.components, "others", q.components)
        value = draws.pop("components")
        covariances = gaussian_prior.covariances_of(components, value)
        return draws | {"means": value.mean, "covariances": covariances}

    def density(self, q: Any) -> MixtureDensity:
        """The predictive density as an object with marginals, conditionals, moments and samples.

        A mixture of Student-t for a q, as `log_predictive`; of normals for a point such as
        `q.point()`, and after maximum likelihood. Components of noise have no place in it:
        ValueError.
        """
        if self.components.extra:
            raise ValueError(
                "density: a uniform component has no Student-t form; use log_predictive"
            )
        if isinstance(q, MixtureParams) and self.improper:
            q = q.point()
        if isinstance(q, MixtureParams):
            weight, each = q.weights.mean, q.components.predictive()
            if q.weights.rest is not None:
                new = self._unseen(q.components).predictive()
                weight = jnp.append(weight, q.weights.rest)
                each = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), each, new)
            location = each.origin + each.shift
            return MixtureDensity(weight / jnp.sum(weight), location, each.scale, each.dof)
        mean, covariance = q.components.mean, q.components.covariance
        return MixtureDensity(q.weights.mean, mean, covariance, None)
