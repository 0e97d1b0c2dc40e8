"""`StochasticVI` and `LBFGS`: their gradients, objectives and ends, against exact values."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.scipy import stats
from jax.tree_util import Partial
from scipy import optimize, special

import vijax as vx
from vijax.guides.roots import BlockRoot, DiagonalRoot, FullRoot, LowRankRoot
from vijax.infer.methods.default import method_for
from vijax.infer.methods.objectives import Elbo, Renyi, value_and_gradient
from vijax.infer.methods.stochastic_vi import minibatch
from vijax.infer.methods.svi import Epoch
from vijax.numerics.matched_draws import matched_parts

from .table import leaves_close

PRECISION = np.array([[2.0, 0.8], [0.8, 1.0]])
CENTRE = np.array([0.5, -1.0])


def normal(p, centre, precision):
    """A normal log density without its normaliser."""
    move = p["u"] - centre
    return -0.5 * move @ precision @ move


def normal_model(centre, precision, covariance=None):
    log_prior = Partial(normal, centre=jnp.asarray(centre), precision=jnp.asarray(precision))
    return vx.LogDensity(log_prior, like={"u": np.zeros(len(centre))}, covariance=covariance)


def log_evidence(precision):
    d = len(precision)
    return 0.5 * (d * np.log(2.0 * np.pi) - np.linalg.slogdet(precision)[1])


def gap(q, mean, covariance):
    """KL(q || posterior) in nats, of normals."""
    own = np.asarray(q.covariance)
    move = np.asarray(q.location) - mean
    ratio = np.linalg.solve(covariance, own)
    square = move @ np.linalg.solve(covariance, move)
    return 0.5 * (np.trace(ratio) - len(mean) - np.linalg.slogdet(ratio)[1] + square)


# -- gradients --------------------------------------------------------------------------------


def regression(p):
    return stats.norm.logpdf(p["b"], scale=2.0).sum()


def regression_rows(p, rows):
    return stats.norm.logpdf(rows["y"], rows["x"] @ p["b"], 0.5)


REGRESSION = vx.LogDensity(regression, regression_rows, like={"b": np.zeros(3)})


def rows_of(rng, n):
    x = rng.normal(size=(n, 3))
    return {"x": x, "y": x @ np.array([1.0, -0.5, 2.0]) + 0.5 * rng.normal(size=n)}


def test_minibatch_gradients_are_unbiased(rng, key):
    """Their mean over a pass, each by its share of the rows, is that of all rows, exactly."""
    n, size = 8, 3  # one row is absent: minibatches of 3, 2 and 2
    batch = vx.Batch.of(rows_of(rng, n), rng.gamma(3.0, size=n) * (np.arange(n) != 2))
    q = REGRESSION.template
    epoch = Epoch.draw(key, batch, size)
    count = int(epoch.num_batches)

    @jax.jit
    def gradient(part):
        return value_and_gradient(REGRESSION, q, q.free, part, key, 4, Elbo(), "reparameterised")

    whole = gradient(batch)
    for first in (0, count):  # the second pass has another order
        parts = [minibatch(epoch, batch, first + i) for i in range(count)]
        sizes = np.array([(part.weight > 0).sum() for part in parts])
        assert sizes.sum() == n - 1
        found = [gradient(part) for part in parts]
        shares = sizes / (n - 1.0)
        weighted = [
            jax.tree.map(lambda a, w=w: w * a, f) for w, f in zip(shares, found, strict=True)
        ]
        mean = jax.tree.map(lambda *a: sum(a), *weighted)
        leaves_close(mean, whole, rtol=1e-10, atol=1e-10)


def test_estimators_agree_with_the_exact_gradient(key):
    """On a normal target, where the bound has a closed form; and their order of variance."""
    model = vx.LogDensity(
        lambda p: normal(p, CENTRE, PRECISION) - 5.0, like={"u": np.zeros(2)}, covariance="diag"
    )
    q = dataclasses.replace(
        model.template, location=jnp.asarray([0.0, 0.3]), root=DiagonalRoot(jnp.asarray([0.4, 1.2]))
    )

    def exact(free):
        new = q.with_free(free)
        mean = normal({"u": new.location}, CENTRE, PRECISION)
        return (
            mean - 5.0 - 0.5 * jnp.sum(jnp.diagonal(PRECISION) * new.root.scale**2) + new.entropy()
        )

    def estimates(key, estimator, objective="elbo"):
        settings = {"num_draws": 8, "estimator": estimator, "objective": objective}
        return vx.bound_and_gradient(model, q, key=key, **settings)

    kinds = ("reparameterised", "sticking_the_landing", "score", "score_without_baseline")
    others = {"iwae": vx.IWAE(3), "renyi": vx.Renyi(0.5, 3)}

    @jax.jit
    @jax.vmap
    def everything(key):
        elbo = {kind: estimates(key, kind) for kind in kinds}
        rest = {
            name: [estimates(key, kind, objective) for kind in ("reparameterised", "score")]
            for name, objective in others.items()
        }
        return elbo, rest

    elbo, rest = everything(jax.random.split(key, 4000))
    value, gradient = jax.value_and_grad(exact)(q.free)
    variance = {}
    for kind, found in elbo.items():
        assert jax.tree.structure(found[1]) == jax.tree.structure(q.free)
        for own, wanted in zip(
            jax.tree.leaves(found), jax.tree.leaves((value, gradient)), strict=True
        ):
            error = np.std(own, 0) / np.sqrt(len(own))
            assert np.all(np.abs(np.mean(own, 0) - wanted) < 5.0 * error + 1e-12), kind
        variance[kind] = sum(np.var(a, 0).sum() for a in jax.tree.leaves(found[1]))
    assert variance["reparameterised"] < 0.5 * variance["score"]
    assert variance["score"] < 0.5 * variance["score_without_baseline"]
    for name, pair in rest.items():
        for a, b in zip(*map(jax.tree.leaves, pair), strict=True):
            error = np.sqrt((np.var(a, 0) + np.var(b, 0)) / len(a))
            assert np.all(np.abs(np.mean(a, 0) - np.mean(b, 0)) < 5.0 * error), name


def test_sticking_the_landing_has_no_variance_at_the_posterior(key):
    model = normal_model(CENTRE, PRECISION)
    low = np.linalg.cholesky(np.linalg.inv(PRECISION))
    root = FullRoot(jnp.asarray(low), jnp.sum(jnp.log(jnp.diagonal(low))))
    q = dataclasses.replace(model.template, location=jnp.asarray(CENTRE), root=root)
    value, gradient = vx.bound_and_gradient(model, q, key=key, estimator="sticking_the_landing")
    np.testing.assert_allclose(value, log_evidence(PRECISION), rtol=1e-12)
    for leaf in jax.tree.leaves(gradient):
        np.testing.assert_allclose(leaf, 0.0, atol=1e-12)


def test_the_score_gradient_of_a_discrete_q_is_unbiased():
    """By enumeration of all pairs of draws; the baseline lowers its variance."""
    logits, f = jnp.asarray([0.3, -0.5, 1.0]), jnp.asarray([5.0, 6.0, 9.0])
    prob = np.asarray(jax.nn.softmax(logits))
    pairs = np.array([(i, j) for i in range(3) for j in range(3)])
    share = prob[pairs[:, 0]] * prob[pairs[:, 1]]

    def log_q(logits, k):
        return jax.nn.log_softmax(logits)[k]

    exact = jax.grad(lambda logits: jax.nn.softmax(logits) @ f)(logits)
    spread = []
    for baseline in (True, False):
        one = lambda k: vx.score_gradient(log_q, logits, k, f[k], baseline=baseline)  # noqa: B023, E731
        found = np.asarray(jax.vmap(one)(jnp.asarray(pairs)))
        np.testing.assert_allclose(share @ found, exact, atol=1e-12)
        spread.append(share @ np.sum((found - exact) ** 2, -1))
    assert spread[0] < 0.2 * spread[1]


# -- objectives -------------------------------------------------------------------------------


@pytest.fixture
def log_weights(rng):
    """log p(x, u) - log q(u) for draws of a q that is not the posterior, and log p(x) = 0."""
    u = 0.3 + 0.8 * rng.normal(size=(200, 1024))
    log_q = -0.5 * ((u - 0.3) / 0.8) ** 2 - np.log(0.8)
    return -0.5 * u**2 - log_q


def test_importance_weighted_bounds_rise_to_the_evidence(log_weights):
    means = []
    for k in (1, 4, 32, 1024):
        values = np.asarray(vx.IWAE(k).bound(jnp.asarray(log_weights.reshape(-1, k))))
        means.append(values.mean())
        if k == 1:
            np.testing.assert_allclose(values, log_weights.ravel(), atol=1e-12)
    assert np.all(np.diff(means) > 0)
    exact = -0.5 * (0.8**2 + 0.3**2 - 1.0) + np.log(0.8)
    assert abs(means[0] - exact) < 5.0 * log_weights.std() / np.sqrt(log_weights.size)
    assert abs(means[-1]) < 0.01


def test_renyi_bounds_join_the_others(log_weights):
    sets = jnp.asarray(log_weights)
    elbo = np.asarray(Elbo().bound(sets))
    np.testing.assert_allclose(Renyi(1.0, 1024).bound(sets), elbo, atol=1e-12)
    near = np.asarray(Renyi(1.0 - 1e-7, 1024).bound(sets))
    np.testing.assert_allclose(near, elbo, atol=1e-6)
    single = Renyi(jnp.float32(1.0 - 1e-5), 1024).bound(sets.astype(jnp.float32))
    np.testing.assert_allclose(single, elbo, atol=1e-4)
    np.testing.assert_allclose(Renyi(0.0, 1024).bound(sets), vx.IWAE(1024).bound(sets), atol=1e-10)
    orders = [float(np.mean(Renyi(a, 1024).bound(sets))) for a in (-1.0, 0.0, 0.5, 1.0, 2.0)]
    assert np.all(np.diff(orders) < 0)


def test_forward_kl_recovers_a_normal(key):
    method = vx.StochasticVI(
        optax.adam(optax.exponential_decay(0.05, 1000, 0.5)), 200, objective="forward_kl"
    )
    model = normal_model(CENTRE, PRECISION)
    fit = vx.fit(model, key=key, method=method, stop=vx.Stop(max_iter=60)).check()
    np.testing.assert_allclose(fit.q.location, CENTRE, atol=0.02)
    np.testing.assert_allclose(fit.q.covariance, np.linalg.inv(PRECISION), atol=0.03)


# -- fits -------------------------------------------------------------------------------------


def test_averaged_iterates_reach_the_posterior(rng, key):
    """Of a conjugate regression in minibatches, to within about the nats that `tol` allows."""
    rows = rows_of(rng, 100)
    precision = rows["x"].T @ rows["x"] / 0.25 + np.eye(3) / 4.0
    mean = np.linalg.solve(precision, rows["x"].T @ rows["y"] / 0.25)
    method = vx.StochasticVI(optax.adam(0.01), batch_size=25, estimator="sticking_the_landing")
    stop = vx.Stop(tol=1e-2)
    fit = vx.fit(REGRESSION, rows, key=key, method=method, stop=stop).check()
    assert gap(fit.q, mean, np.linalg.inv(precision)) < 2e-2
    noise = 0.5 * (rows["y"] @ rows["y"] / 0.25 - mean @ precision @ mean)
    log_z = log_evidence(precision) - noise - 100 * np.log(0.5) - 3 * np.log(2.0)
    log_z = log_z - 0.5 * 103 * np.log(2.0 * np.pi)
    assert abs(fit.elbo - log_z) < 2e-2 + 4.0 * fit.elbo_se


X = np.array([1.2, 0.4, 2.9, 1.7, 0.1, 2.2])


def normal_gamma(p):
    mu = stats.norm.logpdf(p["mu"], 0.5, 1.0 / jnp.sqrt(0.3 * p["tau"]))
    return mu + stats.gamma.logpdf(p["tau"], 1.5, scale=1.0 / 0.8)


def normal_gamma_rows(p, x):
    return stats.norm.logpdf(x, p["mu"], 1.0 / jnp.sqrt(p["tau"]))


def quadrature_bound(location, low):
    """ELBO of a normal over (mu, log tau), by tensor quadrature in NumPy."""
    node, weight = np.polynomial.hermite_e.hermegauss(40)
    z = np.stack(np.meshgrid(node, node), -1).reshape(-1, 2)
    share = np.outer(weight, weight).ravel() / (2.0 * np.pi)
    mu, log_tau = (location + z @ low.T).T
    tau = np.exp(log_tau)
    log_p = 0.5 * 7 * (log_tau - np.log(2.0 * np.pi)) + 0.5 * np.log(0.3)
    log_p -= 0.5 * tau * (((X[:, None] - mu) ** 2).sum(0) + 0.3 * (mu - 0.5) ** 2)
    log_p += 1.5 * np.log(0.8) - special.gammaln(1.5) + 1.5 * log_tau - 0.8 * tau
    entropy = np.log(np.abs(np.linalg.det(low))) + 1.0 + np.log(2.0 * np.pi)
    return share @ log_p + entropy


@pytest.mark.parametrize("covariance", ["diag", "full"])
def test_the_best_normal_of_a_normal_gamma_posterior(covariance):
    """Location and log scale in (mu, log tau) against SciPy on a bound by quadrature."""
    model = vx.LogDensity(
        normal_gamma,
        normal_gamma_rows,
        like={"mu": 0.0, "tau": 1.0},
        constraints={"tau": vx.constraints.Positive()},
        covariance=covariance,
    )

    def unpacked(v):
        off = v[4] if covariance == "full" else 0.0
        return v[:2], np.array([[np.exp(v[2]), 0.0], [off, np.exp(v[3])]])

    found = optimize.minimize(
        lambda v: -quadrature_bound(*unpacked(v)), np.array([1.0, 0.0, -1.0, -1.0, 0.0]), tol=1e-10
    )
    for method in (vx.GaussianVI(num_draws=256), vx.LBFGS(num_draws=256)):
        fit = vx.fit(model, X, method=method).check()
        trace = np.asarray(fit.elbo_trace)[: int(fit.n_iter)]
        assert np.all(np.diff(trace) > -1e-10)
        low = np.linalg.cholesky(fit.q.covariance)
        assert abs(quadrature_bound(np.asarray(fit.q.location), low) + found.fun) < 1e-3
        assert abs(fit.elbo + found.fun) < 4.0 * fit.elbo_se + 1e-3


def test_low_rank_is_the_whole_covariance_of_a_low_rank_target(rng):
    """In units from 1e-2 to 1e3, and by the method that a fit takes by itself."""
    unit = 10.0 ** np.array([0, 1, -2, 3, 0, 2, -1])
    factor = rng.normal(size=(7, 2)) * unit[:, None]
    exact = np.diag((0.5 * unit) ** 2) + factor @ factor.T
    model = normal_model(3.0 * unit, np.linalg.inv(exact), ("low_rank", 2))
    fit = vx.fit(model, stop=vx.Stop(tol=1e-6)).check()
    assert isinstance(fit.q.root, LowRankRoot)
    scale = np.sqrt(np.diag(exact))
    error = (np.asarray(fit.q.covariance) - exact) / scale[:, None] / scale[None]
    assert np.abs(error).max() < 1e-3
    np.testing.assert_allclose(fit.q.location / unit, 3.0, atol=1e-3)
    np.testing.assert_allclose(fit.elbo, log_evidence(np.linalg.inv(exact)), atol=1e-3)


def test_few_draws_of_a_factor_have_no_chance_correlations():
    z = np.asarray(matched_parts(jnp.asarray(0), 20, 30, 2, jnp.float64))
    moments = z.T @ z / 20
    np.testing.assert_allclose(z.mean(0), 0.0, atol=1e-12)
    np.testing.assert_allclose(moments[:, 30:], np.eye(32)[:, 30:], atol=1e-12)
    np.testing.assert_allclose(np.diag(moments), 1.0, atol=1e-12)


def tridiagonal(p, precision):
    u = p["u"] * jnp.sqrt(precision)
    return -0.5 * jnp.sum(u**2) - 0.45 * jnp.sum(u[1:] * u[:-1]) + jnp.sum(u)


def test_many_parameters(rng):
    """Means of a chain of d = 700 are exact; its variances, 1 / precision, up to those draws."""
    precision = 10.0 ** rng.uniform(-4, 4, size=700)
    model = vx.LogDensity(
        Partial(tridiagonal, precision=jnp.asarray(precision)), like={"u": np.zeros(700)}
    )
    assert isinstance(method_for(model, None), vx.LBFGS)
    fit = vx.fit(model, stop=vx.Stop(tol=1e-6)).check()
    error = np.log(np.asarray(fit.q.root.sd) * np.sqrt(precision))
    assert np.sqrt(np.mean(error**2)) < 0.15
    assert abs(error.mean()) < 0.05
    band = np.eye(700) + 0.45 * (np.eye(700, k=1) + np.eye(700, k=-1))
    mean = np.linalg.solve(band, np.ones(700))
    np.testing.assert_allclose(fit.q.location * np.sqrt(precision), mean, atol=2e-3)


def pretended(p, size, slope):
    """A normal log density times `size`, whose gradient is `slope` times what it should be."""
    value = -0.5 * size * jnp.sum(p["u"] ** 2 + p["u"])
    fixed = jax.lax.stop_gradient(value)
    return fixed + slope * (value - fixed)


def statuses(method, *lanes, max_iter=1000):
    """Of one fit for each size and slope, side by side."""

    @jax.jit
    @jax.vmap
    def run(size, slope):
        model = vx.LogDensity(Partial(pretended, size=size, slope=slope), like={"u": np.zeros(2)})
        key, stop = jax.random.key(0), vx.Stop(max_iter=max_iter)
        return vx.fit(model, key=key, method=method, stop=stop).status

    return run(*map(jnp.asarray, zip(*lanes, strict=True))).tolist()


def test_statuses_are_truthful():
    found = statuses(vx.LBFGS(), (1.0, 1.0), (np.nan, 1.0), (1.0, -1.0))
    assert found == [vx.Status.CONVERGED, vx.Status.NON_FINITE, vx.Status.STALLED]


def test_a_step_size_that_moves_nothing_is_no_convergence():
    method = vx.StochasticVI(optax.sgd(1e-9))
    found = statuses(method, (1.0, 1.0), (np.nan, 1.0), max_iter=15)
    assert found == [vx.Status.MAX_ITER, vx.Status.NON_FINITE]


# -- roots ------------------------------------------------------------------------------------


def roots(rng, d=4):
    matrix = rng.normal(size=(d, d))
    groups = (0, 1, 0, 1)
    same = np.equal.outer(groups, groups)
    scale = jnp.asarray(rng.gamma(2.0, size=d))

    def log_det(a):
        return jnp.asarray(np.linalg.slogdet(a)[1])

    return {
        "full": FullRoot(jnp.asarray(matrix), log_det(matrix)),
        "blocks": BlockRoot(jnp.asarray(matrix * same), log_det(matrix * same), groups),
        "diag": DiagonalRoot(scale),
        "low_rank": LowRankRoot(scale, jnp.asarray(matrix[:, :2])),
    }


@pytest.mark.parametrize("kind", ["full", "blocks", "diag", "low_rank"])
def test_free_numbers_are_the_root(rng, kind):
    """The same covariance; distances are at least 2 KL; and a natural gradient is an ascent."""
    given = roots(rng)[kind]
    exact = np.asarray(given.covariance)
    root = given.with_free(given.free)
    np.testing.assert_allclose(root.covariance, exact, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(2.0 * root.log_det, np.linalg.slogdet(exact)[1], rtol=1e-10)
    v = rng.normal(size=(3, 4))
    wanted = np.einsum("ij,ij->i", v, np.linalg.solve(exact, v.T).T)
    np.testing.assert_allclose(root.mahalanobis(jnp.asarray(v)), wanted, rtol=1e-8)
    move = {name: jnp.asarray(1e-4 * rng.normal(size=a.shape)) for name, a in root.free.items()}
    near = root.with_free(jax.tree.map(jnp.add, root.free, move))
    ratio = np.linalg.eigvals(np.linalg.solve(exact, np.asarray(near.covariance))).real
    kl = 0.5 * np.sum(ratio - 1.0 - np.log(ratio))
    distance = float(root.squared_distance(near))
    assert 2.0 * kl * (1 - 1e-2) < distance < 1e4 * kl
    natural = root.natural(move)
    assert sum(float(jnp.sum(move[name] * natural[name])) for name in move) > 0


# -- arguments --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objective": "elbow"}, "objective: expected"),
        ({"objective": vx.IWAE(0)}, "num_samples"),
        ({"objective": vx.IWAE(2), "batch_size": 5}, "batch_size: minibatches"),
        ({"objective": vx.IWAE(2), "estimator": "sticking_the_landing"}, "estimator: sticking"),
        ({"estimator": "guess"}, "estimator: expected one of"),
        ({"estimator": "score", "num_draws": 1}, "num_draws"),
        ({"elbo_draws": 3}, "elbo_draws"),
        ({"optimiser": "adam"}, "optimiser: expected"),
    ],
)
def test_bad_settings_are_named(change, message, key):
    with pytest.raises((TypeError, ValueError), match=message):
        vx.fit(
            normal_model(CENTRE, PRECISION),
            key=key,
            method=vx.StochasticVI(**{"optimiser": 0.01} | change),
        )


def test_too_few_draws_are_refused():
    for covariance, least in {"full": 6, ("low_rank", 1): 6, "diag": 4}.items():
        model = normal_model(CENTRE, PRECISION, covariance)
        with pytest.raises(
            ValueError, match=f"num_draws: expected an even number of at least {least}"
        ):
            vx.fit(model, method=vx.LBFGS(num_draws=2))


def test_methods_need_a_density(key):
    x = np.arange(12.0).reshape(6, 2)
    model = vx.GaussianMixture.from_data(x, 1)
    for method in (vx.LBFGS(), vx.StochasticVI(0.01)):
        with pytest.raises(TypeError, match="needs a DensityModel"):
            vx.fit(model, x, key=key, method=method)
