"""Mixtures of independent columns: counts, waiting times, flags, categories, and mixed tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from ..._pytree import pytree
from ...data.batch import Batch
from ...data.types import ArrayLike, Data
from ...families.compound.columns import Columns
from ...families.independent.base import Independent
from ...families.independent.beta_bernoulli import BetaBernoulli
from ...families.independent.beta_geometric import BetaGeometric
from ...families.independent.dirichlet_categorical import DirichletCategorical
from ...families.independent.dirichlet_multinomial import DirichletMultinomial
from ...families.independent.gamma_exponential import GammaExponential
from ...families.independent.gamma_poisson import GammaPoisson
from ...families.weights.base import Weights
from ..mixture import Mixture
from ..mixture_params import C_co
from ..priors import columns as prior
from ..priors import table
from ..priors.arguments import check_size
from ..priors.weights import default_conc, from_conc_or_given, switched_on
from . import assemble

_C = TypeVar("_C", bound="ColumnMixture[Any]")
_R = TypeVar("_R", bound="RateMixture[Any]")
_P = TypeVar("_P", bound="ProbabilityMixture[Any]")
_K = TypeVar("_K", bound="CategoryMixture[Any]")


class ColumnMixture(Mixture[Weights, C_co]):
    """A mixture of one `family` of independent columns; ValueError names the argument."""

    family: ClassVar[type[Independent]]

    @classmethod
    def flat(
        cls: type[_C], num_components: int, num_features: int, *, k_max: int | None = None
    ) -> _C:
        """Build a mixture without a prior, for `EM`; ValueError names the argument.

        Args:
            num_components, num_features, k_max: As in `GaussianMixture.flat`.

        Example:
            model = vx.PoissonMixture.flat(2, 1)
            x = np.array([[0.0], [1.0], [2.0], [9.0], [11.0]])
            fit = vx.fit(model, x, method=vx.EM(), key=jax.random.key(0))
        """
        components = prior.flat(cls.family, num_components, num_features, k_max=k_max)
        return assemble.flat(cls, components, num_components, k_max)


class RateMixture(ColumnMixture[C_co]):
    """A mixture of columns with rates, rate_kd ~ Gamma(shape, rate)."""

    @classmethod
    def from_data(
        cls: type[_R],
        x: Data,
        num_components: int,
        *,
        shape: ArrayLike | None = None,
        rate: ArrayLike | None = None,
        conc: ArrayLike | None = None,
        weights: Weights | None = None,
        k_max: int | None = None,
    ) -> _R:
        """Build a mixture with a weak prior at the data's scale; ValueError names the argument.

        Args:
            x: Array-like (n, d) or a Batch, may be traced; missing entries are left out.
            shape: Shape of the Gamma prior; by default 1 for counts, 0.5 for waiting times.
            rate: Rate of the Gamma prior; by default, for counts, 1 / column mean. For waiting
                times it is `shape` times the value that a fifth of the column are below, as if
                `shape` rows that short had been seen: clusters of short waits keep their rates.
                A column of zeros takes the mean of the others, or 1. With an exposure, the default
                for counts is mean exposure / column mean, and waiting times count times theirs.
            num_components, conc, weights, k_max: As in `GaussianMixture.from_data`.

        Example:
            visits = np.random.default_rng(0).poisson([[2.0], [9.0]], (2, 50)).reshape(100, 1)
            model = vx.PoissonMixture.from_data(visits, 4)
            fit = vx.fit(model, visits, key=jax.random.key(0))
            print(fit.summary())  # rates, in counts per row
        """
        given = {"shape": shape, "rate": rate, "k_max": k_max}
        components = prior.rates_from_data(cls.family, x, num_components, **given)
        return assemble.from_data(cls, x, components, num_components, conc, weights, k_max)

    @classmethod
    def with_prior(
        cls: type[_R],
        num_components: int,
        *,
        shape: ArrayLike,
        rate: ArrayLike,
        conc: ArrayLike | None = None,
        weights: Weights | None = None,
        k_max: int | None = None,
    ) -> _R:
        """Build a mixture with an explicit prior; ValueError names the argument.

        Args:
            shape: Shape > 0, in counts, for waiting times in rows: a scalar, (d,) or (k, d).
            rate: Rate > 0, in rows, for waiting times in data units: a scalar, (d,) or (k, d).
            num_components, conc, weights, k_max: As in `GaussianMixture.with_prior`.

        Example:
            model = vx.PoissonMixture.with_prior(4, shape=1.0, rate=0.2, conc=1.0)  # E[rate_k] = 5
        """
        given = {"shape": shape, "rate": rate, "k_max": k_max}
        components = prior.with_prior(cls.family, num_components, **given)
        return assemble.with_prior(cls, components, num_components, conc, weights, k_max)


@pytree
class PoissonMixture(RateMixture[GammaPoisson]):
    """x_nd | z_n = k ~ Poisson(rate_kd), rate_kd ~ Gamma(shape, rate): counts.

    Rows of a `Batch.of(x, exposure=e)` are Poisson(e_nd rate_kd): a rate is per unit of exposure.
    Build it as a `GaussianMixture`, by `from_data`, `with_prior` or `flat`. Fields as in `Mixture`.
    """

    family = GammaPoisson


@pytree
class ExponentialMixture(RateMixture[GammaExponential]):
    """x_nd | z_n = k ~ Exponential(rate_kd), rate_kd ~ Gamma(shape, rate): waiting times.

    Rows of a `Batch.of(x, exposure=e)` have the rate e_nd rate_kd.
    Build it as a `GaussianMixture`, by `from_data`, `with_prior` or `flat`. Fields as in `Mixture`.
    """

    family = GammaExponential


class ProbabilityMixture(ColumnMixture[C_co]):
    """A mixture of columns with a probability, p_kd ~ Beta(a, b)."""

    @classmethod
    def from_data(
        cls: type[_P],
        x: Data,
        num_components: int,
        *,
        a: ArrayLike = 1.0,
        b: ArrayLike | None = None,
        conc: ArrayLike | None = None,
        weights: Weights | None = None,
        k_max: int | None = None,
    ) -> _P:
        """Build a mixture with weak priors, uniform for flags; ValueError names the argument.

        Args:
            x: Array-like (n, d) or a Batch, may be traced.
            a: Pseudo-counts of successes, such as flags of 1; as in `with_prior`.
            b: Pseudo-counts of failures, such as flags of 0; as in `with_prior`. By default 1 for
                flags; for counts their geometric mean, so that components with small counts keep
                their p. A column of zeros takes the mean of the others, or 1.
            num_components, conc, weights, k_max: As in `GaussianMixture.from_data`.

        Example:
            flags = np.eye(2)[np.arange(40) % 2]  # (40, 2), two kinds of rows
            model = vx.BernoulliMixture.from_data(flags, 3)
            fit = vx.fit(model, flags, key=jax.random.key(0))
        """
        given = {"a": a, "b": b, "k_max": k_max}
        components = prior.probabilities_from_data(cls.family, x, num_components, **given)
        return assemble.from_data(cls, x, components, num_components, conc, weights, k_max)

    @classmethod
    def with_prior(
        cls: type[_P],
        num_components: int,
        *,
        a: ArrayLike,
        b: ArrayLike,
        conc: ArrayLike | None = None,
        weights: Weights | None = None,
        k_max: int | None = None,
    ) -> _P:
        """Build a mixture with an explicit prior; ValueError names the argument.

        Args:
            a: Pseudo-counts of successes, such as flags of 1, > 0: a scalar, (d,) or (k, d).
            b: Pseudo-counts of failures, such as flags of 0, > 0: a scalar, (d,) or (k, d).
            num_components, conc, weights, k_max: As in `GaussianMixture.with_prior`.

        Example:
            model = vx.BernoulliMixture.with_prior(3, a=1.0, b=[9.0, 1.0], conc=1.0)
        """
        components = prior.with_prior(cls.family, num_components, k_max=k_max, a=a, b=b)
        return assemble.with_prior(cls, components, num_components, conc, weights, k_max)


@pytree
class BernoulliMixture(ProbabilityMixture[BetaBernoulli]):
    """x_nd | z_n = k ~ Bernoulli(p_kd), p_kd ~ Beta(a, b) (Bishop 2006, section 9.3.3).

    Columns are flags, 0 or 1: latent class analysis.
    Build it as a `GaussianMixture`, by `from_data`, `with_prior` or `flat`. Fields as in `Mixture`.
    """

    family = BetaBernoulli


@pytree
class GeometricMixture(ProbabilityMixture[BetaGeometric]):
    """x_nd | z_n = k ~ Geometric(p_kd), p_kd ~ Beta(a, b): failures before the first success.

    Build it as a `GaussianMixture`, by `from_data`, `with_prior` or `flat`. Fields as in `Mixture`.
    """

    family = BetaGeometric


class CategoryMixture(ColumnMixture[C_co]):
    """A mixture of rows over categories, with probabilities ~ Dirichlet(category_conc)."""

    @classmethod
    def with_prior(
        cls: type[_K],
        num_components: int,
        *,
        category_conc: ArrayLike,
        conc: ArrayLike | None = None,
        weights: Weights | None = None,
        k_max: int | None = None,
    ) -> _K:
        """Build a mixture with an explicit prior; ValueError names the argument.

        Args:
            category_conc: Pseudo-counts. For counts (c,) or (k, c), all > 0. For codes (d, c) or
                (k, d, c): > 0 for the first categories of a column, 0 beyond its own number.
            num_components, conc, weights, k_max: As in `GaussianMixture.with_prior`.

        Example:
            model = vx.MultinomialMixture.with_prior(3, category_conc=[1, 1, 2], conc=1.0)
        """
        components = prior.with_category_conc(cls.family, num_components, category_conc, k_max)
        return assemble.with_prior(cls, components, num_components, conc, weights, k_max)


@pytree
class CategoricalMixture(CategoryMixture[DirichletCategorical]):
    """x_nd | z_n = k ~ Categorical(p_kd), p_kd ~ Dirichlet(category_conc): codes 0, 1, ...

    This is latent class analysis.
    Build it as a `GaussianMixture`, by `from_data`, `with_prior` or `flat`. Fields as in `Mixture`.
    """

    family = DirichletCategorical

    @classmethod
    def from_data(
        cls,
        x: Data,
        num_components: int,
        *,
        num_categories: prior.Sizes | None = None,
        category_conc: ArrayLike = 0.5,
        conc: ArrayLike | None = None,
        weights: Weights | None = None,
        k_max: int | None = None,
    ) -> CategoricalMixture:
        """Build a mixture with Jeffreys priors by default; ValueError names the argument.

        Args:
            x: Codes 0, 1, ..., array-like (n, d), a frame with text, or a Batch.
            num_categories: One integer, or one per column; None takes each column's largest code
                plus one, which needs data that are not traced.
            category_conc: Pseudo-counts of each category, > 0, or an array as in `with_prior`.
            num_components, conc, weights, k_max: As in `GaussianMixture.from_data`.

        Example:
            answers = np.array([[0, 0], [1, 2], [0, 0], [1, 1]])  # or a frame with text columns
            model = vx.CategoricalMixture.from_data(answers, 2)
            fit = vx.fit(model, answers, key=jax.random.key(0))
        """
        given = {"num_categories": num_categories, "category_conc": category_conc, "k_max": k_max}
        components = prior.codes_from_data(x, num_components, **given)
        return assemble.from_data(cls, x, components, num_components, conc, weights, k_max)

    @classmethod
    def flat(  # type: ignore[override]
        cls,
        num_components: int,
        num_features: int,
        num_categories: prior.Sizes,
        *,
        k_max: int | None = None,
    ) -> CategoricalMixture:
        """Build a mixture without a prior, for `EM`; ValueError names the argument.

        Args:
            num_components, num_features, k_max: As in `GaussianMixture.flat`.
            num_categories: One integer, or one per column.

        Example:
            model = vx.CategoricalMixture.flat(2, 3, [2, 2, 4])  # three columns
        """
        components = prior.flat_codes(num_components, num_features, num_categories, k_max)
        return assemble.flat(cls, components, num_components, k_max)


@pytree
class MultinomialMixture(CategoryMixture[DirichletMultinomial]):
    """x_n | z_n = k ~ Multinomial(total_n, p_k), p_k ~ Dirichlet(category_conc): counts of words.

    Totals are given, not modelled: `sample(..., total=)` takes them, one number or (n,). In `flat`,
    `num_features` is the number of categories.
    Build it as a `GaussianMixture`, by `from_data`, `with_prior` or `flat`. Fields as in `Mixture`.
    """

    family = DirichletMultinomial

    @classmethod
    def from_data(
        cls,
        x: Data,
        num_components: int,
        *,
        category_conc: ArrayLike = 1.0,
        conc: ArrayLike | None = None,
        weights: Weights | None = None,
        k_max: int | None = None,
    ) -> MultinomialMixture:
        """Build a mixture with uniform priors by default; ValueError names the argument.

        Args:
            x: Counts, array-like (n, c) or a Batch, may be traced.
            category_conc: Pseudo-counts of each category, > 0, or an array as in `with_prior`.
            num_components, conc, weights, k_max: As in `GaussianMixture.from_data`.

        Example:
            counts = np.array([[9, 1, 0], [8, 2, 0], [0, 1, 9], [1, 0, 9]])
            model = vx.MultinomialMixture.from_data(counts, 2)
            fit = vx.fit(model, counts, key=jax.random.key(0))
        """
        given = {"category_conc": category_conc, "k_max": k_max}
        components = prior.counts_from_data(x, num_components, **given)
        return assemble.from_data(cls, x, components, num_components, conc, weights, k_max)


@pytree
class MixedMixture(Mixture[Weights, Columns]):
    """z_n ~ Categorical(weights), and each column of row n is drawn from its own family given z_n.

    Rows are dicts of columns, which are independent given the component: latent class and latent
    profile analysis in one. Build it with `from_data`, or from parts as
    `Mixture(weights, Columns({...}))`.
    """

    @classmethod
    def from_data(
        cls,
        x: Data,
        num_components: int,
        kinds: Mapping[Any, str],
        *,
        conc: ArrayLike | None = None,
        weights: Weights | None = None,
        options: Mapping[Any, Mapping[str, Any]] | None = None,
        k_max: int | None = None,
    ) -> MixedMixture:
        """Build a mixture with the default prior of every column's own mixture.

        Raises ValueError for unknown kinds, and for columns without one.

        Args:
            x: A dict of columns (n,) or (n, d), a data frame, or a Batch of either.
            kinds: What each column is: "gaussian", "poisson" (counts), "exponential" (waiting
                times), "bernoulli" (0 or 1), "geometric" (failures before a success),
                "categorical" (codes 0, 1, ...) or "multinomial" (counts of categories). Gaussian
                columns of an (n, d) array are correlated.
            options: Further arguments of a column's `from_data`, such as
                {"size": {"covariance": "diag"}}.
            num_components, conc, weights, k_max: As in `GaussianMixture.from_data`.

        Example:
            table = {"width": [1.0, 1.2, 7.9, 8.1], "visits": [0, 1, 8, 9]}
            kinds = {"width": "gaussian", "visits": "poisson"}
            model = vx.MixedMixture.from_data(table, 2, kinds)
            fit = vx.fit(model, table, key=jax.random.key(0))
        """
        size = check_size(num_components, k_max)
        batch = Batch.of(x).by_name()
        components = table.from_data(batch, num_components, kinds, options=options, k_max=k_max)
        conc = default_conc(conc, weights, num_components)
        weights = from_conc_or_given(conc, weights, num_components, size, batch.weight.dtype)
        return cls(weights, components, switched_on(num_components, size))
