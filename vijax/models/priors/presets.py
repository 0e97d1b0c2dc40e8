"""Priors of other tools and textbooks, as arguments of `GaussianMixture.with_prior`.

An example is `GaussianMixture.with_prior(k, **presets.mclust(x, k, "diag"))`. `x` is array-like
(n, d) or a Batch, whose integer weights count repetitions. All priors follow the units and the
offset of the data. ValueError names the argument: for missing entries, for fewer than two rows, and
for a covariance structure other than "full", "tied", "diag" or "spherical".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...data import weighted_means
from ...data.host import as_floats, is_concrete, namespace
from ...data.types import AnyArray, Data
from .arguments import as_matrix, check_size
from .gaussian import check_covariance, structured

_NO_PRIOR = 1e-6  # pseudo-rows per weight: maximum likelihood, in which no weight is exactly zero


def sklearn(x: Data, num_components: int, covariance: str = "full") -> dict[str, Any]:
    """Return the default prior of scikit-learn's `BayesianGaussianMixture`, Dirichlet on weights.

    conc = 1 / k, kappa = 1, the mean of the data, df = d, and for `scatter` the sample covariance
    ("full", "tied"), its diagonal ("diag") or the mean of that ("spherical"), in data units.
    ValueError names the argument.

    With "full" it is the same model, and the fixed points agree. With the others, the updates of
    scikit-learn 1.9 are not those of its own prior. "tied" divides the statistics by k: given the
    responsibilities, its estimates are those of k times `df` and `scatter`. "spherical" counts a
    row once and not once for each of its d columns, as if for d times `df` and `scatter`. The
    responsibilities of all three use another E[log|Lambda|]. Its `reg_covar` is part of no prior.

    Args:
        x: Rows, array-like (n, d) or a Batch, without missing entries.
        num_components: Number of components, k.
        covariance: "full", "tied", "diag" or "spherical".

    Example:
        x, _ = vx.datasets.three_clusters()
        model = vx.GaussianMixture.with_prior(5, **vx.presets.sklearn(x, 5))
    """
    centre, scatter = _location_and_scatter(x, num_components, covariance)
    d = centre.shape[0]
    scatter = structured(scatter, covariance)
    return _arguments(covariance, 1.0 / num_components, centre, 1.0, d, scatter)


def bishop(x: Data, num_components: int, covariance: str = "full") -> dict[str, Any]:
    """Return the sparse prior of Bishop (2006), section 10.2 and figure 10.6, in units of the data.

    conc = 1e-3, kappa = 1, the mean of the data, df = d, and for `scatter` the variances of the
    columns as a diagonal matrix, so that W is the identity for standardised data. As `conc` is so
    small, components that the data do not need lose their weight.

    Args:
        x, num_components, covariance: As in `sklearn`.

    Example:
        x, _ = vx.datasets.three_clusters()
        model = vx.GaussianMixture.with_prior(5, **vx.presets.bishop(x, 5))
    """
    centre, scatter = _location_and_scatter(x, num_components, covariance, divisor=0)
    xp, d = namespace(scatter), centre.shape[0]
    variances = xp.diagonal(scatter)
    scatter = structured(xp.diag(variances), covariance)
    return _arguments(covariance, 1e-3, centre, 1.0, d, scatter)


def mclust(x: Data, num_components: int, covariance: str = "full") -> dict[str, Any]:
    """Return the default prior of R's mclust (Fraley & Raftery 2007, J. Classification 24:155-181).

    It is for `EM`, whose estimate is then the mode of the density in (mu, Sigma), as in mclust:
    kappa = 0.01, the mean of the data, nu = d + 2, and scale = S / k^(2 / d), where S is the sample
    covariance ("full", "tied": models VVV, EEE) or the mean variance of the columns ("diag",
    "spherical": VVI, VII). Weights are those of maximum likelihood. It follows the formulas of the
    paper; with no more rows than columns S is singular, and so no prior.

    `EM` of vijax takes the mode with respect to another base measure, which lacks some powers of
    |Sigma|. They are added to `df`: nu + d + 2 ("full", "spherical"), nu + k + d + 1 ("tied"),
    nu + 3 ("diag"). So the objective of EM is the log-posterior of mclust up to a constant, and for
    `CAVI` the prior is tighter than nu says.

    Args:
        x, num_components, covariance: As in `sklearn`.

    Example:
        x, _ = vx.datasets.three_clusters()
        model = vx.GaussianMixture.with_prior(3, **vx.presets.mclust(x, 3, "diag"))
        fit = vx.fit(model, x, method=vx.EM(), key=jax.random.key(0))
    """
    centre, scatter = _location_and_scatter(x, num_components, covariance)
    k, d = num_components, centre.shape[0]
    xp = namespace(scatter)
    matrix = covariance in ("full", "tied")
    scatter = structured(scatter, covariance if matrix else "spherical")
    scale = xp.asarray(scatter * k ** (-2.0 / d))
    if covariance == "diag":
        scale = xp.full((d,), scale, scale.dtype)
    powers = {"full": d + 2, "tied": k + d + 1, "diag": 3, "spherical": d + 2}[covariance]
    return _arguments(covariance, _NO_PRIOR, centre, 0.01, d + 2 + powers, scale)


def _arguments(
    covariance: str, conc: float, mean: AnyArray, kappa: float, df: int, scatter: AnyArray
) -> dict[str, Any]:
    """The arguments of `GaussianMixture.with_prior`."""
    prior = {"mean": mean, "kappa": kappa, "df": float(df), "scatter": scatter}
    return {"covariance": covariance, "conc": conc, **prior}


def _location_and_scatter(
    x: Data, num_components: int, covariance: str, divisor: int = 1
) -> tuple[AnyArray, AnyArray]:
    """Weighted mean (d,) and covariance (d, d), with n - divisor in the denominator."""
    check_size(num_components, None)
    check_covariance(covariance)
    batch = as_matrix(x)
    if batch.mask is not None and not (is_concrete(batch.mask) and bool(batch.mask.all())):
        raise ValueError("x: has missing entries, which this prior is not defined for")
    rows, weight = as_floats("x", batch.x), as_floats("weight", batch.weight)
    dtype, xp, precise = rows.dtype, namespace(rows, weight), {"precision": "highest"}
    if xp is np:
        rows, weight, precise = rows.astype(np.float64), weight.astype(np.float64), {}
    total = weight.sum()
    if is_concrete(total) and not total > 1:
        raise ValueError(f"x: needs at least two rows for a covariance, got weight {total:g}")
    centre = weighted_means.means(rows, weighted_means.shares(rows, weight))
    root = xp.sqrt(weight / (total - divisor))[:, None] * (rows - centre)
    return centre.astype(dtype), xp.matmul(root.T, root, **precise).astype(dtype)
