"""What a type checker must refuse, each on its line and on no other; see test_typing."""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Key

import vijax as vx


class Half(vx.Conjugate):
    """Neither a local step nor a size of a row."""

    def init(
        self, key: Key[Array, ""] | None, batch: vx.Batch, restart: Int[Array, ""] | int = 0
    ) -> vx.Gamma:
        """As it should be."""
        return vx.Gamma.from_standard(1.0, 1.0)


def wrong(x: Float[np.ndarray, "n d"]) -> None:
    """One mistake a line."""
    key = jax.random.key(0)
    model = vx.GaussianMixture.from_data(x, 5)
    fit = vx.fit(model, x, key=key)
    vx.fitt(model, x, key=key)  # wrong
    vx.fit("gaussian", x, key=key)  # wrong
    vx.fit(vx.GaussianMixture, x, key=key)  # wrong
    vx.fit(model, x, key=key, method=[vx.CAVI()])  # wrong
    vx.fit(model, x, key=key, method=vx.EM)  # wrong
    vx.fit(model, x, key=key, method="cavi")  # wrong
    vx.fit(model, x, key=key, moves=3)  # wrong
    vx.fit(model, x, key=key, init=7)  # wrong
    vx.fit(model, object(), key=key)  # wrong
    vx.fit(model, x, key=key, stop=3)  # wrong
    vx.fit(model, x, key=key, num_restarts="2")  # wrong
    vx.fit(model, x, kye=key)  # wrong
    vx.fit(model, x, key=0)  # wrong
    vx.fit_many(3, [x], key=key)  # wrong
    vx.fit_many(model, [x], key=key, layout=[8])  # wrong
    vx.GaussianMixture.from_data(x, "5")  # wrong
    vx.GaussianMixture.from_data(x, 5, covarianse="tied")  # wrong
    vx.Batch.of(x, wieght=np.ones(len(x)))  # wrong
    vx.Stop(tolerance=1e-3)  # wrong
    vx.Accelerated(vx.SVI())  # wrong
    vx.save(3, fit)  # wrong
    float(fit.elbo_)  # wrong
    fit.check().n_iters()  # wrong
    model.responsibilites(fit.q, x)  # wrong
    fit.elbo = fit.elbo  # wrong
    float(fit.q.components.meen)  # wrong
    float(vx.fit_many(model, [x], key=key).q.wieghts)  # wrong
    Half()  # wrong
