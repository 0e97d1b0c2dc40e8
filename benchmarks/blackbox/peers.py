"""Gaussian approximations by numpyro and blackjax of a log density over R^d, timed.

All take `logp` of u (d,) in nats, start at `start` (0 if None), and give an `Approximation`.
Stochastic ones run compiled chunks of steps, and tell where they were after each, so that the time
to a mark is known without a second run. Times are wall seconds, less those of compilation and of
looking at the state. The caller sets JAX's precision.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

RATES = (0.01, 0.03, 0.1)
LogDensity = Callable[[jax.Array], jax.Array]


class Path(NamedTuple):
    """Where a stochastic method was at c checkpoints."""

    steps: np.ndarray
    """(c,)."""
    seconds: np.ndarray
    """(c,), since the first step."""
    means: np.ndarray
    """(c, d)."""
    roots: np.ndarray
    """(c, d, d), lower triangular with root root' = covariance; (c, d) sds of a mean field."""


class Approximation(NamedTuple):
    """A Gaussian, and what it took."""

    mean: np.ndarray
    """(d,)."""
    root: np.ndarray
    """(d, d), lower triangular; (d,) sds of a mean field."""
    compile_seconds: float
    seconds: float
    gradients: int
    """Evaluated in all; 0 if the method does not tell."""
    path: Path | None

    @property
    def covariance(self) -> np.ndarray:
        """(d, d)."""
        return np.diag(self.root**2) if self.root.ndim == 1 else self.root @ self.root.T


def numpyro_auto_normal(logp: LogDensity, d: int, key: jax.Array, **settings: Any) -> Approximation:
    """numpyro's AutoNormal under SVI with Adam; settings as of `_numpyro`."""
    from numpyro.infer.autoguide import AutoNormal

    return _numpyro(AutoNormal, ("u_auto_loc", "u_auto_scale"), logp, d, key, **settings)


def numpyro_auto_multivariate_normal(
    logp: LogDensity, d: int, key: jax.Array, **settings: Any
) -> Approximation:
    """numpyro's AutoMultivariateNormal under SVI with Adam; settings as of `_numpyro`."""
    from numpyro.infer.autoguide import AutoMultivariateNormal

    names = ("auto_loc", "auto_scale_tril")
    return _numpyro(AutoMultivariateNormal, names, logp, d, key, **settings)


def _numpyro(
    guide_class: Any,
    names: tuple[str, str],
    logp: LogDensity,
    d: int,
    key: jax.Array,
    *,
    start: jax.Array | None = None,
    steps: int = 10_000,
    learning_rate: float = 0.01,
    decay: bool = True,
    draws: int = 1,
    checkpoints: int = 40,
) -> Approximation:
    """`draws` a step; `decay`: by a cosine to a hundredth of the rate. Steps that are not finite
    are left out (`stable_update`), as a user would have it.
    """
    import numpyro
    import numpyro.distributions as dist
    from numpyro.infer import SVI, Trace_ELBO, init_to_value
    from numpyro.optim import optax_to_numpyro

    first = jnp.zeros(d) if start is None else jnp.asarray(start)

    def model() -> None:
        flat = dist.ImproperUniform(dist.constraints.real_vector, (), event_shape=(d,))
        numpyro.factor("target", logp(numpyro.sample("u", flat)))

    guide = guide_class(model, init_loc_fn=init_to_value(values={"u": first}))
    optimiser = optax_to_numpyro(_adam(learning_rate, steps, decay))
    svi = SVI(model, guide, optimiser, Trace_ELBO(num_particles=draws))

    def read(state: Any) -> tuple[Any, Any]:
        params = svi.get_params(state)
        return params[names[0]], params[names[1]]

    def step(state: Any, _: Any) -> tuple[Any, None]:
        return svi.stable_update(state)[0], None

    return _run(step, svi.init(key), read, steps, checkpoints, draws)


def blackjax_meanfield(
    logp: LogDensity,
    d: int,
    key: jax.Array,
    *,
    start: jax.Array | None = None,
    steps: int = 5_000,
    learning_rate: float = 0.01,
    decay: bool = True,
    draws: int = 10,
    checkpoints: int = 40,
) -> Approximation:
    """blackjax's meanfield_vi with Adam; its sds start at exp(-2)."""
    import blackjax

    method = blackjax.meanfield_vi(logp, _adam(learning_rate, steps, decay), draws)
    state = method.init(jnp.zeros(d))
    if start is not None:
        state = state._replace(mu=jnp.asarray(start))

    def step(carry: Any, _: Any) -> tuple[Any, None]:
        state, key = carry
        key, now = jax.random.split(key)
        return (method.step(now, state)[0], key), None

    def read(carry: Any) -> tuple[Any, Any]:
        return carry[0].mu, jnp.exp(carry[0].rho)

    return _run(step, (state, key), read, steps, checkpoints, draws)


def blackjax_pathfinder(
    logp: LogDensity,
    d: int,
    key: jax.Array,
    *,
    start: jax.Array | None = None,
    steps: int = 100,
    draws: int = 200,
    tolerance: float = 1e-5,
) -> Approximation:
    """blackjax's single-path Pathfinder: at most `steps` of L-BFGS, `draws` for each bound."""
    from blackjax.vi import pathfinder

    first = jnp.zeros(d) if start is None else jnp.asarray(start)

    def approximate(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        state, _ = pathfinder.approximate(key, logp, first, draws, maxiter=steps, ftol=tolerance)
        # the Gaussian that `pathfinder.sample` draws from
        inverse = jnp.diag(state.alpha) + state.beta @ state.gamma @ state.beta.T
        return state.position + inverse @ state.grad_position, inverse

    began = time.perf_counter()
    compiled = jax.jit(approximate).lower(key).compile()
    compile_seconds = time.perf_counter() - began
    jax.block_until_ready(compiled(key))  # the first call of a program pays for more than its work
    began = time.perf_counter()
    mean, covariance = jax.block_until_ready(compiled(key))
    seconds = time.perf_counter() - began
    return Approximation(
        np.asarray(mean), _root(np.asarray(covariance)), compile_seconds, seconds, 0, None
    )


def elbo(logp: LogDensity, means: Any, roots: Any, draws: int = 4096, seed: int = 0) -> np.ndarray:
    """Bounds in nats of Gaussians stacked along the first axis, of any square roots or sds, all on
    the same antithetic draws: differences of them are far more exact than they are.
    """
    means, roots = jnp.asarray(means), jnp.asarray(roots)
    half = jax.random.normal(jax.random.key(seed), (draws // 2, means.shape[1]))
    z = jnp.concatenate([half, -half])

    def one(gaussian: tuple[jax.Array, jax.Array]) -> jax.Array:
        mean, root = gaussian
        if root.ndim == 1:
            u, log_det = mean + z * root, jnp.sum(jnp.log(jnp.abs(root)))
        else:
            u, log_det = mean + z @ root.T, jnp.linalg.slogdet(root)[1]
        return jnp.mean(jax.vmap(logp)(u)) + log_det + 0.5 * len(mean) * (1 + np.log(2 * np.pi))

    return np.asarray(jax.jit(lambda *gaussians: jax.lax.map(one, gaussians))(means, roots))


def seconds_to(path: Path, bounds: np.ndarray, mark: float) -> float:
    """Wall seconds to the first checkpoint whose bound is at least `mark`; infinite if none."""
    reached = np.flatnonzero(bounds >= mark)
    return float(path.seconds[reached[0]]) if len(reached) else float("inf")


def at_best_rate(
    method: Callable[..., Approximation],
    logp: LogDensity,
    d: int,
    key: jax.Array,
    *,
    mark: float | None = None,
    rates: Sequence[float] = RATES,
    decays: Sequence[bool] = (True, False),
    **settings: Any,
) -> tuple[dict[str, Any], Approximation, np.ndarray]:
    """The settings that reach `mark` soonest, or else end at the highest bound; what they gave, and
    its bounds along the path.
    """
    best = None
    for learning_rate in rates:
        for decay in decays:
            chosen = {"learning_rate": learning_rate, "decay": decay}
            found = method(logp, d, key, **chosen, **settings)
            bounds = np.nan_to_num(elbo(logp, found.path.means, found.path.roots), nan=-np.inf)
            soon = np.inf if mark is None else seconds_to(found.path, bounds, mark)
            rank = (-soon, bounds[-1])
            if best is None or rank > best[0]:
                best = rank, (chosen, found, bounds)
    return best[1]


def _run(
    step: Any, state: Any, read: Any, steps: int, checkpoints: int, draws: int
) -> Approximation:
    """`steps` of `step`, a function for `lax.scan`, in `checkpoints` equal chunks."""
    chunk = steps // checkpoints

    @jax.jit
    def advance(state: Any) -> Any:
        return jax.lax.scan(step, state, length=chunk)[0]

    state = jax.tree.map(jnp.asarray, state)
    began = time.perf_counter()
    compiled = advance.lower(state).compile()
    compile_seconds = time.perf_counter() - began
    jax.block_until_ready(compiled(state))
    seconds, path = 0.0, []
    for number in range(1, checkpoints + 1):
        began = time.perf_counter()
        state = jax.block_until_ready(compiled(state))
        seconds += time.perf_counter() - began
        path.append((number * chunk, seconds, *map(np.asarray, read(state))))
    numbers, times, means, roots = map(np.array, zip(*path, strict=True))
    return Approximation(
        means[-1],
        roots[-1],
        compile_seconds,
        seconds,
        checkpoints * chunk * draws,
        Path(numbers, times, means, roots),
    )


def _adam(learning_rate: float, steps: int, decay: bool) -> Any:
    import optax

    rate = optax.cosine_decay_schedule(learning_rate, steps, 0.01) if decay else learning_rate
    return optax.adam(rate)


def _root(covariance: np.ndarray) -> np.ndarray:
    """Cholesky of a scaled covariance; NaN where it is not positive definite."""
    scale = np.sqrt(np.diag(covariance))
    try:
        return scale[:, None] * np.linalg.cholesky(covariance / np.outer(scale, scale))
    except np.linalg.LinAlgError:
        return np.full_like(covariance, np.nan)
