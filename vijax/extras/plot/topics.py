"""Plot of the words of one topic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...data.host import check_integer
from ...models.mixture_params import Fitted
from ...models.steps import known_of
from ...models.topic_params import TopicParams, most_probable
from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_topic(
    q: TopicParams | Fitted,
    topic: int,
    *,
    num_words: int = 10,
    names: Any = None,
    ax: Any = None,
) -> Axes:
    """Plot the most probable words of a topic as bars with their posterior standard deviations.

    Raises TypeError for what has no topics.

    Args:
        q: The q of an LDA, or its Result.
        topic: The number of the topic.
        num_words: How many words to draw.
        names: Those of all words, by default those of the data that a Result is of, or numbers.
        ax: Axes to draw into.

    Example:
        from vijax.extras import plot

        model = vx.LDA.with_prior(2, word_conc=[[5, 3, 1, 1], [1, 1, 2, 6]], topic_conc=0.5)
        axes = plot.plot_topic(model.prior, 0, names=["sea", "ship", "pan", "bread"])
    """
    check_integer("topic", topic)
    check_integer("num_words", num_words)
    names = names if names is not None else getattr(q, "names", None)
    known = known_of(q)
    if not isinstance(known, TopicParams):
        raise TypeError(f"q: expected that of LDA, or its Result, got {type(known).__name__}")
    each = known.components.each
    mean = style.check_one("q", each.mean, 2)
    if not 0 <= topic < len(mean):
        raise ValueError(f"topic: expected one of 0 to {len(mean) - 1}, got {topic}")
    mean, sd = mean[topic], np.asarray(each.sd, float)[topic]
    if names is not None and len(names) != len(mean):
        raise ValueError(f"names: expected {len(mean)} words, got {len(names)}")
    top = most_probable(mean, num_words)
    ax = style.axes_of(ax, 3.5, 0.5 + 0.25 * len(top))
    place = np.arange(len(top))
    ax.barh(place, mean[top], xerr=sd[top], color=style.colour(topic), ecolor="0.3", capsize=2)
    ax.set_yticks(place, [str(i) if names is None else str(names[i]) for i in top])
    ax.invert_yaxis()
    ax.set_xlim(left=0.0)
    ax.set(xlabel="probability", title=f"topic {topic}")
    return ax
