"""Compilation in haste, for programs that run once and for a moment."""

import functools

import jax

_OPTIONS = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}


@functools.cache
def _known():
    """Those of the options that this jaxlib has; a compiler's flags come and go."""
    known = {}
    for name, value in _OPTIONS.items():
        try:
            jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
            known[name] = value
        except Exception:
            continue
    return known


def fast_jit(fn):
    """jax.jit with the options, looked up at the first call."""
    jitted = []

    @functools.wraps(fn)
    def call(*args):
        if not jitted:
            jitted.append(jax.jit(fn, compiler_options=_known()))
        return jitted[0](*args)

    return call
