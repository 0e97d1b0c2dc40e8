"""The guides of the documentation: their blocks run, and what they say of them holds."""

import jax
import numpy as np
import pytest

import vijax as vx

from .pages import run_page

pytestmark = pytest.mark.usefixtures("in_a_folder")


@pytest.fixture
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def getting_started(scope, printed):
    assert printed.startswith("CONVERGED, ELBO ")
    assert "3 of 20 components have weight >= 0.01" in printed
    assert len(scope["few"].q.weights.mean) == 3
    assert scope["new"].shape == (100, 2)
    assert scope["again"].elbo == scope["fit"].elbo


def choosing(scope, printed):
    assert scope["best"] in scope["bounds"]
    assert scope["selection"].best == 3


def many(scope, printed):
    assert printed.startswith("6 fits: 6 CONVERGED")
    assert scope["used"].shape == (6,)
    assert [len(part) for part in scope["labels"]] == [30, 45, 40, 60, 35, 50]
    assert scope["weight"].shape == (6,)


def large_data(scope, printed):
    fit, x, model = scope["fit"], scope["x"], scope["model"]
    assert np.isclose(fit.elbo, vx.elbo(model, fit, x), rtol=1e-5)
    assert np.isclose(scope["by_blocks"].elbo, fit.elbo, atol=0.5)
    assert scope["by_minibatches"].status == vx.Status.MAX_ITER
    assert abs(scope["by_minibatches"].elbo - fit.elbo) < 5.0
    assert scope["stream"].num_batches == 5


def priors(scope, printed):
    assert np.isclose(scope["metres"].elbo, scope["millimetres"].elbo + scope["shift"], atol=1e-2)
    assert np.allclose(scope["prior"].weights.conc, 1 / 6)
    assert np.allclose(scope["stated"].prior.components.covariance, np.eye(2))
    assert scope["draws"]["means"].shape == (5, 6, 2)


def stopping(scope, printed):
    assert "MAX_ITER" in printed
    assert "raise Stop.max_iter or Stop.tol" in printed
    assert scope["longer"].elbo >= scope["hasty"].elbo


def precision(scope, printed):
    assert np.isclose(scope["near"].elbo, scope["away"].elbo, atol=0.5)
    assert scope["precise"].elbo.dtype == np.float64


def flow(scope, printed):
    assert (np.diff(scope["states"].elbo) > -1e-2).all()
    last = jax.tree.map(lambda a: a[-1], scope["states"])
    assert np.isclose(sum(scope["terms"].values()), last.elbo, rtol=1e-5)


def coming_from(scope, printed):
    assert scope["transitions"].shape == (2, 2)
    assert np.allclose(scope["transitions"].sum(1), 1.0, atol=1e-5)
    assert scope["uncertainty"].shape == (500,)
    assert 0 < scope["rest"] < 0.05


def gaussian(scope, printed):
    assert np.allclose(scope["by_hand"], scope["found"], rtol=1e-5)


def student_t(scope, printed):
    assert scope["model"].predict(scope["fit"], scope["x"])[0] != 5
    assert "dof" in printed


def columns(scope, printed):
    assert np.allclose(scope["by_hand"], scope["found"], rtol=1e-5)


def mixed(scope, printed):
    assert set(scope["filled"]) == set(scope["kinds"])


def hmm(scope, printed):
    q, prior = scope["fit"].q, scope["model"].prior
    kl = sum(part.kl(given).sum() for part, given in parts_of(q, prior))
    assert np.isclose(scope["kl"], kl, rtol=1e-3)


def parts_of(q, prior):
    """Factors of a q of a hidden Markov model, each with that of the prior."""
    for name in ("initial", "transitions"):
        yield getattr(q.labels, name), getattr(prior.labels, name)
    yield q.components, prior.components


def sequence_mixtures(scope, printed):
    clusters = np.asarray(scope["clusters"])
    assert len(set(clusters[::2])) == len(set(clusters[1::2])) == 1
    assert clusters[0] != clusters[1]


def topics(scope, printed):
    found, shares = np.asarray(scope["found"]), scope["shares"]
    assert abs(np.corrcoef(found[:, 0], shares[:, 0])[0, 1]) > 0.9


def univariate(scope, printed):
    assert np.isclose(scope["evidence"], scope["by_hand"], rtol=1e-5)
    assert 0 < scope["gap"] < 0.1


def log_density(scope, printed):
    assert -3.0 < scope["predictive"] < -1.0


def energy(scope, printed):
    assert abs(scope["slope"][1] - 2.0) < 0.2
    assert 5 < scope["noise"] < 20


GUIDES = [getting_started, choosing, many, large_data, priors, stopping, precision, flow]
GUIDES += [coming_from]
MODELS = [gaussian, student_t, columns, mixed, hmm, sequence_mixtures, topics, univariate]
MODELS += [log_density, energy]


@pytest.mark.parametrize("check", GUIDES, ids=lambda check: check.__name__)
def test_guides(check):
    check(*run_page(f"{check.__name__}.md"))


@pytest.mark.parametrize("check", MODELS, ids=lambda check: check.__name__)
def test_models(check):
    check(*run_page(f"models/{check.__name__}.md"))
