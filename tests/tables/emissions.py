"""Component families for the exactness table, each with what SciPy and enumeration say of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats
from scipy.special import gammaln

import vijax as vx
from vijax.families.compound.columns import Columns
from vijax.families.compound.noise import WithNoise
from vijax.families.compound.student_t import student_t
from vijax.families.gaussian.diagonal_normal_gamma import DiagonalNormalGamma
from vijax.families.gaussian.spherical_normal_gamma import SphericalNormalGamma
from vijax.families.gaussian.tied_normal_wishart import TiedNormalWishart
from vijax.families.independent.beta_bernoulli import BetaBernoulli
from vijax.families.independent.beta_geometric import BetaGeometric
from vijax.families.independent.dirichlet_categorical import DirichletCategorical
from vijax.families.independent.dirichlet_multinomial import DirichletMultinomial
from vijax.families.independent.gamma_exponential import GammaExponential
from vijax.families.independent.gamma_poisson import GammaPoisson

from ..oracles import discrete
from ..oracles import gaussian_mixture as gmm
from ..oracles import gaussian_structures as structures
from ..rows import gammas, normals, spd

D, CATEGORIES = 2, 3
BOX = np.array([[-15.0, -12.0], [15.0, 20.0]])  # holds all rows


@dataclasses.dataclass(frozen=True)
class Emission:
    """A row of the table.

    `rows(rng, n)` are data, `prior(rng, k)` an arbitrary proper prior of k components (noise
    included). `log_lik(x, draws)` is the log density (s, n, k) of rows under drawn parameters, by
    the textbook; `evidence(x, z, prior)` the exact log p(x | z). None where it has none in closed
    form: the Student-t, whose rows' precisions are latent too.
    """

    name: str
    rows: Callable[[np.random.Generator, int], Any]
    prior: Callable[[np.random.Generator, int], Any]
    log_lik: Callable[[Any, Any], Any]
    evidence: Callable[[Any, Any, Any], float] | None


def _gaussian_rows(rng: np.random.Generator, n: int) -> Any:
    return rng.normal(size=(n, D)) @ np.array([[1.0, 0.4], [0.0, 0.7]]) + 2.0 * rng.integers(
        2, size=(n, 1)
    )


def _normal(x: Any, mean: Any, precision: Any) -> Any:
    """(s, n, k) from mean (s, k, d) and precision (s, k, d, d)."""
    z = x[:, None] - mean[:, None]
    square = np.einsum("snki,skij,snkj->snk", z, precision, z)
    return 0.5 * (np.linalg.slogdet(precision)[1][:, None] - square - D * np.log(2 * np.pi))


def _full(x: Any, v: Any) -> Any:
    return _normal(x, v.mean, v.precision)


def _tied(x: Any, v: Any) -> Any:
    k = v.mean.shape[1]
    return _normal(x, v.mean, np.repeat(v.precision[:, None], k, 1))


def _diag(x: Any, v: Any) -> Any:
    return _normal(x, v.mean, v.precision[..., None] * np.eye(D))


def _spherical(x: Any, v: Any) -> Any:
    return _normal(x, v.mean, v.precision[..., None, None] * np.eye(D))


def _parts(x: Any, z: Any, k: int) -> Any:
    return [(j, x[z == j]) for j in range(k)]


def _wishart_evidence(x: Any, z: Any, q: Any) -> float:
    names = ("mean", "kappa", "df", "scatter")
    prior = {name: np.asarray(getattr(q, name)) for name in names}
    return sum(gmm.log_evidence_of_one(own, prior, j) for j, own in _parts(x, z, len(q.kappa)))


def _tied_evidence(x: Any, z: Any, q: Any) -> float:
    mean, kappa, df, scatter = (np.asarray(v) for v in (q.mean, q.kappa, q.df, q.scatter))
    k, total, means, kappas = len(kappa), scatter, mean, kappa.copy()
    for j, own in _parts(x, z, k):
        n = len(own)
        if not n:
            continue
        move = own.mean(0) - mean[j]
        within = (own - own.mean(0)).T @ (own - own.mean(0))
        total = total + within + kappa[j] * n / (kappa[j] + n) * np.outer(move, move)
        kappas[j] += n
    after = structures.tied_log_normalizer(means, kappas, df + len(x), total)
    before = structures.tied_log_normalizer(mean, kappa, df, scatter)
    return after - before - 0.5 * x.size * np.log(2 * np.pi)


def _normal_gamma_evidence(x: Any, mean: Any, kappa: Any, df: Any, scatter: Any) -> float:
    """Columns with a precision in common; all of shape (d,) but df and scatter."""
    n = len(x)
    if not n:
        return 0.0
    move = x.mean(0) - mean
    within = ((x - x.mean(0)) ** 2).sum(0) + kappa * n / (kappa + n) * move**2
    after = structures.gamma_log_normalizer(kappa + n, df + x.size, scatter + within.sum())
    before = structures.gamma_log_normalizer(kappa, df, scatter)
    return after - before - 0.5 * x.size * np.log(2 * np.pi)


def _diag_evidence(x: Any, z: Any, q: Any) -> float:
    mean, kappa, df, scatter = (np.asarray(v) for v in (q.mean, q.kappa, q.df, q.scatter))
    return sum(
        _normal_gamma_evidence(own[:, [c]], mean[j, [c]], kappa[j, [c]], df[j, c], scatter[j, c])
        for j, own in _parts(x, z, len(mean))
        for c in range(D)
    )


def _spherical_evidence(x: Any, z: Any, q: Any) -> float:
    mean, kappa, df, scatter = (np.asarray(v) for v in (q.mean, q.kappa, q.df, q.scatter))
    return sum(
        _normal_gamma_evidence(own, mean[j], kappa[j], df[j], scatter[j])
        for j, own in _parts(x, z, len(mean))
    )


def _of_each(evidence: Any, *names: str) -> Any:
    """From an evidence of one component's rows and its prior, in the order of `names`."""

    def total(x: Any, z: Any, q: Any) -> float:
        prior = [np.asarray(_follow(q, name)) for name in names]
        return sum(
            evidence(own, np.ones(len(own)), *(p[j] for p in prior))
            for j, own in _parts(x, z, len(prior[0]))
        )

    return total


def _follow(q: Any, path: str) -> Any:
    for name in path.split("."):
        q = getattr(q, name)
    return q


def _poisson(x: Any, rate: Any) -> Any:
    return stats.poisson.logpmf(x[:, None], rate[:, None]).sum(-1)


def _exponential(x: Any, rate: Any) -> Any:
    return stats.expon.logpdf(x[:, None], scale=1 / rate[:, None]).sum(-1)


def _bernoulli(x: Any, p: Any) -> Any:
    return stats.bernoulli.logpmf(x[:, None], p[:, None]).sum(-1)


def _categorical(x: Any, p: Any) -> Any:
    hot = np.eye(p.shape[-1])[x.astype(int)]
    return np.einsum("ndc,skdc->snk", hot, np.log(p))


def _multinomial(x: Any, p: Any) -> Any:
    ways = gammaln(x.sum(1) + 1) - gammaln(x + 1).sum(1)
    return ways[:, None] + np.einsum("nc,skc->snk", x, np.log(p))


def _mixed_rows(rng: np.random.Generator, n: int) -> Any:
    return {
        "size": rng.normal(size=(n, D)),
        "visits": rng.poisson(3.0, size=n).astype(float),
        "kind": rng.integers(CATEGORIES, size=n).astype(float),
    }


def _mixed_prior(rng: np.random.Generator, k: int) -> Any:
    return Columns(
        {
            "size": FULL.prior(rng, k),
            "visits": GammaPoisson.from_standard(gammas(rng, k, 1), gammas(rng, k, 1)),
            "kind": DirichletCategorical.from_standard(gammas(rng, k, 1, CATEGORIES)),
        }
    )


def _mixed(x: Any, v: Any) -> Any:
    counts = _poisson(x["visits"][:, None], v["visits"])
    return _full(x["size"], v["size"]) + counts + _categorical(x["kind"][:, None], v["kind"])


def _mixed_evidence(x: Any, z: Any, q: Any) -> float:
    size = _wishart_evidence(x["size"], z, q.parts["size"])
    visits = POISSON.evidence(x["visits"][:, None], z, q.parts["visits"])
    return size + visits + CATEGORICAL.evidence(x["kind"][:, None], z, q.parts["kind"])


def _shared(x: Any, v: Any) -> Any:
    return _tied(x["size"], v["size"]) + _poisson(x["visits"][:, None], v["visits"])


def _shared_evidence(x: Any, z: Any, q: Any) -> float:
    visits = POISSON.evidence(x["visits"][:, None], z, q.parts["visits"])
    return _tied_evidence(x["size"], z, q.parts["size"]) + visits


def _noise(x: Any, v: Any) -> Any:
    box = np.full((len(v.mean), len(x), 1), -np.log(BOX[1] - BOX[0]).sum())
    return np.concatenate([_full(x, v), box], -1)


def _noise_evidence(x: Any, z: Any, q: Any) -> float:
    k = len(q.others.kappa)
    usual = z < k
    return (
        _wishart_evidence(x[usual], z[usual], q.others)
        - np.log(BOX[1] - BOX[0]).sum() * (~usual).sum()
    )


FULL = Emission(
    "full",
    _gaussian_rows,
    lambda rng, k: vx.NormalWishart.from_standard(
        normals(rng, k, D), gammas(rng, k), gammas(rng, k, least=D + 0.2), spd(rng, k, D)
    ),
    _full,
    _wishart_evidence,
)
TIED = Emission(
    "tied",
    _gaussian_rows,
    lambda rng, k: TiedNormalWishart.from_standard(
        normals(rng, k, D), gammas(rng, k), gammas(rng, 1, least=D + 0.2)[0], spd(rng, 1, D)[0]
    ),
    _tied,
    _tied_evidence,
)
DIAG = Emission(
    "diag",
    _gaussian_rows,
    lambda rng, k: DiagonalNormalGamma.from_standard(
        normals(rng, k, D), gammas(rng, k), gammas(rng, k), gammas(rng, k, D)
    ),
    _diag,
    _diag_evidence,
)
SPHERICAL = Emission(
    "spherical",
    _gaussian_rows,
    lambda rng, k: SphericalNormalGamma.from_standard(
        normals(rng, k, D), gammas(rng, k), gammas(rng, k), gammas(rng, k)
    ),
    _spherical,
    _spherical_evidence,
)
POISSON = Emission(
    "poisson",
    lambda rng, n: rng.poisson(rng.choice([2.0, 6.0], size=(n, 1)), size=(n, D)).astype(float),
    lambda rng, k: GammaPoisson.from_standard(gammas(rng, k, D), gammas(rng, k, D)),
    _poisson,
    _of_each(discrete.poisson, "each.shape", "each.rate"),
)
EXPONENTIAL = Emission(
    "exponential",
    lambda rng, n: rng.exponential(rng.choice([0.5, 3.0], size=(n, 1)), size=(n, D)),
    lambda rng, k: GammaExponential.from_standard(gammas(rng, k, D), gammas(rng, k, D)),
    _exponential,
    _of_each(discrete.exponential, "each.shape", "each.rate"),
)
BERNOULLI = Emission(
    "bernoulli",
    lambda rng, n: rng.integers(2, size=(n, D)).astype(float),
    lambda rng, k: BetaBernoulli.from_standard(gammas(rng, k, D), gammas(rng, k, D)),
    _bernoulli,
    _of_each(discrete.bernoulli, "a", "b"),
)
GEOMETRIC = Emission(
    "geometric",
    lambda rng, n: rng.geometric(rng.choice([0.2, 0.6], size=(n, 1)), size=(n, D)) - 1.0,
    lambda rng, k: BetaGeometric.from_standard(gammas(rng, k, D), gammas(rng, k, D)),
    lambda x, p: stats.geom.logpmf(x[:, None] + 1, p[:, None]).sum(-1),
    _of_each(discrete.geometric, "a", "b"),
)
CATEGORICAL = Emission(
    "categorical",
    lambda rng, n: rng.integers(CATEGORIES, size=(n, D)).astype(float),
    lambda rng, k: DirichletCategorical.from_standard(gammas(rng, k, D, CATEGORIES)),
    _categorical,
    _of_each(discrete.categorical, "each.conc"),
)
MULTINOMIAL = Emission(
    "multinomial",
    lambda rng, n: rng.multinomial(7, [0.2, 0.5, 0.3], size=n).astype(float),
    lambda rng, k: DirichletMultinomial.from_standard(gammas(rng, k, CATEGORIES)),
    _multinomial,
    _of_each(discrete.multinomial, "each.conc"),
)
MIXED = Emission("mixed", _mixed_rows, _mixed_prior, _mixed, _mixed_evidence)
SHARED = Emission(
    "mixed, tied",
    lambda rng, n: {name: v for name, v in _mixed_rows(rng, n).items() if name != "kind"},
    lambda rng, k: Columns(
        {
            "size": TIED.prior(rng, k),
            "visits": GammaPoisson.from_standard(gammas(rng, k, 1), gammas(rng, k, 1)),
        }
    ),
    _shared,
    _shared_evidence,
)
NOISE = Emission(
    "noise",
    _gaussian_rows,
    lambda rng, k: WithNoise(FULL.prior(rng, k - 1), *map(jnp.asarray, BOX)),
    _noise,
    _noise_evidence,
)
STUDENT = Emission(
    "student",
    _gaussian_rows,
    lambda rng, k: student_t(FULL.prior(rng, k), gammas(rng, k, least=1.5), learn=False),
    _full,
    None,
)
EMISSIONS = [
    FULL, TIED, DIAG, SPHERICAL, POISSON, EXPONENTIAL, BERNOULLI, GEOMETRIC, CATEGORICAL,
    MULTINOMIAL, MIXED, SHARED, NOISE, STUDENT,
]  # fmt: skip


def take(x: Any, rows: Any) -> Any:
    return jax.tree.map(lambda a: a[rows], x)
