"""Compilation in haste, for programs that run once and for a moment."""

import os
import subprocess
import sys

_FLAGS = (
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
    "--xla_disable_hlo_passes=hlo-verifier",
)


def xla_flags():
    """Those of the flags that this jaxlib has: they come and go, and a process ends at others."""
    start = "import jax; jax.devices('cpu')"

    def known(*flags):
        env = os.environ | {"XLA_FLAGS": " ".join(flags), "JAX_PLATFORMS": "cpu"}
        run = subprocess.run([sys.executable, "-c", start], env=env, capture_output=True)
        return run.returncode == 0

    return " ".join(_FLAGS if known(*_FLAGS) else [flag for flag in _FLAGS if known(flag)])
