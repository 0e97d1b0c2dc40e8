"""Reference draws of every problem: NUTS in float64, `python -m benchmarks.blackbox.reference`.

    python -m benchmarks.blackbox.reference [--only NAME ...]

It writes reference.json (of every unconstrained coordinate mean, sd, rank-normalised split R-hat,
effective draws of the mean and of the sd) and draws.npz (400 thinned draws in float32, 100 of each
chain, one chain after the other). Needs blackjax and arviz-stats; one core.

Chains run in coordinates in which the Laplace approximation at a mode is standard, so that scales
do not matter; a posterior that has a better parameterisation is drawn there and mapped.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .problems import PROBLEMS, Problem
from .unconstrained import constrain, coordinates, log_density, unconstrain

HERE = Path(__file__).parent
CHAINS, WARM_UP, DRAWS, KEPT = 4, 1000, 2500, 100
ACCEPT, ACCEPT_HARD = 0.9, 0.99


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=list(PROBLEMS), default=list(PROBLEMS))
    names = parser.parse_args().only
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_platforms", "cpu")

    file, draws_file = HERE / "reference.json", HERE / "draws.npz"
    written = json.loads(file.read_text())["problems"] if file.exists() else {}
    kept = dict(np.load(draws_file)) if draws_file.exists() else {}
    for name in names:
        start = time.perf_counter()
        draws, divergent = sample(PROBLEMS[name]())
        written[name] = entry = summary(PROBLEMS[name](), draws, divergent)
        kept[name] = thinned(draws)
        print(
            f"{name:26} d = {entry['d']:2}  R-hat {entry['max_r_hat']:.4f}  "
            f"ESS {entry['min_ess']:6.0f}, of sds {entry['min_ess_sd']:6.0f}  "
            f"divergent {divergent:3}  {time.perf_counter() - start:5.1f} s",
            flush=True,
        )
    packages = {name: version(name) for name in ("jax", "blackjax", "arviz-stats")}
    content = {
        "method": f"blackjax NUTS, {CHAINS} chains of {DRAWS} draws after {WARM_UP}, float64",
        "versions": packages,
        "problems": {name: written[name] for name in PROBLEMS if name in written},
    }
    file.write_text(json.dumps(content, indent=1) + "\n")
    np.savez_compressed(draws_file, **{name: kept[name] for name in PROBLEMS if name in kept})


def sample(problem: Problem) -> tuple[np.ndarray, int]:
    """Draws (chains, draws, d) in the problem's unconstrained coordinates, and divergences."""
    if problem.drawn_from is None:
        return nuts(log_density(problem), len(coordinates(problem)), not problem.easy)
    name, to_params = problem.drawn_from
    source = PROBLEMS[name]()
    draws, divergent = sample(source)

    def mapped(u: jax.Array) -> jax.Array:
        return unconstrain(problem, to_params(constrain(source, u)[0]))

    return np.asarray(jax.jit(jax.vmap(jax.vmap(mapped)))(draws)), divergent


def nuts(logp: Any, d: int, hard: bool) -> tuple[np.ndarray, int]:
    """Draws (chains, draws, d) of a log density over R^d, and how many trajectories diverged."""
    import blackjax

    mode, root = laplace(logp, d)

    def whitened(v: jax.Array) -> jax.Array:
        return logp(mode + root @ v)

    def chain(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        start, warm, run = jax.random.split(key, 3)
        adaptation = blackjax.window_adaptation(
            blackjax.nuts,
            whitened,
            is_mass_matrix_diagonal=False,
            target_acceptance_rate=ACCEPT_HARD if hard else ACCEPT,
            adaptation_info_fn=lambda *_: (),
        )
        first = jax.random.normal(start, (d,))
        (state, parameters), _ = adaptation.run(warm, first, WARM_UP)
        kernel = blackjax.nuts(whitened, **parameters)

        def step(state: Any, key: jax.Array) -> tuple[Any, Any]:
            state, info = kernel.step(key, state)
            return state, (state.position, info.is_divergent)

        _, (v, divergent) = jax.lax.scan(step, state, jax.random.split(run, DRAWS))
        return mode + v @ root.T, jnp.sum(divergent)

    keys = jax.random.split(jax.random.key(0), CHAINS)
    draws, divergent = jax.jit(jax.vmap(chain))(keys)
    return np.asarray(draws), int(divergent.sum())


def laplace(logp: Any, d: int, max_steps: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """A mode (d,) and a square root (d, d) of the inverse curvature there, by Newton's method with
    absolute eigenvalues from 0; the curvature is scaled to a unit diagonal before.
    """
    value, gradient, hessian = jax.jit(logp), jax.jit(jax.grad(logp)), jax.jit(jax.hessian(logp))
    u = np.zeros(d)
    for _ in range(max_steps):
        g, h = np.asarray(gradient(u)), -np.asarray(hessian(u))
        scale = 1 / np.sqrt(np.maximum(np.abs(np.diag(h)), 1e-12))
        w, v = np.linalg.eigh(scale[:, None] * h * scale)
        root = scale[:, None] * v / np.sqrt(np.maximum(np.abs(w), 1e-12 * np.abs(w).max()))
        step, now, rate = root @ (root.T @ g), float(value(u)), 1.0
        while not float(value(u + rate * step)) >= now and rate > 1e-9:
            rate *= 0.5
        u = u + rate * step
        if g @ step < 1e-8:
            break
    return u, root


def summary(problem: Problem, draws: np.ndarray, divergent: int) -> dict[str, Any]:
    """What reference.json says of a problem."""
    from arviz_stats.base import array_stats

    def ess(values: np.ndarray) -> np.ndarray:
        return np.asarray(array_stats.ess(values, chain_axis=0, draw_axis=1, method="bulk"))

    mean, sd = draws.mean((0, 1)), draws.std((0, 1))
    r_hat = np.asarray(array_stats.rhat(draws, chain_axis=0, draw_axis=1))
    ess_mean, ess_sd = ess(draws), ess((draws - mean) ** 2)
    return {
        "d": draws.shape[2],
        "draws": draws.shape[0] * draws.shape[1],
        "divergent": divergent,
        "max_r_hat": _digits(r_hat.max()),
        "min_ess": _digits(ess_mean.min(), 4),
        "min_ess_sd": _digits(ess_sd.min(), 4),
        "coordinates": [
            {
                "name": name,
                "mean": _digits(mean[i], 9),
                "sd": _digits(sd[i]),
                "r_hat": _digits(r_hat[i]),
                "ess": _digits(ess_mean[i], 4),
                "ess_sd": _digits(ess_sd[i], 4),
            }
            for i, name in enumerate(coordinates(problem))
        ],
    }


def thinned(draws: np.ndarray) -> np.ndarray:
    """(chains KEPT, d) in float32, evenly spaced."""
    every = draws.shape[1] // KEPT
    return draws[:, every - 1 :: every][:, :KEPT].reshape(-1, draws.shape[2]).astype(np.float32)


def _digits(x: float, digits: int = 6) -> float:
    return float(f"{x:.{digits}g}") if math.isfinite(x) else math.nan


if __name__ == "__main__":
    main()
