"""Passes over the rows with and without momentum: `python -m benchmarks.acceleration`.

Writes benchmarks/acceleration.md. Passes are counted, not timed, so any machine gives the same
page. Every start is run to its end by both, and each is held against its own final bound.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn import datasets, decomposition

import vijax as vx

PAGE = Path(__file__).with_name("acceleration.md")
RELATIVE = 1e-6  # of its own final bound: where a run has arrived
SLOW = 50  # passes of the plain method, from which on a start counts as slow
SAME = 0.01  # nats: two ends with the same bound
STARTS = (0, 1, 2, 3, 9, 10)  # with all components, with fewer, and narrow ones
TIGHT = vx.Stop(tol=1e-7, max_iter=5000, trace=5000)
SHAPES = [(covariance, weights) for covariance in ("full", "diag") for weights in ("", "sticks")]


def data() -> Iterator[tuple[str, np.ndarray, tuple[int, ...]]]:
    """Name, rows, and numbers of components."""
    x, _ = datasets.make_blobs(500, centers=3, cluster_std=3.0, random_state=42)
    yield "blobs", x, (20,)
    yield "tutorial", vx.datasets.three_clusters()[0], (6, 20)
    yield "iris", datasets.load_iris().data, (3, 10)
    yield "wine", datasets.load_wine().data, (10,)
    digits = datasets.load_digits().data[:600]
    yield "digits", decomposition.PCA(10, random_state=0).fit_transform(digits), (15,)
    rng = np.random.default_rng(0)
    corners = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
    yield "overlapping", corners[rng.integers(4, size=600)] + rng.normal(size=(600, 2)), (4, 12)
    # not looked at while the method was made
    cancer = datasets.load_breast_cancer().data
    yield "breast cancer *", decomposition.PCA(8, random_state=0).fit_transform(cancer), (10,)
    x, _ = datasets.make_blobs(800, 2, centers=12, cluster_std=0.8, random_state=1)
    yield "12 blobs *", x, (16,)
    rng = np.random.default_rng(5)
    line = np.sort(rng.normal(size=400))[:, None] * [3.0, 1.0, 0.5]
    yield "a curve *", np.sin(line) + line + 0.2 * rng.normal(size=(400, 3)), (8,)
    z = rng.integers(5, size=500)
    yield "wide and narrow *", rng.normal(size=(500, 4)) * np.geomspace(0.2, 5.0, 5)[z, None], (8,)


def cases() -> Iterator[tuple[str, np.ndarray, int, str, str, Any]]:
    """Name, rows, components, covariance, weights and method."""
    for name, x, sizes in data():
        for k in sizes:
            for covariance, weights in SHAPES:
                yield name, x, k, covariance, weights, vx.CAVI()
        yield name, x, sizes[0], "full", "", vx.EM()


@jax.jit
def first(model: Any, batch: vx.Batch, key: Any) -> Any:
    """The starts."""

    def one(restart: Any) -> Any:
        return model.init(jax.random.fold_in(key, restart), batch, restart)

    return jax.lax.map(one, jnp.asarray(STARTS))


@partial(jax.jit, static_argnames="length")
def run(model: Any, batch: vx.Batch, q: Any, method: Any, plain: Any, length: int) -> Any:
    """From every start: passes until within RELATIVE of the end, the end, and the default rule.

    That is judged by what the plain method still gains after it.
    """
    stops = vx.Stop(tol=TIGHT.tol, max_iter=length, trace=length)

    def one(q: Any) -> Any:
        end = vx.iterate(method, model, batch, q, stops)
        # objectives never fall, so that those below the line come first
        line = end.elbo - RELATIVE * jnp.abs(end.elbo)
        reached = 1 + jnp.sum(end.elbo_trace < line)
        usual = vx.iterate(method, model, batch, q)
        rest = vx.iterate(plain, model, batch, usual.q, stops)
        return reached, end.elbo, usual.n_iter, usual.status, rest.elbo - usual.elbo

    return jax.lax.map(one, q)


def compare(case: Any, key: Any) -> dict[str, Any]:
    """Both methods from the same starts."""
    _, x, k, covariance, weights, method = case
    prior = vx.StickBreaking.dirichlet_process(1.0, k) if weights else None
    model = vx.GaussianMixture.from_data(x, k, covariance=covariance, weights=prior)
    batch = vx.Batch.of(x)
    model = jax.tree.map(jnp.asarray, model)
    q = first(model, batch, key)
    plain, fast = (
        [np.asarray(a) for a in run(model, batch, q, m, method, TIGHT.max_iter)]
        for m in (method, vx.Accelerated(method))
    )
    ok = np.isfinite(plain[1]) & np.isfinite(fast[1])
    pick = [(a[ok], b[ok]) for a, b in zip(plain, fast, strict=True)]
    names = ("passes", "end", "usual", "status", "short")
    return dict(zip(names, pick, strict=True))


def row(case: Any, found: dict[str, Any]) -> str:
    """One line of the table."""
    name, x, k, covariance, weights, method = case
    a, b = found["passes"]
    difference = found["end"][1] - found["end"][0]
    ratio = a / b
    return (
        f"| {name} | {x.shape[0]}, {x.shape[1]}, {k} | {covariance} | {weights or 'Dirichlet'} "
        f"| {type(method).__name__} | {np.median(a):.0f} | {np.median(b):.0f} "
        f"| {np.median(ratio):.2f} | {ratio.min():.2f} "
        f"| {(difference > SAME).sum()} / {(difference < -SAME).sum()} "
        f"| {difference.min():+.1f} to {difference.max():+.1f} |"
    )


def summary(label: str, found: list[dict[str, Any]], least: int = 0) -> str:
    """One line of the summary."""
    a, b = (np.concatenate([f["passes"][i] for f in found]) for i in (0, 1))
    difference = np.concatenate([f["end"][1] - f["end"][0] for f in found])
    keep = a >= least
    a, b, difference = a[keep], b[keep], difference[keep]
    ratio, same = a / b, np.abs(difference) < SAME
    higher, lower = (difference > SAME).sum(), (difference < -SAME).sum()
    return (
        f"| {label} | {len(a)} | {a.sum()} | {b.sum()} | {np.median(ratio):.2f} "
        f"| {np.exp(np.log(ratio).mean()):.2f} | {ratio.min():.2f} | {ratio[same].min():.2f} "
        f"| {(ratio < 1 / 1.2).sum()} | {higher} / {lower} |"
    )


def rule(found: list[dict[str, Any]]) -> str:
    """How the default stopping rule fares."""
    lines = [
        "| | fits | converged | passes | worst gain left, nats | median |",
        "|---|" + "---|" * 5,
    ]
    for i, label in enumerate(("plain", "accelerated")):
        done = np.concatenate([f["status"][i] for f in found]) == vx.Status.CONVERGED
        left = np.concatenate([f["short"][i] for f in found])[done]
        passes = np.concatenate([f["usual"][i] for f in found])
        lines.append(
            f"| {label} | {len(done)} | {done.sum()} | {passes.sum()} | {left.max():.1e} "
            f"| {np.median(left):.1e} |"
        )
    return "\n".join(lines)


HEAD = """# Fewer passes

Written by `python -m benchmarks.acceleration` (vijax {version}, float64, key {key}). CAVI and EM
with and without `Accelerated`, from the same {starts} starts each. Passes: until the objective is
within 1e-6 relative of the final one of the same run. Ratio: plain over accelerated, start by
start. Two runs may end in different optima: the last columns count the starts whose final bound is
higher / lower with momentum by more than 0.01 nats, and show by how much. Data sets with a star
played no part in the choice of the method or its constants.

| | starts | passes, plain | accelerated | median ratio | geometric mean | worst \
| worst, same end | lost by over 1.2 | higher / lower |
|---|---|---|---|---|---|---|---|---|---|
"""

STOPPING = """
## The default stopping rule

`Stop()`, tol = 1e-3 nats: what the plain method, from where the fit stopped, still gains. Where
that is many nats, the fit rested on a plateau.

"""

TABLE = """
## All cases

| data | n, d, k | covariance | weights | method | passes, plain | accelerated | median ratio \
| worst | higher / lower | difference in nats |
|---|---|---|---|---|---|---|---|---|---|---|
"""


def main() -> None:
    """Run all cases and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--key", type=int, default=1, help="of the starts")
    parser.add_argument("--only", default="", help="data sets whose name has this in it")
    options = parser.parse_args()
    rows, found, chosen = [], [], []
    for case in cases():
        if options.only not in case[0]:
            continue
        found.append(compare(case, jax.random.key(options.key)))
        chosen.append(case)
        rows.append(row(case, found[-1]))
        print(rows[-1], flush=True)
        jax.clear_caches()

    def part(test: Any) -> list[dict[str, Any]]:
        return [f for case, f in zip(chosen, found, strict=True) if test(case)]

    cavi = part(lambda case: isinstance(case[-1], vx.CAVI))
    groups = {
        "CAVI": (cavi, 0),
        f"CAVI, plain needs {SLOW} or more": (cavi, SLOW),
        "CAVI, starred data": (
            part(lambda case: isinstance(case[-1], vx.CAVI) and "*" in case[0]),
            0,
        ),
        "EM": (part(lambda case: isinstance(case[-1], vx.EM)), 0),
    }
    lines = [summary(label, group, least) for label, (group, least) in groups.items() if group]
    head = HEAD.format(version=vx.__version__, key=options.key, starts=len(STARTS))
    page = head + "\n".join(lines) + "\n" + STOPPING + rule(found) + "\n" + TABLE + "\n".join(rows)
    print(page)
    if not options.only:
        PAGE.write_text(page + "\n")


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main()
