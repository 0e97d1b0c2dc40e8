"""Mixtures of independent columns: counts, waiting times, flags, codes, counts of categories."""

from __future__ import annotations

from typing import ClassVar, TypeVar

from ..._pytree import pytree
from ...data.types import ArrayLike, Data
from ...families.independent.base import Independent
from ...families.independent.beta_bernoulli import BetaBernoulli
from ...families.independent.dirichlet_categorical import DirichletCategorical
from ...families.independent.dirichlet_multinomial import DirichletMultinomial
from ...families.independent.gamma_exponential import GammaExponential
from ...families.independent.gamma_poisson import GammaPoisson
from ...families.weights.base import Weights
from ..mixture import Mixture
from ..priors import categories, columns, rates
from ..priors.weights import default_conc
from . import assemble

_C = TypeVar("_C", bound="ColumnMixture")
_R = TypeVar("_R", bound="RateMixture")
_P = TypeVar("_P", bound="ProbabilityMixture")


class ColumnMixture(Mixture):
    """A mixture whose components are one `family` of independent columns."""

    family: ClassVar[type[Independent]]

    @classmethod
    def flat(
        cls: type[_C], num_components: int, num_features: int, *, k_max: int | None = None
    ) -> _C:
        """Build a mixture without any prior, for maximum likelihood with `EM`.

        As `GaussianMixture.flat`.
        """
        components = columns.flat(cls.family, num_components, num_features, k_max=k_max)
        return assemble.flat(cls, components, num_components, k_max)


class RateMixture(ColumnMixture):
    """A mixture of columns with rates, rate_kd ~ Gamma(shape, rate)."""

    @classmethod
    def from_data(
        cls: type[_R],
        x: Data,
        num_components: int,
        *,
        shape: ArrayLike = 1.0,
        rate: ArrayLike | None = None,
        conc: ArrayLike | None = None,
        weights: Weights | None = None,
        k_max: int | None = None,
    ) -> _R:
        """Build a mixture with a weak default prior at the scale of the data.

        Args:
            x: Array-like (n, d) or a Batch, may be traced; missing entries are left out.
            num_components: Number of components, k.
            shape: Shape of the Gamma prior; 1 makes it an exponential one.
            rate: Rate of the Gamma prior, by default such that for shape = 1 its mean is the
                column's own rate: 1 / column mean for counts, the column mean for waiting times.
                A column of zeros takes the mean of the others, or 1.
            conc: Concentration of the weights, by default 1 / num_components each.
            weights: A prior on the weights in place of `conc`.
            k_max: Number of components to make room for.
        """
        given = {"shape": shape, "rate": rate, "k_max": k_max}
        components = rates.from_data(cls.family, x, num_components, **given)
        conc = default_conc(conc, weights, num_components)
        return assemble.proper(cls, components, conc, weights, num_components, k_max)

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
        """Build a mixture with an explicit prior; raise ValueError by name.

        Args:
            num_components: Number of components, k.
            shape: Shape > 0, in counts, for waiting times in rows: a scalar, (d,) or (k, d).
            rate: Rate > 0, in rows, for waiting times in data units: a scalar, (d,) or (k, d).
            conc: Concentration of the weights in pseudo-rows, > 0: a scalar or (k,).
            weights: A prior on the weights in place of `conc`.
            k_max: Number of components to make room for.
        """
        given = {"shape": shape, "rate": rate, "k_max": k_max}
        components = rates.with_prior(cls.family, num_components, **given)
        return assemble.proper(cls, components, conc, weights, num_components, k_max)


@pytree
class PoissonMixture(RateMixture):
    """x_nd | z_n = k ~ Poisson(rate_kd), rate_kd ~ Gamma(shape, rate): counts.

    Weights ~ Dirichlet(conc) or a stick-breaking process. Build it with `from_data`, `with_prior`
    or `flat`; fields as in `Mixture`.
    """

    family = GammaPoisson


@pytree
class ExponentialMixture(RateMixture):
    """x_nd | z_n = k ~ Exponential(rate_kd), rate_kd ~ Gamma(shape, rate): waiting times.

    Weights ~ Dirichlet(conc) or a stick-breaking process. Build it with `from_data`, `with_prior`
    or `flat`; fields as in `Mixture`.
    """

    family = GammaExponential


class ProbabilityMixture(ColumnMixture):
    """A mixture of columns with a probability, p_kd ~ Beta(a, b)."""

    @classmethod
    def from_data(
        cls: type[_P],
        x: Data,
        num_components: int,
        *,
        a: ArrayLike = 1.0,
        b: ArrayLike = 1.0,
        conc: ArrayLike | None = None,
        weights: Weights | None = None,
        k_max: int | None = None,
    ) -> _P:
        """Build a mixture with uniform priors on the probabilities, unless `a` and `b` are given.

        Args:
            x: Array-like (n, d) or a Batch, may be traced.
            num_components: Number of components, k.
            a: Pseudo-counts of successes, such as flags of 1; as in `with_prior`.
            b: Pseudo-counts of failures, such as flags of 0; as in `with_prior`.
            conc: Concentration of the weights, by default 1 / num_components each.
            weights: A prior on the weights in place of `conc`.
            k_max: Number of components to make room for.
        """
        given = {"a": a, "b": b, "k_max": k_max}
        components = categories.beta_from_data(cls.family, x, num_components, **given)
        conc = default_conc(conc, weights, num_components)
        return assemble.proper(cls, components, conc, weights, num_components, k_max)

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
        """Build a mixture with an explicit prior; raise ValueError by name.

        Args:
            num_components: Number of components, k.
            a: Pseudo-counts of successes, such as flags of 1, > 0: a scalar, (d,) or (k, d).
            b: Pseudo-counts of failures, such as flags of 0, > 0: a scalar, (d,) or (k, d).
            conc: Concentration of the weights in pseudo-rows, > 0: a scalar or (k,).
            weights: A prior on the weights in place of `conc`.
            k_max: Number of components to make room for.
        """
        components = columns.with_prior(cls.family, num_components, k_max=k_max, a=a, b=b)
        return assemble.proper(cls, components, conc, weights, num_components, k_max)


@pytree
class BernoulliMixture(ProbabilityMixture):
    """x_nd | z_n = k ~ Bernoulli(p_kd), p_kd ~ Beta(a, b) (Bishop 2006, section 9.3.3).

    Columns are flags, 0 or 1 (latent class analysis). Weights ~ Dirichlet(conc) or a
    stick-breaking process. Build it with `from_data`, `with_prior` or `flat`; fields as in
    `Mixture`.
    """

    family = BetaBernoulli


@pytree
class CategoricalMixture(ColumnMixture):
    """x_nd | z_n = k ~ Categorical(p_kd), p_kd ~ Dirichlet(category_conc): codes 0, 1, ...

    Weights ~ Dirichlet(conc) or a stick-breaking process (latent class analysis). Build it with
    `from_data`, `with_prior` or `flat`; fields as in `Mixture`.
    """

    family = DirichletCategorical

    @classmethod
    def from_data(
        cls,
        x: Data,
        num_components: int,
        *,
        num_categories: categories.Sizes | None = None,
        category_conc: ArrayLike = 1.0,
        conc: ArrayLike | None = None,
        weights: Weights | None = None,
        k_max: int | None = None,
    ) -> CategoricalMixture:
        """Build a mixture with uniform priors, unless `category_conc` is given.

        Args:
            x: Codes 0, 1, ..., array-like (n, d) or a Batch.
            num_components: Number of components, k.
            num_categories: One integer, or one per column; None takes each column's largest code
                plus one, which needs data that are not traced.
            category_conc: Pseudo-counts of each category, > 0, or an array as in `with_prior`.
            conc: Concentration of the weights, by default 1 / num_components each.
            weights: A prior on the weights in place of `conc`.
            k_max: Number of components to make room for.
        """
        given = {"num_categories": num_categories, "category_conc": category_conc, "k_max": k_max}
        components = categories.categorical_from_data(x, num_components, **given)
        conc = default_conc(conc, weights, num_components)
        return assemble.proper(cls, components, conc, weights, num_components, k_max)

    @classmethod
    def with_prior(
        cls,
        num_components: int,
        *,
        category_conc: ArrayLike,
        conc: ArrayLike | None = None,
        weights: Weights | None = None,
        k_max: int | None = None,
    ) -> CategoricalMixture:
        """Build a mixture with an explicit prior; raise ValueError by name.

        Args:
            num_components: Number of components, k.
            category_conc: Pseudo-counts (d, c) or (k, d, c): > 0 for the first categories of a
                column, and 0 beyond the column's number.
            conc: Concentration of the weights in pseudo-rows, > 0: a scalar or (k,).
            weights: A prior on the weights in place of `conc`.
            k_max: Number of components to make room for.
        """
        given = {"category_conc": category_conc, "k_max": k_max}
        components = categories.categorical_with_prior(num_components, **given)
        return assemble.proper(cls, components, conc, weights, num_components, k_max)

    @classmethod
    def flat(  # type: ignore[override]
        cls,
        num_components: int,
        num_features: int,
        num_categories: categories.Sizes,
        *,
        k_max: int | None = None,
    ) -> CategoricalMixture:
        """Build a mixture without any prior, for maximum likelihood with `EM`.

        `num_categories` is one integer, or one per column. As `GaussianMixture.flat`.
        """
        given = (num_components, num_features, num_categories)
        components = categories.categorical_flat(*given, k_max=k_max)
        return assemble.flat(cls, components, num_components, k_max)


@pytree
class MultinomialMixture(ColumnMixture):
    """x_n | z_n = k ~ Multinomial(total_n, p_k), p_k ~ Dirichlet(category_conc): words, say.

    Totals are given, not modelled: `sample(..., total=)` takes them, one number or (n,). Weights ~
    Dirichlet(conc) or a stick-breaking process. Build it with `from_data`, `with_prior` or `flat`;
    fields as in `Mixture`; `num_features` is the number of categories.
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
        """Build a mixture with uniform priors, unless `category_conc` is given.

        Args:
            x: Counts, array-like (n, c) or a Batch, may be traced.
            num_components: Number of components, k.
            category_conc: Pseudo-counts of each category, > 0, or an array as in `with_prior`.
            conc: Concentration of the weights, by default 1 / num_components each.
            weights: A prior on the weights in place of `conc`.
            k_max: Number of components to make room for.
        """
        given = {"category_conc": category_conc, "k_max": k_max}
        components = categories.multinomial_from_data(x, num_components, **given)
        conc = default_conc(conc, weights, num_components)
        return assemble.proper(cls, components, conc, weights, num_components, k_max)

    @classmethod
    def with_prior(
        cls,
        num_components: int,
        *,
        category_conc: ArrayLike,
        conc: ArrayLike | None = None,
        weights: Weights | None = None,
        k_max: int | None = None,
    ) -> MultinomialMixture:
        """Build a mixture with an explicit prior; raise ValueError by name.

        Args:
            num_components: Number of components, k.
            category_conc: Pseudo-counts > 0, (c,) or (k, c).
            conc: Concentration of the weights in pseudo-rows, > 0: a scalar or (k,).
            weights: A prior on the weights in place of `conc`.
            k_max: Number of components to make room for.
        """
        given = {"category_conc": category_conc, "k_max": k_max}
        components = categories.multinomial_with_prior(num_components, **given)
        return assemble.proper(cls, components, conc, weights, num_components, k_max)
