"""KL divergences as terms that are not summed yet, so that many families share one loop."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._pytree import map_fields, pytree
from . import linalg, special


@pytree
class KLTerms:
    """sum(weight excess(ratio)) + sum(sign shape_gap(shape, other)) + sum(rest) in nats.

    Sums are over the last axis. `excess` and `shape_gap` are in `special`; the divergences of
    Gamma, Wishart, Dirichlet and the families built from them need no other special function.
    """

    ratio: Float[Array, "*b r"]
    weight: Float[Array, "*b r"]
    shape: Float[Array, "*b s"]
    other: Float[Array, "*b s"]
    sign: Float[Array, "*b s"]
    rest: Float[Array, "*b t"]

    @classmethod
    def known(cls, value: Float[Array, "*b"]) -> KLTerms:
        """A divergence whose value is known, as a single term."""
        none = jnp.zeros((*value.shape, 0), value.dtype)
        return cls(none, none, none, none, none, value[..., None])

    @classmethod
    def normal(cls, ratio: Float[Array, "*b"], d: int, square: Float[Array, "*b"]) -> KLTerms:
        """KL of Gaussians in d dimensions, d excess(ratio) / 2 + square.

        `ratio` is the second precision over the first, and `square` half the squared distance of
        the means in standard deviations of the second.
        """
        ratio, rest = ratio[..., None], square[..., None]
        none = ratio[..., :0]
        return cls(ratio, jnp.full_like(ratio, 0.5 * d), none, none, none, rest)

    @classmethod
    def join(cls, *parts: KLTerms) -> KLTerms:
        """The sum of several divergences."""
        return map_fields(
            parts[0],
            lambda field, _: jnp.concatenate([getattr(part, field.name) for part in parts], -1),
        )

    def merged(self) -> KLTerms:
        """The sum of the divergences along the last batch axis."""
        return map_fields(self, lambda field, value: value.reshape(*value.shape[:-2], -1))

    def flat(self) -> KLTerms:
        """The sum of the divergences along all batch axes."""
        return map_fields(self, lambda field, value: value.reshape(-1))

    def total(self) -> Float[Array, "*b"]:
        """The divergences in nats."""
        return _add([linalg.sum_last(each) for each in self._each()])

    def total_by_product(self) -> Float[Array, "*b"]:
        """As `total`, faster for long rows: XLA then vectorises the terms before their sum."""
        return _add([linalg.sum_by_product(each) for each in self._each()])

    def _each(self) -> list[Float[Array, "*b m"]]:
        """The three kinds of terms, without those that are empty."""
        gaps = self.sign * special.shape_gap(self.shape, self.other)
        each = [self.weight * special.excess(self.ratio), gaps, self.rest]
        return [a for a in each if a.shape[-1]]


def _add(parts: list[Array]) -> Array:
    return sum(parts[1:], start=parts[0])
