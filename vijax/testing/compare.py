"""Comparisons of pytrees, and running laws: a law that fails says its name and its numbers."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Law = Callable[..., None]


def close(actual: Any, desired: Any, rtol: float = 1e-7, atol: float = 0.0, of: str = "") -> None:
    """Raise AssertionError with the numbers unless two arrays agree, NaN with NaN; `of` names."""
    np.testing.assert_allclose(actual, desired, rtol=rtol, atol=atol, err_msg=of)


def leaves_close(actual: Any, desired: Any, rtol: float, atol: float = 0.0) -> None:
    """Raise AssertionError unless all matching leaves agree."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(actual)
    others, other_structure = jax.tree.flatten(desired)
    assert len(leaves) == len(others), f"{structure}\ninstead of {other_structure}"
    for (path, a), b in zip(leaves, others, strict=True):
        close(a, b, rtol, atol, of=jax.tree_util.keystr(path))


def holds(truth: Any, what: str, numbers: Any) -> None:
    """Raise AssertionError that says what should hold, and the numbers, unless all is true."""
    assert np.all(truth), f"{what}, got {np.asarray(numbers)}"


def within(difference: Any, error: Any, of: str, least: float = 1e-12) -> None:
    """Raise AssertionError unless a difference is at most five standard errors, plus `least`."""
    difference, error = np.abs(np.asarray(difference)), np.asarray(error)
    allowed = 5.0 * error + least
    assert (difference <= allowed).all(), f"{of}: {difference} apart, more than {allowed}"


def cast(tree: Any, dtype: Any) -> Any:
    """The same tree with its floating-point numbers of this dtype."""

    def leaf(a: Any) -> Any:
        return jnp.asarray(a, dtype) if jnp.issubdtype(jnp.result_type(a), jnp.floating) else a

    return jax.tree.map(leaf, tree)


@contextlib.contextmanager
def in_float64() -> Iterator[None]:
    """Compute in float64 here and in this thread alone, as laws are to hold to many digits."""
    with jax.enable_x64(True):  # pyright: ignore[reportCallIssue]
        yield


def run(laws: Sequence[Law], *given: Any) -> None:
    """Try every law on `given`; raise one AssertionError that names all that fail."""
    failures = []
    for law in laws:
        try:
            law(*given)
        except AssertionError as failure:
            words = inspect.cleandoc(law.__doc__ or "").replace("\n", " ")
            failures.append(f"{law.__name__}: {words}\n{str(failure).strip()}")
        except Exception as error:
            error.add_note(f"in the law {law.__name__} of vijax.testing")
            raise
    if failures:
        count = f"{len(failures)} of {len(laws)} laws do not hold"
        raise AssertionError("\n\n".join([count, *failures]))
