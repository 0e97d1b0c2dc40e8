"""Run the workloads and write results.json and results.md: `python -m benchmarks --help`."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from . import checks, machine, peers, report, workloads
from .record import Entry

HERE = Path(__file__).parent
_LIMIT = 900  # seconds; dynamax has hung in a batched factorisation of JAX on two cores


def main(argv: list[str] | None = None) -> None:
    """Each job in a process of its own, so that none inherits precision, threads or memory."""
    args = _arguments(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "results.json"
    results = _read(path) if path.exists() else {}
    if args.merge:
        results |= _read(args.merge)
    elif not args.report:
        present = [name for name in args.peers if peers.installed()[name]]
        for name in args.only:
            results[name] = _workload(name, args.quick, present)
            _write(path, results)
    _write(path, results)
    print(f"wrote {path} and {path.with_suffix('.md')}")
    failed = [e for r in results.values() for e in r["entries"] if e["who"] == "job"]
    sys.exit(f"{len(failed)} jobs failed" if failed else 0)


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())["workloads"]


def _write(path: Path, results: dict[str, Any]) -> None:
    found = {name: results[name] for name in workloads.NAMES if name in results}
    whole = {"workloads": found, "checks": [check.plain() for check in checks.all_of(found)]}
    path.write_text(json.dumps(whole, indent=1) + "\n")
    path.with_suffix(".md").write_text(report.markdown(whole))


def _workload(name: str, quick: bool, present: list[str]) -> dict[str, Any]:
    module = workloads.load(name)
    begin, found, loads = time.perf_counter(), [], []
    for job in module.jobs(quick):
        job = {"peers": present, **job, "workload": name, "quick": quick}
        tag = " ".join(str(v) for k, v in job.items() if k not in ("peers", "quick", "xla_flags"))
        tag += " with XLA_FLAGS" * ("xla_flags" in job)
        print(f"{tag} ...", end=" ", flush=True)
        before = time.perf_counter()
        done = _job(job)
        if "xla_flags" in job:
            for entry in done["entries"]:
                entry["case"] = workloads.SET + entry["case"]
        found += done["entries"]
        loads += done["load"]
        print(f"{time.perf_counter() - before:.0f} s", flush=True)
    return {
        "title": module.TITLE,
        "when": machine.now(),
        "quick": quick,
        "seconds": round(time.perf_counter() - begin),
        "load": [min(loads), max(loads)] if None not in loads else None,
        "machine": machine.describe(),
        "versions": machine.versions(),
        "entries": found,
    }


def _job(job: dict[str, Any]) -> dict[str, Any]:
    # no settings of the surroundings, but a trial may compile in haste and from a cache
    foreign = [k for k in os.environ if k.startswith("JAX_") or k == "XLA_FLAGS"]
    env = {k: v for k, v in os.environ.items() if job["quick"] or k not in foreign}
    env |= {
        "JAX_ENABLE_X64": str(int(job["dtype"] == "float64")),
        "JAX_NUM_CPU_DEVICES": str(job["devices"]),
        "PYTHONWARNINGS": "ignore",
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), env.get("PYTHONPATH", "")]),
    }
    if "xla_flags" in job:
        env["XLA_FLAGS"] = job["xla_flags"]
    if not job.get("accelerator"):
        env["JAX_PLATFORMS"] = "cpu"
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "job.json", Path(folder) / "out.json"
        given.write_text(json.dumps(job))
        try:
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.job", str(given), str(out)],
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=_LIMIT,
            )
        except subprocess.TimeoutExpired:
            print("left after its time")
            return _failed(job, f"took more than {_LIMIT // 60} minutes")
        if done.returncode or not out.exists():
            print(f"failed\n{done.stdout[-3000:]}")
            return _failed(job, done.stdout)
        return json.loads(out.read_text())


def _failed(job: dict[str, Any], text: str) -> dict[str, Any]:
    last = (text.strip().splitlines() or ["no output"])[-1][:200]
    entry = Entry(
        job.get("part", "all"), "job", job["dtype"], "s", None, job["devices"], error=last
    )
    return {"entries": [entry.plain()], "load": [machine.load()]}


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=workloads.NAMES, help="these workloads; others stay as written"
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all")
    parser.add_argument(
        "--peers", nargs="*", choices=peers.NAMES, default=list(peers.NAMES), help="only these"
    )
    parser.add_argument("--out", type=Path, help="folder of the results (with --quick a new one)")
    parser.add_argument("--report", action="store_true", help="write results.md anew, run nothing")
    parser.add_argument(
        "--merge", type=Path, help="take over the workloads of another results.json"
    )
    args = parser.parse_args(argv)
    if args.out is None:
        args.out = Path(tempfile.mkdtemp(prefix="vijax-bench-")) if args.quick else HERE
    if args.only is None:
        # the GPU table only where there is one
        args.only = [n for n in workloads.NAMES if n != "G" or shutil.which("nvidia-smi")]
    return args


if __name__ == "__main__":
    main()
