"""How a fit ended, and what to do then."""

from __future__ import annotations

import enum


class Status(enum.IntEnum):
    """How a fit ended, an integer; each fit has its own, also inside of jit and vmap."""

    RUNNING = 0
    CONVERGED = 1
    MAX_ITER = 2
    ELBO_DECREASED = 3
    NON_FINITE = 4
    COLLAPSED = 5
    DROPPED = 6
    INTERRUPTED = 7
    STALLED = 8


REMEDIES = {
    Status.RUNNING: "the loop was left early; this is a defect in the method",
    Status.MAX_ITER: "the iteration limit came first: raise Stop.max_iter or Stop.tol",
    Status.ELBO_DECREASED: (
        "the objective fell by more than rounding, so the local step and the update disagree; "
        "the state before the fall is returned; in float32, try float64"
    ),
    Status.NON_FINITE: (
        "the objective became NaN or infinite; the last finite state, if any, is returned; look "
        "for NaN in this data set, columns of very different size, or a prior that is nearly "
        "improper; the start of a log density must be finite: give another init, or constraints"
    ),
    Status.COLLAPSED: (
        "a component shrank onto a single point or lost all its rows, where the likelihood has "
        "no maximum: use more restarts, fewer components, or a proper prior"
    ),
    Status.INTERRUPTED: (
        "Ctrl-C or the callback ended it early: take the best so far, or continue with init=result"
    ),
    Status.STALLED: (
        "no step raises the objective although the best is not reached: the log density is rough "
        "or breaks off, so try another start, other constraints, or float64"
    ),
    Status.DROPPED: "a restart that Halving left early; the fit that is returned never is one",
}
