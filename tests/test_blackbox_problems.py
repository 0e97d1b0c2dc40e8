"""Problems of the black-box benchmark are what their reference draws are of.

For draws u of p: E[grad log p] = 0 and E[(u - m) grad log p] = -1, coordinate by coordinate. What
this cannot see is a change that hardly moves the posterior, such as of a vague prior.
"""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

import vijax as vx
from benchmarks.blackbox import densities, reference
from benchmarks.blackbox.ours import model_of, rows_of
from benchmarks.blackbox.problems import PROBLEMS
from benchmarks.blackbox.unconstrained import constrain, coordinates, log_density, unconstrain

WRITTEN = json.loads((reference.HERE / "reference.json").read_text())["problems"]
DRAWS = dict(np.load(reference.HERE / "draws.npz"))


def largest_z(name, **parts):
    """Of both identities over all coordinates; neighbouring draws of a chain may be correlated."""
    draws = jnp.asarray(DRAWS[name], float)
    mean = np.array([c["mean"] for c in WRITTEN[name]["coordinates"]])
    score = jax.jit(jax.vmap(jax.grad(log_density(PROBLEMS[name](), **parts))))(draws)
    errors = np.concatenate([score, (np.asarray(draws) - mean) * score + 1], 1)
    chains = (errors - errors.mean(0)).reshape(reference.CHAINS, reference.KEPT, -1)
    lag = np.mean(chains[:, 1:] * chains[:, :-1], (0, 1)) / np.mean(chains**2, (0, 1))
    num_effective = len(errors) * np.minimum((1 - lag) / (1 + lag), 1)
    return np.max(np.abs(errors.mean(0)) / errors.std(0) * np.sqrt(num_effective))


@pytest.mark.parametrize("name", PROBLEMS)
def test_draws_are_of_the_density(name):
    assert largest_z(name) < 4


@pytest.mark.parametrize(
    ("name", "part"), [("eight_schools_noncentred", "jacobian"), ("logistic_iris", "prior")]
)
def test_a_wrong_density_is_seen(name, part):
    assert largest_z(name, **{part: False}) > 4


@pytest.mark.parametrize("name", PROBLEMS)
def test_draws_are_good_enough_and_summarised(name):
    entry, draws = WRITTEN[name], DRAWS[name]
    assert entry["max_r_hat"] < 1.01
    assert min(entry["min_ess"], entry["min_ess_sd"]) > 1000
    assert entry["divergent"] == 0
    assert [c["name"] for c in entry["coordinates"]] == coordinates(PROBLEMS[name]())
    assert draws.shape == (reference.CHAINS * reference.KEPT, entry["d"])
    mean, sd = (np.array([c[key] for c in entry["coordinates"]]) for key in ("mean", "sd"))
    z = (draws.astype(float) - mean) / sd
    np.testing.assert_array_less(np.abs(z.mean(0)), 4.5 / np.sqrt(len(draws)))
    np.testing.assert_allclose(z.std(0), 1, atol=0.3)


def test_densities_are_those_of_scipy():
    x, y = np.array([0.3, 0.8, 2.5]), np.array([0.0, 3.0, 7.0])
    for ours, theirs in [
        (densities.normal(x, 0.5, 2.0), stats.norm.logpdf(x, 0.5, 2.0)),
        (densities.half_normal(x, 2.0), stats.halfnorm.logpdf(x, scale=2.0)),
        (densities.half_cauchy(x, 2.5), stats.halfcauchy.logpdf(x, scale=2.5)),
        (densities.student_t(x, 4.0, 0.5, 2.0), stats.t.logpdf(x, 4.0, 0.5, 2.0)),
        (densities.log_normal(x, 0.5, 2.0), stats.lognorm.logpdf(x, 2.0, scale=np.exp(0.5))),
        (densities.gamma(x, 2.0, 0.1), stats.gamma.logpdf(x, 2.0, scale=10.0)),
        (densities.beta(x / 3, 5.0, 4.0), stats.beta.logpdf(x / 3, 5.0, 4.0)),
        (densities.bernoulli(y[:1], x), stats.bernoulli.logpmf(0, special.expit(x))),
        (densities.binomial(y, 9.0, x), stats.binom.logpmf(y, 9, special.expit(x))),
        (densities.poisson(y, x), stats.poisson.logpmf(y, np.exp(x))),
        (
            densities.negative_binomial(y, x, 3.0),
            stats.nbinom.logpmf(y, 3, 3 / (3 + np.exp(x))),
        ),
    ]:
        np.testing.assert_allclose(ours, theirs, rtol=1e-10)


@pytest.mark.parametrize("name", ["mixture", "garch"])
def test_coordinates_go_there_and_back(name):
    problem = PROBLEMS[name]()
    u = jnp.linspace(-1.0, 1.5, len(coordinates(problem)))

    def flat(u):
        return jax.flatten_util.ravel_pytree(constrain(problem, u)[0])[0]

    params, log_det = constrain(problem, u)
    np.testing.assert_allclose(unconstrain(problem, params), u, rtol=1e-12)
    np.testing.assert_allclose(log_det, jnp.linalg.slogdet(jax.jacobian(flat)(u))[1], rtol=1e-12)


@pytest.mark.parametrize("name", ["coal", "eight_schools_noncentred"])
def test_starts_end_at_one_bound(name, key):
    """On fixed draws another rotation of the root of a covariance is another objective."""
    problem = PROBLEMS[name]()
    fit = vx.fit(model_of(problem), rows_of(problem), key=key, num_restarts=6)
    assert (fit.statuses == vx.Status.CONVERGED).all()
    assert np.ptp(fit.runs.elbo) < 0.05


def test_problems_need_neither_vijax_nor_a_peer():
    code = "import sys, benchmarks.blackbox.problems\nfor name in sys.argv[1:]:\n"
    code += "    assert name not in sys.modules, name"
    command = [sys.executable, "-c", code, "vijax", "numpyro", "blackjax", "optax", "sklearn"]
    subprocess.run(command, check=True, cwd=reference.HERE.parents[1])
