"""Every family and every model, one row each: the laws run over these tables."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats
from scipy.special import logsumexp

import vijax as vx
from vijax.testing.compare import leaves_close as leaves_close

from . import data
from .oracles import gaussian_mixture as gmm
from .oracles import hmm, lda
from .oracles import normal_gamma as ng
from .oracles import weights as weights_oracle
from .rows import Family, gammas, normals, spd
from .tables import discrete, gaussian, products, weights
from .tables.emissions import CATEGORICAL, DIAG, GEOMETRIC, POISSON, SPHERICAL, STUDENT, TIED

FAMILIES = [
    Family(
        "Dirichlet",
        lambda rng: vx.Dirichlet.from_standard(gammas(rng, 3, 4)),
        {"conc": lambda q: q.conc},
        lambda v, i, q: stats.dirichlet.logpdf(np.asarray(v[i]), np.asarray(q.conc[i])),
        lambda v: -jnp.sum(jnp.log(v), -1),
        {"mean": lambda v: v, "expectation().conc": lambda v: jnp.log(v)},
        lambda moments: jnp.exp(moments.log_p),
        on_simplex=True,
    ),
    Family(
        "Gamma",
        lambda rng: vx.Gamma.from_standard(gammas(rng, 3, least=1.2), gammas(rng, 3)),
        {"shape": lambda q: q.shape, "rate": lambda q: q.rate},
        lambda v, i, q: stats.gamma.logpdf(v[i], q.shape[i], scale=1 / q.rate[i]),
        lambda v: -jnp.log(v),
        {"mean": lambda v: v, "expectation().shape": lambda v: jnp.log(v)},
        lambda moments: moments.mean,
    ),
    Family(
        "Normal",
        lambda rng: vx.Normal.from_standard(normals(rng, 3), gammas(rng, 3)),
        {"mean": lambda q: q.mean, "precision": lambda q: q.precision},
        lambda v, i, q: stats.norm.logpdf(v[i], q.mean[i], q.precision[i] ** -0.5),
        lambda v: jnp.zeros_like(v),
        {"mean": lambda v: v},
        lambda moments: moments.mean,
    ),
    Family(
        "MultivariateNormal",
        lambda rng: vx.MultivariateNormal.from_standard(normals(rng, 3, 2), spd(rng, 3, 2)),
        {"mean": lambda q: q.mean, "precision": lambda q: q.precision},
        lambda v, i, q: stats.multivariate_normal.logpdf(
            np.asarray(v[i]), np.asarray(q.mean[i]), np.linalg.inv(np.asarray(q.precision[i]))
        ),
        lambda v: jnp.zeros(v.shape[:-1]),
        {"mean": lambda v: v},
        lambda moments: moments.mean,
    ),
    Family(
        "NormalGamma",
        lambda rng: vx.NormalGamma.from_standard(
            normals(rng, 3), gammas(rng, 3), gammas(rng, 3, least=4.5), gammas(rng, 3)
        ),
        {
            "mean": lambda q: q.mean,
            "kappa": lambda q: q.kappa,
            "shape": lambda q: q.shape,
            "rate": lambda q: q.rate,
        },
        lambda v, i, q: ng.log_prob(
            v.mean[i], v.precision[i], q.mean[i], q.kappa[i], q.shape[i], q.rate[i]
        ),
        lambda v: -0.5 * jnp.log(v.precision),
        {
            "mean": lambda v: v.mean,
            "precision": lambda v: v.precision,
            "variance": lambda v: 1 / v.precision,
        },
        lambda moments: vx.MeanPrecision(moments.origin + moments.shift, moments.precision),
    ),
    Family(
        "NormalWishart",
        lambda rng: vx.NormalWishart.from_standard(
            normals(rng, 3, 2), gammas(rng, 3), gammas(rng, 3, least=9.0), spd(rng, 3, 2)
        ),
        {
            "mean": lambda q: q.mean,
            "kappa": lambda q: q.kappa,
            "df": lambda q: q.df,
            "scatter": lambda q: q.scatter,
        },
        products.normal_wishart_log_prob,
        lambda v: -0.5 * v.mean.shape[-1] * jnp.linalg.slogdet(v.precision)[1],
        {
            "mean": lambda v: v.mean,
            "precision": lambda v: v.precision,
            "covariance": lambda v: jnp.linalg.inv(v.precision),
        },
        products.normal_wishart_point,
    ),
]

FAMILIES += gaussian.FAMILIES + discrete.FAMILIES + weights.FAMILIES + products.FAMILIES

# accessor of a posterior standard deviation: whose draws' standard deviation it is
SPREADS = {
    "Dirichlet": {"sd": lambda v: v},
    "Gamma": {"sd": lambda v: v},
    "Normal": {"sd": lambda v: v},
    "MultivariateNormal": {"sd": lambda v: v},
    "NormalGamma": {
        "mean_sd": lambda v: v.mean,
        "precision_sd": lambda v: v.precision,
        "variance_sd": lambda v: 1 / v.precision,
    },
    "NormalWishart": {
        "mean_sd": lambda v: v.mean,
        "precision_sd": lambda v: v.precision,
        "covariance_sd": lambda v: jnp.linalg.inv(v.precision),
    },
}


SPREADS |= gaussian.SPREADS | discrete.SPREADS | weights.SPREADS | products.SPREADS
FAMILIES = [dataclasses.replace(family, spreads=SPREADS[family.name]) for family in FAMILIES]


@dataclasses.dataclass(frozen=True)
class Case:
    """A row of the model table.

    `data(rng)` gives rows, `model(rng, x)` a model with a proper prior, `q(rng, model, x)` an
    arbitrary q (not a fixed point), `log_evidence(x, model)` an exact or upper value of log p(x)
    for few rows. `rescale(model, scale, offset)` is the model for scale * x + offset, where
    rows have units. `methods` says that drivers are tried here, and not in a file of the model's.
    """

    name: str
    data: Callable[[np.random.Generator], Any]
    model: Callable[[np.random.Generator, Any], Any]
    q: Callable[[np.random.Generator, Any, Any], Any]
    log_evidence: Callable[[Any, Any], float]
    rescale: Callable[[Any, float, float], Any] | None
    mixture: bool = True
    exact: bool = False
    methods: bool = True


def rows_of(x: Any, weight: Any = None) -> vx.Batch:
    """The rows as a Batch; those of an array (n, t, d) are sequences."""
    return (vx.Batch.sequences if x.ndim == 3 else vx.Batch.of)(x, weight)


def _mixture_q(rng: np.random.Generator, model: Any, x: Any) -> Any:
    k = model.num_components
    on = np.asarray(model.active)
    resp = rng.dirichlet(np.ones(k), size=x.shape[:-1] if x.ndim == 3 else len(x)) * on
    resp = jnp.asarray(resp / resp.sum(-1, keepdims=True))
    return _m_step(model, rows_of(x), resp)


@jax.jit
def _m_step(model: Any, batch: Any, resp: Any) -> Any:
    return model.update(model.prior, model.assign(model.prior, batch, resp))


def _mixture_evidence(x: Any, model: Any) -> float:
    on = np.asarray(model.active)
    prior = {name: value[on] for name, value in data.params_of(model.prior).items()}
    return gmm.log_evidence(np.asarray(x), prior)


def _rescale_mixture(model: Any, scale: float, offset: float) -> Any:
    prior = data.params_of(model.prior)
    k = int(np.asarray(model.active).sum())
    shown = {name: value[:k] for name, value in prior.items()}
    shown["mean"] = shown["mean"] * scale + offset
    shown["scatter"] = shown["scatter"] * scale**2
    return vx.GaussianMixture.with_prior(k, **shown, k_max=model.num_components)


def _univariate_prior(model: Any) -> tuple[float, ...]:
    p = model.prior
    return tuple(float(v) for v in (p.mean, p.kappa, p.shape, p.rate))


def _rescale_univariate(model: Any, scale: float, offset: float) -> Any:
    mean, kappa, shape, rate = _univariate_prior(model)
    return type(model).with_prior(
        mean=mean * scale + offset, kappa=kappa, shape=shape, rate=rate * scale**2
    )


def _exact_q(rng: np.random.Generator, model: Any, x: Any) -> Any:
    return vx.NormalGamma.from_standard(*(jnp.asarray(v) for v in (0.5, 3.0, 4.0, 2.0)))


def _factorised_q(rng: np.random.Generator, model: Any, x: Any) -> Any:
    one = vx.FactorisedGaussian.with_prior(mean=0.3, kappa=2.0, shape=3.0, rate=1.5)
    return one.init(None, vx.Batch.of(x))


def _mixture_case(name: str, build: Callable[[np.random.Generator, Any], Any]) -> Case:
    return Case(
        name,
        lambda rng: data.clusters(rng, n=60, d=2, k=2)[0],
        build,
        _mixture_q,
        _mixture_evidence,
        _rescale_mixture,
    )


def _univariate_case(name: str, kind: Any, q: Any, exact: bool) -> Case:
    return Case(
        name,
        lambda rng: rng.normal(1.0, 2.0, size=60),
        lambda rng, x: kind.with_prior(mean=0.5, kappa=0.7, shape=2.0, rate=3.0),
        q,
        lambda x, model: ng.log_evidence(np.asarray(x), *_univariate_prior(model)),
        _rescale_univariate,
        mixture=False,
        exact=exact,
    )


def _wide_evidence(emission: Any) -> Callable[[Any, Any], float]:
    """log p(x) by adding up all k^n assignments; no bound where that is not closed."""

    def log_evidence(x: Any, model: Any) -> float:
        if emission.evidence is None:
            return np.inf
        k, conc = model.num_components, np.asarray(model.weights.conc)
        terms = []
        for z in itertools.product(range(k), repeat=len(x)):
            z = np.array(z)
            counts = np.bincount(z, minlength=k)
            term = weights_oracle.log_prob_dirichlet(counts, conc)
            terms.append(term + emission.evidence(np.asarray(x), z, model.components))
        return float(logsumexp(terms))

    return log_evidence


def _rescale_components(model: Any, scale: float, offset: float) -> Any:
    c = model.components
    kappa, df = (v if v.ndim < 2 else v[:, 0] for v in (c.kappa, c.df))
    moved = type(c).from_standard(c.mean * scale + offset, kappa, df, c.scatter * scale**2)
    return type(model)(model.labels, moved)


def _emission_case(emission: Any, gaussian: bool = False) -> Case:
    return Case(
        f"Mixture({emission.name})",
        lambda rng: emission.rows(rng, 60),
        lambda rng, x: vx.Mixture(
            vx.Dirichlet.from_standard([0.5, 1.0, 2.0]), emission.prior(rng, 3)
        ),
        _mixture_q,
        _wide_evidence(emission),
        _rescale_components if gaussian else None,
    )


def _chain_evidence(emission: Any) -> Callable[[Any, Any], float]:
    """log p(x) of sequences by adding up all paths."""

    def log_evidence(x: Any, model: Any) -> float:
        conc = (np.asarray(d.conc) for d in (model.labels.initial, model.labels.transitions))
        steps = np.concatenate(np.asarray(x))
        lengths = np.full(len(x), x.shape[1])

        def of_path(z: Any) -> float:
            return emission.evidence(steps, z, model.components)

        return hmm.log_evidence(lengths, *conc, of_path)

    return log_evidence


def _hmm_case(emission: Any) -> Case:
    return Case(
        f"HMM({emission.name})",
        lambda rng: emission.rows(rng, 120).reshape(60, 2, -1),
        lambda rng, x: vx.HMM(
            vx.Chain.from_standard([0.5, 2.0], gammas(rng, 2, 2)), emission.prior(rng, 2)
        ),
        _mixture_q,
        _chain_evidence(emission),
        None,
        methods=False,
    )


def _topics_evidence(x: Any, model: Any) -> float:
    """log p(words) of documents by adding up all assignments of their tokens."""
    conc = (np.asarray(a.conc) for a in (model.labels, model.components.each))
    return float(lda.log_evidence(lda.documents_of(np.asarray(x)), *conc))


def _topics_case() -> Case:
    return Case(
        "LDA",
        lambda rng: rng.multinomial(2, np.ones(4) / 4, size=60).astype(float),
        lambda rng, x: vx.LDA(
            vx.Admixture.from_standard([0.5, 2.0], inner=50, tol=1e-13),
            vx.DirichletMultinomial.from_standard(gammas(rng, 2, 4)),
        ),
        _mixture_q,
        _topics_evidence,
        None,
        methods=False,
    )


CASES = [
    _mixture_case(
        "GaussianMixture", lambda rng, x: data.mixture_of(data.random_prior(rng, k=3, d=2))
    ),
    _mixture_case("GaussianMixture.from_data", lambda rng, x: vx.GaussianMixture.from_data(x, 3)),
    _mixture_case(
        "GaussianMixture(k_max)", lambda rng, x: vx.GaussianMixture.from_data(x, 2, k_max=3)
    ),
    *(_emission_case(e, gaussian=True) for e in (TIED, DIAG, SPHERICAL)),
    *(_emission_case(e) for e in (POISSON, GEOMETRIC, CATEGORICAL, STUDENT)),
    _hmm_case(POISSON),
    _topics_case(),
    _univariate_case("NormalGammaExact", vx.NormalGammaExact, _exact_q, exact=True),
    _univariate_case("FactorisedGaussian", vx.FactorisedGaussian, _factorised_q, exact=False),
]


def names(rows: list[Any]) -> list[str]:
    return [row.name for row in rows]
