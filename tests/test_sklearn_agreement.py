"""Scikit-learn from the same start: same EM, same fixed points, same bound plus its constants."""

import numpy as np
import pytest
from scipy.special import gammaln
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture
from sklearn.mixture import GaussianMixture as SklearnMixture

import vijax as vx

from .data import clusters


@pytest.fixture
def problem(rng):
    x, _ = clusters(rng, n=300, d=3, k=4, separation=1.5)
    return x, rng.dirichlet(np.full(4, 0.3), size=300)


def order(means):
    return np.argsort(np.asarray(means)[:, 0])


def test_expectation_maximisation(problem):
    x, resp = problem
    fit = vx.fit(
        vx.GaussianMixture.flat(4, 3),
        x,
        init=resp,
        method=vx.EM(),
        stop=vx.Stop(tol=1e-14, max_iter=9999),
    ).check()
    counts = resp.sum(0)
    means = resp.T @ x / counts[:, None]
    covariances = [
        (resp[:, k, None] * (x - means[k])).T @ (x - means[k]) / counts[k] for k in range(4)
    ]
    peer = SklearnMixture(
        4,
        reg_covar=0.0,
        tol=0.0,  # its rule would stop at 1e-15 of the bound, 4e-6 short of the fixed point
        max_iter=3000,
        weights_init=counts / counts.sum(),
        means_init=means,
        precisions_init=np.linalg.inv(covariances),
    )
    with pytest.warns(ConvergenceWarning):
        peer.fit(x)
    ours, theirs = order(fit.q.components.mean), order(peer.means_)
    np.testing.assert_allclose(fit.elbo, peer.score(x) * len(x), rtol=1e-6)
    np.testing.assert_allclose(fit.q.components.mean[ours], peer.means_[theirs], atol=1e-6)
    np.testing.assert_allclose(fit.q.weights.mean[ours], peer.weights_[theirs], atol=1e-6)
    point = fit.q.point()
    for covariance in (np.linalg.inv(fit.q.components.precision), point.components.covariance):
        np.testing.assert_allclose(
            covariance[ours], peer.covariances_[theirs], atol=1e-6 * np.abs(peer.covariances_).max()
        )
    np.testing.assert_allclose(point.weights.mean, fit.q.weights.mean, rtol=1e-12)
    model = vx.GaussianMixture.flat(4, 3)
    for q in (fit.q, point):
        resp = model.responsibilities(q, x)
        np.testing.assert_allclose(resp[:, ours], peer.predict_proba(x)[:, theirs], atol=1e-6)
        np.testing.assert_array_equal(model.predict(q, x), np.argmax(resp, -1))


class FromResponsibilities(BayesianGaussianMixture):
    """Scikit-learn's model, started where we say."""

    start: np.ndarray

    def _initialize_parameters(self, X, random_state, **_):  # noqa: N803 (their name)
        self._initialize(X, self.start)


def test_variational_fixed_point_and_bound(problem):
    x, resp = problem
    n, d = x.shape
    k, conc, kappa, df = 4, 0.7, 0.4, 5.5
    scatter, mean = np.diag([1.0, 2.0, 0.5]), x.mean(0)
    model = vx.GaussianMixture.with_prior(
        k, conc=conc, mean=mean, kappa=kappa, df=df, scatter=scatter
    )
    fit = vx.fit(model, x, init=resp, stop=vx.Stop(tol=1e-11, max_iter=9999)).check()
    peer = FromResponsibilities(
        n_components=k,
        weight_concentration_prior_type="dirichlet_distribution",
        weight_concentration_prior=conc,
        mean_precision_prior=kappa,
        mean_prior=mean,
        degrees_of_freedom_prior=df,
        covariance_prior=scatter,
        reg_covar=0.0,
        tol=1e-12,
        max_iter=20_000,
    )
    peer.start = resp
    peer.fit(x)
    q = fit.q
    np.testing.assert_allclose(q.components.mean, peer.means_, atol=1e-6)
    np.testing.assert_allclose(q.weights.mean, peer.weights_, atol=1e-6)
    theirs = peer.covariances_  # scatter / df
    ours = np.asarray(q.components.scatter) / np.asarray(q.components.df)[:, None, None]
    np.testing.assert_allclose(ours, theirs, atol=1e-6 * np.abs(theirs).max())

    # what its `lower_bound_` leaves out: the prior's normalisers and the data's 2 pi
    steps = np.arange(d)
    wishart = 0.5 * df * np.linalg.slogdet(scatter)[1]
    wishart -= 0.5 * df * d * np.log(2) + gammaln(0.5 * (df - steps)).sum()
    weights = gammaln(k * conc) - k * gammaln(conc)
    missing = k * (wishart + 0.5 * d * np.log(kappa)) + weights - 0.5 * n * d * np.log(2 * np.pi)
    np.testing.assert_allclose(fit.elbo, peer.lower_bound_ + missing, rtol=1e-8)
