"""`criticize`: whether a q is right, by importance weights of its draws."""

from __future__ import annotations

import enum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from .._pytree import pytree, static
from ..data.batch import Batch
from ..data.host import check_bound, check_integer, fetched, readable
from ..data.padding import compiled
from ..data.shards import on_auto_mesh
from ..data.types import Data
from ..guides.roots import SquareRoot
from ..guides.transformed_normal import TransformedNormal
from ..infer.arguments import check_key
from ..infer.method import Method
from ..infer.methods.black_box import FixedDraws, draws_at_once
from ..infer.methods.default import method_for
from ..infer.result import Result
from ..infer.status import Status
from ..model import DensityModel, Model
from ..numerics.broadcasting import broadcasts
from ..numerics.matched_draws import map_draws
from ..numerics.pareto import pareto_index
from .arguments import prepare_density
from .entries import Finding
from .response import checked_method, respond

_FEWEST_DRAWS = 100.0
_EQUAL = 1e-5  # nats that log weights of a q may differ by, and rounding, for it to be exact
_ROUNDING = 32.0  # times eps and the log density: nats that are rounding
_GOOD_ESS = 0.5
_USABLE_K = 0.7  # Vehtari et al. 2024
_OTHER_SD = 1.2  # factor between corrected sds and those of q


class Verdict(enum.IntEnum):
    """What importance weights and linear response say of a q, an integer.

    The first three are in order; SPREAD_WRONG and POOR differ in what to do. k-hat and the
    effective sample size of 4096 draws are noisy: next to a threshold, another key may give the
    neighbouring verdict.
    """

    EXACT = 0
    GOOD = 1
    USABLE = 2
    SPREAD_WRONG = 3
    POOR = 4


ADVICE = {
    Verdict.EXACT: "q is the posterior: all importance weights are equal",
    Verdict.GOOD: "q is close to the posterior: take its means and standard deviations",
    Verdict.USABLE: (
        "q is usable: means are trustworthy, standard deviations are better from linear_response, "
        "and importance weights correct the rest"
    ),
    Verdict.SPREAD_WRONG: (
        "the spread of q is wrong, and its mean may be: reparametrise (centred or not), or take "
        "standard deviations from linear_response, and a full covariance if it is not yet full; "
        "check means against MCMC by compare"
    ),
    Verdict.POOR: (
        "weights cannot correct q, and linear response does not say how: reparametrise (centred or "
        "not, other constraints), try more restarts, or run MCMC"
    ),
}


@pytree
class Criticism(Finding):
    """How far q is from the posterior, from importance weights p(x, theta) / q(theta) of draws.

    `k_hat` is the index of their upper tail: below 0.7 they can be averaged, and 0 where they are
    equal. `ess` is their effective number relative to that of the draws, from 0 to 1.
    `log_evidence` is log p(x) in nats by their mean, and `evidence_se` its standard error, which is
    too small where k_hat is 0.7 or more. `elbo` is the bound of q in nats by the same draws, and
    `elbo_se` its standard error; log_evidence - elbo is KL(q || p). `verdict` is a `Verdict`.

    Both are -inf and below where draws have density 0. Where the log density of a draw is NaN or
    +inf, of which `non_finite` is the number, nothing is known: estimates are NaN, and the verdict
    is POOR. `log_sd_change` is the largest |log(corrected sd / sd of q)| by `linear_response`, NaN
    where the verdict does not depend on it, or where it is not known.
    """

    k_hat: Float[Array, "*b"]
    ess: Float[Array, "*b"]
    log_evidence: Float[Array, "*b"]
    evidence_se: Float[Array, "*b"]
    elbo: Float[Array, "*b"]
    elbo_se: Float[Array, "*b"]
    verdict: Int[Array, "*b"]
    log_sd_change: Float[Array, "*b"]
    non_finite: Int[Array, "*b"]
    num_draws: int = static()

    def __repr__(self) -> str:
        if not readable(self):
            return f"{type(self).__name__}(traced)"
        verdict = fetched(self.verdict)
        if verdict.ndim:
            return f"{type(self).__name__}({self._counts()})"
        k_hat, ess, evidence = (
            float(fetched(a)) for a in (self.k_hat, self.ess, self.log_evidence)
        )
        name = Verdict(int(verdict)).name
        return (
            f"{type(self).__name__}({name}, k-hat {k_hat:.2f}, ESS {ess:.2f}, {evidence:.3f} nats)"
        )

    def _counts(self) -> str:
        values, counts = np.unique(fetched(self.verdict), return_counts=True)
        return ", ".join(f"{n} {Verdict(v).name}" for v, n in zip(values, counts, strict=True))

    def _lines(self) -> list[str]:
        if np.ndim(self.verdict):
            return [f"{np.size(self.verdict)} fits: {self._counts()}"]
        numbers = {name: fetched(value).item() for name, value in vars(self).items()}
        verdict = Verdict(numbers["verdict"])
        lines = [f"{verdict.name}: {ADVICE[verdict]}"]
        if numbers["non_finite"]:
            of = f"{numbers['non_finite']} of {self.num_draws} draws"
            return [*lines, f"the log density is NaN or +inf at {of}: nothing can be estimated"]
        change = np.exp(numbers["log_sd_change"])
        lines += [
            f"k-hat         {numbers['k_hat']:.2f}, of the tail of the weights; they can be "
            f"averaged below {_USABLE_K}",
            f"ESS           {numbers['ess']:.3f} of {self.num_draws} draws; good from {_GOOD_ESS}",
            f"log evidence  {numbers['log_evidence']:.4f} ± {numbers['evidence_se']:.4f} nats"
            + ("" if numbers["k_hat"] < _USABLE_K else ", or more: so heavy a tail hides a part"),
            f"ELBO          {numbers['elbo']:.4f} ± {numbers['elbo_se']:.4f} nats",
        ]
        if np.isfinite(change):
            lines.append(
                f"corrected sds differ from those of q by a factor of {change:.2f}; wrong above "
                f"{_OTHER_SD}"
            )
        return lines


@on_auto_mesh
def criticize(
    model: Model,
    result: Result | TransformedNormal,
    data: Data | None = None,
    *,
    key: Key[Array, ""],
    num_draws: int = 4096,
    method: Method[Any] | None = None,
) -> Criticism:
    """Whether q is right, from independent draws of it: importance weights, evidence, a verdict.

    The verdict is the first of these that holds:

    - EXACT: the weights are equal
    - GOOD: their effective number is half of the draws or more
    - USABLE: k_hat < 0.7, so that weights average (Vehtari et al. 2024)
    - SPREAD_WRONG: sds by `linear_response` differ from those of q by more than 20 %
    - POOR

    k_hat alone would not do: a q that is light far out in the tails, and right elsewhere, has a
    large one. It sees no second mode that q does not reach. It runs inside of jit and vmap.

    Raises TypeError or ValueError naming the argument.

    Args:
        model: The LogDensity that was fitted.
        result: The fit, or its q, of any covariance.
        data: The rows of the fit.
        key: A typed key for the draws.
        num_draws: Their number, at least 100; with fewer than 2000 a k_hat is rough.
        method: As in `linear_response`.

    Example:
        def log_prior(p):
            return jax.scipy.stats.norm.logpdf(p["slope"])

        def log_lik(p, rows):
            return jax.scipy.stats.norm.logpdf(rows["y"], rows["x"] * p["slope"])

        data = {"x": np.arange(5.0), "y": 2.0 * np.arange(5.0)}
        model = vx.LogDensity(log_prior, log_lik, like={"slope": 0.0})
        result = vx.fit(model, data).check()
        criticism = vx.criticize(model, result, data, key=jax.random.key(1))
        print(criticism.summary())
    """
    model, q, status, batch = prepare_density(model, result, data)
    check_integer("num_draws", num_draws)
    check_bound("num_draws", num_draws, least=_FEWEST_DRAWS)
    check_key(key, True, method_for(model, method))
    can_respond = isinstance(q.root, SquareRoot)
    chosen = checked_method(model, q, method) if can_respond else None
    z = jax.random.normal(key, (num_draws, q.root.noise_size), q.location.dtype)
    return compiled(_criticize)(model, q, status, batch, chosen, z)


@broadcasts
def _criticize(
    model: DensityModel,
    q: TransformedNormal,
    status: Int[Array, ""],
    batch: Batch,
    method: FixedDraws | None,
    z: Float[Array, "s k"],
) -> Criticism:
    def log_densities(z: Array) -> tuple[Array, Array]:
        return model.log_density(q.at(z), batch), q.log_density_at(z)

    log_p, log_q = map_draws(log_densities, z, draws_at_once(batch))
    weights = log_p - log_q
    bad = ~(weights < jnp.inf)  # NaN, too
    failed = jnp.any(bad)
    rounding = _ROUNDING * jnp.finfo(z.dtype).eps
    slack = _EQUAL + rounding * (jnp.max(jnp.abs(log_p)) + batch.weight.shape[0])
    equal = jnp.isfinite(slack) & (jnp.max(weights) - jnp.min(weights) <= slack)
    log_evidence, relative_variance, ess = _mean_of_weights(weights)
    s = z.shape[0]
    k_hat = jnp.where(equal, 0.0, pareto_index(weights))
    elbo = jnp.mean(weights)
    elbo_se = jnp.where(jnp.isfinite(elbo), jnp.std(weights), jnp.inf) / jnp.sqrt(s)
    evidence_se = jnp.where(equal, 0.0, jnp.sqrt(relative_variance / s))
    undecided = ~(equal | (ess >= _GOOD_ESS) | (k_hat < _USABLE_K) | failed)

    def change() -> Array:
        assert method is not None
        found = respond(model, q, status, batch, method)
        logs = jnp.log(jnp.diagonal(found.covariance)) / 2.0 - jnp.log(q.root.sd)
        return jnp.where(found.status == Status.NON_FINITE, jnp.nan, jnp.max(jnp.abs(logs)))

    unknown = jnp.full_like(elbo, jnp.nan)
    log_sd_change = unknown
    if method is not None:
        log_sd_change = jax.lax.cond(undecided, change, lambda: unknown)
    rules: list[tuple[Bool[Array, ""], Verdict]] = [
        (failed, Verdict.POOR),
        (equal, Verdict.EXACT),
        (ess >= _GOOD_ESS, Verdict.GOOD),
        (k_hat < _USABLE_K, Verdict.USABLE),
        ((log_sd_change > jnp.log(_OTHER_SD)) & (ess > 0), Verdict.SPREAD_WRONG),
    ]
    holds, verdicts = zip(*rules, strict=True)
    verdict = jnp.select(holds, [int(v) for v in verdicts], int(Verdict.POOR)).astype(jnp.int32)

    def known(a: Array) -> Array:
        return jnp.where(failed, jnp.nan, a)

    return Criticism(
        known(k_hat),
        known(ess),
        known(log_evidence),
        known(evidence_se),
        known(elbo),
        known(elbo_se),
        verdict,
        log_sd_change,
        jnp.sum(bad, dtype=jnp.int32),
        s,
    )


def _mean_of_weights(
    log_weights: Float[Array, "s"],
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """Log of the mean of weights, their variance over its square, and their ESS / s, in (0, 1].

    All weights 0 have an ESS of 0.
    """
    s, largest = log_weights.shape[0], jnp.max(log_weights)
    none = largest == -jnp.inf
    weights = jnp.exp(log_weights - jnp.where(none, 0.0, largest))
    mean = jnp.mean(weights)
    log_mean = jnp.where(none, -jnp.inf, jnp.log(mean) + largest)
    variance = jnp.mean((weights / mean - 1.0) ** 2)
    ess = jnp.where(none, 0.0, 1.0 / (1.0 + variance))
    return log_mean, jnp.where(none, jnp.inf, variance * s / (s - 1)), ess
