"""Laws of models: the E-step is a sum over rows, weights count, and the bound is one.

Each takes a `ModelFacts` and a generator of NumPy.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._pytree import replace
from ..data.batch import Batch
from ..infer.fit import elbo, fit, trajectory
from ..infer.result import Stop
from ..infer.run.passes import expect
from ..latent_class import LatentClassModel, Predictor
from ..model import ConditionalModel, Model, Q
from .compare import Law, close, holds, leaves_close

_JUNK = (7.0, 1e300, np.nan, np.inf)


@dataclasses.dataclass(frozen=True)
class ModelFacts:
    """A model, rows, and what is known of them.

    `arbitrary_q(rng)` is a q that is no fixed point; by default `arbitrary_q_of`. `log_evidence` is
    log p(rows) in nats, or more, and `exact` says that a fit reaches it. `rescaled(scale, offset)`
    is the model for scale * x + offset.
    """

    model: ConditionalModel
    batch: Batch
    arbitrary_q: Callable[[np.random.Generator], Q] | None = None
    log_evidence: float | None = None
    exact: bool = False
    rescaled: Callable[[float, float], ConditionalModel] | None = None

    def q(self, rng: np.random.Generator) -> Q:
        """An arbitrary q."""
        if self.arbitrary_q is not None:
            return self.arbitrary_q(rng)
        return arbitrary_q_of(self.model, self.batch, rng)

    @property
    def num_rows(self) -> int:
        """n."""
        return self.batch.weight.shape[0]

    def rows(self, index: Any, weight: Any = None) -> Batch:
        """Those rows, of these weights."""
        taken = self.batch.take(jnp.asarray(index))
        if weight is None:
            return taken
        return replace(taken, weight=jnp.asarray(weight, taken.weight.dtype), as_given=None)


def arbitrary_q_of(model: ConditionalModel, batch: Batch, rng: np.random.Generator) -> Q:
    """The update after random responsibilities, or after random weights of the rows."""
    if isinstance(model, LatentClassModel):
        by_step = batch.steps is not None and not model.one_class_per_row
        shape = batch.exists.shape if by_step else batch.weight.shape
        resp = rng.dirichlet(np.ones(model.num_components), size=shape) * np.asarray(model.active)
        resp = jnp.asarray(resp / resp.sum(-1, keepdims=True))
        return _after_assignment(model, batch, resp)
    start = model.init(jax.random.key(int(rng.integers(2**31))), batch)
    weight = batch.weight * jnp.asarray(rng.gamma(2.0, size=batch.weight.shape))
    return one_sweep(model, start, replace(batch, weight=weight))[1]


@jax.jit
def _after_assignment(model: LatentClassModel, batch: Batch, resp: Any) -> Q:
    prior: Any = model.prior
    return model.update(prior, model.assign(prior, batch, resp))


def one_sweep(model: ConditionalModel, q: Q, batch: Batch, chunk: int | None = None) -> Any:
    """One E-step and update with the bound at q: the whole of what a driver sees."""
    found = expect(model, q.moments(), batch, chunk)
    return found.log_z - model.kl(q), model.update(q, found.stats)


# compiled once for all laws of equal shapes
sweep = functools.partial(jax.jit, static_argnames="chunk")(one_sweep)


@jax.jit
def _slope(model: ConditionalModel, q: Q, batch: Batch) -> Any:
    def bound(x: Any, weight: Any, q: Q) -> Any:
        rows = Batch.of(replace(batch, x=x, weight=weight, as_given=None))
        return one_sweep(model, q, rows)[0]

    return jax.grad(bound, (0, 1, 2))(batch.x, batch.weight, q)


def same(a: Any, b: Any, rtol: float = 1e-10, atol: float = 1e-10) -> None:
    """Equal bounds, and equal updates wherever their origins lie."""
    close(a[0], b[0], rtol=rtol, of="bound")
    leaves_close(a[1].about(b[1]), b[1], rtol=rtol, atol=atol)


def chunks_change_nothing(facts: ModelFacts, rng: np.random.Generator) -> None:
    """The rows in chunks of any size give the bound and the update of all at once."""
    q, whole = facts.q(rng), None
    whole = sweep(facts.model, q, facts.batch)
    for chunk in (1, 7, 29, facts.num_rows):
        same(sweep(facts.model, q, facts.batch, chunk), whole)


@jax.jit
def _at_once_and_one_by_one(model: ConditionalModel, q: Q, last: Q) -> Any:
    return model.kl_and_move(q, last), (model.kl(q), jnp.sum(q.kl(last)))


def kl_and_move_are_both_divergences(facts: ModelFacts, rng: np.random.Generator) -> None:
    """`kl_and_move` is KL(q || prior) and KL(q || last)."""
    got, exact = _at_once_and_one_by_one(facts.model, facts.q(rng), facts.q(rng))
    close(got, exact, rtol=1e-12)


def order_of_rows_changes_nothing(facts: ModelFacts, rng: np.random.Generator) -> None:
    """Rows are exchangeable."""
    q, shuffled = facts.q(rng), facts.rows(rng.permutation(facts.num_rows))
    same(sweep(facts.model, q, shuffled), sweep(facts.model, q, facts.batch))


def integer_weights_are_repeated_rows(facts: ModelFacts, rng: np.random.Generator) -> None:
    """A row of weight 3 counts as three rows, and one of weight 0 as none."""
    n, q = facts.num_rows, facts.q(rng)
    times = rng.integers(0, 4, size=n)
    times[0] = 1
    repeated = facts.rows(np.repeat(np.arange(n), times))
    same(sweep(facts.model, q, facts.rows(np.arange(n), times)), sweep(facts.model, q, repeated))


def half_weights_halve(facts: ModelFacts, rng: np.random.Generator) -> None:
    """Every row twice with weight 1/2 is every row once."""
    n, q = facts.num_rows, facts.q(rng)
    twice = facts.rows(np.tile(np.arange(n), 2), np.full(2 * n, 0.5))
    same(sweep(facts.model, q, twice), sweep(facts.model, q, facts.batch))


def _with_junk(facts: ModelFacts, junk: float, extra: int = 5) -> Batch:
    """The rows, and some of weight 0 that hold junk, before `Batch.of` has read them."""
    n = facts.num_rows
    index = np.concatenate([np.arange(n), np.arange(extra) % n])
    padded = facts.rows(index, np.concatenate([np.ones(n), np.zeros(extra)]))
    return replace(padded, x=jax.tree.map(lambda a: a.at[n:].set(junk), padded.x))


def weight_zero_is_absence(facts: ModelFacts, rng: np.random.Generator) -> None:
    """A row of weight 0 changes nothing, whatever it holds: as padding does."""
    q = facts.q(rng)
    plain = sweep(facts.model, q, facts.batch)
    for junk in _JUNK:
        padded = Batch.of(_with_junk(facts, junk))
        same(sweep(facts.model, q, padded), plain)
        same(sweep(facts.model, q, padded, chunk=9), plain)


def weight_zero_is_absence_in_gradients(facts: ModelFacts, rng: np.random.Generator) -> None:
    """Nor does it change gradients of the bound by rows, weights and q, which are finite."""
    n, q = facts.num_rows, facts.q(rng)
    gradient = _slope(facts.model, q, _with_junk(facts, np.nan))
    plain = _slope(facts.model, q, facts.rows(np.arange(n), np.ones(n)))
    for leaf in jax.tree.leaves(gradient):
        holds(jnp.isfinite(leaf), "a finite gradient", leaf)
    for a, b in zip(jax.tree.leaves(gradient[0]), jax.tree.leaves(plain[0]), strict=True):
        close(a[:n], b, rtol=1e-9, atol=1e-12, of="by the rows")
        close(a[n:], 0.0, of="by the rows of weight 0")
    leaves_close(gradient[2], plain[2], rtol=1e-9, atol=1e-9)


def bound_is_a_bound(facts: ModelFacts, rng: np.random.Generator) -> None:
    """ELBO <= log evidence at any q, and equality where the family of q holds the posterior."""
    model, rows, evidence = facts.model, facts.batch, facts.log_evidence
    assert evidence is not None
    for _ in range(3):
        found = elbo(model, facts.q(rng), rows)
        holds(found <= evidence + 1e-9, f"a bound below {evidence}", found)
    key = jax.random.key(0) if model.draws else None
    result = fit(model, rows, key=key, stop=Stop(tol=1e-12))
    holds(result.elbo <= evidence + 1e-9, f"a bound below {evidence}", result.elbo)
    if facts.exact:
        close(result.elbo, evidence, rtol=1e-12)


def bound_never_falls(facts: ModelFacts, rng: np.random.Generator) -> None:
    """Over 20 whole sweeps from an arbitrary q."""
    states = trajectory(facts.model, facts.batch, init=facts.q(rng), num_iters=20)
    found = np.asarray(states.elbo)
    holds(np.diff(found) >= -1e-9 * np.abs(found[:-1]), "a bound that never falls", found)


def units_and_offsets_change_nothing(
    facts: ModelFacts,
    rng: np.random.Generator,
    moves: Sequence[tuple[float, float]] = ((1e-8, 0.0), (1e8, 0.0), (1.0, 1e6), (1e4, -1e8)),
) -> None:
    """The prior moves with the data; the bound changes by the volume element alone."""
    assert facts.rescaled is not None
    model, batch = facts.model, facts.batch
    latent = isinstance(model, LatentClassModel)
    init: Any = None
    if latent:
        q = facts.q(rng)
        init = np.asarray(_responsibilities(model, q, batch))
    stop = Stop(max_iter=3) if latent else Stop()
    one = fit(model, batch, init=init, stop=stop)
    for scale, offset in moves:
        there = facts.rescaled(scale, offset)
        moved = replace(batch, x=jax.tree.map(lambda a: a * scale + offset, batch.x))  # noqa: B023
        volume = sum(a.size for a in jax.tree.leaves(batch.x)) * np.log(scale)
        two = fit(there, moved, init=init, stop=stop)
        if latent:
            close(
                _responsibilities(there, two.q, moved),
                _responsibilities(model, one.q, batch),
                atol=1e-6,
                of=f"responsibilities, x * {scale} + {offset}",
            )
        close(two.elbo + volume, one.elbo, rtol=1e-7, of=f"bound, x * {scale} + {offset}")


def _responsibilities(model: Model, q: Q, batch: Batch) -> Any:
    assert isinstance(model, Predictor)
    return model.responsibilities(q, batch)


def jit_changes_nothing(facts: ModelFacts, rng: np.random.Generator) -> None:
    """Each operation run by itself gives what the program gives."""
    q = facts.q(rng)
    with jax.disable_jit():
        eager = one_sweep(facts.model, q, facts.batch)
    same(sweep(facts.model, q, facts.batch), eager)


def vmap_over_data_sets_is_the_loop(
    several: Sequence[ModelFacts], rng: np.random.Generator
) -> None:
    """Models of like form under vmap give what each gives alone."""
    problems = [(facts.model, facts.q(rng), facts.batch) for facts in several]
    stack = jax.tree.map(lambda *a: jnp.stack(a), *problems)
    together = jax.vmap(sweep)(*stack)
    for i, problem in enumerate(problems):
        same(jax.tree.map(lambda a, i=i: a[i], together), sweep(*problem))


def resampled_data_sets_under_vmap(facts: ModelFacts, rng: np.random.Generator) -> None:
    """The model on three resampled data sets under vmap is the model on each."""
    n = facts.num_rows
    several = [
        replace(facts, batch=facts.rows(rng.integers(n, size=n), np.ones(n))) for _ in range(3)
    ]
    vmap_over_data_sets_is_the_loop(several, rng)


def pytrees_survive_a_round_trip(facts: ModelFacts, rng: np.random.Generator) -> None:
    """A model is a pytree: its leaves and structure make the same class again."""
    leaves, structure = jax.tree.flatten(facts.model)
    again = type(jax.tree.unflatten(structure, leaves))
    assert again is type(facts.model), f"{type(facts.model).__name__} became {again.__name__}"


# each law with the fact that it needs
LAWS: dict[Law, str | None] = {
    chunks_change_nothing: None,
    kl_and_move_are_both_divergences: None,
    order_of_rows_changes_nothing: None,
    integer_weights_are_repeated_rows: None,
    half_weights_halve: None,
    weight_zero_is_absence: None,
    weight_zero_is_absence_in_gradients: None,
    bound_is_a_bound: "log_evidence",
    bound_never_falls: None,
    units_and_offsets_change_nothing: "rescaled",
    jit_changes_nothing: None,
    resampled_data_sets_under_vmap: None,
    pytrees_survive_a_round_trip: None,
}
# those that ask for rows one by one
BY_ROW = (chunks_change_nothing, weight_zero_is_absence, weight_zero_is_absence_in_gradients)
