"""One file for each workload: its jobs, each a process of its own, and what a job measures.

A module has `TITLE`, `jobs(machine)` and `run(job)`. A job is a plain dict: `workload`, `dtype`,
`devices` (of JAX on the CPU), `quick`, `peers` and whatever else its `run` reads; `xla_flags`
where its process has some.
"""

from __future__ import annotations

import importlib
from typing import Any

# docs/speed.md: the loop of a small fit as one function, and whole vector registers
SMALL_LOOPS = (
    "--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold=1000000 "
    "--xla_cpu_prefer_vector_width=512"
)
# of vijax, loosest first: of work "to the same bound" the first that reaches the bound is timed.
# None above 3 nats: the best of many starts may reach a bound that none of them has settled at
TOLERANCES = tuple(3.0 * 10.0 ** (-step / 8) for step in range(53))
SET = "with XLA_FLAGS: "  # how a case of a job with `xla_flags` begins
NAMES = ("A", "B", "C", "D", "E", "G")
_MODULES = {
    "A": "tutorial",
    "B": "medium",
    "C": "large",
    "D": "many",
    "E": "restarts",
    "G": "gpu",
}


def load(name: str) -> Any:
    """The module of a workload."""
    return importlib.import_module(f".{_MODULES[name]}", __name__)
