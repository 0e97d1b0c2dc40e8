"""The parameters of a topic model, shown by the most probable words of each topic."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._pytree import pytree
from .._text import Overview
from ..data.host import fetched, unguarded
from .component_table import IN_USE
from .structured_params import StructuredParams

_WORDS = 8  # of each topic in a table


@pytree
class TopicParams(StructuredParams):
    """q(theta) or p(theta) of a topic model: `labels`, an Admixture, and `components`, topics."""

    def overview(
        self,
        min_weight: float = IN_USE,
        names: list[str] | None = None,
        *,
        point: bool = False,
        num_words: int = _WORDS,
        **options: Any,
    ) -> Overview:
        """The topics with a share of at least `min_weight` of all words, largest first.

        Each has its share, the concentration of the documents' weights, and its `num_words` most
        probable words, by `names` or by their numbers.
        """
        with unguarded():
            share, conc = fetched(self.labels.mean), fetched(self.labels.conc)
            top = fetched(self.components.p)
        order = [int(k) for k in np.argsort(-share, kind="stable") if share[k] >= min_weight]
        title = f"{len(order)} of {int((share > 0).sum())} topics have share >= {min_weight:g}"
        listed = top_words(top[order], num_words, names)
        rows = {
            "share": [f"{share[k]:.3f}" for k in order],
            "conc": [f"{conc[k]:.4g}" for k in order],
        }
        for i in range(min(num_words, top.shape[-1])):
            rows[f"word {i + 1}"] = [own[i] for own in listed]
        return Overview([title], [str(k) for k in order], rows, corner="topic")

    def summary(
        self,
        min_weight: float = IN_USE,
        names: list[str] | None = None,
        *,
        point: bool = False,
        **options: Any,
    ) -> str:
        """The table of `overview` as text."""
        return self.overview(min_weight, names, point=point, **options).text()


def top_words(p: np.ndarray, num: int, names: Any) -> list[list[str]]:
    """The `num` most probable words of each topic p (k, v), the first of equal ones first."""
    order = np.argsort(-p, axis=-1, kind="stable")[:, :num]
    return [[str(j) if names is None else str(names[j]) for j in own] for own in order]
