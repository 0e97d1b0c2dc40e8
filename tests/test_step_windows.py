"""Steps in windows of time, and sequences by length: the same sums, whatever is passed over."""

import jax
import jax.numpy as jnp
import numpy as np

import vijax as vx
from vijax.data.windows import accumulate_windows, map_windows
from vijax.infer.run.passes import expect

from .table import leaves_close

N, T, D, K = 5, 40, 2, 2


def ragged(rng):
    """Sequences of which the longest has no weight, with a missing step."""
    xs = [rng.normal(size=(t, D)) for t in (3, T, 27, 29, 4)]
    xs[3][2] = np.nan
    return vx.Batch.sequences(xs, np.array([1.0, 0.0, 0.5, 1.0, 2.0]), missing=True)


def test_windows_are_all_steps_at_once(rng):
    """Sums, values and derivatives; windows of 3 steps, of which the last one overlaps another."""
    batch = ragged(rng)
    values = jnp.asarray(rng.normal(size=(N, T, K)))
    prior = vx.HMM.from_data(batch, K, covariance="diag").components
    chunk = 3 * N

    def sums(scale, chunk):
        def fn(rows, prior):
            part, own = rows
            counts = jnp.where(part.weight[:, None] > 0, own**2 * scale, 0.0)
            moments = prior.moments()
            stats = prior.observe(part, counts, moments, moments.likelihood(part)[1])
            return stats, jnp.sum(jnp.where(part.weight > 0, own[:, 0], 0.0))

        return accumulate_windows(fn, (batch, values), chunk, prior)

    def liks(scale, chunk):
        def fn(part, prior):
            return jnp.where(part.weight[:, None] > 0, prior.moments().likelihood(part)[0], 0.0)

        return map_windows(fn, batch, chunk, jax.tree.map(lambda a: a * scale, prior))

    one = jnp.asarray(1.0)
    for fn in (sums, liks):
        whole, cut = (jax.jit(fn, static_argnums=1)(one, c) for c in (10**6, chunk))
        leaves_close(cut, whole, 1e-12, 1e-12)

        def total(scale, chunk, fn=fn):
            return sum(jnp.sum(a) for a in jax.tree.leaves(fn(scale, chunk)))

        slope = jax.jit(jax.grad(total), static_argnums=1)
        slopes = [slope(one, c) for c in (10**6, chunk)]
        np.testing.assert_allclose(slopes[1], slopes[0], rtol=1e-10)


def test_chunks_of_sequences_are_all_sequences(rng):
    """Whatever the order of their lengths."""
    batch = ragged(rng)
    model = vx.HMM.from_data(batch, K, covariance="diag")
    moments = model.prior.moments()
    whole, cut = (jax.jit(expect, static_argnums=3)(model, moments, batch, c) for c in (N, 1))
    np.testing.assert_allclose(cut.log_z, whole.log_z, rtol=1e-12)
    leaves_close(cut.stats, whole.stats, 1e-10, 1e-10)
