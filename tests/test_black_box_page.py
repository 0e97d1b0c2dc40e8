"""Each block of docs/black_box.md runs, and what the page says of it holds."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vijax as vx

from .pages import DOCS, run_page

PAGE = (DOCS / "black_box.md").read_text()


@pytest.fixture(scope="module")
def scope():
    """What all blocks define and print; each is run once, in the order of the page."""
    found, printed = run_page("black_box.md")
    return found | {"printed": printed}


@pytest.mark.long
def test_fits_converge_to_the_same(scope):
    first = scope["result"]
    for name in ("wide", "near", "again"):
        other = scope[name]
        assert other.status == vx.Status.CONVERGED
        assert abs(other.elbo - first.elbo) < 0.01
    assert scope["wide"].agreeing == 4
    assert scope["by_batches"].elbo > first.elbo - 0.1
    np.testing.assert_allclose(first.q.median["line"], [1.0, 2.0], atol=0.3)
    assert np.abs(scope["at_two"].mean() - 5.0) < 0.7


def test_the_summary_is_the_one_shown(scope):
    shown = re.search(r"```text\n(.*?)```", PAGE, re.DOTALL)
    assert shown is not None
    got, expected = scope["result"].summary().splitlines(), shown[1].splitlines()
    assert [line.split(" ")[0] for line in got] == [line.split(" ")[0] for line in expected]
    for a, b in zip(got[2:], expected[2:], strict=True):
        np.testing.assert_allclose(
            np.array(a.split()[1:], float), np.array(b.split()[1:], float), rtol=5e-3
        )


def test_trust_is_earned(scope):
    assert scope["criticism"].verdict == vx.Verdict.GOOD
    gap = scope["criticism"].log_evidence - scope["result"].elbo
    assert 0.0 < gap < 0.1
    ratios = jnp.concatenate([jnp.ravel(a) for a in jax.tree.leaves(scope["response"].ratio)])
    assert jnp.all((ratios > 0.98) & (ratios < 1.1))


def test_many_are_those_one_by_one(scope):
    assert np.all(np.asarray(scope["fits"].status) == vx.Status.CONVERGED)
    np.testing.assert_allclose(scope["fits"].elbo[2], scope["result"].elbo, atol=0.01)
    np.testing.assert_allclose(scope["bounds"][1], scope["result"].elbo, atol=0.01)


def test_an_energy_beside_it(scope):
    assert scope["own"].elbo < scope["result"].elbo - 5.0
    assert "not affine in the statistics of 'line'" in scope["printed"]


@pytest.mark.parametrize("word", [*vx.Verdict.__members__, "STALLED", "MAX_ITER", "NON_FINITE"])
def test_verdicts_and_statuses_are_explained(word):
    assert f"| {word} |" in PAGE


def test_what_is_named_exists_and_links_lead_somewhere():
    folder = Path(__file__).parents[1] / "docs"
    for name in re.findall(r"vx\.([A-Za-z_]+)", PAGE):
        assert hasattr(vx, name), name
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert target.startswith("http") or (folder / target).exists(), target
