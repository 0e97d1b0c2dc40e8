"""`TransformedNormal`: a normal over unconstrained numbers, read as constrained parameters."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri
from jaxtyping import Array, Float, Key

from .._pytree import pytree
from .._text import Overview
from ..constraints import Interval, Positive, Real
from ..data.host import readable, sent, to_device, unguarded
from ..data.padding import compiled
from ..numerics import special
from ..numerics.broadcasting import broadcasts
from .roots import Root
from .space import Space

_LEVELS = (0.05, 0.5, 0.95)  # quantiles that a table shows
_DRAWS = 4000  # for quantiles of what is no monotone function of one coordinate


@pytree
class TransformedNormal:
    """q(theta) of theta = theta(u), u ~ N(location, C C^T) with the square root C = `root`.

    u (d,) are the free numbers of the parameters of `space`, and theta has their form. A
    Jacobian belongs to q: `log_prob` is a density of theta.
    """

    location: Float[Array, "*b d"]
    root: Root
    space: Space

    @property
    def mean(self) -> Any:
        """E[u], unconstrained, in the form of the parameters."""
        return compiled(_unravelled)(self.space, self.location)

    @property
    def sd(self) -> Any:
        """Standard deviations of u, unconstrained, in the form of the parameters."""
        return compiled(_sd)(self)

    @property
    def covariance(self) -> Float[Array, "d d"]:
        """Covariance of u."""
        return compiled(_covariance)(self.root)

    @property
    def median(self) -> Any:
        """theta at E[u], constrained; each coordinate's median where its constraint is by entry."""
        return compiled(_constrained)(self.space, self.location)

    @broadcasts
    def at(self, z: Float[Array, "*s k"]) -> Float[Array, "*s d"]:
        """u for standard normal numbers z, with k = `root.noise_size`."""
        return self.location + self.root.apply(z)

    @property
    def free(self) -> dict[str, Any]:
        """The real numbers of q, for optimisers: its location, and those of the root."""
        return {"location": self.location, "root": self.root.free}

    def with_free(self, free: dict[str, Any]) -> TransformedNormal:
        """The q of these numbers, in the form of `free`."""
        return TransformedNormal(free["location"], self.root.with_free(free["root"]), self.space)

    def natural(self, gradient: dict[str, Any]) -> dict[str, Any]:
        """A gradient by `free` times about the inverse of the metric of KL, positive definite."""
        location = self.root.apply(self.root.pull(gradient["location"]))
        return {"location": location, "root": self.root.natural(gradient["root"])}

    def squared_distance(self, other: TransformedNormal) -> Float[Array, ""]:
        """The squared move to `other` in standard deviations of q: at least 2 KL if it is near."""
        move = self.root.mahalanobis(other.location - self.location)
        return move + self.root.squared_distance(other.root)

    def entropy(self) -> Float[Array, ""]:
        """-E[log q(u)] of the unconstrained numbers, in nats."""
        d = self.location.shape[-1]
        return self.root.log_det + 0.5 * d * (1.0 + special.LOG_2PI)

    def log_density(self, u: Float[Array, "*s d"]) -> Float[Array, "*s"]:
        """log q(u) of unconstrained numbers, in nats."""
        return self._log_density(self.root.mahalanobis(u - self.location))

    def log_density_at(self, z: Float[Array, "*s k"]) -> Float[Array, "*s"]:
        """log q(u) at u = `at(z)`, in nats."""
        return self._log_density(self.root.squared_norm(z))

    @broadcasts
    def _log_density(self, square: Float[Array, "*s"]) -> Float[Array, "*s"]:
        d = self.location.shape[-1]
        return -0.5 * (square + d * special.LOG_2PI) - self.root.log_det

    def log_prob(self, params: Any) -> Float[Array, ""]:
        """log q(theta) of constrained parameters, in nats."""
        return compiled(_log_prob)(self, sent(params))

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Any:
        """Independent draws of theta with leading axes `shape`, in the form of the parameters."""
        flat = compiled(_draw)(self, jax.random.split(key, math.prod(shape)))
        return jax.tree.map(lambda a: a.reshape(*shape, *a.shape[1:]), flat)

    def sample_unconstrained(
        self, key: Key[Array, ""], shape: tuple[int, ...] = ()
    ) -> Float[Array, "*s d"]:
        """Independent draws of u with leading axes `shape`."""
        flat = compiled(_draw_unconstrained)(self, jax.random.split(key, math.prod(shape)))
        return flat.reshape(*shape, flat.shape[-1])

    def quantiles(self, levels: tuple[float, ...] = _LEVELS) -> Any:
        """Quantiles of each entry of theta, constrained, with the levels on a leading axis.

        They are exact where a constraint acts on each entry by itself, otherwise from 4000 draws
        with a fixed key.
        """
        return compiled(_quantiles)(self, to_device(levels, self.location.dtype))

    def summary(self, *, point: bool = False, **options: Any) -> str:
        """The 5 %, 50 % and 95 % quantiles of each entry of theta, constrained."""
        with unguarded():
            head, rows = self._table()
        width = max(map(len, head), default=0)
        cells = {name: [cell.rjust(8) for cell in row] for name, row in rows.items()}
        lines = [f"{'':{width}}  {'  '.join(f'{name:>8}' for name in cells)}"]
        for i, label in enumerate(head):
            lines.append(f"{label:{width}}  {'  '.join(row[i] for row in cells.values())}")
        return "\n".join(lines)

    def overview(self, *, point: bool = False, **options: Any) -> Overview:
        """What `summary` says, in the form of a table for notebooks."""
        with unguarded():
            head, rows = self._table()
        return Overview((), head, rows, corner="")

    def _table(self) -> tuple[list[str], dict[str, list[str]]]:
        found = jax.tree.leaves(self.quantiles())
        flat = np.concatenate([np.asarray(a).reshape(len(_LEVELS), -1) for a in found], -1)
        names = [f"{level:.0%}" for level in _LEVELS]
        cells = [[f"{value:.4g}" for value in row] for row in flat]
        return self.space.labels, dict(zip(names, cells, strict=True))

    def _repr_html_(self) -> str:
        if not readable(self) or self.location.ndim > 1:
            return Overview([repr(self)]).html()
        return self.overview().html()


def _unravelled(space: Space, u: Float[Array, "*b d"]) -> Any:
    return space.unravel(u)


def _sd(q: TransformedNormal) -> Any:
    return q.space.unravel(q.root.sd)


def _covariance(root: Root) -> Float[Array, "d d"]:
    return root.covariance


def _constrained(space: Space, u: Float[Array, "d"]) -> Any:
    return space.constrain(u)[0]


def _log_prob(q: TransformedNormal, params: Any) -> Float[Array, ""]:
    u = q.space.unconstrain(params, q.location.dtype)
    return q.log_density(u) - q.space.constrain(u)[1]


def _draw(q: TransformedNormal, keys: Key[Array, "m"]) -> Any:
    def draw(key: Key[Array, ""]) -> Any:
        return q.space.constrain(_draw_one(q, key))[0]

    return jax.vmap(draw)(keys)


def _draw_unconstrained(q: TransformedNormal, keys: Key[Array, "m"]) -> Float[Array, "m d"]:
    return jax.vmap(lambda key: _draw_one(q, key))(keys)


def _draw_one(q: TransformedNormal, key: Key[Array, ""]) -> Float[Array, "d"]:
    return q.at(jax.random.normal(key, (q.root.noise_size,), q.location.dtype))


@broadcasts
def _quantiles(q: TransformedNormal, levels: Float[Array, "l"]) -> Any:
    by_entry = q.location + ndtri(levels)[:, None] * q.root.sd
    exact = jax.vmap(lambda u: q.space.constrain(u)[0])(by_entry)
    keys = jax.random.split(jax.random.key(0), _DRAWS)
    drawn = jax.tree.map(lambda a: jnp.quantile(a, levels, axis=0), _draw(q, keys))
    parts = q.space.parts
    leaves = [
        a if isinstance(part.constraint, Real | Positive | Interval) else b
        for part, a, b in zip(parts, jax.tree.leaves(exact), jax.tree.leaves(drawn), strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(exact), leaves)
