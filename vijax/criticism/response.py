"""`linear_response`: standard deviations that are right where those of q are too small."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._pytree import pytree
from .._text import Overview
from ..data.batch import Batch
from ..data.host import described, fetched, strong
from ..data.padding import compiled
from ..data.shards import on_auto_mesh
from ..data.types import Data
from ..guides.roots import SquareRoot
from ..guides.transformed_normal import TransformedNormal
from ..infer.method import Method
from ..infer.methods.black_box import FixedDraws, draws_at_once
from ..infer.methods.default import method_for
from ..infer.result import Result
from ..infer.status import Status
from ..model import DensityModel, Model
from ..numerics.broadcasting import broadcasts
from .arguments import prepare_density
from .curvature import response_covariance
from .entries import Finding, labels_of, values_of


@pytree
class Response(Finding):
    """Means with two standard deviations each: that of q, and the one of linear response.

    `mean`, `sd` and `sd_q` have the form of the parameters and are of the unconstrained numbers u,
    in their units; `covariance` (d, d) is the corrected one of u, and `sd` the root of its
    diagonal. `status` is CONVERGED; NON_FINITE where the objective has no maximum at q that can be
    told from a flat one, or from rounding, so that `sd` and `covariance` are NaN; or the status of
    a fit that had not converged.
    """

    mean: Any
    sd: Any
    sd_q: Any
    covariance: Float[Array, "*b d d"]
    status: Int[Array, "*b"]

    @property
    def ratio(self) -> Any:
        """`sd` / `sd_q`, in the form of the parameters; how much too narrow q is."""
        return jax.tree.map(lambda a, b: a / b, self.sd, self.sd_q)

    def _table(self) -> Overview:
        if np.ndim(self.status):
            return Overview(self._lines())
        columns = {"mean": self.mean, "sd of q": self.sd_q, "corrected sd": self.sd}
        rows = {name: [f"{v:.4g}" for v in values_of(tree)] for name, tree in columns.items()}
        rows["ratio"] = [f"{v:.3f}" for v in values_of(self.ratio)]
        return Overview(self._lines(), labels_of(self.mean), rows, corner="unconstrained")

    def _lines(self) -> list[str]:
        """How it ended, and what to do."""
        status = fetched(self.status)
        if status.ndim:
            return [f"{status.size} fits, {int(np.sum(status == Status.CONVERGED))} CONVERGED"]
        found = Status(int(status))
        if found == Status.CONVERGED:
            largest = values_of(self.ratio).max()
            return [f"CONVERGED, corrected sds up to {largest:.3g} times those of q"]
        if found == Status.NON_FINITE:
            return [
                "NON_FINITE: q is at no maximum of its objective, or at one too flat to tell: fit "
                "to convergence with the same method, try float64, or another parametrisation"
            ]
        return [f"{found.name}: so ended the fit, and away from a maximum the sds may be wrong"]


@on_auto_mesh
def linear_response(
    model: Model,
    result: Result | TransformedNormal,
    data: Data | None = None,
    *,
    method: Method[Any] | None = None,
) -> Response:
    """Corrected standard deviations of a black-box fit, from how its means respond to a tilt.

    The q that minimises KL(q || p) is too narrow where p is skewed, and a factorised one where p is
    correlated. If log p gains a term t^T u, the means of p move by Cov(u) t, and those of q by

        C [-H]^-1_mm C^T t,    H the second derivative of the objective in (m, B)

    where u = location + C (m + (I + B) z), on the draws z of the fit (Giordano, Broderick & Jordan
    2018). For a normal posterior this is its covariance, whatever the structure of q. It is no cure
    for heavy tails, which a diagonal q does not feel at all, and where means are off, as in
    funnels, it repairs spreads in part: `criticize` tells.

    For more than 20 parameters of a full or block covariance, conjugate gradients solve for it, in
    bounded memory; up to about 150 parameters it costs few fits, beyond that many. It runs inside
    of jit and vmap, as for many data sets:
    `jax.vmap(lambda r, x: vx.linear_response(model, r, x))(results, data)`.

    Raises TypeError or ValueError naming the argument; how it went is in `status`.

    Args:
        model: The LogDensity that was fitted.
        result: The fit, or its q, of a full, block or diagonal covariance.
        data: The rows of the fit.
        method: That of the fit, such as `GaussianVI(...)`, whose draws are used again; None is the
            one that suits the model.

    Example:
        def log_prior(p):
            return jax.scipy.stats.norm.logpdf(p["slope"])

        def log_lik(p, rows):
            return jax.scipy.stats.norm.logpdf(rows["y"], rows["x"] * p["slope"])

        data = {"x": np.arange(5.0), "y": 2.0 * np.arange(5.0)}
        model = vx.LogDensity(log_prior, log_lik, like={"slope": 0.0})
        result = vx.fit(model, data).check()
        print(vx.linear_response(model, result, data).summary())
    """
    model, q, status, batch = prepare_density(model, result, data)
    return compiled(respond)(model, q, status, batch, checked_method(model, q, method))


def checked_method(
    model: DensityModel, q: TransformedNormal, method: Method[Any] | None
) -> FixedDraws:
    """The method whose draws are used; TypeError or ValueError if it has none, or q no root."""
    method = method_for(model, method)
    if not isinstance(method, FixedDraws):
        raise TypeError(
            f"method: needs the fixed draws of GaussianVI or LBFGS, got {described(method)}"
        )
    if not isinstance(q.root, SquareRoot):
        raise ValueError("result: a covariance of low rank has no linear response")
    method.check(model)
    return strong(method, q.location.dtype)


@broadcasts
def respond(
    model: DensityModel,
    q: TransformedNormal,
    status: Int[Array, ""],
    batch: Batch,
    method: FixedDraws,
) -> Response:
    """The response of a q, whose fit ended with this status; inside of a program."""
    z = method.base_draws(q)

    def log_density(u: Array) -> Array:
        return model.log_density(u, batch)

    covariance, good = response_covariance(log_density, q, z, draws_at_once(batch))
    variances = jnp.diagonal(covariance)
    good = good & jnp.all(jnp.isfinite(covariance)) & jnp.all(variances > 0)
    sd = jnp.where(good, jnp.sqrt(jnp.where(good, variances, 1.0)), jnp.nan)
    covariance = jnp.where(good, covariance, jnp.nan)
    status = jnp.where(good, status, int(Status.NON_FINITE)).astype(status.dtype)
    return Response(q.mean, q.space.unravel(sd), q.sd, covariance, status)
