"""The names that users rely on: adding one is a decision, losing one is a break."""

import ast
import importlib
import inspect
import pkgutil
import types
from pathlib import Path

import pytest

import vijax as vx
from vijax import _names

NAMES = """
Accelerated Admixture AmortisedFit Annealed Batch BernoulliMixture BetaBernoulli BetaGeometric CAVI
CategoricalMixture Chain Chunks Columns Comparison Completion ConditionalModel Conjugate
ConjugateColumns Criticism CrossValidation DensityModel DiagonalNormalGamma Dirichlet
DirichletCategorical DirichletMultinomial DirichletProcess EM EStep Emission EmissionMoments Energy
ExponentialFamily ExponentialMixture FactorisedGaussian FitError Fits Forecast FullPassMethod Gamma
GammaExponential GammaPoisson GaussianMixture GaussianVI GeometricMixture HMM HMMMixture Halving
IWAE Kernel LBFGS LDA LatentClassModel LogDensity MeanPrecision Memoized MergeModel Method
MixedMembership MixedMixture Mixture MixtureDensity Model Moves MultinomialMixture
MultivariateNormal Normal NormalGamma NormalGammaExact NormalWishart PoissonMixture Product Renyi
Report Reporter Response RestartWarning Result RobbinsMonro STOP SVI Selection SequenceMixture
Shared SphericalNormalGamma SplitMergeModel State Status StickBreaking StochasticVI Stop Streaming
StudentT StudentTMixture TiedNormalWishart TransformedNormal Verdict Weights WithNoise align
amortised_bound amortised_mixture_bound best bound_and_gradient cite compare constraints criticize
cross_validate datasets elbo elbo_terms factor fit fit_amortised fit_many gauge iterate
linear_response load over_devices presets prune pytree relabel save score_gradient search
select_num_components shard_rows show_versions static testing trajectory
"""


def test_names_are_pinned():
    assert vx.__all__ == sorted(NAMES.split())
    assert set(dir(vx)) == {*vx.__all__, "__version__"}
    for name in vx.__all__:
        getattr(vx, name)
    internal = {name for name, value in vars(vx).items() if isinstance(value, types.ModuleType)}
    public = {name for name in vars(vx) if not name.startswith("_")}
    assert public - internal <= {*vx.__all__, "TYPE_CHECKING"}


def test_type_checkers_know_the_names_of_the_table():
    """And the same of each: the block that they read imports what `vijax.name` gives."""
    tree = ast.parse(Path(vx.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    homes, modules = {}, {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        assert node.level == 1
        for one in node.names:
            assert one.asname == one.name, f"{one.name} is not public for a type checker"
            if one.name in _names.MODULES:
                modules[one.name] = f"{node.module}.{one.name}" if node.module else one.name
            else:
                homes[one.name] = node.module
    assert homes == _names.HOMES
    assert modules == _names.MODULES


@pytest.mark.parametrize("name", NAMES.split())
def test_a_name_is_what_its_module_defines(name):
    found = getattr(vx, name)
    if name in _names.MODULES:
        assert found is importlib.import_module(f"vijax.{_names.MODULES[name]}")
    else:
        home = importlib.import_module(f"vijax.{_names.HOMES[name]}")
        assert found is vars(home)[name]
        assert getattr(found, "__module__", home.__name__) == home.__name__


def test_no_submodule_takes_the_place_of_a_name():
    """The import of a submodule binds its name in the package."""
    inside = {module.name for module in pkgutil.iter_modules(vx.__path__)}
    modules = inside & set(NAMES.split())
    assert modules == {"constraints", "testing"}
    assert all(_names.MODULES[name] == name for name in modules)


def test_what_is_not_there_is_missed():
    with pytest.raises(AttributeError, match="module 'vijax' has no attribute 'fitt'"):
        _ = vx.fitt
    assert not hasattr(vx, "MODULES")
    with pytest.raises(ImportError, match="cannot import name 'fitt' from 'vijax'"):
        from vijax import fitt  # noqa: F401


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
    citation = (Path(__file__).parents[1] / "CITATION.cff").read_text()
    assert f"\nversion: {vx.__version__}\n" in citation
