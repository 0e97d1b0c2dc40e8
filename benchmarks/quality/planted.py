"""Recovery of planted clusters with default priors."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import jax
import numpy as np
from sklearn.mixture import BayesianGaussianMixture

import vijax as vx

from ..page import table

USED = 0.01  # a component with more weight than this counts
K = 20
PEERS: dict[str, dict[str, Any]] = {
    "scikit-learn, defaults": {},
    "scikit-learn, Dirichlet": {"weight_concentration_prior_type": "dirichlet_distribution"},
    "scikit-learn, 1000 iterations": {"max_iter": 1000},
}
COUNTED = """{few} starts each: vijax with its own prior and with that of scikit-learn; scikit-learn
with its defaults, and with all the iterations it asks for. Found: how often exactly the planted
number of components had weight above 0.01, in all and in parts; error: the mean error of the
number. Reached: how often the best bound is within 0.1 nats of, or above, that of a fit started
from the true labels. Seconds: the median for one set, compiled."""
TEXT = """{sets} data sets: 2 to 8 Gaussian clusters in 1 to 8 columns, 100 to 2000 rows, nearest
centres 2 to 8 mean standard deviations apart; 20 components, """
WIDER = """{sets} data sets: 2 to 8 clusters in 1 to 16 columns, 200 to 2000 rows; sizes to 1:20,
each cluster elongated in its own way (standard deviations to 1:5 along random axes), nearest
centres 3 to 10 mean standard deviations apart. In a third, 2 to 10 % of the rows are uniform over
the box of the others; another third has Student-t clusters of 3 to 10 degrees of freedom. These two
are no Gaussian mixtures, so there one to three components more than planted count as found. 20
components, """


class Planted(NamedTuple):
    """Rows, their labels (background rows have the last), the number of clusters, and the part."""

    x: np.ndarray
    z: np.ndarray
    k: int
    part: str
    most: int  # components that count as right


def plain(seed: int) -> Planted:
    """Rows of 2 to 8 clusters in 1 to 8 columns, from overlapping to clear, and their labels."""
    rng = np.random.default_rng([7, seed])
    k, d = int(rng.integers(2, 9)), int(rng.integers(1, 9))
    n = int(rng.choice([100, 200, 500, 1000, 2000]))  # few sizes, few programs
    separation = rng.uniform(2.0, 8.0)  # between the nearest two centres, in mean sds
    centers = apart(rng.normal(size=(k, d)), separation)
    weights = rng.dirichlet(np.full(k, 5.0))
    z = rng.choice(k, size=n, p=weights)
    roots = rng.normal(size=(k, d, d)) * 0.3 + np.eye(d) * rng.uniform(0.7, 1.3, size=(k, 1, 1))
    x = centers[z] + np.einsum("nij,nj->ni", roots[z], rng.normal(size=(n, d)))
    part = "2 to 4 sd" if separation < 4 else "4 to 6 sd" if separation < 6 else "6 to 8 sd"
    return Planted(x, z, k, part, k)


def wider(seed: int) -> Planted:
    """Rows over wider ground, as the page says."""
    rng = np.random.default_rng([18, seed])
    k, d = int(rng.integers(2, 9)), int(rng.choice([1, 2, 3, 4, 6, 8, 12, 16]))
    n = int(rng.choice([200, 500, 1000, 2000]))
    part = ("Gaussian", "background", "heavy tails")[seed % 3]
    centers = apart(rng.normal(size=(k, d)), rng.uniform(3.0, 10.0))
    weights = np.exp(rng.uniform(0.0, np.log(20.0), size=k))
    z = rng.choice(k, size=n, p=weights / weights.sum())
    axes = np.stack([np.linalg.qr(rng.normal(size=(d, d)))[0] for _ in range(k)])
    sds = np.exp(rng.uniform(-0.5, 0.5, size=(k, d)) * np.log(5.0))
    noise = sds[z] * rng.normal(size=(n, d))
    if part == "heavy tails":
        dof = rng.uniform(3.0, 10.0)
        noise /= np.sqrt(rng.chisquare(dof, size=(n, 1)) / dof)
    x = centers[z] + np.einsum("nij,nj->ni", axes[z], noise)
    if part == "background":
        far = rng.random(n) < rng.uniform(0.02, 0.1)
        box = rng.uniform(x.min(0), x.max(0), size=x.shape)
        x, z = np.where(far[:, None], box, x), np.where(far, k, z)
    return Planted(x, z, k, part, k if part == "Gaussian" else k + 3)


def apart(centers: np.ndarray, separation: float) -> np.ndarray:
    """The centres, scaled so that the nearest two are so far from each other."""
    gaps = np.linalg.norm(centers[:, None] - centers, axis=-1)
    return centers * separation / (gaps + np.diag(np.full(len(centers), np.inf))).min()


def recovery(draw: Any, sets: int, starts: int) -> str:
    """How often the planted number has been found, with equal starts."""
    found: dict[str, list[bool]] = {}
    error: dict[str, list[int]] = {}
    seconds: dict[str, list[float]] = {}
    reached: dict[str, list[np.ndarray]] = {}
    parts: list[str] = []
    for seed in range(sets):
        x, z, k, part, most = draw(seed)
        parts.append(part)
        models = {
            "vijax, default prior": vx.GaussianMixture.from_data(x, K),
            "vijax, scikit-learn's prior": vx.GaussianMixture.with_prior(
                K, **vx.presets.sklearn(x, K)
            ),
        }
        counts = {}
        for name, model in models.items():
            key = jax.random.key(seed)
            fit = vx.fit(model, x, key=key, num_restarts=starts)
            begin = time.perf_counter()
            vx.fit(model, x, key=key, num_restarts=starts).elbo.block_until_ready()
            seconds.setdefault(name, []).append(time.perf_counter() - begin)
            known = float(vx.fit(model, x, init=z).elbo)
            counts[name] = used(fit.q.weights.mean)
            best = np.maximum.accumulate(np.asarray(fit.elbos))
            reached.setdefault(name, []).append(best[[0, -1]] > known - 0.1)
        for name, options in PEERS.items():
            begin = time.perf_counter()
            peer = BayesianGaussianMixture(
                n_components=K, n_init=starts, random_state=seed, **options
            ).fit(x)
            seconds.setdefault(name, []).append(time.perf_counter() - begin)
            counts[name] = used(peer.weights_)
        for name, count in counts.items():
            found.setdefault(name, []).append(k <= count <= most)
            error.setdefault(name, []).append(max(k - count, count - most))
        if seed % 10 == 9:
            print(seed + 1, "found", {n: int(np.sum(v)) for n, v in found.items()})
            print("  reached", {n: np.sum(v, 0).tolist() for n, v in reached.items()}, flush=True)
    ours = np.sum(found["vijax, default prior"])
    assert all(ours > np.sum(found[name]) for name in PEERS), "the default prior earns no place"
    kinds = sorted(set(parts))
    rows: list[list[object]] = []
    for name, hits in found.items():
        inside = {p: [h for h, q in zip(hits, parts, strict=True) if q == p] for p in kinds}
        ends = [f"{n}/{sets}" for n in np.sum(reached[name], 0)] if name in reached else ["", ""]
        rows.append(
            [name, f"{np.sum(hits)}/{sets}", *(f"{sum(v)}/{len(v)}" for v in inside.values())]
            + [f"{np.mean(error[name]):.2f}", *ends, f"{np.median(seconds[name]):.2f}"]
        )
    ends = ["reached, one start", f"reached, {starts} starts"]
    return table(["prior and tool", "found", *kinds, "error", *ends, "seconds"], rows)


def used(weights: Any) -> int:
    """The number of components in use."""
    return int((np.asarray(weights) > USED).sum())


def section(options: Any) -> str:
    sets = options.sets or 100
    text = (TEXT + COUNTED).format(sets=sets, few=options.few)
    return text + "\n\n" + recovery(plain, sets, options.few)


def wider_section(options: Any) -> str:
    sets = options.sets or 200
    text = (WIDER + COUNTED).format(sets=sets, few=options.few)
    return text + "\n\n" + recovery(wider, sets, options.few)
