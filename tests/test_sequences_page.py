"""Each block of docs/sequences.md runs, and what the page says of it holds."""

import numpy as np
from sklearn.metrics import adjusted_rand_score

from .pages import run_page


def test_blocks():
    scope, printed = run_page("sequences.md")
    assert printed.startswith("CONVERGED, ELBO ")
    assert printed.count("3 of 6 states have share >= 0.01") == 2
    paths, states = np.asarray(scope["paths"]), scope["states"]
    assert paths.shape == (5, 400)
    np.testing.assert_array_equal(paths[0, 250:], -1)
    found = np.concatenate([paths[0, :250], *paths[1:]])
    assert adjusted_rand_score(np.concatenate([states[0][:250], *states[1:]]), found) > 0.6
    smooth, now = np.asarray(scope["smooth"]), np.asarray(scope["now"])
    np.testing.assert_allclose(smooth[1].sum(-1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(now[:, -1], smooth[:, -1], atol=1e-5)
    np.testing.assert_array_equal(smooth[0, 250:], 0.0)
    filled, sd = np.asarray(scope["filled"]), np.asarray(scope["sd"])
    assert np.isfinite(filled).all()
    assert (sd[1, 17] > 0.5).all()
    assert sd[2, 30, 0] > 0.5
    assert sd[2, 30, 1] == 0.0
    assert scope["ahead"].mean.shape == (5, 10, 2)
    np.testing.assert_allclose(scope["ahead"].states.sum(-1), 1.0, rtol=1e-5)
    assert scope["new"].shape == (3, 100, 2)
    assert (
        np.asarray(scope["bounds"])
        < np.asarray(scope["model"].log_likelihood(scope["fit"], scope["rows"]))
    ).all()
    ordered = [np.asarray(own) for own in scope["path_of_growth"]]
    assert all(own[0] == 0 and np.isin(np.diff(own), [0, 1]).all() for own in ordered)
    right = np.concatenate(ordered) == np.concatenate(scope["stages"])
    assert right.mean() > 0.7
    cluster = np.asarray(scope["cluster"])
    assert adjusted_rand_score(np.arange(40) % 2, cluster) > 0.9
    kind = np.asarray(scope["kind"])
    assert adjusted_rand_score(np.arange(16) % 2, kind) > 0.9
