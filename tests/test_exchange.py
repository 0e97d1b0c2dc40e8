"""Fits as data frames, labelled arrays as rows, and `jax.export` of what takes models and fits."""

import dataclasses

import jax
import numpy as np
import pandas as pd
import pytest

import vijax as vx
from vijax import _pytree
from vijax.constraints import Interval


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    side = np.repeat([0, 1], 20)
    x = pd.DataFrame(rng.normal(6.0 * side[:, None], size=(40, 2)), columns=["a", "b"])
    model = vx.GaussianMixture.from_data(x, 2)
    return model, x, vx.fit(model, x, init=side)


def test_frame_of_one_fit(fitted):
    _, _, fit = fitted
    frame = fit.to_frame()
    assert list(frame) == ["component", "weight", "weight sd", "mean a", "mean b", "sd a", "sd b"]
    np.testing.assert_array_equal(frame["component"], [0, 1])
    np.testing.assert_allclose(frame["mean b"], fit.q.components.mean[:, 1], rtol=1e-6)
    point = dataclasses.replace(fit, point=True).to_frame()
    assert "weight sd" not in point
    density = vx.LogDensity(lambda p: -0.5 * p["u"] ** 2, like={"u": 0.0})
    with pytest.raises(TypeError, match="TransformedNormal has no components"):
        vx.fit(density).to_frame()


def test_labelled_arrays():
    xarray = pytest.importorskip("xarray")
    x = np.arange(6.0).reshape(3, 2)
    array = xarray.DataArray(x, dims=["row", "column"], coords={"column": ["a", "b"]})
    batch = vx.Batch.of(array)
    assert batch.names == ("a", "b")
    np.testing.assert_array_equal(batch.x, x)
    assert vx.Batch.of(xarray.DataArray(x)).names is None
    assert vx.Batch.of(array.to_dataset("column")).x.keys() == {"a", "b"}


def test_arrow_tables():
    arrow = pytest.importorskip("pyarrow")
    batch = vx.Batch.of(arrow.table({"a": [1.0, 2.0], "b": [3.0, 4.0]}))
    assert batch.names == ("a", "b")
    np.testing.assert_array_equal(batch.x, [[1.0, 3.0], [2.0, 4.0]])


def test_static_values_as_bytes():
    values = (None, True, 3, 1.5, "a", ("b", (1, ())), Interval(0.0, 2.0))
    again = _pytree._from_bytes(_pytree._as_bytes(values))
    assert again[:-1] == values[:-1]
    assert (again[-1].low, again[-1].high) == (0.0, 2.0)
    with pytest.raises(ValueError, match="no file holds a object"):
        _pytree._as_bytes((object(),))


def read(model, fit, x):
    return model.predict(fit, x), fit


def test_export_of_models_and_fits(fitted):
    pytest.importorskip("flatbuffers")
    model, x, fit = fitted
    rows = np.asarray(x)
    exported = jax.export.export(jax.jit(read))(model, fit, rows)
    back = jax.export.deserialize(bytearray(exported.serialize()))
    labels, again = back.call(model, fit, rows)
    np.testing.assert_array_equal(labels, model.predict(fit, rows))
    assert isinstance(again, vx.Result)
    assert again.names == ("a", "b")
    np.testing.assert_array_equal(again.elbo, fit.elbo)
