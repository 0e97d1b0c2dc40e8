"""Documents: counts of words as a table, or as a list of the words that occur in each."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .checks import check_weight, renamed
from .host import as_floats, as_weights, column_names, fetched, is_concrete, namespace

_DENSE = 0.15  # share of words that occur in a document, from which on a table is faster


@runtime_checkable
class SparseMatrix(Protocol):
    """A sparse matrix, as SciPy has it."""

    shape: tuple[int, ...]

    def tocsr(self) -> Any:
        """The same matrix by its rows."""
        ...


class Documents(NamedTuple):
    """Counts of words: a table `x` (n, v), or words `x` (n, l) with their counts `steps` (n, l)."""

    x: Any
    steps: Any
    names: tuple[str, ...] | None
    empty: np.ndarray  # documents without words, (n,); if traced, none is known


def lists_words(rows: Any) -> bool:
    """Whether the rows of a Batch are lists of words, which are numbers of their names."""
    return rows.steps is not None and is_whole(rows.x)


def read_documents(counts: Any, vocabulary: Any, dense: bool | None) -> Documents:
    """Documents in any form that `Batch.documents` takes; ValueError naming document and word."""
    names = column_names(counts)
    if isinstance(vocabulary, int | np.integer):
        names = tuple(map(str, range(int(vocabulary))))
    elif vocabulary is not None:
        names = tuple(map(str, vocabulary))
        if len(set(names)) < len(names):
            raise ValueError("vocabulary: the same word twice")
    if isinstance(counts, SparseMatrix):
        csr = counts.tocsr()
        n, v = csr.shape
        document = np.repeat(np.arange(n), np.diff(csr.indptr))
        entries = document, np.asarray(csr.indices), as_floats("counts", csr.data)
        names = _checked_names(names or tuple(map(str, range(v))), v)
    elif isinstance(counts, list | tuple):
        entries, n = _of_lists(counts)
        v = int(entries[1].max(initial=-1)) + 1 if names is None else len(names)
    else:
        x = as_floats("counts", counts)
        if x.ndim != 2:
            raise ValueError(f"counts: expected shape (n, v), got {x.shape}")
        names = None if names is None else _checked_names(names, x.shape[1])
        if not is_concrete(x):
            if dense is False:
                raise TypeError("counts: inside of jit, documents are dense")
            return Documents(x, None, names, np.zeros(len(x), bool))
        host = fetched(x)
        _check_counts(*_where_bad(host), names)
        used = host > 0
        if dense or (dense is None and used.mean() >= _DENSE):
            return Documents(x, None, names, ~used.any(1))
        (n, v), (document, word) = host.shape, np.nonzero(used)
        names = names or tuple(map(str, range(v)))
        entries = document, word, host[document, word]
    return _from_entries(*entries, n, v, names, dense)


def _from_entries(
    document: np.ndarray,
    word: np.ndarray,
    count: Any,
    n: int,
    v: int,
    names: tuple[str, ...] | None,
    dense: bool | None,
) -> Documents:
    """Documents of counts (m,) of words (m,), of which some may occur more than once."""
    good = np.isfinite(count) & (count >= 0)
    bad = np.flatnonzero(~good)
    if bad.size:
        _check_counts(document[bad], word[bad], count[bad], names)
    bad = np.flatnonzero((word < 0) | (word >= v))
    if bad.size:
        i = bad[0]
        raise ValueError(
            f"counts: word {word[i]} in document {document[i]} is none of the {v} words, which "
            f"are numbered from 0"
        )
    used = count > 0
    key, inverse = np.unique(document[used] * np.int64(v) + word[used], return_inverse=True)
    total = np.bincount(inverse.reshape(-1), count[used], len(key)).astype(count.dtype)
    document, word = key // v, (key % v).astype(np.int32)
    size = np.bincount(document, minlength=n)
    if dense or (dense is None and len(key) >= _DENSE * n * v):
        x = np.zeros((n, v), count.dtype)
        x[document, word] = total
        return Documents(x, None, names, size == 0)
    first = np.cumsum(size) - size
    place = np.arange(len(key)) - first[document]
    longest = max(1, int(size.max(initial=0)))
    x = np.full((n, longest), word[0] if len(word) else 0, np.int32)
    steps = np.zeros((n, longest), count.dtype)
    x[document, place], steps[document, place] = word, total
    return Documents(x, steps, names, size == 0)


def _of_lists(items: Sequence[Any]) -> tuple[tuple[Any, Any, Any], int]:
    """Documents, words and counts of pairs (words, counts), or of lists of words."""
    words, counts = [], []
    for i, item in enumerate(items):
        pair = isinstance(item, tuple) and len(item) == 2 and np.ndim(item[0]) == 1
        own = np.asarray(fetched(item[0]) if pair else fetched(item))
        own = own.astype(np.int64) if not own.size else own
        if own.ndim != 1 or own.dtype.kind not in "iu":
            raise TypeError(
                f"counts[{i}]: expected the numbers of words, or a pair of these and their "
                f"counts, got {own.dtype} of shape {own.shape}; a table of counts is an array"
            )
        number = as_floats(f"counts[{i}]", item[1]) if pair else np.ones(len(own))
        if number.shape != own.shape:
            raise ValueError(f"counts[{i}]: {len(own)} words, but counts of shape {number.shape}")
        words.append(own.astype(np.int64))
        counts.append(number)
    if not words:
        raise ValueError("counts: an empty list")
    document = np.repeat(np.arange(len(words)), [len(own) for own in words])
    number = as_floats("counts", np.concatenate(counts))
    return (document, np.concatenate(words), number), len(words)


def _checked_names(names: tuple[str, ...], v: int) -> tuple[str, ...]:
    if len(names) != v:
        raise ValueError(f"vocabulary: expected {v} words, one for each column, got {len(names)}")
    return names


def _where_bad(host: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Documents, words and counts of a table that are no counts."""
    document, word = np.nonzero(~(np.isfinite(host) & (host >= 0)))
    return document, word, host[document, word]


def _check_counts(
    document: np.ndarray, word: np.ndarray, count: np.ndarray, names: tuple[str, ...] | None
) -> None:
    if len(document):
        own = int(word[0])
        shown = repr(names[own]) if names is not None and 0 <= own < len(names) else str(own)
        raise ValueError(
            f"counts: must be finite and >= 0, got {float(count[0]):g} in document {document[0]}, "
            f"word {shown}"
        )


def weight_of_documents(documents: Documents, weight: Any) -> Any:
    """Weights (n,), 0 for documents without words, of which it warns; None if all are 1."""
    empty = documents.empty
    if empty.all():
        raise ValueError("counts: no document has words")
    number = int(empty.sum())
    if number:
        warnings.warn(
            f"counts: {number} of {len(empty)} documents have no words; they get weight 0",
            stacklevel=4,
        )
    counts = documents.x if documents.steps is None else documents.steps
    n, dtype = counts.shape[0], counts.dtype
    if weight is None:
        return np.where(empty, 0.0, 1.0).astype(dtype) if number else None
    with renamed(lambda text: re.sub(r"\brow\b", "document", text)):
        w = as_weights("weight", weight, dtype)
        check_weight(w, n)
    return namespace(w).where(empty, 0.0, w).astype(dtype) if number else w


def is_whole(x: Any) -> bool:
    """Whether rows are integers, as the words of documents are."""
    return not isinstance(x, dict) and bool(jnp.issubdtype(x.dtype, jnp.integer))


def word_counts(rows: Any) -> Float[Array, "n m"]:
    """The counts of the words of the documents of a Batch, 0 in those of weight 0."""
    number = rows.x if rows.steps is None else rows.steps
    return jnp.where((rows.weight > 0)[:, None], number, 0.0)
