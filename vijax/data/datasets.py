"""Small synthetic data sets, generated on the host; nothing is downloaded."""

from __future__ import annotations

import numpy as np


def three_clusters(n: int = 500, seed: int = 42) -> tuple[np.ndarray, np.ndarray]:
    """Three overlapping Gaussian clusters in the plane: rows (n, 2) and labels (n,).

    They have weights 0.3, 0.4, 0.3, means (0, 0), (3, 3), (0, 4), and correlations 0.4, -0.125,
    0.5.
    """
    weights = [0.3, 0.4, 0.3]
    means = np.array([[0.0, 0.0], [3.0, 3.0], [0.0, 4.0]])
    covariances = np.array(
        [[[0.5, 0.2], [0.2, 0.5]], [[0.8, -0.1], [-0.1, 0.8]], [[0.6, 0.3], [0.3, 0.6]]]
    )
    # the legacy generator, one row after the other, gives the same points as in older texts
    rng = np.random.RandomState(seed)  # noqa: NPY002
    labels = np.empty(n, int)
    rows = np.empty((n, 2))
    for i in range(n):
        labels[i] = rng.choice(3, p=weights)
        rows[i] = rng.multivariate_normal(means[labels[i]], covariances[labels[i]])
    return rows, labels


def wide_clusters(n: int = 500, seed: int = 42) -> tuple[np.ndarray, np.ndarray]:
    """Three round clusters with sd 3 in the plane, two of them close: rows (n, 2), labels (n,).

    They are the points of scikit-learn's
    `make_blobs(n, centers=3, cluster_std=3, random_state=seed)` with the columns swapped.
    """
    rng = np.random.RandomState(seed)  # noqa: NPY002
    means = rng.uniform(-10.0, 10.0, size=(3, 2))
    counts = [n // 3 + (k < n % 3) for k in range(3)]
    parts = zip(means, counts, strict=True)
    rows = np.concatenate([rng.normal(mean, 3.0, size=(count, 2)) for mean, count in parts])
    order = np.arange(n)
    rng.shuffle(order)
    return rows[order, ::-1], np.repeat(np.arange(3), counts)[order]


def long_clusters(n: int = 1000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three elongated clusters of different direction in the plane: rows (n, 2), labels (n,)."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, size=n, p=[0.25, 0.35, 0.4])
    means = np.array([[5.0, 5.0], [0.0, 10.0], [10.0, 11.0]])
    roots = np.array(
        [[[2.0, 0.0], [1.2, 0.6]], [[1.5, 0.0], [-1.0, 0.9]], [[0.8, 0.0], [0.3, 2.2]]]
    )
    return means[labels] + np.einsum("nij,nj->ni", roots[labels], rng.normal(size=(n, 2))), labels


def normal_draws(n: int = 100, mean: float = 10.0, sd: float = 2.5, seed: int = 0) -> np.ndarray:
    """Draws (n,) from a normal."""
    return np.random.default_rng(seed).normal(mean, sd, n)


def mixed_table(
    n: int = 400, missing: float = 0.1, seed: int = 0
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Three clusters in a table of mixed type: a dict of four columns (n,), and labels (n,).

    "width" and "length" are measurements, "visits" counts, and "kind" one of three codes. A share
    `missing` of the entries, chosen at random, is NaN.
    """
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, size=n, p=[0.5, 0.3, 0.2])
    shares = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])
    table = {
        "width": np.array([0.0, 3.0, 3.0])[labels] + rng.normal(size=n),
        "length": np.array([10.0, 10.0, 14.0])[labels] + 1.5 * rng.normal(size=n),
        "visits": rng.poisson(np.array([2.0, 9.0, 5.0])[labels]).astype(float),
        "kind": (rng.random((n, 1)) > shares[labels].cumsum(1)).sum(1).clip(max=2).astype(float),
    }
    holes = {name: rng.random(n) < missing for name in table}
    return {name: np.where(holes[name], np.nan, v) for name, v in table.items()}, labels


def switching(
    n: int = 1, length: int = 400, seed: int = 0
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Sequences (length, 2) that switch between three overlapping states, and the states.

    A state lasts 20 steps on average. States have means (0, 0), (1.5, 0), (1.5, 1.5) and sd 1.
    """
    rng = np.random.default_rng(seed)
    means = np.array([[0.0, 0.0], [1.5, 0.0], [1.5, 1.5]])
    rows, states = [], []
    for _ in range(n):
        path = np.empty(length, int)
        path[0] = rng.integers(3)
        for t in range(1, length):
            leaves = rng.random() < 1 / 20
            path[t] = (path[t - 1] + rng.integers(1, 3)) % 3 if leaves else path[t - 1]
        states.append(path)
        rows.append(means[path] + rng.normal(size=(length, 2)))
    return rows, states
