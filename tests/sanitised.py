"""What a user does in an hour, to be run under JAX's debugging settings, given as variables.

    JAX_DEBUG_NANS=1 python tests/sanitised.py

Keys and arrays of NumPy are made outside of vijax, where `JAX_TRANSFER_GUARD=disallow` lets them.
"""

import jax
import numpy as np

import vijax as vx

with jax.transfer_guard("allow"):  # a key from a number is a transfer of JAX's own
    key = jax.random.key(0)

x, _ = vx.datasets.three_clusters(60)
model = vx.GaussianMixture.from_data(x, 4)
fit = vx.fit(model, x, key=key, num_restarts=2)
text = fit.summary()
labels = model.predict(fit, x)
density = model.log_predictive(fit, x)
point = vx.fit(model, x, init=labels, method=vx.EM())

holes = np.where(np.random.default_rng(0).random(x.shape) < 0.2, np.nan, x)
rows = vx.Batch.of(holes, missing=True)
filled = model.impute(vx.fit(model, rows, key=key), rows)

fits = vx.fit_many(model, [x[:30], x[30:]], key=key)
frame = fits.to_frame()

chain = vx.HMM.from_data(x[None], num_states=2)
path = chain.predict(vx.fit(chain, x[None], key=key), x[None])
assert path.shape == (1, 60)
