"""Each block of docs/topics.md runs, and what the page says of it holds."""

import numpy as np

from .pages import run_page


def test_blocks():
    scope, printed = run_page("topics.md")
    assert printed.startswith("CONVERGED, ELBO ")
    assert "2 of 2 topics have share >= 0.01" in printed
    shares, words = np.asarray(scope["shares"]), scope["words"]
    at_sea = int("ship" not in [word for word, _ in words[0]])
    assert {"bread", "butter"} < {word for word, _ in words[1 - at_sea]}
    # four documents at sea, four in the kitchen, and one in both
    assert (shares[:4, at_sea] > 0.7).all()
    assert (shares[4:8, at_sea] < 0.3).all()
    assert ((shares[9] > 0.2) & (shares[9] < 0.8)).all()
    assert scope["held_out"].perplexity < 0.8 * len(scope["vocabulary"])
    np.testing.assert_array_equal(np.asarray(scope["counts"]).sum(1), 50)
    np.testing.assert_allclose(np.asarray(scope["topics"]).sum(1), 1.0, rtol=1e-5)
    found, true = (
        np.asarray(scope["mixed"].memberships(scope["found"], scope["rows"])),
        scope["share"],
    )
    assert abs(np.corrcoef(found[:, 0], true[:, 0])[0, 1]) > 0.95
