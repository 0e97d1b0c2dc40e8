"""Bounds after one and two passes: `python -m benchmarks.svi` writes benchmarks/svi.md.

Stochastic natural gradients against CAVI from the same start, a million float32 rows of 16
Gaussian clusters in 8 dimensions. Bounds and passes are told, not times. It fails unless less than
two passes come within 0.1 % of the bound at which CAVI ends.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import jax
import numpy as np

import vijax as vx

PAGE = Path(__file__).with_name("svi.md")
D, K = 8, 16
SEEN = 100_000  # rows that the prior and the start are made from
NEAR = 1e-3  # of |ELBO|
RATES = [vx.RobbinsMonro(1.0, forgetting) for forgetting in (0.6, 0.7, 0.9)]
SIZES = (1024, 8192)


def rows(n: int) -> np.ndarray:
    """Clusters that overlap."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(K, D)) * 2.0
    roots = rng.normal(size=(K, D, D)) / np.sqrt(D)
    z = rng.integers(K, size=n)
    return (means[z] + np.einsum("nij,nj->ni", roots[z], rng.normal(size=(n, D)))).astype("f4")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    args = parser.parse_args()
    x = rows(args.rows)
    key, model = jax.random.key(0), vx.GaussianMixture.from_data(x[:SEEN], K)
    batch, start = vx.Batch.of(x), model.init(key, vx.Batch.of(x[:SEEN]))
    cavi = vx.fit(model, batch, init=start, stop=vx.Stop(max_iter=1000))
    end, trace = float(cavi.elbo), np.asarray(cavi.elbo_trace)
    near = end - NEAR * abs(end)
    needed = int(np.argmax(trace > near)) + 1
    lines = ["| rows at once | forgetting | 1 pass | 2 passes |", "|---|---|---|---|"]
    best = -np.inf
    for size in SIZES:
        for rate in RATES:
            gaps = []
            for passes in (1, 2):
                method = vx.SVI(batch_size=size, rate=rate)
                stop = vx.Stop(max_iter=passes)
                fit = vx.fit(model, batch, init=start, key=key, method=method, stop=stop)
                gaps.append((float(fit.elbo) - end) / abs(end))
            best = max(best, gaps[0])
            cells = " | ".join(f"{100 * gap:+.4f} %" for gap in gaps)
            lines.append(f"| {size} | {float(rate.forgetting):g} | {cells} |")
            print(lines[-1], flush=True)
    text = [
        "# SVI on a million rows",
        "",
        f"n = {args.rows}, d = {D}, k = {K}, full covariance, float32, one start for all. CAVI",
        f"ends ({vx.Status(int(cavi.status)).name}) after {int(cavi.n_iter)} passes at {end:.1f}",
        f"nats, and comes within 0.1 % of that in {needed}. SVI with delay 1, its exact bound",
        "at the end against that of CAVI:",
        "",
        *lines,
    ]
    PAGE.write_text("\n".join(text) + "\n")
    assert best > -NEAR, "less than two passes did not come within 0.1 %"


if __name__ == "__main__":
    main()
