"""Bounds with an encoder: probabilistic PCA and mixtures, whose evidence has a closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.scipy import stats
from scipy.stats import multivariate_normal

import vijax as vx

# -- a linear decoder with normal noise: probabilistic PCA ------------------------------------

# columns are orthogonal: then the coordinates of z are independent given x, as q has them
LOADINGS = np.array([[2.0, 0.0], [1.0, 1.0], [0.0, 1.5], [-1.0, 1.0], [0.5, 0.0]])
LOADINGS[:, 1] -= LOADINGS[:, 0] * (LOADINGS.T @ LOADINGS)[0, 1] / (LOADINGS[:, 0] ** 2).sum()
CENTRE, NOISE = np.array([3.0, 0.0, -1.0, 2.0, 10.0]), 0.7
DECODER = {"loadings": LOADINGS, "centre": CENTRE, "log_noise": np.log(NOISE)}
PRECISION = np.eye(2) + LOADINGS.T @ LOADINGS / NOISE**2  # of z given x
SLOPE = np.linalg.solve(PRECISION, LOADINGS.T) / NOISE**2
ENCODER = {
    "slope": SLOPE,
    "offset": -SLOPE @ CENTRE,
    "log_sd": -0.5 * np.log(np.diag(PRECISION)),
}
WRONG = {"slope": 0.8 * SLOPE, "offset": 0.2 - SLOPE @ CENTRE, "log_sd": np.zeros(2)}


def linear_log_joint(params, z, x):
    mean = params["loadings"] @ z + params["centre"]
    noise = stats.norm.logpdf(x, mean, jnp.exp(params["log_noise"]))
    return stats.norm.logpdf(z).sum() + noise.sum()


def linear_encoder(params, x):
    return params["slope"] @ x + params["offset"], params["log_sd"]


def linear_bound(params, x, key, **options):
    return vx.amortised_bound(linear_log_joint, linear_encoder, params, x, key=key, **options)


def encoder_bound(params, x, key, **options):
    """As `linear_bound`, with the decoder fixed."""
    return linear_bound({**jax.tree.map(jnp.asarray, DECODER), **params}, x, key, **options)


def landing(params, x, key):
    return linear_bound(params, x, key, num_draws=4, estimator="sticking_the_landing")


def encoder_landing(params, x, key):
    return encoder_bound(params, x, key, estimator="sticking_the_landing")


@pytest.fixture
def x(rng):
    z = rng.normal(size=(40, 2))
    return z @ LOADINGS.T + CENTRE + NOISE * rng.normal(size=(40, 5))


def log_evidence(x, loadings=LOADINGS, centre=CENTRE, noise=NOISE):
    covariance = loadings @ loadings.T + noise**2 * np.eye(len(centre))
    return multivariate_normal(centre, covariance).logpdf(x)


def exact_elbo(x, slope, offset, log_sd):
    """log p(x) - KL(q || p(z | x)) of each row, of normals."""
    move = x @ slope.T + offset - (x @ SLOPE.T - SLOPE @ CENTRE)
    square = np.einsum("ni,ij,nj->n", move, PRECISION, move)
    ratio = np.exp(2.0 * log_sd) * np.diag(PRECISION)
    kl = 0.5 * (square + np.sum(ratio - 1.0 - 2.0 * log_sd) - np.linalg.slogdet(PRECISION)[1])
    return log_evidence(x) - kl


def test_every_draw_of_the_exact_encoder_is_the_evidence(x, key):
    for options in ({}, {"num_draws": 3, "objective": vx.IWAE(2)}):
        bounds = encoder_bound(ENCODER, x, key, **options)
        np.testing.assert_allclose(bounds, log_evidence(x), rtol=1e-10)


def test_a_linear_encoder_is_found(x, key):
    """By minibatches with sticking the landing, from zeros, to less than 1e-3 nats per row."""
    optimiser = optax.adam(optax.cosine_decay_schedule(0.1, 1500))
    start = {name: np.zeros(a.shape) for name, a in ENCODER.items()}
    settings = {"key": key, "optimiser": optimiser, "batch_size": 8, "num_epochs": 300}
    fit = vx.fit_amortised(encoder_landing, start, x, **settings).check()
    gap = log_evidence(x) - exact_elbo(x, *(np.asarray(fit.params[name]) for name in ENCODER))
    assert 0.0 <= gap.mean() < 1e-3
    trace = np.asarray(fit.bound_trace)
    assert trace.shape == (300,)
    assert np.isfinite(trace).all()
    assert trace[-1] > trace[0] + 1.0
    assert abs(trace[-1] - log_evidence(x).mean()) < 0.02


def test_decoder_and_encoder_together_reach_the_greatest_likelihood(x, key):
    """That of probabilistic PCA by eigenvalues (Tipping & Bishop 1999), from a random start."""
    start = {"loadings": 0.1 * np.arange(10.0).reshape(5, 2) - 0.4, "centre": np.zeros(5)}
    start |= {name: np.zeros(a.shape) for name, a in ENCODER.items()}
    start["log_noise"] = 0.0
    optimiser = optax.adam(optax.cosine_decay_schedule(0.1, 1500))
    settings = {"key": key, "optimiser": optimiser, "batch_size": None, "num_epochs": 1500}
    fit = vx.fit_amortised(landing, start, x, **settings).check()
    centre = x.mean(0)
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    noise = values[:3].mean()
    best = vectors[:, 3:] * np.sqrt(values[3:] - noise)
    greatest = log_evidence(x, best, centre, np.sqrt(noise)).mean()
    bounds = linear_bound(fit.params, x, key, num_draws=100)
    assert abs(bounds.mean() - greatest) < 1e-3
    np.testing.assert_allclose(np.exp(2 * fit.params["log_noise"]), noise, rtol=0.01)


def test_bounds_and_gradients_are_unbiased(x, key):
    """Of the ELBO against its closed form, by both estimators."""
    x = x[:4]
    exact = exact_elbo(x, *WRONG.values())
    h = 1e-5
    slope = {}  # by central differences of the closed form
    for name, a in WRONG.items():
        parts = []
        for i in np.ndindex(a.shape):
            ends = []
            for sign in (1.0, -1.0):
                moved = {k: v.copy() for k, v in WRONG.items()}
                moved[name][i] += sign * h
                ends.append(exact_elbo(x, *moved.values()).mean())
            parts.append((ends[0] - ends[1]) / (2.0 * h))
        slope[name] = np.reshape(parts, a.shape)
    for estimator in ("reparameterised", "sticking_the_landing"):

        @jax.jit
        @jax.vmap
        def estimates(key, estimator=estimator):
            def mean(params):
                bounds = encoder_bound(params, x, key, estimator=estimator)
                return bounds.mean(), bounds

            return jax.grad(mean, has_aux=True)(WRONG)

        gradient, bounds = estimates(jax.random.split(key, 4000))
        for found, wanted in [(bounds, exact), *((gradient[k], slope[k]) for k in WRONG)]:
            error = np.std(found, 0) / np.sqrt(len(found))
            assert np.all(np.abs(np.mean(found, 0) - wanted) < 5.0 * error + 1e-9)


def test_more_samples_are_tighter(x, key):
    means = []
    for k in (1, 5, 50):
        bounds = np.asarray(encoder_bound(WRONG, x, key, num_draws=2000 // k, objective=vx.IWAE(k)))
        means.append(bounds.mean())
    elbo = encoder_bound(WRONG, x, key, num_draws=2000)
    np.testing.assert_allclose(means[0], elbo.mean(), rtol=1e-12)
    assert abs(means[0] - exact_elbo(x, *WRONG.values()).mean()) < 0.02
    assert means[0] + 0.3 < means[1] < means[2] < log_evidence(x).mean() + 0.01
    assert log_evidence(x).mean() - means[2] < 0.15


# -- a mixture --------------------------------------------------------------------------------

MIXTURE = {"logits": np.array([0.2, -0.3]), "means": np.array([-1.0, 2.0])}


def mixture_log_joint(params, x):
    return jax.nn.log_softmax(params["logits"]) + stats.norm.logpdf(x, params["means"])


def mixture_encoder(params, x):
    return params["a"] * x + params["b"]


def mixture_bound(params, x, key):
    return vx.amortised_mixture_bound(mixture_log_joint, mixture_encoder, params, x)


def test_encoded_responsibilities_of_an_exact_e_step_give_the_evidence(rng):
    x = rng.normal(size=20)
    means = MIXTURE["means"]
    exact = {**MIXTURE, "a": means, "b": MIXTURE["logits"] - 0.5 * means**2}
    share = np.exp(MIXTURE["logits"]) / np.exp(MIXTURE["logits"]).sum()
    log_p = np.log(np.exp(-0.5 * (x[:, None] - means) ** 2) @ share) - 0.5 * np.log(2.0 * np.pi)
    np.testing.assert_allclose(mixture_bound(exact, x, None), log_p, rtol=1e-12)
    logits = {"a": np.array([0.3, 1.0]), "b": np.zeros(2)}
    found = np.asarray(mixture_bound({**MIXTURE, **logits}, x, None))
    log_r = x[:, None] * logits["a"]
    log_r -= np.log(np.exp(log_r).sum(1, keepdims=True))
    posterior = np.log(share) - 0.5 * (x[:, None] - means) ** 2 - 0.5 * np.log(2 * np.pi)
    kl = np.sum(np.exp(log_r) * (log_r - (posterior - log_p[:, None])), 1)
    np.testing.assert_allclose(found, log_p - kl, rtol=1e-10)


def test_minibatch_gradients_are_unbiased(rng, key):
    """Tiny steps of plain descent over a pass add up to the gradient of all rows.

    Exactly where minibatches have equal sizes, and else on average; rows of weight 0 change
    nothing, whatever they hold.
    """
    x, weight = rng.normal(size=12), rng.gamma(3.0, size=12)
    weight[5], x[5] = 0.0, 1e30
    params = {**MIXTURE, "a": np.array([0.3, 1.0]), "b": np.zeros(2)}
    kept = np.arange(12) != 5
    w = weight[kept] / weight.sum()

    def mean(params):
        return jnp.sum(w * mixture_bound(params, jnp.asarray(x[kept]), None))

    exact = jax.grad(mean)(params)
    rate, optimiser = 1e-7, optax.sgd(1e-7)
    batch = vx.Batch.of(x, weight)

    def moved(key, size):
        fit = vx.fit_amortised(
            mixture_bound,
            params,
            batch,
            key=key,
            optimiser=optimiser,
            batch_size=size,
            num_epochs=1,
        )
        updates = -(-11 // size)
        return jax.tree.map(lambda a, b: (a - b) / (rate * updates), fit.params, params)

    found = moved(key, 1), moved(key, 11)
    for each in found:
        for name in exact:
            np.testing.assert_allclose(each[name], exact[name], atol=1e-6)
    uneven = jax.vmap(lambda key: moved(key, 4))(jax.random.split(key, 400))
    for name in exact:
        error = np.std(uneven[name], 0) / np.sqrt(400)
        assert np.all(np.abs(np.mean(uneven[name], 0) - exact[name]) < 5.0 * error + 1e-6)


# -- statuses and arguments -------------------------------------------------------------------


def test_an_epoch_that_is_not_finite_ends_the_fit(key):
    """With the parameters of the epoch before, and no effect on other lanes."""

    def bound(params, x, key):
        return jnp.log(params["a"]) + 0.0 * x

    optimiser = optax.sgd(-1.0)  # down: 2 - 1 / 2 is 1.5, then 0.83, then below 0

    def run(a):
        return vx.fit_amortised(
            bound, {"a": a}, np.zeros(4), key=key, optimiser=optimiser, num_epochs=5
        )

    fit = jax.jit(jax.vmap(run))(jnp.array([2.0, 100.0]))
    assert fit.status.tolist() == [vx.Status.NON_FINITE, vx.Status.MAX_ITER]
    assert fit.n_epochs.tolist() == [3, 5]
    assert np.isfinite(fit.bound_trace[0, :3]).all()
    assert np.isnan(fit.bound_trace[0, 3:]).all()
    np.testing.assert_allclose(fit.params["a"][1], 99.95, atol=0.01)
    with pytest.raises(vx.FitError, match="NON_FINITE"):
        fit.check()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"log_joint": lambda p, z, x: z}, "log_joint: expected a scalar"),
        ({"encoder": lambda p, x: (x[:2], x[:1])}, "encoder: expected the mean"),
        ({"encoder": lambda p, x: x}, "encoder: expected the mean"),
        ({"rows": {"a": np.zeros(3), "b": np.zeros(2)}}, "rows: expected"),
        ({"num_draws": 0}, "num_draws"),
        ({"objective": "forward_kl"}, "objective: expected"),
        ({"objective": vx.IWAE(0)}, "num_samples"),
        ({"estimator": "score"}, "estimator: expected"),
        ({"objective": vx.IWAE(2), "estimator": "sticking_the_landing"}, "estimator: sticking"),
    ],
)
def test_bad_arguments_of_a_bound_are_named(change, message, key):
    given = {
        "log_joint": linear_log_joint,
        "encoder": linear_encoder,
        "params": {**DECODER, **ENCODER},
        "rows": np.zeros((3, 5)),
        "key": key,
    }
    with pytest.raises((TypeError, ValueError), match=message):
        vx.amortised_bound(**{**given, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bound": lambda p, x, key: x.sum()}, "bound: expected the bound of each"),
        ({"data": np.zeros((0, 2))}, "x: "),
        ({"optimiser": "adam"}, "optimiser: expected"),
        ({"batch_size": 0}, "batch_size"),
        ({"num_epochs": 0}, "num_epochs"),
    ],
)
def test_bad_arguments_of_a_fit_are_named(change, message, key):
    given = {
        "bound": mixture_bound,
        "params": {**MIXTURE, "a": np.zeros(2), "b": np.zeros(2)},
        "data": np.arange(3.0),
        "key": key,
        "optimiser": 0.1,
    }
    with pytest.raises((TypeError, ValueError), match=message):
        vx.fit_amortised(**{**given, **change})
