"""Clusters beside rows that belong to none."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import BayesianGaussianMixture

import vijax as vx

from ..page import table
from .planted import used

K = 10
TEXT = """300 rows of three clusters in two columns, and bad rows beside them; {few} starts, 10
components, default priors. In each cell: agreement of the good rows with the true labels (ARI), and
the number of components above weight 0.01 that have good rows, and of those that have none. Plain
is `GaussianMixture`, noise is `noise=True`, and Student-t is `StudentTMixture`."""
CENTERS = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]])


def bad_rows() -> dict[str, np.ndarray]:
    """Rows that belong to no cluster."""
    rng = np.random.default_rng(1)
    found = {"none": np.zeros((0, 2))}
    found |= {f"one row at 1e{p} sd": np.full((1, 2), 10.0**p) for p in (2, 3, 4, 6, 8)}
    for share, m in (("1 %", 3), ("10 %", 33)):
        found[f"{share} uniform"] = rng.uniform(-100.0, 100.0, size=(m, 2))
        found[f"{share} at -999"] = np.full((m, 2), -999.0)
        found[f"{share} at 1e6"] = np.full((m, 2), 1e6)
    return found


def good_rows() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    z = np.arange(300) % 3
    return CENTERS[z] + rng.normal(size=(300, 2)), z


def described(labels: np.ndarray, weights: Any, z: np.ndarray) -> str:
    """Agreement of the good rows, components with good rows, and others in use."""
    good = labels[: len(z)]
    weights = np.asarray(weights)
    with_good = sum(weights[k] > 0.01 for k in np.unique(good))
    return f"{adjusted_rand_score(z, good):.2f}, {with_good} + {used(weights) - with_good}"


def section(options: Any) -> str:
    x, z = good_rows()
    rows: list[list[object]] = []
    for name, bad in bad_rows().items():
        data = np.concatenate([x, bad])
        models = (
            vx.GaussianMixture.from_data(data, K),
            vx.GaussianMixture.from_data(data, K, noise=True),
            vx.StudentTMixture.from_data(data, K),
        )
        cells = []
        for model in models:
            fit = vx.fit(model, data, key=jax.random.key(0), num_restarts=options.few)
            cells.append(described(np.asarray(model.predict(fit.q, data)), fit.q.weights.mean, z))
        peer = BayesianGaussianMixture(n_components=K, n_init=options.few, random_state=0)
        labels = peer.fit_predict(data)
        rows.append([name, *cells, described(labels, peer.weights_, z)])
        print(*rows[-1], sep=" | ", flush=True)
    text = TEXT.format(few=options.few)
    return text + "\n\n" + table(["bad rows", "plain", "noise", "Student-t", "scikit-learn"], rows)
