"""The number of components in three units of the data."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from sklearn.mixture import BayesianGaussianMixture

import vijax as vx

from ..page import table

TEXT = """500 points of three clusters, K = 1 to 8, the data multiplied by a constant: the K with
the highest bound (`select_num_components`; scikit-learn's `lower_bound_`, 8 starts each)."""


def section(options: Any) -> str:
    x, _ = vx.datasets.three_clusters()
    rows: list[list[object]] = []
    for scale in (0.01, 1.0, 1000.0):
        ours = vx.select_num_components(x * scale, range(1, 9), key=jax.random.key(0)).best
        bounds = [
            BayesianGaussianMixture(n_components=k, n_init=8, max_iter=1000, random_state=0)
            .fit(x * scale)
            .lower_bound_
            for k in range(1, 9)
        ]
        rows.append([f"x {scale:g}", ours, 1 + int(np.argmax(bounds))])
    assert len({ours for _, ours, _ in rows}) == 1
    assert len({theirs for _, _, theirs in rows}) > 1
    return TEXT + "\n\n" + table(["units", "vijax", "scikit-learn"], rows)
