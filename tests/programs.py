"""Counting what JAX lowers, by its own monitoring events."""

import contextlib

import jax

_EVENTS = ("jaxpr_trace_duration", "jaxpr_to_mlir_module_duration")


@contextlib.contextmanager
def programs(name):
    """The list of traces and lowerings of the jitted function `name` in the block."""
    seen = []

    def listen(event, _duration, fun_name="", **_):
        if event.endswith(_EVENTS) and fun_name.removeprefix("jit(").rstrip(")") == name:
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
