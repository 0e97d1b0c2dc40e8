"""Each block of docs/scikit_learn.md runs, and what the page says of it holds."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from .pages import run_page


@pytest.mark.long
def test_blocks():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of EM without a maximum
        scope, printed = run_page("scikit_learn.md")
    assert "CONVERGED, ELBO" in printed
    assert (scope["model"].weights_ > 0.01).sum() < 10
    assert scope["shares"].shape == (150, 3)
    heavy, kinds = scope["heavy"], scope["kinds"]
    assert len(set(kinds)) == 2
    assert np.mean(kinds[heavy] == kinds[heavy][0]) > 0.9
    states, path = scope["states"], scope["path"]
    assert abs(np.mean(path == states) - 0.5) > 0.4
