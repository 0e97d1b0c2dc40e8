"""`compare`: q beside draws of the posterior by MCMC."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._pytree import pytree, static
from .._text import Overview
from ..data.host import fetched, is_concrete, to_device
from ..data.padding import compiled
from ..guides.space import Space
from ..guides.transformed_normal import TransformedNormal
from ..infer.result import Result
from ..numerics.broadcasting import broadcasts
from ..numerics.effective_size import effective_size
from .arguments import posterior_of
from .entries import Finding, labels_of, values_of

_FEWEST_DRAWS = 8  # of a chain


@pytree
class Comparison(Finding):
    """Means and standard deviations of q beside those of reference draws, unconstrained.

    `mean_difference` is that of q less that of the draws, in standard deviations of the draws, and
    `log_sd_ratio` is log(sd of q / sd of the draws): negative where q is too narrow. `mean_error`
    and `log_sd_error` are the standard errors of both, which the draws leave; what is within about
    three of them may be chance. `ess` is the effective number of draws for means. All five have the
    form of the parameters. `num_chains` and `num_draws` of each are those of the reference.
    """

    mean_difference: Any
    mean_error: Any
    log_sd_ratio: Any
    log_sd_error: Any
    ess: Any
    num_chains: int = static()
    num_draws: int = static()

    @property
    def worst_mean(self) -> Float[Array, ""]:
        """The largest |`mean_difference`|."""
        return compiled(_largest)(self.mean_difference)

    @property
    def worst_log_sd(self) -> Float[Array, ""]:
        """The largest |`log_sd_ratio`|."""
        return compiled(_largest)(self.log_sd_ratio)

    def _lines(self) -> list[str]:
        labels = labels_of(self.mean_difference)
        parts = []
        for what, tree in {"mean": self.mean_difference, "log sd": self.log_sd_ratio}.items():
            values = values_of(tree)
            at = int(np.argmax(np.where(np.isnan(values), np.inf, np.abs(values))))
            unit = " sd" if what == "mean" else ""
            parts.append(f"worst {what} {values[at]:+.3f}{unit} at {labels[at]}")
        chains = f"{self.num_chains} chains of " if self.num_chains > 1 else ""
        least = values_of(self.ess).min()
        return [
            "; ".join(parts),
            f"reference: {chains}{self.num_draws} draws, as good as {least:.0f} independent ones",
        ]

    def _table(self) -> Overview:
        if values_of(self.ess).size != len(labels_of(self.ess)):
            return Overview([repr(self)])
        rows = {
            name: [f"{v:+.3f} ± {e:.3f}" for v, e in zip(values_of(a), values_of(b), strict=True)]
            for name, a, b in (
                ("mean, in sds", self.mean_difference, self.mean_error),
                ("log sd", self.log_sd_ratio, self.log_sd_error),
            )
        }
        return Overview(self._lines(), labels_of(self.ess), rows, corner="unconstrained")


def compare(result: Result | TransformedNormal, draws: Any) -> Comparison:
    """q beside reference draws of the posterior, as from NUTS, entry by entry.

    Both are compared where q is normal, in unconstrained numbers. Errors are Monte Carlo standard
    errors of the reference, from its effective size.

    Raises TypeError or ValueError for draws of another form, or outside of a constraint.

    Args:
        result: A fit of a LogDensity, or its q.
        draws: A pytree of the form of the parameters, with leading axes (chains, draws) or
            (draws,), of constrained values.

    Example:
        def log_prior(p):
            return jax.scipy.stats.norm.logpdf(p["slope"])

        result = vx.fit(vx.LogDensity(log_prior, like={"slope": 0.0})).check()
        draws = {"slope": np.random.default_rng(0).normal(size=(4, 200))}  # four chains of MCMC
        print(vx.compare(result, draws).summary())
    """
    q, _ = posterior_of(result)
    draws, chains = _with_chains(q, draws)
    num_draws = jax.tree.leaves(draws)[0].shape[1]
    u = compiled(_unconstrained)(q.space, draws)
    if is_concrete(u):
        _check_finite(q.space, fetched(u))
    difference, error, ratio, ratio_error, ess = compiled(_compare)(q, u)
    return Comparison(difference, error, ratio, ratio_error, ess, chains, num_draws)


def _with_chains(q: TransformedNormal, draws: Any) -> tuple[Any, int]:
    """Draws with two leading axes in the dtype of q, and the number of chains."""
    space = q.space
    structure = jax.tree.structure(jax.eval_shape(lambda q: q.mean, q))
    if jax.tree.structure(draws) != structure:
        raise ValueError(
            f"draws: expected {', '.join(space.names)} in the form of the parameters, got "
            f"{jax.tree.structure(draws)}"
        )
    leaves = [to_device(leaf, q.location.dtype) for leaf in jax.tree.leaves(draws)]
    leading = leaves[0].shape[: leaves[0].ndim - len(space.parts[0].shape)]
    for name, part, leaf in zip(space.names, space.parts, leaves, strict=True):
        if len(leading) not in (1, 2) or leaf.shape != (*leading, *part.shape):
            raise ValueError(
                f"draws: {name} has shape {leaf.shape}, expected {part.shape} after leading axes "
                "(draws,) or (chains, draws), the same for all parameters"
            )
    if leading[-1] < _FEWEST_DRAWS:
        raise ValueError(f"draws: a chain of {leading[-1]}; need at least {_FEWEST_DRAWS}")
    if len(leading) == 1:
        leaves = [leaf[None] for leaf in leaves]
    return jax.tree.unflatten(structure, leaves), leading[0] if len(leading) == 2 else 1


@broadcasts
def _unconstrained(space: Space, draws: Any) -> Float[Array, "c n d"]:
    return jax.vmap(jax.vmap(space.unconstrain))(draws)


def _check_finite(space: Space, u: np.ndarray) -> None:
    """Raise ValueError naming the parameter and the draw that no finite u stands for."""
    if np.isfinite(u).all():
        return
    at = tuple(int(i) for i in np.argwhere(~np.isfinite(u))[0])
    sizes = [math.prod(part.free_shape) for part in space.parts]
    name = space.names[int(np.searchsorted(np.cumsum(sizes), at[2], side="right"))]
    raise ValueError(
        f"draws: {name} in draw {at[1]} of chain {at[0]} is not finite, or not inside of its "
        "constraint; give draws of the constrained parameters"
    )


@broadcasts
def _compare(q: TransformedNormal, u: Float[Array, "c n d"]) -> tuple[Any, Any, Any, Any, Any]:
    """The fields of a Comparison that are arrays."""
    mean, sd = jnp.mean(u, (0, 1)), jnp.std(u, (0, 1))
    scaled = (u - mean) / sd
    ess = jax.vmap(effective_size, -1)(scaled)
    squares = scaled**2
    # by the delta method log sd moves by half of the mean square
    of_squares = jax.vmap(effective_size, -1)(squares)
    log_sd_error = 0.5 * jnp.std(squares, (0, 1)) / jnp.sqrt(of_squares)
    difference, ratio = (q.location - mean) / sd, jnp.log(q.root.sd / sd)
    parts = difference, 1.0 / jnp.sqrt(ess), ratio, log_sd_error, ess
    found = [q.space.unravel(part) for part in parts]
    return found[0], found[1], found[2], found[3], found[4]


def _largest(tree: Any) -> Float[Array, ""]:
    return jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(tree)]))
