"""One job in this process: `python -m benchmarks.job JOB.json OUT.json`; JOB is a file of JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from . import machine, workloads


def main(argv: list[str]) -> None:
    """Run the job and write its entries."""
    job = json.loads(Path(argv[0]).read_text())
    before = machine.load()
    found = workloads.load(job["workload"]).run(job)
    out = {"entries": [entry.plain() for entry in found], "load": [before, machine.load()]}
    Path(argv[1]).write_text(json.dumps(out))


if __name__ == "__main__":
    main(sys.argv[1:])
