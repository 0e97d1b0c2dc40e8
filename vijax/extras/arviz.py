"""A fit as an ArviZ DataTree: `to_datatree`."""

from __future__ import annotations

import importlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from .._version import __version__
from ..data.batch import Batch
from ..data.host import check_bound, check_integer, fetched, to_device
from ..data.padding import compiled
from ..data.types import Data
from ..families.compound.columns import Columns
from ..families.compound.noise import WithNoise
from ..families.compound.student_t import StudentT
from ..families.gaussian.tied_normal_wishart import TiedNormalWishart
from ..families.normal_gamma import MeanPrecision
from ..families.weights.base import Weights
from ..guides.transformed_normal import TransformedNormal
from ..infer.result import Result
from ..infer.status import Status
from ..model import Model, Q, unnamed
from ..models.log_density import LogDensity
from ..models.structured import Structured
from ..numerics.pareto import pareto_index


def to_datatree(
    fit: Result,
    model: Model,
    x: Data | None = None,
    *,
    key: Key[Array, ""],
    num_draws: int = 1000,
    log_likelihood: bool = True,
) -> Any:
    """Independent draws from q with all that ArviZ needs to criticise them, as a DataTree.

    Groups, with one chain:

    - `posterior`: parameters in data units, with dimensions named by component and column.
    - `log_likelihood`: "rows", log p(x_n | theta) in nats of each draw and row, for `loo`.
    - `sample_stats`: "lq", log q(theta), and "lp", log p(x, theta), in nats, for
      `loo_approximate_posterior`.
    - `observed_data`: the rows, NaN where an entry is missing or a step does not exist.

    The attribute `k_hat` is the Pareto index of exp(lp - lq): below 0.7, averages over the draws
    can be corrected by these weights, which they need not be where lp - lq is next to constant.
    Draws are of one labelling of the components. `elbo`, `status` and `n_iter` are those of the
    fit. Draws have no autocorrelation, so that R-hat and ESS say nothing.

    Args:
        fit: A Result; one of many fits, `fits[i]`.
        model: The model that it is of: of rows, sequences or a `LogDensity`.
        x: The rows of the fit.
        key: A typed key for the draws.
        num_draws: Number of draws.
        log_likelihood: Whether to keep `log_likelihood`, which has num_draws times n numbers.

    Needs arviz-base. Raises TypeError for models without a density of rows given theta, such as
    topic models; ValueError for many fits and after EM, which has no posterior; ImportError without
    arviz-base.

    Example:
        tree = to_datatree(fit, model, x, key=jax.random.key(1))
        print(arviz_stats.loo(tree))
    """
    base = _library()
    if not isinstance(fit, Result):
        raise TypeError(f"fit: expected a Result, got {type(fit).__name__}")
    if jnp.ndim(fit.status):
        raise ValueError("fit: of many fits; take one of them, fits[i]")
    check_integer("num_draws", num_draws)
    check_bound("num_draws", num_draws, least=1.0)
    if isinstance(model, LogDensity):
        draws, lq, lp, rows = _of_density(model, fit.q, x, key, num_draws)
        posterior, dims, coords, observed = _flat(draws), {}, {}, _columns_of_density(model, x)
    elif isinstance(model, Structured):
        if model.improper or fit.point:
            raise ValueError("fit: by EM, an estimate, which has no posterior to draw from")
        if x is None:
            raise TypeError("x: needed, the rows of the fit")
        draws, lq, lp, rows = _of_labels(model, fit.q, x, key, num_draws)
        posterior, dims, coords = _named(model, fit, draws)
        observed = _observed(model.as_batch(x))
    else:
        raise TypeError(f"model: a {type(model).__name__} has no density of rows given theta")
    groups: dict[str, Any] = {
        "posterior": {name: np.asarray(value)[None] for name, value in posterior.items()},
        "sample_stats": {"lq": fetched(lq)[None], "lp": fetched(lp)[None]},
    }
    if rows is not None and log_likelihood:
        groups["log_likelihood"] = {"rows": fetched(rows)[None]}
        dims["rows"] = ["row"]
    if observed:
        groups["observed_data"] = {name: value for name, (value, _) in observed.items()}
        dims |= {name: own for name, (_, own) in observed.items()}
    tree = base.from_dict(groups, coords=coords, dims=dims)
    tree.attrs |= {
        "inference_library": "vijax",
        "inference_library_version": __version__,
        "elbo": float(fetched(fit.elbo)),
        "status": Status(int(fetched(fit.status))).name,
        "n_iter": int(fetched(fit.n_iter)),
        "draws": "independent, from q",
        "k_hat": float(fetched(compiled(_index)(lp, lq))),
    }
    return tree


def _library() -> Any:
    """The package arviz_base; ImportError that says how to install it."""
    try:
        return importlib.import_module("arviz_base")
    except ImportError as error:
        raise ImportError("to_datatree needs arviz-base: pip install arviz-base") from error


def _index(lp: Float[Array, "s"], lq: Float[Array, "s"]) -> Float[Array, ""]:
    return pareto_index(lp - lq)


# -- models of labels and components --------------------------------------------------------------


def _of_labels(
    model: Structured, q: Q, x: Any, key: Key[Array, ""], num_draws: int
) -> tuple[dict[str, Any], Any, Any, Any]:
    """Draws as `sample_parameters` gives them, log q, log p(x, theta), and that of each row."""
    like = to_device(np.zeros((num_draws, 0), np.float32))
    lq, log_prior = compiled(_densities)(unnamed(model), q, key, like)
    reader: Any = model  # of rows, or of sequences
    draws = reader.sample_parameters(q, key, (num_draws,))  # the same, by the same key
    rows = reader.log_lik(draws, x)
    weight = fetched(model.as_batch(x).weight)
    total = fetched(rows)[:, weight > 0] @ weight[weight > 0]
    return draws, lq, fetched(log_prior) + total, rows


def _densities(
    model: Structured, q: Q, key: Key[Array, ""], like: Float[Array, "s 0"]
) -> tuple[Float[Array, "s"], Float[Array, "s"]]:
    """log q and log p of draws of theta.

    Weights of components without rows may be drawn as 0, and what they leave to others may be
    rounded to 0, whose log would be infinite in both. They are taken for small numbers.
    """
    draws = jax.tree.map(_positive, q.sample(key, like.shape[:-1]))
    name = "weights" if "weights" in draws else "labels"
    if isinstance(model.labels, Weights) and model.labels.rest is not None:
        draws[name] = jax.tree.map(lambda a: a * (1.0 - 4.0 * jnp.finfo(a.dtype).eps), draws[name])
    labels = model.labels.log_prior_at(q.labels, draws[name])
    components = model.components.log_prob(draws["components"])
    log_prior = [jnp.sum(a.reshape(like.shape[0], -1), -1) for a in (labels, components)]
    return q.log_prob(draws), log_prior[0] + log_prior[1]


def _positive(a: Array) -> Array:
    return jnp.where(a == 0, jnp.finfo(a.dtype).tiny, a)


def _named(model: Structured, fit: Result, draws: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Draws by name, without components that are off, with their dimensions and coordinates."""
    word = model.labels.word
    names = fit.names or model.names
    found: dict[str, Any] = {}
    dims: dict[str, list[str]] = {}
    on = np.flatnonzero(fetched(model.active))
    k = model.num_components
    coords: dict[str, Any] = {word: on}

    def put(name: str, value: Any, axes: list[str]) -> None:
        value = fetched(value)
        single = [i for i, dim in enumerate(axes, 1) if "_column" in dim and value.shape[i] == 1]
        value = value.squeeze(tuple(single))  # a column of a table is one by itself
        axes = [dim for i, dim in enumerate(axes, 1) if i not in single]
        for axis, dim in enumerate(axes, 1):
            if dim in (word, f"to_{word}") and value.shape[axis] == k:
                value = np.take(value, on, axis)
        found[name], dims[name] = value, axes

    for name, value in draws.items():
        if name == "components":
            for own, part in _parts(model.components, value, "").items():
                put(own, part, _axes(own, word)[: np.ndim(part) - 1])
        elif name == "transitions":
            put(name, value, [word, f"to_{word}"])
            coords[f"to_{word}"] = on
        elif name == "concentration":
            put(name, value, [])
        elif name == "covariances":
            put(name, value, [word, "column", "other_column"])
        else:
            put(name, value, [word, "column"][: np.ndim(value) - 1])
    _name_columns(names, found, dims, coords)
    return found, dims, coords


def _parts(family: Any, value: Any, prefix: str) -> dict[str, Any]:
    """Arrays of a draw of components by name: "mean", "precision", "rate", "p"; of columns each."""
    if isinstance(family, Columns):
        parts = [_parts(own, value[name], f"{name}_") for name, own in family.parts.items()]
        return {name: a for part in parts for name, a in part.items()}
    if isinstance(family, WithNoise):
        return _parts(family.others, value, prefix)
    if isinstance(family, StudentT):
        return _parts(family.gaussian, value, prefix)
    if isinstance(value, MeanPrecision):
        precision = value.precision
        if isinstance(family, TiedNormalWishart):
            precision = jnp.broadcast_to(
                precision[:, None], (*value.mean.shape, value.mean.shape[-1])
            )
        return {f"{prefix}mean": value.mean, f"{prefix}precision": precision}
    return {f"{prefix}{family.parameter}": value}


def _axes(name: str, word: str) -> list[str]:
    """Names of the axes of a parameter (s, k, ...) behind the first."""
    part, _, own = name.rpartition("_")
    column, level = (f"{part}_{axis}" if part else axis for axis in ("column", "level"))
    return [word, column, f"other_{column}" if own == "precision" else level]


def _name_columns(names: Any, found: Any, dims: Any, coords: Any) -> None:
    """Name the columns of a matrix, by their own names if they have any."""
    sizes = {
        dim: found[name].shape[axis]
        for name, own in dims.items()
        for axis, dim in enumerate(own, 1)
    }
    for dim in {"column", "other_column"} & set(sizes):
        size = sizes[dim]
        own = [f"x{i}" for i in range(size)] if names is None else list(names)
        coords[dim] = own if len(own) == size else list(range(size))


def _observed(batch: Batch) -> dict[str, tuple[np.ndarray, list[str]]]:
    """The rows by column, NaN where nothing was observed, with their dimensions."""
    rows = batch.unfilled
    table = rows.x if isinstance(rows.x, dict) else {"x": rows.x}
    masks = rows.mask if isinstance(rows.mask, dict) else {"x": rows.mask}
    found = {}
    for name, column in table.items():
        value, mask = np.array(fetched(column), float), masks.get(name)
        if mask is not None:
            value[~fetched(mask)] = np.nan
        if rows.steps is not None:
            value[~fetched(rows.exists)] = np.nan
        column_dim = "column" if name == "x" else f"{name}_column"
        axes = ["row", "step"] if rows.steps is not None else ["row"]
        found[name] = value, [*axes, column_dim][: value.ndim]
    return found


# -- densities ------------------------------------------------------------------------------------


def _of_density(
    model: LogDensity, q: TransformedNormal, x: Any, key: Key[Array, ""], num_draws: int
) -> tuple[Any, Any, Any, Any]:
    draws = q.sample(key, (num_draws,))
    batch = model.as_batch(x) if model.takes_rows else None
    lq, lp, rows = compiled(_log_densities)(model, q, draws, batch)
    return draws, lq, lp, rows


def _log_densities(
    model: LogDensity, q: TransformedNormal, draws: Any, batch: Batch | None
) -> tuple[Any, Any, Any]:
    def at_one(params: Any) -> tuple[Any, Any, Any]:
        lq, log_prior = q.log_prob(params), model.log_prior(params)
        if batch is None:
            return lq, log_prior, None
        rows = model.log_lik(params, batch.x)
        return lq, log_prior + jnp.sum(batch.weight * rows), rows

    return jax.lax.map(at_one, draws, batch_size=64)


def _flat(draws: Any) -> dict[str, Any]:
    """Arrays of draws by their path, such as "group.scale"."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(draws)
    return {
        jax.tree_util.keystr(path, simple=True, separator=".") or "theta": fetched(leaf)
        for path, leaf in leaves
    }


def _columns_of_density(model: LogDensity, x: Any) -> dict[str, tuple[np.ndarray, list[str]]]:
    if not model.takes_rows:
        return {}
    found = _observed(model.as_batch(x))
    return {f"data_{name}" if name != "x" else name: value for name, value in found.items()}
