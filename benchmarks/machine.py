"""What the figures were measured on, and what that machine can do at most."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from . import peers
from .timing import clock

_PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "joblib", "torch")


def versions() -> dict[str, str | None]:
    """Of Python, the libraries beneath and every peer; None where one is absent."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found | peers.installed()


def describe() -> dict[str, Any]:
    """Processor, cores that this process may use, memory and system; no device is touched."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "memory_gib": _memory(),
        "system": f"{platform.system()} {platform.release()}",
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError):
        return None


def matrix_rates(size: int, dtype: str, rounds: int = 7) -> dict[str, float]:
    """GFLOP/s of a product of square matrices, in NumPy and in JAX at full precision.

    On an accelerator JAX only, and for float32 also with the device's fast inputs ("tf32",
    "bfloat16").
    """
    import jax
    import jax.numpy as jnp

    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(size, size)).astype(dtype) for _ in range(2))
    fns: dict[str, Callable[[], Any]] = {}
    precisions = {"jax": "highest"}
    if jax.default_backend() == "cpu":
        out = np.empty_like(a)
        fns["numpy"] = lambda: np.matmul(a, b, out=out)
    elif dtype == "float32":
        precisions |= {"jax tf32": "tensorfloat32", "jax bfloat16": "bfloat16"}
    x, y = jnp.asarray(a), jnp.asarray(b)
    for name, precision in precisions.items():
        product = jax.jit(lambda x, y, p=precision: jnp.matmul(x, y, precision=p))
        fns[name] = lambda product=product: product(x, y)
    return {name: 2 * size**3 / _typical(fn, rounds) / 1e9 for name, fn in fns.items()}


def bandwidth(megabytes: int, rounds: int = 7) -> float:
    """GB/s, read and written, of scaling an array in place in JAX."""
    import jax
    import jax.numpy as jnp

    x = jnp.ones(megabytes * 250_000, jnp.float32)
    scale = jax.jit(lambda x: x * 1.0001, donate_argnums=0)
    times = []
    for _ in range(rounds + 1):
        seconds, x = clock(lambda x=x: scale(x))
        times.append(seconds)
    return 2 * x.nbytes / statistics.median(times[1:]) / 1e9


def _typical(fn: Callable[[], Any], rounds: int) -> float:
    clock(fn)
    return statistics.median(clock(fn)[0] for _ in range(rounds))


def load() -> float | None:
    """Processes that wanted to run during the last minute; other work disturbs the figures."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def now() -> str:
    """Date and time, UTC."""
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime())
