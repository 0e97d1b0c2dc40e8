"""Priors of Gaussian components: one conjugate family for each covariance structure."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from .._host import as_floats, check_bound, host_mask, is_concrete, namespace, to_device
from ..batch import Batch
from ..families.diagonal_normal_gamma import DiagonalNormalGamma
from ..families.noise import WithNoise
from ..families.normal_gamma import NormalGamma
from ..families.normal_wishart import NormalWishart
from ..families.spherical_normal_gamma import SphericalNormalGamma
from ..families.tied_normal_wishart import TiedNormalWishart
from ..numerics import averages, linalg
from .sizes import per_component

COVARIANCES = ("full", "tied", "diag", "spherical")
_LEAST_SHRINKAGE = 1e-3  # of the correlations in the default prior


def default(batch: Batch, covariance: str) -> tuple[Any, float, Any]:
    """Mean, df and scatter of the default prior: the location and scale of all the data."""
    check_covariance(covariance)
    x, d = as_floats("x", batch.x), batch.x.shape[1]
    weight = as_floats("weight", batch.weight)
    center, scatter = _location_and_scale(x, weight, batch.mask)
    if covariance in ("full", "tied"):
        return center, d + 2.0, scatter
    variance = namespace(scatter).diagonal(scatter)
    return center, 3.0, variance if covariance == "diag" else variance.mean()


def build(
    covariance: str, given: dict[str, Any], num_components: int, size: int, dtype: Any
) -> Any:
    """Components with the prior `mean`, `kappa`, `df`, `scatter` as `with_prior` takes them."""
    check_covariance(covariance)
    given = {name: as_floats(name, value) for name, value in given.items()}
    d = _num_features(covariance, given["mean"], given["scatter"])
    matrix = covariance in ("full", "tied")
    tied = covariance == "tied"
    if given["mean"].ndim == 0:
        given["mean"] = given["mean"] * np.ones(d, given["mean"].dtype)
    if given["scatter"].ndim == 0 and covariance != "spherical":
        one = np.eye(d) if matrix else np.ones(d)
        given["scatter"] = given["scatter"] * one.astype(given["scatter"].dtype)
    each = {"mean": (d,), "kappa": (), "df": (), "scatter": _event(covariance, d)}
    full = {
        name: _shared(name, value, each[name])
        if tied and name in ("df", "scatter")
        else per_component(name, value, each[name], num_components, size)
        for name, value in given.items()
    }
    full = {name: value.astype(dtype) for name, value in full.items()}
    check_bound("mean", full["mean"])
    check_bound("kappa", full["kappa"], above=0.0)
    if matrix:
        check_bound("df", full["df"], above=d - 1.0, note=" (d - 1)")
        _check_positive_definite("scatter", full["scatter"])
    else:
        check_bound("df", full["df"], above=0.0)
        check_bound("scatter", full["scatter"], above=0.0)
    if tied:  # a component that is off has no mean
        on = np.arange(size) < num_components
        full["kappa"] = namespace(full["kappa"]).where(on, full["kappa"], 0.0).astype(dtype)
    part = {name: to_device(value) for name, value in full.items()}
    shift = to_device(np.zeros((size, d), dtype))
    mean, kappa, df, scatter = (part[name] for name in ("mean", "kappa", "df", "scatter"))
    if covariance == "full":
        return NormalWishart(kappa, shift, scatter, df, mean)
    if tied:
        return TiedNormalWishart(kappa, shift, scatter, df, mean)
    kappa = to_device(namespace(full["kappa"]).repeat(full["kappa"][:, None], d, 1))
    if covariance == "diag":
        shape = to_device(namespace(full["df"]).repeat(0.5 * full["df"][:, None], d, 1))
        return DiagonalNormalGamma(NormalGamma(kappa, shift, shape, 0.5 * scatter, mean))
    return SphericalNormalGamma(kappa, shift, 0.5 * df, 0.5 * scatter, mean)


def flat(covariance: str, size: int, d: int, dtype: Any) -> Any:
    """Components without a prior: every natural parameter zero."""
    check_covariance(covariance)

    def zeros(*shape: int) -> Any:
        return to_device(np.zeros(shape, dtype))

    k, kd = zeros(size), zeros(size, d)
    if covariance == "full":
        return NormalWishart(k, kd, zeros(size, d, d), k, kd)
    if covariance == "tied":
        return TiedNormalWishart(k, kd, zeros(d, d), zeros(), kd)
    if covariance == "diag":
        return DiagonalNormalGamma(NormalGamma(kd, kd, kd, kd, kd))
    return SphericalNormalGamma(kd, kd, k, k, kd)


def covariances_of(components: Any, value: Any) -> Any:
    """Covariance matrices (*s, k, d, d) of values that `components.sample` drew."""
    d = value.mean.shape[-1]
    eye = jnp.eye(d, dtype=value.mean.dtype)
    if isinstance(components, DiagonalNormalGamma):
        return eye / value.precision[..., None]
    if isinstance(components, SphericalNormalGamma):
        return eye / value.precision[..., None, None]
    matrix = linalg.precision_from_chol(linalg.chol(value.precision))
    if isinstance(components, TiedNormalWishart):
        matrix = jnp.broadcast_to(matrix[..., None, :, :], (*value.mean.shape, d))
    return matrix


def box(batch: Batch) -> tuple[Any, Any]:
    """The smallest box that holds the observed entries, in data units.

    A constant column has the side of a uniform density with the prior's variance.
    """
    x, weight = as_floats("x", batch.x), as_floats("weight", batch.weight)
    center, _, variance = default(batch, "diag")
    low, top, varies = _range(x, host_mask(batch.mask, x, weight))
    xp = namespace(x, center)
    half = xp.sqrt(3.0 * variance)
    return xp.where(varies, low, center - half), xp.where(varies, top, center + half)


def sides(noise_box: Any) -> list[Any]:
    """Low and high; ValueError for anything but two."""
    if not isinstance(noise_box, tuple | list) or len(noise_box) != 2:
        raise ValueError(f"noise_box: expected a pair (low, high), got {noise_box!r:.80}")
    return [as_floats("noise_box", side) for side in noise_box]


def with_noise(components: Any, low: Any, high: Any, dtype: Any) -> Any:
    """`components` and a last one, uniform over the box from `low` to `high`, both (d,)."""
    low, high = low.astype(dtype), high.astype(dtype)
    d = components.mean.shape[-1]
    if low.shape != (d,) or high.shape != (d,):
        raise ValueError(
            f"noise_box: expected low and high of shape ({d},), got {low.shape} and {high.shape}"
        )
    check_bound("noise_box", low)
    check_bound("noise_box", high)
    if is_concrete(low, high) and not (np.asarray(low) < np.asarray(high)).all():
        raise ValueError(f"noise_box: low must be below high, got {low} and {high}")
    return WithNoise(components, to_device(low), to_device(high))


def check_covariance(covariance: Any) -> None:
    """Raise ValueError unless it is one of the four."""
    if covariance not in COVARIANCES:
        raise ValueError(
            f"covariance: expected one of {', '.join(COVARIANCES)}, got {covariance!r}"
        )


def _event(covariance: str, d: int) -> tuple[int, ...]:
    return {"full": (d, d), "tied": (d, d), "diag": (d,), "spherical": ()}[covariance]


def _shared(name: str, value: Any, each: tuple[int, ...]) -> Any:
    if value.shape != each:
        raise ValueError(
            f"{name}: all components share it when covariance='tied'; expected "
            f"{'a scalar' if each == () else f'shape {each}'}, got shape {value.shape}"
        )
    return value


def _num_features(covariance: str, mean: Any, scatter: Any) -> int:
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


def _check_squares(variance: np.ndarray, varies: np.ndarray) -> None:
    known = np.isfinite(variance) & ((variance >= np.finfo(variance.dtype).tiny) | ~varies)
    if not known.all():
        raise ValueError(
            f"x: the squares of column {int(np.argmin(known))} leave the range of "
            f"{variance.dtype}; take another unit, or enable jax_enable_x64"
        )


def _range(x: Any, mask: Any) -> tuple[Any, Any, Any]:
    """Least and largest observed entry of every column, and whether they differ."""
    xp = namespace(x, mask)
    low = (x if mask is None else xp.where(mask, x, xp.inf)).min(0)
    top = (x if mask is None else xp.where(mask, x, -xp.inf)).max(0)
    return low, top, top > low


def _location_and_scale(x: Any, weight: Any, mask: Any) -> tuple[Any, Any]:
    """Mean and shrunken covariance of the rows, on the host or traced; of observed entries."""
    xp, d = namespace(x, weight), x.shape[1]
    mask = host_mask(mask, x, weight)
    share = averages.shares(x, weight, mask)
    center = averages.means(x, share, mask)
    seen = xp.ones(x.shape, bool) if mask is None else mask
    z = xp.where(seen, x - center, 0.0)
    # where entries are missing: correlations of what is there, and each column's own variance
    root = xp.sqrt(share)
    precise = {"precision": "highest"} if xp is jnp else {}
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        product = xp.matmul((root * z).T, root * z, **precise)
        variance = (share * z**2).sum(0)
    _, _, varies = _range(x, mask)
    if is_concrete(variance, varies):
        _check_squares(np.asarray(variance), np.asarray(varies))
    variance = xp.where(varies, variance, 0.0)
    some = variance.sum() / xp.maximum(varies.sum(), 1).astype(x.dtype)
    diagonal = xp.where(varies, variance, xp.where(some > 0, some, 1.0))
    shrink = xp.maximum(d / (weight.sum() + d), _LEAST_SHRINKAGE)
    off = xp.where(varies[:, None] & varies[None, :], (1.0 - shrink) * product, 0.0)
    return center, xp.where(np.eye(d, dtype=bool), xp.diag(diagonal), off).astype(x.dtype)
