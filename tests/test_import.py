"""`import vijax` does nothing but define names."""

import subprocess
import sys

SCRIPT = """
import sys
import jax, jaxtyping
from jax._src import xla_bridge
settings = dict(jax.config.values)
before = {name.split(".")[0] for name in sys.modules}
import os, threading
environment, threads = dict(os.environ), threading.active_count()
import vijax
assert not xla_bridge.backends_are_initialized(), "a backend was started"
assert dict(jax.config.values) == settings, "the configuration was changed"
assert dict(os.environ) == environment, "the environment was changed"
assert threading.active_count() == threads, "a thread was started"
after = {name.split(".")[0] for name in sys.modules}
third_party = after - before - set(sys.stdlib_module_names) - {"vijax"}
assert not third_party, f"imported {third_party}"
"""


def test_import_is_inert():
    subprocess.run([sys.executable, "-c", SCRIPT], check=True)


def test_a_fit_changes_no_setting():
    script = """
import jax, numpy as np
settings = dict(jax.config.values)
import vijax as vx
x = np.random.default_rng(0).normal(size=(20, 2))
fit = vx.fit(vx.GaussianMixture.from_data(x, 2), x, key=jax.random.key(0))
print(fit.elbo.dtype)
assert dict(jax.config.values) == settings
"""
    clean = {"JAX_ENABLE_X64": "0"}
    run = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        env=clean | _env(),
    )
    assert run.stdout.strip() == "float32"


def _env():
    import os

    return {k: v for k, v in os.environ.items() if k != "JAX_ENABLE_X64"}
