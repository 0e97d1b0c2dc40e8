"""Closed-form variational inference and EM in JAX."""

from . import datasets as datasets
from ._pytree import gauge as gauge
from ._pytree import pytree as pytree
from ._pytree import static as static
from .batch import Batch as Batch
from .families.dirichlet import Dirichlet as Dirichlet
from .families.gamma import Gamma as Gamma
from .families.multivariate_normal import MultivariateNormal as MultivariateNormal
from .families.normal import Normal as Normal
from .families.normal_gamma import MeanPrecision as MeanPrecision
from .families.normal_gamma import NormalGamma as NormalGamma
from .families.normal_wishart import NormalWishart as NormalWishart
from .infer.cavi import CAVI as CAVI
from .infer.cavi import EM as EM
from .infer.fit import elbo as elbo
from .infer.fit import fit as fit
from .infer.fit import trajectory as trajectory
from .infer.loop import Method as Method
from .infer.loop import iterate as iterate
from .infer.result import FitError as FitError
from .infer.result import Result as Result
from .infer.result import State as State
from .infer.result import Status as Status
from .infer.result import Stop as Stop
from .infer.result import best as best
from .model import Conjugate as Conjugate
from .model import Expected as Expected
from .model import Model as Model
from .models.gaussian_mixture import GaussianMixture as GaussianMixture
from .models.univariate import FactorisedGaussian as FactorisedGaussian
from .models.univariate import NormalGammaExact as NormalGammaExact
from .natural import Natural as Natural
from .natural import Product as Product

__version__ = "0.1.0"
