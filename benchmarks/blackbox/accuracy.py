"""Every problem with default settings, against its reference draws."""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import vijax as vx

from ..page import table
from .ours import flat, model_of, rows_of
from .peers import cpu_clock
from .problems import PROBLEMS

STARTS, NEAR = 10, 0.05  # nats between bounds of starts that agree
LARGE, TAIL = 0.1, 0.7  # error of log sd, and k-hat, between which linear response must help
TEXT = f"""`vx.fit(model, rows)` with default settings, of which the first start is at u = 0; then
{STARTS} starts, this one and nine that are drawn. Posteriors are in unconstrained coordinates.
Reference: 10 000 draws by NUTS (`reference.json`)."""
STARTS_TEXT = """"Spread": largest less smallest final bound of all starts, in nats. "Gradients":
number of draws times iterations of the first start; steps that were shortened are not counted.
"ms": of the processor, over all threads, for a warm call with the rows on the device; median."""
ERRORS_TEXT = """Worst coordinate: error of the mean in standard deviations of the reference, and
of log sd, by q and by `vx.linear_response`. ELBO with its standard error in nats; k-hat, effective
share of the draws (ESS) and verdict by `vx.criticize`."""


class Row(NamedTuple):
    """What is said of a problem."""

    name: str
    d: int
    statuses: np.ndarray
    spread: float
    iterations: np.ndarray
    gradients: int
    ms: float
    mean_error: float
    q_error: float
    response_error: float
    elbo: float
    elbo_se: float
    k_hat: float
    ess: float
    verdict: str

    @property
    def agrees(self) -> bool:
        return bool((self.statuses == vx.Status.CONVERGED).all()) and self.spread < NEAR

    @property
    def can_improve(self) -> bool:
        return self.q_error > LARGE and self.k_hat < TAIL

    @property
    def factor(self) -> float:
        return self.q_error / self.response_error


def section(options: argparse.Namespace) -> str:
    written = json.loads(Path(__file__).with_name("reference.json").read_text())["problems"]
    rows = []
    for name in options.only or PROBLEMS:
        rows.append(measure(name, written[name]["coordinates"]))
        print(rows[-1], flush=True)
    return "\n\n".join(
        [TEXT, _starts(rows), _agreement(rows), STARTS_TEXT, _errors(rows), ERRORS_TEXT]
        + [_improvement(rows)]
    )


def measure(name: str, reference: list[dict[str, Any]]) -> Row:
    problem = PROBLEMS[name]()
    model, rows = model_of(problem), rows_of(problem)
    d = model.space.size
    fit = vx.fit(model, rows)
    for _ in range(2):  # what ran before may still hold caches and threads
        cpu_clock(lambda: vx.fit(model, rows))
    seconds = [cpu_clock(lambda: vx.fit(model, rows))[0] for _ in range(5)]
    starts = vx.fit(model, rows, key=jax.random.key(0), num_restarts=STARTS)
    response = vx.linear_response(model, fit, rows)
    criticism = vx.criticize(model, fit, rows, key=jax.random.key(1))
    mean, sd = (np.array([c[part] for c in reference]) for part in ("mean", "sd"))

    def log_sd_error(found: Any) -> float:
        return float(np.abs(np.log(flat(found) / sd)).max())

    draws = vx.GaussianVI().base_draws(fit.q).shape[0]
    return Row(
        name,
        d,
        np.asarray(starts.statuses),
        float(np.ptp(np.asarray(starts.elbos))),
        np.asarray(starts.runs.n_iter),
        draws * int(fit.n_iter),
        1e3 * statistics.median(seconds),
        float(np.abs((flat(fit.q.mean) - mean) / sd).max()),
        log_sd_error(fit.q.sd),
        log_sd_error(response.sd),
        float(fit.elbo),
        float(fit.elbo_se),
        float(criticism.k_hat),
        float(criticism.ess),
        vx.Verdict(int(criticism.verdict)).name,
    )


def _starts(rows: list[Row]) -> str:
    columns = "posterior, d, CONVERGED, spread, iterations, of all starts, gradients, ms"
    lines = []
    for r in rows:
        converged = f"{(r.statuses == vx.Status.CONVERGED).sum()}/{len(r.statuses)}"
        span = f"{r.iterations.min()} to {r.iterations.max()}"
        spread = f"{r.spread:.4f}"
        lines.append(
            [r.name, r.d, converged, spread, r.iterations[0], span, r.gradients, f"{r.ms:.1f}"]
        )
    return table(columns.split(", "), lines)


def _agreement(rows: list[Row]) -> str:
    apart = []
    for r in rows:
        if not r.agrees:
            others = [vx.Status(s).name for s in r.statuses if s != vx.Status.CONVERGED]
            ended = f", {len(others)} ended otherwise: {', '.join(others)}" if others else ""
            apart.append(f"{r.name} (spread {r.spread:.3f} nats{ended})")
    count = f"{len(rows) - len(apart)} of {len(rows)}"
    return f"All starts CONVERGED and agree within {NEAR} nats: {count}. Not: {_list(apart)}."


def _errors(rows: list[Row]) -> str:
    columns = "posterior, mean, log sd of q, of linear response, ELBO, k-hat, ESS, verdict"
    lines = [
        [
            r.name,
            f"{r.mean_error:.3f}",
            f"{r.q_error:.3f}",
            f"{r.response_error:.3f}",
            f"{r.elbo:.3f} ± {r.elbo_se:.3f}",
            f"{r.k_hat:.2f}",
            f"{r.ess:.3f}",
            r.verdict,
        ]
        for r in rows
    ]
    return table(columns.split(", "), lines)


def _improvement(rows: list[Row]) -> str:
    wanted = [r for r in rows if r.can_improve]
    met, not_met, others = (
        [f"{r.name} ({r.factor:.1f})" for r in some]
        for some in (
            [r for r in wanted if r.factor >= 2],
            [r for r in wanted if not r.factor >= 2],
            [r for r in rows if r.q_error > LARGE and not r.can_improve],
        )
    )
    return (
        f"Where the error of log sd is above {LARGE} and k-hat below {TAIL}, linear response is to "
        f"divide it by two or more. By how much it does: {_list(met)}. Less: {_list(not_met)}. "
        f"With a larger k-hat: {_list(others)}."
    )


def _list(items: list[str]) -> str:
    return ", ".join(items) or "none"
