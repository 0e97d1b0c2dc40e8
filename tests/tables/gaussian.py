"""Gaussian component families: rows of the family table."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy import stats

import vijax as vx
from vijax.families.gaussian.diagonal_normal_gamma import DiagonalNormalGamma
from vijax.families.gaussian.spherical_normal_gamma import SphericalNormalGamma
from vijax.families.gaussian.tied_normal_wishart import TiedNormalWishart
from vijax.families.precision_matrix import PrecisionMatrix

from ..oracles import gaussian_structures as oracle
from ..rows import Family, gammas, normals, spd

K = 4  # means that share a precision


def _of(q: Any, i: int, *names: str) -> dict[str, Any]:
    return {name: np.asarray(getattr(q, name))[i] for name in names}


def _tied_log_prob(value: Any, i: int, q: Any) -> float:
    value = np.asarray(value.mean)[i], np.asarray(value.precision)[i]
    return oracle.tied_log_prob(*value, **_of(q, i, "mean", "kappa", "df", "scatter"))


def _diagonal_log_prob(value: Any, i: int, q: Any) -> float:
    value = np.asarray(value.mean)[i], np.asarray(value.precision)[i]
    return oracle.diagonal_log_prob(*value, **_of(q, i, "mean", "kappa", "df", "scatter"))


def _spherical_log_prob(value: Any, i: int, q: Any) -> float:
    value = np.asarray(value.mean)[i], np.asarray(value.precision)[i]
    return oracle.spherical_log_prob(*value, **_of(q, i, "mean", "kappa", "df", "scatter"))


def _repeat(a: Any) -> Any:
    """The shared matrix, once for each of the K components."""
    return jnp.broadcast_to(a[..., None, :, :], (*a.shape[:-2], K, *a.shape[-2:]))


def _diag(a: Any) -> Any:
    return a[..., None] * jnp.eye(a.shape[-1])


def _times_eye(a: Any) -> Any:
    return a[..., None, None] * jnp.eye(2)


def _tied_point(moments: Any) -> Any:
    chol = moments.chol[..., 0, :, :]
    precision = jnp.linalg.inv(chol @ jnp.swapaxes(chol, -1, -2))
    return vx.MeanPrecision(moments.mean, moments.scale[..., 0, None, None] * precision)


def _half_log_det(v: Any) -> Any:
    return 0.5 * jnp.linalg.slogdet(v.precision)[1]


FAMILIES = [
    Family(
        "TiedNormalWishart",
        lambda rng: TiedNormalWishart.from_standard(
            normals(rng, 3, K, 2), gammas(rng, 3, K), gammas(rng, 3, least=9.0), spd(rng, 3, 2)
        ),
        {
            "mean": lambda q: q.mean,
            "kappa": lambda q: q.kappa,
            "df": lambda q: q.df,
            "scatter": lambda q: q.scatter,
        },
        _tied_log_prob,
        lambda v: (K - 2 - 1) * _half_log_det(v),
        {
            "mean": lambda v: v.mean,
            "precision": lambda v: _repeat(v.precision),
            "covariance": lambda v: _repeat(jnp.linalg.inv(v.precision)),
        },
        _tied_point,
    ),
    Family(
        "DiagonalNormalGamma",
        lambda rng: DiagonalNormalGamma.from_standard(
            normals(rng, 3, 2), gammas(rng, 3), gammas(rng, 3, least=9.0), gammas(rng, 3, 2)
        ),
        {
            "mean": lambda q: q.mean,
            "kappa": lambda q: q.kappa[..., 0],
            "df": lambda q: q.df[..., 0],
            "scatter": lambda q: q.scatter,
        },
        _diagonal_log_prob,
        lambda v: -0.5 * jnp.sum(jnp.log(v.precision), -1),
        {
            "mean": lambda v: v.mean,
            "precision": lambda v: _diag(v.precision),
            "variance": lambda v: 1 / v.precision,
            "covariance": lambda v: _diag(1 / v.precision),
        },
        lambda moments: vx.MeanPrecision(moments.mean, moments.precision),
    ),
    Family(
        "SphericalNormalGamma",
        lambda rng: SphericalNormalGamma.from_standard(
            normals(rng, 3, 2), gammas(rng, 3), gammas(rng, 3, least=9.0), gammas(rng, 3)
        ),
        {
            "mean": lambda q: q.mean,
            "kappa": lambda q: q.kappa[..., 0],
            "df": lambda q: q.df,
            "scatter": lambda q: q.scatter,
        },
        _spherical_log_prob,
        lambda v: (0.5 * 2 - 1) * jnp.log(v.precision),
        {
            "mean": lambda v: v.mean,
            "precision": lambda v: _times_eye(v.precision),
            "variance": lambda v: 1 / v.precision,
            "covariance": lambda v: _times_eye(1 / v.precision),
        },
        lambda moments: vx.MeanPrecision(moments.mean, moments.precision[..., 0]),
    ),
    Family(
        "PrecisionMatrix",
        lambda rng: PrecisionMatrix.from_standard(gammas(rng, 3, least=9.0), spd(rng, 3, 2)),
        {"df": lambda q: q.df, "scatter": lambda q: q.scatter},
        lambda v, i, q: stats.wishart.logpdf(
            np.asarray(v[i]), float(q.df[i]), np.linalg.inv(np.asarray(q.scatter[i]))
        ),
        lambda v: -1.5 * jnp.linalg.slogdet(v)[1],
        {"mean": lambda v: v, "expectation().df": lambda v: 0.5 * jnp.linalg.slogdet(v)[1]},
        lambda moments: moments.mean,
    ),
]

SPREADS = {
    "PrecisionMatrix": {"sd": lambda v: v},
    "TiedNormalWishart": {
        "mean_sd": lambda v: v.mean,
        "precision_sd": lambda v: _repeat(v.precision),
        "covariance_sd": lambda v: _repeat(jnp.linalg.inv(v.precision)),
    },
    "DiagonalNormalGamma": {
        "mean_sd": lambda v: v.mean,
        "precision_sd": lambda v: _diag(v.precision),
        "variance_sd": lambda v: 1 / v.precision,
        "covariance_sd": lambda v: _diag(1 / v.precision),
    },
    "SphericalNormalGamma": {
        "mean_sd": lambda v: v.mean,
        "precision_sd": lambda v: _times_eye(v.precision),
        "variance_sd": lambda v: 1 / v.precision,
        "covariance_sd": lambda v: _times_eye(1 / v.precision),
    },
}
