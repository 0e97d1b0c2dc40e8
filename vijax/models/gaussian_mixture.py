"""Gaussian mixture with full covariances: Dirichlet weights, Normal-Wishart components."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from .._host import (
    as_floats,
    check_bound,
    check_integer,
    common_dtype,
    is_concrete,
    namespace,
    to_device,
)
from .._pytree import pytree, static
from ..batch import Batch
from ..families.dirichlet import Dirichlet
from ..families.normal_wishart import NormalWishart
from ..numerics import linalg, seeding
from .mixture import Mixture, MixtureParams

_LEAST_SHRINKAGE = 1e-3  # of the correlations in the default prior


@pytree
class GaussianMixture(Mixture):
    """x_n | z_n = k ~ N(mu_k, Lambda_k^-1), with

    weights ~ Dirichlet(conc), Lambda_k ~ Wishart(scatter^-1, df),
    mu_k | Lambda_k ~ N(mean, (kappa Lambda_k)^-1)   (Bishop 2006, eq. 10.38-10.40).

    Build it with `from_data`, `with_prior` or `flat`. `active` says which of the k components are
    switched on. `improper` marks the flat prior of maximum likelihood, which has no density and
    so no evidence: EM only.
    """

    prior: MixtureParams
    active: Bool[Array, "*b k"]
    improper: bool = static(default=False)

    # -- constructors ---------------------------------------------------------------------------

    @classmethod
    def from_data(
        cls,
        x: Any,
        num_components: int,
        *,
        conc: Any = None,
        kappa: Any = 0.01,
        df: Any = None,
        mean: Any = None,
        scatter: Any = None,
        k_max: int | None = None,
    ) -> GaussianMixture:
        """A weak default prior at the location and scale of the data; any part can be given.

        - weights: conc = 1 / num_components each, one pseudo-row in all, so that components
          without rows keep next to no weight;
        - mu_k: around the data mean with kappa = 0.01 rows of weight, that is with 10 times the
          component's own standard deviations;
        - Sigma_k: df = d + 2 and `scatter` = the data covariance, so that E[Sigma_k] is the
          covariance of all the data, with the weight of about one row.

        Correlations in `scatter` are shrunk by the factor d / (n + d), at least 0.001, so that it
        is positive definite for any data; a constant column is given the mean variance of the
        others, or 1 if no column varies. Components have the same prior however many they are,
        so bounds are comparable across their number, and everything follows the units and the
        offset of the data.

        `x` is array-like (n, d) or a Batch; see `with_prior` for the shapes of the rest.
        """
        _check_size(num_components, k_max)
        batch = Batch.of(x)
        _check_matrix(batch)
        center, covariance = _location_and_scale(
            as_floats("x", batch.x), as_floats("weight", batch.weight)
        )
        return cls.with_prior(
            num_components,
            conc=1.0 / num_components if conc is None else conc,
            mean=center if mean is None else mean,
            kappa=kappa,
            df=batch.x.shape[-1] + 2.0 if df is None else df,
            scatter=covariance if scatter is None else scatter,
            k_max=k_max,
        )

    @classmethod
    def with_prior(
        cls,
        num_components: int,
        *,
        conc: Any,
        mean: Any,
        kappa: Any,
        df: Any,
        scatter: Any,
        k_max: int | None = None,
    ) -> GaussianMixture:
        """An explicit prior.

        `conc` > 0, `kappa` > 0 (in rows) and `df` > d - 1 are scalars or (k,); `mean` (data units)
        is a scalar, (d,) or (k, d); `scatter` (data units squared) is a scalar (times the
        identity), (d, d) or (k, d, d), positive definite: E[Lambda_k] = df scatter^-1.

        With `k_max` the arrays have room for that many components, and only the first
        `num_components` are switched on: models of different size then share one program.

        Raises ValueError naming the argument, its shape or value, and the bound.
        """
        size = _check_size(num_components, k_max)
        given = {"conc": conc, "mean": mean, "kappa": kappa, "df": df, "scatter": scatter}
        dtype = common_dtype(*given.values())
        given = {name: as_floats(name, value) for name, value in given.items()}
        d = _num_features(given["mean"], given["scatter"])
        if given["scatter"].ndim == 0:
            given["scatter"] = given["scatter"] * np.eye(d, dtype=given["scatter"].dtype)
        if given["mean"].ndim == 0:
            given["mean"] = given["mean"] * np.ones(d, given["mean"].dtype)
        each = {"conc": (), "mean": (d,), "kappa": (), "df": (), "scatter": (d, d)}
        full = {
            name: _per_component(name, value, each[name], num_components, size).astype(dtype)
            for name, value in given.items()
        }
        check_bound("conc", full["conc"], above=0.0)
        check_bound("mean", full["mean"])
        check_bound("kappa", full["kappa"], above=0.0)
        check_bound("df", full["df"], above=d - 1.0, note=" (d - 1)")
        _check_positive_definite("scatter", full["scatter"])
        on = np.arange(size) < num_components
        full["conc"] = namespace(full["conc"]).where(on, full["conc"], 0.0).astype(dtype)
        full["shift"] = np.zeros(full["mean"].shape, dtype)
        part = {name: to_device(value) for name, value in full.items()}
        components = NormalWishart(
            kappa=part["kappa"],
            shift=part["shift"],
            square=part["scatter"],
            df=part["df"],
            origin=part["mean"],
        )
        return cls(MixtureParams(Dirichlet(part["conc"]), components), to_device(on))

    @classmethod
    def flat(
        cls, num_components: int, num_features: int, *, k_max: int | None = None
    ) -> GaussianMixture:
        """No prior at all: every natural parameter is zero, so q is the statistics alone.

        With `EM`, maximum likelihood: the objective is the log-likelihood in nats, and the
        estimates are `q.point()`. `CAVI` refuses it, as it has no evidence to bound.
        """
        size = _check_size(num_components, k_max)
        check_integer("num_features", num_features)
        if num_features < 1:
            raise ValueError(f"num_features: must be at least 1, got {num_features}")
        dtype = jnp.result_type(float)
        scalars = to_device(np.zeros(size, dtype))
        vectors = to_device(np.zeros((size, num_features), dtype))
        square = to_device(np.zeros((size, num_features, num_features), dtype))
        components = NormalWishart(scalars, vectors, square, scalars, vectors)
        on = to_device(np.arange(size) < num_components)
        return cls(MixtureParams(Dirichlet(scalars), components), on, improper=True)

    # -- what the drivers ask -------------------------------------------------------------------

    def check(self, batch: Batch, point: bool) -> None:
        """Raise ValueError if data and prior, or prior and method, do not go together."""
        _check_matrix(batch)
        d = self.prior.components.dim
        if batch.x.shape[1] != d:
            raise ValueError(f"x: has {batch.x.shape[1]} columns, but the model's prior is for {d}")
        if self.improper and not point:
            raise ValueError(
                "method: a flat prior has no evidence to bound; use EM(), or a proper prior "
                "from GaussianMixture.from_data or with_prior"
            )

    def row_size(self) -> int:
        """Responsibilities and whitened differences: k (2 d + 2) floats."""
        k, d = self.prior.components.shift.shape
        return k * (2 * d + 2)

    def init(self, key: Key[Array, ""] | None, batch: Batch, restart: Any = 0) -> MixtureParams:
        """Equal components as wide as the data, one at each k-means++ seed; others at the prior.

        Distances are in standard deviations of the columns, so that units do not matter. Wide
        components overlap, and those that are not needed lose out early. They often do not in
        many dimensions, so later restarts begin with fewer seeds (`seeding.num_seeds`); the
        bound of the full model decides. Maximum likelihood has no prior to leave components at,
        and seeds all.
        """
        x, weight = batch.x, batch.weight
        center = _weighted_mean(x, weight)
        variance = _weighted_mean((x - center) ** 2, weight)
        sd = jnp.sqrt(jnp.where(variance > 0, variance, 1.0))
        assert key is not None  # `draws` tells the drivers so
        seeds = seeding.kmeans_plus_plus(key, (x - center) / sd, weight, self.num_components)
        on = self.active
        size = jnp.sum(on, dtype=weight.dtype)
        if not self.improper:
            size = jnp.minimum(size, seeding.num_seeds(restart, size))
            on = on & (jnp.cumsum(on, dtype=size.dtype) <= size)
        count = jnp.where(on, jnp.sum(weight) / size, 0.0)
        square = count[:, None, None] * jnp.diag(sd**2)
        origin = center + sd * seeds
        components = NormalWishart(count, jnp.zeros_like(origin), square, count, origin)
        return self.update(self.prior, MixtureParams(Dirichlet(count), components))

    def log_prior(self, moments: Any) -> Float[Array, ""]:
        """log of the prior density in nats at a point; 0 under the flat prior."""
        if self.improper:
            return jnp.zeros((), self.prior.weights.conc.dtype)
        return super().log_prior(moments)

    def collapsed(self, q: MixtureParams) -> Bool[Array, ""]:
        """Under the flat prior, whether a component has shrunk to the resolution of the data.

        That is, to a conditional standard deviation of 16 eps of the column's over all the data,
        or to no rows at all.
        """
        if not self.improper:
            return super().collapsed(q)
        c = q.components
        on = self.active
        count = jnp.where(on, c.kappa, 0.0)
        share = (count / jnp.sum(count))[:, None]
        within = linalg.diagonal(c.scatter) / jnp.where(count > 0, count, 1.0)[:, None]
        middle = jnp.sum(share * c.mean, 0)
        spread = jnp.sum(share * (within + (c.mean - middle) ** 2), 0)
        narrow = linalg.diagonal(linalg.chol(c.scatter)) ** 2
        least = (16.0 * jnp.finfo(count.dtype).eps) ** 2 * spread * count[:, None]
        healthy = jnp.all(narrow > least, -1) & (count > 0)
        known = jnp.all(jnp.isfinite(c.square)) & jnp.all(jnp.isfinite(c.mean))
        return known & jnp.any(on & ~healthy)


# -- data ---------------------------------------------------------------------------------------


def _weighted_mean(x: Float[Array, "n d"], weight: Float[Array, "n"]) -> Float[Array, "d"]:
    """Mean about the first row, so that a large offset costs no digits."""
    share = weight / jnp.sum(weight)
    return x[0] + jnp.sum(share[:, None] * (x - x[0]), 0)


def _location_and_scale(x: Any, weight: Any) -> tuple[Any, Any]:
    """Mean and shrunken covariance of the rows, on the host or traced."""
    xp, d = namespace(x, weight), x.shape[1]
    total = weight.sum()
    share = (weight / total)[:, None]
    center = x[0] + (share * (x - x[0])).sum(0)
    z = x - center
    covariance = xp.matmul((share * z).T, z, **({"precision": "highest"} if xp is jnp else {}))
    varies = x.max(0) > x.min(0)
    variance = xp.where(varies, xp.diagonal(covariance), 0.0)
    some = variance.sum() / xp.maximum(varies.sum(), 1).astype(x.dtype)
    diagonal = xp.where(varies, variance, xp.where(some > 0, some, 1.0))
    shrink = xp.maximum(d / (total + d), _LEAST_SHRINKAGE)
    off = xp.where(varies[:, None] & varies[None, :], (1.0 - shrink) * covariance, 0.0)
    return center, xp.where(np.eye(d, dtype=bool), xp.diag(diagonal), off).astype(x.dtype)


# -- checks at the host boundary ------------------------------------------------------------------


def _check_matrix(batch: Batch) -> None:
    shape = batch.x.shape
    if len(shape) != 2:
        hint = "; use x[:, None] for one column" if len(shape) == 1 else ""
        raise ValueError(f"x: expected rows and columns, (n, d), got shape {shape}{hint}")


def _check_size(num_components: Any, k_max: Any) -> int:
    check_integer("num_components", num_components)
    if num_components < 1:
        raise ValueError(f"num_components: must be at least 1, got {num_components}")
    if k_max is None:
        return num_components
    check_integer("k_max", k_max)
    if k_max < num_components:
        raise ValueError(f"k_max: must be at least num_components = {num_components}, got {k_max}")
    return k_max


def _num_features(mean: Any, scatter: Any) -> int:
    if scatter.ndim in (2, 3) and scatter.shape[-1] == scatter.shape[-2]:
        return scatter.shape[-1]
    if scatter.ndim:
        raise ValueError(
            f"scatter: expected a scalar, (d, d) or (k, d, d), got shape {scatter.shape}; "
            "a diagonal is jnp.diag(scatter)"
        )
    return mean.shape[-1] if mean.ndim else 1


def _per_component(
    name: str, value: Any, each: tuple[int, ...], num_components: int, size: int
) -> Any:
    """Broadcast a shared value, or pad per-component ones; refuse every other shape."""
    if value.shape == each:
        return namespace(value).broadcast_to(value, (size, *each))
    if value.shape != (num_components, *each):
        shared = "a scalar" if each == () else f"{each}"
        raise ValueError(
            f"{name}: expected {shared} or {(num_components, *each)} "
            f"for {num_components} components, got shape {value.shape}"
        )
    xp = namespace(value)
    rest = xp.broadcast_to(value[-1], (size - num_components, *each))
    return xp.concatenate([value, rest])


def _check_positive_definite(name: str, value: Any) -> None:
    if not is_concrete(value):
        return
    host = np.asarray(value, np.float64)
    size = np.abs(host).max((-2, -1), keepdims=True)
    if not np.isfinite(host).all():
        raise ValueError(f"{name}: must be finite")
    if (np.abs(host - np.swapaxes(host, -2, -1)) > 1e-4 * size).any():
        raise ValueError(f"{name}: must be symmetric")
    lowest = np.linalg.eigvalsh(host).min()
    if not lowest > 0:
        raise ValueError(f"{name}: must be positive definite, smallest eigenvalue {lowest:g}")
