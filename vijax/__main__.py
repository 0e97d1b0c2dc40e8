"""`python -m vijax [DATA.csv]`: fit a Bayesian mixture from the shell."""

from __future__ import annotations

import argparse
import csv
import importlib.util
import io
import os
import sys
import warnings
from pathlib import Path
from typing import NoReturn

import jax
import numpy as np
from jaxtyping import Float

from . import (
    Batch,
    GaussianMixture,
    MixedMixture,
    Moves,
    Result,
    Status,
    Stop,
    __version__,
    fit,
    save,
)
from ._pytree import replace
from .data import datasets
from .extras.csv_table import CsvFormat, CsvTable, read_csv
from .infer.status import REMEDIES
from .models.priors.gaussian import COVARIANCES
from .models.priors.table import KINDS

_EXIT_CODES = "Exit status: 0 if the fit converged, 1 if it did not, 2 for bad input."


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns 0 if the fit converged, 1 if not, and exits with 2 for bad input."""
    options = _parse(argv)
    try:
        kinds = _kinds(options)
        _check_outputs(options)
        table = _read(options, kinds)
        _describe(table, options)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            model, rows = _build(table, options, kinds)
            result = _fit(model, rows, options)
            result = replace(result, names=tuple(table.columns))
            labels = np.asarray(model.responsibilities(result.q, rows)) if options.labels else None
    except (TypeError, ValueError, OverflowError) as error:
        _refuse(str(error))
    for warning in caught:
        print(f"vijax: warning: {_one_line(str(warning.message))}", file=sys.stderr)
    _say(result.summary())
    _write(result, table, labels, options)
    if not bool(result.converged):
        _say(_advice(Status(int(result.status)), options))
    return 0 if bool(result.converged) else 1


# -- the command ----------------------------------------------------------------------------------


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m vijax",
        description="Fit a Bayesian Gaussian mixture to the numeric columns of a CSV file with a "
        "header; without a file, to an example. Components that the data do not need lose their "
        "weight, so NUM_COMPONENTS is an upper bound.",
        epilog=_EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"vijax {__version__}")
    parser.add_argument(
        "data", nargs="?", metavar="DATA.csv", help="CSV file, also gzipped; - is standard input"
    )
    file = parser.add_argument_group("how the file is written")
    file.add_argument("--columns", help="comma-separated names of the columns to use")
    file.add_argument(
        "--sep", help="separator, also tab, or ' ' for any blanks; default: a comma, in .tsv a tab"
    )
    file.add_argument(
        "--decimal", default=".", metavar="MARK", help="default: . (beside , sep is ;)"
    )
    file.add_argument("--encoding", help="default: UTF-8, or latin-1 where it is none")
    file.add_argument(
        "--comment", help="what comment lines begin with; default: # before the header"
    )
    file.add_argument("--no-header", action="store_true", help="columns are called x0, x1, ...")
    file.add_argument(
        "--missing", action="store_true", help="empty cells, NA, NaN and null are missing entries"
    )
    file.add_argument(
        "--na", action="append", default=[], metavar="TOKEN", help="cells that are missing as well"
    )
    model = parser.add_argument_group("the fit")
    model.add_argument(
        "--kinds",
        metavar="NAME=KIND,...",
        help=f"columns that are not Gaussian; a kind is {', '.join(_column_kinds())}. Columns are "
        "then independent given the component",
    )
    model.add_argument("--num-components", type=int, default=20, help="default: 20")
    model.add_argument("--num-restarts", type=int, default=16, help="default: 16")
    model.add_argument("--covariance", choices=COVARIANCES, help="default: full")
    model.add_argument("--moves", action="store_true", help="search by merges, splits and births")
    model.add_argument("--seed", type=int, default=0, help="of the random key; default: 0")
    model.add_argument("--max-iter", type=int, default=1000, help="default: 1000")
    model.add_argument("--tol", type=float, default=1e-3, help="in nats; default: 1e-3")
    written = parser.add_argument_group("what is written")
    written.add_argument("--out", metavar="FIT.npz", help="write every array of the result")
    written.add_argument("--plot", metavar="FIT.png", help="write a picture of the fit")
    written.add_argument(
        "--labels",
        metavar="LABELS.csv",
        help="write the number of every row, from 1, its most probable component, and the "
        "probability of each",
    )
    options = parser.parse_args(argv)
    if options.data is None and options.plot is None:
        options.plot = "vijax-demo.png"
    return options


def _column_kinds() -> list[str]:
    return [kind for kind in KINDS if kind != "multinomial"]  # which is of several columns


def _kinds(options: argparse.Namespace) -> dict[str, str]:
    """The kinds of columns by name, empty if all are Gaussian together."""
    kinds: dict[str, str] = {}
    for pair in _split(options.kinds):
        name, equals, kind = (part.strip() for part in pair.rpartition("="))
        if not equals or kind not in _column_kinds():
            known = ", ".join(_column_kinds())
            raise ValueError(f"--kinds: expected NAME=KIND with a kind of {known}, got {pair!r}")
        if name in kinds:
            raise ValueError(f"--kinds has {name!r} more than once")
        kinds[name] = kind
    if kinds and options.covariance:
        raise ValueError("--covariance: not with --kinds, where columns are independent")
    if kinds and options.plot:
        raise ValueError("--plot: draws Gaussian columns only, so not with --kinds")
    return kinds


def _split(names: str | None) -> list[str]:
    """The parts of a comma-separated list; one with a comma of its own may be quoted."""
    return [] if names is None else next(csv.reader([names], skipinitialspace=True), [])


def _check_outputs(options: argparse.Namespace) -> None:
    """Raise ValueError before the fit if its output could not be written after it."""
    for path in (options.out, options.plot, options.labels):
        if path and not Path(path).parent.is_dir():
            raise ValueError(f"{path}: there is no folder {Path(path).parent}")
        if path and options.data and Path(path).resolve() == Path(options.data).resolve():
            raise ValueError(f"{path}: would be written over the data")
    if options.labels and Path(options.labels).is_dir():
        raise ValueError(f"{options.labels}: cannot be written: is a folder")
    if options.plot is None:
        return
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError('--plot needs matplotlib: pip install "matplotlib>=3.9"')
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    kinds = FigureCanvasAgg.get_supported_filetypes()
    if Path(options.plot).suffix.lstrip(".").lower() not in kinds:
        raise ValueError(f"{options.plot}: a picture ends in one of .{', .'.join(sorted(kinds))}")


# -- data and fit ---------------------------------------------------------------------------------


def _read(options: argparse.Namespace, kinds: dict[str, str]) -> CsvTable:
    if options.data is None:
        x = datasets.three_clusters()[0]
        note = "no file given: 500 points from three clusters (vijax.datasets.three_clusters)"
        return CsvTable({"x0": x[:, 0], "x1": x[:, 1]}, notes=[note])
    form = CsvFormat(
        sep={"tab": "\t", "\\t": "\t"}.get(options.sep, options.sep),
        decimal=options.decimal,
        encoding=options.encoding,
        comment=options.comment,
        header=not options.no_header,
        missing=options.missing,
        na=tuple(options.na),
    )
    columns = None if options.columns is None else _split(options.columns)
    return read_csv(options.data, form, columns=columns, kinds=kinds)


def _describe(table: CsvTable, options: argparse.Namespace) -> None:
    for note in table.notes:
        _say(note)
    num_rows = len(next(iter(table.columns.values())))
    _say(f"{num_rows} rows, {len(table.columns)} columns; {options.num_restarts} restarts")


def _build(
    table: CsvTable, options: argparse.Namespace, kinds: dict[str, str]
) -> tuple[GaussianMixture | MixedMixture, Batch]:
    """The model and its rows: Gaussian columns together, or one of each kind."""
    missing, size = options.missing or bool(options.na), options.num_components
    if kinds:
        rows = Batch.of(table.columns, missing=missing)
        levels = [(name, (tuple(own),)) for name, own in sorted(table.levels.items())]
        rows = replace(rows, levels=tuple(levels) or None)
        every = {name: kinds.get(name, "gaussian") for name in table.columns}
        return MixedMixture.from_data(rows, size, every), rows
    rows = Batch.of(np.column_stack(list(table.columns.values())), missing=missing)
    covariance = options.covariance or "full"
    return GaussianMixture.from_data(rows, size, covariance=covariance), rows


def _fit(model: GaussianMixture | MixedMixture, rows: Batch, options: argparse.Namespace) -> Result:
    key, moves = jax.random.key(options.seed), Moves() if options.moves else None
    stop = Stop(tol=options.tol, max_iter=options.max_iter)
    return fit(model, rows, key=key, num_restarts=options.num_restarts, moves=moves, stop=stop)


def _advice(status: Status, options: argparse.Namespace) -> str:
    if status == Status.MAX_ITER:
        return (
            f"MAX_ITER: {options.max_iter} iterations were too few: raise --max-iter, "
            f"or --tol, which is {options.tol:g} nats"
        )
    return f"{status.name}: {REMEDIES[status]}"


# -- output ---------------------------------------------------------------------------------------


def _say(text: str) -> None:
    """Print at once; if nobody reads any more, files are still written and the status returned."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _discard_output()


def _discard_output() -> None:
    """Let standard output go nowhere, or Python would complain of it on its way out."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _one_line(message: str) -> str:
    return " ".join(message.split())


def _refuse(message: str) -> NoReturn:
    print(f"vijax: {_one_line(message)}", file=sys.stderr)
    raise SystemExit(2)


def _write(
    result: Result,
    table: CsvTable,
    labels: Float[np.ndarray, "n k"] | None,
    options: argparse.Namespace,
) -> None:
    """Write the files that were asked for."""
    try:
        if options.out:
            save(options.out, result)
            _say(f"wrote {options.out}")
        if labels is not None:
            _write_labels(options.labels, labels)
            _say(f"wrote {options.labels}")
        if options.plot:
            _draw(result, table, options.plot)
            _say(f"wrote {options.plot}")
    except OSError as error:
        _refuse(f"{error.filename}: cannot be written: {error.strerror}")


def _write_labels(path: str, probabilities: Float[np.ndarray, "n k"]) -> None:
    """One line for each row: its number, from 1, its component, and the probability of each."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["row", "component", *(f"p{k}" for k in range(probabilities.shape[1]))])
        for i, row in enumerate(probabilities):
            writer.writerow([i + 1, int(row.argmax()), *map(str, row)])


def _draw(result: Result, table: CsvTable, path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from .extras import plot

    x = np.column_stack(list(table.columns.values()))
    figure, axes = plt.subplots(1, 3, figsize=(13.0, 4.0), layout="constrained")
    plot.plot_mixture(result.q, x, names=list(table.columns), ax=axes[0])
    axes[0].set_title("data, with 1- and 2-sigma contours")
    plot.plot_elbo(result, ax=axes[1])
    axes[1].set_title(f"{result.elbos.shape[-1]} restarts")
    plot.plot_weights(result.q, ax=axes[2])
    axes[2].set_title("posterior weights and their sd")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _run() -> int:
    """The command as a program, whose reader may leave before it ends, as `head` does."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # names may have letters that it cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = main()
    except SystemExit as end:  # of --help, --version and bad input
        code = end.code if isinstance(end.code, int) else 0
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
    return code


if __name__ == "__main__":
    sys.exit(_run())
