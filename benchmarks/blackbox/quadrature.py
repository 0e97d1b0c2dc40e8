"""Moments of eight schools by quadrature: `python -m benchmarks.blackbox.quadrature` writes them.

Given mu and tau the schools are independent and normal, so that the posterior of every coordinate
is a mixture of normals over (mu, log tau), of which a grid has all digits. 10 000 draws have two:
their mean of log tau is 0.04 standard deviations off, half of what a good fit is.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from scipy.special import log_expit, logsumexp

from . import tables

FILE = Path(__file__).with_name("reference.json")
CENTRED = {"eight_schools_noncentred": False, "eight_schools_centred": True}
LOG_2PI = float(np.log(2 * np.pi))
MU, LOG_TAU = np.linspace(-35.0, 45.0, 641), np.linspace(-30.0, 10.0, 801)


def eight_schools(*, centred: bool) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations (10,) of mu, log tau and the z, or the theta if `centred`."""
    y, sigma = (tables.schools()[name] for name in ("y", "sigma"))
    mu, log_tau = (a[..., None] for a in np.meshgrid(MU, LOG_TAU, indexing="ij"))
    tau = np.exp(log_tau)
    share = 1.0 / (1.0 + (tau / sigma) ** 2)  # of the variance of z that its row leaves
    log_p = _log_normal(y, mu, np.hypot(sigma, tau)).sum(-1, keepdims=True)
    # tau is half-Cauchy of scale 5, so that log (tau / 5) has a density of e^v / (1 + e^2v)
    log_p = log_p + _log_normal(mu, 0.0, 5.0) + log_tau + log_expit(-2 * (log_tau - np.log(5.0)))
    p = np.exp(log_p - logsumexp(log_p))
    z = share * tau * (y - mu) / sigma**2
    effect, variance = (mu + tau * z, tau**2 * share) if centred else (z, share)
    parts = [(mu, 0.0), (log_tau, 0.0), (effect, variance)]
    means, sds = [], []
    for mean, within in parts:
        means.append(np.sum(p * mean, (0, 1)))
        sds.append(np.sqrt(np.sum(p * ((mean - means[-1]) ** 2 + within), (0, 1))))
    return np.concatenate(means), np.concatenate(sds)


def enter(name: str, entry: dict) -> None:
    """Exact means and sds in place of those of draws, in what reference.json says of a problem."""
    if name not in CENTRED:
        return
    entry["moments"] = "quadrature"
    exact = eight_schools(centred=CENTRED[name])
    for coordinate, mean, sd in zip(entry["coordinates"], *exact, strict=True):
        coordinate |= {"mean": float(f"{mean:.9g}"), "sd": float(f"{sd:.9g}")}


def _log_normal(x: np.ndarray, mean: np.ndarray | float, sd: np.ndarray | float) -> np.ndarray:
    return -0.5 * ((x - mean) / sd) ** 2 - np.log(sd) - 0.5 * LOG_2PI


def main() -> None:
    content = json.loads(FILE.read_text())
    for name in CENTRED:
        enter(name, content["problems"][name])
    FILE.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
