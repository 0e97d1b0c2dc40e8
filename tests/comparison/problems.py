"""Forty small fits whose bounds must not change: `python -m tests.comparison.problems OUT.json`.

With `--against OLD.json` it prints a Markdown table of both, and fails if any final bound differs
by more than 1e-6 relative. Only the public interface is used, in float64.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ["JAX_ENABLE_X64"] = "1"

import jax  # noqa: E402
import numpy as np  # noqa: E402

import vijax as vx  # noqa: E402

RELATIVE = 1e-6
KEY = jax.random.key(0)
PLANE, TRUTH = vx.datasets.three_clusters()  # (500, 2)
TABLE, _ = vx.datasets.mixed_table(300)  # with holes
KINDS = {"width": "gaussian", "length": "gaussian", "visits": "poisson", "kind": "categorical"}


# -- data -----------------------------------------------------------------------------------------


def holes(x, seed):
    """The same rows with a tenth of their entries NaN, as a Batch."""
    gone = np.random.default_rng(seed).random(x.shape) < 0.1
    return vx.Batch.of(np.where(gone, np.nan, x), missing=True)


def clusters(n, d, k, seed):
    """Rows of k round clusters in d dimensions, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(k, size=n)
    means = 4.0 * rng.normal(size=(k, d))
    return means[labels] + rng.normal(size=(n, d)), labels


def heavy_tails(seed):
    """Two clusters of Student-t rows with 3 degrees of freedom, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=300)
    return 6.0 * labels[:, None] + rng.standard_t(3.0, size=(300, 2)), labels


def groups(seed, n=200):
    """A generator, and one of three groups for each of n rows."""
    rng = np.random.default_rng(seed)
    return rng, rng.integers(3, size=n)


def counts(seed):
    """Counts in three columns, of three groups."""
    rng, group = groups(seed)
    return rng.poisson(np.array([[2.0, 5.0, 1.0], [9.0, 3.0, 4.0], [4.0, 12.0, 8.0]])[group])


def waiting_times(seed):
    """Waiting times in two columns, of three groups."""
    rng, group = groups(seed, 300)
    return rng.exponential(np.array([[1.0, 8.0], [10.0, 1.0], [30.0, 40.0]])[group])


def flags(seed):
    """Flags in six columns, of three groups."""
    rng, group = groups(seed)
    share = rng.choice([0.1, 0.9], size=(3, 6))
    return (rng.random((200, 6)) < share[group]).astype(float)


def codes(seed):
    """Codes of four categories in five columns, of three groups."""
    rng, group = groups(seed)
    share = rng.dirichlet(np.full(4, 0.3), size=(3, 5))[group].cumsum(-1)
    return (rng.random((200, 5, 1)) > share).sum(-1).clip(max=3)


def words(seed):
    """Counts of eight categories, 20 a row, of three groups."""
    rng, group = groups(seed, 150)
    return rng.multinomial(20, rng.dirichlet(np.full(8, 0.5), size=3)[group])


def gaussian(x=PLANE, k=5, **prior):
    """A Gaussian mixture with its default prior, but for what is given."""
    return vx.GaussianMixture.from_data(x, k, **prior)


# -- models ---------------------------------------------------------------------------------------


def full_with_restarts():
    return vx.fit(gaussian(k=6), PLANE, key=KEY, num_restarts=8)


def tied_annealed():
    x, _ = clusters(200, 3, 4, 39)
    model = gaussian(x, 4, covariance="tied", conc=0.5)
    return vx.fit(model, x, key=KEY, init=vx.Annealed("random"))


def diag_accelerated():
    model = gaussian(covariance="diag")
    return vx.fit(model, PLANE, key=KEY, method=vx.Accelerated(vx.CAVI()), num_restarts=2)


def spherical_with_room():
    model = gaussian(k=4, covariance="spherical", k_max=7)
    return vx.fit(model, PLANE, key=KEY, num_restarts=3)


def student_t():
    x, _ = heavy_tails(1)
    return vx.fit(vx.StudentTMixture.from_data(x, 3), x, key=KEY, num_restarts=2)


def student_t_fixed_from_labels():
    x, labels = heavy_tails(2)
    model = vx.StudentTMixture.from_data(x, 2, dof=4.0, covariance="diag")
    return vx.fit(model, x, init=labels)


def poisson():
    x = counts(3)
    return vx.fit(vx.PoissonMixture.from_data(x, 5), x, key=KEY, num_restarts=4)


def exponential_pitman_yor():
    x = waiting_times(4)
    sticks = vx.StickBreaking.pitman_yor(1.0, 0.25, 5)
    model = vx.ExponentialMixture.from_data(x, 5, weights=sticks)
    return vx.fit(model, x, key=KEY, num_restarts=4)


def bernoulli_random():
    x = flags(5)
    model = vx.BernoulliMixture.from_data(x, 3)
    return vx.fit(model, x, key=KEY, init="random", num_restarts=4)


def categorical_halving():
    x = codes(6)
    model = vx.CategoricalMixture.from_data(x, 4)
    return vx.fit(model, x, key=KEY, num_restarts=8, halving=vx.Halving())


def multinomial_from_responsibilities():
    x = words(7)
    resp = np.random.default_rng(8).dirichlet(np.full(3, 0.5), size=len(x))
    return vx.fit(vx.MultinomialMixture.from_data(x, 3), x, init=resp)


def mixed_missing():
    rows = vx.Batch.of(TABLE, missing=True)
    model = vx.MixedMixture.from_data(rows, 5, KINDS)
    return vx.fit(model, rows, key=KEY, num_restarts=4)


def columns_by_hand():
    x, _ = heavy_tails(9)
    table = {"size": x, "visits": np.random.default_rng(10).poisson(np.exp(0.3 * x[:, 0].clip(0)))}
    size = vx.StudentTMixture.from_data(x, 3, dof=5.0)
    visits = vx.PoissonMixture.from_data(table["visits"][:, None], 3, conc=[0.5, 1.0, 2.0])
    columns = vx.Columns({"size": size.components, "visits": visits.components})
    return vx.fit(vx.Mixture(visits.weights, columns), table, key=KEY)


def univariate_exact():
    model = vx.NormalGammaExact.with_prior(mean=9.0, kappa=0.5, shape=2.0, rate=5.0)
    return vx.fit(model, vx.datasets.normal_draws())


def univariate_factorised():
    model = vx.FactorisedGaussian.with_prior(mean=9.0, kappa=0.5, shape=2.0, rate=5.0)
    return vx.fit(model, vx.datasets.normal_draws(60), stop=vx.Stop(tol=1e-9))


# -- priors ---------------------------------------------------------------------------------------


def sticks_truncated():
    model = gaussian(k=8, weights=vx.StickBreaking.dirichlet_process(1.0, 8))
    return vx.fit(model, PLANE, key=KEY, num_restarts=2)


def learned_concentration():
    x, _ = vx.datasets.long_clusters(400)
    model = gaussian(x, 8, weights=vx.DirichletProcess.with_prior(2.0, 1.0, 8))
    return vx.fit(model, x, key=KEY, num_restarts=2)


def preset_sklearn():
    x, _ = vx.datasets.long_clusters(300)
    model = vx.GaussianMixture.with_prior(4, **vx.presets.sklearn(x, 4, "tied"))
    return vx.fit(model, x, key=KEY)


def preset_bishop():
    x, _ = vx.datasets.wide_clusters(300, seed=1)
    model = vx.GaussianMixture.with_prior(5, **vx.presets.bishop(x, 5, "diag"))
    return vx.fit(model, x, key=KEY)


def preset_mclust_em():
    model = vx.GaussianMixture.with_prior(3, **vx.presets.mclust(PLANE, 3))
    return vx.fit(model, PLANE, key=KEY, method=vx.EM())


def flat_em():
    model = vx.GaussianMixture.flat(3, 2)
    return vx.fit(model, PLANE, key=KEY, method=vx.EM(), num_restarts=4)


# -- rows -----------------------------------------------------------------------------------------


def missing_full():
    rows = holes(clusters(200, 4, 3, 11)[0], 12)
    return vx.fit(gaussian(rows, 4), rows, key=KEY)


def missing_diag():
    rows = holes(clusters(200, 5, 3, 13)[0], 14)
    return vx.fit(gaussian(rows, 4, covariance="diag"), rows, key=KEY)


def missing_poisson():
    rows = holes(counts(15).astype(float), 16)
    return vx.fit(vx.PoissonMixture.from_data(rows, 4), rows, key=KEY)


def measurement_noise():
    x, _ = clusters(150, 2, 3, 17)
    error = np.random.default_rng(18).gamma(2.0, 0.3, size=x.shape)
    x = x + np.sqrt(error) * np.random.default_rng(19).normal(size=x.shape)
    return vx.fit(gaussian(x, 4), vx.Batch.of(x, noise=error), key=KEY)


def uniform_noise():
    x = np.concatenate([PLANE[:250], np.random.default_rng(20).uniform(-10.0, 14.0, (50, 2))])
    return vx.fit(gaussian(x, 4, noise=True), x, key=KEY, num_restarts=2)


def labels_and_weights():
    x, truth = clusters(200, 3, 3, 21)
    rng = np.random.default_rng(22)
    label = np.where(rng.random(200) < 0.2, truth, -1)
    rows = vx.Batch.of(x, rng.integers(4, size=200), label=label)
    return vx.fit(gaussian(rows, 4), rows, key=KEY)


def frozen():
    x, truth = clusters(200, 2, 3, 23)
    model = gaussian(x, 3)
    known = vx.fit(model, x, init=truth)
    both = np.concatenate([x, clusters(100, 2, 1, 24)[0] + 20.0])
    return vx.fit(model.freeze(known, np.array([True, False, True])), both, key=KEY)


def previous_result():
    model = gaussian(k=4)
    first = vx.fit(model, PLANE[:150], key=KEY)
    return vx.fit(model, PLANE, init=first)


# -- methods --------------------------------------------------------------------------------------


def moves():
    x, _ = clusters(200, 2, 6, 25)
    return vx.fit(gaussian(x, 8), x, key=KEY, moves=vx.Moves())


def svi():
    method = vx.SVI(batch_size=100)
    return vx.fit(gaussian(), PLANE, key=KEY, method=method, stop=vx.Stop(max_iter=20))


def memoized():
    return vx.fit(gaussian(), PLANE, key=KEY, method=vx.Memoized(num_blocks=5))


def chunks():
    rows = vx.Chunks.of(PLANE, chunk=150)
    return vx.fit(gaussian(rows, 5), rows, key=KEY, num_restarts=2)


def many_stacked():
    sets = np.stack([clusters(60, 2, 3, 26 + i)[0] for i in range(6)])
    return vx.fit_many(lambda x: gaussian(x, 4), sets, key=KEY, num_restarts=3)


def many_ragged():
    sets = [clusters(n, 2, 3, n)[0] for n in (60, 50, 100)]
    return vx.fit_many(gaussian(sets[-1], 4, covariance="diag"), sets, key=KEY)


def streaming():
    first = vx.Streaming(gaussian(PLANE[:250], 4), forget=0.9).update(PLANE[:250], key=KEY)
    return [first.last, first.update(PLANE[250:]).last]


def how_many():
    found = vx.select_num_components(PLANE[:200], range(1, 6), key=KEY, num_restarts=4)
    return found.results


# -- matrix products ------------------------------------------------------------------------------


def products_full():
    x, _ = vx.datasets.long_clusters(5000)
    return vx.fit(gaussian(x), x, key=KEY)


def products_diag():
    x, _ = clusters(5000, 4, 5, 37)
    return vx.fit(gaussian(x, 6, covariance="diag"), x, key=KEY)


def twenty_components_infinite():
    sticks = vx.StickBreaking.dirichlet_process(1.0, 20, truncated=False)
    return vx.fit(gaussian(k=20, weights=sticks), PLANE, key=KEY)


PROBLEMS = [
    full_with_restarts,
    tied_annealed,
    diag_accelerated,
    spherical_with_room,
    student_t,
    student_t_fixed_from_labels,
    poisson,
    exponential_pitman_yor,
    bernoulli_random,
    categorical_halving,
    multinomial_from_responsibilities,
    mixed_missing,
    columns_by_hand,
    univariate_exact,
    univariate_factorised,
    sticks_truncated,
    learned_concentration,
    preset_sklearn,
    preset_bishop,
    preset_mclust_em,
    flat_em,
    missing_full,
    missing_diag,
    missing_poisson,
    measurement_noise,
    uniform_noise,
    labels_and_weights,
    frozen,
    previous_result,
    moves,
    svi,
    memoized,
    chunks,
    many_stacked,
    many_ragged,
    streaming,
    how_many,
    products_full,
    products_diag,
    twenty_components_infinite,
]


# -- records --------------------------------------------------------------------------------------


def record():
    """The bounds, iterations and statuses of every problem, as lists of numbers by name."""
    found = {}
    for problem in PROBLEMS:
        start = time.perf_counter()
        results = problem()
        results = results if isinstance(results, list) else [results]
        found[problem.__name__] = {
            name: [v for r in results for v in np.ravel(getattr(r, name)).tolist()]
            for name in ("elbo", "elbos", "n_iter", "status")
        }
        seconds = time.perf_counter() - start
        sys.stderr.write(f"{seconds:6.1f} s  {problem.__name__}\n")
    return found


def difference(before, after):
    """|before - after| relative to the larger of the two; 0 where they are equal or both NaN."""
    if before == after or (np.isnan(before) and np.isnan(after)):
        return 0.0
    if not (np.isfinite(before) and np.isfinite(after)):
        return np.inf
    return abs(before - after) / max(abs(before), abs(after))


def worst(before, after):
    """The bound of a problem that differs most: before, after, and by how much."""
    pairs = []
    for name in ("elbo", "elbos"):
        old, new = before[name], after[name]
        if len(old) != len(new):
            return len(old), len(new), np.inf
        pairs += [(b, a, difference(b, a)) for b, a in zip(old, new, strict=True)]
    return max(pairs, key=lambda pair: pair[2])


def compare(before, after):
    """A Markdown table of all problems, a list of other changes, and whether all bounds agree."""
    lines = ["| problem | before | after | relative difference |", "|---|---|---|---|"]
    changed, same = [], before.keys() == after.keys()
    for name in before | after:
        if name not in before or name not in after:
            lines.append(f"| {name} | {name in before} | {name in after} | inf |")
            continue
        old, new, gap = worst(before[name], after[name])
        same = same and gap <= RELATIVE
        lines.append(f"| {name} | {old:.10g} | {new:.10g} | {gap:.1e} |")
        for field in ("n_iter", "status"):
            if before[name][field] != after[name][field]:
                changed.append(f"{name}: {field} {before[name][field]} -> {after[name][field]}")
    return lines, changed, same


def main():
    """Run all problems; write what they gave, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", nargs="?", type=Path, help="JSON to write")
    parser.add_argument("--against", type=Path, help="JSON to compare with")
    options = parser.parse_args()
    if options.out is None and options.against is None:
        parser.error("give a file to write, or --against one to compare with")
    sys.stderr.write(f"{vx.__file__}\n")
    start = time.perf_counter()
    after = record()
    sys.stderr.write(f"{time.perf_counter() - start:6.1f} s  in all\n")
    if options.out is not None:
        options.out.write_text(json.dumps(after, indent=1) + "\n")
    if options.against is None:
        return 0
    lines, changed, same = compare(json.loads(options.against.read_text()), after)
    sys.stdout.write("\n".join(lines + ["", *changed]).rstrip() + "\n")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
