"""Priors, posteriors and predictive densities of vijax in numpyro: `sample_sites`, `predictive`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import jax
import jax.numpy as jnp

from ..data.host import fetched, is_concrete
from ..exponential_family import ExponentialFamily, Product, Q
from ..families.compound.columns import Columns
from ..families.compound.noise import WithNoise
from ..families.compound.student_t import StudentT
from ..families.dirichlet import Dirichlet
from ..families.gamma import Gamma
from ..families.gaussian.base import Gaussian
from ..families.gaussian.diagonal_normal_gamma import DiagonalNormalGamma
from ..families.gaussian.normal_wishart import NormalWishart
from ..families.gaussian.spherical_normal_gamma import SphericalNormalGamma
from ..families.gaussian.tied_normal_wishart import TiedNormalWishart
from ..families.independent.beta_bernoulli import BetaBernoulli, BetaProbabilities
from ..families.independent.dirichlet_categorical import DirichletCategorical
from ..families.independent.dirichlet_multinomial import DirichletMultinomial
from ..families.independent.gamma_exponential import GammaExponential
from ..families.independent.gamma_poisson import GammaPoisson, GammaRates
from ..families.labels.weak_limit import WeakLimit
from ..families.multivariate_normal import MultivariateNormal
from ..families.normal import Normal
from ..families.normal_gamma import MeanPrecision, NormalGamma
from ..families.weights.dirichlet_process import DirichletProcess
from ..families.weights.stick_breaking import StickBreaking
from ..infer.result import Result
from ..models.mixture import Mixture
from ..models.mixtures.gaussian import GaussianMixture
from ..numerics import linalg

Put = Callable[[str, Any], Any]  # a site of this name and distribution; returns its value


def sample_sites(name: str, q: Q | Result) -> Any:
    """numpyro's sample sites of a prior or posterior of vijax, for use inside a model or a guide.

    Returns a value in the form of `q.sample(key)`. Sites have the names of the fields of q, such as
    "theta.weights" and "theta.components.precision" for the name "theta"; means are drawn given
    precisions. Their log density is `q.log_prob` of the value. Stick-breaking weights are drawn as
    their sticks, and then it is that of the sticks.

    Args:
        name: What names of sites begin with; "" for the names of the fields alone.
        q: A q, such as `model.prior` or `fit.q`, or a Result.

    Needs numpyro. Raises TypeError for a family that numpyro has not, ValueError for components
    that are switched off, ImportError without numpyro.

    Example:
        def mixture(x):
            theta = sample_sites("theta", model.prior)
            parts = theta["components"]
            each = dist.MultivariateNormal(parts.mean, precision_matrix=parts.precision)
            weights = dist.Categorical(theta["weights"])
            numpyro.sample("x", dist.MixtureSameFamily(weights, each), obs=x)
    """
    library = importlib.import_module("numpyro") if _distributions() else None
    assert library is not None  # `_distributions` raises without it
    return _sites(name, q.q if isinstance(q, Result) else q, library.sample)


def predictive(model: Mixture, q: Q | Result) -> Any:
    """The predictive density of one row, a mixture of `numpyro.distributions`.

    Its `log_prob` is `model.log_predictive(q, x)` in nats. After maximum likelihood it is that of
    the estimate.

    Args:
        model: A mixture of Gaussians with any covariance, of Poisson, exponential, Bernoulli or
            categorical columns.
        q: A q of it, or a Result.

    Needs numpyro. Raises TypeError for other components, ImportError without numpyro.
    """
    dist = _distributions()
    known = q.q if isinstance(q, Result) else q
    if isinstance(model, GaussianMixture):
        found = model.density(known)
        weight, each = found.weight, _student(dist, found)
    elif isinstance(model, Mixture):
        weight, components = known.weights.mean, known.components
        if known.weights.rest is not None:
            unseen = components.unseen(model.components)
            weight = jnp.append(weight, known.weights.rest)
            components = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), components, unseen)
        each = _rows(dist, components, model.improper)
        support = _fixed_support(dist, components)
        if support is not None:
            alone = [jax.tree.map(lambda a, i=i: a[i], components) for i in range(weight.size)]
            each = [_rows(dist, one, model.improper) for one in alone]
            mixing = dist.Categorical(probs=weight / jnp.sum(weight))
            return dist.MixtureGeneral(mixing, each, support=support)
    else:
        raise TypeError(f"model: expected a mixture, got a {type(model).__name__}")
    return dist.MixtureSameFamily(dist.Categorical(probs=weight / jnp.sum(weight)), each)


def _distributions() -> Any:
    """The distributions of numpyro; ImportError that says how to install it."""
    try:
        return importlib.import_module("numpyro.distributions")
    except ImportError as error:
        raise ImportError("this needs numpyro: pip install numpyro") from error


def _student(dist: Any, found: Any) -> Any:
    """Student-t or normal components of a `MixtureDensity`."""
    if found.dof is not None and found.dof.ndim == 2:  # independent columns
        sd = jnp.sqrt(jnp.diagonal(found.scale, axis1=-2, axis2=-1))
        return dist.StudentT(found.dof, found.location, sd).to_event(1)
    low = linalg.chol(found.scale)
    if found.dof is None:
        return dist.MultivariateNormal(found.location, scale_tril=low)
    return dist.MultivariateStudentT(found.dof, found.location, low)


def _fixed_support(dist: Any, family: Any) -> Any:
    """The support of rows that numpyro takes for one that depends on the component."""
    if isinstance(family, GammaExponential):
        return dist.constraints.independent(dist.constraints.positive, 1)
    if isinstance(family, DirichletCategorical):
        codes = dist.constraints.integer_interval(0, family.p.shape[-1] - 1)
        return dist.constraints.independent(codes, 1)
    return None


def _rows(dist: Any, family: Any, at_point: bool) -> Any:
    """The predictive density of rows under each component."""
    if isinstance(family, GammaPoisson) and at_point:
        return dist.Poisson(family.rate).to_event(1)
    if isinstance(family, GammaPoisson):
        return dist.GammaPoisson(family.each.shape, family.each.rate).to_event(1)
    if isinstance(family, GammaExponential) and at_point:
        return dist.Exponential(family.rate).to_event(1)
    if isinstance(family, GammaExponential):
        shape, rate = family.each.shape, family.each.rate
        lomax = dist.transforms.AffineTransform(-rate, 1.0, dist.constraints.greater_than(rate))
        return dist.TransformedDistribution(dist.Pareto(rate, shape), lomax).to_event(1)
    if isinstance(family, BetaBernoulli):
        return dist.Bernoulli(probs=family.p).to_event(1)
    if isinstance(family, DirichletCategorical):
        return dist.Categorical(probs=family.p).to_event(1)
    raise TypeError(f"model: numpyro has no predictive density of a {type(family).__name__}")


# -- sites ----------------------------------------------------------------------------------------


def _sites(name: str, q: Q, put: Put) -> Any:
    """The sites of a q, by its type."""
    dist = _distributions()
    if isinstance(q, Dirichlet):
        return put(name or "p", dist.Dirichlet(_positive(name, q.conc)))
    if isinstance(q, Gamma):
        return put(name or "value", dist.Gamma(q.shape, q.rate))
    if isinstance(q, Normal):
        return put(name or "value", dist.Normal(q.mean, q.sd))
    if isinstance(q, MultivariateNormal):
        return put(name or "value", dist.MultivariateNormal(q.mean, precision_matrix=q.precision))
    if isinstance(q, StickBreaking):
        return _sticks(name, q, put)
    if isinstance(q, WithNoise):
        return _sites(name, q.others, put)
    if isinstance(q, StudentT):
        return _sites(name, q.gaussian, put)
    if isinstance(q, Columns):
        return {own: _sites(_under(name, own), part, put) for own, part in q.parts.items()}
    if isinstance(q, Gaussian | NormalGamma):
        return _gaussian(name, q, put)
    if isinstance(q, GammaRates):
        return put(_under(name, "rate"), dist.Gamma(q.each.shape, q.each.rate).to_event(1))
    if isinstance(q, BetaProbabilities):
        return put(_under(name, "p"), dist.Beta(q.a, q.b).to_event(1))
    if isinstance(q, DirichletMultinomial):
        return put(_under(name, "p"), dist.Dirichlet(_positive(name, q.each.conc)))
    if isinstance(q, DirichletCategorical):
        conc = _positive(name, q.each.conc)
        return put(_under(name, "p"), dist.Dirichlet(conc).to_event(1))
    if isinstance(q, Product) and not isinstance(q, DirichletProcess | WeakLimit):
        parts = [field.name for field in fields(q) if not field.metadata.get("static")]  # type: ignore[arg-type]
        return {own: _sites(_under(name, own), getattr(q, own), put) for own in parts}
    kind = type(q).__name__
    what = f"a {kind}" if isinstance(q, ExponentialFamily) else f"{kind}, which is no q"
    raise TypeError(f"q: numpyro has no sites for {what}")


def _under(name: str, own: str) -> str:
    return f"{name}.{own}" if name else own


def _positive(name: str, conc: jax.Array) -> jax.Array:
    """The concentrations; ValueError for what is switched off, which numpyro cannot say."""
    if is_concrete(conc) and not bool((fetched(conc) > 0).all()):
        raise ValueError(
            f"{name or 'q'}: some entries are switched off, with concentration 0; make the model "
            "without k_max, and categorical columns of equal numbers of levels"
        )
    return conc


def _sticks(name: str, q: StickBreaking, put: Put) -> jax.Array:
    """Weights from sticks that are on; the last of a truncated process takes the rest."""
    last = q.a.shape[-1] - q.truncated
    v = put(_under(name, "v"), _distributions().Beta(q.a[..., :last], q.b[..., :last]).to_event(1))
    one = jnp.ones_like(q.a[..., :1])
    left = jnp.concatenate([one, jnp.cumprod(1.0 - v, -1)], -1)
    return jnp.concatenate([v, one], -1) * left if q.truncated else v * left[..., :last]


def _gaussian(name: str, q: Q, put: Put) -> MeanPrecision:
    """Precisions, and means given them."""
    dist = _distributions()
    at = _under(name, "precision")
    if isinstance(q, NormalWishart | TiedNormalWishart):
        precision = put(at, dist.Wishart(q.df, rate_matrix=q.scatter))
        each = precision[..., None, :, :] if isinstance(q, TiedNormalWishart) else precision
        own = dist.MultivariateNormal(q.mean, precision_matrix=q.kappa[..., None, None] * each)
    elif isinstance(q, DiagonalNormalGamma):
        precision = put(at, dist.Gamma(0.5 * q.df, 0.5 * q.scatter).to_event(1))
        own = dist.Normal(q.mean, 1.0 / jnp.sqrt(q.kappa * precision)).to_event(1)
    elif isinstance(q, SphericalNormalGamma):
        precision = put(at, dist.Gamma(q.tau.shape, q.tau.rate))
        own = dist.Normal(q.mean, 1.0 / jnp.sqrt(q.kappa * precision[..., None])).to_event(1)
    elif isinstance(q, NormalGamma):
        precision = put(at, dist.Gamma(q.tau.shape, q.tau.rate))
        own = dist.Normal(q.mean, 1.0 / jnp.sqrt(q.kappa * precision))
    else:
        raise TypeError(f"q: numpyro has no sites for a {type(q).__name__}")
    return MeanPrecision(put(_under(name, "mean"), own), precision)
