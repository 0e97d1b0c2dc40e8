"""Laws of every model: one row in `table.CASES` buys all of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vijax as vx
from vijax.infer.run.passes import expect

from ..table import CASES, leaves_close, names, rows_of


@pytest.fixture(params=CASES, ids=names(CASES))
def case(request):
    return request.param


@pytest.fixture
def built(case, rng):
    """A model, rows, and an arbitrary q."""
    x = case.data(rng)
    model = case.model(rng, x)
    return case, model, x, case.q(rng, model, x)


def one_sweep(model, q, batch, chunk=None):
    """One E-step and update with the bound at q: the whole of what a driver sees."""
    found = expect(model, q.moments(), batch, chunk)
    return found.log_z - model.kl(q), model.update(q, found.stats)


# compiled once for all tests of equal shapes
sweep = functools.partial(jax.jit, static_argnames="chunk")(one_sweep)


@jax.jit
def slope(model, q, batch):
    def bound(x, weight, q):
        return one_sweep(model, q, rows_of(x, weight))[0]

    return jax.grad(bound, (0, 1, 2))(batch.x, batch.weight, q)


def same(a, b, rtol=1e-10, atol=1e-10):
    """Equal bounds, and equal updates wherever their origins lie."""
    np.testing.assert_allclose(a[0], b[0], rtol=rtol)
    leaves_close(a[1].about(b[1]), b[1], rtol=rtol, atol=atol)


@pytest.mark.parametrize("chunk", [1, 7, 29, 60])
def test_chunks_change_nothing(built, chunk):
    _, model, x, q = built
    batch = rows_of(x)
    same(sweep(model, q, batch, chunk), sweep(model, q, batch))


@jax.jit
def at_once_and_one_by_one(model, q, last):
    return model.kl_and_move(q, last), (model.kl(q), jnp.sum(q.kl(last)))


def test_kl_and_move_are_both_divergences(built, rng):
    case, model, x, q = built
    got, exact = at_once_and_one_by_one(model, q, case.q(rng, model, x))
    np.testing.assert_allclose(got, exact, rtol=1e-12)


def test_order_of_rows_changes_nothing(built, rng):
    _, model, x, q = built
    shuffled = rows_of(x[rng.permutation(len(x))])
    same(sweep(model, q, shuffled), sweep(model, q, rows_of(x)))


def test_integer_weights_are_repeated_rows(built, rng):
    _, model, x, q = built
    times = rng.integers(0, 4, size=len(x))
    repeated = rows_of(np.repeat(x, times, axis=0))
    same(sweep(model, q, rows_of(x, times)), sweep(model, q, repeated))


def test_half_weights_halve(built):
    _, model, x, q = built
    twice = rows_of(np.concatenate([x, x]), np.full(2 * len(x), 0.5))
    same(sweep(model, q, twice), sweep(model, q, rows_of(x)))


@pytest.mark.parametrize("junk", [7.0, 1e300, np.nan, np.inf])
def test_weight_zero_is_absence(built, junk):
    _, model, x, q = built
    rows = np.concatenate([x, np.full_like(x[:5], junk)])
    padded = rows_of(rows, np.concatenate([np.ones(len(x)), np.zeros(5)]))
    same(sweep(model, q, padded), sweep(model, q, rows_of(x)))
    same(sweep(model, q, padded, chunk=9), sweep(model, q, rows_of(x)))


def test_weight_zero_is_absence_in_gradients(built):
    _, model, x, q = built
    weight = jnp.concatenate([jnp.ones(len(x)), jnp.zeros(5)])
    rows = jnp.concatenate([x, jnp.full_like(x[:5], jnp.nan)])

    gradient = slope(model, q, vx.Batch(rows, weight))
    plain = slope(model, q, vx.Batch(rows[: len(x)], weight[: len(x)]))
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    np.testing.assert_allclose(gradient[0][: len(x)], plain[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(gradient[0][len(x) :], 0.0)
    leaves_close(gradient[2], plain[2], rtol=1e-9, atol=1e-9)


def test_bound_is_a_bound(case, rng):
    """ELBO <= log evidence at any q, and equality where the family of q holds the posterior."""
    x = case.data(rng)[:6]
    model = case.model(rng, x)
    evidence = case.log_evidence(x, model)
    for _ in range(3):
        assert vx.elbo(model, case.q(rng, model, x), x) <= evidence + 1e-9
    key = jax.random.key(0) if model.draws else None
    fit = vx.fit(model, x, key=key, stop=vx.Stop(tol=1e-12))
    assert fit.elbo <= evidence + 1e-9
    if case.exact:
        np.testing.assert_allclose(fit.elbo, evidence, rtol=1e-12)


def test_bound_never_falls(built):
    """Over 20 whole sweeps from an arbitrary q."""
    _, model, x, q = built
    states = vx.trajectory(model, x, init=q, num_iters=20)
    elbo = np.asarray(states.elbo)
    assert (np.diff(elbo) >= -1e-9 * np.abs(elbo[:-1])).all()


@pytest.mark.parametrize(("scale", "offset"), [(1e-8, 0.0), (1e8, 0.0), (1.0, 1e6), (1e4, -1e8)])
@pytest.mark.parametrize("case", [case for case in CASES if case.rescale], ids=lambda c: c.name)
def test_units_and_offsets_change_nothing(case, rng, scale, offset):
    """The prior moves with the data; the bound changes by the volume element alone."""
    x = case.data(rng)
    model = case.model(rng, x)
    q = case.q(rng, model, x)
    moved_model = case.rescale(model, scale, offset)
    moved = x * scale + offset
    volume = x.size * np.log(scale)
    if case.mixture:
        resp = np.asarray(model.responsibilities(q, x))
        one = vx.fit(model, x, init=resp, stop=vx.Stop(max_iter=3))
        two = vx.fit(moved_model, moved, init=resp, stop=vx.Stop(max_iter=3))
        resp_two = moved_model.responsibilities(two.q, moved)
        np.testing.assert_allclose(resp_two, model.responsibilities(one.q, x), atol=1e-6)
    else:
        one, two = vx.fit(model, x), vx.fit(moved_model, moved)
    np.testing.assert_allclose(two.elbo + volume, one.elbo, rtol=1e-7)


def test_jit_changes_nothing(built):
    _, model, x, q = built
    batch = rows_of(x)
    with jax.disable_jit():
        eager = one_sweep(model, q, batch)
    same(sweep(model, q, batch), eager)


def test_vmap_over_data_sets_is_the_loop(case, rng):
    xs = [case.data(rng) for _ in range(3)]
    models = [case.model(rng, x) for x in xs]
    qs = [case.q(rng, model, x) for model, x in zip(models, xs, strict=True)]
    batches = [rows_of(x) for x in xs]
    stack = [jax.tree.map(lambda *a: jnp.stack(a), *group) for group in (models, qs, batches)]
    together = jax.vmap(sweep)(*stack)
    for i in range(3):
        same(jax.tree.map(lambda a, i=i: a[i], together), sweep(models[i], qs[i], batches[i]))


def test_protocol(built):
    """What `model.Model` promises is there, and pytrees survive a round trip."""
    _, model, _, _ = built
    for name in ("check", "init", "row_size", "local", "update", "kl", "draws", "prior"):
        assert hasattr(model, name)
    leaves, structure = jax.tree.flatten(model)
    assert type(jax.tree.unflatten(structure, leaves)) is type(model)
