"""The arguments of `Energy`, checked and put in order; errors name the argument."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from ...data.host import check_integer, described
from .expected_density import ExpectedDensity, Member
from .factor import Factor


def parsed(
    factors: Any,
    energy: Any,
    local: Any,
    prior: Any,
    blocks: Any,
    log_density: Any,
    num_draws: Any,
    seed: Any,
) -> dict[str, Any]:
    """The fields of an Energy; raises TypeError or ValueError."""
    if not isinstance(factors, Mapping) or not factors:
        raise TypeError(f"factors: expected a dict of factors by name, got {described(factors)}")
    for name, factor in factors.items():
        if not isinstance(name, str) or not isinstance(factor, Factor):
            raise TypeError(
                f"factors: expected names and factors such as vx.factor.normal(), got {name!r}: "
                f"{described(factor)}"
            )
    for label, fn in {"energy": energy, "prior": prior}.items():
        if not (callable(fn) or (fn is None and label == "prior")):
            raise TypeError(f"{label}: expected a function, got {described(fn)}")
    local = None if local is None else _names("local", local, factors)
    rest = tuple(name for name in factors if name not in (local or ()))
    if not rest:
        raise ValueError("local: some factor must be shared by all rows")
    whole = local is None
    if blocks is None:
        blocks = tuple((name,) for name in rest) if whole else (rest,)
    else:
        blocks = tuple(_names("blocks", block, factors) for block in blocks)
        if sorted(name for block in blocks for name in block) != sorted(rest):
            raise ValueError(
                f"blocks: expected every factor that is not local once, {', '.join(rest)}"
            )
    return {
        "factors": dict(factors),
        "energy": energy,
        "local_names": local,
        "prior_energy": prior,
        "blocks": blocks,
        "density": _density(log_density, num_draws, seed, factors, whole),
    }


def _density(
    given: Any, num_draws: Any, seed: Any, factors: Mapping[str, Factor], whole: bool
) -> ExpectedDensity | None:
    if given is None:
        return None
    if not isinstance(given, Mapping) or len(given) != 1:
        raise TypeError(
            "log_density: expected a dict of the name of one normal factor and a function, got "
            f"{described(given)}"
        )
    ((name, fn),) = given.items()
    _names("log_density", (name,), factors)
    if not callable(fn):
        raise TypeError(f"log_density: expected a function, got {described(fn)}")
    prior = factors[name].prior
    if not isinstance(prior, Member):
        raise ValueError(
            f"log_density: {name!r} must be a normal factor, but it is a {type(prior).__name__}"
        )
    if not whole:
        raise ValueError("log_density: needs all rows as one whole; leave `local` out")
    if not isinstance(seed, jax.Array):
        check_integer("seed", seed)
    if num_draws is not None:
        check_integer("num_draws", num_draws)
        least = 2 * (prior.shift.size + 1)
        if num_draws % 2 or num_draws < least:
            raise ValueError(
                f"num_draws: expected an even number of at least {least}, got {num_draws}"
            )
    return ExpectedDensity(name, fn, num_draws, seed)


def _names(label: str, given: Any, factors: Mapping[str, Factor]) -> tuple[str, ...]:
    """Names of factors as a tuple."""
    if isinstance(given, str) or not isinstance(given, tuple | list):
        raise TypeError(f"{label}: expected a tuple of names, got {given!r}")
    for name in given:
        if name not in factors:
            raise ValueError(f"{label}: no factor {name!r} among {', '.join(factors)}")
    return tuple(given)
