"""`LogDensity`: a model that is a log density of parameters and rows, as functions in JAX."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from .._pytree import abstract, form_of, pytree, static
from ..data.batch import Batch
from ..data.checks import check_rows_alone
from ..data.host import described
from ..data.types import Data
from ..guides.roots import BlockRoot, DiagonalRoot, FullRoot, LowRankRoot, Root
from ..guides.space import Space
from ..guides.transformed_normal import TransformedNormal
from ..model import DensityModel

_START = 0.1  # standard deviation of u in a start
_WIDTH, _TRIED = 2.0, 8  # starts but the first are the densest of 8 uniform in (-2, 2)
_LARGEST_FULL = 512  # parameters, up to which q has a full covariance by default


@pytree
class LogDensity(DensityModel[TransformedNormal]):
    """p(theta, x) = exp(log_prior(theta) + sum_n w_n log_lik(theta, x)_n), for any such functions.

    `fit` finds the normal over unconstrained numbers that is closest to p(theta | x) in KL(q || p),
    by `GaussianVI`, and `elbo` is its bound on log p(x) in nats.

    Args:
        log_prior: A function of the parameters: their log density in nats, a scalar. Densities are
            of the constrained parameters, without Jacobians, with all constants.
        log_lik: A function of the parameters and the rows, as `Batch.of(data).x` has them, an array
            or a dict of columns, all of floats (`rows["group"].astype(int)` for indices):
            log p(x_n | theta) in nats, (n,). None if there are no rows.
        like: Arrays in any pytree, such as `{"slope": np.zeros(3), "scale": 1.0}`. Only their
            shapes matter, and their dtype if there are no rows.
        constraints: What the parameters are restricted to, in the form of `like`, such as
            `{"scale": vx.constraints.Positive()}`; all others are any real numbers.
        covariance: "full", "diag", "blocks" or ("low_rank", r). By default it is full up to 512
            free parameters.
        independent_rows: Whether `log_lik` looks at each row by itself. Then rows can be drawn in
            minibatches, and data sets of other lengths share programs. Not if there is a parameter
            for each row, or if rows are correlated.
        blocks: Names of the parameters of each block, such as [("slope", "scale")]; by default
            every parameter is one.

    The functions are part of the program: define them once, not anew for each fit. What varies can
    be in a `jax.tree_util.Partial`, whose arguments are traced, as in `Partial(log_prior, sd=2.0)`.
    Raises TypeError or ValueError naming the argument.

    Example:
        def log_prior(params):
            return jax.scipy.stats.norm.logpdf(params["slope"], scale=5.0).sum()

        def log_lik(params, rows):
            return jax.scipy.stats.norm.logpdf(rows["y"], rows["x"] @ params["slope"])

        rng = np.random.default_rng(0)
        x = rng.normal(size=(30, 2))
        y = x @ np.array([1.0, -2.0]) + rng.normal(size=30)
        model = vx.LogDensity(log_prior, log_lik, like={"slope": np.zeros(2)})
        result = vx.fit(model, {"x": x, "y": y}).check()
        print(result.summary())
    """

    log_prior: Any
    log_lik: Any = None
    like: Any = field(kw_only=True)
    constraints: Any = field(default=None, kw_only=True)
    covariance: Any = static(default=None, kw_only=True)
    blocks: Any = static(default=None, kw_only=True)
    independent_rows: bool = static(default=False, kw_only=True)

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        for name in ("log_prior", "log_lik"):
            value = getattr(self, name)
            if not callable(value) and not (name == "log_lik" and value is None):
                raise TypeError(f"{name}: expected a function, got {described(value)}")
            if value is not None and not isinstance(value, jax.tree_util.Partial):
                put(name, jax.tree_util.Partial(value))
        if not isinstance(self.like, Space):
            put("like", Space.of(self.like, self.constraints))
            put("constraints", None)
        kind, blocks = _checked_covariance(self.like, self.covariance, self.blocks)
        put("covariance", kind)
        put("blocks", blocks)

    @property
    def space(self) -> Space:
        return self.like

    @property
    def by_row(self) -> bool:  # type: ignore[override]
        """Whether rows may be added, cut into chunks and drawn."""
        return self.independent_rows

    @property
    def takes_rows(self) -> bool:
        return self.log_lik is not None

    @property
    def template(self) -> TransformedNormal:
        """The q that start 0 has: at u = 0, with standard deviations of 0.1."""
        return self._narrow(jnp.zeros(self.space.size, self.space.float_dtype))

    def init(
        self, key: Key[Array, ""] | None, batch: Batch, restart: Int[Array, ""] | int = 0
    ) -> TransformedNormal:
        """u = 0 for start 0, for others the densest of 8 uniform in (-2, 2); deviations of 0.1."""
        dtype = batch.weight.dtype
        u = jnp.zeros(self.space.size, dtype)
        if key is not None:
            wide = jax.random.uniform(key, (_TRIED, u.size), dtype, -_WIDTH, _WIDTH)
            heights = jax.vmap(lambda u: self.log_density(u, batch))(wide)
            best = wide[jnp.argmax(jnp.where(jnp.isfinite(heights), heights, -jnp.inf))]
            u = jnp.where(jnp.asarray(restart) == 0, u, best)
        return self._narrow(u)

    def start_at(self, params: Any) -> TransformedNormal:
        return self._narrow(self.space.unconstrain(params, self.space.float_dtype))

    def row_size(self, batch: Batch) -> int:
        """The number of floats of a row, for all draws of a small fit."""
        width = sum(math.prod(a.shape[1:]) for a in jax.tree.leaves(batch.x))
        return 64 * max(1, width)

    def as_batch(self, data: Data) -> Batch:
        """Rows with weights; ValueError for masks, noise and the like, which a density has not."""
        if not self.takes_rows:
            raise ValueError("data: this LogDensity has no log_lik, so leave it out")
        batch = Batch.of(data)
        check_rows_alone(batch, "a LogDensity")
        return batch.numeric()

    def check(self, batch: Batch, point: bool) -> None:
        """Raise TypeError or ValueError unless the functions give nats with a gradient."""
        _check_functions(form_of(self), form_of(batch))

    def log_density(self, u: Float[Array, "d"], batch: Batch) -> Float[Array, ""]:
        params, log_det = self.space.constrain(u)
        total = self.log_prior(params) + log_det
        if self.log_lik is None:
            return total
        rows = self.log_lik(params, batch.x)
        return total + jnp.sum(jnp.where(batch.weight > 0, batch.weight * rows, 0.0))

    def _narrow(self, u: Float[Array, "d"]) -> TransformedNormal:
        return TransformedNormal(u, self._root(u.dtype), self.space)

    def _root(self, dtype: Any) -> Root:
        d = self.space.size
        scale = jnp.full(d, _START, dtype)
        if self.covariance == "diag":
            return DiagonalRoot(scale)
        if isinstance(self.covariance, tuple):
            return LowRankRoot(scale, jnp.zeros((d, self.covariance[1]), dtype))
        full = FullRoot.scaled(_START, d, dtype)
        if self.covariance == "full":
            return full
        return BlockRoot(full.matrix, full.log_abs_det, self.space.groups(self.blocks))


def _checked_covariance(space: Space, covariance: Any, blocks: Any) -> tuple[Any, Any]:
    """The structure of the covariance, and the blocks as tuples of names."""
    if covariance is None:
        covariance = "full" if space.size <= _LARGEST_FULL else "diag"
        covariance = covariance if blocks is None else "blocks"
    if isinstance(covariance, list):
        covariance = tuple(covariance)
    low_rank = isinstance(covariance, tuple) and len(covariance) == 2
    if low_rank and covariance[0] == "low_rank" and isinstance(covariance[1], int):
        if not 1 <= covariance[1] < max(2, space.size):
            raise ValueError(f"covariance: a rank of 1 to {space.size - 1}, got {covariance[1]}")
    elif covariance not in ("full", "diag", "blocks"):
        raise ValueError(
            "covariance: expected 'full', 'diag', 'blocks' or ('low_rank', r), got "
            f"{covariance!r:.80}"
        )
    if blocks is None:
        return covariance, None
    if covariance != "blocks":
        raise ValueError(f"blocks: need covariance='blocks', got {covariance!r}")
    if isinstance(blocks, str) or not isinstance(blocks, Sequence):
        raise TypeError(f"blocks: expected a list of names of parameters, got {described(blocks)}")
    blocks = tuple((b,) if isinstance(b, str) else tuple(b) for b in blocks)
    space.groups(blocks)
    return covariance, blocks


@functools.lru_cache(maxsize=64)
def _check_functions(model_form: Any, batch_form: Any) -> None:
    """`LogDensity.check`, once for each form of model and rows: tracing takes milliseconds."""
    model, batch = abstract(model_form), abstract(batch_form)
    u = jax.ShapeDtypeStruct((model.space.size,), batch.weight.dtype)
    params = jax.eval_shape(lambda u: model.space.constrain(u)[0], u)
    _check_output("log_prior", lambda m, *args: m.log_prior(*args), (model, params), ())
    if model.takes_rows:
        args, n = (model, params, batch.x), batch.weight.shape[0]
        _check_output("log_lik", lambda m, *args: m.log_lik(*args), args, (n,))
    gradient = jax.grad(lambda u, model, batch: model.log_density(u, batch))
    try:
        jax.eval_shape(gradient, u, model, batch)
    except Exception as error:
        raise TypeError(f"model: the log density has no gradient: {error}") from error


def _check_output(
    name: str, fn: Callable[..., Any], args: tuple[Any, ...], shape: tuple[int, ...]
) -> None:
    """Raise TypeError or ValueError unless the function gives floats of this shape."""
    try:
        found = jax.eval_shape(fn, *args)
    except Exception as error:
        forms = ", ".join(map(_form, args[1:]))
        error.add_note(
            f"{name}: raised this when called with {forms}; rows are floats, so write "
            'rows["group"].astype(int) for indices'
        )
        raise
    leaves = jax.tree.leaves(found)
    expected = f"nats of shape {shape}" if shape else "nats, a scalar"
    if len(leaves) != 1 or not hasattr(found, "dtype"):
        raise TypeError(f"{name}: must return {expected}, returned {described(found)}")
    if not jnp.issubdtype(found.dtype, jnp.floating):
        raise TypeError(f"{name}: must return {expected}, returned {found.dtype}")
    if found.shape != shape:
        hint = ""
        if not shape:
            hint = "; sum it, or give what is of rows as log_lik"
        elif found.shape == ():
            hint = "; it must not be summed over the rows"
        raise ValueError(f"{name}: must return {expected}, returned shape {found.shape}{hint}")


def _form(tree: Any) -> str:
    """The shapes of a pytree in one line."""
    return str(jax.tree.map(lambda a: f"{a.dtype}[{','.join(map(str, a.shape))}]", tree))
