"""Gaussian approximations by numpyro and blackjax of a log density over R^d, timed.

All take `logp` of u (d,) in nats, start at `start` (0 if None), and give an `Approximation`.
Stochastic ones run compiled chunks of steps, and tell where they were after each, so that the time
to a mark is known without a second run. Times are processor seconds over all threads, less those of
compilation and of looking at the state. The caller sets JAX's precision.
"""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

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
    chunk: int = 100,
) -> Approximation:
    """`draws` a step; `decay`: by a cosine to a hundredth of the rate. Steps that are not finite
    are left out (`stable_update`), as a user would have it.
    """
    first = (0.0,) * d if start is None else tuple(map(float, start))
    program = _numpyro_program(guide_class, names, logp, first, draws, chunk)
    return _run(program, key, _Tuning.of(learning_rate, steps, decay), steps, draws)


@functools.cache
def _numpyro_program(
    guide_class: Any,
    names: tuple[str, str],
    logp: LogDensity,
    first: tuple[float, ...],
    draws: int,
    chunk: int,
) -> _Program:
    import numpyro
    import numpyro.distributions as dist
    from numpyro.infer import SVI, Trace_ELBO, init_to_value
    from numpyro.optim import optax_to_numpyro

    def model() -> None:
        flat = dist.ImproperUniform(dist.constraints.real_vector, (), event_shape=(len(first),))
        numpyro.factor("target", logp(numpyro.sample("u", flat)))

    guide = guide_class(model, init_loc_fn=init_to_value(values={"u": jnp.asarray(first)}))
    loss = Trace_ELBO(num_particles=draws)
    untuned = optax_to_numpyro(_adam(_Tuning.of(0.01, 1, True)))
    svi = SVI(model, guide, untuned, loss)

    def read(state: Any) -> tuple[Any, Any]:
        params = svi.get_params(state)
        return params[names[0]], params[names[1]]

    def step(state: Any, tuning: _Tuning) -> Any:
        tuned = copy.copy(svi)  # knows the sites, which `init` has found
        tuned.optim = optax_to_numpyro(_adam(tuning))
        return tuned.stable_update(state)[0]

    return _Program(svi.init, step, read, chunk)


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
    chunk: int = 100,
) -> Approximation:
    """blackjax's meanfield_vi with Adam; its sds start at exp(-2)."""
    first = (0.0,) * d if start is None else tuple(map(float, start))
    program = _meanfield_program(logp, first, draws, chunk)
    return _run(program, key, _Tuning.of(learning_rate, steps, decay), steps, draws)


@functools.cache
def _meanfield_program(
    logp: LogDensity, first: tuple[float, ...], draws: int, chunk: int
) -> _Program:
    import blackjax

    def method(tuning: _Tuning) -> Any:
        return blackjax.meanfield_vi(logp, _adam(tuning), draws)

    def init(key: jax.Array) -> Any:
        state = method(_Tuning.of(0.01, 1, True)).init(jnp.zeros(len(first)))
        return state._replace(mu=jnp.asarray(first)), key

    def step(carry: Any, tuning: _Tuning) -> Any:
        state, key = carry
        key, now = jax.random.split(key)
        return method(tuning).step(now, state)[0], key

    def read(carry: Any) -> tuple[Any, Any]:
        return carry[0].mu, jnp.exp(carry[0].rho)

    return _Program(init, step, read, chunk)


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
    seconds, (mean, covariance) = cpu_clock(lambda: compiled(key))
    return Approximation(
        np.asarray(mean), _root(np.asarray(covariance)), compile_seconds, seconds, 0, None
    )


def elbo(logp: LogDensity, means: Any, roots: Any, draws: int = 4096, seed: int = 0) -> np.ndarray:
    """Bounds in nats of Gaussians stacked along the first axis, of any square roots or sds, all on
    the same antithetic draws: differences of them are far more exact than they are.
    """
    means, roots = jnp.asarray(means), jnp.asarray(roots)
    return np.asarray(_bounds(logp, draws, seed)(means, roots))


@functools.cache
def _bounds(logp: LogDensity, draws: int, seed: int) -> Callable[[jax.Array, jax.Array], jax.Array]:
    def one(gaussian: tuple[jax.Array, jax.Array]) -> jax.Array:
        mean, root = gaussian
        half = jax.random.normal(jax.random.key(seed), (draws // 2, len(mean)))
        z = jnp.concatenate([half, -half])
        if root.ndim == 1:
            u, log_det = mean + z * root, jnp.sum(jnp.log(jnp.abs(root)))
        else:
            u, log_det = mean + z @ root.T, jnp.linalg.slogdet(root)[1]
        return jnp.mean(jax.vmap(logp)(u)) + log_det + 0.5 * len(mean) * (1 + np.log(2 * np.pi))

    return jax.jit(lambda *gaussians: jax.lax.map(one, gaussians))


def seconds_to(path: Path, bounds: np.ndarray, mark: float) -> float:
    """Seconds to the first checkpoint whose bound is at least `mark`; infinite if none."""
    reached = np.flatnonzero(bounds >= mark)
    return float(path.seconds[reached[0]]) if len(reached) else float("inf")


def cpu_clock(fn: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds until the result of `fn` is there, and the result."""
    begin = time.process_time()
    out = jax.block_until_ready(fn())
    return time.process_time() - begin, out


def at_best(
    method: Callable[..., Approximation],
    logp: LogDensity,
    d: int,
    key: jax.Array,
    settings: Sequence[dict[str, Any]],
    mark: float,
    draws: int = 4096,
    between: Callable[[], Any] = lambda: None,
) -> tuple[dict[str, Any], Approximation, float]:
    """The settings whose bound, by so many draws, is `mark` soonest, or else ends highest; what
    they gave, and the seconds to the mark. `between` is called before each run.
    """
    best = None
    for chosen in settings:
        between()
        found = method(logp, d, key, **chosen)
        bounds = elbo(logp, found.path.means, found.path.roots, draws)
        bounds = np.nan_to_num(bounds, nan=-np.inf)
        soon = seconds_to(found.path, bounds, mark)
        rank = (-soon, bounds[-1])
        if best is None or rank > best[0]:
            best = rank, (chosen, found, soon)
    return best[1]


class _Tuning(NamedTuple):
    """Of Adam; traced, so that other rates run the same program."""

    learning_rate: jax.Array
    steps: jax.Array
    decay: jax.Array

    @classmethod
    def of(cls, learning_rate: float, steps: int, decay: bool) -> _Tuning:
        return cls(*map(jnp.asarray, (float(learning_rate), float(steps), decay)))


class _Program:
    """A stochastic method: `advance` makes `chunk` steps, compiled once for all rates."""

    def __init__(self, init: Any, step: Any, read: Any, chunk: int) -> None:
        @jax.jit
        def advance(state: Any, tuning: _Tuning) -> Any:
            return jax.lax.scan(lambda s, _: (step(s, tuning), None), state, length=chunk)[0]

        self.init, self.advance, self.read, self.chunk = init, advance, read, chunk
        self.compiled: Any = None


def _run(
    program: _Program, key: jax.Array, tuning: _Tuning, steps: int, draws: int
) -> Approximation:
    """`steps` of a program in equal chunks."""
    state = jax.tree.map(jnp.asarray, program.init(key))
    began = time.perf_counter()
    if program.compiled is None:
        program.compiled = program.advance.lower(state, tuning).compile()
    compile_seconds = time.perf_counter() - began
    jax.block_until_ready(program.compiled(state, tuning))
    seconds, path = 0.0, []
    for number in range(1, steps // program.chunk + 1):
        passed, state = cpu_clock(lambda state=state: program.compiled(state, tuning))
        seconds += passed
        path.append((number * program.chunk, seconds, *map(np.asarray, program.read(state))))
    numbers, times, means, roots = map(np.array, zip(*path, strict=True))
    return Approximation(
        means[-1],
        roots[-1],
        compile_seconds,
        seconds,
        int(numbers[-1]) * draws,
        Path(numbers, times, means, roots),
    )


def _adam(tuning: _Tuning) -> Any:
    import optax

    def rate(count: Any) -> Any:
        done = jnp.minimum(count / tuning.steps, 1.0)
        cosine = 0.01 + 0.99 * 0.5 * (1.0 + jnp.cos(jnp.pi * done))
        return tuning.learning_rate * jnp.where(tuning.decay, cosine, 1.0)

    return optax.adam(rate)


def _root(covariance: np.ndarray) -> np.ndarray:
    """Cholesky of a scaled covariance; NaN where it is not positive definite."""
    scale = np.sqrt(np.diag(covariance))
    try:
        return scale[:, None] * np.linalg.cholesky(covariance / np.outer(scale, scale))
    except np.linalg.LinAlgError:
        return np.full_like(covariance, np.nan)
