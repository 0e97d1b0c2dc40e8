"""Topics beside scikit-learn: seconds until its bound is reached, and where starts end."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse import csr_matrix

import vijax as vx

from ..page import table

K = 20
PASSES = 5, 10, 20, 40  # of scikit-learn
ROUNDS, MOST = 3, 40  # times that each fit is made, and passes of ours
STARTS, LONG = 10, 40  # starts that are compared, and their passes
WANTED = 10.0


class Corpus(NamedTuple):
    """Documents (n, v) that topics are fitted to."""

    title: str
    counts: np.ndarray


def corpora() -> list[Corpus]:
    """Documents that were planted, and handwritten digits, whose words are dots."""
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(0)
    topics, share = rng.dirichlet(np.full(1000, 0.05), K), rng.dirichlet(np.full(K, 0.1), 2000)
    sizes = rng.poisson(120, 2000)
    made = np.stack([rng.multinomial(n, own @ topics) for n, own in zip(sizes, share, strict=True)])
    planted = Corpus("2000 x 1000, planted, 8 % of the words in a document", made)
    digits = load_digits().data[:1400].astype(int)
    return [planted, Corpus("1400 x 64, digits", digits)]


def peer(counts: np.ndarray, passes: int, seed: int) -> np.ndarray:
    """The pseudo-counts of words in the topics of scikit-learn, (k, v)."""
    from sklearn.decomposition import LatentDirichletAllocation

    fit = LatentDirichletAllocation(K, max_iter=passes, random_state=seed, learning_method="batch")
    return fit.fit(csr_matrix(counts)).components_


def timed(run: Any) -> tuple[float, Any]:
    """The median of the seconds of a few runs, and what the last one gave."""
    seconds = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        found = jax.block_until_ready(run())
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds)), found


def section(_: Any) -> str:
    """Time to the bound of scikit-learn, and the bounds of ten starts, both by our `elbo`."""
    lines: list[list[object]] = []
    ends: list[list[object]] = []
    for corpus in corpora():
        data = vx.Batch.documents(csr_matrix(corpus.counts.astype(np.float32)))
        model = vx.LDA.from_data(data, K)

        def bound(q: Any, model: vx.LDA = model, data: vx.Batch = data) -> float:
            return float(vx.elbo(model, q, data))

        def of_peer(topics: np.ndarray, model: vx.LDA = model) -> Any:
            conc = vx.Dirichlet(jnp.asarray(topics, jnp.float32))
            q = model.template
            return type(q)(q.labels, vx.DirichletMultinomial(conc))

        def ours(
            passes: int, seed: int = 0, model: vx.LDA = model, data: vx.Batch = data
        ) -> vx.Result:
            stop = vx.Stop(tol=0.0, max_iter=passes, patience=2**30)
            return vx.fit(model, data, key=jax.random.key(seed), stop=stop)

        ours(1)
        tried: dict[int, tuple[float, float]] = {}
        for passes in PASSES:
            seconds, topics = timed(lambda p=passes, c=corpus: peer(c.counts, p, 0))
            reached = bound(of_peer(topics))
            for own in range(1, MOST + 1):
                if own not in tried:
                    tried[own] = bound(ours(own).q), timed(lambda p=own: ours(p))[0]
                if tried[own][0] >= reached:
                    break
            value, own_seconds = tried[own]
            met = value >= reached
            ratio = seconds / own_seconds
            line = [corpus.title, passes, f"{seconds:.2f}", f"{reached:.0f}"]
            line += [own if met else "-", f"{own_seconds:.2f}", f"{ratio:.1f}" if met else "-"]
            lines.append([*line, f"{WANTED:g}", "yes" if met and ratio >= WANTED else "**no**"])
            print(*lines[-1], sep=" | ", flush=True)
        for who, run in (
            ("vijax", lambda s: ours(LONG, s).q),
            ("scikit-learn", lambda s, c=corpus: of_peer(peer(c.counts, LONG, s))),
        ):
            found = np.array([bound(run(seed)) for seed in range(STARTS)])
            values = (found.min(), np.median(found), found.max())
            ends.append([corpus.title, who, *(f"{v:.0f}" for v in values)])
            print(*ends[-1], sep=" | ", flush=True)
    heads = ["documents", "its passes", "s", "its bound", "our passes", "s", "times faster"]
    first = table([*heads, "wanted", "met"], lines)
    second = table(["documents", "fit", "lowest", "median", "highest"], ends)
    return f"{_TEXT}\n\n{first}\n\n{_STARTS}\n\n{second}"


_TEXT = f"""scikit-learn's `LatentDirichletAllocation`, k = {K}, batch updates, its defaults else,
and our `fit` with defaults, float32, its start included, compiled before; medians of {ROUNDS} runs.
Bounds are by our `elbo` at its topics and at ours, in nats. The passes of ours are the fewest that
reach the bound of as many passes of scikit-learn."""
_STARTS = f"""The bounds of {STARTS} starts after {LONG} passes each:"""
