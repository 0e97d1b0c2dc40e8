"""The check of an energy before its first fit: is it affine, are its updates densities?

Everything is measured by one program at a q that is not special, on a few rows, or on all rows of a
whole. An energy that passes may still be wrong: a wrong constant or a vague prior that was left out
cannot be seen.
"""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ..._pytree import replace
from ...data.batch import Batch
from ...data.host import fetched, is_concrete, sent, strong, unguarded
from ...data.padding import compiled, padded_size
from ...data.shards import on_cpu
from .factor import Factor
from .terms import EnergyTerms

_ROWS = 256  # at which an energy of single rows is looked at
_MANY_ROWS = 2**16  # if an update is no density at the few rows
_LARGEST_TABLE = 2**24
_NEAR = 0.1  # of a draw, the value at which a density of draws is looked at
_ROUNDING = 1e4  # times eps: what a number relative to its terms may be off


def check_energy(model: EnergyTerms, batch: Batch) -> None:
    """Raise ValueError naming the factor if the energy is none that this model can have."""
    model = strong(model, batch.weight.dtype)
    shape = _shape(model, replace(batch, as_given=None))
    if shape != ():
        raise ValueError(f"energy: expected one number in nats, got an array of shape {shape}")
    if model.by_row and model.table_size > _LARGEST_TABLE:
        raise ValueError(
            f"blocks: a sum over rows would have {model.table_size} numbers, the product of the "
            "sizes of the blocks; put factors that do not meet into one block"
        )
    if not is_concrete(*jax.tree.leaves((model, batch))):
        return
    found = _measured(model, batch, _ROWS)
    improper = [name for name, good in found["proper"].items() if not good]
    if improper and model.by_row and batch.weight.shape[0] > _ROWS:
        found["proper"] = _measured(model, batch, _MANY_ROWS)["proper"]
    _judge(model, found, float(jnp.finfo(batch.weight.dtype).eps))


def _shape(model: EnergyTerms, batch: Batch) -> tuple[int, ...]:
    """The shape of the energy, found by tracing."""
    try:
        return jax.eval_shape(_energy, model, batch).shape
    except KeyError as error:
        known = "; ".join(f"{n!r} has {', '.join(f.names)}" for n, f in model.factors.items())
        raise ValueError(
            f"energy: no factor, statistic or column {error.args[0]!r}; of the factors, {known}"
        ) from None


# functions of a module, which JAX traces once for arguments of the same shapes


def _energy(model: EnergyTerms, batch: Batch) -> Array:
    m, _ = _first(model, batch.weight)
    values = [jnp.asarray(model.energy(m, batch.x, batch.weight))]
    values.append(model.density_at(_value(model, m), m, batch.x, batch.weight))
    if model.prior_energy is not None:
        values.append(jnp.asarray(model.prior_energy(m)))
    return jnp.broadcast_arrays(*values)[0]


def _first(model: EnergyTerms, weight: Array) -> tuple[Any, Any]:
    """Statistics of every factor, and numbers of the shapes that `Kind.moved` takes."""
    factors = _for_these_rows(model, weight)
    m = {name: f.kind.statistics(f.first) for name, f in factors.items()}
    return m, {name: jnp.zeros(f.kind.shape(f.first)) for name, f in factors.items()}


def _value(model: EnergyTerms, m: Any) -> Array | None:
    """A value of the factor of the density, no function of statistics to a derivative.

    It is next to the mean of its prior, where exponentials of it are finite.
    """
    if model.density is None:
        return None
    first = model.factors[model.density.name].first.mean
    return lax.stop_gradient(first + _NEAR * (m[model.density.name]["x"] - first))


def _measured(model: EnergyTerms, batch: Batch, most: int) -> dict[str, Any]:
    rows = replace(batch, names=None, levels=None, as_given=None)
    if model.by_row:
        present = np.flatnonzero(fetched(batch.weight) > 0)
        few = np.unique(np.linspace(0, len(present) - 1, most).astype(int))
        index = np.resize(present[few], padded_size(len(few)))  # the same rows again at the end
        here = on_cpu(rows.platform)  # where an index costs no program
        rows = rows.map_rows(lambda a: (fetched(a) if here else a)[index])
    # numbers that make a q and a direction which are not special, the same at every call
    rng, dtype = np.random.default_rng(0), rows.weight.dtype
    directions, draws = jax.tree.map(
        lambda a: rng.standard_normal(a.shape).astype(dtype),
        jax.eval_shape(_first, model, rows.weight),
    )
    with unguarded():
        return jax.tree.map(fetched, compiled(_measure)(*sent((model, rows, draws, directions))))


def _for_these_rows(model: EnergyTerms, weight: Array) -> dict[str, Factor]:
    return {**model.factors, **model.for_rows(weight.shape[0])}


def _measure(model: EnergyTerms, batch: Batch, draws: Any, directions: Any) -> dict[str, Any]:
    """What `_judge` judges, as numbers; rows of a model by rows have the weight 1."""
    rows, each = batch.x, _for_these_rows(model, batch.weight)
    weight = jnp.ones_like(batch.weight) if model.by_row else batch.weight
    m = {n: f.kind.statistics(f.kind.moved(f.first, draws[n])) for n, f in each.items()}
    steps = jax.tree.map(_step, m, directions)
    value_of_draws = _value(model, m)

    def nats(m: Any, weight: Array = weight) -> Array:
        density = model.density_at(value_of_draws, m, rows, weight)
        return model.nats(m, rows, weight) + density

    def whole(m: Any) -> Array:
        return nats(m) + model.prior_nats(m, weight)

    value, slopes = jax.value_and_grad(whole)(m)
    proper = {}
    for name, factor in each.items():
        new = factor.given(slopes[name])
        if model.density is not None and model.density.name == name:
            proper[name] = model.density.may_complete(new)
        else:
            proper[name] = jnp.all(factor.kind.proper(new) & jnp.isfinite(new.log_normalizer()))
    found = {"value": value, "proper": proper, "bent": _bends(whole, m, slopes, steps)}
    if not model.by_row:
        by_weight = jax.grad(lambda w: nats(m, w))(weight)
        unequal = jnp.any(weight != 1)
        return found | {"weightless": unequal & jnp.all(by_weight == 0)}
    alone = model.prior_energy is not None  # otherwise the same numbers
    found["meeting"] = _bends(nats, m, slopes, steps) if alone else found["bent"]
    return found | _measure_rows(model, m, batch)


def _step(a: Array, direction: Array) -> Array:
    """A direction in which each number changes by about its own size."""
    return (jnp.abs(a) + jnp.sqrt(jnp.mean(a**2))) * direction


def _bends(fn: Any, m: Any, slopes: Any, steps: Any) -> Float[Array, "f f"]:
    """Second derivatives along the steps of two factors each, in the order of their names.

    They are relative to the terms of the first derivatives.
    """
    names = sorted(m)

    def single(name: str) -> Any:
        still = jax.tree.map(jnp.zeros_like, steps)
        return {**still, name: steps[name]}

    def turned(step: Any) -> Array:
        change = jax.jvp(jax.grad(fn), (m,), (step,))[1]
        return jnp.stack([_dot(change[n], steps[n]) for n in names])

    # one program for all factors
    second = jax.vmap(turned)(jax.tree.map(lambda *a: jnp.stack(a), *map(single, names)))
    size = jnp.stack([_dot(*jax.tree.map(jnp.abs, (slopes[n], steps[n]))) for n in names])
    return _relative(jnp.abs(second), size[:, None] + size[None])


def _dot(a: Any, b: Any) -> Array:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return jnp.sum(jnp.stack([jnp.sum(x * y) for x, y in pairs]))


def _measure_rows(model: EnergyTerms, m: Any, batch: Batch) -> dict[str, Array]:
    """Whether the energy is a sum over rows, each with its weight, that do not see each other."""
    theta = {name: m[name] for name in model.globals}
    own = {name: m[name] for name in model.locals}
    ones = jnp.ones_like(batch.weight)

    def nats(rows: Any, own: Any, weight: Array) -> Array:
        return model.nats({**theta, **own}, rows, weight)

    def of_each(rows: Any, own: Any, weight: Array) -> list[Array]:
        """Energy and gradients by local statistics of each row."""
        return jax.tree.leaves(jax.grad(nats, (2, 1))(rows, own, weight))

    here = (batch.x, own, ones)
    changed = (*jax.tree.map(lambda a: a.at[0].set(a[-1]), (batch.x, own)), ones)
    heavier = (batch.x, own, ones.at[0].set(2.0))
    found = jax.vmap(of_each)(*jax.tree.map(lambda *a: jnp.stack(a), here, changed, heavier))
    size = [jnp.max(jnp.abs(a[0])) for a in found]
    others = [jnp.max(jnp.abs(a[1, 1:] - a[0, 1:])) for a in found]
    return {
        "empty": _relative(jnp.abs(nats(batch.x, own, 0.0 * ones)), size[0]),
        "weight": _relative(jnp.max(jnp.abs(found[0][2] - found[0][0])), size[0]),
        "others": jnp.max(jnp.stack([_relative(a, s) for a, s in zip(others, size, strict=True)])),
    }


def _relative(value: Array, size: Array) -> Array:
    return value / jnp.where(size > 0, size, 1.0)


def _judge(model: EnergyTerms, found: dict[str, Any], eps: float) -> None:
    """Raise ValueError for the first thing that is wrong."""
    most = _ROUNDING * eps

    def listed(name: str) -> str:
        return ", ".join(model.factors[name].names)

    if not np.isfinite(found["value"]):
        raise ValueError(f"energy: {float(found['value'])} at ordinary moments; it must be finite")
    names = sorted(model.factors)
    for name, bent in zip(names, np.diag(found["bent"]), strict=True):
        if not bent <= most:
            raise ValueError(
                f"energy: not affine in the statistics of {name!r}, which are {listed(name)}: no "
                "function of them, nor a product of two, such as E[x]^2 in the place of E[x^2]"
            )
    if found.get("weightless"):
        raise ValueError("energy: some weights are not 1, but it is no function of `weight`")
    for key, reason in _OF_ROWS.items():
        if key in found and not found[key] <= most:
            raise ValueError(f"energy: {reason}")
    meeting = found.get("meeting", np.zeros((len(names), len(names)))) > most
    apart = {frozenset((names[i], names[j])) for i, j in np.argwhere(meeting)}
    for group in (tuple(model.locals), *model.blocks) if model.by_row else ():
        for a, b in itertools.combinations(group, 2):
            if frozenset((a, b)) not in apart:
                continue
            if a in model.locals:
                raise ValueError(
                    f"energy: the local factors {a!r} and {b!r} meet, so that no single step is "
                    "exact; make them one factor, or leave `local` out"
                )
            raise ValueError(
                f"blocks: the factors {a!r} and {b!r} meet in the energy of the rows, so that they "
                f"must take turns: blocks={_turns(model, apart)}"
            )
    for name in model.factors:
        if not found["proper"][name]:
            raise ValueError(
                f"energy: the update of {name!r} is no density of its family, whose statistics are "
                f"{listed(name)}: a sign is wrong, or a prior is missing"
            )


_OF_ROWS = {
    "empty": (
        "not 0 if all weights are 0; multiply what each row says by its weight, and give what no "
        "row has as prior="
    ),
    "weight": "not linear in the weights; multiply what each row says by its weight, once",
    "others": (
        "what one row says depends on other rows; rows of an Energy with `local` are independent "
        "given its factors, otherwise leave `local` out"
    ),
}


def _turns(model: EnergyTerms, apart: set[frozenset[str]]) -> tuple[tuple[str, ...], ...]:
    """Blocks of factors that do not meet, each factor in the first block that it can be in."""
    blocks: list[list[str]] = []
    for name in model.globals:
        for block in blocks:
            if not any(frozenset((name, other)) in apart for other in block):
                block.append(name)
                break
        else:
            blocks.append([name])
    return tuple(tuple(block) for block in blocks)
