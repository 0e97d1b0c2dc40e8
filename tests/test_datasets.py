"""The embedded data are what they claim to be."""

import numpy as np
from sklearn.datasets import make_blobs

from vijax.data import datasets


def test_three_clusters_are_the_tutorials_stream():
    """The same draws, written out once more by its recipe."""
    rng = np.random.RandomState(42)  # noqa: NPY002
    weights, means = [0.3, 0.4, 0.3], np.array([[0, 0], [3, 3], [0, 4]])
    covs = [[[0.5, 0.2], [0.2, 0.5]], [[0.8, -0.1], [-0.1, 0.8]], [[0.6, 0.3], [0.3, 0.6]]]
    x, labels = datasets.three_clusters()
    assert x.shape == (500, 2)
    for i in range(500):
        k = rng.choice(3, p=weights)
        assert labels[i] == k
        np.testing.assert_allclose(x[i], rng.multivariate_normal(means[k], covs[k]))


def test_clusters_have_their_moments():
    x, labels = datasets.three_clusters(20_000, seed=1)
    np.testing.assert_allclose(np.bincount(labels) / 20_000, [0.3, 0.4, 0.3], atol=0.02)
    for k, (mean, correlation) in enumerate([((0, 0), 0.4), ((3, 3), -0.125), ((0, 4), 0.5)]):
        mine = x[labels == k]
        np.testing.assert_allclose(mine.mean(0), mean, atol=0.06)
        np.testing.assert_allclose(np.corrcoef(mine.T)[0, 1], correlation, atol=0.05)


def test_normal_draws():
    x = datasets.normal_draws(100_000, mean=10.0, sd=2.5)
    assert abs(x.mean() - 10.0) < 0.05
    assert abs(x.std() - 2.5) < 0.05
    np.testing.assert_array_equal(datasets.normal_draws(5), datasets.normal_draws(5))


def test_wide_clusters_are_the_blobs_of_scikit_learn():
    x, labels = make_blobs(500, centers=3, cluster_std=3.0, random_state=42)
    rows, mine = datasets.wide_clusters()
    np.testing.assert_array_equal(rows, x[:, ::-1])
    np.testing.assert_array_equal(mine, labels)


def test_long_clusters_have_directions_of_their_own():
    x, labels = datasets.long_clusters(20_000)
    np.testing.assert_allclose(np.bincount(labels) / 20_000, [0.25, 0.35, 0.4], atol=0.02)
    correlations = [np.corrcoef(x[labels == k].T)[0, 1] for k in range(3)]
    np.testing.assert_allclose(correlations, [0.894, -0.743, 0.135], atol=0.02)
