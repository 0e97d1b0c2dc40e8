"""What is read off a hidden Markov model, against all paths; every component family."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import vijax as vx

from .oracles import hmm
from .rows import gammas
from .tables.emissions import EMISSIONS, POISSON

K, LENGTHS, HORIZON = 2, (4, 1, 3), 3
KEY = jax.random.key(0)
STATES = [e for e in EMISSIONS if e.name not in ("noise", "mixed, tied")]


@jax.jit
def read(model, q, batch):
    """All that is said of sequences, as one program; and what the components say of steps."""
    steps, point, moments = batch.flat(), q.point(), q.moments()
    said = {
        name: getattr(model, name)(q, batch)
        for name in ("responsibilities", "filtered", "predict", "path", "log_likelihood")
    }
    said |= {"row_bound": model.row_bound(q, batch), "impute": model.impute(q, batch)}
    known = {
        "at point": point.components.log_density(steps),
        "expected": moments.components.likelihood(steps)[0],
        "impute": point.components.impute(steps),
        "logs at point": (point.labels.initial.log_p, point.labels.transitions.log_p),
        "expected logs": (moments.labels.initial.log_p, moments.labels.transitions.log_p),
    }
    return said, model.forecast(q, batch, HORIZON), known


@jax.jit
def update(model, batch, resp):
    q = model.update(model.prior, model.assign(model.prior, batch, resp))
    return model.update(q, model.assign(q, batch, resp))


def problem(rng, emission):
    """Sequences with a missing step, and entries where rows have columns; a model and a q."""
    x = emission.rows(rng, sum(LENGTHS))

    def with_holes(a):
        a = a.copy()
        a[1] = np.nan
        if a.ndim > 1:
            a[6, 0] = np.nan
        return a

    missing = emission.name != "multinomial"  # whose mask is looked at, and so not traced
    x = jax.tree.map(with_holes, x) if missing else x
    batch = vx.Batch.sequences(x, lengths=LENGTHS, missing=missing)
    model = vx.HMM(
        vx.Chain.from_standard(gammas(rng, K), gammas(rng, K, K)), emission.prior(rng, K)
    )
    resp = rng.dirichlet(np.ones(K), size=batch.steps.shape)
    return model, update(model, batch, jnp.asarray(resp)), batch


def mixed(p, mean, variance):
    """Mean and standard deviation of a mixture, (.., d), of probabilities (.., k)."""
    centre = np.einsum("...k,...kd->...d", p, mean)
    square = np.einsum("...k,...kd->...d", p, variance + mean**2)
    return centre, np.sqrt(np.maximum(square - centre**2, 0.0))


def columns(tree):
    return tree.items() if isinstance(tree, dict) else [(None, tree)]


def of(tree, name):
    return tree if name is None else tree[name]


@pytest.mark.parametrize("emission", STATES, ids=lambda e: e.name)
def test_everything_is_a_sum_over_paths(rng, emission):
    model, q, batch = problem(rng, emission)
    said, forecast, known = jax.tree.map(np.asarray, read(model, q, batch))
    steps, t = np.asarray(batch.steps), batch.steps.shape[1]
    shape = *steps.shape, K

    def by_step(name):
        found = np.where(steps[..., None] > 0, known[name].reshape(shape), 0.0)
        return [own[:size] for own, size in zip(found, LENGTHS, strict=True)]

    at_point = [hmm.smoothed(*known["logs at point"], own) for own in by_step("at point")]
    expected = [hmm.smoothed(*known["expected logs"], own) for own in by_step("expected")]
    np.testing.assert_allclose(said["log_likelihood"], [a[0] for a in at_point], rtol=1e-10)
    np.testing.assert_allclose(said["row_bound"], [a[0] for a in expected], rtol=1e-10)
    for i, (size, own) in enumerate(zip(LENGTHS, by_step("expected"), strict=True)):
        resp = expected[i][1]
        np.testing.assert_allclose(said["responsibilities"][i, :size], resp, atol=1e-10)
        np.testing.assert_array_equal(said["responsibilities"][i, size:], 0.0)
        np.testing.assert_array_equal(said["predict"][i], np.r_[resp.argmax(1), [-1] * (t - size)])
        np.testing.assert_array_equal(said["path"][i], np.r_[at_point[i][2], [-1] * (t - size)])
        past = hmm.filtered(*known["expected logs"], own)
        np.testing.assert_allclose(said["filtered"][i, :size], past, atol=1e-10)
        np.testing.assert_allclose(past[-1], resp[-1], atol=1e-12)
        last, moves = at_point[i][1][-1], np.exp(known["logs at point"][1])
        for h in range(HORIZON):
            last = last @ moves
            np.testing.assert_allclose(forecast.states[i, h], last, atol=1e-10)
    # missing entries given all of their sequence, and steps to come
    resp = np.zeros(shape)
    for i, size in enumerate(LENGTHS):
        resp[i, :size] = at_point[i][1]
    value, spread = said["impute"]
    for name, x in columns(batch.x if batch.mask is not None else {}):
        x, mask = np.asarray(x), np.asarray(of(batch.mask, name))
        mean, variance = (of(part, name) for part in known["impute"])
        if variance is None:  # categories: probabilities (n, k, d, c)
            p = np.einsum("ntk,ntkdc->ntdc", resp, mean.reshape(*shape, *mean.shape[2:]))
            found = p.argmax(-1)
            p = np.where(
                mask.reshape(p.shape[:-1])[..., None], of(spread, name).reshape(p.shape), p
            )
            np.testing.assert_allclose(of(spread, name).reshape(p.shape), p, atol=1e-10)
            missing = ~mask & (steps > 0).reshape(*steps.shape, *[1] * (mask.ndim - 2))
            np.testing.assert_array_equal(
                of(value, name)[missing], found.reshape(mask.shape)[missing]
            )
            continue
        mean, variance = (a.reshape(*shape, -1) for a in (mean, variance))
        centre, sd = mixed(resp, mean, variance)
        real = (steps > 0)[..., None] | np.isin(np.arange(t), [1])[None, :, None]
        own = of(value, name).reshape(centre.shape), of(spread, name).reshape(centre.shape)
        seen = mask.reshape(centre.shape)
        exists = np.arange(t)[None, :, None] < np.array(LENGTHS)[:, None, None]
        where = exists & ~seen & real
        np.testing.assert_allclose(own[0][where], centre[where], rtol=1e-9)
        np.testing.assert_allclose(own[1][where], sd[where], rtol=1e-7, atol=1e-9)
        np.testing.assert_array_equal(own[0][seen], x.reshape(centre.shape)[seen])
        np.testing.assert_array_equal(own[1][seen], 0.0)
    assert forecast.states.shape == (3, HORIZON, K)


@pytest.fixture(scope="module")
def counts():
    """Ragged sequences of counts, a model and a q."""
    rng = np.random.default_rng(1)
    xs = [POISSON.rows(rng, t) for t in (5, 2, 3)]
    model = vx.HMM(vx.Chain.from_standard(gammas(rng, K), gammas(rng, K, K)), POISSON.prior(rng, K))
    return xs, model, vx.fit(model, xs, init=[rng.dirichlet(np.ones(K), len(x)) for x in xs])


def test_answers_have_the_form_of_the_sequences(counts):
    xs, model, fit = counts
    for name, more in {
        "responsibilities": (K,),
        "filtered": (K,),
        "predict": (),
        "path": (),
    }.items():
        ask = getattr(model, name)
        listed, padded = ask(fit, xs), ask(fit, vx.Batch.sequences(xs))
        assert [a.shape for a in listed] == [(len(x), *more) for x in xs]
        assert padded.shape == (3, 5, *more)
        for i, own in enumerate(listed):
            np.testing.assert_array_equal(own, padded[i, : len(own)])
            np.testing.assert_allclose(ask(fit, xs[i]), own, atol=1e-12)
        equal = np.stack([x[:2] for x in xs])
        assert ask(fit, equal).shape == (3, 2, *more)
        np.testing.assert_allclose(ask(fit, equal), np.stack(ask(fit, list(equal))), atol=1e-12)
    assert model.log_likelihood(fit, xs).shape == model.row_bound(fit, xs).shape == (3,)
    assert model.log_likelihood(fit, xs[0]).shape == (1,)
    ahead = model.forecast(fit, xs, HORIZON)
    assert ahead.states.shape == (3, HORIZON, K)
    assert ahead.mean.shape == ahead.sd.shape == (3, HORIZON, 2)
    value, spread = model.impute(fit, xs)
    assert [a.shape for a in value] == [a.shape for a in spread] == [x.shape for x in xs]


def test_weights_and_labels_of_sequences_that_are_read(counts):
    """What is read does not depend on weights; labels are conditions, but for the density."""
    xs, model, fit = counts
    plain = vx.Batch.sequences(xs)
    light = vx.Batch.sequences(xs, [0.0, 3.0, 0.0])
    for name in ("responsibilities", "path", "log_likelihood", "row_bound"):
        ask = getattr(model, name)
        np.testing.assert_array_equal(ask(fit, light), ask(fit, plain))
    label = [[1, -1, -1, -1, -1], [-1, -1], [-1, -1, 0]]
    known = vx.Batch.sequences(xs, label=label)
    np.testing.assert_array_equal(
        model.log_likelihood(fit, known), model.log_likelihood(fit, plain)
    )
    assert model.path(fit, known)[0, 0] == model.predict(fit, known)[0, 0] == 1
    np.testing.assert_array_equal(model.responsibilities(fit, known)[2, 2], [1.0, 0.0])
    assert (model.row_bound(fit, known) <= model.row_bound(fit, plain)).all()


def test_far_and_impossible_steps_say_what_they_can(rng):
    """A step whose density underflows leaves the others as they are."""
    x = np.concatenate([rng.normal(size=(4, 1)), rng.normal(size=(4, 1)) + 8.0])
    model = vx.HMM.from_data(x, K, covariance="diag", stay=3.0)
    fit = vx.fit(model, x, init=np.repeat([0, 1], 4))
    far = x.copy()
    far[2], far[5] = -1e300, 1e300  # where the wider state is the likelier one
    point = fit.q.point()
    wide = int(np.argmax(point.components.covariance))
    log_lik = np.array(model.step_log_lik(point, vx.Batch.sequences([far])))[0]
    log_lik[[2, 5]] = np.where(np.arange(K) == wide, 0.0, -np.inf)
    for name in ("responsibilities", "filtered"):
        found = np.asarray(getattr(model, name)(fit, far))
        np.testing.assert_allclose(found.sum(-1), 1.0)
        np.testing.assert_allclose(found[[2, 5]], np.eye(K)[[wide, wide]], atol=1e-15)
    moves, begin = point.labels.transitions.log_p, point.labels.initial.log_p

    def score(z):
        return begin[z[0]] + moves[z[:-1], z[1:]].sum() + log_lik[np.arange(8), z].sum()

    states = max(map(np.array, itertools.product(range(K), repeat=8)), key=score)
    np.testing.assert_array_equal(model.path(fit, far), states)
    assert np.isfinite(model.forecast(fit, far, 2).mean).all()
    flags = (x > 4).astype(float)
    sure = vx.HMM.flat(K, 1, emission="bernoulli")
    estimate = vx.fit(
        sure, flags[:4], init=np.array([0, 0, 1, 1]), method=vx.EM(), stop=vx.Stop(max_iter=1)
    )
    assert np.isneginf(sure.log_likelihood(estimate, flags)).all()
    np.testing.assert_allclose(sure.responsibilities(estimate, flags).sum(-1), 1.0)


def test_forecasts_are_simulations(counts):
    """Of a sequence that has not begun, also by draws from the model."""
    xs, model, fit = counts
    n = 20_000
    x, states = model.sample(fit, KEY, n, length=HORIZON)
    assert x.shape == (n, HORIZON, 2)
    assert states.shape == (n, HORIZON)
    none = vx.Batch.sequences([np.full((2, 2), np.nan), *xs], missing=True)
    ahead = model.forecast(fit, none, HORIZON)
    share = np.stack([(np.asarray(states) == k).mean(0) for k in range(K)], -1)
    np.testing.assert_allclose(ahead.states[0], share, atol=4 * 0.5 / np.sqrt(n))
    error = np.asarray(x).std(0) / np.sqrt(n)
    assert (np.abs(np.asarray(x).mean(0) - ahead.mean[0]) < 5 * error).all()
    point = fit.q.point()
    start, moves = (np.exp(m.log_p) for m in (point.labels.initial, point.labels.transitions))
    z = np.asarray(states)
    np.testing.assert_allclose(share[0], start, atol=4 * 0.5 / np.sqrt(n))
    for i in range(K):
        after = z[:, 1][z[:, 0] == i]
        np.testing.assert_allclose((after == 0).mean(), moves[i, 0], atol=2 / np.sqrt(len(after)))
    draws = model.sample_parameters(fit, KEY, (n,))
    assert draws["transitions"].shape == (n, K, K)
    np.testing.assert_allclose(
        draws["transitions"].mean(0), fit.q.labels.transitions.mean, atol=0.02
    )
    np.testing.assert_allclose(draws["initial"].mean(0), fit.q.labels.initial.mean, atol=0.02)


def test_exposure_and_noise_are_of_the_steps_that_had_them(counts, rng):
    """Forecasts are per unit of exposure."""
    xs, model, fit = counts
    exposure = [np.full(len(x), 4.0) for x in xs]
    twice = model.forecast(fit, vx.Batch.sequences(xs, exposure=exposure), 1)
    rate = np.asarray(fit.q.components.each.mean)
    np.testing.assert_allclose(twice.mean[:, 0], twice.states[:, 0] @ rate, rtol=1e-10)


EMISSION_NAMES = {
    "gaussian": lambda r, z: r.normal(size=(len(z), 2)) + 4 * z[:, None],
    "student_t": lambda r, z: r.standard_t(3, size=(len(z), 2)) + 4 * z[:, None],
    "poisson": lambda r, z: r.poisson(1 + 6 * z[:, None], (len(z), 2)) * 1.0,
    "exponential": lambda r, z: r.exponential(1 + 6 * z[:, None], (len(z), 2)),
    "bernoulli": lambda r, z: (r.random((len(z), 2)) < 0.2 + 0.6 * z[:, None]) * 1.0,
    "geometric": lambda r, z: r.geometric(0.2 + 0.6 * z[:, None], (len(z), 2)) - 1.0,
    "categorical": lambda r, z: r.integers(2, size=(len(z), 2)) + z[:, None] * 1.0,
    "multinomial": lambda r, z: r.multinomial(5, [0.2, 0.3, 0.5], len(z)) * 1.0,
}
MIXTURES = {
    "gaussian": vx.GaussianMixture,
    "student_t": vx.StudentTMixture,
    "poisson": vx.PoissonMixture,
    "exponential": vx.ExponentialMixture,
    "bernoulli": vx.BernoulliMixture,
    "geometric": vx.GeometricMixture,
    "categorical": vx.CategoricalMixture,
    "multinomial": vx.MultinomialMixture,
}


@pytest.mark.parametrize("name", EMISSION_NAMES)
def test_priors_from_data_are_those_of_mixtures(rng, name):
    """Of all steps; also of maximum likelihood, and of a column of its own."""
    z = np.repeat([0, 1, 0], 4)
    x = EMISSION_NAMES[name](rng, z)
    model = vx.HMM.from_data([x[:7], x[7:]], K, emission=name, stay=2.0, conc=0.5)
    mixture = MIXTURES[name].from_data(x, K)
    for a, b in zip(
        jax.tree.leaves(model.components), jax.tree.leaves(mixture.components), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    np.testing.assert_allclose(model.labels.transitions.conc, 0.5 + 2.0 * np.eye(K))
    assert repr(model).startswith("HMM(2 states")
    if name not in ("student_t", "categorical"):
        flat = vx.HMM.flat(K, x.shape[1], emission=name)
        assert flat.improper
        assert flat.num_components == K


@pytest.mark.long
def test_tables_with_text_and_holes(rng):
    """Lists of frames, dicts, and what is read of them by name."""
    z = np.repeat([0, 1, 0], 5)
    table = pd.DataFrame(
        {
            "width": rng.normal(size=15) + 5 * z,
            "kind": np.where(rng.random(15) < 0.1 + 0.8 * z, "big", "small"),
            "visits": rng.poisson(1 + 6 * z),
        }
    )
    table.loc[3, "kind"] = None
    table.loc[8, "width"] = np.nan
    kinds = {"width": "gaussian", "kind": "categorical", "visits": "poisson"}
    frames = [table[:6], table[6:]]
    batch = vx.Batch.sequences(frames, missing=True).by_name()
    model = vx.HMM.from_data(batch, K, emission=kinds)
    fit = vx.fit(model, batch, init=[z[:6], z[6:]]).check()
    np.testing.assert_array_equal(model.path(fit, batch)[1], z[6:])
    value, spread = model.impute(fit, batch)
    assert value["kind"].shape == (2, 9)
    assert value["kind"][0, 3] == "small"
    assert spread["kind"].shape == (2, 9, 2)
    assert 3 < value["width"][1, 2] < 7
    ahead = model.forecast(fit, batch, 2)
    assert set(np.ravel(ahead.mean["kind"])) <= {"big", "small"}
    drawn, states = model.sample(fit, KEY, 2, length=3)
    assert drawn["width"].shape[:2] == states.shape == (2, 3)
    assert set(np.ravel(drawn["kind"])) <= {"big", "small"}
    shown = fit.summary()
    for word in (
        "2 of 2 states",
        "share",
        "stay",
        "to 0",
        "mean width",
        "p kind=big",
        "rate visits",
    ):
        assert word in shown
    whole = {name: column.to_numpy() for name, column in table[["visits"]].items()}
    one = vx.HMM.from_data(whole, K, emission={"visits": "poisson"})
    assert one.predict(one.prior, whole).shape == (15,)
    with pytest.raises(ValueError, match="sequence 1, step 2"):
        vx.Batch.sequences([{"visits": np.ones(2)}, {"visits": np.array([1.0, 1.0, np.nan])}])
    broken = [{"visits": np.ones(2)}, {"visits": np.array([1.0, 1.0, 0.5])}]
    with pytest.raises(ValueError, match="sequence 1, step 2"):
        one.predict(one.prior, broken)
