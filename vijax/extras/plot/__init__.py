"""Figures with matplotlib, three of them with Plotly too; both are imported when they draw.

Every function draws into `ax`, or into a new figure, and returns the axes; none shows a figure.
With `backend="plotly"`, if a function has it, `ax` is a Plotly figure, and a figure is returned.
"""

from .elbo import plot_elbo as plot_elbo
from .mixture import plot_mixture as plot_mixture
from .num_components import plot_num_components as plot_num_components
from .pairs import plot_pairs as plot_pairs
from .q_vs_exact import plot_q_vs_exact as plot_q_vs_exact
from .responsibilities import plot_responsibilities as plot_responsibilities
from .restarts import plot_restarts as plot_restarts
from .states import plot_states as plot_states
from .states import plot_transitions as plot_transitions
from .style import blend as blend
from .style import colour as colour
from .style import contour as contour
from .topics import plot_topic as plot_topic
from .weights import plot_weights as plot_weights
