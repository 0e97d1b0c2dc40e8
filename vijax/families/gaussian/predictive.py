"""Student-t and normal densities with one location and scale per component."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from ..._pytree import pytree
from ...data.batch import Batch
from ...numerics import linalg, special
from ..column_scale import refuse_noise
from .likelihood import complete


@pytree
class Student:
    """St(x | origin + shift, scale, dof) of k components; a normal density if `dof` is None."""

    origin: Float[Array, "*b d"]
    shift: Float[Array, "*b d"]
    scale: Float[Array, "*b d d"]
    dof: Float[Array, "..."] | None

    def log_prob(
        self, rows: Batch, inflate: Float[Array, "n k"] | float = 1.0
    ) -> Float[Array, "n k"]:
        """log density in nats of the observed entries of each row; `inflate` multiplies `scale`."""
        refuse_noise(rows, "the predictive density", "leave it out of the rows")
        completed = complete(rows, self.origin, self.shift, self.scale)
        inflate = jnp.asarray(inflate, self.scale.dtype)
        square = completed.square / inflate
        log_det = completed.log_det + completed.observed * jnp.log(inflate)
        if self.dof is None:
            return -0.5 * (square + log_det + completed.observed * special.LOG_2PI)
        return special.log_student(square, log_det, self.dof, completed.observed)

    def sample(
        self, key: Key[Array, ""], index: Int[Array, "n"], inflate: Float[Array, "n"] | float = 1.0
    ) -> Float[Array, "n d"]:
        """One row from each of the components `index`; `inflate` multiplies `scale`."""
        k_normal, k_scale = jax.random.split(key)
        location = (self.origin + self.shift)[index]
        noise = jax.random.normal(k_normal, location.shape, location.dtype)
        step = linalg.matmul(linalg.chol(self.scale)[index], noise[..., None])[..., 0]
        step = step * jnp.sqrt(jnp.asarray(inflate, location.dtype))[..., None]
        if self.dof is None:
            return location + step
        half = 0.5 * self.dof[index]
        precision = jax.random.gamma(k_scale, half, dtype=location.dtype) / half
        return location + step / jnp.sqrt(precision)[:, None]


def inflation(
    kappa: Float[Array, "*b"], scale: Float[Array, "..."] | None
) -> Float[Array, "..."] | float:
    """Factor of the predictive's scale matrix if a row's precision is multiplied by `scale`."""
    return 1.0 if scale is None else (1.0 / scale + 1.0 / kappa) / (1.0 + 1.0 / kappa)
