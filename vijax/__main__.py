"""`python -m vijax [DATA.csv]`: fit a Bayesian Gaussian mixture from the shell."""

from __future__ import annotations

import argparse
import csv
import importlib.util
import math
import sys
from pathlib import Path
from typing import NoReturn

import jax
import numpy as np

from . import Batch, GaussianMixture, Moves, Result, fit, save
from .data import datasets
from .models.priors.gaussian import COVARIANCES


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns 0 if the fit converged, 1 if not, and exits with 2 for bad input."""
    options = _parse(argv)
    _check_outputs(options.out, options.plot)
    if options.data is None:
        names, x = ["x0", "x1"], datasets.three_clusters()[0]
        print("no file given: 500 points from three clusters (vijax.datasets.three_clusters)")
    else:
        names, x = _read(Path(options.data), options.columns, options.missing)
    print(f"{x.shape[0]} rows, {x.shape[1]} columns; {options.num_restarts} restarts")
    try:
        rows = Batch.of(x, missing=options.missing)
        size, structure = options.num_components, options.covariance
        model = GaussianMixture.from_data(rows, size, covariance=structure)
        key, moves = jax.random.key(options.seed), Moves() if options.moves else None
        result = fit(model, rows, key=key, num_restarts=options.num_restarts, moves=moves)
    except (TypeError, ValueError, OverflowError) as error:
        _refuse(str(error))
    print(result.summary(names=names))
    try:
        if options.out:
            save(options.out, result)
            print(f"wrote {options.out}")
        if options.plot:
            _draw(result, x, names, options.plot)
            print(f"wrote {options.plot}")
    except OSError as error:
        _refuse(f"{error.filename}: cannot be written: {error.strerror}")
    return 0 if bool(result.converged) else 1


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m vijax",
        description="Fit a Bayesian Gaussian mixture to the numeric columns of a CSV file with a "
        "header; without a file, to an example. Components that the data do not need lose their "
        "weight, so NUM_COMPONENTS is an upper bound.",
    )
    parser.add_argument("data", nargs="?", metavar="DATA.csv", help="CSV file with a header")
    parser.add_argument("--columns", help="comma-separated names of the columns to use")
    parser.add_argument("--num-components", type=int, default=20, help="default: 20")
    parser.add_argument("--num-restarts", type=int, default=16, help="default: 16")
    parser.add_argument("--covariance", choices=COVARIANCES, default="full", help="default: full")
    parser.add_argument("--missing", action="store_true", help="empty cells are missing entries")
    parser.add_argument("--moves", action="store_true", help="search by merges, splits and births")
    parser.add_argument("--seed", type=int, default=0, help="of the random key; default: 0")
    parser.add_argument("--out", metavar="FIT.npz", help="write every array of the result")
    parser.add_argument("--plot", metavar="FIT.png", help="write a picture of the fit")
    options = parser.parse_args(argv)
    if options.data is None and options.plot is None:
        options.plot = "vijax-demo.png"
    return options


def _refuse(message: str) -> NoReturn:
    print(f"vijax: {message}", file=sys.stderr)
    raise SystemExit(2)


def _check_outputs(out: str | None, plot: str | None) -> None:
    """Exit before the fit if its output could not be written after it."""
    for path in (out, plot):
        if path and not Path(path).parent.is_dir():
            _refuse(f"{path}: there is no folder {Path(path).parent}")
    if plot is None:
        return
    if importlib.util.find_spec("matplotlib") is None:
        _refuse('--plot needs matplotlib: pip install "matplotlib>=3.9"')
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    kinds = FigureCanvasAgg.get_supported_filetypes()
    if Path(plot).suffix.lstrip(".").lower() not in kinds:
        _refuse(f"{plot}: a picture ends in one of .{', .'.join(sorted(kinds))}")


def _read(path: Path, columns: str | None, missing: bool) -> tuple[list[str], np.ndarray]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *lines = [line for line in csv.reader(file) if line] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        _refuse(f"{path}: cannot be read as CSV: {reason}")
    header = [name.strip() for name in header]
    names = [name.strip() for name in columns.split(",")] if columns else header
    twice = [name for name in names if header.count(name) > 1]
    if twice:
        _refuse(f"{path}: more than one column is called {twice[0]!r}")
    unknown = [name for name in names if name not in header]
    if unknown or not names:
        _refuse(f"{path}: no column {unknown[0] if unknown else ''!r}; it has {', '.join(header)}")
    if len(lines) < 2:
        _refuse(f"{path}: needs at least two rows below the header, found {len(lines)}")
    chosen = [header.index(name) for name in names]
    rows = [_numbers(path, i, line, header, chosen, missing) for i, line in enumerate(lines)]
    return names, np.array(rows)


def _numbers(
    path: Path, i: int, line: list[str], header: list[str], chosen: list[int], missing: bool
) -> list[float]:
    """The numbers of row i in the chosen columns; exits for a cell that holds none."""
    if len(line) != len(header):
        _refuse(f"{path}: row {i + 1} has {len(line)} cells, the header {len(header)}")
    values = []
    for j in chosen:
        cell = line[j].strip()
        try:
            value = float(cell or "nan")
        except ValueError:
            _refuse(
                f"{path}: column {header[j]!r} holds text ({cell!r} in row {i + 1}); "
                "choose numeric columns with --columns"
            )
        if not math.isfinite(value) and not (missing and math.isnan(value)):
            _refuse(
                f"{path}: column {header[j]!r} has no finite number in row {i + 1} ({cell!r}); "
                "remove the row, choose other columns with --columns, or say --missing"
            )
        values.append(value)
    return values


def _draw(result: Result, x: np.ndarray, names: list[str], path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from .extras import plot

    figure, axes = plt.subplots(1, 3, figsize=(13.0, 4.0), layout="constrained")
    plot.plot_mixture(result.q, x, names=names, ax=axes[0])
    axes[0].set_title("data, with 1- and 2-sigma contours")
    plot.plot_elbo(result, ax=axes[1])
    axes[1].set_title(f"{result.elbos.shape[-1]} restarts")
    plot.plot_weights(result.q, ax=axes[2])
    axes[2].set_title("posterior weights and their sd")
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
