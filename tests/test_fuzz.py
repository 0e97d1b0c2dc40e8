"""Random configurations: finite or a truthful status, monotone, and never an exception in jit."""

import os

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vijax as vx

STRUCTURES = ("full", "tied", "diag", "spherical")
# few shapes, so that most of the hundred share a program
SHAPES = [(1, 1, 2), (2, 3, 3), (7, 2, 3), (30, 2, 4), (30, 5, 2), (4, 6, 3)]
STOP = vx.Stop(max_iter=60, trace=64)


@st.composite
def configurations(draw):
    return {
        "shape": draw(st.sampled_from(SHAPES)),
        "structure": draw(st.sampled_from(STRUCTURES)),
        "weights": draw(st.sampled_from(["dirichlet", "process"])),
        "dtype": draw(st.sampled_from([np.float32, np.float64])),
        "scale": 10.0 ** draw(st.integers(-6, 6)),
        "offset": draw(st.sampled_from([0.0, 1.0, 1e3])),
        "kind": draw(st.sampled_from(["normal", "constant column", "ties", "outlier", "line"])),
        "missing": draw(st.sampled_from([0.0, 0.0, 0.3])),
        "weighted": draw(st.booleans()),
        "conc": 10.0 ** draw(st.integers(-4, 2)),
        "kappa": 10.0 ** draw(st.integers(-4, 2)),
        "df": 10.0 ** draw(st.integers(-2, 2)),
        "em": draw(st.booleans()),
        "seed": draw(st.integers(0, 2**16)),
    }


def rows_of(c):
    rng = np.random.default_rng(c["seed"])
    n, d, _ = c["shape"]
    x = rng.normal(size=(n, d))
    if c["kind"] == "constant column":
        x[:, 0] = 1.0
    if c["kind"] == "ties":
        x = np.round(x)
    if c["kind"] == "outlier":
        x[0] *= 1e3
    if c["kind"] == "line":
        x = x[:, :1] * np.ones(d)
    x = ((x + c["offset"]) * c["scale"]).astype(c["dtype"])
    weight = rng.choice([0.0, 0.5, 1.0, 3.0], size=n) if c["weighted"] else np.ones(n)
    weight[0] = 1.0
    mask = rng.random(x.shape) >= c["missing"]
    mask[0] = True
    return vx.Batch.of(x, weight.astype(c["dtype"]), mask=mask if c["missing"] else None)


def model_of(c, batch):
    n, d, k = c["shape"]
    prior = {"conc": c["conc"]}
    if c["weights"] == "process":
        prior = {"weights": vx.StickBreaking.dirichlet_process(c["conc"], k)}
    least = d - 1.0 if c["structure"] in ("full", "tied") else 0.0
    return vx.GaussianMixture.from_data(
        batch, k, covariance=c["structure"], kappa=c["kappa"], df=least + c["df"], **prior
    )


@settings(
    max_examples=20 if os.environ.get("CI") else 100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(configurations())
def test_anything_goes(c):
    batch = rows_of(c)
    model = model_of(c, batch)
    method = vx.EM() if c["em"] else vx.CAVI()
    fit = vx.fit(model, batch, key=jax.random.key(c["seed"]), method=method, stop=STOP)
    status = vx.Status(int(fit.status))
    assert status in (vx.Status.CONVERGED, vx.Status.MAX_ITER), status.name
    assert np.isfinite(fit.elbo)
    assert fit.elbo.dtype == c["dtype"]
    for leaf in jax.tree.leaves(fit.q):
        assert jnp.isfinite(leaf).all()
    trace = np.asarray(fit.elbo_trace)
    trace = trace[np.isfinite(trace)]
    eps, rows = np.finfo(c["dtype"]).eps, float(batch.weight.sum())
    slack = 64 * eps * (np.abs(trace[1:]) + rows + batch.x.size)
    assert (np.diff(trace) >= -slack).all()
    resp = np.asarray(model.responsibilities(fit.q, batch))
    np.testing.assert_allclose(resp.sum(1), 1.0, rtol=1e-4)
