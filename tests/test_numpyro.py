"""A numpyro model as a LogDensity: its own density, at any site, and the same fit as by hand."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jax.scipy.stats import norm

import vijax as vx
from vijax import constraints
from vijax.extras.numpyro import NumpyroConstraint, from_numpyro

from .programs import programs

numpyro = pytest.importorskip("numpyro")
import numpyro.distributions as dist  # noqa: E402
from numpyro.contrib.control_flow import scan  # noqa: E402
from numpyro.handlers import mask, reparam, scale  # noqa: E402
from numpyro.infer.reparam import LocScaleReparam  # noqa: E402
from numpyro.infer.util import log_density, potential_energy  # noqa: E402

Y = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
NO_ROWS = vx.Batch(np.zeros(0), np.zeros(0))
SIGMA = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


@pytest.fixture(autouse=True)
def _lenient():
    """numpyro itself mixes dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def schools(num_schools, sigma, y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfNormal(5))
    with numpyro.plate("schools", num_schools):
        z = numpyro.sample("z", dist.Normal(0, 1))
        theta = numpyro.deterministic("theta", mu + tau * z)
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


def of_all_supports(x, y, low):
    c = dist.constraints
    numpyro.sample("real", dist.StudentT(3, 0, 1).expand([2]))
    numpyro.sample("vector", dist.MultivariateNormal(jnp.zeros(2), jnp.eye(2)))
    numpyro.sample("positive", dist.LogNormal(0, 1))
    numpyro.sample("unit", dist.Beta(2, 3))
    numpyro.sample("ends", dist.Uniform(np.array([[-2.0], [-3.0]]), 2.5).expand([2, 3]))
    numpyro.sample("above", dist.TruncatedNormal(0, 1, low=low))
    numpyro.sample("below", dist.TruncatedNormal(0, 1, high=-0.5))
    with numpyro.plate("rows", 3):
        numpyro.sample("simplex", dist.Dirichlet(jnp.ones(3)))
    numpyro.sample("ordered", dist.ImproperUniform(c.ordered_vector, (), (3,)))
    numpyro.sample("upward", dist.ImproperUniform(c.positive_ordered_vector, (2,), (3,)))
    numpyro.sample("factor", dist.LKJCholesky(3, 2.0))
    numpyro.sample("angle", dist.VonMises(0, 1))
    # by numpyro's own maps
    numpyro.sample("covariance", dist.WishartCholesky(4.0, jnp.eye(2)))
    numpyro.sample("correlation", dist.LKJ(3, 1.5))
    numpyro.sample("zero_sum", dist.ZeroSumNormal(1.0, (4,)))
    with mask(mask=x > 0), scale(scale=0.5):
        slope = numpyro.sample("slope", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(slope * x, 1), obs=y)
    numpyro.factor("more", -(slope**2))


def test_every_support_has_the_density_of_numpyro(rng, key):
    x, y = rng.normal(size=(2, 5))
    args = (x, y, 0.25)
    model = from_numpyro(of_all_supports, *args)
    parts = dict(zip(model.space.names, model.space.parts, strict=True))
    assert parts["ends"].constraint == constraints.Interval([[-2.0], [-3.0]], 2.5)
    assert parts["above"].constraint == constraints.Interval(0.25, np.inf)
    assert parts["simplex"].constraint == constraints.Simplex()
    assert parts["simplex"].shape == (3, 3)
    own = {name for name, part in parts.items() if isinstance(part.constraint, NumpyroConstraint)}
    assert own == {"covariance", "correlation", "zero_sum"}

    def densities(u):
        def theirs(u):
            params = model.space.constrain(u)[0]
            at = numpyro.handlers.substitute(of_all_supports, data=params)
            sites = numpyro.handlers.trace(at).get_trace(*args)
            return {k: dist.biject_to(sites[k]["fn"].support).inv(v) for k, v in params.items()}

        jacobian = jax.jacfwd(lambda u: ravel_pytree(theirs(u))[0])(u)
        back = model.space.unconstrain(model.space.constrain(u)[0])
        direct = -potential_energy(of_all_supports, args, {}, theirs(u))
        log_det = jnp.linalg.slogdet(jacobian)[1]
        return model.log_density(u, NO_ROWS), direct + log_det, back

    u = jax.random.normal(key, (4, model.space.size))
    ours, theirs, back = jax.jit(jax.vmap(densities))(u)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10 * np.abs(ours).max())
    np.testing.assert_allclose(back, u, atol=1e-8)


def by_hand(sigma, y):
    def log_prior(sigma, y, params):
        mu, tau, z = params["mu"], params["tau"], params["z"]
        prior = norm.logpdf(mu, 0, 5) + jnp.log(2.0) + norm.logpdf(tau, 0, 5)
        return prior + norm.logpdf(z).sum() + norm.logpdf(y, mu + tau * z, sigma).sum()

    like = {"mu": 0.0, "tau": 1.0, "z": np.zeros(8)}
    joint = jax.tree_util.Partial(log_prior, sigma, y)
    return vx.LogDensity(joint, like=like, constraints={"tau": constraints.Positive()})


def test_same_fit_as_by_hand_and_one_program_for_other_data():
    fit = vx.fit(from_numpyro(schools, 8, SIGMA, y=Y)).check()
    same = vx.fit(by_hand(SIGMA, Y)).check()
    np.testing.assert_allclose(fit.elbo, same.elbo, rtol=1e-10)
    np.testing.assert_allclose(fit.q.covariance, same.q.covariance, rtol=1e-6)
    with programs("_fit") as seen:
        other = vx.fit(from_numpyro(schools, 8, SIGMA, y=Y + 1.0)).check()
    assert not seen
    assert abs(other.elbo - fit.elbo) > 0.01
    # what it is called with may be traced
    many = jax.vmap(lambda y: vx.fit(from_numpyro(schools, 8, SIGMA, y=y)).elbo)
    np.testing.assert_allclose(many(np.stack([Y, Y + 1.0])), [fit.elbo, other.elbo], atol=1e-6)
    diagonal = dataclasses.replace(from_numpyro(schools, 8, SIGMA, y=Y), covariance="diag")
    assert diagonal.template.root.sd.shape == (10,)
    # draws go back into numpyro
    draws = fit.q.sample(jax.random.key(0), (3,))
    predictive = numpyro.infer.Predictive(schools, draws)(jax.random.key(1), 8, SIGMA)
    np.testing.assert_allclose(
        predictive["theta"], draws["mu"][:, None] + draws["tau"][:, None] * draws["z"]
    )


def value(model, params):
    """The log joint, as the functions of a LogDensity are called."""
    return model.log_prior({name: jnp.asarray(a) for name, a in params.items()})


def of_groups(group, y, style, prior):
    num_groups = len(np.unique(group))  # looks at values
    level = numpyro.sample("level", prior(0, 1).expand([num_groups]).to_event(1))
    numpyro.sample("y", dist.Normal(level[group] * len(style), 1), obs=y)


def test_a_model_that_looks_at_values():
    group, y = np.array([0, 1, 1, 2]), np.zeros(4)
    model = from_numpyro(of_groups, group, y, "ab", prior=dist.Normal)
    expected = value(model, {"level": np.ones(3)})
    own = norm.logpdf(np.ones(3)).sum() + norm.logpdf(np.full(4, 2.0)).sum()
    np.testing.assert_allclose(expected, own, rtol=1e-12)
    assert not jax.tree.leaves(model)
    # what changes in place changes neither this density nor its programs
    y += 1.0
    np.testing.assert_allclose(value(model, {"level": np.ones(3)}), expected)
    again = from_numpyro(of_groups, group, y, "ab", prior=dist.Normal)
    assert jax.tree.structure(again) != jax.tree.structure(model)
    assert value(again, {"level": np.ones(3)}) != expected


def test_what_is_part_of_the_program():
    structures = {
        jax.tree.structure(from_numpyro(of_flag, flag, Y)) for flag in (1, True, 1, 2, np.int64(1))
    }
    assert len(structures) == 4
    wide = from_numpyro(of_flag, 1, np.array([2**40, 1]))  # a fit keeps 32 bits of integers
    assert not jax.tree.leaves(wide)
    assert len(jax.tree.leaves(from_numpyro(of_flag, 1.5, np.array([2**20, 1])))) == 2


def of_flag(flag, y):
    level = numpyro.sample("level", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(level * flag, 1), obs=y)


def of_time(y):
    def step(last, y):
        state = numpyro.sample("state", dist.Normal(last, scale_))
        numpyro.sample("y", dist.Normal(state, 1), obs=y)
        return state, None

    scale_ = numpyro.sample("scale", dist.Gamma(2, 1))
    scan(step, jnp.zeros(()), y)


def test_scan_and_reparam():
    y, params = Y[:3], {"scale": jnp.asarray(0.5), "state": jnp.array([1.0, 2.0, 0.5])}
    own = value(from_numpyro(of_time, y), params)
    np.testing.assert_allclose(own, log_density(of_time, (y,), {}, params)[0])

    def centred(y):
        theta = numpyro.sample("theta", dist.Normal(jnp.ones(8), 2.0).to_event(1))
        numpyro.sample("y", dist.Normal(theta, 1), obs=y)

    model = from_numpyro(reparam(centred, config={"theta": LocScaleReparam(0)}), Y)
    assert model.space.names == ["theta_decentered"]
    inner = norm.logpdf(np.zeros(8)).sum() + norm.logpdf(Y, 1.0, 1.0).sum()
    np.testing.assert_allclose(value(model, {"theta_decentered": np.zeros(8)}), inner)


def one(site):
    """A model of this site alone, which may use `sample`."""
    return lambda: site(numpyro.sample)


def subsampled():
    with numpyro.plate("rows", 4, 2):
        numpyro.sample("z", dist.Normal(0, 1))


REFUSED = {
    "z: is a discrete latent site": lambda s: s("z", dist.Categorical(jnp.ones(2) / 2)),
    "z: is a single value": lambda s: s("z", dist.Delta(1.0)),
    "z: numpyro has no map": lambda s: s("z", dist.ProjectedNormal(jnp.ones(2))),
    "w: its support depends": lambda s: s("w", dist.Uniform(0, jnp.exp(s("z", dist.Normal(0, 1))))),
    "model: has no latent sites": lambda s: s("z", dist.Normal(0, 1), obs=1.0),
    "z: is a `param` site": lambda s: numpyro.param("z", 1.0),
    "rows: this plate is subsampled": lambda s: subsampled(),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_has_no_density_is_refused_by_name(message):
    with pytest.raises(ValueError, match=message):
        from_numpyro(one(REFUSED[message]))


def of_own_draws():
    level = numpyro.sample("level", dist.Normal(0, 1))
    numpyro.factor("noise", level * jax.random.normal(numpyro.prng_key()))


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_density():
    with pytest.raises(TypeError) as info:
        from_numpyro(of_own_draws)
    assert any("without own draws" in note for note in info.value.__notes__)
    with pytest.raises(TypeError, match="model: expected a function of numpyro sites"):
        from_numpyro(numpyro.infer.NUTS(of_flag))


def test_ends_that_are_computed_and_traced_ends():
    def model(high):
        numpyro.sample("z", dist.Uniform(0, jnp.max(high)))

    part = from_numpyro(model, Y).space.parts[0]
    assert part.constraint == constraints.Interval(0.0, 28.0)

    with pytest.raises(ValueError, match="z: the ends of its support are traced"):
        jax.vmap(lambda high: from_numpyro(model, high).space.size)(np.ones(2))


def test_numpyro_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "numpyro", None)
    with pytest.raises(ImportError, match="pip install numpyro"):
        from_numpyro(of_flag, 1, Y)
