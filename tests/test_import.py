"""`import vijax` names what there is; a module is imported at the first use of one of its names."""

import os
import pickle
import subprocess
import sys

import jax
import numpy as np

import vijax as vx

INERT = """
import sys
before = set(sys.modules)
import vijax
new = sys.modules.keys() - before
own = {name for name in new if name.partition(".")[0] == "vijax"}
assert own == {"vijax", "vijax._names", "vijax._version"}, own
third_party = {name.partition(".")[0] for name in new - own} - set(sys.stdlib_module_names)
assert not third_party, f"imported {third_party}"

import jax, jaxtyping
from jax._src import xla_bridge
settings = dict(jax.config.values)
before = {name.split(".")[0] for name in sys.modules}
import os, threading
environment, threads = dict(os.environ), threading.active_count()
from vijax import *
assert set(vijax.__all__) <= set(globals())
assert not xla_bridge.backends_are_initialized(), "a backend was started"
assert dict(jax.config.values) == settings, "the configuration was changed"
assert dict(os.environ) == environment, "the environment was changed"
assert threading.active_count() == threads, "a thread was started"
after = {name.split(".")[0] for name in sys.modules}
third_party = after - before - set(sys.stdlib_module_names) - {"vijax"}
assert not third_party, f"imported {third_party}"
"""


def test_import_is_inert():
    """Of one name and of all."""
    python(INERT)


FIT = """
import sys, time
import jax, numpy as np
settings = dict(jax.config.values)
start = time.process_time()
import vijax as vx
took = time.process_time() - start
assert took < 0.08, f"the import takes {1e3 * took:.0f} ms"
x = np.random.default_rng(0).normal(size=(20, 2))
fit = vx.fit(vx.GaussianMixture.from_data(x, 2), x, key=jax.random.key(0))
print(fit.elbo.dtype)
assert dict(jax.config.values) == settings
loaded = {name.removeprefix("vijax.") for name in sys.modules if name.startswith("vijax.")}
others = {
    "criticism", "selection", "extras", "models.energy", "models.log_density", "models.univariate",
    "models.mixtures.columns", "families.independent", "infer.amortised", "infer.gradient",
    "infer.many", "infer.streaming", "infer.methods.amortised_bounds", "infer.methods.objectives",
    "infer.methods.stochastic_vi", "infer.methods.svi", "infer.methods.memoized",
    "provenance", "testing",
}
assert not loaded & others, f"a fit of a Gaussian mixture imported {loaded & others}"
"""


def test_a_fit_changes_no_setting_and_imports_no_other_models():
    env = {k: v for k, v in os.environ.items() if k != "JAX_ENABLE_X64"} | {"JAX_ENABLE_X64": "0"}
    assert python(FIT, env=env).strip() == "float32"


AGAIN = """
import pickle, sys
import vijax as vx
saved, pickled, out = sys.argv[1:]
tree = vx.load(saved)
with open(pickled, "rb") as file:
    vx.save(out, [tree, pickle.load(file)])
"""


def test_files_are_read_where_nothing_was_used_before(tmp_path, rng):
    """Their classes are found, also those without a public name, such as of a mixture's q."""
    x = rng.normal(size=(12, 2))
    rows = vx.Batch.of({"a": x[:, 0], "b": rng.poisson(3.0, 12)})
    model = vx.MixedMixture.from_data(rows, 2, {"a": "gaussian", "b": "poisson"})
    tree = [model, model.prior, vx.constraints.Interval(0.0, 1.0), vx.SVI()]
    saved, pickled, out = (tmp_path / name for name in ("saved.npz", "pickled", "out.npz"))
    vx.save(saved, tree)
    pickled.write_bytes(pickle.dumps(tree))
    python(AGAIN, saved, pickled, out)
    for came in vx.load(out):
        assert jax.tree.structure(came) == jax.tree.structure(tree)
        for a, b in zip(jax.tree.leaves(came), jax.tree.leaves(tree), strict=True):
            np.testing.assert_array_equal(a, b)


def python(script, *args, env=None):
    command = [sys.executable, "-c", script, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout
