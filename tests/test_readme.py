"""The README's code runs as it stands, and says what it says."""

import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from sklearn.metrics import adjusted_rand_score

import vijax as vx

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_examples(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 6
    assert len(blocks[0].strip().splitlines()) <= 10
    scope = {}
    exec(blocks[0], scope)
    printed = capsys.readouterr().out
    assert printed.startswith("CONVERGED, ELBO ")
    assert "3 of 20 components have weight >= 0.01" in printed
    assert scope["labels"].shape == (500,)
    exec(blocks[1], scope)
    printed = capsys.readouterr().out
    assert printed.startswith("CONVERGED, ELBO ")
    assert "3 of 10 components have weight >= 0.01" in printed
    assert "rate visits" in printed
    truth = vx.datasets.mixed_table()[1]
    found = scope["model"].predict(scope["fit"].q, scope["rows"])
    assert adjusted_rand_score(truth, found) > 0.75
    assert set(scope["filled"]) == {"width", "length", "visits", "kind"}
    exec(blocks[2], scope)
    printed = capsys.readouterr().out
    assert printed.startswith("CONVERGED, ELBO ")
    assert "3 of 8 states have share >= 0.01" in printed
    paths, states = np.concatenate(scope["paths"]), np.concatenate(scope["states"])
    assert adjusted_rand_score(states, paths) > 0.6
    exec(blocks[3], scope)
    assert capsys.readouterr().out.startswith("100 fits: 100 CONVERGED")
    assert scope["used"].shape == (100,)
    assert jnp.median(scope["used"]) == 2
    exec(blocks[4], scope)
    printed = capsys.readouterr().out
    assert printed.startswith("CONVERGED, ELBO ")
    low, median, high = map(float, re.findall(r"slope +(\S+) +(\S+) +(\S+)", printed)[0])
    assert low < median < high
    assert abs(median - 2.0) < 0.5
    assert scope["trust"].verdict == vx.Verdict.GOOD
    exec(blocks[5], scope)
    assert scope["own"].elbo < scope["fit"].elbo


def test_links_and_pictures_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (Path(__file__).parents[1] / target).exists(), target


def test_no_install_line_names_the_foreign_package():
    for line in README.splitlines():
        assert not re.search(r"pip install (-U )?\"?vijax\"?\s*$", line), line


def test_its_picture_is_a_picture():
    data = np.fromfile(Path(__file__).parents[1] / "docs/demo.png", np.uint8)
    assert bytes(data[1:4]) == b"PNG"
