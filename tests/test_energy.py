"""Models of one's own: updates by hand, exact evidence, the library's own, and what is refused."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import gammaln
from scipy import integrate, stats
from scipy.special import digamma, multigammaln

import vijax as vx
from vijax._pytree import pytree, replace
from vijax.families.categorical import Categorical

from .data import cast

LOG_2PI = float(np.log(2 * np.pi))
TIGHT = vx.Stop(tol=1e-18, max_iter=5000)
normal, gamma, free = vx.factor.normal, vx.factor.gamma, vx.factor.free


def close(got, expected, tol=1e-9):
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=tol, atol=tol)


def same_q(a, b, tol=1e-9):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        close(x, y, tol)


# -- linear regression with automatic relevance determination -------------------------------------


def square_of(m, rows, weight):
    """sum_n weight_n E[(y_n - x_n . w)^2]."""
    x, y, w = rows["x"], rows["y"], m["w"]
    each = y**2 - 2 * y * (x @ w["x"]) + jnp.einsum("na,ab,nb->n", x, w["xx"], x)
    return jnp.sum(weight * each)


def log_lik(m, rows, weight):
    tau = m["tau"]
    return 0.5 * jnp.sum(weight) * (tau["log"] - LOG_2PI) - 0.5 * tau["x"] * square_of(
        m, rows, weight
    )


def ard(m):
    w, alpha = m["w"], m["alpha"]
    quadratic = jnp.sum(alpha["x"] * jnp.diagonal(w["xx"]))
    return 0.5 * jnp.sum(alpha["log"] - LOG_2PI) - 0.5 * quadratic


def whole(m, rows, weight):
    return log_lik(m, rows, weight) + ard(m)


D = 3
FACTORS = {
    "w": free(normal((), D)),
    "alpha": gamma(D, shape=1e-2, rate=1e-2),
    "tau": gamma(shape=1.0, rate=1.0),
}
REGRESSION = vx.Energy(FACTORS, whole)
BY_ROWS = vx.Energy(FACTORS, log_lik, prior=ard, local=(), blocks=(("w", "alpha"), ("tau",)))


@pytest.fixture
def rows(rng):
    x = rng.normal(size=(40, D))
    return {"x": x, "y": x @ [2.0, -1.0, 0.0] + 0.5 * rng.normal(size=40)}


def regression_by_hand(x, y):
    """Coordinate ascent (Drugowitsch 2013, with a precision of its own), and its bound."""
    n, d = x.shape
    e_alpha, e_tau = np.ones(d), 1.0
    for _ in range(2000):
        v = np.linalg.inv(e_tau * x.T @ x + np.diag(e_alpha))
        mean = e_tau * v @ x.T @ y
        square = v + np.outer(mean, mean)
        b_alpha = 1e-2 + 0.5 * np.diag(square)
        e_alpha = (1e-2 + 0.5) / b_alpha
        rate = 1 + 0.5 * (y @ y - 2 * mean @ x.T @ y + np.sum(x.T @ x * square))
        e_tau = (1 + n / 2) / rate
    log_tau = digamma(1 + n / 2) - np.log(rate)
    log_alpha = digamma(0.51) - np.log(b_alpha)
    prior, q = stats.gamma(1.0, scale=1.0), stats.gamma(1 + n / 2, scale=1 / rate)
    elbo = 0.5 * n * (log_tau - LOG_2PI) - e_tau * (rate - 1)
    elbo += 0.5 * np.sum(log_alpha - LOG_2PI - e_alpha * np.diag(square))
    elbo += stats.multivariate_normal(mean, v).entropy() + q.entropy() - e_tau
    assert prior.logpdf(2.0) == -2.0  # so that E[log p(tau)] is -E[tau]
    alpha0 = (1e-2 - 1) * log_alpha - 1e-2 * e_alpha + 1e-2 * np.log(1e-2) - gammaln(1e-2)
    elbo += np.sum(alpha0 + stats.gamma(0.51, scale=1 / b_alpha).entropy())
    return mean, v, e_alpha, e_tau, elbo


@pytest.mark.parametrize("model", [REGRESSION, BY_ROWS], ids=["whole", "by rows"])
def test_regression_is_that_by_hand(model, rows, key):
    fit = vx.fit(model, rows, key=key, stop=TIGHT).check()
    mean, v, e_alpha, e_tau, elbo = regression_by_hand(**rows)
    close(fit.q["w"].mean, mean)
    close(fit.q["w"].covariance, v)
    close(fit.q["alpha"].mean, e_alpha, 1e-8)
    close(fit.q["tau"].mean, e_tau)
    close(fit.elbo, elbo)
    assert np.all(np.diff(fit.elbo_trace[: int(fit.n_iter)]) > -1e-9)
    close(sum(vx.elbo_terms(model, fit, rows).values()), fit.elbo)
    assert "tau" in fit.summary()


def test_regression_in_chunks_is_that_in_memory(rows, key):
    """Blocks that take turns follow each other exactly, whatever the rows' chunks."""
    fit = vx.fit(BY_ROWS, rows, key=key, stop=TIGHT)
    halves = [{name: a[half] for name, a in rows.items()} for half in (slice(20), slice(20, 40))]
    chunks = vx.Chunks.of(lambda: iter(halves))
    close(vx.fit(BY_ROWS, chunks, init=fit, key=key, stop=TIGHT).elbo, fit.elbo)


# -- a hierarchy ----------------------------------------------------------------------------------


def hierarchy(m, rows, weight):
    """y_jn ~ N(mu_j, 1 / tau), mu_j ~ N(mu0, 1 / lam)."""
    mu, mu0, tau, lam = (m[name] for name in ("mu", "mu0", "tau", "lam"))
    square = jnp.sum(rows**2 - 2 * rows * mu["x"][:, None] + mu["xx"][:, None])
    spread = jnp.sum(mu["xx"] - 2 * mu["x"] * mu0["x"] + mu0["xx"])
    lik = 0.5 * rows.size * (tau["log"] - LOG_2PI) - 0.5 * tau["x"] * square
    return lik + 0.5 * rows.shape[0] * (lam["log"] - LOG_2PI) - 0.5 * lam["x"] * spread


def test_hierarchy_is_that_by_hand(rng, key):
    j, n = 6, 5
    y = rng.normal(3, 1, (j, 1)) + rng.normal(size=(j, n))
    ones = {"shape": 1.0, "rate": 1.0}
    factors = {"mu": free(normal(j)), "mu0": normal(precision=0.01)}
    model = vx.Energy({**factors, "tau": gamma(**ones), "lam": gamma(**ones)}, hierarchy)
    fit = vx.fit(model, y, key=key, stop=TIGHT).check()
    mean0, var0, tau, lam = 0.0, 1.0, 1.0, 1.0
    for _ in range(2000):
        var = 1 / (n * tau + lam)
        mean = var * (tau * y.sum(1) + lam * mean0)
        var0 = 1 / (0.01 + j * lam)
        mean0 = var0 * lam * mean.sum()
        tau = (1 + j * n / 2) / (1 + 0.5 * (np.sum((y - mean[:, None]) ** 2) + j * n * var))
        lam = (1 + j / 2) / (1 + 0.5 * (np.sum((mean - mean0) ** 2) + j * (var + var0)))
    q = fit.q
    close(q["mu"].mean, mean)
    close(q["mu"].variance, np.full(j, var))
    close([q["mu0"].mean, q["mu0"].variance], [mean0, var0])
    close([q["tau"].mean, q["lam"].mean], [tau, lam])


# -- a mixture with local labels ------------------------------------------------------------------


def poisson(m, x, weight):
    z, rate, pi = m["z"]["one"], m["rate"], m["pi"]["log"]
    log_p = x[:, None] * rate["log"] - rate["x"] - gammaln(x + 1)[:, None]
    return jnp.sum(weight[:, None] * z * (log_p + pi))


MIXTURE = vx.Energy(
    {
        "pi": vx.factor.dirichlet((), 3, conc=2.0),
        "rate": gamma(3, shape=1.0, rate=0.2),
        "z": vx.factor.categorical((), 3),
    },
    poisson,
    local=("z",),
)
LIBRARY = vx.PoissonMixture.with_prior(3, conc=jnp.full(3, 2.0), shape=1.0, rate=0.2)


@pytest.fixture
def counts(rng):
    return np.concatenate([rng.poisson(r, 40) for r in (2, 15, 60)]).astype(float)


@pytest.fixture
def mixture(counts, key):
    return vx.fit(MIXTURE, counts, key=key, num_restarts=4, stop=TIGHT).check()


def test_mixture_is_the_librarys(mixture, counts):
    resp = MIXTURE.row_posterior(mixture, counts)["z"].probs
    expected = vx.fit(LIBRARY, counts[:, None], init=np.asarray(resp), stop=TIGHT).check()
    close(mixture.elbo, expected.elbo)
    order = np.argsort(mixture.q["rate"].mean), np.argsort(expected.q.components.mean[:, 0])
    close(mixture.q["rate"].mean[order[0]], expected.q.components.mean[order[1], 0])
    close(mixture.q["pi"].conc[order[0]], expected.q.weights.conc[order[1]])
    close(vx.elbo(MIXTURE, mixture, counts), mixture.elbo)


def test_bound_of_a_mixture_by_hand(mixture, counts):
    """E[log p] - E[log q], term by term."""
    q, n = mixture.q, len(counts)
    z = np.asarray(MIXTURE.row_posterior(q, counts)["z"].probs)
    assert z.shape == (n, 3)
    log_pi = digamma(q["pi"].conc) - digamma(q["pi"].conc.sum())
    shape, rate = np.asarray(q["rate"].shape), np.asarray(q["rate"].rate)
    mean, log_rate = shape / rate, digamma(shape) - np.log(rate)
    log_p = counts[:, None] * log_rate - mean - np.asarray(gammaln(counts + 1))[:, None]
    elbo = np.sum(z * (log_p + log_pi - np.log(np.maximum(z, 1e-300))))
    elbo += np.sum(log_pi) + gammaln(6.0) - stats.dirichlet.entropy(np.asarray(q["pi"].conc)) * -1
    elbo += np.sum(np.log(0.2) - 0.2 * mean + stats.gamma.entropy(shape, scale=1 / rate))
    close(mixture.elbo, elbo)


def test_mixture_by_every_driver(mixture, counts, key):
    """Chunks, blocks, minibatches, weights and many data sets: one bound."""
    start = {"init": mixture.q, "key": key, "stop": TIGHT}
    for data, method in [(vx.Chunks.of(counts, chunk=32), vx.CAVI()), (counts, vx.Memoized(3))]:
        close(vx.fit(MIXTURE, data, method=method, **start).elbo, mixture.elbo)
    short = start | {"stop": vx.Stop(max_iter=60)}
    stochastic = vx.fit(MIXTURE, counts, method=vx.SVI(batch_size=30), **short)
    assert mixture.elbo - 5 < stochastic.elbo <= mixture.elbo
    weight = np.arange(len(counts)) % 3
    hidden = np.where(weight > 0, counts, np.nan)
    weighted = vx.fit(MIXTURE, vx.Batch.of(hidden, weight), **start)
    repeated = vx.fit(MIXTURE, np.repeat(counts, weight), **start)
    close(weighted.elbo, repeated.elbo)
    same_q(weighted.q, repeated.q, 1e-7)
    sets = [counts, np.repeat(counts, weight)]
    twice = jax.tree.map(lambda a: jnp.stack([a, a]), mixture.q)
    many = vx.fit_many(MIXTURE, sets, **start | {"init": twice})
    close(many.elbo, [mixture.elbo, repeated.elbo])
    then = MIXTURE.with_posterior_as_prior(mixture.q)
    same_q(then.template, mixture.q, 0)
    close(then.kl(mixture.q), 0.0)


def test_gradient_of_the_bound_is_0_after_an_update(rows, key):
    """By every coordinate of the factor that was updated last, from a q that is no fixed point."""

    @jax.jit
    def slopes(model, batch):
        q = model.init(key, batch)
        q = model.update(q, model.local(q.moments(), batch).stats)

        def elbo(q):
            log_z = model.local(q.moments(), batch).log_z
            return jnp.sum(batch.weight * log_z) - model.kl(q)

        return jax.tree.map(lambda a: jnp.max(jnp.abs(a)), jax.grad(elbo)(q).factors)

    for last, model in [
        ("tau", BY_ROWS),
        ("alpha", vx.Energy(FACTORS, whole, blocks=(("tau",), ("w",), ("alpha",)))),
    ]:
        found = slopes(model, model.as_batch(rows))
        largest = {name: max(jax.tree.leaves(slope)) for name, slope in found.items()}
        assert largest.pop(last) < 1e-9
        assert max(largest.values()) > 1e-3


def gaussians(m, x, weight):
    z, mu, tau = m["z"]["one"], m["mu"], m["tau"]
    square = x[:, None] ** 2 - 2 * x[:, None] * mu["x"] + mu["xx"]
    each = 0.5 * (tau["log"] - LOG_2PI - tau["x"] * square) + m["pi"]["log"]
    return jnp.sum(weight[:, None] * z * each)


def test_a_local_factor_is_one_with_a_plate_for_each_row(rng, key):
    """The same optimum in sweeps over all rows, and from sums over rows with blocks in turn."""
    x = np.concatenate([rng.normal(-4, 1, 20), rng.normal(3, 0.5, 17)])
    factors = {
        "pi": vx.factor.dirichlet((), 2),
        "mu": normal(2, precision=0.01),
        "tau": gamma(2, shape=1.0, rate=1.0),
    }
    blocks = (("pi", "mu"), ("tau",))
    labels = {"z": vx.factor.categorical((), 2)}
    model = vx.Energy({**factors, **labels}, gaussians, local=("z",), blocks=blocks)
    fit = vx.fit(model, x, key=key, stop=TIGHT).check()
    assert np.all(np.diff(fit.elbo_trace[: int(fit.n_iter)]) > -1e-9)
    labels = {"z": vx.factor.categorical(37, 2)}
    full = vx.fit(vx.Energy({**labels, **factors}, gaussians), x, key=key, stop=TIGHT).check()
    close(full.elbo, fit.elbo)
    close(np.sort(full.q["mu"].mean), np.sort(fit.q["mu"].mean))
    assert repr(model) == "Energy(pi, mu, tau; local z)"


# -- matrix factorisation -------------------------------------------------------------------------


def factorise(R, seen, key, stop):
    def energy(m, rows, weight):  # R_ij ~ N(u_i . v_j, 1 / tau) where it was seen
        u, v, tau, R, seen = m["u"], m["v"], m["tau"], rows["R"], rows["seen"]
        square = jnp.sum(seen * R * (R - 2 * u["x"] @ v["x"].T))
        square += jnp.einsum("ij,iab,jab->", seen, u["xx"], v["xx"])
        log_tau = tau["log"] - jnp.log(2 * jnp.pi)
        return 0.5 * jnp.sum(seen) * log_tau - 0.5 * tau["x"] * square

    u, v = vx.factor.normal(12, 2), vx.factor.normal(8, 2)
    model = vx.Energy({"u": u, "v": v, "tau": vx.factor.gamma(shape=1.0, rate=1.0)}, energy)
    return vx.fit(model, {"R": R, "seen": seen}, key=key, stop=stop, num_restarts=2)


@pytest.fixture
def ratings(rng):
    R = rng.normal(size=(12, 2)) @ rng.normal(size=(2, 8)) + 0.3 * rng.normal(size=(12, 8))
    return R, (rng.uniform(size=R.shape) < 0.5).astype(float)


def test_matrix_factorisation_is_that_by_hand(ratings, key):
    R, seen = ratings
    lines = inspect.getsource(factorise).strip().splitlines()[1:]
    assert len([line for line in lines if line.strip()]) <= 12
    assert all(line.strip() in vx.Energy.__doc__ for line in lines[:6] if line.strip())
    fit = factorise(R, seen, key, TIGHT).check()
    assert np.all(np.diff(fit.elbo_trace[: int(fit.n_iter)]) > -1e-9)
    q = fit.q
    u, v = ((np.asarray(q[k].mean), np.asarray(q[k].covariance)) for k in "uv")
    tau = float(q["tau"].mean)
    assert np.abs(u[0]).max() > 0.1  # not the fixed point at 0
    for (mean, cov), (other, other_cov), r, w in ((u, v, R, seen), (v, u, R.T, seen.T)):
        square = other_cov + other[:, :, None] * other[:, None]
        expected = np.linalg.inv(np.eye(2) + tau * np.einsum("ij,jab->iab", w, square))
        close(cov, expected, 1e-8)
        close(mean, tau * np.einsum("iab,ib->ia", expected, (w * r) @ other), 1e-8)
    fitted = u[0] @ v[0].T
    squares = [c + m[:, :, None] * m[:, None] for m, c in (u, v)]
    spread = np.einsum("iab,jab->ij", *squares) - fitted**2
    rate = 1 + 0.5 * np.sum(seen * ((R - fitted) ** 2 + spread))
    close(tau, (1 + seen.sum() / 2) / rate)


def product(m, rows, weight):
    """As in `factorise`."""
    u, v, tau, R, seen = m["u"], m["v"], m["tau"], rows["R"], rows["seen"]
    square = jnp.sum(seen * R * (R - 2 * u["x"] @ v["x"].T))
    square += jnp.einsum("ij,iab,jab->", seen, u["xx"], v["xx"])
    return 0.5 * jnp.sum(seen) * (tau["log"] - LOG_2PI) - 0.5 * tau["x"] * square


@pytree
class WrongTau(vx.CAVI):
    """Its update of one factor is wrong by a tenth as soon as steps are small."""

    def conclude(self, model, state, stats, log_z):
        new = super().conclude(model, state, stats, log_z)
        factors = dict(new.next_q.factors)
        tau = factors["tau"]
        factors["tau"] = replace(tau, rate=jnp.where(new.improvement < 0.1, 0.9, 1.0) * tau.rate)
        return replace(new, next_q=replace(new.next_q, factors=factors))


def test_large_terms_that_cancel_are_no_fall_of_the_bound():
    """In float32 the terms of this bound are off by more than 32 eps (|elbo| + rows) nats."""
    rng = np.random.default_rng(0)
    R = rng.normal(size=(30, 2)) @ rng.normal(size=(2, 20)) + 0.1 * rng.normal(size=(30, 20))
    rows = {"R": R, "seen": (rng.uniform(size=R.shape) < 0.5).astype(float)}
    u, v = vx.factor.normal(30, 2), vx.factor.normal(20, 2)
    model = vx.Energy({"u": u, "v": v, "tau": gamma(shape=1.0, rate=1.0)}, product)
    low, low_rows = cast((model, rows), np.float32)
    options = {"key": jax.random.key(0), "num_restarts": 4}
    fit = vx.fit(low, low_rows, **options)
    assert fit.elbo.dtype == np.float32
    assert (fit.statuses == vx.Status.CONVERGED).all()
    falls = -np.diff(fit.runs.elbo_trace, axis=-1)
    assert np.nanmax(falls) > 32 * np.finfo(np.float32).eps * (abs(fit.elbo) + 1030)
    end = vx.fit(model, rows, init=cast(fit.q, np.float64), stop=vx.Stop(tol=1e-8)).check()
    reached = vx.elbo(model, cast(fit.q, np.float64), rows)
    assert -1e-6 < end.elbo - reached < 2e-3
    wrong = vx.fit(low, low_rows, method=WrongTau(), **options)
    assert (wrong.statuses == vx.Status.ELBO_DECREASED).all()


def one_normal(m, x, weight):
    mu, tau = m["mu"], m["tau"]
    square = x**2 - 2 * x * mu["x"] + mu["xx"]
    return 0.5 * jnp.sum(weight * (tau["log"] - LOG_2PI - tau["x"] * square))


def test_terms_that_leave_no_digit_are_no_excuse():
    """A mean of ten thousand standard deviations: q is wrong, so the fall of the bound counts."""
    x = (10_000 + np.random.default_rng(0).normal(size=40)).astype(np.float32)
    factors = {"mu": normal(precision=1e-8), "tau": gamma(shape=1.0, rate=1.0)}
    model = cast(vx.Energy(factors, one_normal), np.float32)
    assert vx.fit(model, x, key=jax.random.key(0)).status != vx.Status.CONVERGED


# -- every family, against exact evidence ---------------------------------------------------------


def test_wishart_has_the_exact_evidence(rng, key):
    x = rng.normal(size=(9, 2))

    def energy(m, x, weight):
        square = jnp.einsum("na,ab,nb->n", x, m["L"]["x"], x)
        return 0.5 * jnp.sum(weight * (m["L"]["logdet"] - 2 * LOG_2PI - square))

    scatter = np.array([[2.0, 0.5], [0.5, 1.0]])
    model = vx.Energy({"L": vx.factor.wishart((), 2, df=4.0, scatter=scatter)}, energy, local=())
    total = scatter + x.T @ x
    expected = -9 * np.log(np.pi) + multigammaln(6.5, 2) - multigammaln(2.0, 2)
    expected += 2 * np.linalg.slogdet(scatter)[1] - 6.5 * np.linalg.slogdet(total)[1]
    fit = vx.fit(model, x, key=key).check()
    close(fit.elbo, expected)
    close(fit.q["L"].mean, 13 * np.linalg.inv(total))


def test_local_normals_have_their_exact_normaliser(rng):
    """x_n ~ N(u_n, 1 / tau), u_n ~ N(5, 1 / 2): the prior's mean is no origin of the energy."""

    def energy(m, x, weight):
        u, tau = m["u"], m["tau"]
        mean, square = u["x"].reshape(x.shape), u["xx"].reshape(x.shape)
        each = tau["log"] - LOG_2PI - tau["x"] * (x**2 - 2 * x * mean + square)
        return 0.5 * jnp.sum(weight * each)

    x, tau = rng.normal(5, 2, 3), gamma(shape=3.0, rate=2.0)
    log_tau = float(digamma(3.0) - np.log(2.0))

    def exact(x):
        def f(u):
            prior = stats.norm.pdf(u, 5.0, np.sqrt(0.5))
            return prior * np.exp(0.5 * (log_tau - LOG_2PI - 1.5 * (x - u) ** 2))

        return np.log(integrate.quad(f, -5, 15, epsabs=1e-14)[0])

    for d in (None, 1):
        factors = {"tau": tau, "u": normal((), d, mean=5.0, precision=2.0)}
        model = vx.Energy(factors, energy, local=("u",)).check_on(x)
        batch = model.as_batch(x)
        close(jax.jit(model.local)(model.template.moments(), batch).log_z, [exact(v) for v in x])
        u = model.row_posterior(model.template, x)["u"]
        close(u.mean.reshape(3), (2 * 5 + 1.5 * x) / 3.5)


def test_local_gammas_and_labels_have_their_exact_normaliser(rng):
    """Negative binomial counts, and labels with probabilities of their own."""

    def energy(m, x, weight):
        rate, z = m["rate"], m["z"]["one"]
        each = x * rate["log"] - rate["x"] - gammaln(x + 1)
        return jnp.sum(weight * (each + z @ m["pi"]["log"]))

    x = rng.poisson(3, 4).astype(float)
    probs = np.array([0.2, 0.8])
    factors = {
        "pi": vx.factor.dirichlet((), 2),
        "rate": gamma(shape=2.0, rate=0.5),
        "z": vx.factor.categorical((), 2, probs=probs),
    }
    model = vx.Energy(factors, energy, local=("rate", "z")).check_on(x)
    log_pi = digamma(1.0) - digamma(2.0)  # of both
    got = jax.jit(model.local)(model.template.moments(), model.as_batch(x)).log_z
    close(got, stats.nbinom.logpmf(x, 2.0, 0.5 / 1.5) + log_pi)
    post = model.row_posterior(model.template, x)
    close(post["z"].probs, np.broadcast_to(probs, (4, 2)))
    close(post["rate"].mean, (2 + x) / 1.5)


def test_categorical_is_scipys(rng, key):
    p, p0 = rng.dirichlet(np.ones(4), 2)
    q, q0 = Categorical.from_standard(3 * p), Categorical.from_standard(p0)
    close(q.probs, p)
    close(q.entropy(), stats.entropy(p))
    close(q.kl(q0), stats.entropy(p, p0))
    close(q.kl(q), 0.0, 1e-15)
    close(q.expectation().logits, jax.grad(lambda q: q.log_normalizer())(q).logits)
    close(q.log_prob(jnp.asarray([3, 0])), np.log(p[[3, 0]]))
    draws = np.asarray(q.sample(key, (4000,)))
    close(np.bincount(draws, minlength=4) / 4000, p, 0.04)
    close(q.kernel_gap(q0.point()), np.log(p.max() / p[p0.argmax()]))
    close(q.log_kernel(q0.moments()), p0 @ np.log(p))


def test_draws_of_q(mixture, key):
    value = mixture.q.sample(key, (5,))
    assert value["pi"].shape == value["rate"].shape == (5, 3)
    each = mixture.q["pi"].log_prob(value["pi"]) + mixture.q["rate"].log_prob(value["rate"]).sum(-1)
    close(mixture.q.log_prob(value), each)


def test_a_fit_is_stored(mixture, tmp_path):
    vx.save(tmp_path / "fit.npz", mixture)
    same_q(vx.load(tmp_path / "fit.npz").q, mixture.q, 0)
    with pytest.raises(TypeError, match="energy: cannot be stored"):
        vx.save(tmp_path / "no.npz", MIXTURE)


# -- what is refused ------------------------------------------------------------------------------


def energies(**changed):
    """The mixture with other arguments."""
    given = {"factors": MIXTURE.factors, "energy": poisson, "local": ("z",)} | changed
    return vx.Energy(given.pop("factors"), given.pop("energy"), **given)


def with_square(m, rows, weight):
    return whole(m, rows, weight) - 0.5 * m["tau"]["x"] * jnp.sum(m["w"]["x"] ** 2)


def with_wrong_sign(m, rows, weight):
    return log_lik(m, rows, weight) + 2 * ard(m) - ard(m) + m["alpha"]["x"] @ jnp.diag(m["w"]["xx"])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mistakes_in_an_energy_are_named(rows, counts, dtype):
    rows = {name: a.astype(dtype) for name, a in rows.items()}
    REGRESSION.check_on(rows)
    BY_ROWS.check_on(rows)
    MIXTURE.check_on(counts.astype(dtype))

    def refused(energy, match, data=rows, **changed):
        factors, local = (FACTORS, {}) if data is rows else (MIXTURE.factors, {"local": ("z",)})
        model = vx.Energy(factors, energy, **local, **changed)
        with pytest.raises(ValueError, match=match):
            model.check_on(data)

    refused(with_square, "not affine in the statistics of 'w', which are x, xx")
    refused(with_wrong_sign, "update of 'alpha' is no density .* x, log")
    refused(log_lik, "'w' and 'tau' meet .* blocks=.*'w', 'alpha'.*'tau'", prior=ard, local=())
    refused(whole, "not 0 if all weights are 0", local=(), blocks=BY_ROWS.blocks)
    if dtype == np.float64:  # the same program otherwise
        refused(lambda m, r, w: w * m["tau"]["x"], "one number in nats")
        refused(lambda m, r, w: m["tau"]["cube"], "no factor, statistic or column 'cube'")
        refused(lambda m, r, w: jnp.log(-m["tau"]["x"]), "nan at ordinary moments")
        refused(lambda m, r, w: log_lik(m, r, w**2), "not linear in the weights", local=())
        shifted = lambda m, x, w: poisson(m, x[::-1], w)  # noqa: E731
        refused(shifted, "depends on other rows", counts)
        # a prior that is missing where the rows do not make the update a density
        narrow = {name: a[:2] for name, a in rows.items()}
        with pytest.raises(ValueError, match="'w' is no density"):
            vx.Energy(FACTORS, log_lik).check_on(narrow)


def test_local_factors_that_meet_are_refused(counts):
    def energy(m, x, weight):
        return jnp.sum(weight * m["a"]["x"] * (x - m["b"]["x"])) - jnp.sum(
            weight * (m["a"]["xx"] + m["b"]["xx"] + m["c"]["xx"])
        )

    factors = {"a": normal(), "b": normal(), "c": normal()}
    with pytest.raises(ValueError, match="local factors 'a' and 'b' meet"):
        vx.Energy(factors, energy, local=("a", "b")).check_on(counts)


def test_methods_that_cut_a_whole_are_refused(rows, key):
    for method, match in [
        (vx.SVI(), "SVI reads some rows at a time"),
        (vx.Memoized(), "Memoized reads some rows at a time"),
        (vx.EM(), "EM.. needs densities at a point"),
    ]:
        with pytest.raises(ValueError, match=f"method: {match}"):
            vx.fit(REGRESSION, rows, key=key, method=method)
    with pytest.raises(ValueError, match="data: this Energy needs all rows at once"):
        vx.fit(REGRESSION, vx.Chunks.of(rows["x"], chunk=16), key=key)
    with pytest.raises(ValueError, match="datasets: of different size"):
        vx.fit_many(REGRESSION, [rows, {k: v[:20] for k, v in rows.items()}], key=key)
    with pytest.raises(ValueError, match="key: this start is drawn"):
        vx.fit(REGRESSION, rows)
    unweighted = vx.Energy(FACTORS, lambda m, rows, weight: whole(m, rows, 1 + 0 * weight))
    with pytest.raises(ValueError, match="some weights are not 1, but it is no function"):
        unweighted.check_on(vx.Batch.of(rows, np.arange(40)))
    with pytest.raises(ValueError, match="no factors of single rows"):
        REGRESSION.row_posterior(REGRESSION.template, rows)


def test_bad_arguments_are_refused(unchecked):
    with pytest.raises(ValueError, match="local: no factor 'y' among pi, rate, z"):
        energies(local=("y",))
    with pytest.raises(TypeError, match="local: expected a tuple of names, got 'z'"):
        energies(local="z")
    with pytest.raises(ValueError, match="blocks: expected every factor .* pi, rate"):
        energies(blocks=(("pi",),))
    with pytest.raises(TypeError, match="factors: expected names and factors"):
        energies(factors={"pi": vx.Gamma.from_standard(1.0, 1.0)})
    with pytest.raises(TypeError, match="energy: expected a function"):
        energies(energy=3.0)
    for build, match in [
        (lambda: gamma(shape=-1.0, rate=1.0), "shape: must be finite and > 0"),
        (lambda: normal((), 2, precision=[[1.0, 2.0], [2.0, 1.0]]), "precision: must be positive"),
        (lambda: normal(3, mean=[1.0, 2.0]), r"mean: expected a number or shape \(3,\)"),
        (lambda: vx.factor.dirichlet((), 1), "k: must be finite and >= 2"),
        (lambda: vx.factor.wishart((), 2, df=1.0, scatter=1.0), "df: must be finite and > 1"),
    ]:
        with pytest.raises(ValueError, match=match):
            build()
    with pytest.raises(ValueError, match="mask: an energy sees rows and weights alone"):
        MIXTURE.check_on(vx.Batch.of(np.ones(3), mask=np.ones(3, bool)))


@pytest.mark.float32
def test_float32_agrees_with_float64(key):
    x = np.random.default_rng(0).poisson(np.repeat([3.0, 40.0, 200.0], 50)).astype(np.float32)
    fit = vx.fit(MIXTURE, x, key=key, num_restarts=3).check()
    assert fit.elbo.dtype == np.float32
    means = np.sort(np.asarray(fit.q["rate"].mean))
    np.testing.assert_allclose(means, [x[:50].mean(), x[50:100].mean(), x[100:].mean()], rtol=0.05)
