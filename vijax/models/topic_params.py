"""The parameters of a topic model, q(theta) or p(theta), and what a table shows of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._pytree import pytree
from .._text import Overview
from ..data.host import fetched, unguarded
from ..families.independent.dirichlet_multinomial import DirichletMultinomial
from ..families.labels.admixture import Admixture
from .component_table import IN_USE, component_table
from .structured_params import StructuredParams

_SHOWN = 8  # words of a topic


@pytree
class TopicParams(StructuredParams[Admixture, DirichletMultinomial]):
    """q(theta) or p(theta) of a topic model: of memberships, and of the k topics over v words."""

    def overview(
        self,
        min_weight: float = IN_USE,
        names: list[str] | None = None,
        *,
        point: bool = False,
        num_words: int = _SHOWN,
        **options: Any,
    ) -> Overview:
        """A table of the topics with a share of at least `min_weight` of all words.

        It shows their shares, largest first, the pseudo-counts of documents, and the most probable
        words of each topic.
        """
        with unguarded():
            p = fetched(self.components.p)
        words = names or [str(j) for j in range(p.shape[-1])]
        described = self.labels.describe()
        table = component_table(
            self.labels, described, min_weight, sd=False, what="topic", share="share"
        )
        best = [most_probable(p[int(k)], num_words) for k in table.head]
        shown = {
            f"word {i + 1}": [words[own[i]] for own in best]
            for i in range(min(num_words, p.shape[-1]))
        }
        return Overview(table.lines, table.head, table.rows | shown, table.corner)


def most_probable(p: Any, number: int) -> np.ndarray:
    """The most probable words of a topic, the first of equal ones first."""
    return np.argsort(-np.asarray(p), kind="stable")[:number]
