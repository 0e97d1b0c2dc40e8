"""numpyro models as log densities, and what vijax has as numpyro distributions.

`from_numpyro` takes a model; `sample_sites` and `predictive` give sites and a distribution.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from .._pytree import pytree, static
from ..constraints import (
    CholeskyCorrelation,
    Constraint,
    Interval,
    Ordered,
    Positive,
    PositiveOrdered,
    Real,
    Simplex,
)
from ..data.host import described, fetched, is_concrete
from ..models.log_density import LogDensity
from .numpyro_sites import predictive, sample_sites

__all__ = ["NumpyroConstraint", "from_numpyro", "predictive", "sample_sites"]

_LARGEST = np.iinfo(np.int32).max  # fits keep integers in 32 bits


def from_numpyro(model: Callable[..., Any], /, *args: Any, **kwargs: Any) -> LogDensity:
    """The joint density of a numpyro model, given its arguments, as a function of its latent sites.

    Parameters are the latent sample sites, with their names and shapes, constrained to their
    supports. `log_prior` is the whole log joint in nats, with observed sites, factors, masks and
    scales, so that a fit has no data, and `elbo` is a bound on the log evidence if all priors are
    proper. Deterministic sites take no part.

    Arrays and floats among the arguments are traced: fits of one model to other numbers of equal
    shapes run one program. All else, such as integers and text, is part of the program, and so are
    all arguments of a model that looks at values of arrays, as `np.unique(group)` does. So are the
    ends of supports.

    Args:
        model: A function with numpyro primitives, also one with handlers around it, such as
            `numpyro.handlers.reparam(...)`. Define it once, not anew for each fit.
        args, kwargs: What the model is called with, data included.

    Options of `LogDensity` are set by `dataclasses.replace(density, covariance="diag")`. Needs
    numpyro. Raises ValueError naming the site for discrete latent sites, subsampled plates,
    supports that depend on other latent sites, `param` sites and what else has no density of real
    numbers; ImportError without numpyro.

    Example:
        def regression(x, y=None):
            slope = numpyro.sample("slope", dist.Normal(0, 5).expand([x.shape[1]]).to_event(1))
            noise = numpyro.sample("noise", dist.HalfNormal(1))
            numpyro.sample("y", dist.Normal(x @ slope, noise), obs=y)

        result = vx.fit(from_numpyro(regression, x, y)).check()
        print(result.summary())
    """
    _library()
    if not callable(model):
        raise TypeError(f"model: expected a function of numpyro sites, got {described(model)}")
    sites = _latent_sites(model, args, kwargs)
    like = {name: site.form for name, site in sites.items()}
    constraints = {name: _constraint(name, site.support) for name, site in sites.items()}
    log_joint = _log_joint(model, args, kwargs, _can_vary)
    try:
        jax.eval_shape(lambda joint, params: joint(params), log_joint, like)
    except Exception:  # the model looks at values of its arguments
        log_joint = _log_joint(model, args, kwargs, lambda leaf: False)
        try:
            jax.eval_shape(log_joint, like)
        except Exception as error:
            error.add_note("model: its density must be a function of its sites, without own draws")
            raise
    return LogDensity(log_joint, like=like, constraints=constraints)


@pytree
class NumpyroConstraint(Constraint):
    """What a numpyro `support` allows, by numpyro's own map from real numbers, `biject_to`.

    `from_numpyro` takes it for supports that `vijax.constraints` has not, such as covariance
    matrices.
    """

    support: Any = static()

    def forward(self, u: ArrayLike) -> tuple[Float[Array, "..."], Float[Array, ""]]:
        transform = self._transform()
        free = jnp.asarray(u)
        value = transform(free)
        return value, jnp.sum(transform.log_abs_det_jacobian(free, value))

    def inverse(self, value: ArrayLike) -> Float[Array, "..."]:
        back = _library().infer.util.transform_fn
        return back({"": self._transform()}, {"": jnp.asarray(value)}, invert=True)[""]

    def free_shape(self, shape: Any) -> tuple[int, ...]:
        return tuple(self._transform().inverse_shape(tuple(shape)))

    def _transform(self) -> Any:
        return _library().distributions.biject_to(self.support)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NumpyroConstraint) and bool(self.support == other.support)

    def __hash__(self) -> int:
        return hash(type(self.support))  # supports have no hash


def _library() -> Any:
    """The package numpyro; ImportError that says how to install it."""
    try:
        import numpyro
    except ImportError as error:
        raise ImportError("from_numpyro needs numpyro: pip install numpyro") from error
    return numpyro


# -- the sites of a model -------------------------------------------------------------------------


@dataclass
class _Site:
    """The shape and dtype of a latent site, and its support in numpyro."""

    form: jax.ShapeDtypeStruct
    support: Any


def _latent_sites(model: Callable[..., Any], args: Any, kwargs: Any) -> dict[str, _Site]:
    """The latent sites of a model by name; ValueError naming a site that has no density in reals.

    Nothing is computed unless the ends of a support are.
    """
    found: dict[str, _Site] = {}

    def look() -> None:
        found.update(_sites_of_run(model, args, kwargs, 0))

    jax.eval_shape(look)
    computed = [
        name for name, site in found.items() if not is_concrete(*jax.tree.leaves(site.support))
    ]
    if computed:
        runs = [_sites_of_run(model, args, kwargs, seed) for seed in range(2)]
        for name in computed:
            ends = [jax.tree.leaves(run[name].support) for run in runs]
            if not is_concrete(*ends[0]):
                raise ValueError(
                    f"{name}: the ends of its support are traced, but are part of the program; "
                    "give it a fixed support, such as Uniform(0, 1), and scale it in the model"
                )
            if not all(map(np.array_equal, *ends)):
                raise ValueError(
                    f"{name}: its support depends on other latent sites; give it a fixed support, "
                    "such as Uniform(0, 1), and scale it in the model, or use numpyro's "
                    "TransformReparam"
                )
            found[name] = runs[0][name]
    if not found:
        raise ValueError("model: has no latent sites, so that there is nothing to fit")
    return found


def _sites_of_run(model: Callable[..., Any], args: Any, kwargs: Any, seed: int) -> dict[str, _Site]:
    """The latent sites of one run, at values that are drawn in their supports."""
    numpyro = _library()
    handlers = numpyro.handlers
    start = numpyro.infer.init_to_uniform()

    def checked_start(site: dict[str, Any]) -> Any:
        if site["type"] == "sample" and not site["is_observed"]:
            _check_density(site["name"], site["fn"])
        return start(site)

    started = handlers.substitute(handlers.seed(model, rng_seed=seed), substitute_fn=checked_start)
    sites = handlers.trace(started).get_trace(*args, **kwargs)
    found = {}
    for name, site in sites.items():
        kind = site["type"]
        if kind == "plate" and jnp.shape(site["value"])[0] != site["args"][0]:
            raise ValueError(
                f"{name}: this plate is subsampled, so that the density is random; give it all rows"
            )
        if kind in ("param", "mutable"):
            raise ValueError(
                f"{name}: is a `{kind}` site, which has no prior; make it a sample site, or a "
                "constant"
            )
        if kind == "sample" and not site["is_observed"]:
            value = jnp.asarray(site["value"])
            form = jax.ShapeDtypeStruct(value.shape, value.dtype)
            found[name] = _Site(form, site["fn"].support)
    return found


def _check_density(name: str, distribution: Any) -> None:
    """Raise ValueError unless a latent site has a density of real numbers."""
    dist = _library().distributions
    inner = distribution
    while isinstance(inner, dist.ExpandedDistribution | dist.Independent | dist.MaskedDistribution):
        inner = inner.base_dist
    if isinstance(inner, dist.Delta):
        raise ValueError(f"{name}: is a single value; make it a numpyro.deterministic site")
    support = distribution.support
    if support.is_discrete:
        raise ValueError(
            f"{name}: is a discrete latent site, which has no density of real numbers; sum it out "
            "by hand, as in dist.MixtureSameFamily, or observe it"
        )
    try:
        known = dist.biject_to(support)
    except RuntimeError:  # of a support that is not registered
        known = None
    if known is None or isinstance(support, type(dist.constraints.complex)):
        raise ValueError(
            f"{name}: numpyro has no map from real numbers to {support!r}; write it as a "
            "deterministic function of sites that are real or positive"
        )


def _constraint(name: str, support: Any) -> Constraint:
    """The constraint that says the same as a numpyro support."""
    c = _library().distributions.constraints
    while isinstance(support, c.independent):
        support = support.base_constraint
    fixed: dict[type, Constraint] = {
        type(c.real): Real(),
        type(c.positive): Positive(),
        type(c.nonnegative): Positive(),
        type(c.softplus_positive): Positive(),
        type(c.unit_interval): Interval(0.0, 1.0),
        type(c.circular): Interval(-math.pi, math.pi),
        type(c.ordered_vector): Ordered(),
        type(c.positive_ordered_vector): PositiveOrdered(),
        type(c.simplex): Simplex(),
        type(c.corr_cholesky): CholeskyCorrelation(),
    }
    if type(support) in fixed:
        return fixed[type(support)]
    low, high = -math.inf, math.inf
    if isinstance(support, c.greater_than | c.greater_than_eq):
        low = fetched(support.lower_bound)
    elif isinstance(support, c.less_than | c.less_than_eq):
        high = fetched(support.upper_bound)
    elif isinstance(support, c.interval | c.open_interval):
        low, high = fetched(support.lower_bound), fetched(support.upper_bound)
    else:
        return NumpyroConstraint(support)
    try:
        return Interval(low, high)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


# -- the density ----------------------------------------------------------------------------------


class _Fixed:
    """A part of the program, equal to those of the same type and value.

    What has no hash, such as an array or a data frame, may change in place: it is copied, and equal
    to nothing else.
    """

    def __init__(self, value: Any):
        self.value = value
        try:
            self.key: int | None = hash(value)
        except TypeError:
            self.key = None
            self.value = copy.copy(value)

    def __eq__(self, other: object) -> bool:
        if self is other or not isinstance(other, _Fixed) or None in (self.key, other.key):
            return self is other
        return type(self.value) is type(other.value) and bool(self.value == other.value)

    def __hash__(self) -> int:
        return id(self) if self.key is None else self.key


@dataclass(frozen=True)
class _LogJoint:
    """log p(sites) of a model in nats, as a function of arguments that vary, and of params.

    The arguments are (args, kwargs) with this structure; `fixed` has None for leaves that vary.
    """

    model: _Fixed
    fixed: tuple[_Fixed | None, ...]
    structure: Any

    def __call__(self, *given: Any) -> Array:
        *varying, params = given
        values = iter(varying)
        leaves = [next(values) if leaf is None else leaf.value for leaf in self.fixed]
        args, kwargs = jax.tree.unflatten(self.structure, leaves)
        log_density = _library().infer.util.log_density
        return jnp.asarray(log_density(self.model.value, args, kwargs, params)[0])


def _log_joint(
    model: Callable[..., Any], args: Any, kwargs: Any, varies: Callable[[Any], bool]
) -> jax.tree_util.Partial:
    """The log joint as a function of params, with the leaves that vary as children."""
    leaves, structure = jax.tree.flatten((args, kwargs))
    fixed = tuple(None if varies(leaf) else _Fixed(leaf) for leaf in leaves)
    return jax.tree_util.Partial(
        _LogJoint(_Fixed(model), fixed, structure), *filter(varies, leaves)
    )


def _can_vary(leaf: Any) -> bool:
    """Whether an argument is a number or an array that a fit can keep in its own precision."""
    if isinstance(leaf, float | np.floating):
        return True
    if not isinstance(leaf, jax.Array | np.ndarray):
        return False
    if jnp.issubdtype(leaf.dtype, jnp.integer) and leaf.size and is_concrete(leaf):
        host = fetched(leaf)
        return max(int(host.max()), -int(host.min())) <= _LARGEST
    return any(jnp.issubdtype(leaf.dtype, kind) for kind in (jnp.number, jnp.bool_))
