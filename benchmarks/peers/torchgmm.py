"""torchgmm: EM in PyTorch Lightning, float32."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable

import numpy as np
import torch

from ..problems import Problem

PACKAGE = "torchgmm"
DTYPES = ("float32",)
WORK = "EM"


def iterations(problem: Problem) -> Callable[[int], np.ndarray]:
    """EM without a prior from the start's means; it chooses the covariances to start with."""
    os.environ.setdefault("LIGHTNING_DISABLE_TIPS", "1")
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    from torchgmm.bayes import GaussianMixture

    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    x = torch.as_tensor(problem.x.astype(np.float32))
    means = torch.as_tensor(problem.parameters()[1].astype(np.float32))

    def run(count: int) -> np.ndarray:
        peer = GaussianMixture(
            problem.k,
            covariance_type=problem.covariance,
            init_means=means,
            convergence_tolerance=0,
            trainer_params={
                "max_epochs": count,
                "accelerator": "cpu",
                "enable_progress_bar": False,
                "logger": False,
                "enable_checkpointing": False,
                "enable_model_summary": False,
            },
        )
        peer.fit(x)
        return peer.model_.means.numpy()

    return run
