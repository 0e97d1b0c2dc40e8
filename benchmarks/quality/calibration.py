"""Whether the posterior of what is planted holds the truth, with default priors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

import vijax as vx

from ..page import table

K = 8
LARGEST = ("flags", "categories")  # of which only probabilities above 0.5 are averaged
CLUSTERS = (1, 2, 3, 4, 6)
ROWS = 96
TEXT = """{sets} data sets in each cell, float32, {few} starts, 8 components: 96 rows in clusters of
equal size. The estimate of a cluster is that of the component with most of its rows. In each cell:
estimate over truth, the mean over sets and clusters; the share of true values within 2 posterior
standard deviations of the estimate; the share of sets with the planted number of components above
weight 0.01.

Gaussian: two columns of standard deviation 0.8, centres at least 5 standard deviations apart; the
values are variances. Counts: three columns, rates 5 to 310, at least a factor of 1.7 between the
clusters in each; the values are rates. Attempts before a success: 8 columns, means 2 to 670, at
least a factor of 2.2 between the clusters in each; the values are chances of success. Flags: 12
columns with probabilities 0.1 and 0.9. Categories: 8 columns of 4 levels, one of them with
probability 0.85; of these two the mean ratio is that of the probabilities above 0.5. Waiting times:
8 columns, rates 0.1 to 140, at least a factor of 3 between clusters in each; the values are
rates."""


class Drawn(NamedTuple):
    """Rows, labels, and the true values (clusters, v)."""

    x: np.ndarray
    z: np.ndarray
    truth: np.ndarray


class Kind(NamedTuple):
    """A model, how its data are drawn, and its estimates and their posterior sds (k, v)."""

    model: Callable[[np.ndarray], Any]
    draw: Callable[[np.random.Generator, int], Drawn]
    values: Callable[[Any], tuple[Any, Any]]


def labels(rng: np.random.Generator, k: int) -> np.ndarray:
    """The clusters of rows: equal sizes in random order."""
    return rng.permutation(np.arange(ROWS) % k)


def gaussian(rng: np.random.Generator, k: int) -> Drawn:
    while True:
        centers = rng.uniform(-8.0, 8.0, size=(k, 2))
        gaps = np.linalg.norm(centers[:, None] - centers, axis=-1) + 99.0 * np.eye(k)
        if gaps.min() > 5 * 0.8:
            break
    z = labels(rng, k)
    x = centers[z] + 0.8 * rng.normal(size=(ROWS, 2))
    return Drawn(x.astype(np.float32), z, np.full((k, 2), 0.64))


def spread(rng: np.random.Generator, k: int, d: int, low: float, factor: float) -> np.ndarray:
    """Rates (k, d), in each column in another order and a factor or more from each other."""
    steps = np.stack([rng.permutation(k) for _ in range(d)], 1)
    return low * factor ** (steps + rng.uniform(0.0, 0.3, size=(k, d)))


def counts(rng: np.random.Generator, k: int) -> Drawn:
    rate, z = spread(rng, k, 3, 5.0, 2.2), labels(rng, k)
    return Drawn(rng.poisson(rate[z]).astype(np.float32), z, rate)


def waits(rng: np.random.Generator, k: int) -> Drawn:
    rate, z = spread(rng, k, 8, 0.1, 4.0), labels(rng, k)
    return Drawn(rng.exponential(1.0 / rate[z]).astype(np.float32), z, rate)


def categories(rng: np.random.Generator, k: int) -> Drawn:
    d, levels = 8, 4
    favourite = rng.integers(levels, size=(k, d))
    p = np.where(favourite[..., None] == np.arange(levels), 0.85, 0.05)
    z = labels(rng, k)
    x = (rng.random((ROWS, d, 1)) > np.cumsum(p, -1)[z]).sum(-1)
    return Drawn(x, z, p.reshape(k, -1))


def flags(rng: np.random.Generator, k: int) -> Drawn:
    p, z = np.where(rng.random((k, 12)) < 0.5, 0.1, 0.9), labels(rng, k)
    return Drawn((rng.random((ROWS, 12)) < p[z]).astype(np.float32), z, p)


def attempts(rng: np.random.Generator, k: int) -> Drawn:
    p, z = 1.0 / (1.0 + spread(rng, k, 8, 2.0, 3.0)), labels(rng, k)
    return Drawn((rng.geometric(p[z]) - 1).astype(np.float32), z, p)


def of_covariance(q: Any) -> tuple[Any, Any]:
    components = q.components
    diagonal = [np.diagonal(a, axis1=-2, axis2=-1) for a in (components.covariance,)]
    return diagonal[0], np.diagonal(components.covariance_sd, axis1=-2, axis2=-1)


def of_rate(q: Any) -> tuple[Any, Any]:
    return q.components.rate, q.components.rate_sd


def of_probability(q: Any) -> tuple[Any, Any]:
    return q.components.p, q.components.p_sd


def of_levels(q: Any) -> tuple[Any, Any]:
    mean, sd = np.asarray(q.components.p), np.asarray(q.components.p_sd)
    return mean.reshape(len(mean), -1), sd.reshape(len(sd), -1)


def kinds() -> dict[str, Kind]:
    """All rows of the table."""
    found = {
        f"Gaussian, {covariance}": Kind(
            lambda x, c=covariance: vx.GaussianMixture.from_data(x, K, covariance=c),
            gaussian,
            of_covariance,
        )
        for covariance in ("full", "tied", "diag", "spherical")
    }
    found["counts"] = Kind(lambda x: vx.PoissonMixture.from_data(x, K), counts, of_rate)
    found["flags"] = Kind(lambda x: vx.BernoulliMixture.from_data(x, K), flags, of_probability)
    found["attempts"] = Kind(
        lambda x: vx.GeometricMixture.from_data(x, K), attempts, of_probability
    )
    found["categories"] = Kind(
        lambda x: vx.CategoricalMixture.from_data(x, K), categories, of_levels
    )
    found["waiting times"] = Kind(lambda x: vx.ExponentialMixture.from_data(x, K), waits, of_rate)
    return found


def cell(name: str, kind: Kind, k: int, sets: int, starts: int) -> str:
    """One cell of the table."""
    ratios, inside, right = [], [], []
    for seed in range(sets):
        x, z, truth = kind.draw(np.random.default_rng([26, k, seed]), k)
        model = kind.model(x)
        fit = vx.fit(model, x, key=jax.random.key(seed), num_restarts=starts)
        mean, sd = (np.asarray(a) for a in kind.values(fit.q))
        chosen = np.asarray(model.predict(fit.q, x))
        right.append(np.sum(np.asarray(fit.q.weights.mean) > 0.01) == k)
        for cluster in range(k):
            own = np.bincount(chosen[z == cluster]).argmax()
            largest = truth[cluster] > 0.5 if name in LARGEST else slice(None)
            ratios.append(np.mean((mean[own] / truth[cluster])[largest]))
            inside.append(np.abs(mean[own] - truth[cluster]) < 2.0 * sd[own])
    return f"{np.mean(ratios):.2f}, {100 * np.mean(inside):.0f} %, {100 * np.mean(right):.0f} %"


def section(options: Any) -> str:
    sets = options.sets or 24
    rows: list[list[object]] = []
    for name, kind in kinds().items():
        rows.append([name, *(cell(name, kind, k, sets, options.few) for k in CLUSTERS)])
        print(*rows[-1], flush=True)
    text = TEXT.format(sets=sets, few=options.few)
    return text + "\n\n" + table(["clusters", *map(str, CLUSTERS)], rows)
