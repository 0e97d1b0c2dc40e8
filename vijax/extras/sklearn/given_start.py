"""Responsibilities to start from at given weights, means and precisions, as in scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import softmax


def responsibilities_at(
    X: np.ndarray,
    resp: np.ndarray,
    weight: np.ndarray | None,
    kind: str,
    given: dict[str, Any],
) -> np.ndarray:
    """p(component | row) (n, k) at given parameters; those that are None are estimates from `resp`.

    An E-step there is what EM would begin with, on the host in float64. `kind` is that of the
    covariance, whose shapes of precisions are those of scikit-learn. Raises ValueError naming the
    argument for another shape, for missing entries, and for precisions that are not positive.
    """
    if not np.isfinite(X).all():
        name = next(name for name, value in given.items() if value is not None)
        raise ValueError(f"{name}: a start at parameters needs rows without missing entries")
    n, d = X.shape
    k = resp.shape[1]
    counts = resp if weight is None else resp * weight[:, None]
    total = counts.sum(0) + 10 * np.finfo(float).eps
    weights = _read("weights_init", given["weights_init"], (k,), total / total.sum())
    means = _read("means_init", given["means_init"], (k, d), counts.T @ X / total[:, None])
    shape = {"full": (k, d, d), "tied": (d, d), "diag": (k, d), "spherical": (k,)}[kind]
    precisions = given["precisions_init"]
    if precisions is None:
        precision = _estimated(X, counts, total, kind)
    else:
        precision = _matrices(_read("precisions_init", precisions, shape, None), kind, k, d)
    try:
        half = np.log(np.diagonal(np.linalg.cholesky(precision), axis1=1, axis2=2)).sum(1)
    except np.linalg.LinAlgError as error:
        raise ValueError("precisions_init: must be positive definite") from error
    z = X[:, None] - means
    square = np.einsum("nki,kij,nkj->nk", z, precision, z)
    return softmax(np.log(weights) + half - 0.5 * square, -1)


def _read(name: str, value: Any, shape: tuple[int, ...], default: Any) -> np.ndarray:
    if value is None:
        return default
    found = np.asarray(value, float)
    if found.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {found.shape}")
    if name == "weights_init" and not ((found > 0).all() and abs(found.sum() - 1) < 1e-6):
        raise ValueError(f"{name}: expected positive numbers that add up to one")
    return found


def _matrices(value: np.ndarray, kind: str, k: int, d: int) -> np.ndarray:
    """Precisions (k, d, d) from those in the shape of scikit-learn."""
    if kind == "full":
        return value
    if kind == "tied":
        return np.broadcast_to(value, (k, d, d))
    return np.eye(d) * (value[..., None] if kind == "diag" else value[:, None, None])


def _estimated(X: np.ndarray, counts: np.ndarray, total: np.ndarray, kind: str) -> np.ndarray:
    """Precisions (k, d, d) of maximum likelihood given soft counts (n, k)."""
    k, d = counts.shape[1], X.shape[1]
    z = X[:, None] - counts.T @ X / total[:, None]
    if kind in ("full", "tied"):
        scatter = np.einsum("nk,nki,nkj->kij", counts, z, z)
        each = scatter / total[:, None, None]
        if kind == "tied":
            each = np.broadcast_to(scatter.sum(0) / total.sum(), each.shape)
        return np.linalg.pinv(each, hermitian=True)
    variance = np.einsum("nk,nkd->kd", counts, z**2) / total[:, None]
    variance = variance if kind == "diag" else variance.mean(1)
    return _matrices(1.0 / np.maximum(variance, np.finfo(float).tiny), kind, k, d)
