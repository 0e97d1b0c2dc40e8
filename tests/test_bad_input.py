"""What cannot be fitted is refused by name; what merely looks odd is fitted."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vijax as vx

KEY = jax.random.key(0)
GOOD = np.random.default_rng(0).normal(size=(20, 2))


def model(k=3):
    return vx.GaussianMixture.from_data(GOOD, k)


def with_hole(value, row=4, column=1):
    x = GOOD.copy()
    x[row, column] = value
    return x


BAD_ROWS = [
    ("nan", with_hole(np.nan), ValueError, r"x: 1 NaN and 0 infinite entries, .* row 4, column 1"),
    ("inf", with_hole(-np.inf, 7, 0), ValueError, r"x: 0 NaN and 1 infinite .* row 7, column 0"),
    ("no rows", np.zeros((0, 2)), ValueError, r"x: need at least one row .* \(0, 2\)"),
    ("no columns", np.zeros((5, 0)), ValueError, r"x: need at least one row .* \(5, 0\)"),
    ("scalar", 3.0, ValueError, r"x: need at least one row .* \(\)"),
    ("text", np.array([["a", "b"]]), TypeError, "x: need real numbers, got dtype <U1"),
    ("objects", np.array([[{}, 1]], object), TypeError, "x: need real numbers, got dtype object"),
    ("complex", GOOD + 1j, TypeError, "x: need real numbers, got dtype complex128"),
    ("keys", jax.random.split(KEY, 4), TypeError, "x: need real numbers, got a key"),
]
IDS = [row[0] for row in BAD_ROWS]


@pytest.mark.parametrize(("_", "x", "error", "match"), BAD_ROWS, ids=IDS)
def test_rows(_, x, error, match):
    with pytest.raises(error, match=match):
        vx.GaussianMixture.from_data(x, 3)
    with pytest.raises(error, match=match):
        vx.fit(model(), x, key=KEY)


def test_a_remedy_is_named():
    with pytest.raises(ValueError, match="remove these rows or give them weight 0"):
        vx.fit(model(), with_hole(np.nan), key=KEY)
    weight = np.where(np.isnan(with_hole(np.nan)).any(1), 0.0, 1.0)
    assert np.isfinite(vx.fit(model(), vx.Batch.of(with_hole(np.nan), weight), key=KEY).elbo)


@pytest.mark.parametrize("shape", [(20,), (20, 2, 1)])
def test_rows_are_a_matrix(shape):
    x = np.ones(shape)
    hint = r"; use x\[:, None\]" if len(shape) == 1 else ""
    for attempt in (
        lambda: vx.GaussianMixture.from_data(x, 2),
        lambda: vx.fit(model(), x, key=KEY),
        lambda: model().predict(model().prior, x),
    ):
        with pytest.raises(
            ValueError, match=r"x: expected rows and columns, \(n, d\)" + ".*" + hint
        ):
            attempt()


def test_columns_must_be_those_of_the_prior():
    for attempt in (
        lambda: vx.fit(model(), np.ones((20, 3)), key=KEY),
        lambda: model().responsibilities(model().prior, np.ones((20, 3))),
    ):
        with pytest.raises(ValueError, match="x: has 3 columns, but the model's prior is for 2"):
            attempt()


@pytest.mark.parametrize(
    ("weight", "match"),
    [
        (np.ones(19), r"weight: expected one per row, shape \(20,\), got \(19,\)"),
        (np.full(20, -1.0), "weight: must be >= 0"),
        (np.zeros(20), "positive for at least one row"),
        (np.full(20, np.nan), "weight: must be finite"),
        (np.full(20, np.inf), "weight: must be finite"),
    ],
)
def test_weights(weight, match):
    with pytest.raises(ValueError, match=match):
        vx.Batch.of(GOOD, weight)


def test_text_weights():
    with pytest.raises(TypeError, match="weight: need real numbers"):
        vx.Batch.of(GOOD, ["a"] * 20)


GOOD_PRIOR = {"conc": 1.0, "mean": np.zeros(2), "kappa": 1.0, "df": 4.0, "scatter": np.eye(2)}

BAD_PRIORS = [
    ("conc", 0.0, "conc: must be finite and > 0, got 0"),
    ("conc", -1.0, "conc: must be finite and > 0, got -1"),
    ("conc", np.nan, "conc: must be finite and > 0, got nan"),
    ("conc", [1.0, 1.0], r"conc: expected a scalar or \(3,\) for 3 components, got shape \(2,\)"),
    ("kappa", 0.0, "kappa: must be finite and > 0, got 0"),
    ("kappa", [1.0, np.inf, 1.0], "kappa: must be finite and > 0, got inf"),
    ("kappa", np.ones((3, 1)), r"kappa: expected a scalar or \(3,\)"),
    ("df", 1.0, r"df: must be finite and > 1 \(d - 1\), got 1"),
    ("df", [4.0, 0.5, 4.0], r"df: must be finite and > 1 \(d - 1\), got 0.5"),
    ("mean", np.zeros(3), r"mean: expected \(2,\) or \(3, 2\) for 3 components, got shape \(3,\)"),
    ("mean", np.zeros((2, 2)), r"mean: expected \(2,\) or \(3, 2\) .* got shape \(2, 2\)"),
    ("mean", np.zeros((1, 2)), r"mean: expected \(2,\) or \(3, 2\) .* got shape \(1, 2\)"),
    ("scatter", np.ones(2), r"scatter: expected a scalar, \(d, d\) or \(k, d, d\)"),
    ("scatter", np.ones((2, 3)), r"scatter: expected"),
    ("scatter", np.ones((1, 2, 2)), r"scatter: expected \(2, 2\) or \(3, 2, 2\)"),
    ("scatter", np.ones((2, 2)), "scatter: must be positive definite, smallest eigenvalue"),
    ("scatter", -np.eye(2), "scatter: must be positive definite, smallest eigenvalue -1"),
    ("scatter", [[1.0, 0.5], [0.0, 1.0]], "scatter: must be symmetric"),
    ("scatter", [[1.0, np.nan], [np.nan, 1.0]], "scatter: must be finite"),
]


@pytest.mark.parametrize(("name", "value", "match"), BAD_PRIORS)
def test_priors(name, value, match):
    with pytest.raises(ValueError, match=match):
        vx.GaussianMixture.with_prior(3, **{**GOOD_PRIOR, name: value})
    if name not in ("mean", "scatter") or np.ndim(value) < 3:
        with pytest.raises(ValueError, match=f"{name}: "):
            vx.GaussianMixture.from_data(GOOD, 3, **{name: value})


def test_wrong_shapes_are_refused_where_they_would_broadcast():
    """Three components in three dimensions: a vector (3,) can only be what it is meant to be."""
    for name in ("conc", "kappa", "df"):
        prior = {"conc": 1.0, "mean": np.zeros(3), "kappa": 1.0, "df": 5.0, "scatter": np.eye(3)}
        each = vx.GaussianMixture.with_prior(3, **{**prior, name: np.array([5.0, 6.0, 7.0])})
        got = each.prior.weights.conc if name == "conc" else getattr(each.prior.components, name)
        np.testing.assert_array_equal(got, [5.0, 6.0, 7.0])
        for shape in ((3, 1), (1, 3), (1,), (3, 3)):
            with pytest.raises(ValueError, match=f"{name}: expected a scalar or"):
                vx.GaussianMixture.with_prior(3, **{**prior, name: np.full(shape, 5.0)})


def test_shared_and_own_priors_are_accepted():
    shared = vx.GaussianMixture.with_prior(3, **GOOD_PRIOR)
    own = vx.GaussianMixture.with_prior(
        3,
        conc=[1.0] * 3,
        mean=np.zeros((3, 2)),
        kappa=np.ones(3),
        df=[4.0] * 3,
        scatter=np.broadcast_to(np.eye(2), (3, 2, 2)),
    )
    scalar = vx.GaussianMixture.with_prior(
        3, **{**GOOD_PRIOR, "mean": 0.0, "scatter": 1.0, "df": 4}
    )
    for other in (own, scalar):
        for a, b in zip(jax.tree.leaves(shared.prior), jax.tree.leaves(other.prior), strict=False):
            if a.shape == b.shape:
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("k", [0, -3])
def test_number_of_components(k):
    match = f"num_components: must be at least 1, got {k}"
    with pytest.raises(ValueError, match=match):
        vx.GaussianMixture.from_data(GOOD, k)
    with pytest.raises(ValueError, match=match):
        vx.GaussianMixture.with_prior(k, **GOOD_PRIOR)
    with pytest.raises(ValueError, match=match):
        vx.GaussianMixture.flat(k, 2)


def test_wrong_types_are_refused_in_plain_python():
    """Here a type checker is faster, so this runs in a process without one."""
    script = """
import jax, numpy as np, vijax as vx
x = np.zeros((5, 2))
model = vx.GaussianMixture.from_data(x, np.int64(2))
for attempt in (
    lambda: vx.GaussianMixture.from_data(x, 2.5),
    lambda: vx.GaussianMixture.from_data(x, 2, k_max="3"),
    lambda: vx.fit(model, x, key=0),
    lambda: vx.fit(model, x, key=np.zeros(2, np.uint32)),
    lambda: vx.fit(model, x, key=jax.random.key(0), num_restarts=2.0),
):
    try:
        attempt()
    except TypeError as error:
        print(error)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [
        "num_components: expected an integer, got 2.5",
        "k_max: expected an integer, got '3'",
        "key: expected a typed key, jax.random.key(0), got int",
        "key: expected a typed key, jax.random.key(0), got ndarray",
        "num_restarts: expected an integer, got 2.0",
    ]


def test_room_for_components():
    with pytest.raises(ValueError, match="k_max: must be at least num_components = 3, got 2"):
        vx.GaussianMixture.from_data(GOOD, 3, k_max=2)
    with pytest.raises(ValueError, match="num_features: must be at least 1, got 0"):
        vx.GaussianMixture.flat(3, 0)


@pytest.mark.parametrize(
    ("init", "error", "match"),
    [
        (np.full((20, 3), 0.5), ValueError, "init: responsibilities must .* row 0 sums to 1.5"),
        (np.full((20, 3), np.nan), ValueError, "init: responsibilities must"),
        (np.tile([1.5, -0.5, 0.0], (20, 1)), ValueError, "init: responsibilities must"),
        (np.full((20, 2), 0.5), ValueError, r"init: expected responsibilities of shape \(20, 3\)"),
        (np.full((19, 3), 1 / 3), ValueError, r"init: expected responsibilities of shape"),
        (
            np.zeros(20),
            ValueError,
            r"integer labels of shape \(20,\), got shape \(20,\) .* float64",
        ),
        (np.full(20, 3), ValueError, r"init: labels must be components .* 0 .. 2; found 3"),
        (np.full(20, -1), ValueError, r"init: labels must be components .* found -1"),
        (np.zeros(19, int), ValueError, r"init: expected one label per row, shape \(20,\)"),
        ("kmeans", ValueError, "init: expected None, 'random', an array or a Result, got 'kmeans'"),
        (np.array(["a"] * 20), TypeError, "init: need real numbers"),
    ],
)
def test_starts(init, error, match):
    with pytest.raises(error, match=match):
        vx.fit(model(), GOOD, init=init)


def test_a_start_from_another_model():
    other = vx.fit(model(4), GOOD, key=KEY)
    with pytest.raises(ValueError, match="init: a q of 4 components for a model of 3"):
        vx.fit(model(3), GOOD, init=other)
    exact = vx.NormalGammaExact.with_prior(mean=0, kappa=1, shape=1, rate=1)
    with pytest.raises(TypeError, match="init: GaussianMixture is fitted by a MixtureParams, got"):
        vx.fit(model(3), GOOD, init=exact.prior)


def test_a_flat_prior_has_no_evidence():
    with pytest.raises(ValueError, match="method: a flat prior has no evidence to bound; use EM"):
        vx.fit(vx.GaussianMixture.flat(3, 2), GOOD, key=KEY)


ODD = {
    "fewer rows than components": (np.random.default_rng(1).normal(size=(3, 2)), 10),
    "one row": (np.array([[1.0, 2.0]]), 3),
    "more columns than rows": (np.random.default_rng(1).normal(size=(5, 9)), 3),
    "a constant column": (np.c_[np.arange(20.0), np.full(20, 7.0)], 3),
    "nothing but constants": (np.full((20, 2), 7.0), 3),
    "collinear columns": (np.c_[np.arange(20.0), 2 * np.arange(20.0)], 3),
    "identical rows": (np.repeat([[1.0, -3.0]], 20, axis=0), 2),
    "one column": (np.random.default_rng(1).normal(size=(20, 1)), 3),
    "flags": (np.arange(20)[:, None] % 2 == 0, 3),
    "tiny": (GOOD * 1e-150, 3),
    "one far row": (np.concatenate([GOOD, [[1e6, 1e6]]]), 3),
    "zeros": (np.zeros((5, 2)), 2),
}


@pytest.mark.float32(hasty=True)
@pytest.mark.parametrize("method", [vx.CAVI(), vx.EM()], ids=["CAVI", "EM"])
@pytest.mark.parametrize("name", ODD)
def test_odd_data_are_fitted(name, method):
    x, k = ODD[name]
    if name == "tiny" and not jax.config.jax_enable_x64:
        x = x * 1e140
    m = vx.GaussianMixture.from_data(x, k)
    fit = vx.fit(m, x, key=KEY, num_restarts=3, method=method)
    assert np.isfinite(fit.elbos).all()
    assert (np.asarray(fit.statuses) == vx.Status.CONVERGED).all()
    assert np.isfinite(fit.q.components.covariance).all()
    np.testing.assert_allclose(fit.q.weights.mean.sum(), 1.0, rtol=1e-5)
    assert np.isfinite(m.responsibilities(fit.q, x)).all()


class Frame:
    """What data frames promise NumPy."""

    def __init__(self, columns):
        self.columns = columns

    def __array__(self, dtype=None, copy=None):
        kind = None if len({type(v) for c in self.columns for v in c}) == 1 else object
        return np.array(self.columns, dtype or kind).T


def test_frames_and_lists_go_in():
    labels = np.zeros(20, int)
    expected = vx.fit(model(), GOOD, init=labels).elbo
    for x in (GOOD.tolist(), jnp.asarray(GOOD), Frame(GOOD.T.tolist())):
        fit = vx.fit(vx.GaussianMixture.from_data(x, 3), x, init=labels)
        np.testing.assert_allclose(fit.elbo, expected, rtol=1e-12)
    with pytest.raises(TypeError, match="x: need real numbers, got dtype object"):
        vx.Batch.of(Frame([[1.0, 2.0], ["x", "y"]]))


def stop_with(**values):
    """A Stop of values that the type checker of these tests would refuse."""
    stop = vx.Stop()
    for name, value in values.items():
        object.__setattr__(stop, name, value)
    return stop


BAD_CALLS = {
    "tol": ({"stop": vx.Stop(tol=np.nan)}, ValueError, "stop: tol: must be finite and >= 0"),
    "negative tol": ({"stop": vx.Stop(tol=-1.0)}, ValueError, "stop: tol: must be finite and >= 0"),
    "patience": ({"stop": vx.Stop(patience=0)}, ValueError, "stop: patience: .* >= 1, got 0"),
    "max_iter": ({"stop": vx.Stop(max_iter=0)}, ValueError, "stop: max_iter: .* >= 1, got 0"),
    "half an iteration": (
        {"stop": stop_with(max_iter=1.5)},
        TypeError,
        "stop: max_iter: expected an integer, got 1.5",
    ),
    "an array": (
        {"stop": stop_with(patience=np.float32(2.0))},
        TypeError,
        "stop: patience: expected an integer, got float32",
    ),
    "slack": ({"stop": vx.Stop(slack=-1.0)}, ValueError, "stop: slack: .* >= 0, got -1"),
    "trace": ({"stop": vx.Stop(trace=0)}, ValueError, "stop: trace: .* >= 1, got 0"),
    "a number for stop": ({"stop": 1e-4}, TypeError, "stop"),
    "a class": ({"method": vx.EM}, TypeError, r"method: expected a method such as CAVI\(\)"),
    "a name": ({"method": "em"}, TypeError, "method: expected a method .* got 'em'"),
    "chunk": ({"method": vx.CAVI(chunk=0)}, ValueError, "method: chunk: .* >= 1, got 0"),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_options(name, unchecked):
    options, error, match = BAD_CALLS[name]
    with pytest.raises(error, match=match):
        vx.fit(model(), GOOD, key=KEY, **options)


def test_arguments_in_each_others_place_are_told_in_a_line(unchecked):
    calls = [
        lambda: vx.fit(GOOD, model(), key=KEY),
        lambda: vx.trajectory(GOOD, model(), num_iters=2, key=KEY),
        lambda: vx.elbo(GOOD, model().prior, model()),
        lambda: vx.fit_many([GOOD, GOOD], model(), key=KEY),
    ]
    for call in calls:
        with pytest.raises(TypeError, match="model, data: the model comes first"):
            call()
    for bad in (GOOD, jnp.asarray(GOOD), [GOOD], vx.GaussianMixture, None, 3):
        with pytest.raises(TypeError, match="model: expected a model such as") as caught:
            vx.fit(bad, GOOD, key=KEY)
        assert len(str(caught.value)) < 150


def test_other_arguments(unchecked):
    with pytest.raises(TypeError, match="model: expected a model such as GaussianMixture"):
        vx.fit(vx.GaussianMixture, GOOD, key=KEY)
    for q in (None, np.zeros(20, int)):
        with pytest.raises(TypeError, match="q: expected a q or a Result"):
            vx.elbo(model(), q, GOOD)
    with pytest.raises(ValueError, match="num_iters: must be finite and >= 1, got 0"):
        vx.trajectory(model(), GOOD, key=KEY, num_iters=0)
    with pytest.raises(TypeError, match="num_features"):
        vx.GaussianMixture.flat(2, 2.0)
    with pytest.raises(ValueError, match="mean: must be finite, got nan"):
        vx.GaussianMixture.with_prior(2, **GOOD_PRIOR | {"mean": [np.nan, 0.0]})
    with pytest.raises(ValueError, match="shape: must be finite and > 0, got inf"):
        vx.NormalGammaExact.with_prior(mean=0, kappa=1, shape=np.inf, rate=1)
    with pytest.raises(ValueError, match="x: rows of different length"):
        vx.Batch.of([[1.0, 2.0], [3.0]])
    masked = np.ma.masked_greater(GOOD, 1.0)
    with pytest.raises(TypeError, match="x: a masked array; give its data, and mask=~x.mask"):
        vx.GaussianMixture.from_data(masked, 3)
    vx.Batch.of(np.ma.masked_greater(GOOD, 1e9))  # nothing is masked


def test_a_label_out_of_range_is_not_wrapped():
    with pytest.raises(ValueError, match="found 4294967296"):
        vx.fit(model(), GOOD, init=np.full(20, 2**32))


def test_rows_of_weight_zero_may_hold_anything_in_a_start():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=20)
    padded = vx.Batch.of(np.r_[GOOD, np.full((5, 2), np.nan)], np.r_[np.ones(20), np.zeros(5)])
    alone = vx.fit(model(), GOOD, init=labels)
    by_label = vx.fit(model(), padded, init=np.r_[labels, np.full(5, -1)])
    by_resp = vx.fit(model(), padded, init=np.r_[np.eye(3)[labels], np.zeros((5, 3))])
    np.testing.assert_allclose(by_label.elbo, alone.elbo, rtol=1e-12)
    np.testing.assert_allclose(by_resp.elbo, alone.elbo, rtol=1e-12)


def test_standard_parameters_are_numbers_of_any_kind():
    """Python numbers and lists are converted, batch axes broadcast, bounds checked."""
    np.testing.assert_allclose(vx.Gamma.from_standard(2, 4).mean, 0.5)
    np.testing.assert_allclose(vx.Dirichlet.from_standard([1, 1, 2]).mean, [0.25, 0.25, 0.5])
    one = vx.NormalWishart.from_standard([0.0, 0.0], 1, 4, np.eye(2))
    assert jnp.isfinite(one.entropy())
    draws = vx.Gamma.from_standard(2.0, [1.0, 1.0, 1.0]).sample(KEY, (2,))
    assert draws.shape == (2, 3)
    assert len(np.unique(draws)) == 6
    assert vx.Normal.from_standard([0.0, 1.0, 2.0], 1.0).sample(KEY, (2,)).shape == (2, 3)
    for make, match in (
        (lambda: vx.Gamma.from_standard(-1.0, 1.0), "shape: must be finite and > 0, got -1"),
        (lambda: vx.Dirichlet.from_standard([-1.0, 2.0]), "conc: must be finite and >= 0, got -1"),
        (lambda: vx.Dirichlet.from_standard(1.0), "conc: needs at least 1 axes, got shape"),
        (
            lambda: vx.NormalWishart.from_standard([0.0, 0.0], 1.0, 1.0, np.eye(2)),
            r"df: must be finite and > 1 \(d - 1\), got 1",
        ),
        (lambda: vx.Normal.from_standard(0.0, 0.0), "precision: must be finite and > 0, got 0"),
        (
            lambda: vx.NormalGamma.from_standard(0.0, 1.0, np.nan, 1.0),
            "shape: must be finite and > 0, got nan",
        ),
    ):
        with pytest.raises(ValueError, match=match):
            make()
