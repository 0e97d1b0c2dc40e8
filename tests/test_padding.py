"""Any number of rows: padded to few sizes, which changes no fit and nothing that is read."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import vijax as vx
from vijax.data import padding

from .data import clusters
from .programs import programs
from .test_reading import READERS, tables

KEY = jax.random.key(0)
KINDS = ["full", "tied", "noise", "student", "counts", "mixed"]


def traced(fn, rows):
    """`fn(rows)` with rows that are tracers, so that they keep their number."""
    return jax.jit(fn)(jax.tree.map(jnp.asarray, rows))


def close(found, right, rtol=1e-6):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


def refused(batch):
    """What cannot be read of rows with noise."""
    return set() if batch.noise is None else {"log_predictive"}


# -- sizes ----------------------------------------------------------------------------------------


def test_sizes_are_few_and_not_much_larger():
    numbers = np.r_[1:3000, 2**16 - 3 : 2**16 + 3, 10**6, 10**7]
    sizes = np.array([padding.padded_size(int(n)) for n in numbers])
    assert (sizes >= numbers).all()
    assert (np.diff(sizes) >= 0).all()
    assert [padding.padded_size(int(s)) for s in sizes] == sizes.tolist()
    assert len(set(sizes[numbers <= 400])) <= 4
    many = numbers > 512
    assert (sizes[many] <= 1.25 * numbers[many]).all()
    assert (sizes[numbers > 2**16] <= 1.0625 * numbers[numbers > 2**16]).all()


# -- fits -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "init"),
    [
        *((kind, "labels") for kind in KINDS),
        ("full", "seeds"),
        ("mixed", "seeds"),
        ("full", "random"),
    ],
)
def test_a_padded_fit_is_the_fit(rng, kind, init):
    model, x, z = tables(rng)[kind]
    start = {"seeds": {"key": KEY}, "random": {"key": KEY, "init": "random"}, "labels": {"init": z}}
    options = start[init]
    found = vx.fit(model, x, **options)
    right = traced(lambda x: vx.fit(model, x, **options), x)
    np.testing.assert_allclose(found.elbo, right.elbo, rtol=1e-6)
    close(vx.elbo_terms(model, found, x), traced(lambda x: vx.elbo_terms(model, right, x), x), 1e-4)
    close(vx.elbo(model, found, x), found.elbo)


@pytest.mark.parametrize(
    "method", [vx.EM(), vx.SVI(batch_size=16), vx.Memoized(chunk=16), vx.Accelerated()], ids=repr
)
def test_by_every_method(rng, method):
    x, z = clusters(rng, n=70, k=2)
    model = vx.GaussianMixture.from_data(x, 2)
    options = {"method": method, "init": z, "key": KEY, "stop": vx.Stop(max_iter=5, tol=0.0)}
    found = vx.fit(model, x, **options)
    right = traced(lambda x: vx.fit(model, x, **options), x)
    np.testing.assert_allclose(found.elbo_trace[:5], right.elbo_trace[:5], rtol=1e-6)
    assert found.n_iter == right.n_iter


@pytest.mark.long
def test_restarts_moves_and_trajectories(rng):
    x, z = clusters(rng, n=70, k=3)
    model = vx.GaussianMixture.from_data(x, 4)
    for options in ({"num_restarts": 3}, {"moves": vx.Moves(max_trials=5)}):
        found = vx.fit(model, x, key=KEY, **options)
        right = traced(lambda x, options=options: vx.fit(model, x, key=KEY, **options), x)
        np.testing.assert_allclose(found.elbos, right.elbos, rtol=1e-6)
    resp = np.random.default_rng(0).dirichlet(np.ones(4), 70)
    for init in (resp, z, "random"):
        found = vx.trajectory(model, x, num_iters=4, init=init, key=KEY)

        def run(x, init=init):
            return vx.trajectory(model, x, num_iters=4, init=init, key=KEY)

        np.testing.assert_allclose(found.elbo, traced(run, x).elbo, rtol=1e-6)
    fit = vx.fit(model, x, init=z)
    right = traced(lambda rows: model.elbo(fit, rows[0], rows[1]), (x, resp))
    close(model.elbo(fit, x, resp), right)


def test_holes_noise_weights_and_labels_are_padded_with_their_rows(rng):
    x, z = clusters(rng, n=70, k=2)
    x[rng.uniform(size=x.shape) < 0.2] = np.nan
    batches = {
        "holes": vx.Batch.of(x, missing=True, weight=rng.gamma(2.0, size=70)),
        "noise": vx.Batch.of(x, missing=True, noise=rng.gamma(2.0, size=x.shape)),
        "labels": vx.Batch.of(x, missing=True, label=np.where(rng.uniform(size=70) < 0.5, z, -1)),
    }
    for batch in batches.values():
        model = vx.GaussianMixture.from_data(batch, 2)
        fit = vx.fit(model, batch, key=KEY)
        right = traced(lambda b, model=model: vx.fit(model, b, key=KEY), batch)
        np.testing.assert_allclose(fit.elbo, right.elbo, rtol=1e-6)
        for name in {*READERS, "impute"} - refused(batch):
            read = getattr(model, name)
            found = read(fit, batch)
            assert jax.tree.leaves(found)[0].shape[0] == 70
            close(found, traced(lambda b, read=read, fit=fit: read(fit, b), batch), 1e-5)


@pytest.mark.long
def test_selection_and_rows_on_a_device(rng):
    x, _ = clusters(rng, n=70, k=2)
    select = vx.select_num_components(x, [1, 2, 3], key=KEY, num_restarts=2)
    for i, k in enumerate(select.num_components):
        model = vx.GaussianMixture.from_data(x, k, conc=1.0)
        own = jax.random.split(KEY, 3)[i]
        right = traced(lambda x, m=model, key=own: vx.fit(m, x, key=key, num_restarts=2).elbo, x)
        np.testing.assert_allclose(select.results.elbo[i], right, rtol=1e-5)
    model = vx.GaussianMixture.from_data(x, 2)
    on_device = jax.device_put(x, jax.devices()[-1])
    fit = vx.fit(model, on_device, key=KEY)
    right = traced(lambda x: vx.fit(model, x, key=KEY).elbo, x)
    np.testing.assert_allclose(fit.elbo, right, rtol=1e-6)


def test_lengths_share_programs(rng):
    x, _ = clusters(rng, n=128, k=2)
    model = vx.GaussianMixture.from_data(x, 2)
    q = model.prior
    with programs("_fit") as fits, programs("_predict") as predictions:
        for n in range(66, 128, 7):
            vx.fit(model, x[:n], key=KEY)
            assert model.predict(q, x[:n]).shape == (n,)
    assert len(fits) <= 2
    assert len(predictions) <= 2


def test_reports_count_the_rows_that_were_given(rng):
    x, _ = clusters(rng, n=70, k=2)
    model = vx.GaussianMixture.from_data(x, 2)
    reports = []
    fit = vx.fit(model, x, key=KEY, callback=reports.append, stop=vx.Stop(max_iter=10, tol=0.0))
    seconds = reports[-1].seconds - (reports[-2].seconds if len(reports) > 1 else 0.0)
    rows = reports[-1].rows_per_second * seconds
    assert rows / 70 == pytest.approx(round(rows / 70))
    assert rows <= 70 * int(fit.n_iter) * 1.001


# -- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_rows_is_read_as_it_is(rng, kind, monkeypatch):
    model, x, z = tables(rng)[kind]
    q = vx.fit(model, x, init=z).q
    for name in READERS:
        read = getattr(model, name)
        right = traced(lambda x, read=read: read(q, x), x)
        close(read(q, x), right, 1e-5)
        with monkeypatch.context() as patch:
            patch.setattr(padding, "_PIECE", 7)  # rows come in pieces, the last one shorter
            close(read(q, x), right, 1e-5)


def test_a_density_is_read_as_it_is(rng, monkeypatch):
    x, z = clusters(rng, n=30, k=2)
    model = vx.GaussianMixture.from_data(x, 2)
    fit = vx.fit(model, x, init=z)
    density = model.density(fit)
    right = model.log_predictive(fit, x)
    close(density.log_prob(x), right, 1e-5)
    monkeypatch.setattr(padding, "_PIECE", 7)
    close(density.log_prob(x), right, 1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [0, 5, 200])
def test_as_many_draws_as_asked_for(rng, kind, n):
    model, _, _ = tables(rng)[kind]
    rows, label = model.sample(model.prior, KEY, n)
    assert label.shape == (n,)
    assert {a.shape[0] for a in jax.tree.leaves(rows)} == {n}


def test_totals_of_every_draw(rng):
    model = vx.MultinomialMixture.from_data(rng.poisson(5.0, size=(20, 3)).astype(float), 2)
    total = rng.integers(1, 50, size=70)
    rows, _ = model.sample(model.prior, KEY, 70, total=total)
    np.testing.assert_array_equal(np.sum(rows, -1), total)


# -- rows of weight zero --------------------------------------------------------------------------


def held_out(x, weight, **options):
    return vx.Batch.of(x, weight=weight, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_weight_zero_are_read_as_what_they_hold(rng, kind):
    """They are absent from a fit, which may write over them, but they have answers of their own."""
    model, x, z = tables(rng)[kind]
    q = vx.fit(model, x, init=z).q
    weight = (np.arange(30) % 3 > 0).astype(float)
    for name in READERS:
        read = getattr(model, name)
        right = read(q, x)
        close(read(q, held_out(x, weight)), right, 1e-6)
        close(read(q, vx.Batch.of(held_out(x, weight))), right, 1e-6)
        if name == "responsibilities":
            inside = jax.jit(lambda x, w, read=read: read(q, vx.Batch.of(x, weight=w)))
            close(inside(jax.tree.map(jnp.asarray, x), jnp.asarray(weight)), right, 1e-5)


def test_also_in_frames_of_other_order_beside_holes_and_noise(rng):
    x, z = clusters(rng, n=30, k=2)
    x[rng.uniform(size=x.shape) < 0.3] = np.nan
    weight = (np.arange(30) % 3 > 0).astype(float)
    noise = rng.gamma(2.0, size=x.shape)
    frame = pd.DataFrame(x, columns=["b", "a"])
    model = vx.GaussianMixture.from_data(vx.Batch.of(frame, missing=True), 2)
    q = vx.fit(model, vx.Batch.of(x, missing=True), init=z).q
    for options in ({}, {"noise": noise}):
        all_rows = vx.Batch.of(x, missing=True, **options)
        some = held_out(frame, weight, missing=True, **options)
        turned = {name: value[:, ::-1] for name, value in options.items()}
        turned = held_out(frame[["a", "b"]], weight, missing=True, **turned)
        for name in {*READERS, "impute"} - refused(all_rows):
            right = getattr(model, name)(q, all_rows)
            close(getattr(model, name)(q, some), right, 1e-6)
            found = getattr(model, name)(q, turned)
            found = jax.tree.map(lambda a: a[:, ::-1], found) if name == "impute" else found
            if name != "impute":
                close(found, right, 1e-6)


def test_parts_of_a_batch_keep_what_was_given(rng):
    x, z = clusters(rng, n=30, k=2)
    model = vx.GaussianMixture.from_data(x, 2)
    batch = held_out(x, np.r_[np.zeros(10), np.ones(20)])
    right = model.responsibilities(model.prior, x)
    close(model.responsibilities(model.prior, batch.take(jnp.arange(5, 15))), right[5:15])
    close(model.responsibilities(model.prior, batch.cut(8, 4)), right[8:12])


def test_a_row_of_weight_zero_may_hold_anything(rng):
    x, z = clusters(rng, n=30, k=2)
    model = vx.GaussianMixture.from_data(x, 2)
    q, weight = vx.fit(model, x, init=z).q, np.r_[np.zeros(2), np.ones(28)]
    right = model.responsibilities(q, x)
    x[0], x[1] = np.nan, np.inf
    found = model.responsibilities(q, held_out(x, weight))
    close(found[2:], right[2:])
    np.testing.assert_allclose(np.sum(found, -1), 1.0, rtol=1e-5)
    assert np.isnan(model.log_predictive(q, held_out(x, weight))[0])
    fits = vx.fit(model, held_out(x, weight), init=z), vx.fit(model, x[2:], init=z[2:])
    np.testing.assert_allclose(fits[0].elbo, fits[1].elbo, rtol=1e-6)
