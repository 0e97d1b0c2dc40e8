"""How mixtures show themselves: in one line, and in a notebook as a table of their prior."""

from __future__ import annotations

from typing import Any

import jax

from .._text import Overview, count, short
from ..data.host import readable
from .mixture_params import MixtureParams


class Shown:
    """`__repr__` and `_repr_html_` of a mixture."""

    weights: Any
    components: Any
    improper: bool
    names: tuple[str, ...] | None

    def __repr__(self) -> str:
        try:
            axes = jax.eval_shape(lambda weights: weights.mean, self.weights).shape
            words = [count(axes[-1], "component"), *self.components.words()]
        except Exception:  # a pytree may hold anything while JAX looks at its structure
            return short(self)
        words.append("flat prior" if self.improper else f"{type(self.weights).__name__} weights")
        several = "x".join(map(str, axes[:-1]))
        return f"{type(self).__name__}({f'{several} of ' if several else ''}{', '.join(words)})"

    def _repr_html_(self) -> str:
        return Shown._prior_table(self).html()

    def _prior_table(self: Any) -> Overview:
        """The prior of every component; one column if it is the same for all."""
        line, prior = repr(self), self.prior
        if self.improper or not readable(prior) or prior.batch_axes:
            return Overview([line])
        names = None if self.names is None else list(self.names)
        assert isinstance(prior, MixtureParams)
        table = prior.overview(0.0, names)
        cells = list(zip(*table.rows.values(), strict=True))
        if len(cells) > 1 and len(set(cells)) == 1:
            first = {label: row[:1] for label, row in table.rows.items()}
            return Overview([line], [f"each of {len(cells)}"], first)
        return Overview([line], table.head, table.rows)
