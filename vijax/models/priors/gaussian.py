"""Priors of Gaussian components, for four covariance structures, and of Student-t over them."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from ...data.batch import Batch
from ...data.chunks import Chunks
from ...data.host import (
    as_floats,
    check_bound,
    common_dtype,
    host_mask,
    is_concrete,
    namespace,
    to_device,
)
from ...data.types import AnyArray, ArrayLike, Data
from ...families.compound.noise import WithNoise
from ...families.compound.student_t import StudentT
from ...families.compound.student_t import student_t as over_gaussian
from ...families.gaussian.base import Gaussian
from ...families.gaussian.diagonal_normal_gamma import DiagonalNormalGamma
from ...families.gaussian.normal_wishart import NormalWishart
from ...families.gaussian.spherical_normal_gamma import SphericalNormalGamma
from ...families.gaussian.tied_normal_wishart import TiedNormalWishart
from ...families.normal_gamma import NormalGamma
from .arguments import as_matrix, check_count, check_size, per_component
from .scale import column_range, scale_of

COVARIANCES = ("full", "tied", "diag", "spherical")
_KAPPA = 0.01  # most rows that the prior mean counts for
_PRIOR_ROWS = 4.0  # rows that the prior covariance counts for
_NARROWEST = 0.25  # variance of a column, relative to the prior variance of its means
_ASYMMETRY = 1e-4  # of correlations, at most
_START_DOF = 10.0  # degrees of freedom to start from: neither normal nor very heavy tails


def from_data(
    x: Data | Chunks,
    num_components: int,
    *,
    covariance: str = "full",
    kappa: ArrayLike | None = None,
    df: ArrayLike | None = None,
    mean: ArrayLike | None = None,
    scatter: ArrayLike | None = None,
    noise: bool = False,
    k_max: int | None = None,
    like: ArrayLike | None = None,
) -> Gaussian | WithNoise:
    """Build components with a weak prior, as wide as one cluster of the data.

    The prior mean is that of the data, and E[Sigma_k] the covariance in a cluster, estimated
    without labels (`scale_of`) and counted as four rows. `x` is array-like (n, d), a Batch or
    Chunks. `noise` adds a component that is uniform over the smallest box with all rows. Other
    arguments are those of `with_prior`.
    """
    check_size(num_components, k_max)
    if isinstance(x, Chunks) and noise:
        raise ValueError("noise: the box of Chunks is not known; give noise_box to with_prior")
    batch = as_matrix(x.sample() if isinstance(x, Chunks) else x)
    default = _default(batch, covariance, df)
    given = {"mean": mean, "kappa": kappa, "df": df, "scatter": scatter}
    default |= {name: value for name, value in given.items() if value is not None}
    return with_prior(
        num_components,
        **default,
        covariance=covariance,
        noise_box=_smallest_box(batch) if noise else None,
        k_max=k_max,
        like=like,
    )


def with_prior(
    num_components: int,
    *,
    mean: ArrayLike,
    kappa: ArrayLike,
    df: ArrayLike,
    scatter: ArrayLike,
    covariance: str = "full",
    noise_box: ArrayLike | None = None,
    k_max: int | None = None,
    like: ArrayLike | None = None,
) -> Gaussian | WithNoise:
    """Build components with the prior that `GaussianMixture.with_prior` describes.

    The dtype of `like`, such as the concentrations of the weights, counts as that of the other
    arrays. Components beyond `num_components` have the prior of the last one.
    """
    size = check_size(num_components, k_max)
    sides = [] if noise_box is None else _sides(noise_box)
    dtype = common_dtype(mean, kappa, df, scatter, like, *sides)
    given = {"mean": mean, "kappa": kappa, "df": df, "scatter": scatter}
    components = _family(covariance, **_checked(covariance, given, num_components, size, dtype))
    return _with_noise(components, sides[0], sides[1], dtype) if sides else components


def flat(
    num_components: int, num_features: int, *, covariance: str = "full", k_max: int | None = None
) -> Gaussian:
    """Build components without a prior, every natural parameter zero, for maximum likelihood."""
    size, d = check_size(num_components, k_max), check_count("num_features", num_features)
    check_covariance(covariance)
    dtype = jnp.result_type(float)
    zeros = {
        name: np.zeros(event if _is_shared(name, covariance) else (size, *event), dtype)
        for name, event in _events(covariance, d).items()
    }
    return _family(covariance, **zeros)


def check_covariance(covariance: str) -> None:
    """Raise ValueError for an unknown covariance structure."""
    if covariance not in COVARIANCES:
        raise ValueError(
            f"covariance: expected one of {', '.join(COVARIANCES)}, got {covariance!r}"
        )


def student_t(
    gaussian: Gaussian | WithNoise,
    num_components: int,
    *,
    dof: ArrayLike | None = None,
    k_max: int | None = None,
) -> StudentT:
    """Build Student-t components over Gaussian ones, with or without a prior.

    `dof` > 0 is a scalar or (k,) and fixed; None has it maximised over. Raises ValueError by name.
    """
    if isinstance(gaussian, WithNoise):
        raise ValueError("noise: heavy tails take its place; use GaussianMixture for it")
    size = check_size(num_components, k_max)
    value = as_floats("dof", _START_DOF if dof is None else dof)
    check_bound("dof", value, above=0.0)
    value = per_component("dof", value, (), num_components, size)
    return over_gaussian(gaussian, to_device(value.astype(gaussian.origin.dtype)), dof is None)


# -- hyper-parameters as arrays -------------------------------------------------------------------


def _events(covariance: str, d: int) -> dict[str, tuple[int, ...]]:
    """The shapes of the hyper-parameters of one component."""
    scatter = {"full": (d, d), "tied": (d, d), "diag": (d,), "spherical": ()}[covariance]
    return {"mean": (d,), "kappa": (), "df": (), "scatter": scatter}


def _is_shared(name: str, covariance: str) -> bool:
    return covariance == "tied" and name in ("df", "scatter")


def _checked(
    covariance: str, given: dict[str, ArrayLike], num_components: int, size: int, dtype: DTypeLike
) -> dict[str, AnyArray]:
    """Check the hyper-parameters and broadcast them to all components."""
    check_covariance(covariance)
    full = {name: as_floats(name, value) for name, value in given.items()}
    d = _num_features(covariance, full["mean"], full["scatter"])
    events, matrix = _events(covariance, d), covariance in ("full", "tied")
    unit = {"mean": np.ones(d), "scatter": np.eye(d) if matrix else np.ones(events["scatter"])}
    for name, ones in unit.items():
        if full[name].ndim == 0 and ones.ndim:
            full[name] = full[name] * ones.astype(full[name].dtype)
    for name, event in events.items():
        if _is_shared(name, covariance):
            _check_shared(name, full[name], event)
        else:
            full[name] = per_component(name, full[name], event, num_components, size)
        full[name] = full[name].astype(dtype)
    check_bound("mean", full["mean"])
    check_bound("kappa", full["kappa"], above=0.0)
    if matrix:
        check_bound("df", full["df"], above=d - 1.0, note=" (d - 1)")
        _check_positive_definite("scatter", full["scatter"])
    else:
        check_bound("df", full["df"], above=0.0)
        check_bound("scatter", full["scatter"], above=0.0)
    if covariance == "tied":  # the mean of a component that is off must not count
        on = np.arange(size) < num_components
        full["kappa"] = namespace(full["kappa"]).where(on, full["kappa"], 0.0).astype(dtype)
    return full


def _family(
    covariance: str, mean: AnyArray, kappa: AnyArray, df: AnyArray, scatter: AnyArray
) -> Gaussian:
    """The family of this structure on the device, with its origin at the prior means."""
    shift = np.zeros(mean.shape, mean.dtype)
    if covariance in ("full", "tied"):
        family = NormalWishart if covariance == "full" else TiedNormalWishart
        return family(*map(to_device, (kappa, shift, scatter, df, mean)))

    def in_columns(value: AnyArray) -> AnyArray:
        return namespace(value).repeat(value[:, None], mean.shape[1], 1)

    shape, rate = 0.5 * df, 0.5 * scatter
    if covariance == "diag":
        parts = (in_columns(kappa), shift, in_columns(shape), rate, mean)
        return DiagonalNormalGamma(NormalGamma(*map(to_device, parts)))
    return SphericalNormalGamma(*map(to_device, (in_columns(kappa), shift, shape, rate, mean)))


def _num_features(covariance: str, mean: AnyArray, scatter: AnyArray) -> int:
    if covariance in ("full", "tied"):
        if scatter.ndim in (2, 3) and scatter.shape[-1] == scatter.shape[-2]:
            return scatter.shape[-1]
        if scatter.ndim:
            raise ValueError(
                f"scatter: expected a scalar, (d, d) or (k, d, d), got shape {scatter.shape}; "
                "a diagonal is jnp.diag(scatter)"
            )
    elif covariance == "diag" and scatter.ndim:
        return scatter.shape[-1]
    return mean.shape[-1] if mean.ndim else 1


def _check_shared(name: str, value: AnyArray, event: tuple[int, ...]) -> None:
    if value.shape != event:
        raise ValueError(
            f"{name}: all components share it when covariance='tied'; expected "
            f"{'a scalar' if event == () else f'shape {event}'}, got shape {value.shape}"
        )


def _check_positive_definite(name: str, value: AnyArray) -> None:
    if not is_concrete(value):
        return
    host = np.asarray(value, np.float64)
    if not np.isfinite(host).all():
        raise ValueError(f"{name}: must be finite")
    variance = np.diagonal(host, axis1=-2, axis2=-1)
    # in units of each column's standard deviation, so that no column decides for another
    sd = np.sqrt(np.where(variance > 0, variance, 1.0))
    scaled = host / sd[..., :, None] / sd[..., None, :]
    if (np.abs(scaled - np.swapaxes(scaled, -2, -1)) > _ASYMMETRY).any():
        raise ValueError(f"{name}: must be symmetric")
    if not (variance > 0).all():
        lowest, column = np.linalg.eigvalsh(host).min(), np.argmin(variance) % host.shape[-1]
        raise ValueError(
            f"{name}: must be positive definite, smallest eigenvalue {lowest:g}, variance "
            f"{variance.min():g} in column {column}"
        )
    lowest = np.linalg.eigvalsh(scaled).min()
    if not lowest > host.shape[-1] * np.finfo(value.dtype).eps:
        raise ValueError(
            f"{name}: must be positive definite, smallest eigenvalue {lowest:g} with all columns "
            "in units of their standard deviation"
        )


# -- defaults from the data -----------------------------------------------------------------------


def _default(batch: Batch, covariance: str, df: ArrayLike | None) -> dict[str, Any]:
    """Mean, kappa, df and scatter of the default prior, for this df if it is given.

    E[Sigma] is the covariance in a cluster, and the means are at least twice as wide as the rows.
    """
    check_covariance(covariance)
    scale = scale_of(batch)
    xp = namespace(scale.mean)
    ratio = (xp.diagonal(scale.total) / xp.diagonal(scale.within)).max()
    # E[Sigma] = scatter / (df - least)
    least = scale.mean.shape[0] + 1.0 if covariance in ("full", "tied") else 2.0
    rows = _PRIOR_ROWS
    if df is not None:
        over = as_floats("df", df) - least
        axes = (1,) * len(_events(covariance, 1)["scatter"])
        rows = namespace(over).where(over > 0, over, 1.0).reshape((*over.shape, *axes))
    return {
        "mean": scale.mean,
        "kappa": xp.minimum(_KAPPA, _NARROWEST / ratio),
        "df": least + _PRIOR_ROWS,
        "scatter": structured(scale.within, covariance) * rows,
    }


def structured(scatter: AnyArray, covariance: str) -> AnyArray:
    """The matrix for "full" and "tied", its diagonal for "diag", the mean of that otherwise."""
    if covariance in ("full", "tied"):
        return scatter
    xp = namespace(scatter)
    variances = xp.diagonal(scatter)
    return variances if covariance == "diag" else xp.asarray(variances.mean())


# -- noise ----------------------------------------------------------------------------------------


def _smallest_box(batch: Batch) -> tuple[AnyArray, AnyArray]:
    """The smallest box that holds the observed entries, in data units.

    The side of a constant column is that of a uniform density with the prior's variance.
    """
    x, weight = as_floats("x", batch.x), as_floats("weight", batch.weight)
    scale = scale_of(batch)
    low, high, varies = column_range(x, host_mask(batch.mask, x, weight))
    xp, mean = namespace(x, scale.mean), scale.mean
    half = xp.sqrt(3.0 * xp.diagonal(scale.total))
    return xp.where(varies, low, mean - half), xp.where(varies, high, mean + half)


def _sides(noise_box: ArrayLike) -> list[AnyArray]:
    """The two sides low and high; raises ValueError for anything but a pair."""
    if not isinstance(noise_box, tuple | list) or len(noise_box) != 2:
        raise ValueError(f"noise_box: expected a pair (low, high), got {noise_box!r:.80}")
    return [as_floats("noise_box", side) for side in noise_box]


def _with_noise(components: Gaussian, low: AnyArray, high: AnyArray, dtype: DTypeLike) -> WithNoise:
    """`components` with one more at the end, uniform over the box from `low` to `high`."""
    low, high, d = low.astype(dtype), high.astype(dtype), components.dim
    if low.shape != (d,) or high.shape != (d,):
        raise ValueError(
            f"noise_box: expected low and high of shape ({d},), got {low.shape} and {high.shape}"
        )
    check_bound("noise_box", low)
    check_bound("noise_box", high)
    if is_concrete(low, high) and not (np.asarray(low) < np.asarray(high)).all():
        raise ValueError(f"noise_box: low must be below high, got {low} and {high}")
    return WithNoise(components, to_device(low), to_device(high))
