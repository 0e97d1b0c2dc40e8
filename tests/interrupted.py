"""A process that fits without end, for test_interrupt.py, which sends it a signal.

It writes "running" once a large program has been compiled and, when the fit is over, how it ended
and the processor time of the second after that.
"""

import signal
import sys
import time

import jax
import numpy as np

import vijax as vx

ENDLESS = vx.Stop(max_iter=10**8, tol=0.0, patience=10**8)


def fits(rng):
    """A call for each path through the drivers."""
    x = np.concatenate([rng.normal(size=(2000, 2)), rng.normal(size=(2000, 2)) + 3.0])
    model = vx.GaussianMixture.from_data(x, 5)
    key, moves = jax.random.key(0), vx.Moves(max_trials=10**7, patience=10**7)
    endless = {"key": key, "stop": ENDLESS}
    sets = [x[i : i + 1000 + 100 * i] for i in range(5)]
    return {
        "fit": lambda **told: vx.fit(model, x, **endless, **told),
        "restarts": lambda **told: vx.fit(model, x, num_restarts=4, **endless, **told),
        "many": lambda **told: vx.fit_many(model, sets, **endless, **told),
        "lanes": lambda **told: vx.fit_many(model, sets, layout=2, **endless, **told),
        "chunks": lambda **told: vx.fit(model, vx.Chunks.of(x, chunk=1000), **endless, **told),
        "moves": lambda **told: vx.fit(model, x, key=key, moves=moves, **told),
    }


def say(line):
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(path, told):
    run = fits(np.random.default_rng(0))[path]

    def on_event(event, seconds, **_):
        if event.endswith("backend_compile_duration") and seconds > 0.2 and not told_so:
            told_so.append(event)
            say("running")

    told_so = []
    jax.monitoring.register_event_duration_secs_listener(on_event)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored in a shell
    try:
        result = run(callback=lambda report: None) if told else run()
        status = np.unique(np.asarray(result.status)).tolist()
        ended = f"{status} {bool(np.isfinite(result.elbo).any())}"
    except KeyboardInterrupt:
        ended = "KeyboardInterrupt"
    before = time.process_time()
    time.sleep(1.0)
    say(f"{ended}|{time.process_time() - before:.3f}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] == "told")
