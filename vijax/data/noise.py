"""The measurement noise of rows: a covariance each, checked in units of its columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..numerics import linalg
from .host import as_floats, fetched, is_concrete, namespace

_ASYMMETRY = 1e-4  # of correlations, at most
_ROUNDING = 1e-5  # that a negative eigenvalue of correlations may be


def noise_of(noise: Any, x: Any, dtype: Any, weight: Any, seen: Any) -> Any:
    """Noise (n, d, d), 0 for what was not observed, where it may be anything."""
    if noise is None:
        return None
    if isinstance(x, dict) or x.ndim != 2:
        raise ValueError("noise: needs rows x of shape (n, d)")
    n, d = x.shape
    s = as_floats("noise", noise, missing=True, dtype=dtype)
    if s.shape not in ((n, d), (n, d, d)):
        raise ValueError(f"noise: expected shape {(n, d, d)} or {(n, d)}, got {s.shape}")
    diagonal = s.ndim == 2
    if seen is not None:
        used = seen if diagonal else seen[:, :, None] & seen[:, None, :]
        s = namespace(s, used).where(used, s, 0.0).astype(dtype)
    if is_concrete(s):
        known = fetched(s)
        bad = _no_variance(known) if diagonal else _no_covariance(known)
        if is_concrete(weight):
            bad = bad & (fetched(weight) > 0)  # rows of weight 0 may hold anything
        if bool(bad.any()):
            raise ValueError(
                "noise: must be finite, symmetric and have no negative eigenvalue; row "
                f"{int(bad.argmax())} is not"
            )
    # absent rows may be infinite, and infinity times 0 is NaN
    return namespace(s).where(np.eye(d, dtype=bool), s[:, :, None], 0.0) if diagonal else s


def _no_variance(s: Any) -> Any:
    """True for rows of variances that are not finite or negative."""
    return ~(namespace(s).isfinite(s) & (s >= 0)).all(1)


def _no_covariance(s: Any) -> Any:
    """True for matrices that are not finite, not symmetric, or have a negative eigenvalue.

    Seen in units of each column's standard deviation, so that no column decides for another.
    """
    xp = namespace(s)
    s = s.astype(np.float64) if xp is np else s
    variance = xp.diagonal(s, axis1=1, axis2=2)
    bad = ~xp.isfinite(s).all((1, 2)) | (variance < 0).any(1)
    eye = np.eye(s.shape[-1], dtype=s.dtype)
    safe = xp.where(bad[:, None, None], eye, s)
    sd = xp.sqrt(xp.diagonal(safe, axis1=1, axis2=2))
    none = sd == 0  # such an entry has no covariance with others
    bad |= ((safe != 0) & (none[:, :, None] | none[:, None, :])).any((1, 2))
    sd = xp.where(none, 1.0, sd).astype(s.dtype)
    scaled = safe / sd[:, :, None] / sd[:, None, :]
    bad |= (abs(scaled - scaled.mT) > _ASYMMETRY).any((1, 2))
    scaled = xp.where(bad[:, None, None], eye, scaled)
    if xp is np:
        return bad | (np.linalg.eigvalsh(scaled).min(1) < -_ROUNDING)
    # a Cholesky factor is computed where the rows are; NumPy would fetch them
    root = linalg.chol(scaled + _ROUNDING * eye[None])
    return bad | ~xp.isfinite(root).all((1, 2))
