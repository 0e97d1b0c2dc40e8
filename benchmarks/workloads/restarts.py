"""E: EM, ten restarts, n = 1000, d = 2, k = 3: one program for all of them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import vijax as vx

from .. import peers
from ..record import Entry, entries
from ..timing import Timing, alternate
from . import SMALL_LOOPS, TOLERANCES

TITLE = "EM, ten restarts, n = 1000, d = 2, k = 3"
K, STARTS = 3, 10


def jobs(quick: bool) -> list[dict[str, Any]]:
    """Both precisions; float32 also with XLA set for small fits."""
    parts: list[dict[str, Any]] = [{"dtype": d, "devices": 1} for d in ("float32", "float64")]
    return parts[:1] if quick else [*parts, {**parts[0], "xla_flags": SMALL_LOOPS}]


def run(job: dict[str, Any]) -> list[Entry]:
    """From ten given starts, and from ten that each tool draws itself."""
    n = 200 if job["quick"] else 1000
    x, _ = vx.datasets.three_clusters(n)
    return _given(job, x) + _drawn(job, x)


def _starts(x: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Weights, means and covariances: random rows as means, the data's covariance for all."""
    rng = np.random.default_rng(1)
    return [
        (np.full(K, 1 / K), x[rng.choice(len(x), K, replace=False)], np.stack([np.cov(x.T)] * K))
        for _ in range(STARTS)
    ]


def _likelihood(fit: Any) -> float:
    return float(jnp.max(fit.elbos))


def _given(job: dict[str, Any], x: np.ndarray) -> list[Entry]:
    """The same starts for all; vijax is given the responsibilities of the first E-step."""
    starts, dtype = _starts(x), job["dtype"]
    narrow = x.astype(dtype)
    resp = np.stack([_responsibilities(x, *start) for start in starts]).astype(dtype)
    model = vx.GaussianMixture.flat(K, 2)

    @jax.jit
    def fit(x: Any, resp: Any, tol: Any) -> Any:
        stop = vx.Stop(tol=tol)
        return jax.lax.map(lambda r: vx.fit(model, x, init=r, method=vx.EM(), stop=stop).elbo, resp)

    fns: dict[str, Any] = {}
    details: dict[str, dict[str, Any]] = {}
    mark = None
    if "scikit-learn" in job["peers"]:
        sk = peers.load("scikit-learn")

        def theirs(x: np.ndarray) -> list[Any]:
            return [
                sk.em(x, K, weights_init=w, means_init=m, precisions_init=np.linalg.inv(c))
                for w, m, c in starts
            ]

        found = theirs(x)
        mark = max(peer.score(x) * len(x) for peer in found)
        iterations = [int(peer.n_iter_) for peer in found]
        details["scikit-learn:float64"] = {"likelihood": mark, "iterations": iterations}
        fns["scikit-learn:float64"] = lambda: [peer.lower_bound_ for peer in theirs(x)]
    tol, reached = _loosest(lambda tol: float(jnp.max(fit(narrow, resp, tol))), mark)
    details["vijax"] = {"likelihood": reached, "tol": tol}
    fns["vijax"] = lambda: fit(narrow, resp, tol)
    fns["vijax at its own tolerance"] = lambda: fit(narrow, resp, 1e-3)
    if "gmmx" in job["peers"] and dtype == "float32":
        _add_gmmx(fns, narrow, starts)
    return _entries(job, fns, details, f"{STARTS} given starts, n={len(x)} d=2 k={K}")


def _add_gmmx(fns: dict[str, Any], x: np.ndarray, starts: Any) -> None:
    try:
        gmmx = peers.load("gmmx")
        rows, models = jnp.asarray(x), [gmmx.start(*start) for start in starts]
    except Exception as error:  # a peer's failure is a result
        message = f"gmmx: {type(error).__name__}: {error}"

        def fail() -> None:
            raise RuntimeError(message)

        fns["gmmx"] = fail
        return
    fns["gmmx"] = lambda: [gmmx.fit(rows, model, 1000, 1e-3) for model in models]


def _drawn(job: dict[str, Any], x: np.ndarray) -> list[Entry]:
    """Each tool's own seeds: `n_init=10` against `num_restarts=10`."""
    dtype = job["dtype"]
    narrow, key = jnp.asarray(x.astype(dtype)), jax.random.key(0)
    model = vx.GaussianMixture.flat(K, 2)

    def ours(tol: float) -> Any:
        stop = vx.Stop(tol=tol)
        return vx.fit(model, narrow, key=key, method=vx.EM(), num_restarts=STARTS, stop=stop)

    fns: dict[str, Any] = {}
    details: dict[str, dict[str, Any]] = {}
    mark = None
    if "scikit-learn" in job["peers"]:
        sk = peers.load("scikit-learn")
        fastest = "k-means++"
        for kind in ("kmeans", fastest):
            name = f"scikit-learn {kind}:float64"
            peer = sk.em(x, K, n_init=STARTS, init_params=kind, random_state=0)
            found = peer.score(x) * len(x)
            mark = found if mark is None else max(mark, found)
            details[name] = {"likelihood": found}
            fns[name] = lambda kind=kind: (
                sk.em(x, K, n_init=STARTS, init_params=kind, random_state=0).lower_bound_
            )
    tol, reached = _loosest(lambda tol: _likelihood(ours(tol)), mark)
    details["vijax"] = {"likelihood": reached, "tol": tol}
    fns["vijax"] = lambda: ours(tol).elbo
    fns["vijax at its own tolerance"] = lambda: ours(1e-3).elbo
    return _entries(job, fns, details, f"{STARTS} drawn starts, n={len(x)} d=2 k={K}")


def _loosest(reach: Any, mark: float | None) -> tuple[float, float]:
    """The loosest tolerance whose best start is as good as theirs, and what it reaches.

    In float32 the likelihood is known to some 1e-7 of itself.
    """
    if mark is None:
        return 1e-3, reach(1e-3)
    for tol in TOLERANCES[:-1]:
        reached = reach(tol)
        if reached >= mark - 1e-6 * abs(mark):
            return tol, reached
    return TOLERANCES[-1], reach(TOLERANCES[-1])


def _entries(
    job: dict[str, Any], fns: dict[str, Any], details: dict[str, Any], case: str
) -> list[Entry]:
    times: dict[str, Timing] = alternate(fns, 1 if job["quick"] else 15, budget=4.0)
    return entries(times, case=case, dtype=job["dtype"], details=details)


def _responsibilities(x: np.ndarray, weights: Any, means: Any, covariances: Any) -> np.ndarray:
    log = np.stack(
        [
            np.log(w)
            - 0.5 * np.einsum("nd,de,ne->n", x - m, np.linalg.inv(c), x - m)
            - 0.5 * np.linalg.slogdet(c)[1]
            for w, m, c in zip(weights, means, covariances, strict=True)
        ],
        axis=1,
    )
    resp = np.exp(log - log.max(1, keepdims=True))
    return resp / resp.sum(1, keepdims=True)
