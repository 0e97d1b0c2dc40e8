"""Operations whose arguments have axes in front that the others lack, by design."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import jax

_P = ParamSpec("_P")
_T = TypeVar("_T")


def broadcasts(method: Callable[_P, _T]) -> Callable[_P, _T]:
    """A method whose arguments broadcast, also where `jax_numpy_rank_promotion` is "raise"."""

    @wraps(method)
    def run(*args: _P.args, **options: _P.kwargs) -> _T:
        with jax.numpy_rank_promotion("allow"):
            return method(*args, **options)

    return run
