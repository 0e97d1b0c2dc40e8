"""Laws of component families: what an `Emission` says of rows, at any member and any rows."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._pytree import replace
from ..data.batch import Batch
from ..exponential_family import coordinates
from ..families.emission import Emission
from .compare import Law, close, holds, leaves_close, within

_DRAWS = 20_000
_GRID = 1000


@dataclasses.dataclass(frozen=True)
class ComponentFacts:
    """Components of a family, k >= 2 of them, and rows of positive weight that they take."""

    components: Emission
    rows: Batch

    @property
    def num_components(self) -> int:
        """k."""
        return jax.eval_shape(self.components.log_predictive, self.rows).shape[1]


def _ones(rows: Batch, k: int) -> Any:
    return jnp.ones((rows.weight.shape[0], k), rows.weight.dtype)


@jax.jit
def _evidence(components: Emission, row: Batch) -> tuple[Any, Any]:
    """log p(x) of one row under each component from A alone, and from `log_predictive`."""
    moments = components.moments()
    log_lik, _ = moments.likelihood(row)
    stats = components.observe(row, jnp.ones_like(log_lik), moments, None)
    own, added = components.about(stats), coordinates(stats)
    expected = coordinates(own.expectation())
    inner = sum(
        jnp.sum((expected[name] * added[name]).reshape(log_lik.shape[1], -1), -1) for name in added
    )
    gain = (stats + own).log_normalizer() - own.log_normalizer()
    return gain + log_lik[0] - inner, components.log_predictive(row)[0]


def predictive_is_the_evidence_of_a_row(facts: ComponentFacts, rng: np.random.Generator) -> None:
    """exp(log_predictive) integrates the likelihood: A(q + s) - A(q) + log h, s of one row.

    log h is what `likelihood` has beside <E[T], s>. Not asked where rows have latent variables of
    their own, or components share parameters or have none.
    """
    q = facts.components
    if not q.separable or q.num_background or q.moments().likelihood(facts.rows)[1] is not None:
        return
    for i in range(min(4, facts.rows.weight.shape[0])):
        exact, found = _evidence(q, facts.rows.take(jnp.asarray([i])))
        close(found, exact, rtol=1e-8, atol=1e-8, of=f"row {i}")


def draws_follow_the_predictive_density(facts: ComponentFacts, rng: np.random.Generator) -> None:
    """Draws of `draw` follow `log_predictive`, up to a factor that all components share.

    E_j[p_k / (p_j + p_k)] = E_k[p_j / (p_j + p_k)] for the densities p_j and p_k of two components.
    """
    q = facts.components
    j, k = 0, 1

    @jax.jit
    def share(key: Any, index: Any) -> Any:
        x = q.draw(key, jnp.full(_DRAWS, index))
        rows = replace(facts.rows.take(jnp.zeros(_DRAWS, int)), x=x, as_given=None)
        log_p = q.log_predictive(rows)
        other = jnp.where(index == j, k, j)
        return jax.nn.sigmoid(log_p[:, other] - log_p[:, index])

    of_j, of_k = (np.asarray(share(jax.random.key(i), i)) for i in (j, k))
    error = np.sqrt((of_j.var() + of_k.var()) / _DRAWS)
    within(of_j.mean() - of_k.mean(), error, "draws and density")


def predictive_density_is_normalised(facts: ComponentFacts, rng: np.random.Generator) -> None:
    """Of each column by itself, `log_predictive` gives the share of draws in an interval.

    Of whole numbers it gives the share of the most frequent one.
    """
    q, rows = facts.components, facts.rows
    if isinstance(rows.x, dict):
        return
    density = jax.jit(lambda batch: jnp.exp(q.log_predictive(batch)[:, 0]))
    drawn = np.asarray(jax.jit(q.draw)(jax.random.key(1), jnp.zeros(_DRAWS, int)))
    for j in range(rows.x.shape[1]):
        seen = np.broadcast_to(np.arange(rows.x.shape[1]) == j, rows.x.shape)
        hidden = _hiding(facts, seen)
        if hidden is None:
            return
        x = drawn[:, j]
        values, counts = np.unique(x, return_counts=True)
        whole = bool(np.all(values == np.round(values)))
        low, high = np.quantile(x, [0.1, 0.9])
        grid = np.full(_GRID, values[counts.argmax()]) if whole else np.linspace(low, high, _GRID)
        batch = hidden.take(jnp.zeros(_GRID, int))
        found = np.asarray(density(replace(batch, x=batch.x.at[:, j].set(grid), as_given=None)))
        share = counts.max() / _DRAWS if whole else 0.8
        expected = found[0] if whole else np.trapezoid(found, grid)
        error = np.sqrt(share * (1.0 - share) / _DRAWS)
        within(share - expected, error, f"share of draws of column {j}", least=1e-3)


def _hiding(facts: ComponentFacts, seen: Any) -> Batch | None:
    """The rows of which these entries are seen; None where the family takes no holes."""
    rows = facts.rows
    if rows.mask is not None or rows.noise is not None or isinstance(rows.x, dict):
        return None
    hidden = replace(Batch.of(rows.x, mask=seen), weight=rows.weight, as_given=None)
    try:
        facts.components.check_rows(hidden)
    except ValueError:
        return None
    return hidden


def missing_entries_are_not_read(facts: ComponentFacts, rng: np.random.Generator) -> None:
    """What stands in a missing entry changes no likelihood, statistic, density or point."""
    rows, q = facts.rows, facts.components
    x = rows.x
    if isinstance(x, dict):
        return
    seen = rng.random(x.shape) < 0.6
    seen[~seen.any(1), 0] = True
    hidden = _hiding(facts, seen)
    if hidden is None:
        return
    moments = q.moments()
    a, b = (replace(hidden, x=jnp.where(seen, x, x[i][None])) for i in (0, -1))
    log_lik = jax.jit(lambda batch: moments.likelihood(batch)[0])
    close(log_lik(a), log_lik(b), rtol=1e-12, of="likelihood")
    density = jax.jit(q.log_predictive)
    close(density(a), density(b), rtol=1e-12, of="log_predictive")
    counts = _ones(rows, facts.num_components)

    @jax.jit
    def observe(batch: Batch) -> Any:
        return q.observe(batch, counts, moments, moments.likelihood(batch)[1])

    leaves_close(coordinates(observe(a)), coordinates(observe(b)), rtol=1e-12, atol=1e-12)
    close(jax.jit(q.embed)(a), jax.jit(q.embed)(b), rtol=1e-9, atol=1e-9, of="embed")


def imputed_entries_are_those_of_draws(facts: ComponentFacts, rng: np.random.Generator) -> None:
    """`impute` at the point has mean and variance of draws of a posterior of very many rows."""
    q, rows = facts.components, facts.rows
    if isinstance(rows.x, dict):
        return
    hidden = _hiding(facts, np.zeros(rows.x.shape, bool))
    if hidden is None or q.moments().likelihood(rows)[1] is not None:
        return
    mean, variance = jax.jit(lambda batch: q.point().impute(batch))(hidden)
    if variance is None:  # of codes, which have no mean
        return
    draw = jax.jit(q.map(lambda a: 1e9 * a).draw)
    for k in range(facts.num_components):
        drawn = np.asarray(draw(jax.random.key(k), jnp.full(_DRAWS, k)))
        centred = drawn - drawn.mean(0)
        error = drawn.std(0) / np.sqrt(_DRAWS)
        within(mean[0, k] - drawn.mean(0), error, f"mean of component {k}", least=1e-6)
        square = centred**2
        error = square.std(0) / np.sqrt(_DRAWS)
        within(variance[0, k] - square.mean(0), error, f"variance of component {k}", least=1e-6)


def draws_are_rows(facts: ComponentFacts, rng: np.random.Generator) -> None:
    """`draw` gives rows that `check` takes, of finite density; `embed` gives finite points."""
    q = facts.components
    index = jnp.arange(60) % facts.num_components
    rows = Batch.of(jax.jit(q.draw)(jax.random.key(0), index))
    q.check_rows(rows)
    log_p, points = jax.jit(lambda rows: (q.log_predictive(rows), q.embed(rows)))(rows)
    holds(jnp.isfinite(log_p), "finite densities of draws", log_p)
    assert points.ndim == 2, f"embed: expected (n, f), got shape {points.shape}"
    holds(jnp.isfinite(points), "finite points", points)


def statistics_add_up(facts: ComponentFacts, rng: np.random.Generator) -> None:
    """`observe` of rows that count c is the sum over the rows of c times that of each."""
    q, rows = facts.components, facts.rows
    n, k = rows.weight.shape[0], facts.num_components
    moments = q.moments()
    counts = jnp.asarray(rng.gamma(2.0, size=(n, k)))

    @jax.jit
    def observe(batch: Batch, counts: Any) -> Any:
        return q.observe(batch, counts, moments, moments.likelihood(batch)[1])

    half = jnp.arange(n // 2), jnp.arange(n // 2, n)
    together = observe(rows, counts)
    first, second = (observe(rows.take(part), counts[part]) for part in half)
    leaves_close(coordinates((first + second).about(together)), coordinates(together), 1e-9, 1e-9)
    twice = observe(rows, 2.0 * counts)
    leaves_close(coordinates(twice.about(together)), coordinates(2.0 * together), 1e-9, 1e-9)


def sizes_are_those_of_tables(facts: ComponentFacts, rng: np.random.Generator) -> None:
    """`describe` has k numbers a label, of q and of its moments; sizes are whole numbers >= 0."""
    q, k = facts.components, facts.num_components
    for table in q.describe(), q.moments().describe(), q.point().describe():
        assert table, "describe: the table is empty"
        for name, column in table.items():
            assert np.shape(column) == (k,), f"describe: {name} has shape {np.shape(column)}"
    each, shared = q.num_parameters()
    assert each >= 0, f"num_parameters: {each} of each component"
    assert shared >= 0, f"num_parameters: {shared} that are shared"
    assert q.row_size(facts.rows) > 0, "row_size: expected a number > 0"


LAWS: list[Law] = [
    predictive_is_the_evidence_of_a_row,
    draws_follow_the_predictive_density,
    predictive_density_is_normalised,
    missing_entries_are_not_read,
    imputed_entries_are_those_of_draws,
    draws_are_rows,
    statistics_add_up,
    sizes_are_those_of_tables,
]
