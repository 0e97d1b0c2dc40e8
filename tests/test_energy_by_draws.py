"""An energy with a log density of one normal factor: closed forms, exact updates, other methods."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import gammaln
from scipy import optimize
from scipy.special import digamma

import vijax as vx
from benchmarks.blackbox.tables import insects
from tests.test_energy import FACTORS, TIGHT, ard, close, regression_by_hand

LOG_2PI = float(np.log(2 * np.pi))
normal, gamma, free = vx.factor.normal, vx.factor.gamma, vx.factor.free


# -- a normal density: draws with exact moments give the exact updates ----------------------------


def squares(w, m, rows, weight):
    """log p(y | w, tau) with tau at its expected statistics."""
    square = jnp.sum(weight * (rows["y"] - rows["x"] @ w) ** 2)
    return 0.5 * (jnp.sum(weight) * (m["tau"]["log"] - LOG_2PI) - m["tau"]["x"] * square)


def only_ard(m, rows, weight):
    return ard(m)


BY_DRAWS = vx.Energy(FACTORS, only_ard, log_density={"w": squares})


@pytest.fixture
def rows(rng):
    x = rng.normal(size=(40, 3))
    return {"x": x, "y": x @ [2.0, -1.0, 0.0] + 0.5 * rng.normal(size=40)}


def test_a_normal_density_has_the_exact_updates(rows, key):
    fit = vx.fit(BY_DRAWS, rows, key=key, stop=TIGHT).check()
    mean, v, e_alpha, e_tau, elbo = regression_by_hand(**rows)
    close(fit.q["w"].mean, mean, 1e-8)
    close(fit.q["w"].covariance, v, 1e-8)
    close(fit.q["alpha"].mean, e_alpha, 1e-8)
    close(fit.q["tau"].mean, e_tau, 1e-8)
    close(fit.elbo, elbo, 1e-8)
    assert fit.elbo_se < 1e-9


# -- a real model: Poisson regression with automatic relevance determination ----------------------


def log_lik(w, m, rows, weight):
    eta = rows["x"] @ w
    return jnp.sum(weight * (rows["y"] * eta - jnp.exp(eta) - gammaln(rows["y"] + 1)))


SPRAYS = 6
POISSON = vx.Energy(
    {"w": free(normal((), SPRAYS + 1)), "alpha": gamma(SPRAYS + 1, shape=1.0, rate=1.0)},
    only_ard,
    log_density={"w": log_lik},
)


def counts():
    """Beall's insects, with a column of ones and one for each spray."""
    table = insects()
    x = np.column_stack([np.ones(72), np.eye(SPRAYS)[table["spray"]]])
    return {"x": x, "y": table["count"]}


@pytest.fixture(scope="module")
def fit():
    return vx.fit(POISSON, counts(), key=jax.random.key(0), stop=TIGHT, num_restarts=3).check()


@pytest.mark.long
def test_weights_are_the_best_normal_given_the_precisions(fit):
    """Given q(alpha), GaussianVI on the same conditional density; given q(w), alpha by hand."""
    rows, alpha, w = counts(), fit.q["alpha"], fit.q["w"]

    def log_prior(p):
        return 0.5 * jnp.sum(jnp.log(alpha.mean) - LOG_2PI - alpha.mean * p["w"] ** 2)

    def of_rows(p, rows):
        eta = rows["x"] @ p["w"]
        return rows["y"] * eta - jnp.exp(eta) - gammaln(rows["y"] + 1)

    model = vx.LogDensity(log_prior, of_rows, like={"w": np.zeros(SPRAYS + 1)})
    other = vx.fit(model, rows, method=vx.GaussianVI(num_draws=64), stop=TIGHT).check()
    sd = np.asarray(other.q.sd["w"])
    assert np.max(np.abs(np.asarray(w.mean - other.q.mean["w"])) / sd) < 0.01
    close(np.log(w.sd), np.log(sd), 0.01)
    shape, rate = 1.5, 1 + 0.5 * (w.mean**2 + w.variance)
    close(alpha.mean, shape / rate, 1e-6)
    # E[log p(w | alpha)] is that of precisions E[alpha] but for the entropy of alpha
    e_log = digamma(shape) - np.log(rate)
    gap = np.sum(0.5 * (e_log - np.log(alpha.mean)))
    prior = vx.Gamma.from_standard(np.ones(SPRAYS + 1), np.ones(SPRAYS + 1))
    expected = other.elbo + gap - np.sum(alpha.kl(prior))
    assert abs(fit.elbo - expected) < 4 * np.hypot(fit.elbo_se, other.elbo_se) + 1e-3


def test_the_bound_is_a_little_below_that_of_the_marginal(fit):
    """Without alpha, whose prior makes w_i a Student-t: the split of q costs some tenths."""

    def log_prior(p):  # of w_i, Gamma(1, 1) integrated out
        c = gammaln(1.5) - 0.5 * LOG_2PI
        return jnp.sum(c - 1.5 * jnp.log1p(0.5 * p["w"] ** 2))

    def of_rows(p, rows):
        eta = rows["x"] @ p["w"]
        return rows["y"] * eta - jnp.exp(eta) - gammaln(rows["y"] + 1)

    model = vx.LogDensity(log_prior, of_rows, like={"w": np.zeros(SPRAYS + 1)})
    other = vx.fit(model, counts()).check()
    assert 0 < other.elbo - fit.elbo < 1.0


def test_the_bound_on_fixed_draws_never_falls_and_is_estimated_anew(fit):
    trace = np.asarray(fit.elbo_trace)
    assert np.all(np.diff(trace[np.isfinite(trace)]) > -1e-9)
    assert 0 < fit.elbo_se < 0.01
    assert np.ptp(fit.elbos) < 1e-6  # restarts find one optimum, and its estimate
    assert abs(trace[np.isfinite(trace)][-1] - fit.elbo) < 0.1
    close(vx.elbo(POISSON, fit, counts()), fit.elbo)
    close(sum(vx.elbo_terms(POISSON, fit, counts()).values()), fit.elbo)


def test_a_fixed_point_has_no_gradient_of_the_bound_on_fixed_draws(fit):
    """So the step is the exact gradient of the function that is maximised, draws and all."""
    batch = POISSON.as_batch(counts())

    def bound(q):
        return jnp.sum(POISSON.local(q.moments(), batch).log_z) - POISSON.kl(q)

    slopes = jax.jit(jax.grad(bound))(fit.q)
    at = fit.q["w"]
    close(slopes["w"].shift, np.zeros(SPRAYS + 1), 1e-6)
    own = slopes["w"].precision
    scale = np.sqrt(np.outer(np.diag(at.precision), np.diag(at.precision)))
    close(0.5 * (own + own.T) * scale, np.zeros_like(own), 1e-6)


# -- a hierarchy of numbers: a factor with plates, in closed form ----------------------------------


def rates(w, m, y, weight):
    return jnp.sum(weight * (y * w - jnp.exp(w) - gammaln(y + 1)))


def spread(m, y, weight):
    """w_j ~ N(mu, 1 / lam)."""
    w, mu, lam = m["w"], m["mu"], m["lam"]
    square = jnp.sum(w["xx"] - 2 * w["x"] * mu["x"] + mu["xx"])
    return 0.5 * w["x"].size * (lam["log"] - LOG_2PI) - 0.5 * lam["x"] * square


def hierarchy_by_hand(y):
    """Coordinate ascent with E[exp w] = exp(m + v / 2), and its q and bound."""
    j, mu, v_mu, lam = y.size, 0.0, 1.0, 1.0
    m, s = np.log1p(y), np.full(j, -1.0)
    for _ in range(200):

        def loss(u, lam=lam, mu=mu):
            m, s = u[:j], u[j:]  # s is log sd
            own = y * m - np.exp(m + 0.5 * np.exp(2 * s))
            own += s - 0.5 * lam * ((m - mu) ** 2 + np.exp(2 * s))
            g_m = y - np.exp(m + 0.5 * np.exp(2 * s)) - lam * (m - mu)
            g_s = 1 - np.exp(2 * s) * (np.exp(m + 0.5 * np.exp(2 * s)) + lam)
            return -np.sum(own), -np.concatenate([g_m, g_s])

        u = optimize.minimize(loss, np.concatenate([m, s]), jac=True, tol=1e-13).x
        m, s = u[:j], u[j:]
        v_mu = 1 / (0.1 + j * lam)
        mu = v_mu * lam * m.sum()
        lam = (2 + j / 2) / (1 + 0.5 * np.sum((m - mu) ** 2 + np.exp(2 * s) + v_mu))
    return m, np.exp(s), mu, lam


def test_plates_of_numbers_are_those_in_closed_form(key):
    y = np.asarray([3.0, 0.0, 7.0, 12.0, 5.0])
    factors = {"w": free(normal(5)), "mu": normal(precision=0.1), "lam": gamma(shape=2.0, rate=1.0)}
    model = vx.Energy(factors, spread, log_density={"w": rates}, num_draws=4000)
    fit = vx.fit(model, y, key=key, stop=TIGHT).check()
    m, sd, mu, lam = hierarchy_by_hand(y)
    close(fit.q["w"].mean, m, 5e-3)
    close(fit.q["w"].sd, sd, 0.02)
    close([fit.q["mu"].mean, fit.q["lam"].mean], [mu, lam], 0.01)
    # the estimate is that of the closed form at the same q
    w, q = fit.q["w"], fit.q
    exact = spread(q.statistics(), y, None) - model.kl(q)
    exact += np.sum(y * w.mean - np.exp(w.mean + 0.5 * w.variance) - gammaln(y + 1))
    assert abs(fit.elbo - exact) < 4 * fit.elbo_se


# -- what is refused ------------------------------------------------------------------------------


def test_mistakes_in_a_density_are_named(rows, key, unchecked):
    def refused(match, energy=only_ard, density=squares, data=rows, **changed):
        given = {"log_density": {"w": density}} | changed
        with pytest.raises((TypeError, ValueError), match=match):
            vx.Energy(FACTORS, energy, **given).check_on(data)

    def with_square(w, m, rows, weight):
        return squares(w, m, rows, weight) - m["tau"]["x"] ** 2

    def with_wrong_sign(m, rows, weight):
        return ard(m) + m["alpha"]["x"] @ jnp.diag(m["w"]["xx"])

    refused("not affine in the statistics of 'tau'", density=with_square)
    refused("update of '(w|alpha)' is no density", energy=with_wrong_sign)
    refused("no factor, statistic or column 'w'", density=lambda w, m, rows, weight: m["w"]["x"][0])
    refused("log_density: no factor 'u' among", log_density={"u": squares})
    refused(
        "log_density: 'tau' must be a normal factor, but it is a Gamma", log_density={"tau": ard}
    )
    refused("log_density: expected a dict", log_density=squares)
    refused("log_density: expected a function", log_density={"w": 3.0})
    refused("log_density: needs all rows as one whole", local=())
    refused("num_draws: expected an even number of at least 8", num_draws=6)
    with pytest.raises(ValueError, match="SVI reads some rows at a time"):
        vx.fit(BY_DRAWS, rows, key=key, method=vx.SVI())


@pytest.mark.float32
@pytest.mark.long
def test_float32_finds_the_weights_of_the_counts(key):
    rows = {name: a.astype(np.float32) for name, a in counts().items()}
    fit = vx.fit(POISSON, rows, key=key).check()
    assert fit.elbo.dtype == np.float32
    rates = np.exp(fit.q["w"].mean[0] + fit.q["w"].mean[1:])
    close(rates, rows["y"].reshape(SPRAYS, 12).mean(1), 0.1)
