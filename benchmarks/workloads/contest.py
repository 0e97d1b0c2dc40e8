"""Time per iteration of vijax and of every peer on one problem: what B, C and a part of A do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import vijax as vx

from .. import ours, peers
from ..problems import Problem
from ..record import Entry, entries
from ..timing import Timing, slopes

_SMALL = 10_000  # rows up to which an iteration of a compiled loop takes microseconds


def contest(
    job: dict[str, Any],
    case: str,
    make: Callable[[str], Problem],
    *,
    few: tuple[int, int],
    many: tuple[int, int],
    rounds: int,
    budget: float,
) -> list[Entry]:
    """Entries of vijax (CAVI and EM) and of the peers named in the job, alternating.

    `make` gives the problem in a dtype. Peers run between `few` iterations, vijax between `many`.
    A float32 contest has peers in both precisions, as float64 is the faster for some.
    """
    dtype, devices = job["dtype"], job["devices"]
    wanted = [dtype] if dtype == "float64" else ["float32", "float64"]
    problems = {kind: make(kind) for kind in wanted}
    small = len(problems[dtype].x) <= _SMALL
    fns: dict[str, Callable[[int], Any]] = {}
    steps: dict[str, tuple[int, int]] = {}
    details: dict[str, dict[str, Any]] = {}
    again, failed = [], {}
    for method in (vx.CAVI(), vx.EM()):
        name = f"vijax {type(method).__name__}"
        fns[name], steps[name] = ours.iterations(problems[dtype], method, devices), many
    for peer in job["peers"]:
        try:
            module = peers.load(peer)
            kinds = [kind for kind in wanted if kind in module.DTYPES]
            for kind in kinds or module.DTYPES[-1:]:
                # one that knows float64 only runs in the float32 contest too, never the reverse
                if kind not in problems:
                    continue
                name = f"{peer}:{kind}"
                details[name] = {"work": module.WORK}
                refusal = getattr(module, "refuses", lambda _: None)(problems[kind])
                if refusal:
                    failed[name] = Timing(error=refusal)
                    continue
                if kind == "float64" and dtype == "float32" and peer == "dynamax":
                    continue  # its precision is that of the process
                fns[name], steps[name] = module.iterations(problems[kind]), few
                if small and getattr(module, "COMPILED", False):
                    steps[name] = many
                if getattr(module, "COMPILES_PER_COUNT", False):
                    again.append(name)
        except Exception as error:  # as in timing: a peer's failure is a result
            failed[peer] = Timing(error=f"{type(error).__name__}: {str(error)[:200]}")
    times = slopes(fns, steps, rounds, budget=budget, again=tuple(again))
    for name, timing in times.items():
        if name.startswith("vijax"):
            continue
        reference = "vijax CAVI" if "CAVI" in details[name]["work"] else "vijax EM"
        details[name] |= _agreement(timing.output, fns[reference], steps[name][0])
    return entries(
        times | failed,
        case=case,
        dtype=dtype,
        unit="ms/iteration",
        devices=devices,
        details=details,
    )


def _agreement(theirs: Any, run: Callable[[int], Any], count: int) -> dict[str, Any]:
    """How far a peer's means are from ours after as many updates, in sd within a cluster (one)."""
    if theirs is None:
        return {}
    ours_ = np.asarray(run(count + 1))  # our last iteration evaluates, and its update is left
    return {"means_differ_by": float(np.abs(ours_ - theirs).max())}
