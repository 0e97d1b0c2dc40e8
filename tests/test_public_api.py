"""The names that users rely on: adding one is a decision, losing one is a break."""

import inspect
import types

import vijax as vx

NAMES = """
Accelerated AmortisedFit Annealed Batch BernoulliMixture BetaBernoulli BetaGeometric CAVI
CategoricalMixture Chain Chunks Columns Comparison ConditionalModel Conjugate Criticism
CrossValidation DensityModel DiagonalNormalGamma Dirichlet DirichletCategorical DirichletMultinomial
DirichletProcess EM EStep Emission EmissionMoments Energy ExponentialFamily ExponentialMixture
FactorisedGaussian FitError Fits Forecast FullPassMethod Gamma GammaExponential GammaPoisson
GaussianMixture GaussianVI GeometricMixture HMM Halving IWAE Kernel LBFGS LatentClassModel
LogDensity MeanPrecision Memoized Method MixedMixture Mixture MixtureDensity Model Moves
MultinomialMixture MultivariateNormal Normal NormalGamma NormalGammaExact NormalWishart
PoissonMixture Product Renyi Report Reporter Response RestartWarning Result RobbinsMonro STOP SVI
Selection SphericalNormalGamma SplitMergeModel State Status StickBreaking StochasticVI Stop
Streaming StudentT StudentTMixture TiedNormalWishart TransformedNormal Verdict Weights WithNoise
align amortised_bound amortised_mixture_bound best bound_and_gradient compare constraints criticize
cross_validate datasets elbo elbo_terms factor fit fit_amortised fit_many gauge iterate
linear_response load over_devices presets prune pytree relabel save score_gradient search
select_num_components shard_rows static trajectory
"""


def test_names_are_pinned():
    public = {name for name in vars(vx) if not name.startswith("_")}
    internal = {  # submodules that importing the package binds
        name
        for name in public
        if isinstance(getattr(vx, name), types.ModuleType)
        and name not in ("constraints", "datasets", "factor", "presets")
    }
    assert public - internal == set(NAMES.split())


def test_fit_takes_what_it_promises():
    parameters = inspect.signature(vx.fit).parameters
    assert list(parameters) == [
        "model",
        "data",
        "key",
        "init",
        "method",
        "stop",
        "num_restarts",
        "moves",
        "halving",
        "checkpoint",
        "resume",
        "progress",
        "callback",
    ]
    assert all(p.kind is p.KEYWORD_ONLY for p in list(parameters.values())[2:])
    assert parameters["key"].default is None


def test_priors_take_what_they_promise():
    own = list(inspect.signature(vx.GaussianMixture.with_prior).parameters)
    given = ["mean", "kappa", "df", "scatter", "conc", "weights", "covariance", "noise_box"]
    assert own == ["num_components", *given, "k_max"]


def test_every_public_object_is_documented():
    for name in NAMES.split():
        assert inspect.getdoc(getattr(vx, name)), name


def test_every_family_has_every_verb():
    verbs = """from_standard log_normalizer moments mode point kl entropy log_prob sample about
    expectation expected_log_prob"""
    for family in (
        vx.Dirichlet,
        vx.Gamma,
        vx.Normal,
        vx.MultivariateNormal,
        vx.NormalGamma,
        vx.NormalWishart,
    ):
        for verb in verbs.split():
            assert callable(getattr(family, verb)), (family, verb)


def test_versions_agree():
    from pathlib import Path

    citation = (Path(__file__).parents[1] / "CITATION.cff").read_text()
    assert f"\nversion: {vx.__version__}\n" in citation
