"""Products of families, one with a gauge and one without: rows of the family table."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy import stats

import vijax as vx
from vijax.models.mixture_params import MixtureParams
from vijax.models.univariate import FactorisedParams

from ..oracles import gaussian_mixture as gmm
from ..rows import Family, gammas, normals, spd


def normal_wishart_log_prob(value: Any, i: int, q: Any) -> float:
    prior = {"mean": q.mean, "kappa": q.kappa, "df": q.df, "scatter": q.scatter}
    prior = {name: np.asarray(v)[i : i + 1] for name, v in prior.items()}
    return gmm.log_prior(
        np.ones(1),
        np.asarray(value.mean)[i : i + 1],
        np.asarray(value.precision)[i : i + 1],
        prior | {"conc": np.ones(1)},
    )


def normal_wishart_point(moments: Any) -> Any:
    """The parameters that a point of a NormalWishart stands for."""
    square = moments.chol @ jnp.swapaxes(moments.chol, -1, -2)
    return vx.MeanPrecision(moments.mean, moments.scale[:, None, None] * jnp.linalg.inv(square))


def _mixture(conc: Any, **components: Any) -> MixtureParams:
    return MixtureParams(
        vx.Dirichlet.from_standard(conc), vx.NormalWishart.from_standard(**components)
    )


def _mixture_log_prob(value: Any, i: int, q: Any) -> float:
    weights = stats.dirichlet.logpdf(np.asarray(value["weights"][i]), np.asarray(q.weights.conc[i]))
    return weights + normal_wishart_log_prob(value["components"], i, q.components)


def _mixture_log_base(value: Any) -> Any:
    precision = value["components"].precision
    log_det = jnp.linalg.slogdet(precision)[1]
    return -jnp.sum(jnp.log(value["weights"])) - 0.5 * precision.shape[-1] * jnp.sum(log_det)


def _factorised(mean: Any, precision: Any, shape: Any, rate: Any) -> FactorisedParams:
    return FactorisedParams(
        vx.Normal.from_standard(mean, precision), vx.Gamma.from_standard(shape, rate)
    )


def _factorised_log_prob(value: Any, i: int, q: Any) -> float:
    mean = stats.norm.logpdf(value["mu"][i], q.mu.mean[i], q.mu.precision[i] ** -0.5)
    return mean + stats.gamma.logpdf(value["tau"][i], q.tau.shape[i], scale=1 / q.tau.rate[i])


FAMILIES = [
    Family(
        "Dirichlet x NormalWishart",
        lambda rng: _mixture(
            gammas(rng, 3, 4, least=1.2),
            mean=normals(rng, 3, 2),
            kappa=gammas(rng, 3),
            df=gammas(rng, 3, least=9.0),
            scatter=spd(rng, 3, 2),
        ),
        {
            "conc": lambda q: q.weights.conc,
            "mean": lambda q: q.components.mean,
            "kappa": lambda q: q.components.kappa,
            "df": lambda q: q.components.df,
            "scatter": lambda q: q.components.scatter,
        },
        _mixture_log_prob,
        _mixture_log_base,
        {
            "weights.mean": lambda v: v["weights"],
            "expectation().weights.conc": lambda v: jnp.log(v["weights"]),
            "components.mean": lambda v: v["components"].mean,
            "components.precision": lambda v: v["components"].precision,
        },
        lambda moments: {
            "weights": jnp.exp(moments.weights.log_p),
            "components": normal_wishart_point(moments.components),
        },
        on_simplex={"weights": True, "components": False},
        from_standard=_mixture,
        total=True,
    ),
    Family(
        "Normal x Gamma",
        lambda rng: _factorised(
            normals(rng, 3), gammas(rng, 3), gammas(rng, 3, least=1.2), gammas(rng, 3)
        ),
        {
            "mean": lambda q: q.mu.mean,
            "precision": lambda q: q.mu.precision,
            "shape": lambda q: q.tau.shape,
            "rate": lambda q: q.tau.rate,
        },
        _factorised_log_prob,
        lambda v: -jnp.sum(jnp.log(v["tau"])),
        {
            "mu.mean": lambda v: v["mu"],
            "tau.mean": lambda v: v["tau"],
            "expectation().tau.shape": lambda v: jnp.log(v["tau"]),
        },
        lambda moments: {"mu": moments.mu.mean, "tau": moments.tau.mean},
        from_standard=_factorised,
        total=True,
    ),
]

SPREADS = {
    "Dirichlet x NormalWishart": {
        "weights.sd": lambda v: v["weights"],
        "components.mean_sd": lambda v: v["components"].mean,
    },
    "Normal x Gamma": {"mu.sd": lambda v: v["mu"], "tau.sd": lambda v: v["tau"]},
}
