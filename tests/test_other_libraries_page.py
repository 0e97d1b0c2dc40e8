"""The code of docs/other_libraries.md runs, and its ways to one model agree."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

PAGE = (Path(__file__).parents[1] / "docs/other_libraries.md").read_text()
FIRST, *PARTS = PAGE.split("\n## ")
SECTIONS = dict(part.split("\n", 1) for part in PARTS)


@pytest.fixture(autouse=True)
def _lenient():
    """Other libraries mix dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def run(text, scope):
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, scope)
    return scope


def section(title):
    """What the code of a section defines, after that of the introduction."""
    return run(next(text for name, text in SECTIONS.items() if title in name), run(FIRST, {}))


def log_evidence(effect, error):
    """log p(effect) by the trapezium rule over mean and spread, z integrated by hand."""
    mean, spread = np.linspace(-40, 40, 801)[:, None], np.linspace(0, 40, 801)
    square = spread[..., None] ** 2 + error**2
    lik = -0.5 * ((effect - mean[..., None]) ** 2 / square + np.log(2 * np.pi * square)).sum(-1)
    prior = -0.5 * (mean**2 + spread**2) / 25 - np.log(2 * np.pi * 25) + np.log(2)
    return np.log(np.trapezoid(np.trapezoid(np.exp(lik + prior), spread), mean[:, 0]))


def check_fit(fit, scope):
    """The bound is below the evidence, by what the best normal is: 0.22 nats from 4,096 draws."""
    gap = log_evidence(scope["effect"], scope["error"]) - float(fit.elbo)
    error = 4 * float(fit.elbo_se)
    assert -error < gap < 0.22 + error
    assert error < 0.3


def test_numpyro(capsys):
    pytest.importorskip("numpyro")
    scope = section("numpyro")
    assert capsys.readouterr().out.startswith("CONVERGED")
    check_fit(scope["fit"], scope)
    np.testing.assert_allclose(scope["elbos"][0], scope["fit"].elbo, rtol=1e-6)
    assert scope["predicted"]["own"].shape == (1000, 8)


def test_ours_in_numpyro():
    scope = section("Ours in numpyro")
    x, numpyro = scope["x"], scope["numpyro"]
    log_p = scope["clusters"].log_predictive(scope["found"], x)
    np.testing.assert_allclose(scope["density"].log_prob(x), log_p, rtol=1e-4)
    model = numpyro.handlers.seed(scope["mixture"], 0)
    sites = numpyro.handlers.trace(model).get_trace(x)
    assert {"theta.weights", "theta.components.precision", "theta.components.mean"} <= set(sites)


def test_samplers(capsys):
    pytest.importorskip("blackjax")
    scope = section("Is it right")
    q, u = scope["fit"].q, scope["u"]
    check_fit(scope["fit"], scope)
    np.testing.assert_allclose((q.location - u.mean(0)) / u.std(0), 0.0, atol=0.2)
    ratio = q.root.sd / u.std(0)
    np.testing.assert_allclose(np.delete(ratio, 1), 1.0, atol=0.15)
    assert 0.5 < ratio[1] < 0.9  # the spread is skewed
    assert scope["reference"]["spread"].min() > 0


def test_densities_outside_of_jax(capsys):
    scope = section("Stan")
    check_fit(scope["fit"], scope)
    u, step = np.linspace(-1, 1, 10), 1e-6
    value, gradient = scope["schools_numpy"](u)
    moved = [scope["schools_numpy"](u + step * e)[0] for e in np.eye(10)]
    np.testing.assert_allclose((moved - value) / step, gradient, atol=1e-4)
