"""Closed-form variational inference and EM in JAX."""

from typing import TYPE_CHECKING

from . import _names
from ._version import __version__ as __version__

if TYPE_CHECKING:
    from . import constraints as constraints
    from . import testing as testing
    from ._pytree import gauge as gauge
    from ._pytree import pytree as pytree
    from ._pytree import static as static
    from .criticism.comparison import Comparison as Comparison
    from .criticism.comparison import compare as compare
    from .criticism.response import Response as Response
    from .criticism.response import linear_response as linear_response
    from .criticism.weights import Criticism as Criticism
    from .criticism.weights import Verdict as Verdict
    from .criticism.weights import criticize as criticize
    from .data import datasets as datasets
    from .data.batch import Batch as Batch
    from .data.chunks import Chunks as Chunks
    from .data.storage import load as load
    from .data.storage import save as save
    from .exponential_family import ExponentialFamily as ExponentialFamily
    from .exponential_family import Product as Product
    from .families.compound.columns import Columns as Columns
    from .families.compound.noise import WithNoise as WithNoise
    from .families.compound.student_t import StudentT as StudentT
    from .families.dirichlet import Dirichlet as Dirichlet
    from .families.emission import Emission as Emission
    from .families.emission import EmissionMoments as EmissionMoments
    from .families.gamma import Gamma as Gamma
    from .families.gaussian.diagonal_normal_gamma import DiagonalNormalGamma as DiagonalNormalGamma
    from .families.gaussian.normal_wishart import NormalWishart as NormalWishart
    from .families.gaussian.spherical_normal_gamma import (
        SphericalNormalGamma as SphericalNormalGamma,
    )
    from .families.gaussian.tied_normal_wishart import TiedNormalWishart as TiedNormalWishart
    from .families.independent.beta_bernoulli import BetaBernoulli as BetaBernoulli
    from .families.independent.beta_geometric import BetaGeometric as BetaGeometric
    from .families.independent.conjugate_columns import ConjugateColumns as ConjugateColumns
    from .families.independent.dirichlet_categorical import (
        DirichletCategorical as DirichletCategorical,
    )
    from .families.independent.dirichlet_multinomial import (
        DirichletMultinomial as DirichletMultinomial,
    )
    from .families.independent.gamma_exponential import GammaExponential as GammaExponential
    from .families.independent.gamma_poisson import GammaPoisson as GammaPoisson
    from .families.labels.admixture import Admixture as Admixture
    from .families.labels.chain import Chain as Chain
    from .families.labels.shared import Shared as Shared
    from .families.multivariate_normal import MultivariateNormal as MultivariateNormal
    from .families.normal import Normal as Normal
    from .families.normal_gamma import MeanPrecision as MeanPrecision
    from .families.normal_gamma import NormalGamma as NormalGamma
    from .families.weights.base import Weights as Weights
    from .families.weights.dirichlet_process import DirichletProcess as DirichletProcess
    from .families.weights.stick_breaking import StickBreaking as StickBreaking
    from .guides.transformed_normal import TransformedNormal as TransformedNormal
    from .infer.amortised import AmortisedFit as AmortisedFit
    from .infer.amortised import fit_amortised as fit_amortised
    from .infer.annealed import Annealed as Annealed
    from .infer.fit import elbo as elbo
    from .infer.fit import elbo_terms as elbo_terms
    from .infer.fit import fit as fit
    from .infer.fit import trajectory as trajectory
    from .infer.fits import Fits as Fits
    from .infer.gradient import bound_and_gradient as bound_and_gradient
    from .infer.labels import align as align
    from .infer.labels import prune as prune
    from .infer.labels import relabel as relabel
    from .infer.many import fit_many as fit_many
    from .infer.method import FullPassMethod as FullPassMethod
    from .infer.method import Method as Method
    from .infer.methods.accelerated import Accelerated as Accelerated
    from .infer.methods.amortised_bounds import amortised_bound as amortised_bound
    from .infer.methods.amortised_bounds import amortised_mixture_bound as amortised_mixture_bound
    from .infer.methods.cavi import CAVI as CAVI
    from .infer.methods.em import EM as EM
    from .infer.methods.gaussian_vi import GaussianVI as GaussianVI
    from .infer.methods.lbfgs import LBFGS as LBFGS
    from .infer.methods.memoized import Memoized as Memoized
    from .infer.methods.objectives import IWAE as IWAE
    from .infer.methods.objectives import Renyi as Renyi
    from .infer.methods.objectives import score_gradient as score_gradient
    from .infer.methods.stochastic_vi import StochasticVI as StochasticVI
    from .infer.methods.svi import SVI as SVI
    from .infer.methods.svi import RobbinsMonro as RobbinsMonro
    from .infer.moves import Moves as Moves
    from .infer.moves import search as search
    from .infer.result import FitError as FitError
    from .infer.result import RestartWarning as RestartWarning
    from .infer.result import Result as Result
    from .infer.result import State as State
    from .infer.result import Stop as Stop
    from .infer.result import best as best
    from .infer.run.devices import over_devices as over_devices
    from .infer.run.devices import shard_rows as shard_rows
    from .infer.run.halving import Halving as Halving
    from .infer.run.interrupt import STOP as STOP
    from .infer.run.loop import iterate as iterate
    from .infer.run.progress import Report as Report
    from .infer.run.progress import Reporter as Reporter
    from .infer.status import Status as Status
    from .infer.streaming import Streaming as Streaming
    from .kernel import Kernel as Kernel
    from .latent_class import LatentClassModel as LatentClassModel
    from .latent_class import MergeModel as MergeModel
    from .latent_class import SplitMergeModel as SplitMergeModel
    from .model import ConditionalModel as ConditionalModel
    from .model import Conjugate as Conjugate
    from .model import DensityModel as DensityModel
    from .model import EStep as EStep
    from .model import Model as Model
    from .models.density import MixtureDensity as MixtureDensity
    from .models.documents import Completion as Completion
    from .models.energy import factor as factor
    from .models.energy.energy import Energy as Energy
    from .models.hmm import HMM as HMM
    from .models.hmm_mixture import HMMMixture as HMMMixture
    from .models.lda import LDA as LDA
    from .models.log_density import LogDensity as LogDensity
    from .models.mixed_membership import MixedMembership as MixedMembership
    from .models.mixture import Mixture as Mixture
    from .models.mixtures.columns import BernoulliMixture as BernoulliMixture
    from .models.mixtures.columns import CategoricalMixture as CategoricalMixture
    from .models.mixtures.columns import ExponentialMixture as ExponentialMixture
    from .models.mixtures.columns import GeometricMixture as GeometricMixture
    from .models.mixtures.columns import MixedMixture as MixedMixture
    from .models.mixtures.columns import MultinomialMixture as MultinomialMixture
    from .models.mixtures.columns import PoissonMixture as PoissonMixture
    from .models.mixtures.gaussian import GaussianMixture as GaussianMixture
    from .models.mixtures.gaussian import StudentTMixture as StudentTMixture
    from .models.priors import presets as presets
    from .models.sequence_mixture import SequenceMixture as SequenceMixture
    from .models.sequences import Forecast as Forecast
    from .models.univariate import FactorisedGaussian as FactorisedGaussian
    from .models.univariate import NormalGammaExact as NormalGammaExact
    from .provenance import cite as cite
    from .provenance import show_versions as show_versions
    from .selection.cross_validation import CrossValidation as CrossValidation
    from .selection.cross_validation import cross_validate as cross_validate
    from .selection.num_components import Selection as Selection
    from .selection.num_components import select_num_components as select_num_components
else:  # a type checker that saw `__getattr__` would take every misspelt name for one of ours
    __all__ = sorted({**_names.MODULES, **_names.HOMES})

    def __getattr__(name):
        """A public name at its first use; from then on it is an attribute like any other."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals().setdefault(name, _names.find(name))

    def __dir__():
        return [*__all__, "__version__"]
