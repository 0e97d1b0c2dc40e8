"""scikit-learn estimators over `vijax.fit`; needs scikit-learn.

`from vijax.extras.sklearn import BayesianGaussianMixture`: constructor arguments, methods and
attributes have the names of scikit-learn, or of hmmlearn for `GaussianHMM`.
"""

from __future__ import annotations

try:
    import sklearn as _sklearn  # noqa: F401
except ImportError as error:
    raise ImportError("vijax.extras.sklearn needs it: pip install scikit-learn") from error

from .gaussian import BayesianGaussianMixture, GaussianMixture
from .sequences import GaussianHMM
from .tables import TableMixture

__all__ = ["BayesianGaussianMixture", "GaussianHMM", "GaussianMixture", "TableMixture"]
