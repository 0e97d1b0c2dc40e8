"""Reading a fit: a Result in place of q, columns by their names, the terms of the bound."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from sklearn.mixture import GaussianMixture as Peer

import vijax as vx

from .data import clusters

KEY = jax.random.key(0)
READERS = ["responsibilities", "predict", "log_likelihood", "log_predictive"]


def tables(rng):
    """Models with data of every form, their true labels, and rows that differ from each other."""
    x, z = clusters(rng, n=30, k=2)
    counts = rng.poisson(np.array([[2.0, 30.0], [20.0, 3.0]])[z]).astype(float)
    codes = z[:, None] ^ (rng.uniform(size=(30, 2)) < 0.2)
    mixed = {"size": x[:, 0], "visits": counts[:, 0], "kind": codes[:, 0].astype(int)}
    kinds = {"size": "gaussian", "visits": "poisson", "kind": "categorical"}
    return {
        "full": (vx.GaussianMixture.from_data(x, 2), x, z),
        "tied": (vx.GaussianMixture.from_data(x, 2, covariance="tied"), x, z),
        "noise": (vx.GaussianMixture.from_data(x, 2, covariance="diag", noise=True), x, z),
        "student": (vx.StudentTMixture.from_data(x, 2, dof=4.0), x, z),
        "counts": (vx.PoissonMixture.from_data(counts, 2), counts, z),
        "mixed": (vx.MixedMixture.from_data(mixed, 2, kinds), mixed, z),
    }


@pytest.mark.parametrize("filler", [np.nan, np.inf, 1e200])
def test_what_rows_of_weight_zero_hold_changes_no_fit(rng, filler):
    """By every way into a fit: models, bounds, starts, many, chunks and streams."""
    x, z = clusters(rng, n=32, k=2)
    more, weight = np.concatenate([np.full((8, 2), filler), x]), np.r_[np.zeros(8), np.ones(32)]
    batch, label = vx.Batch.of(more, weight), np.r_[np.zeros(8, int), z]
    model = vx.GaussianMixture.from_data(batch, 2)
    plain = vx.GaussianMixture.from_data(x, 2)
    for a, b in zip(jax.tree.leaves(model), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)
    right = vx.fit(plain, x, init=z).elbo
    np.testing.assert_allclose(vx.fit(model, batch, init=label).elbo, right, rtol=1e-9)
    many = vx.fit_many(model, [batch, batch], init=[label, label])
    np.testing.assert_allclose(many.elbo, right, rtol=1e-9)
    stream = vx.Streaming(model).update(batch, init=label)
    np.testing.assert_allclose(stream.last.elbo, right, rtol=1e-9)
    chunks = vx.fit(model, vx.Chunks.of(more, weight, chunk=16), init=stream.last)
    np.testing.assert_allclose(chunks.elbo, right, rtol=1e-6)
    q = stream.last
    np.testing.assert_allclose(vx.elbo(model, q, batch), right, rtol=1e-6)
    resp = model.responsibilities(q, more[8:])
    resp = jnp.concatenate([jnp.full((8, 2), 0.5), resp])
    np.testing.assert_allclose(model.elbo(q, batch, resp), right, rtol=1e-6)


# -- a Result in place of q -----------------------------------------------------------------------


def test_every_method_takes_a_result(rng):
    model, x, z = tables(rng)["full"]
    fit = vx.fit(model, x, init=z)
    resp = model.responsibilities(fit.q, x)
    calls = {
        **{name: lambda q, name=name: getattr(model, name)(q, x) for name in READERS},
        "impute": lambda q: model.impute(q, x),
        "sample": lambda q: model.sample(q, KEY, 5),
        "sample_parameters": lambda q: model.sample_parameters(q, KEY, (2,)),
        "density": lambda q: model.density(q).log_prob(x[:3]),
        "elbo": lambda q: model.elbo(q, x, resp),
        "freeze": lambda q: model.freeze(q, [True, False]).components,
        "vx.elbo": lambda q: vx.elbo(model, q, x),
    }
    for name, call in calls.items():
        own, other = jax.tree.leaves(call(fit.q)), jax.tree.leaves(call(fit))
        for a, b in zip(own, other, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=name)


def test_what_is_no_fit_is_named(rng, unchecked):
    model, x, z = tables(rng)["full"]
    fit = vx.fit(model, x, init=z)
    with pytest.raises(TypeError, match="q: expected a Result, a q or a point of a mixture first"):
        model.predict(x, fit)
    with pytest.raises(TypeError, match="q: expected a posterior"):
        model.log_predictive(fit.q.point(), x)
    many = vx.fit_many(model, [x, x], init=[z, z])
    with pytest.raises(ValueError, match="q: a Result of many fits; take one of them"):
        model.predict(many, x)
    np.testing.assert_array_equal(model.predict(many[1], x), model.predict(fit, x))


def test_one_of_many_fits(rng):
    model, x, z = tables(rng)["full"]
    many = vx.fit_many(model, [x[:20], x, x[:25]], init=[z[:20], z, z[:25]])
    assert [float(fit.elbo) for fit in many] == many.elbo.tolist()
    assert many[1:].elbo.tolist() == many.elbo[1:].tolist()
    assert many[-1].elbo == many.elbo[2]
    chosen = many[np.array([True, False, True])]
    assert chosen.elbo.tolist() == many.elbo[np.array([0, 2])].tolist()
    assert jax.tree.leaves(many[1].q)[0].shape == jax.tree.leaves(model.prior)[0].shape
    with pytest.raises(IndexError, match="index 3"):
        many[3]
    with pytest.raises(TypeError, match="a single fit"):
        many[1][0]


# -- the terms of the bound -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["full", "tied", "noise", "student", "counts", "mixed"])
def test_the_terms_of_the_bound_add_up(rng, kind):
    """Entropy and KL against their definitions, for responsibilities at the optimum."""
    model, x, z = tables(rng)[kind]
    weight = rng.uniform(size=30)
    batch = vx.Batch.of(x, weight)
    fit = vx.fit(model, batch, init=z)
    terms = vx.elbo_terms(model, fit, batch)
    np.testing.assert_allclose(sum(terms.values()), fit.elbo, rtol=1e-9)
    resp = np.asarray(model.responsibilities(fit, x))
    entropy = -np.sum(weight[:, None] * np.where(resp > 0, resp * np.log(resp + 1e-300), 0.0))
    np.testing.assert_allclose(terms["entropy"], entropy, rtol=1e-6, atol=1e-12)
    log_p = fit.q.weights.moments().log_p
    np.testing.assert_allclose(terms["labels"], np.sum(weight[:, None] * resp * log_p), rtol=1e-9)
    kl = np.sum(fit.q.weights.kl(model.weights))
    np.testing.assert_allclose(terms["kl_weights"], -kl, rtol=1e-9)
    assert terms["kl_components"] < 0


def test_the_terms_of_a_model_without_classes(rng):
    x = rng.normal(size=20)
    model = vx.NormalGammaExact.with_prior(mean=0.0, kappa=1.0, shape=1.0, rate=1.0)
    fit = vx.fit(model, x)
    terms = vx.elbo_terms(model, fit, x)
    np.testing.assert_allclose(sum(terms.values()), model.log_evidence(x), rtol=1e-9)


# -- names of columns -----------------------------------------------------------------------------


def frames(rng):
    """A frame, the same with its columns in another order, and labels."""
    x, z = clusters(rng, n=40, d=3, k=2)
    frame = pd.DataFrame(x * [1.0, 10.0, 100.0], columns=["a", "b", "c"])
    return frame, frame[["c", "a", "b"]], z


@pytest.mark.parametrize(
    "build",
    [
        lambda x: vx.GaussianMixture.from_data(x, 2),
        lambda x: vx.GaussianMixture.from_data(x, 2, covariance="diag", noise=True),
        lambda x: vx.StudentTMixture.from_data(x, 2, dof=4.0),
        lambda x: vx.ExponentialMixture.from_data(x.abs() if hasattr(x, "abs") else x, 2),
    ],
    ids=["full", "noise", "student", "exponential"],
)
def test_columns_are_matched_by_name(rng, build):
    frame, other, z = frames(rng)
    frame, other = frame.abs(), other.abs()
    model = build(frame)
    fit = vx.fit(model, other, init=z)
    right = vx.fit(model, frame, init=z)
    assert fit.names == ("a", "b", "c")
    np.testing.assert_array_equal(fit.elbo, right.elbo)
    for name in READERS:
        read = getattr(model, name)
        np.testing.assert_array_equal(read(fit, other), read(right, frame), err_msg=name)
        # an array has no names, and is taken by position
        np.testing.assert_array_equal(read(fit, frame.to_numpy()), read(right, frame))


def test_missing_entries_and_noise_follow_their_columns(rng):
    frame, other, z = frames(rng)
    frame.iloc[::4, 1] = np.nan
    other = frame[["c", "a", "b"]]
    noise = rng.uniform(0.1, 1.0, size=(40, 3))
    model = vx.GaussianMixture.from_data(vx.Batch.of(frame, missing=True), 2)
    for more in ({}, {"noise": noise}):
        moved = {"noise": noise[:, [2, 0, 1]]} if more else {}
        right = vx.fit(model, vx.Batch.of(frame, missing=True, **more), init=z)
        found = vx.fit(model, vx.Batch.of(other, missing=True, **moved), init=z)
        np.testing.assert_allclose(found.elbo, right.elbo, rtol=1e-12)
    mean, _ = model.impute(found, vx.Batch.of(other, missing=True))
    assert not np.isnan(mean).any()


def test_other_columns_are_refused_by_name(rng):
    frame, _, z = frames(rng)
    model = vx.GaussianMixture.from_data(frame, 2)
    fit = vx.fit(model, frame, init=z)
    bad = {
        "x: no column 'b'; the model was made for columns a, b, c": frame[["a", "c"]],
        "x: no column 'c'": frame.rename(columns={"c": "C"}),
        "x: column 'more' is unknown": frame.assign(more=1.0),
        "x: columns a, b, c, a": frame[["a", "b", "c", "a"]],
    }
    for message, rows in bad.items():
        for attempt in (
            lambda rows=rows: model.predict(fit, rows),
            lambda rows=rows: vx.fit(model, rows, init=z),
            lambda rows=rows: vx.fit_many(model, [frame, rows], init=[z, z]),
        ):
            with pytest.raises(ValueError, match=message):
                attempt()


def test_names_are_kept_by_every_driver(rng, tmp_path):
    frame, other, z = frames(rng)
    model = vx.GaussianMixture.from_data(frame, 2)
    right = vx.fit(model, frame, init=z)
    names = ("a", "b", "c")
    many = vx.fit_many(model, [frame, other[:25], frame.to_numpy()], init=[z, z[:25], z])
    assert many.names == names
    np.testing.assert_allclose(many.elbo[np.array([0, 2])], right.elbo, rtol=1e-9)
    np.testing.assert_allclose(many.elbo[1], vx.fit(model, frame[:25], init=z[:25]).elbo, rtol=1e-9)
    vx.save(tmp_path / "fit.npz", {"model": model, "fit": right})
    back = vx.load(tmp_path / "fit.npz")
    assert back["fit"].names == back["model"].names == names
    np.testing.assert_array_equal(
        back["model"].predict(back["fit"], other), model.predict(right, frame)
    )
    chunks = vx.fit(model, vx.Chunks.of(other, chunk=16), init=right)
    assert chunks.names is not None
    np.testing.assert_allclose(chunks.elbo, right.elbo, rtol=1e-6)
    stream = vx.Streaming(model).update(other, init=z)
    assert stream.last.names == names
    np.testing.assert_allclose(stream.last.elbo, right.elbo, rtol=1e-9)
    by_rows = vx.fit(model, frame.to_numpy(), init=z)
    assert by_rows.names == names
    assert " a " in by_rows.summary()


def test_many_tables_of_mixed_columns(rng):
    _, x, z = tables(rng)["mixed"]
    kinds = {"size": "gaussian", "visits": "poisson", "kind": "categorical"}
    frame = pd.DataFrame(x)
    model = vx.MixedMixture.from_data(frame, 2, kinds)
    right = vx.fit(model, frame, init=z)
    many = vx.fit_many(model, [frame, frame[["kind", "size", "visits"]]], init=[z, z])
    np.testing.assert_allclose(many.elbo, right.elbo, rtol=1e-9)
    with pytest.raises(TypeError, match="datasets: a dict of data frames"):
        vx.fit_many(model, {"one": frame, "two": frame}, init=[z, z])


# -- criteria -------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance", ["full", "diag", "spherical", "tied"])
def test_criteria_of_a_posterior_mode_take_the_likelihood(rng, covariance):
    """The density of the prior is no part of BIC, AIC and ICL (Fraley & Raftery 2007)."""
    x, _ = clusters(rng, n=80, k=2)

    def build(rows, k, k_max):
        return vx.GaussianMixture.from_data(rows, k, covariance=covariance, k_max=k_max)

    sizes = [1, 2]
    found = vx.select_num_components(x, sizes, key=KEY, method=vx.EM(), build=build, num_restarts=2)
    for i, k in enumerate(sizes):
        density = build(x, k, 2).density(found.result(k).q.point())
        peer = Peer(k, covariance_type="full")  # its densities at our estimate
        peer.weights_, peer.means_ = (
            np.asarray(density.weight[:k]),
            np.asarray(density.location[:k]),
        )
        roots = np.linalg.cholesky(np.linalg.inv(np.asarray(density.scale[:k])))
        peer.precisions_cholesky_ = roots
        log_lik = peer.score_samples(x).sum()
        free = {"full": 6 * k - 1, "diag": 5 * k - 1, "spherical": 4 * k - 1, "tied": 3 * k + 2}
        free = free[covariance]
        np.testing.assert_allclose(found.bic[i], free * np.log(80) - 2 * log_lik, rtol=1e-6)
        np.testing.assert_allclose(found.aic[i], 2 * free - 2 * log_lik, rtol=1e-6)
        resp = peer.predict_proba(x)
        entropy = -np.sum(resp * np.log(np.maximum(resp, 1e-300)))
        np.testing.assert_allclose(found.icl[i], found.bic[i] + 2 * entropy, rtol=1e-6)


# -- how a Result shows itself --------------------------------------------------------------------


def test_a_result_shows_how_it_ended(rng):
    model, x, z = tables(rng)["full"]
    fit = vx.fit(model, x, init=z)
    first, *_ = fit.summary().splitlines()
    assert repr(fit) == f"Result({first})"
    assert "<p>CONVERGED, ELBO" in fit._repr_html_()
    assert "&gt;=" in fit._repr_html_()
    many = vx.fit_many(model, [x, x], init=[z, z])
    assert repr(many) == "Fits(2 fits: 2 CONVERGED)"
    seen = []
    jax.jit(lambda fit: seen.append(repr(fit)))(fit)
    assert seen == ["Result(traced)"]
