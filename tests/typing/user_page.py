"""What users write, all of it known to a strict type checker; see test_typing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

import vijax as vx


def show(*_: object) -> None:
    """What users do with what they find."""


def first_fit(x: Float[np.ndarray, "n d"]) -> Float[Array, "n k"]:
    """Build, fit, look, predict."""
    model = vx.GaussianMixture.from_data(x, 5, covariance="diag")
    key = jax.random.key(0)
    fit = vx.fit(model, x, key=key, num_restarts=4, stop=vx.Stop(tol=1e-2, max_iter=500)).check()
    bound: Float[Array, ""] = fit.elbo
    restarts: Float[Array, "r"] = fit.elbos
    steps: Int[Array, ""] = fit.n_iter
    statuses: Int[Array, "r"] = fit.statuses
    trace: Float[Array, "t"] = fit.elbo_trace
    name: str = vx.Status(int(fit.status)).name
    text: str = fit.summary()
    show(name, text, float(bound), int(steps), restarts.max(), statuses.shape, trace[0])
    labels: Int[Array, "n"] = model.predict(fit.q, x)
    density: Float[Array, "n"] = model.log_predictive(fit.q, x)
    show(labels.sum(), density.mean(), fit.q.weights.mean)
    if not bool(fit.converged):
        fit = vx.fit(model, x, init=fit)
    return model.responsibilities(fit.q, x)


def other_ways(x: Float[Array, "n d"], folder: Path) -> vx.Result:
    """Weights and missing entries, EM, structure moves, files, data out of memory."""
    batch = vx.Batch.of(x, weight=np.ones(len(x)), missing=True)
    rows: Float[Array, "n"] = batch.weight
    model = vx.GaussianMixture.from_data(batch, 3, conc=1.0, noise=True)
    key = jax.random.key(1)
    point = vx.fit(model, batch, key=key, method=vx.EM(chunk=1000), init="random")
    fast = vx.fit(model, batch, key=key, method=vx.Accelerated(vx.CAVI()), moves=vx.Moves())
    some = vx.fit(model, batch, key=key, method=vx.SVI(batch_size=100), halving=vx.Halving(5))
    show(rows.sum(), float(vx.elbo(model, some.q, batch)))
    vx.fit(model, vx.Chunks.of(np.asarray(x)), key=key, callback=heard, resume=folder / "fit.npz")
    vx.save(folder / "point.npz", point)
    again: vx.Result = vx.load(folder / "point.npz")
    flat = vx.GaussianMixture.flat(2, 2)
    show(vx.fit(flat, x, init=np.zeros(len(x), int), method=vx.EM()).status)
    return vx.relabel(vx.prune(vx.best(fast if fast.elbo > again.elbo else again)))


def heard(report: vx.Report) -> None:
    """A callback."""
    show(report.iteration, report.best)


def many_fits(sets: Float[np.ndarray, "m n d"]) -> list[float]:
    """One model, one for each, a function of the data; by minibatches too."""
    key = jax.random.key(2)
    one = vx.PoissonMixture.from_data(sets[0], 2)
    fits = vx.fit_many(one, sets, key=key)
    each = vx.fit_many([vx.GaussianMixture.from_data(x, 2) for x in sets], list(sets), key=key)
    made = vx.fit_many(gaussians, sets, key=key, method=vx.SVI(50), layout=8)
    return [float(f.elbo.sum()) for f in (fits, each, made)]


def gaussians(batch: vx.Batch) -> vx.GaussianMixture:
    """A model of one data set."""
    return vx.GaussianMixture.from_data(batch, 2)


@vx.pytree
class Rate(vx.Conjugate):
    """Counts with one rate: x_n ~ Poisson(rate), rate ~ Gamma."""

    prior: vx.Gamma

    def init(
        self, key: Key[Array, ""] | None, batch: vx.Batch, restart: Int[Array, ""] | int = 0
    ) -> vx.Gamma:
        """The prior: there is no symmetry to break."""
        return self.prior

    def row_size(self, batch: vx.Batch) -> int:
        """One float for each row."""
        return 1

    def local(self, moments: Any, batch: vx.Batch) -> vx.EStep:
        """Nothing is latent: sums, and each row's expected log-likelihood."""
        x = batch.x
        log_lik = x * moments.e_log - moments.mean - jax.scipy.special.gammaln(x + 1.0)
        stats = vx.Gamma(jnp.sum(batch.weight * x), jnp.sum(batch.weight))
        return vx.EStep(stats, log_lik)


@vx.pytree
class Damped(vx.FullPassMethod):
    """Coordinate ascent that goes part of the way."""

    rate: float = 0.5
    inner: vx.CAVI = vx.CAVI()  # noqa: RUF009

    def init(self, model: vx.ConditionalModel, q: Any, batch: vx.Batch) -> vx.State:
        """Of the plain method."""
        return self.inner.init(model, q, batch)

    def step(
        self,
        model: vx.ConditionalModel,
        state: vx.State,
        batch: vx.Batch,
        key: Key[Array, ""] | None,
    ) -> vx.State:
        """A pass, and what it implies."""
        e = model.local(self.moments(state.next_q), batch)
        log_z = jnp.sum(batch.weight * e.log_z)
        return self.conclude(model, state, e.stats, log_z)

    def moments(self, q: Any) -> Any:
        """Of the plain method."""
        return self.inner.moments(q)

    def conclude(
        self, model: vx.ConditionalModel, state: vx.State, stats: Any, log_z: Float[Array, ""]
    ) -> vx.State:
        """The bound of q, and a step of the chosen length."""
        q = state.next_q
        kl, move = model.kl_and_move(q, state.q)
        new = model.update(q, stats, self.rate)
        return vx.State(q, new, log_z - kl, 2.0 * move, state.failure)

    def improvements(self, q: Any, *lasts: Any) -> list[Float[Array, ""]]:
        """Of the plain method."""
        return self.inner.improvements(q, *lasts)


def own_model_and_method(counts: Float[np.ndarray, "n"]) -> tuple[vx.Result, vx.Result]:
    """Both go where the library's own go."""
    model = Rate(vx.Gamma.from_standard(2.0, 0.5))
    fit = vx.fit(model, counts, method=Damped(0.7), stop=vx.Stop(tol=1e-10)).check()
    batch = vx.Batch.of(counts)
    pure = vx.iterate(vx.CAVI(), model, batch, model.prior, vx.Stop(tol=1e-10))
    return fit, pure
