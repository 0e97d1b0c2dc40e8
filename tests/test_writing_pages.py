"""The pages on families, models and methods of one's own run, and what they say holds."""

import numpy as np

from .pages import run_page


def test_write_a_family():
    scope, printed = run_page("write_a_family.md")
    assert "precision x0" in printed
    found, season = np.asarray(scope["found"]), scope["season"]
    classes = [np.bincount(found[season == s], minlength=5) for s in (0, 1)]
    assert classes[0].argmax() != classes[1].argmax()
    assert classes[0].max() + classes[1].max() > 0.85 * len(season)
    path = np.asarray(scope["path"])[0]
    assert len(set(path[5:35])) == 1
    assert len(set(path[45:75])) == 1
    assert path[20] == path[100] != path[60]
    assert np.isfinite(np.asarray(scope["filled"]["speed"])).all()


def test_write_a_model():
    scope, _ = run_page("write_a_model.md")
    q = scope["fit"].q
    np.testing.assert_allclose(q.pi.mean, [0.3, 0.7], atol=0.1)
    np.testing.assert_allclose(q.rate.mean, 4.0, atol=0.4)
    assert (np.abs(np.asarray(scope["fits"].q.rate.mean) - 4.0) < 2.0).all()


def test_write_a_method():
    scope, _ = run_page("write_a_method.md")
    damped, plain = scope["damped"], scope["plain"]
    np.testing.assert_allclose(damped.elbo, plain.elbo, atol=2e-3)
    assert int(damped.n_iter) > int(plain.n_iter)
