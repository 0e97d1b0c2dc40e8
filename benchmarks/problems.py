"""The rows and the starts that all tools are given."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Problem(NamedTuple):
    """Rows (n, d), the number of components, and one hard start: a label for every row."""

    x: np.ndarray
    k: int
    labels: np.ndarray
    covariance: str = "full"

    @property
    def responsibilities(self) -> np.ndarray:
        """The labels as (n, k) of zeros and ones."""
        return np.eye(self.k, dtype=self.x.dtype)[self.labels]

    def parameters(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weights (k,), means (k, d) and covariances (k, d, d) or (k, d) of the labelled rows."""
        counts = np.bincount(self.labels, minlength=self.k)
        means = np.empty((self.k, self.x.shape[1]))
        covariances = np.empty((self.k, self.x.shape[1], self.x.shape[1]))
        for j in range(self.k):
            mine = self.x[self.labels == j].astype(np.float64)
            means[j] = mine.mean(0)
            covariances[j] = np.cov(mine.T, bias=True) + 1e-6 * np.eye(self.x.shape[1])
        if self.covariance == "diag":
            covariances = np.diagonal(covariances, axis1=1, axis2=2)
        dtype = self.x.dtype
        return (
            (counts / counts.sum()).astype(dtype),
            means.astype(dtype),
            np.ascontiguousarray(covariances, dtype),
        )


def rows(n: int, d: int, k: int, seed: int = 0, spread: float = 4.0) -> tuple[np.ndarray, ...]:
    """Rows (n, d) from k unit normals whose means have the sd `spread`, and their labels (n,)."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(k, d)) * spread
    labels = np.concatenate([np.arange(k), rng.integers(k, size=n - k)])
    return means[labels] + rng.normal(size=(n, d)), labels


def problem(n: int, d: int, k: int, dtype: str, covariance: str = "full", seed: int = 0) -> Problem:
    """Overlapping clusters; a fifth of the labels of the start are wrong."""
    x, labels = rows(n, d, k, seed, spread=2.0)
    rng = np.random.default_rng(seed + 1)
    wrong = rng.random(n) < 0.2
    wrong[: 2 * k] = False  # every component keeps some rows
    labels = np.where(wrong, rng.integers(k, size=n), labels)
    return Problem(x.astype(dtype), k, labels, covariance)


def random_responsibilities(n: int, k: int, seed: int) -> np.ndarray:
    """Rows of a flat Dirichlet, (n, k)."""
    return np.random.default_rng(seed).dirichlet(np.ones(k), size=n)


def ragged_sizes(count: int, median: int, largest: int, seed: int = 0) -> np.ndarray:
    """Log-normal sizes with that median, the largest exactly `largest`."""
    draws = np.random.default_rng(seed).normal(size=count)
    sigma = np.log(largest / median) / draws.max()
    return np.clip(np.round(median * np.exp(sigma * draws)), 10, largest).astype(int)
