"""Sequences that switch between planted states."""

from __future__ import annotations

import numpy as np


def paths(rng: np.random.Generator, n: int, t: int, transitions: np.ndarray) -> np.ndarray:
    """n paths of t steps of a chain with these transitions, begun in any state."""
    k = len(transitions)
    z = np.empty((n, t), np.int32)
    z[:, 0] = rng.integers(k, size=n)
    ways = np.cumsum(transitions, 1)
    u = rng.random((n, t))
    for i in range(1, t):
        z[:, i] = np.minimum((u[:, i, None] > ways[z[:, i - 1]]).sum(-1), k - 1)
    return z


def sticky(k: int, stay: float) -> np.ndarray:
    """Transitions that stay with this probability, and else go anywhere."""
    return np.full((k, k), (1.0 - stay) / (k - 1)) + np.eye(k) * (stay - (1.0 - stay) / (k - 1))


def planted(
    rng: np.random.Generator, n: int, t: int, d: int, k: int, stay: float, spread: float
) -> tuple[np.ndarray, np.ndarray]:
    """Steps (n, t, d) of unit variance around means of sd `spread`, and their states (n, t)."""
    z = paths(rng, n, t, sticky(k, stay))
    means = spread * rng.normal(size=(k, d))
    return means[z] + rng.normal(size=(n, t, d)), z
