"""Constraints: the determinant is that of the Jacobian, and the ends are out of reach."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vijax as vx
from vijax.constraints import (
    CholeskyCorrelation,
    Constraint,
    Interval,
    Ordered,
    Positive,
    PositiveOrdered,
    Real,
    Simplex,
)

INF = np.inf
MIXED = Interval([0.0, -INF, -2.0, 3.0], [1.0, 5.0, INF, 3.5])
# each with shapes of values
CASES = [
    (Real(), [(), (3,)]),
    (Positive(), [(), (2, 3)]),
    (Interval(-1.0, 3.0), [(), (2, 3)]),
    (Interval(2.0, INF), [(2,)]),
    (Interval(-INF, 2.0), [(2,)]),
    (MIXED, [(4,)]),
    (Ordered(), [(1,), (4,), (2, 3)]),
    (PositiveOrdered(), [(1,), (4,)]),
    (Simplex(), [(1,), (2,), (5,), (2, 3)]),
    (CholeskyCorrelation(), [(1, 1), (2, 2), (5, 5), (2, 3, 3)]),
]
ONE = [pytest.param(c, shapes[-1], id=str(c)) for c, shapes in CASES]
EACH = [pytest.param(c, shape, id=f"{c}{shape}") for c, shapes in CASES for shape in shapes]


@functools.partial(jax.jit, static_argnums=0)
def forward(constraint, u):
    return constraint.forward(u)


@functools.partial(jax.jit, static_argnums=0)
def inverse(constraint, value):
    return constraint.inverse(value)


def coordinates(constraint, value):
    """Coordinates of the value that are free, which define the volume."""
    if isinstance(constraint, Simplex):
        value = value[..., :-1]
    if isinstance(constraint, CholeskyCorrelation):
        value = value[(..., *np.tril_indices(value.shape[-1], -1))]
    return value.ravel()


@functools.partial(jax.jit, static_argnums=0)
def looked_at(constraint, u):
    """What one program can say about a constraint at u."""
    value, log_det = constraint.forward(u)
    jacobian = jax.jacfwd(lambda u: coordinates(constraint, constraint.forward(u)[0]))(u)
    return value, log_det, jacobian, constraint.inverse(value)


@pytest.mark.parametrize(("constraint", "shape"), EACH)
def test_log_det_is_that_of_the_jacobian_and_the_inverse_inverts(rng, constraint, shape):
    u = 1.5 * rng.standard_normal(constraint.free_shape(shape))
    value, log_det, jacobian, back = looked_at(constraint, jnp.asarray(u))
    assert value.shape == shape
    assert log_det.shape == ()
    exact = np.linalg.slogdet(np.reshape(jacobian, (u.size, u.size)))[1]
    np.testing.assert_allclose(log_det, exact, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(back, u, rtol=1e-9, atol=1e-9)
    assert constraint.check(value).all()


@pytest.mark.float32
@pytest.mark.parametrize(("constraint", "shape"), ONE)
def test_far_out_values_stay_inside_and_all_is_finite(constraint, shape):
    dtype = jnp.float32
    size = constraint.free_shape(shape)
    signs = np.where(np.arange(np.prod(size, dtype=int)) % 2, -1.0, 1.0).reshape(size)
    directions = [np.ones(size), -np.ones(size), signs]
    far = np.stack([r * sign for r in (80.0, 1e4) for sign in directions])

    @jax.jit
    @jax.vmap
    def all_of_it(u):
        def weighed(u):
            value, log_det = constraint.forward(u)
            weights = jnp.linspace(0.5, 1.0, value.size, dtype=dtype).reshape(value.shape)
            return (weights * jnp.tanh(value)).sum() + log_det, (value, log_det)

        slope, (value, log_det) = jax.grad(weighed, has_aux=True)(u)
        return slope, value, log_det, constraint.inverse(value)

    found = all_of_it(jnp.asarray(far, dtype))
    assert all(a.dtype == dtype for a in found)
    assert all(np.isfinite(a).all() for a in found)
    for value in np.asarray(found[1]):
        if isinstance(constraint, Ordered):  # steps may be lost in rounding
            assert (np.diff(value) >= 0).all()
        else:
            assert constraint.check(value).all()


@pytest.mark.float32
def test_far_values_come_back_where_the_dtype_holds_them():
    """Next to 0 there are enough floats, also where squares of them are none."""
    u = jnp.asarray([-80.0, -40.0, -1.0, 2.0], jnp.float32)
    for constraint in (Positive(), Interval(0, 7), Interval(0, INF), Interval(-INF, 0)):
        v = -u if constraint == Interval(-INF, 0) else u
        np.testing.assert_allclose(inverse(constraint, forward(constraint, v)[0]), v, rtol=1e-5)
    u = jnp.asarray([60.0, 40.0, -35.0], jnp.float32)
    back = inverse(CholeskyCorrelation(), forward(CholeskyCorrelation(), u)[0])
    np.testing.assert_allclose(back, u, rtol=1e-5)


@pytest.mark.parametrize(
    ("constraint", "value"),
    [
        (Positive(), [0.0, INF]),
        (Interval(-1, 3), [-1.0, 3.0]),
        (MIXED, [0.0, 5.0, -2.0, 3.5]),
        (Ordered(), [1.0, 1.0, 2.0]),
        (PositiveOrdered(), [0.0, 0.0]),
        (Simplex(), [0.0, 1.0, 0.0]),
        (CholeskyCorrelation(), [[1.0, 0.0], [1.0, 0.0]]),
    ],
    ids=repr,
)
def test_the_boundary_does_not_satisfy_but_has_a_finite_inverse(constraint, value):
    assert not constraint.check(value).all()
    assert np.isfinite(inverse(constraint, np.asarray(value))).all()


def test_second_derivatives_at_the_start():
    """At 0 a formula with abs(u) has none: -2 log cosh(u / 2), and -2 log cosh(u) for d = 2."""
    for constraint, exact in [(Interval(0, 1), -0.5), (CholeskyCorrelation(), -2.0)]:
        hessian = jax.jit(jax.hessian(lambda u, c=constraint: c.forward(u)[1]))
        np.testing.assert_allclose(hessian(jnp.zeros(1)), [[exact]], atol=1e-12)


# -- densities ------------------------------------------------------------------------------------

GRID = np.linspace(-30.0, 30.0, 2401)


@pytest.mark.parametrize(
    ("constraint", "density"),
    [
        (Positive(), lambda x: x * np.exp(-x)),
        (Interval(-1.0, 3.0), lambda x: 0.75 * (1.0 - ((x - 1.0) / 2.0) ** 2) / 2.0),
        (Interval(2.0, INF), lambda x: np.exp(2.0 - x)),
        (Interval(-INF, 2.0), lambda x: np.exp(x - 2.0)),
    ],
    ids=["Gamma", "Beta", "beside low", "beside high"],
)
def test_densities_of_one_number_integrate_to_one(constraint, density):
    value, log_det = map(np.asarray, jax.jit(jax.vmap(constraint.forward))(jnp.asarray(GRID)))
    total = (density(value) * np.exp(log_det)).sum() * (GRID[1] - GRID[0])
    np.testing.assert_allclose(total, 1.0, rtol=1e-9)


def test_a_dirichlet_density_integrates_to_one():
    axis = np.linspace(-25.0, 25.0, 401)
    u = jnp.asarray(np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2))
    value, log_det = map(np.asarray, jax.jit(jax.vmap(Simplex().forward))(u))
    volume = (axis[1] - axis[0]) ** 2
    for conc, log_c in [([1.0, 1.0, 1.0], np.log(2.0)), ([2.0, 1.0, 3.0], np.log(60.0))]:
        log_p = log_c + ((np.asarray(conc) - 1.0) * np.log(value)).sum(-1)
        np.testing.assert_allclose(np.exp(log_p + log_det).sum() * volume, 1.0, rtol=1e-8)


def test_relabelled_probabilities_are_a_rotation(rng):
    u = jnp.asarray(rng.standard_normal(4))
    value, log_det = forward(Simplex(), u)
    turned = inverse(Simplex(), value[np.array([3, 0, 4, 1, 2])])
    np.testing.assert_allclose(np.linalg.norm(turned), np.linalg.norm(u), rtol=1e-12)
    np.testing.assert_allclose(forward(Simplex(), turned)[1], log_det, rtol=1e-12)


def test_rows_of_a_cholesky_factor_have_length_one(rng):
    factor, _ = forward(CholeskyCorrelation(), jnp.asarray(rng.standard_normal((2, 10))))
    correlation = np.asarray(factor) @ np.swapaxes(factor, -1, -2)
    np.testing.assert_allclose(np.diagonal(correlation, axis1=-2, axis2=-1), 1.0, rtol=1e-14)
    np.testing.assert_allclose(np.linalg.cholesky(correlation), factor, atol=1e-12)


def test_partial_correlations_are_those_of_the_matrix():
    z = np.tanh([0.4, -0.7, 1.1])
    factor, _ = forward(CholeskyCorrelation(), jnp.asarray([0.4, -0.7, 1.1]))
    r = np.asarray(factor) @ np.asarray(factor).T
    np.testing.assert_allclose([r[1, 0], r[2, 0]], z[:2], rtol=1e-12)
    given_first = (r[2, 1] - r[1, 0] * r[2, 0]) / np.sqrt((1 - r[1, 0] ** 2) * (1 - r[2, 0] ** 2))
    np.testing.assert_allclose(given_first, z[2], rtol=1e-12)


# -- what they are in a program -------------------------------------------------------------------


def test_equal_by_class_and_values():
    assert Interval(0, 1) == Interval(0.0, np.float32(1.0)) == Interval(jnp.asarray(0.0), 1)
    assert hash(Interval(0, 1)) == hash(Interval(0.0, 1.0))
    assert Interval(np.zeros(2), 1) == Interval((0, 0), 1.0) != Interval(0, 1)
    assert Interval(0, 1) != Interval(0, 2)
    assert Positive() == Positive() != Real()
    assert Positive() != 1
    assert len({c for c, _ in CASES} | {c for c, _ in CASES}) == len(CASES)
    assert not jax.tree.leaves([c for c, _ in CASES])


def test_equal_constraints_are_one_program():
    traced = []

    @functools.partial(jax.jit, static_argnums=0)
    def value(constraint, u):
        traced.append(constraint)
        return constraint.forward(u)[0]

    for constraint in (Interval(0, 1), Interval(0.0, 1.0), Interval(0, 2)):
        value(constraint, jnp.zeros(3))
    assert traced == [Interval(0, 1), Interval(0, 2)]


def test_short_forms():
    assert repr(Simplex()) == "Simplex()"
    assert repr(Interval(0, 1)) == "Interval(0, 1)"
    assert repr(Interval(np.zeros(2), INF)) == "Interval((0.0, 0.0), inf)"
    assert repr(Interval(0, np.ones(99))) == "Interval(0, array of shape (99,))"


def test_saved_and_read_again(tmp_path):
    given = {str(i): c for i, (c, _) in enumerate(CASES)}
    vx.save(tmp_path / "constraints", given)
    assert vx.load(tmp_path / "constraints") == given


@vx.pytree
class GreaterThan(Constraint):
    """One that a user might write."""

    least: float = vx.static()

    def forward(self, u):
        return self.least + jnp.exp(u), jnp.sum(u)

    def inverse(self, value):
        return jnp.log(value - self.least)


def test_constraints_of_ones_own(tmp_path):
    own, ours = GreaterThan(2.0), Interval(2.0, INF)
    u = jnp.asarray([0.3, -2.0])
    for a, b in zip(own.forward(u), ours.forward(u), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    assert own.free_shape((3, 2)) == (3, 2)
    np.testing.assert_array_equal(own.check([3.0, 1.0, np.nan]), [True, False, False])
    assert own == GreaterThan(2.0) != GreaterThan(3.0)
    assert repr(own) == "GreaterThan(least=2.0)"
    vx.save(tmp_path / "own", own)
    assert vx.load(tmp_path / "own") == own


# -- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "kind", "words"),
    [
        (-INF, INF, ValueError, r"Real\(\)"),
        ([0.0, -INF], INF, ValueError, r"Real\(\)"),
        (1.0, 1.0, ValueError, "low must be below high"),
        (np.nan, 1.0, ValueError, "low must be below high"),
        (np.zeros(2), np.ones(3), ValueError, "do not broadcast"),
        ("a", 1.0, TypeError, "low: "),
        (0.0, 1j, TypeError, "high: "),
    ],
    ids=repr,
)
def test_bad_ends(low, high, kind, words):
    with pytest.raises(kind, match=words):
        Interval(low, high)


def test_traced_ends_and_values_are_refused():
    with pytest.raises(TypeError, match="high: a tracer"):
        jax.jit(lambda high: Interval(0.0, high).forward(1.0))(2.0)
    with pytest.raises(TypeError, match="value: a tracer"):
        jax.jit(Positive().check)(1.0)


def test_ends_that_a_dtype_does_not_tell_apart():
    u = np.zeros((), np.float32)
    with pytest.raises(ValueError, match="too close to each other, for float32"):
        Interval(1e6, 1e6 + 1e-3).forward(u)
    with pytest.raises(ValueError, match="too large"):
        Interval(0, 1e39).forward(u)
    assert np.isfinite(Interval(-3e38, 3e38).forward(u)[1])


@pytest.mark.parametrize(
    ("constraint", "shape"),
    [
        (Ordered(), ()),
        (PositiveOrdered(), (2, 0)),
        (Simplex(), ()),
        (CholeskyCorrelation(), (3,)),
        (CholeskyCorrelation(), (3, 2)),
        (Interval(np.zeros(3), 1), (2,)),
        (Interval(np.zeros(3), 1), ()),
    ],
    ids=str,
)
def test_impossible_shapes(constraint, shape):
    name = type(constraint).__name__
    with pytest.raises(ValueError, match=name):
        constraint.free_shape(shape)
    with pytest.raises(ValueError, match=name):
        constraint.inverse(np.ones(shape))
    with pytest.raises(ValueError, match=name):
        constraint.check(np.ones(shape))


def test_impossible_free_numbers():
    for constraint, shape in [
        (Simplex(), ()),
        (Ordered(), ()),
        (CholeskyCorrelation(), (2,)),
        (CholeskyCorrelation(), ()),
        (Interval(np.zeros(3), 1), ()),
    ]:
        with pytest.raises(ValueError, match=type(constraint).__name__):
            constraint.forward(np.zeros(shape))


def test_check_says_which():
    np.testing.assert_array_equal(Positive().check([1.0, 0.0, np.nan, INF]), [1, 0, 0, 0])
    np.testing.assert_array_equal(Interval(0, 1).check([0.5, 1.0, -1.0]), [1, 0, 0])
    np.testing.assert_array_equal(Simplex().check([[0.3, 0.7], [0.3, 0.6], [-0.1, 1.1]]), [1, 0, 0])
    np.testing.assert_array_equal(Ordered().check([[1.0, 2.0], [2.0, 1.0]]), [1, 0])
    np.testing.assert_array_equal(PositiveOrdered().check([[1.0, 2.0], [-1.0, 1.0]]), [1, 0])
    upper = [[[1.0, 0.0], [0.6, 0.8]], [[0.8, 0.6], [0.0, 1.0]], [[1.0, 0.0], [0.6, -0.8]]]
    np.testing.assert_array_equal(CholeskyCorrelation().check(upper), [1, 0, 0])
    np.testing.assert_array_equal(Real().check([1.0, np.nan]), [1, 0])
