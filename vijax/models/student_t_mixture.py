"""Mixtures of multivariate Student-t: clusters with heavy tails and outliers."""

from __future__ import annotations

from typing import Any

from .._host import as_floats, check_bound, to_device
from .._pytree import pytree
from ..families.student_t import student_t
from .gaussian_mixture import GaussianMixture
from .mixture import Mixture
from .sizes import check_size, per_component


@pytree
class StudentTMixture(Mixture):
    """x_n | z_n = k ~ St(mu_k, Lambda_k^-1, dof_k), written with a latent precision per row

    (Peel & McLachlan 2000; Svensen & Bishop 2005), under the priors of `GaussianMixture`. `dof`
    is fixed where it is given, else maximised over between 0.1 and 200.
    """

    @classmethod
    def from_data(
        cls,
        x: Any,
        num_components: int,
        *,
        dof: Any = None,
        covariance: str = "full",
        k_max: int | None = None,
        **prior: Any,
    ) -> StudentTMixture:
        """The default prior of `GaussianMixture.from_data`, which documents `prior`.

        `dof` > 0 is a scalar or (k,). Raises ValueError naming the argument and the bound.
        """
        own = GaussianMixture.from_data(
            x, num_components, covariance=covariance, k_max=k_max, **prior
        )
        return cls._over(own, num_components, k_max, dof)

    @classmethod
    def with_prior(
        cls, num_components: int, *, dof: Any = None, k_max: int | None = None, **prior: Any
    ) -> StudentTMixture:
        """An explicit prior, as `GaussianMixture.with_prior` takes it; `dof` as in `from_data`."""
        own = GaussianMixture.with_prior(num_components, k_max=k_max, **prior)
        return cls._over(own, num_components, k_max, dof)

    @classmethod
    def flat(
        cls,
        num_components: int,
        num_features: int,
        *,
        dof: Any = None,
        covariance: str = "full",
        k_max: int | None = None,
    ) -> StudentTMixture:
        """No prior at all: with `EM`, maximum likelihood."""
        own = GaussianMixture.flat(num_components, num_features, covariance=covariance, k_max=k_max)
        return cls._over(own, num_components, k_max, dof)

    @classmethod
    def _over(
        cls, own: GaussianMixture, num_components: int, k_max: int | None, dof: Any
    ) -> StudentTMixture:
        if own.components.extra:
            raise ValueError("noise: heavy tails take its place; use GaussianMixture for it")
        size = check_size(num_components, k_max)
        value = as_floats("dof", _START if dof is None else dof)
        check_bound("dof", value, above=0.0)
        dtype = own.components.mean.dtype
        value = per_component("dof", value, (), num_components, size).astype(dtype)
        components = student_t(own.components, to_device(value), learn=dof is None)
        return cls(own.weights, components, own.switch, improper=own.improper)


_START = 10.0  # degrees of freedom: tails that can still go either way
