"""The discrete families, one row each: rows, priors, exact evidence, and what they refuse."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from vijax.models.mixtures.columns import (
    BernoulliMixture,
    CategoricalMixture,
    ExponentialMixture,
    GeometricMixture,
    MultinomialMixture,
    PoissonMixture,
)

from .oracles import discrete as oracle

SIZES = (3, 2)  # categories of the categorical columns
TOTAL = 7


@dataclasses.dataclass(frozen=True)
class Kind:
    """One family: how to draw rows and priors, and its evidence.

    `draw(rng, n, level)` gives rows of a cluster; `level` 0 and 1 are far apart. `prior(rng, k)`
    is what `with_prior` takes. `support` lists all rows, or those that matter.
    """

    name: str
    model: Any
    draw: Callable[[np.random.Generator, int, int], Any]
    prior: Callable[[np.random.Generator, int], dict[str, Any]]
    evidence: Callable[..., float]
    flat: tuple[Any, ...]
    estimate: Callable[[Any, Any], Any]
    support: Any
    bad: tuple[float, ...]
    missing: bool = True


def gammas(rng, *shape):
    return rng.gamma(2.0, size=shape) + 0.3


def _rates(rng, k):
    return {"shape": gammas(rng, k, 2), "rate": gammas(rng, k, 2)}


def _category_conc(rng, k):
    return {"category_conc": gammas(rng, k, 2, 3) * [[1, 1, 1], [1, 1, 0]]}


def _codes(rng, n, level):
    first = rng.choice(3, n, p=[[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]][level])
    return np.stack([first, rng.choice(2, n, p=[[0.9, 0.1], [0.1, 0.9]][level])], 1).astype(float)


def _frequencies(x, weight):
    share = weight / weight.sum()
    return [[share @ (x[:, j] == c) for c in range(3)] for j in range(2)]


def _mean(x, weight):
    return weight @ x / weight.sum()


def _grid(*values):
    return np.array(list(itertools.product(*values)), float)


KINDS = [
    Kind(
        "poisson",
        PoissonMixture,
        lambda rng, n, level: rng.poisson([[2.0, 9.0], [12.0, 1.0]][level], (n, 2)).astype(float),
        _rates,
        oracle.poisson,
        (2,),
        lambda x, w: (_mean(x, w), lambda q: q.point().mean),
        _grid(range(400), [3]),
        (-1.0, 0.5),
    ),
    Kind(
        "exponential",
        ExponentialMixture,
        lambda rng, n, level: rng.exponential([[0.1, 8.0], [9.0, 0.2]][level], (n, 2)),
        _rates,
        oracle.exponential,
        (2,),
        lambda x, w: (1 / _mean(x, w), lambda q: q.point().mean),
        None,
        (-0.1,),
    ),
    Kind(
        "bernoulli",
        BernoulliMixture,
        lambda rng, n, level: (rng.random((n, 5)) < [0.1, 0.9][level]).astype(float),
        lambda rng, k: {"a": gammas(rng, k, 5), "b": gammas(rng, k, 5)},
        oracle.bernoulli,
        (5,),
        lambda x, w: (_mean(x, w), lambda q: q.point().mean),
        _grid(*[[0, 1]] * 5),
        (2.0, 0.5, -1.0),
    ),
    Kind(
        "geometric",
        GeometricMixture,
        lambda rng, n, level: rng.geometric([[0.5, 0.02], [0.02, 0.4]][level], (n, 2)) - 1.0,
        lambda rng, k: {"a": gammas(rng, k, 2), "b": gammas(rng, k, 2)},
        oracle.geometric,
        (2,),
        lambda x, w: (1 / (1 + _mean(x, w)), lambda q: q.point().mean),
        _grid(range(20_000), [3]),
        (-1.0, 0.5),
    ),
    Kind(
        "categorical",
        CategoricalMixture,
        lambda rng, n, level: _codes(rng, n, level),
        _category_conc,
        oracle.categorical,
        (2, SIZES),
        lambda x, w: (_frequencies(x, w), lambda q: q.point().p),
        _grid(range(3), range(2)),
        (3.0, 0.5, -1.0),
    ),
    Kind(
        "multinomial",
        MultinomialMixture,
        lambda rng, n, level: rng.multinomial(
            TOTAL, [[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]][level], n
        ).astype(float),
        lambda rng, k: {"category_conc": gammas(rng, k, 3)},
        oracle.multinomial,
        (3,),
        lambda x, w: (w @ x / (w @ x).sum(), lambda q: q.point().mean),
        np.array([row for row in itertools.product(range(TOTAL + 1), repeat=3) if sum(row) == 7]),
        (-1.0, 0.5),
        missing=False,
    ),
]


def rows_of(kind, rng, n, levels=2):
    """Rows of both clusters, shuffled, and their labels."""
    label = rng.integers(levels, size=n)
    both = np.stack([kind.draw(rng, n, level) for level in range(2)])
    return both[label, np.arange(n)], label


def one(prior):
    return {name: value[0] for name, value in prior.items()}


def holes(rng, x, share=0.3):
    """Rows with NaN in some entries, never in all of a row."""
    lost = rng.random(x.shape) < share
    lost[np.arange(len(x)), rng.integers(x.shape[1], size=len(x))] = False
    return np.where(lost, np.nan, x)
