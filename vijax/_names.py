"""The public names and where they are defined: each module is imported at the first use of one."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PACKAGE = __name__.partition(".")[0]

MODULES = {  # public modules: name to path below the package
    "constraints": "constraints",
    "datasets": "data.datasets",
    "factor": "models.energy.factor",
    "presets": "models.priors.presets",
    "testing": "testing",
}

HOMES = {  # all other public names: name to the module that defines it
    # mixtures
    "BernoulliMixture": "models.mixtures.columns",
    "CategoricalMixture": "models.mixtures.columns",
    "ExponentialMixture": "models.mixtures.columns",
    "GaussianMixture": "models.mixtures.gaussian",
    "GeometricMixture": "models.mixtures.columns",
    "MixedMixture": "models.mixtures.columns",
    "Mixture": "models.mixture",
    "MixtureDensity": "models.density",
    "MultinomialMixture": "models.mixtures.columns",
    "PoissonMixture": "models.mixtures.columns",
    "StudentTMixture": "models.mixtures.gaussian",
    # models of sequences, documents and other rows of steps
    "Admixture": "families.labels.admixture",
    "Chain": "families.labels.chain",
    "Completion": "models.documents",
    "HMM": "models.hmm",
    "HMMMixture": "models.hmm_mixture",
    "Forecast": "models.sequences",
    "SequenceMixture": "models.sequence_mixture",
    "Shared": "families.labels.shared",
    "LDA": "models.lda",
    "MixedMembership": "models.mixed_membership",
    # other models, and what a driver asks of one
    "ConditionalModel": "model",
    "Conjugate": "model",
    "DensityModel": "model",
    "EStep": "model",
    "Energy": "models.energy.energy",
    "FactorisedGaussian": "models.univariate",
    "LatentClassModel": "latent_class",
    "LogDensity": "models.log_density",
    "MergeModel": "latent_class",
    "Model": "model",
    "NormalGammaExact": "models.univariate",
    "SplitMergeModel": "latent_class",
    # rows, files
    "Batch": "data.batch",
    "Chunks": "data.chunks",
    "load": "data.storage",
    "save": "data.storage",
    # fits: the calls
    "bound_and_gradient": "infer.gradient",
    "elbo": "infer.fit",
    "elbo_terms": "infer.fit",
    "fit": "infer.fit",
    "fit_amortised": "infer.amortised",
    "fit_many": "infer.many",
    "iterate": "infer.run.loop",
    "search": "infer.moves",
    "trajectory": "infer.fit",
    # what a fit is given
    "Annealed": "infer.annealed",
    "FullPassMethod": "infer.method",
    "Halving": "infer.run.halving",
    "Method": "infer.method",
    "Moves": "infer.moves",
    "Report": "infer.run.progress",
    "Reporter": "infer.run.progress",
    "STOP": "infer.run.interrupt",
    "Stop": "infer.result",
    "Streaming": "infer.streaming",
    "over_devices": "infer.run.devices",
    "shard_rows": "infer.run.devices",
    # methods for models with exact updates
    "Accelerated": "infer.methods.accelerated",
    "CAVI": "infer.methods.cavi",
    "EM": "infer.methods.em",
    "Memoized": "infer.methods.memoized",
    "RobbinsMonro": "infer.methods.svi",
    "SVI": "infer.methods.svi",
    # black-box methods, their bounds and their q
    "GaussianVI": "infer.methods.gaussian_vi",
    "IWAE": "infer.methods.objectives",
    "LBFGS": "infer.methods.lbfgs",
    "Renyi": "infer.methods.objectives",
    "StochasticVI": "infer.methods.stochastic_vi",
    "TransformedNormal": "guides.transformed_normal",
    "amortised_bound": "infer.methods.amortised_bounds",
    "amortised_mixture_bound": "infer.methods.amortised_bounds",
    "score_gradient": "infer.methods.objectives",
    # what a fit is
    "AmortisedFit": "infer.amortised",
    "FitError": "infer.result",
    "Fits": "infer.fits",
    "RestartWarning": "infer.result",
    "Result": "infer.result",
    "State": "infer.result",
    "Status": "infer.status",
    "align": "infer.labels",
    "best": "infer.result",
    "prune": "infer.labels",
    "relabel": "infer.labels",
    # how far a fit can be trusted
    "Comparison": "criticism.comparison",
    "Criticism": "criticism.weights",
    "Response": "criticism.response",
    "Verdict": "criticism.weights",
    "compare": "criticism.comparison",
    "criticize": "criticism.weights",
    "linear_response": "criticism.response",
    # what it was made with
    "cite": "provenance",
    "show_versions": "provenance",
    # the number of components
    "CrossValidation": "selection.cross_validation",
    "Selection": "selection.num_components",
    "cross_validate": "selection.cross_validation",
    "select_num_components": "selection.num_components",
    # families, and what they are built of
    "Dirichlet": "families.dirichlet",
    "ExponentialFamily": "exponential_family",
    "Gamma": "families.gamma",
    "Kernel": "kernel",
    "MeanPrecision": "families.normal_gamma",
    "MultivariateNormal": "families.multivariate_normal",
    "Normal": "families.normal",
    "NormalGamma": "families.normal_gamma",
    "Product": "exponential_family",
    "gauge": "_pytree",
    "pytree": "_pytree",
    "static": "_pytree",
    # components of mixtures
    "BetaBernoulli": "families.independent.beta_bernoulli",
    "BetaGeometric": "families.independent.beta_geometric",
    "Columns": "families.compound.columns",
    "ConjugateColumns": "families.independent.conjugate_columns",
    "DiagonalNormalGamma": "families.gaussian.diagonal_normal_gamma",
    "DirichletCategorical": "families.independent.dirichlet_categorical",
    "DirichletMultinomial": "families.independent.dirichlet_multinomial",
    "Emission": "families.emission",
    "EmissionMoments": "families.emission",
    "GammaExponential": "families.independent.gamma_exponential",
    "GammaPoisson": "families.independent.gamma_poisson",
    "NormalWishart": "families.gaussian.normal_wishart",
    "SphericalNormalGamma": "families.gaussian.spherical_normal_gamma",
    "StudentT": "families.compound.student_t",
    "TiedNormalWishart": "families.gaussian.tied_normal_wishart",
    "WithNoise": "families.compound.noise",
    # priors on weights
    "DirichletProcess": "families.weights.dirichlet_process",
    "StickBreaking": "families.weights.stick_breaking",
    "Weights": "families.weights.base",
}


def find(name: str) -> Any:
    """The object of a public name, of either table."""
    if name in MODULES:
        return import_module(f"{_PACKAGE}.{MODULES[name]}")
    return getattr(import_module(f"{_PACKAGE}.{HOMES[name]}"), name)


def import_all() -> None:
    """Import every module that has a public name, and with them the classes that files may hold."""
    for home in dict.fromkeys([*MODULES.values(), *HOMES.values()]):
        import_module(f"{_PACKAGE}.{home}")
