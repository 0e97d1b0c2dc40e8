"""`vx.testing`: a stranger's family obeys its laws, and every planted mistake breaks one."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

import vijax as vx
from vijax.testing import (
    ComponentFacts,
    FamilyFacts,
    MethodFacts,
    ModelFacts,
    families,
    methods,
    models,
)
from vijax.testing import components as of_components
from vijax.testing.compare import run

from .strangers.inverse_gaussian import NormalInverseGaussian
from .tables.emissions import CATEGORICAL, FULL, NOISE, POISSON

SHAPE = 4.0


def make(rng, cls=NormalInverseGaussian):
    """Three components of two columns, whose drifts are surely positive."""
    drift = vx.Normal.from_standard(2.0 + rng.gamma(9.0, size=(3, 2)), rng.gamma(20.0, size=(3, 2)))
    return cls(drift, SHAPE)


def times(rng, n=30):
    return rng.wald(rng.choice([0.1, 0.5], size=(n, 1)), SHAPE, size=(n, 2))


# -- the stranger's family -------------------------------------------------------------------------


def test_a_strangers_family_is_proven(rng):
    vx.testing.check_family(make, times(rng))


def test_it_is_short_and_uses_public_names():
    page = Path(__file__).parent / "strangers/inverse_gaussian.py"
    text = page.read_text()
    assert len(text.splitlines()) <= 60
    assert set(re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE)) == {"jax", "vijax"}
    assert not re.findall(r"vijax\.\w", text)


def test_its_densities_are_scipys(rng):
    """The likelihood at a point; and the predictive density by quadrature over the drift."""
    q, x = make(rng), times(rng, 6)
    drift = np.asarray(q.each.mean)
    exact = stats.invgauss.logpdf(x[:, None], 1.0 / (drift * SHAPE), scale=SHAPE).sum(-1)
    np.testing.assert_allclose(q.point().likelihood(vx.Batch.of(x))[0], exact, rtol=1e-9)

    def density(v, x):
        return np.exp(-0.5 * SHAPE * (1.0 - v * x) ** 2 / x) * np.sqrt(SHAPE / (2 * np.pi * x**3))

    def predictive(x, mean, sd):
        ends = mean - 12.0 * sd, mean + 12.0 * sd
        return integrate.quad(lambda v: density(v, x) * stats.norm.pdf(v, mean, sd), *ends)[0]

    of_row = np.vectorize(predictive)(x[:2, None], drift, np.asarray(q.each.sd))
    found = q.log_predictive(vx.Batch.of(x[:2]))
    np.testing.assert_allclose(found, np.log(of_row).sum(-1), rtol=1e-7)


@pytest.fixture(scope="module")
def two_kinds():
    """Times of two kinds of 40 rows, a column each, and their labels."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 40)
    return rng.wald(np.where(labels, 3.0, 0.2), SHAPE)[:, None], labels


def prior(d=1):
    """Three components: v of about 0 to 5."""
    return NormalInverseGaussian(vx.Normal.from_standard(np.full((3, d), 2.0), 0.1), SHAPE)


def recovered(found, labels):
    """Whether two classes are found, but for their names."""
    shares = [np.bincount(np.asarray(found)[labels == k], minlength=3) for k in (0, 1)]
    one, two = (share.argmax() for share in shares)
    return one != two and shares[0].max() + shares[1].max() >= 0.9 * len(labels)


def test_in_a_mixture(two_kinds):
    x, labels = two_kinds
    model = vx.Mixture(vx.Dirichlet.from_standard(np.full(3, 0.3)), prior())
    fit = vx.fit(model, x, key=jax.random.key(0), num_restarts=4)
    assert fit.converged
    assert recovered(model.predict(fit, x), labels)
    assert "drift x0" in fit.summary()
    rows, _ = model.sample(fit, jax.random.key(1), 5)
    assert (np.asarray(rows) > 0).all()


@pytest.mark.long  # on CI that of docs/write_a_family.md
def test_in_a_chain(two_kinds):
    x, labels = two_kinds
    chain = vx.Chain.from_standard(np.full(3, 0.5), np.full((3, 3), 0.5) + 5.0 * np.eye(3))
    model = vx.HMM(chain, prior())
    fit = vx.fit(model, x[None], key=jax.random.key(0), num_restarts=4)
    assert fit.converged
    assert recovered(model.predict(fit, x[None])[0], labels)


def test_in_a_mixed_table_with_holes(two_kinds):
    x, labels = two_kinds
    rng = np.random.default_rng(1)
    counts = rng.poisson(np.where(labels, 2.0, 9.0)).astype(float)
    wait = np.where(rng.random(len(x)) < 0.2, np.nan, x[:, 0])
    rows = vx.Batch.of({"wait": wait, "count": counts}, missing=True)
    rates = vx.GammaPoisson.from_standard(np.ones((3, 1)), np.full((3, 1), 0.2))
    parts = vx.Columns({"wait": prior(), "count": rates})
    model = vx.Mixture(vx.Dirichlet.from_standard(np.full(3, 0.3)), parts)
    fit = vx.fit(model, rows, key=jax.random.key(0), num_restarts=4)
    assert fit.converged
    assert recovered(model.predict(fit, rows), labels)
    mean, _ = model.impute(fit, rows)
    assert np.isfinite(np.asarray(mean["wait"])).all()


@pytest.mark.float32
def test_float32_keeps_the_predictive_density_of_many_rows():
    """Against float64 on the same numbers: A(q + t) - A(q) by subtraction would lose all digits."""
    q = NormalInverseGaussian(vx.Normal.from_standard(np.full((2, 1), 3.0), 1e6), SHAPE)
    x = np.array([[0.2], [0.5], [2.0]])
    with jax.enable_x64(True):
        high = NormalInverseGaussian(vx.Normal.from_standard(np.full((2, 1), 3.0), 1e6), SHAPE)
        exact = np.asarray(high.log_predictive(vx.Batch.of(x)))
    found = vx.testing.cast(q, jnp.float32).log_predictive(vx.Batch.of(np.float32(x)))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, exact, rtol=3e-5, atol=3e-5)


# -- the library's own, and the same model in two ways ---------------------------------------------

OWN = [
    pytest.param(emission, law, id=f"{emission.name}-{law.__name__}")
    for emission in (FULL, POISSON, CATEGORICAL, NOISE)
    for law in of_components.LAWS
]


@pytest.mark.parametrize(("emission", "law"), OWN)
def test_laws_of_components(emission, law, rng):
    rows = vx.Batch.of(emission.rows(rng, 20))
    law(ComponentFacts(emission.prior(rng, 3), rows), rng)


# -- planted mistakes ------------------------------------------------------------------------------


class Wrong(NormalInverseGaussian):
    """To be spoilt."""


def spoilt(**methods):
    """The stranger's family with other methods."""
    return vx.pytree(type("Spoilt", (Wrong,), {"__annotations__": {}, **methods}))


def plug_in(self, rows):
    return self.point().likelihood(rows)[0]


SPOILT = {
    "base": (
        {"log_base": lambda self, x: -1.5 * jnp.log(x) - 0.5 * self.shape / x},
        "predictive_density_is_normalised",
    ),
    "statistics": (
        {"statistics": lambda self, x: vx.Normal(2.0 * x, jnp.full_like(x, 4.0), 0.0 * x)},
        "predictive_density_is_normalised",
    ),
    "draws": (
        {"draw_rows": lambda self, key, v: 1.0 / v * jnp.exp(jax.random.normal(key, v.shape))},
        "draws_follow_the_predictive_density",
    ),
    "plug-in density": ({"log_predictive": plug_in}, "predictive_is_the_evidence_of_a_row"),
    "variance": (
        {"mean_and_variance": lambda self, v: (1.0 / v, 1.0 / v**2)},
        "imputed_entries_are_those_of_draws",
    ),
    "missing": (
        {"filled": lambda self, rows: rows.x, "log_predictive": lambda self, rows: rows.x[:, :1]},
        "missing_entries_are_not_read",
    ),
    "negative": (
        {"draw_rows": lambda self, key, v: jax.random.normal(key, v.shape)},
        "draws_are_rows",
    ),
    "table": ({"describe": lambda self, names=None: {}}, "sizes_are_those_of_tables"),
    "sums": (
        {"observe": lambda self, rows, counts, *_: make(np.random.default_rng(0))},
        "statistics_add_up",
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_component_family_breaks_its_law(name, rng):
    changes, law = SPOILT[name]
    facts = ComponentFacts(make(rng, spoilt(**changes)), vx.Batch.of(times(rng)))
    with pytest.raises((AssertionError, ValueError)):
        getattr(of_components, law)(facts, rng)


def spoilt_gamma(**methods):
    cls = vx.pytree(type("SpoiltGamma", (vx.Gamma,), {"__annotations__": {}, **methods}))
    return lambda rng: cls(*(jnp.asarray(rng.gamma(9.0, size=3)) for _ in range(2)))


GAMMA = {
    "normaliser": (
        {"log_normalizer": lambda self: jax.scipy.special.gammaln(self.shape)},
        "expectation_is_gradient_of_log_normalizer",
    ),
    "kl": (
        {"kl": lambda self, prior: jnp.abs(self.shape - prior.shape)},
        "kl_is_the_bregman_divergence_of_the_log_normalizer",
    ),
    "entropy": (
        {"entropy": lambda self: jnp.log(self.shape)},
        "entropy_is_minus_expected_log_prob",
    ),
    "draws": (
        {"sample": lambda self, key, shape=(): 1.1 * vx.Gamma.sample(self, key, shape)},
        "draws_have_the_expected_statistics",
    ),
    "mode": ({"mode": lambda self: self.shape / self.rate}, "mode_and_point_are_stationary"),
    "gap": (
        {"kernel_gap": lambda self, m: self.shape * (m.mean / self.mean - 1.0) ** 2},
        "kernel_gap_is_how_far_a_point_lies_below_the_maximum",
    ),
}


@pytest.mark.parametrize("name", GAMMA)
def test_a_spoilt_family_breaks_its_law(name, rng):
    changes, law = GAMMA[name]
    with pytest.raises(AssertionError):
        getattr(families, law)(FamilyFacts("Gamma", spoilt_gamma(**changes)), rng)


def test_failures_name_the_laws_and_the_numbers(rng):
    make = spoilt_gamma(mode=lambda self: self.shape / self.rate)
    laws = [families.mode_and_point_are_stationary, families.psum_adds_like_sum]
    with pytest.raises(AssertionError, match="1 of 2 laws do not hold") as caught:
        run(laws, FamilyFacts("Gamma", make), rng)
    assert "mode_and_point_are_stationary: The gradient of log_prob is 0" in str(caught.value)
    assert "Max absolute difference" in str(caught.value)


class Known(vx.NormalGammaExact):
    """To be spoilt."""


def spoilt_model(**methods):
    cls = vx.pytree(type("SpoiltModel", (Known,), {"__annotations__": {}, **methods}))
    return cls.with_prior(mean=0.0, kappa=1.0, shape=2.0, rate=1.0)


def unweighted(self, moments, batch):
    return Known.local(self, moments, vx.Batch(batch.x, jnp.ones_like(batch.weight)))


def too_much(self, moments, batch):
    e = Known.local(self, moments, batch)
    return vx.EStep(e.stats, e.log_z + 0.1)


MODELS = {
    "weights": ({"local": unweighted}, "integer_weights_are_repeated_rows"),
    "bound": ({"local": too_much}, "bound_is_a_bound"),
    "kl": ({"kl": lambda self, q: 0.5 * Known.kl(self, q)}, "kl_and_move_are_both_divergences"),
    "update": ({"update": lambda self, q, s, rate=1.0: s + q}, "bound_never_falls"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_spoilt_model_breaks_its_law(name, rng):
    changes, law = MODELS[name]
    x = rng.normal(size=12)
    known = spoilt_model()
    evidence = float(vx.fit(known, x, stop=vx.Stop(tol=1e-12)).elbo)
    facts = ModelFacts(spoilt_model(**changes), vx.Batch.of(x), log_evidence=evidence, exact=True)
    with pytest.raises(AssertionError):
        getattr(models, law)(facts, rng)


@vx.pytree
class Overshot(vx.CAVI):
    """Steps four times too long."""

    def conclude(self, model, state, stats, log_z):
        new = vx.CAVI.conclude(self, model, state, stats, log_z)
        return vx.State(new.q, model.update(new.q, stats, 4.0), new.elbo, 0.0 * new.improvement,
                        new.failure)  # fmt: skip


def test_a_spoilt_method_breaks_its_laws(rng):
    facts = MethodFacts(Overshot(), spoilt_model(), rng.normal(size=24))
    for law in methods.objective_never_falls, methods.reported_improvement_bounds_the_gain:
        with pytest.raises(AssertionError):
            law(facts)


def test_what_cannot_be_checked_is_said(rng, unchecked):
    with pytest.raises(TypeError, match="rows: a NormalInverseGaussian is a component family"):
        vx.testing.check_family(make)
    with pytest.raises(TypeError, match="rows: a Gamma is no Emission"):
        vx.testing.check_family(
            lambda rng: vx.Gamma.from_standard(rng.gamma(9.0, size=3), 1.0), [1]
        )
    with pytest.raises(TypeError, match="model: expected a ConditionalModel, got str"):
        vx.testing.check_model("gaussian", [1.0])
