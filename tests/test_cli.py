"""`python -m vijax` on real files, good and bad."""

import gzip
import io
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from sklearn.datasets import load_wine

import vijax as vx
from vijax.__main__ import main


@pytest.fixture
def wine(tmp_path):
    """The wine data as a spreadsheet would save them, with a column of text."""
    data = load_wine()
    path = tmp_path / "wine.csv"
    names = [name.replace(",", ";") for name in data.feature_names]
    lines = [",".join([*names, "class"])]
    for row, kind in zip(data.data, data.target, strict=True):
        lines.append(",".join([*map(repr, map(float, row)), f"kind {kind}"]))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_wine(wine, tmp_path, capsys):
    out, picture = tmp_path / "fit.npz", tmp_path / "fit.png"
    columns = "alcohol,malic_acid,flavanoids,color_intensity,proline"
    options = ["--columns", columns, "--num-components", "6", "--num-restarts", "8"]
    code = main([str(wine), *options, "--out", str(out), "--plot", str(picture)])
    printed = capsys.readouterr()
    assert code == 0
    assert printed.err == ""
    assert "178 rows, 5 columns; 8 restarts" in printed.out
    assert "CONVERGED, ELBO -" in printed.out
    for name in columns.split(","):
        assert f"mean {name}" in printed.out
    with np.load(out, allow_pickle=False) as saved:
        assert saved["q.weights.conc"].shape == (6,)
        assert saved["q.components.square"].shape == (6, 5, 5)
        assert saved["runs.elbo"].shape == (8,)
        assert saved["elbo"] == np.nanmax(saved["elbo_trace"])
        assert np.isfinite(saved["elbo"])
        assert all(saved[name].dtype != object for name in saved)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_all_of_the_wine_in_a_process(wine, tmp_path):
    """The command as a user types it, in 13 columns; it must end, so with a time limit."""
    out, picture = tmp_path / "fit.npz", tmp_path / "fit.png"
    files = ["--out", str(out), "--plot", str(picture)]
    columns = ",".join(load_wine().feature_names)
    command = [sys.executable, "-m", "vijax", str(wine), "--columns", columns, *files]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert run.stderr == ""
    assert "178 rows, 13 columns; 16 restarts\nCONVERGED, ELBO -340" in run.stdout
    assert "best of 16 restarts (16 CONVERGED)" in run.stdout
    with np.load(out, allow_pickle=False) as saved:
        assert saved["q.components.square"].shape == (20, 13, 13)
    assert picture.stat().st_size > 10_000


def test_all_arrays_of_the_result_are_written(wine, tmp_path):
    out = tmp_path / "fit.npz"
    main([str(wine), "--columns", "alcohol,proline", "--num-components", "3", "--out", str(out)])
    with np.load(out, allow_pickle=False) as saved:
        names = set(saved.files)
    for field in ("q.components.kappa", "status", "n_iter", "elbo_trace", "runs.status"):
        assert field in names
    assert len(names) == 6 + 4 + 4 + 1


def write(path, text):
    path.write_text(text)
    return str(path)


BAD = {
    "text": ("a,b\n1,2\n3,x\n", "column 'b' holds text ('x' in row 2)"),
    "nan": ("a,b\n1,nan\n3,4\n", "column 'b' has no finite number in row 1 ('nan')"),
    "empty cell": ("a,b\n1,2\n,4\n", "column 'a' has no finite number in row 2 ('')"),
    "infinite": ("a,b\n1,2\n3,-inf\n", "column 'b' has no finite number in row 2"),
    "one row": ("a,b\n1,2\n", "needs at least two rows below the header, found 1"),
    "header only": ("a,b\n", "needs at least two rows below the header, found 0"),
    "nothing": ("", "no column"),
    "ragged": ("a,b\n1,2\n3\n", "row 2 has 1 cells, the header 2"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_cannot_be_used_is_one_line_and_exit_2(name, tmp_path, capsys):
    text, message = BAD[name]
    path = write(tmp_path / "data.csv", text)
    with pytest.raises(SystemExit) as error:
        main([path])
    assert error.value.code == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert printed.err.startswith(f"vijax: {path}: ")
    assert message in printed.err
    assert "Traceback" not in printed.err


def test_other_refusals(tmp_path, capsys):
    good = write(tmp_path / "good.csv", "a,b\n1,2\n3,4\n5,6\n")
    twice = write(tmp_path / "twice.csv", "a,a,b\n1,5,2\n2,6,3\n3,9,9\n")
    for arguments, message in (
        (["none.csv"], "none.csv: cannot be read as CSV: No such file or directory"),
        ([str(tmp_path)], "cannot be read as CSV: Is a directory"),
        ([good, "--columns", "a,c"], "no column 'c'; it has a, b"),
        ([twice], "more than one column is called 'a'"),
        ([good, "--seed", "9" * 30], "vijax: "),
        ([good, "--num-components", "0"], "num_components: must be at least 1, got 0"),
        ([good, "--num-restarts", "0"], "num_restarts: must be at least 1, got 0"),
        ([good, "--covariance", "banana"], "invalid choice"),
        ([good, "--out", "no/such/folder/fit.npz"], "no/such/folder"),
        ([good, "--plot", "no/such/folder/fit.png"], "no/such/folder"),
        ([good, "--plot", "fit.nonsense"], "fit.nonsense: a picture ends in one of ."),
        ([good, "--out", str(tmp_path)], "cannot be written: is a folder"),
        ([good, "--labels", "no/such/folder/labels.csv"], "no/such/folder"),
        ([good, "--labels", str(tmp_path)], "cannot be written: is a folder"),
        ([good, "--labels", good], "would be written over the data"),
        ([good, "--kinds", "a=banana"], "--kinds: expected NAME=KIND"),
        ([good, "--kinds", "a"], "--kinds: expected NAME=KIND"),
        ([good, "--kinds", "a=poisson,a=bernoulli"], "--kinds has 'a' more than once"),
        ([good, "--kinds", "c=poisson"], "no column 'c' to be poisson; it has a, b"),
        ([good, "--kinds", "a=poisson", "--covariance", "diag"], "--covariance: not with --kinds"),
        ([good, "--kinds", "a=poisson", "--plot", "fit.png"], "so not with --kinds"),
        ([good, "--max-iter", "0"], "max_iter"),
        ([good, "--tol", "nan"], "tol"),
        ([good, "--sep", "tabs"], "sep: expected one character"),
        ([good, "--columns", '"a,b"'], "no column 'a,b'; it has a, b"),
    ):
        with pytest.raises(SystemExit) as error:
            main(arguments)
        assert error.value.code == 2
        assert message in capsys.readouterr().err


def test_from_the_shell(tmp_path):
    """Also where the shell cannot show every letter."""
    good = tmp_path / "good.csv"
    good.write_text("\ufeffw\u00efdth, height\n1,2\n3,4.5\n\n5,1e1\n", encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "vijax", good, "--num-components", "2", "--num-restarts", "2"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert "3 rows, 2 columns" in run.stdout
    assert "mean height" in run.stdout
    assert "mean w\\xefdth" in run.stdout
    assert run.stderr == ""


def test_the_default_is_the_demo(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert "500 rows, 2 columns; 16 restarts" in printed
    assert "best of 16 restarts (16 CONVERGED)" in printed
    assert "3 of 20 components have weight >= 0.01" in printed
    assert (tmp_path / "vijax-demo.png").stat().st_size > 10_000


# -- one shape of program for all that follows ------------------------------------------------

TWO = ("--num-components", "2", "--num-restarts", "2")


def two_clusters():
    """Rows in clusters around (0, 10) and (5, 30), in this order by turns."""
    rng = np.random.default_rng(0)
    truth = np.arange(40) % 2
    return np.array([[0.0, 10.0], [5.0, 30.0]])[truth] + rng.normal(0.0, 0.5, (40, 2)), truth


def as_text(x, sep=",", decimal=".", header=("a", "b")):
    lines = [sep.join(header), *(sep.join(f"{v:.4f}".replace(".", decimal) for v in r) for r in x)]
    return "\n".join(lines) + "\n"


def test_labels_of_every_row(tmp_path, monkeypatch, capsys):
    x, truth = two_clusters()
    labels, out = tmp_path / "labels.csv", tmp_path / "fit.npz"
    packed = gzip.compress(as_text(x, ";", ",").encode())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(packed)))
    options = ["--decimal", ",", "--labels", str(labels), "--out", str(out)]
    assert main(["-", *options, *TWO]) == 0
    printed = capsys.readouterr()
    assert f"wrote {labels}" in printed.out
    assert printed.err == ""
    head, *lines = labels.read_text().splitlines()
    assert head == "row,component,p0,p1"
    found = np.array([line.split(",") for line in lines], float)
    np.testing.assert_array_equal(found[:, 0], np.arange(1, 41))
    np.testing.assert_array_equal(found[:, 1], found[:, 2:].argmax(1))
    np.testing.assert_allclose(found[:, 2:].sum(1), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(found[:, 1] == found[0, 1], truth == truth[0])
    # to the last digit what the library says of this fit, whose file knows its columns
    model = vx.GaussianMixture.from_data(np.round(x, 4), 2)
    saved = vx.load(out)
    assert saved.names == ("a", "b")
    expected = model.responsibilities(saved.q, np.round(x, 4))
    np.testing.assert_allclose(found[:, 2:], expected, rtol=1e-6, atol=1e-30)


def test_a_fit_that_did_not_converge_is_exit_1_and_says_what_to_do(tmp_path, capsys):
    path = write(tmp_path / "good.csv", as_text(two_clusters()[0]))
    assert main([path, *TWO, "--max-iter", "1"]) == 1
    printed = capsys.readouterr().out
    assert "MAX_ITER, ELBO -" in printed
    last = printed.splitlines()[-1]
    assert last.startswith("MAX_ITER: 1 iterations were too few: raise --max-iter")
    assert "--tol, which is 0.001 nats" in last
    assert main([path, *TWO, "--tol", "1e-2"]) == 0
    assert vx.Status.MAX_ITER == 2


def test_a_warning_is_one_line(tmp_path, monkeypatch, capsys):
    def noisy(*args, **options):
        warnings.warn("column 0 steps\n by 191", stacklevel=2)
        return vx.fit(*args, **options)

    monkeypatch.setattr("vijax.__main__.fit", noisy)
    assert main([write(tmp_path / "good.csv", as_text(two_clusters()[0])), *TWO]) == 0
    assert capsys.readouterr().err == "vijax: warning: column 0 steps by 191\n"


def test_a_reader_that_leaves_costs_nothing(tmp_path, monkeypatch, capfd):
    """As `| head` does: files are written all the same, and nobody complains."""
    path, out = write(tmp_path / "good.csv", as_text(two_clusters()[0])), tmp_path / "fit.npz"
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as broken:
        monkeypatch.setattr(sys, "stdout", broken)
        assert main([path, *TWO, "--out", str(out)]) == 0
    assert vx.load(out).names == ("a", "b")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("option", "code"), [("--help", 0), ("none.csv", 2)])
def test_a_process_whose_reader_has_left(option, code):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "vijax", option]
    run = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert run.returncode == code
    assert run.stderr.count("\n") == (code == 2)


def test_columns_of_several_kinds(tmp_path, capsys):
    rng = np.random.default_rng(1)
    truth = np.arange(60) % 2
    visits, kind = rng.poisson(np.where(truth, 40, 4)), np.where(truth, "wet", "dry")
    rows = "".join(f"{v}\t{k}\n" for v, k in zip(visits, kind, strict=True))
    path = write(tmp_path / "mixed.tsv", "visits\tkind\n" + rows)
    labels = tmp_path / "labels.csv"
    kinds = ["--kinds", "visits=poisson,kind=categorical", "--labels", str(labels)]
    assert main([path, *kinds, "--num-components", "2", "--num-restarts", "1"]) == 0
    printed = capsys.readouterr().out
    assert "60 rows, 2 columns" in printed
    assert "rate visits" in printed
    assert "p kind=wet" in printed
    found = np.loadtxt(labels, delimiter=",", skiprows=1)
    np.testing.assert_array_equal(found[:, 1] == found[0, 1], truth == truth[0])


def test_version(capsys):
    with pytest.raises(SystemExit) as error:
        main(["--version"])
    assert error.value.code == 0
    assert capsys.readouterr().out == f"vijax {vx.__version__}\n"
