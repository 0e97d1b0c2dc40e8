"""pomegranate: EM in PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from pomegranate.distributions import Normal
from pomegranate.gmm import GeneralMixtureModel

from ..problems import Problem

PACKAGE = "pomegranate"
DTYPES = ("float32", "float64")
WORK = "EM"


def iterations(problem: Problem) -> Callable[[int], np.ndarray]:
    """EM without a prior."""
    x = torch.as_tensor(problem.x)
    weights, means, covariances = map(torch.as_tensor, problem.parameters())

    def run(count: int) -> np.ndarray:
        before = torch.get_default_dtype()
        torch.set_default_dtype(x.dtype)  # its sums of weights are of the default dtype
        try:
            parts = [
                Normal(m.clone(), c.clone(), covariance_type=problem.covariance)
                for m, c in zip(means, covariances, strict=True)
            ]
            model = GeneralMixtureModel(
                parts, priors=weights / weights.sum(), max_iter=count, tol=-1e30, check_data=False
            )
            model.fit(x)
        finally:
            torch.set_default_dtype(before)
        return np.stack([part.means.detach().numpy() for part in parts])

    return run
