"""Momentum gives the same fixed points in fewer passes, and never a lower objective."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vijax as vx
from vijax import Status
from vijax._pytree import replace
from vijax.infer.split_merge import split_merge

from .data import clusters
from .programs import programs
from .table import FAMILIES, leaves_close, names

METHODS = {"CAVI": vx.CAVI(), "EM": vx.EM()}
FAST = {name: vx.Accelerated(method) for name, method in METHODS.items()}
TIGHT = vx.Stop(tol=1e-12, max_iter=5000)
ANY_SIGN = ("shift", "tail", "origin", "start", "low", "high")  # coordinates without a bound


@pytest.fixture(scope="module")
def overlapping():
    """Clusters that overlap, a slow fit, and their labels."""
    return clusters(np.random.default_rng(0), n=150, k=3, separation=1.2)


@pytest.fixture(scope="module")
def rows(overlapping):
    return overlapping[0]


@pytest.fixture(scope="module")
def model(rows):
    return vx.GaussianMixture.from_data(rows, 5)


@pytest.fixture(params=METHODS)
def name(request):
    return request.param


def test_the_same_fixed_point_in_fewer_passes(name):
    x, labels = clusters(np.random.default_rng(1), n=120, k=3, separation=2.5)
    model = vx.GaussianMixture.from_data(x, 3)
    end = vx.Stop(tol=1e-20, max_iter=5000)
    plain = vx.fit(model, x, init=labels, method=METHODS[name], stop=end).check()
    fast = vx.fit(model, x, init=labels, method=FAST[name], stop=end).check()
    np.testing.assert_allclose(fast.elbo, plain.elbo, rtol=1e-12)
    same = plain.q.map(lambda a, b: b, fast.q)
    leaves_close(same, plain.q, rtol=1e-8, atol=1e-8)
    assert fast.point == plain.point
    assert fast.n_iter < plain.n_iter


@pytest.mark.filterwarnings("ignore:only 1 of 4 restarts")
def test_a_slow_fit_takes_half_the_passes(rows, name):
    model = vx.GaussianMixture.with_prior(5, **vx.presets.sklearn(rows, 5))
    stop = vx.Stop(tol=1e-6, max_iter=5000)
    options = {"key": jax.random.key(1), "num_restarts": 4, "init": "random", "stop": stop}
    plain = vx.fit(model, rows, method=METHODS[name], **options).check()
    fast = vx.fit(model, rows, method=FAST[name], **options).check()
    assert 2 * fast.runs.n_iter.sum() < plain.runs.n_iter.sum()
    assert fast.elbo > plain.elbo - 0.01


def test_every_state_has_the_objective_of_its_q_and_none_falls(rows, model, name, key):
    states = vx.trajectory(model, rows, key=key, method=FAST[name], num_iters=120)
    assert (np.diff(states.elbo) >= -1e-12 * np.abs(states.elbo[1:])).all()
    for i in (0, 5, 20, 60, 119):
        q = jax.tree.map(lambda a, i=i: a[i], states.q)
        value = vx.elbo(model, q, rows, method=METHODS[name])
        np.testing.assert_allclose(states.elbo[i], value, rtol=1e-12)
    assert (np.diff(states.elbo) == 0).any(), "no proposal was dropped: the guard was not at work"


@pytest.mark.parametrize("k", [3, 5])
def test_tol_is_the_distance_to_the_limit(overlapping, name, k):
    """Where a fit is on its way to its end; near a saddle no rule sees what is to come."""
    x, labels = overlapping
    model = vx.GaussianMixture.from_data(x, k)
    options = {"init": labels, "method": FAST[name]}
    end = vx.fit(model, x, stop=TIGHT, **options).check()
    for tol in (1e-3, 1e-6):
        fit = vx.fit(model, x, stop=vx.Stop(tol=tol), **options).check()
        assert -1e-9 < end.elbo - fit.elbo < 2 * tol


def _state(method, model, batch, next_q, best):
    """After a step to `best`, with momentum said to be in the proposal."""
    state = method.init(model, best, batch)
    state = method.step(model, state, batch, None)
    return replace(
        state, next_q=next_q, memory=replace(state.memory, weight=jnp.ones_like(state.elbo))
    )


def _wild(q, kind):
    """A proposal that must be dropped, and of which some numbers are harmless."""
    if kind == "far":
        return replace(q, components=replace(q.components, origin=q.components.origin + 100.0))
    if kind == "nan":
        return replace(q, components=q.components * jnp.nan)
    if kind == "weights":
        return replace(q, weights=replace(q.weights, conc=q.weights.conc.at[0].set(-0.1)))
    where = {"kappa": -1e-3, "df": 0.5}
    leaf = getattr(q.components, kind).at[0].set(where[kind])
    return replace(q, components=replace(q.components, **{kind: leaf}))


@pytest.mark.parametrize("kind", ["far", "nan", "weights", "kappa", "df"])
def test_wild_proposals_are_dropped(rows, model, name, kind):
    batch, method = vx.Batch.of(rows), FAST[name]
    start = vx.fit(model, rows, init=np.arange(150) % 5, method=METHODS[name]).q
    state = _state(method, model, batch, _wild(start, kind), start)
    new = method.step(model, state, batch, None)
    assert new.elbo == state.elbo
    leaves_close(new.q, state.q, rtol=0.0)
    leaves_close(new.next_q, state.memory.plain, rtol=0.0)
    assert new.improvement == np.finfo(float).max
    assert new.memory.weight == 0
    again = method.step(model, new, batch, None)
    assert again.elbo > state.elbo - 1e-9
    # without momentum it is the method's own fault, and is passed on
    bare = replace(state, memory=replace(state.memory, weight=jnp.zeros_like(state.elbo)))
    own = method.step(model, bare, batch, None)
    leaves_close(own.q, state.next_q, rtol=0.0)


@pytest.mark.parametrize("family", FAMILIES, ids=names(FAMILIES))
def test_what_is_outside_of_a_family_is_seen(family, rng):
    """A count, a rate or a scatter below zero, in one member: other numbers are not finite."""
    q = family.make(rng)
    finite = vx.Accelerated()._finite
    inside = finite(q)

    def seen(other):
        outside = finite(other)
        return any((a != b).any() for a, b in zip(inside, outside, strict=True))

    assert not seen(q)
    assert seen(q * -1.0)
    paths, structure = jax.tree.flatten_with_path(q)
    for i, (path, leaf) in enumerate(paths):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if any(part in name for part in ANY_SIGN):
            continue
        for value in (-1e-3, -1.0):
            leaves = [leaf for _, leaf in paths]
            leaves[i] = leaf.at[(0,) * leaf.ndim].set(value)
            assert seen(jax.tree.unflatten(structure, leaves)), (name, value)


@pytest.mark.long
def test_components_that_change_places_restart_the_momentum(key):
    """Ordered weights: F sorts the components now and then, and no difference makes sense."""
    x, _ = clusters(np.random.default_rng(3), n=150, k=3, separation=2.0)
    weights = vx.StickBreaking.dirichlet_process(1.0, 6)
    model = vx.GaussianMixture.from_data(x, 6, weights=weights)
    fit = vx.fit(model, x, key=key, num_restarts=3, method=FAST["CAVI"], stop=TIGHT).check()
    np.testing.assert_allclose(vx.elbo(model, fit.q, x), fit.elbo, rtol=1e-12)
    assert (np.diff(np.asarray(fit.elbo_trace)[: int(fit.n_iter)]) > -1e-9).all()
    plain = vx.fit(model, x, key=key, num_restarts=3, stop=TIGHT).check()
    np.testing.assert_allclose(fit.elbo, plain.elbo, rtol=1e-9)


def test_switched_off_components_stay_off(rows, key):
    model = vx.GaussianMixture.from_data(rows, 3, k_max=5)
    fit = vx.fit(model, rows, key=key, method=FAST["CAVI"]).check()
    assert (fit.q.weights.conc[3:] == 0).all()
    gap = fit.q.components.kl(model.components)
    np.testing.assert_allclose(gap[3:], 0.0, atol=1e-9)


def test_coupled_blocks(key):
    """q(mu) q(tau), and a learned concentration: q is any ExponentialFamily."""
    x = np.random.default_rng(0).normal(2.0, 3.0, 40)
    model = vx.FactorisedGaussian.with_prior(mean=0.0, kappa=0.1, shape=1.0, rate=1.0)
    plain = vx.fit(model, x, stop=TIGHT).check()
    fast = vx.fit(model, x, method=FAST["CAVI"], stop=TIGHT).check()
    np.testing.assert_allclose(fast.elbo, plain.elbo, rtol=1e-12)


def test_statuses(rows, model, name, key):
    one = vx.fit(model, rows, key=key, method=FAST[name], stop=vx.Stop(max_iter=1))
    assert one.status == Status.MAX_ITER
    assert one.n_iter == 1
    np.testing.assert_allclose(one.elbo, vx.elbo(model, one.q, rows, method=METHODS[name]))
    broken = jax.tree.map(lambda a: a * np.nan if a.dtype == float else a, model)
    bad = vx.fit(broken, rows, key=key, method=FAST[name])
    assert bad.status == Status.NON_FINITE
    assert bad.n_iter == 1


def test_a_fall_without_momentum_is_reported(rows, model, key):
    """An update that disagrees with the bound is the model's fault, not hidden by the guard."""

    class Falls(type(model)):
        def update(self, q, stats):
            return super().update(q, stats * 0.5)

    vx.pytree(Falls)
    wrong = Falls(*(getattr(model, f) for f in ("weights", "components", "switch", "frozen")))
    state = vx.fit(model, rows, key=key).q
    fit = vx.fit(wrong, rows, init=state, method=FAST["CAVI"])
    assert fit.status == Status.ELBO_DECREASED


def test_one_pass_over_the_rows_in_the_program(rows, model, name):
    """As many arrays of the size of the responsibilities as in the plain step."""
    batch = vx.Batch.of(rows)

    def row_arrays(method):
        state = method.init(model, model.prior, batch)
        jaxpr = jax.make_jaxpr(lambda s: method.step(model, s, batch, None))(state)
        return sum(str(jaxpr).count(shape) for shape in (f"[{len(rows)},5]", f"[5,{len(rows)}]"))

    assert row_arrays(FAST[name]) == row_arrays(METHODS[name]) > 5


def test_numbers_do_not_compile_anew(rows, model, key):
    options = {"key": key, "method": FAST["CAVI"]}
    vx.fit(model, rows, **options)
    with programs("_fit") as seen:
        vx.fit(model, rows[::-1], stop=vx.Stop(tol=1e-4), **options)
    assert not seen


@pytest.mark.long
def test_vmap_equals_a_loop(rows, model, key):
    fits = vx.fit(model, rows, key=key, num_restarts=3, method=FAST["CAVI"])
    batch = vx.Batch.of(rows)
    for i in range(3):
        k_start, _ = jax.random.split(jax.random.fold_in(key, i))
        q = split_merge(model, batch, model.init(k_start, batch), i)
        one = vx.fit(model, rows, init=q, method=FAST["CAVI"])
        assert one.n_iter == fits.runs.n_iter[i]
        np.testing.assert_allclose(one.elbo, fits.elbos[i], rtol=1e-10)


def test_what_cannot_be_accelerated_is_refused(rows, model, key, unchecked):
    with pytest.raises(TypeError, match=r"method: expected CAVI\(\) or EM\(\) to accelerate"):
        vx.fit(model, rows, key=key, method=vx.Accelerated(vx.Moves()))


@pytest.mark.float32
def test_float32_ends_where_float64_does(rng):
    x, labels = clusters(rng, n=2000, k=3, separation=2.5)
    model = vx.GaussianMixture.from_data(x.astype(np.float32), 3)
    x = x.astype(np.float32)
    plain = vx.fit(model, x, init=labels).check()
    fast = vx.fit(model, x, init=labels, method=vx.Accelerated()).check()
    assert fast.elbo.dtype == np.float32
    np.testing.assert_allclose(fast.elbo, plain.elbo, rtol=2e-6)
    assert fast.n_iter <= plain.n_iter
