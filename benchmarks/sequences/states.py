"""How often fits with states to spare end with the planted number of states, and transitions."""

from __future__ import annotations

import argparse
import functools
import logging
import time
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.optimize import linear_sum_assignment

import vijax as vx

from ..page import table
from .chains import paths, sticky

SETS, PEER_SETS, RESTARTS, STEPS = 100, 20, 8, 2000
SHARE = 0.01  # of all steps, that a state must have to count
ERROR = 0.05  # of a transition probability, at most


class Kind(NamedTuple):
    """Means (k, d) and sds (k,) of the planted states, their transitions, and states to fit."""

    title: str
    means: np.ndarray
    sd: np.ndarray
    transitions: np.ndarray
    fitted: int


def _polygon(k: int, side: float) -> np.ndarray:
    """k means at the corners of a regular polygon with this side."""
    angle = 2 * np.pi * np.arange(k) / k
    return side / (2 * np.sin(np.pi / k)) * np.stack([np.cos(angle), np.sin(angle)], -1)


_ONES = np.ones(6)
KINDS = {
    "sticky": Kind(
        "4 states, stay 0.95, 2 sd apart", _polygon(4, 2.0), _ONES[:4], sticky(4, 0.95), 12
    ),
    "weak": Kind("4 states, stay 0.7, 2 sd apart", _polygon(4, 2.0), _ONES[:4], sticky(4, 0.7), 12),
    "six": Kind("6 states, stay 0.9, 3 sd apart", _polygon(6, 3.0), _ONES, sticky(6, 0.9), 6),
    "widths": Kind(
        "3 states in 1-D, stay 0.95, of sd 1, 3 and 9, all about 0",
        np.zeros((3, 1)),
        np.array([1.0, 3.0, 9.0]),
        sticky(3, 0.95),
        8,
    ),
}
SETTINGS = (1.0, 0.0), (0.3, 0.0), (0.1, 5.0)  # conc and stay
GRID_SETS = 20  # of other settings, and of all kinds but the first


def draw(kind: Kind, sets: int) -> tuple[np.ndarray, np.ndarray]:
    """Data sets (m, t, d) and their states (m, t)."""
    rng = np.random.default_rng(0)
    z = paths(rng, sets, STEPS, kind.transitions)
    noise = rng.normal(size=(*z.shape, kind.means.shape[1]))
    return kind.means[z] + kind.sd[z][..., None] * noise, z


class Found(NamedTuple):
    """Of each data set: states that count, and the largest error of a transition probability."""

    number: np.ndarray
    error: np.ndarray
    elbo: np.ndarray
    seconds: float

    def right(self, k: int) -> np.ndarray:
        """Whether number and transitions are those planted."""
        return (self.number == k) & (self.error < ERROR)


def compare(
    kind: Kind, z: np.ndarray, path: np.ndarray, moves: np.ndarray, share: np.ndarray
) -> Any:
    """The number of states that count, and the error of `moves` (k, k) if the number is right."""
    used = np.flatnonzero(share >= SHARE)
    k = len(kind.sd)
    if len(used) != k:
        return len(used), np.inf
    together = np.array([[np.sum((z == i) & (path == j)) for j in used] for i in range(k)])
    own = used[linear_sum_assignment(-together)[1]]
    return k, np.abs(moves[np.ix_(own, own)] - kind.transitions).max()


def ours(kind: Kind, sets: int, restarts: int = RESTARTS, **options: Any) -> Found:
    """`fit_many` with these arguments of `HMM.from_data`."""
    xs, zs = draw(kind, sets)
    data = [vx.Batch.sequences(x.astype(np.float32)) for x in xs]
    build = functools.partial(vx.HMM.from_data, num_states=kind.fitted, **options)
    begin = time.perf_counter()
    fits = vx.fit_many(build, data, key=jax.random.key(0), num_restarts=restarts)
    elbo = np.asarray(fits.elbo)
    seconds = time.perf_counter() - begin
    moves = np.asarray(fits.q.labels.transitions.mean)
    resp = np.asarray(fits.responsibilities(data))[:, 0, :STEPS]
    found = [
        compare(kind, z, own.argmax(-1), a, own.mean(0))
        for z, own, a in zip(zs, resp, moves, strict=True)
    ]
    number, error = (np.array(a) for a in zip(*found, strict=True))
    return Found(number, error, elbo, seconds)


def hmmlearn(kind: Kind, sets: int, restarts: int = RESTARTS) -> Found:
    """Its variational HMM with its own priors and starts, the best bound of eight."""
    from hmmlearn.vhmm import VariationalGaussianHMM

    logging.getLogger("hmmlearn").setLevel(logging.ERROR)
    xs, zs = draw(kind, sets)
    begin, found, bounds = time.perf_counter(), [], []
    for i, (x, z) in enumerate(zip(xs, zs, strict=True)):
        fits = []
        for restart in range(restarts):
            hmm = VariationalGaussianHMM(
                kind.fitted,
                covariance_type="full",
                n_iter=1000,
                tol=1e-3,
                random_state=100 * i + restart,
                implementation="scaling",
            ).fit(x)
            fits.append((hmm.monitor_.history[-1], hmm))
        bound, best = max(fits, key=lambda f: f[0])
        conc = best.transmat_posterior_
        resp = best.predict_proba(x)
        moves = conc / conc.sum(1, keepdims=True)
        found.append(compare(kind, z, resp.argmax(1), moves, resp.mean(0)))
        bounds.append(bound)
    number, error = (np.array(a) for a in zip(*found, strict=True))
    return Found(number, error, np.array(bounds), time.perf_counter() - begin)


def row(kind: Kind, found: Found) -> list[object]:
    """Cells of a table."""
    k = len(kind.sd)
    numbers, counts = np.unique(found.number, return_counts=True)
    spread = ", ".join(f"{n}: {c}" for n, c in zip(numbers, counts, strict=True))
    right = f"{np.mean(found.number == k):.0%}"
    error = np.median(found.error[found.number == k]) if (found.number == k).any() else np.nan
    seconds = f"{found.seconds / len(found.number):.1f}"
    whole = f"{found.right(k).mean():.0%}"
    return [len(found.number), whole, right, spread, f"{error:.3f}", seconds]


COLUMNS = ["sets", "number and transitions", "number", "states: sets", "error", "s a set"]


def section(options: argparse.Namespace) -> str:
    """Fits of ours with the defaults and other priors, and of hmmlearn, by kind of data."""
    lines: list[list[object]] = []

    def add(kind: Kind, who: str, bound: str, found: Found) -> None:
        line = [kind.title, who, *row(kind, found), bound]
        print(*line, sep=" | ", flush=True)
        lines.append(line)

    for name, kind in KINDS.items():
        few = min(options.sets, GRID_SETS)
        base = ours(kind, options.sets if name == "sticky" else few)
        add(kind, "vijax, defaults", f"{base.elbo.mean():.1f}", base)
        for conc, stay in SETTINGS:
            found = ours(kind, few, conc=conc, stay=stay)
            add(kind, f"vijax, conc {conc:g}, stay {stay:g}", f"{found.elbo.mean():.1f}", found)
    first = KINDS["sticky"]
    add(first, "hmmlearn", "", hmmlearn(first, min(options.sets, PEER_SETS)))
    return f"{_TEXT}\n\n{table(['data', 'fit', *COLUMNS, 'mean bound'], lines)}"


_TEXT = f"""Data sets of {STEPS} steps, in 2-D but for the last kind, in float32, fitted by
`fit_many` with more states than made them (12 for 4, 6 for 6, 8 for 3), the best of {RESTARTS}
starts. A state counts if it has {SHARE:.0%} of the steps. `number`: of the data sets in which as
many count as were planted. `number and transitions`: in which also no transition probability is off
by {ERROR:g} after matching. `error`: the largest error, median where the number is right. hmmlearn
is `VariationalGaussianHMM` with its own prior and k-means, tol = 1e-3, at most 1000 iterations."""
