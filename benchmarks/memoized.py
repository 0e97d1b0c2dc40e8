"""Passes to the fixed point: `python benchmarks/memoized.py` writes benchmarks/memoized.md.

Memoized inference against CAVI, from the same starts, on the data of benchmarks/quality/known.py.
Passes are counted, not timed: those after which the objective stays within 1e-6, relative, of the
end of its own run.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import jax
import numpy as np

import vijax as vx

if __package__:
    from .quality.known import known
else:
    from quality.known import known

PAGE = Path(__file__).with_name("memoized.md")
NEAR = 1e-6  # of |ELBO|
TOL = 1e-4  # nats
SAME = 0.01  # nats between two ends at the same fixed point
BLOCKS = (5, 10, 20)


def passes(fit: Any) -> np.ndarray:
    """Of each restart: one more than the last that was far from the end."""
    trace = np.asarray(fit.runs.elbo_trace, float)
    end = np.asarray(fit.runs.elbo, float)[:, None]
    far = (trace < end - NEAR * np.abs(end)) & ~np.isnan(trace)
    return np.where(far, np.arange(far.shape[1]) + 1, 0).max(1) + 1


def compare(name: str, x: np.ndarray, k: int, starts: int) -> tuple[str, dict[int, float]]:
    """A line of the table, and the median ratio by the number of blocks."""
    model = vx.GaussianMixture.from_data(x, k)
    key, stop = jax.random.key(0), vx.Stop(tol=TOL, max_iter=5000, trace=5000)
    batch = vx.fit(model, x, key=key, num_restarts=starts, stop=stop)
    own = passes(batch)
    cells, ratios = [f"| {name} | {x.shape[0]}, {x.shape[1]}, {k} | {np.median(own):.0f} "], {}
    for blocks in BLOCKS:
        method = vx.Memoized(num_blocks=blocks)
        fit = vx.fit(model, x, key=key, num_restarts=starts, stop=stop, method=method)
        gap = np.asarray(fit.elbos - batch.elbos)
        same, ratio = np.abs(gap) < SAME, own / passes(fit)
        ratios[blocks] = float(np.median(ratio[same] if same.any() else ratio))
        cells.append(
            f"| {np.median(passes(fit)):.0f} | {ratios[blocks]:.2f} "
            f"| {same.sum()}, {(gap >= SAME).sum()}, {(gap <= -SAME).sum()} "
        )
    return "".join(cells) + "|", ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--only", type=int, help="so many of the data sets")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    head = "".join(f"| {b} blocks: passes | ratio | same, higher, lower " for b in BLOCKS)
    lines = [f"| data | n, d, k | CAVI: passes {head}|", "|---|---|---" + "|---" * 9 + "|"]
    print("\n".join(lines), flush=True)
    found = []
    for name, x, _, k in list(known())[: args.only]:
        line, ratios = compare(name, x, k, args.starts)
        print(line, flush=True)
        lines.append(line)
        found.append(ratios)
    medians = {b: float(np.median([r[b] for r in found])) for b in BLOCKS}
    text = [
        "# Memoized inference: passes to the fixed point",
        "",
        f"Medians over {args.starts} starts, the same for both, in float64. A pass counts until",
        f"the objective stays within {NEAR:g}, relative, of its end (tol = {TOL:g} nats). `ratio`:",
        "passes of CAVI over those of Memoized, in the median of the starts from which both end at",
        "the same fixed point; then how many starts do, and how many end higher or lower.",
        "",
        *lines,
        "",
        "Median ratio: " + ", ".join(f"{r:.2f} with {b} blocks" for b, r in medians.items()) + ".",
    ]
    PAGE.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
