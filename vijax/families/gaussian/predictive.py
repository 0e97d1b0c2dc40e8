"""Student-t and normal densities with one location and scale per component."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from ..._pytree import pytree, replace
from ...data.batch import Batch
from ...numerics import linalg, quadrature, special
from .likelihood import complete, log_distance


@pytree
class Student:
    """St(x | origin + shift, scale, dof) of k components; a normal density if `dof` is None."""

    origin: Float[Array, "*b d"]
    shift: Float[Array, "*b d"]
    scale: Float[Array, "*b d d"]
    dof: Float[Array, "..."] | None

    def log_prob(
        self, rows: Batch, log_inflate: Float[Array, "n k"] | float = 0.0
    ) -> Float[Array, "n k"]:
        """log density in nats of the observed entries; `scale` is multiplied by a factor.

        Measurement noise is added to the row, by quadrature if the density is no normal.
        """
        if rows.noise is not None and self.dof is not None:
            return self._with_noise(rows, self.dof)
        log_inflate = jnp.asarray(log_inflate, self.scale.dtype)
        if self.dof is None:
            completed = complete(rows, self.origin, self.shift, self.scale)
            log_det = completed.log_det + completed.observed * log_inflate
            square = completed.square * jnp.exp(-log_inflate)
            return -0.5 * (square + log_det + completed.observed * special.LOG_2PI)
        root = linalg.tri_inverse(linalg.chol(self.scale))
        log_precision = jnp.log(jnp.sum(root**2, -2))
        far = log_distance(rows, self.origin, self.shift, log_precision)
        log_factor = special.log_in_range(far, rows.x.shape[1])
        completed = complete(rows, self.origin, self.shift, self.scale, jnp.exp(log_factor))
        log_det = completed.log_det + completed.observed * log_inflate
        log_factor = log_factor + 0.5 * log_inflate
        observed = completed.observed
        return special.log_student(completed.square, log_det, self.dof[None], observed, log_factor)

    def _with_noise(self, rows: Batch, dof: Float[Array, "k"]) -> Float[Array, "n k"]:
        """log int Gamma(u | dof / 2, dof / 2) N(x | mean, scale / u + noise) du, over log u."""
        half = 0.5 * dof[None]
        exact = complete(replace(rows, noise=None), self.origin, self.shift, self.scale)
        shape = half + 0.5 * exact.observed
        # without noise log u peaks here; noise explains a part of the distance
        peak = jnp.log(shape / half) - jnp.log1p(exact.square / (2.0 * half))

        def log_density(log_u: Float[Array, "n k"]) -> Float[Array, "n k"]:
            scale = self.scale[None] * jnp.exp(-log_u)[:, :, None, None]
            return complete(rows, self.origin, self.shift, scale).log_density

        return quadrature.log_mean_over_precision(log_density, half, shape, peak)

    def sample(
        self, key: Key[Array, ""], index: Int[Array, "n"], inflate: Float[Array, "n"] | float = 1.0
    ) -> Float[Array, "n d"]:
        """One row from each of the components `index`; `inflate` multiplies `scale`."""
        k_normal, k_scale = jax.random.split(key)
        location = (self.origin + self.shift)[index]
        noise = jax.random.normal(k_normal, location.shape, location.dtype)
        step = linalg.matmul(linalg.chol(self.scale)[index], noise[..., None])[..., 0]
        step = step * jnp.sqrt(jnp.asarray(inflate, location.dtype)).reshape(-1, 1)
        if self.dof is None:
            return location + step
        half = 0.5 * self.dof[index]
        precision = jax.random.gamma(k_scale, half, dtype=location.dtype) / half
        return location + step / jnp.sqrt(precision)[:, None]


def log_student_with_noise(
    z: Float[Array, "..."],
    variance: Float[Array, "..."],
    dof: Float[Array, "..."],
    noise: Float[Array, "..."],
) -> Float[Array, "..."]:
    """log int Gamma(u | dof / 2, dof / 2) N(z | 0, variance / u + noise) du in nats, for numbers z.

    By quadrature over log u. `variance` and `noise` are in units of z squared; all broadcast.
    """
    z, variance, dof, noise = jnp.broadcast_arrays(z, variance, dof, noise)
    half, log_variance = 0.5 * dof, jnp.log(variance)
    shape = half + 0.5
    # logarithms, so that no square of a far z overflows
    log_square = 2.0 * jnp.log(jnp.abs(z)) - log_variance
    log_noise = jnp.log(noise) - log_variance
    # without noise log u peaks here; noise explains a part of the distance
    peak = jnp.log(shape / half) - jnp.logaddexp(0.0, log_square - jnp.log(dof))

    def log_density(log_u: Float[Array, "..."]) -> Float[Array, "..."]:
        log_total = jnp.logaddexp(-log_u, log_noise)
        square = jnp.exp(log_square - log_total)
        return -0.5 * (square + log_total + log_variance + special.LOG_2PI)

    return quadrature.log_mean_over_precision(log_density, half, shape, peak)


def inflation(
    kappa: Float[Array, "*b"], scale: Float[Array, "..."] | None
) -> Float[Array, "..."] | float:
    """Factor of the predictive's scale matrix if a row's precision is multiplied by `scale`."""
    if scale is None:
        return 1.0
    kappa = kappa.reshape(*[1] * (scale.ndim - kappa.ndim), *kappa.shape)
    return (1.0 / scale + 1.0 / kappa) / (1.0 + 1.0 / kappa)


def log_inflation(
    kappa: Float[Array, "*b"], log_scale: Float[Array, "n k"] | None
) -> Float[Array, "..."] | float:
    """log of `inflation`, from the log of `scale`, which may be as small as any."""
    if log_scale is None:
        return 0.0
    return jnp.logaddexp(-log_scale, -jnp.log(kappa)[None]) - jnp.log1p(1.0 / kappa)[None]
