"""How objects show themselves: one short line, and in a notebook a table in plain HTML."""

import html.parser

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vijax as vx

from .test_debugging import MODELS

EMPTY = {"br"}
PLAIN = {"div", "p", "br", "table", "thead", "tbody", "tr", "th", "td"}


class Page(html.parser.HTMLParser):
    """The text of a fragment and the cells of its table; raises for anything but plain tags."""

    def __init__(self, text):
        super().__init__()
        self.open, self.text, self.rows = [], "", []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert tag in PLAIN
        assert not attrs
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.open[-1] in ("th", "td"):
            self.rows[-1][-1] += data

    @property
    def table(self):
        """A dict from the head of each column to its cells, by the label of the row."""
        head, *body = self.rows
        return {
            name: {row[0]: cell for row, cell in zip(body, column, strict=True)}
            for name, *column in zip(*self.rows, strict=True)
            if name != head[0]
        }


@pytest.fixture
def fitted(rng):
    x = np.concatenate([rng.normal(size=(40, 2)), rng.normal(size=(40, 2)) + 8.0])
    model = vx.GaussianMixture.from_data(x, 3)
    return model, x, vx.fit(model, x, key=jax.random.key(0), num_restarts=2)


@pytest.mark.parametrize("name", MODELS)
def test_models_fit_in_a_line(name):
    model = MODELS[name][2]()
    for obj in (model, model.prior, getattr(model, "components", model.prior)):
        line = repr(obj)
        assert line.startswith(f"{type(obj).__name__}(")
        assert len(line) < 200
        assert "\n" not in line
    page = Page(model._repr_html_())
    assert repr(model) in page.text
    assert page.rows
    seen = []
    jax.eval_shape(lambda m: seen.extend([repr(m), repr(m.prior), m._repr_html_()]), model)
    assert all(len(text) < 250 for text in seen)


def test_lines_say_what_matters():
    x = np.random.default_rng(0).normal(size=(30, 3))
    model = vx.GaussianMixture.from_data(x, 10)
    assert repr(model) == (
        "GaussianMixture(10 components, 3 columns, covariance full, Dirichlet weights)"
    )
    assert repr(vx.GaussianMixture.flat(1, 1, covariance="tied")) == (
        "GaussianMixture(1 component, 1 column, covariance tied, flat prior)"
    )
    conc = jnp.asarray([5.0, 4.0, 1e-3])
    q = vx.Mixture(vx.Dirichlet(conc), model.components.take(jnp.arange(3))).prior
    assert repr(q) == "MixtureParams(3 components, 2 with weight >= 0.01)"
    assert repr(vx.Stop(tol=jnp.asarray(0.5))) == (
        "Stop(tol=0.5, patience=3, max_iter=1000, slack=32.0, trace=1024)"
    )
    assert repr(vx.CAVI()) == "CAVI()"
    assert repr(vx.Chunks.of(x, chunk=10)) == (
        f"Chunks(30 rows in chunks of 10, {np.dtype(vx.Batch.of(x).x.dtype).name})"
    )
    stacked = jax.tree.map(lambda a: jnp.stack([a] * 5), model)
    assert repr(stacked).startswith("GaussianMixture(5 of 10 components, ")
    assert repr(stacked.prior) == "MixtureParams(5 of 10 components)"


def test_what_jax_puts_into_a_tree_can_be_shown(fitted):
    model, _, fit = fitted
    for obj in (model, fit, fit.q, fit.q.components, vx.Batch.of([[1.0]]), vx.Stop()):
        shapes = jax.eval_shape(lambda obj: obj, obj)
        for tree in (
            shapes,
            jax.tree.map(lambda _: None, obj),
            jax.tree.map(lambda _: "leaf", obj),
        ):
            assert len(repr(tree)) < 200
    seen = []

    def look(fit):
        seen.extend([repr(fit), repr(fit.q), fit._repr_html_(), fit.q._repr_html_()])
        return fit.elbo

    jax.vmap(look)(jax.tree.map(lambda a: jnp.stack([a, a]), fit))
    assert seen[:2] == ["Result(traced)", "MixtureParams(3 components)"]


def test_numbers_in_the_page_are_those_of_the_table(fitted):
    model, _, fit = fitted
    names = ["<b>width</b>", "a & b"]
    fit = vx._pytree.replace(fit, names=tuple(names))
    page = Page(fit._repr_html_())
    assert "<b>" not in fit._repr_html_()
    assert fit.summary().splitlines()[0] in page.text
    table = fit.q.table(names)
    weight = np.asarray(table["weight"])
    shown = page.table
    assert list(shown["weight"]) == [str(k) for k in np.argsort(-weight) if weight[k] >= 0.01]
    for k in map(int, shown["weight"]):
        mean, sd = (float(part) for part in shown["weight"][str(k)].split(" ± "))
        np.testing.assert_allclose([mean, sd], [weight[k], table["weight sd"][k]], atol=6e-4)
        for label in ("mean <b>width</b>", "mean a & b", "sd a & b"):
            value = float(shown[label][str(k)])
            np.testing.assert_allclose(value, table[label][k], rtol=1e-3)
    # the q alone knows no names, and the estimate of EM no standard deviations
    assert "mean x1" in Page(fit.q._repr_html_()).table
    point = vx._pytree.replace(fit, point=True)
    assert "±" not in point._repr_html_()
    assert list(Page(fit.q.point()._repr_html_()).table["weight"]) == list(shown["weight"])


def test_a_prior_is_shown_once_if_all_components_share_it(fitted):
    model, _, fit = fitted
    shown = Page(model._repr_html_()).table
    assert list(shown["mean x0"]) == ["each of 3"]
    np.testing.assert_allclose(
        float(shown["mean x0"]["each of 3"]), model.components.mean[0, 0], rtol=1e-3
    )
    own = Page(model.freeze(fit, [True, False, False])._repr_html_()).table
    assert len(own["mean x0"]) == 3


def test_many_fits_are_listed(fitted):
    model, x, _ = fitted
    fits = vx.fit_many(model, [x] * 12, key=jax.random.key(0), stop=vx.Stop(max_iter=3))
    assert repr(fits) == "Fits(12 fits: 12 MAX_ITER)"
    page = Page(fits._repr_html_())
    assert "the first 10 of them" in page.text
    assert list(page.table["status"].values()) == ["MAX_ITER"] * 10
    shown = [float(v) for v in page.table["ELBO"].values()]
    np.testing.assert_allclose(shown, fits.elbo[:10], rtol=1e-5, atol=1e-4)
    assert repr(fits.q) == "MixtureParams(12 of 3 components)"
    assert repr(fits.models).startswith("GaussianMixture(12 of 3 components, 2 columns")
    for part in (fits.q, fits.models, fits.q.components):
        assert len(Page(part._repr_html_()).text) < 250
    assert "weight" in Page(fits[3]._repr_html_()).table


@pytest.mark.parametrize("kind", [vx.NormalGammaExact, vx.FactorisedGaussian])
def test_a_normal_is_shown_by_mean_and_precision(kind, rng):
    model = kind.with_prior(mean=0.5, kappa=0.7, shape=2.0, rate=3.0)
    fit = vx.fit(model, rng.normal(size=20))
    shown = Page(fit._repr_html_()).table
    means = [float(shown["mean"][name]) for name in ("mean", "precision")]
    mu = fit.q.mean if kind is vx.NormalGammaExact else fit.q.mu.mean
    np.testing.assert_allclose(means, [mu, fit.q.tau.mean], rtol=1e-3)
    many = jax.tree.map(lambda a: jnp.stack([a, a]), fit)
    Page(many.q._repr_html_())
    Page(many._repr_html_())
