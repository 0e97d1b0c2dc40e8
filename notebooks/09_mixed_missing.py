# %% [markdown]
# # Mixed and missing data
#
# What this shows: measurements, counts, a flag and a category in one table, 15 % of its entries
# missing. A mixture is fitted to what is there, without filling anything in first; it finds the
# clusters, says what the holes held and how sure that is, and answers for rows of which only one
# column is known. We kept the full table, so every answer is compared with the truth, and we show
# the kind of holes that no such method can repair.

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import norm, poisson
from sklearn.metrics import adjusted_rand_score

import vijax as vx
from vijax.extras import plot

# %% [markdown]
# ## The table
#
# `mixed_table` has three clusters, with shares 0.5, 0.3 and 0.2. We take it without holes, add a
# flag, and punch the holes ourselves: every entry is lost with probability 0.15, whatever it is.

# %%
N = 1000
rng = np.random.default_rng(1)
full, truth = vx.datasets.mixed_table(N, missing=0.0)
full["member"] = (rng.random(N) < np.array([0.1, 0.7, 0.9])[truth]).astype(float)
kinds = {
    "width": "gaussian",
    "length": "gaussian",
    "visits": "poisson",
    "member": "bernoulli",
    "kind": "categorical",
}
hole = {name: rng.random(N) < 0.15 for name in kinds}


def punched(table, hole):
    return {name: np.where(hole[name], np.nan, table[name]) for name in kinds}


table = punched(full, hole)
for i in range(4):
    print({name: round(float(table[name][i]), 1) for name in kinds})
complete = ~np.any([hole[name] for name in kinds], axis=0)
print(f"rows without a hole: {complete.sum()} of {N}")

# %% [markdown]
# ## The fit
#
# Given its cluster, a row's columns are independent, each from its own family:
#
# $$p(x_n) = \sum_k \pi_k \prod_{d \in o_n} p_d(x_{nd} \mid \theta_{kd}),$$
#
# where $o_n$ are the columns that were observed in row $n$. A missing entry is summed or integrated
# over, and since every factor integrates to one it just leaves the product. Nothing is filled in,
# so nothing has to be guessed, and the bound is a bound on the evidence of the observed entries.
# `missing=True` declares that NaN means missing; without it NaN is an error.

# %%
rows = vx.Batch.of(table, missing=True)
model = vx.MixedMixture.from_data(rows, 8, kinds)
key = jax.random.key(0)
fit = vx.fit(model, rows, key=key, num_restarts=8).check()
print(fit.summary())

# %% [markdown]
# Three of eight components keep their weight. Which cluster is which component, and how many rows
# are put into the right one? Rows without holes are easier. The bound to compare with is Bayes'
# rule with the parameters that made the table.


# %%
def component_of_cluster(labels):
    """The component that most rows of each cluster are in."""
    return [int(np.bincount(labels[truth == c]).argmax()) for c in range(3)]


def bayes_rule(table):
    """Probability of each cluster given what is known of a row, at the true parameters."""
    known = {name: np.where(np.isnan(v), 0.0, v)[:, None] for name, v in table.items()}
    p = np.array([0.1, 0.7, 0.9])
    shares = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])
    terms = {
        "width": norm.logpdf(known["width"], [0.0, 3.0, 3.0], 1.0),
        "length": norm.logpdf(known["length"], [10.0, 10.0, 14.0], 1.5),
        "visits": poisson.logpmf(known["visits"], [2.0, 9.0, 5.0]),
        "member": np.log(np.where(known["member"] == 1.0, p, 1.0 - p)),
        "kind": np.log(shares.T[known["kind"][:, 0].astype(int)]),
    }
    log_p = np.log([0.5, 0.3, 0.2]) + sum(
        np.where(np.isnan(table[name])[:, None], 0.0, term) for name, term in terms.items()
    )
    weight = np.exp(log_p - log_p.max(1, keepdims=True))
    return weight / weight.sum(1, keepdims=True)


labels = np.asarray(model.predict(fit.q, rows))
order = component_of_cluster(labels)
right = labels == np.array(order)[truth]
ideal = bayes_rule(table).argmax(1) == truth
used = int(np.sum(np.asarray(fit.q.weights.mean) > 0.01))
print(f"components in use: {used}; clusters 0, 1, 2 are components {order}")
print(f"rows in the right cluster: {right.mean():.1%} (Bayes' rule {ideal.mean():.1%})")
print(f"  without holes {right[complete].mean():.1%}, with holes {right[~complete].mean():.1%}")

# %% [markdown]
# ## What the holes held
#
# `impute` returns for each missing entry the mean and the standard deviation of its distribution
# given the observed entries of its row: a mixture of the components' own distributions, weighted
# by the responsibilities $r_{nk}$,
#
# $$\hat x_{nd} = \sum_k r_{nk}\, m_{kd}, \qquad
# s_{nd}^2 = \sum_k r_{nk}\,\bigl(v_{kd} + (m_{kd} - \hat x_{nd})^2\bigr),$$
#
# with $m_{kd}$ and $v_{kd}$ the mean and the variance of column $d$ in component $k$. Observed
# entries come back as they are, with standard deviation 0.

# %%
filled, sd = (
    {name: np.asarray(value, float) for name, value in part.items()}
    for part in model.impute(fit.q, rows)
)


def rmse(guess, name):
    return np.sqrt(np.mean((guess - full[name])[hole[name]] ** 2))


by_mixture, by_mean, by_cluster = {}, {}, {}
print("root mean square error of the missing entries")
print(f"{'':8}{'holes':>7}{'mixture':>9}{'column mean':>13}{'cluster known':>15}")
for name in ("width", "length", "visits", "member"):
    means = np.array([np.mean(full[name][truth == c]) for c in range(3)])
    by_mixture[name] = rmse(filled[name], name)
    by_mean[name] = rmse(np.nanmean(table[name]), name)
    by_cluster[name] = rmse(means[truth], name)
    print(
        f"{name:8}{hole[name].sum():7d}{by_mixture[name]:9.2f}{by_mean[name]:13.2f}"
        f"{by_cluster[name]:15.2f}"
    )

# %% [markdown]
# The last column imputes the mean of the cluster that the row came from. That is what is left to
# chance when the cluster is known for sure: within a cluster these columns are independent, so no
# other column of the row could tell more (on average: on so few holes luck can be with either).
#
# For a flag the imputed value is the probability of a 1. A category has no mean: `impute` gives the
# most probable level, and in place of a standard deviation the probability of each level. The usual
# guess is the commonest value.

# %%
resp = np.asarray(model.responsibilities(fit.q, rows))
guess = {"member": filled["member"] > 0.5, "kind": filled["kind"]}
hits, usual = {}, {}
for name in guess:
    lost, seen = full[name][hole[name]], table[name][~hole[name]].astype(int)
    hits[name] = np.mean(guess[name][hole[name]] == lost)
    usual[name] = np.mean(np.bincount(seen).argmax() == lost)
    print(f"{name}: right in {hits[name]:.1%} of {len(lost)}, commonest value {usual[name]:.1%}")

# %% [markdown]
# ## Is the stated uncertainty true?
#
# If the stated distributions are right, 68.3 % of a normal's truths lie within one standard
# deviation and 95.4 % within two. Where it is not sure which cluster a row is in, the distribution
# has two or three humps and these figures need not hold; what must hold for any continuous column
# is that the distribution function at the truth, the probability integral transform, is uniform
# between 0 and 1.

# %%
means = {n: np.asarray(fit.q.components.parts[n].mean)[:, 0] for n in ("width", "length")}
sds = {
    n: np.sqrt(np.asarray(fit.q.components.parts[n].covariance)[:, 0, 0])
    for n in ("width", "length")
}
score, level = {}, {}
for name in ("width", "length"):
    lost = full[name][hole[name]]
    score[name] = (lost - filled[name][hole[name]]) / sd[name][hole[name]]
    each = norm.cdf(lost[:, None], means[name], sds[name])
    level[name] = np.sum(resp[hole[name]] * each, 1)
    print(
        f"{name}: within 1 sd {np.mean(abs(score[name]) < 1):.1%},",
        f"within 2 sd {np.mean(abs(score[name]) < 2):.1%};",
        f"between the quartiles {np.mean(abs(level[name] - 0.5) < 0.25):.1%}",
    )
pooled = np.concatenate([score["width"], score["length"]])
within = [np.mean(abs(pooled) < 1), np.mean(abs(pooled) < 2)]
levels = np.concatenate([level["width"], level["length"]])
print(f"both: within 1 sd {within[0]:.1%}, within 2 sd {within[1]:.1%}")

# %%
figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
for ax, name in zip(axes, ("width", "length"), strict=False):
    lost = hole[name]
    for c in range(3):
        mine = lost & (truth == c)
        look = {"color": plot.colour(c), "markersize": 3, "elinewidth": 0.5}
        ax.errorbar(
            full[name][mine],
            filled[name][mine],
            sd[name][mine],
            fmt="o",
            label=f"cluster {c}",
            **look,
        )
    ends = [full[name][lost].min(), full[name][lost].max()]
    ax.plot(ends, ends, color="0.3", linewidth=1)
    ax.set(xlabel=f"{name}, true", ylabel=f"{name}, imputed ± sd")
axes[0].set_ylim(-2.5, 7.0)
axes[0].legend(frameon=False, loc="upper left")
axes[2].hist(levels, np.linspace(0.0, 1.0, 11), density=True, color=plot.colour(0), alpha=0.6)
axes[2].axhline(1.0, color="0.3", linewidth=1)
_ = axes[2].set(xlabel="distribution function at the truth", ylabel="density", xlim=(0.0, 1.0))

# %% [markdown]
# Imputed values lie closer together than true ones: a mean leaves out the scatter about it. A
# table with the means in its holes is no substitute for the data. Its columns vary too little, and
# the stated variances are what is lacking:

# %%
lost = hole["length"]
spread = {
    "true": full["length"][lost].var(),
    "imputed": filled["length"][lost].var(),
    "imputed, plus mean sd^2": filled["length"][lost].var() + np.mean(sd["length"][lost] ** 2),
}
for what, value in spread.items():
    print(f"variance of the missing lengths, {what}: {value:.2f}")

# %% [markdown]
# ## What it costs to ignore the holes
#
# Two common ways around holes: leave out every row that has one (complete cases), or put the
# column's mean or commonest value in them before the fit. Both next to the fit above and to the
# fit of the full table that in practice nobody has. A row of weight 0 is absent, and with all
# masks in place the four fits are one compiled program.


# %%
def refit(table, weight=None):
    rows = vx.Batch.of(table, weight, missing=True)
    model = vx.MixedMixture.from_data(rows, 8, kinds)
    return model, vx.fit(model, rows, key=key, num_restarts=8).check()


def plain(name):
    seen = table[name][~hole[name]]
    if name in ("member", "kind"):
        return np.bincount(seen.astype(int)).argmax()
    return np.round(seen.mean()) if name == "visits" else seen.mean()


def narrowest(q):
    """The smallest standard deviation of a measurement in any component in use."""
    on = np.asarray(q.weights.mean) > 0.01
    parts = [q.components.parts[name].covariance[on, 0, 0] for name in ("width", "length")]
    return float(np.sqrt(np.min(parts)))


cases = {
    "full table": refit(full),
    "holes left out": (model, fit),
    "complete cases": refit(table, complete.astype(float)),
    "filled with means": refit(
        {name: np.where(hole[name], plain(name), table[name]) for name in kinds}
    ),
}
result = {}
print(f"{'':19}{'used':>5}{'agreement':>11}{'length of cluster 2':>21}{'smallest sd':>13}")
for what, (own, found) in cases.items():
    labels = np.asarray(own.predict(found.q, rows))
    k = component_of_cluster(labels)[2]
    part = found.q.components.parts["length"]
    result[what] = {
        "used": int(np.sum(np.asarray(found.q.weights.mean) > 0.01)),
        "agreement": adjusted_rand_score(truth, labels),
        "mean": float(part.mean[k, 0]),
        "error": float(part.mean_sd[k, 0]),
        "narrow": narrowest(found.q),
    }
    r = result[what]
    print(
        f"{what:19}{r['used']:5d}{r['agreement']:11.3f}{r['mean']:14.2f} ± {r['error']:.2f}"
        f"{r['narrow']:13.2f}"
    )

# %% [markdown]
# "Agreement" is the adjusted Rand index of the labels that each fit gives to the rows of the table
# with holes (1: the true clusters, 0: chance). Complete cases are still an honest sample here,
# since the holes depend on nothing, but with less than half of the rows the standard deviation of
# an estimate is 1.4 times as large. Filled holes are worse than lost rows. They are values that no
# cluster has made, and pull each cluster towards the mean of all: the length of cluster 2 is five
# of its own standard deviations below that of the full table, and nothing in the fit says so. The
# last column is the smallest standard deviation of a measurement in any component (the planted ones
# are 1 and 1.5).

# %%
sample = full["length"][truth == 2].mean()
print(f"cluster 2 was planted with mean length 14; its {np.sum(truth == 2)} rows have {sample:.2f}")

# %% [markdown]
# Even the fit of the full table is a little low there. Rows between two clusters are
# shared out by the fit, and their responsibilities are taken as independent of the parameters
# (mean field), so the standard deviations in the table are lower bounds.

# %% [markdown]
# ## When values are missing because they are large
#
# Leaving the holes out of the product is right where values are *missing at random*: whether an
# entry is missing may depend on what was observed in its row, but not, given that, on the missing
# value itself (Rubin 1976). Three ways to lose lengths, all other columns complete:
#
# - completely at random: 40 % of them, whatever they are;
# - at random: 80 % of those where *width*, which is observed, exceeds 1.5, and 10 % of the others;
# - not at random: 80 % of those where *length itself* exceeds 12, and 10 % of the others.
#
# We estimate the mean length of all rows: from the observed lengths alone (here the same as
# the complete cases), and from the table that the mixture completes.

# %%
loss = {
    "completely at random": np.full(N, 0.4),
    "at random (by width)": np.where(full["width"] > 1.5, 0.8, 0.1),
    "not at random (by length)": np.where(full["length"] > 12.0, 0.8, 0.1),
}
target = full["length"].mean()
off, cover, covered_z = {}, {}, {}
print(f"mean length of all rows: {target:.2f}; errors of the estimates")
print(f"{'':26}{'lost':>7}{'observed only':>15}{'mixture':>9}{'within 2 sd':>13}")
for what, chance in loss.items():
    lost = rng.random(N) < chance
    holes = {name: lost & (name == "length") for name in kinds}
    own, found = refit(punched(full, holes))
    part_rows = vx.Batch.of(punched(full, holes), missing=True)
    value, spread_of = (np.asarray(p["length"], float) for p in own.impute(found.q, part_rows))
    z = (full["length"] - value)[lost] / spread_of[lost]
    off[what] = (full["length"][~lost].mean() - target, value.mean() - target)
    cover[what], covered_z[what] = np.mean(abs(z) < 2), z
    print(f"{what:26}{lost.mean():7.0%}{off[what][0]:15.2f}{off[what][1]:9.2f}{cover[what]:13.0%}")

# %%
figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained", sharey=True)
grid = np.linspace(-4.0, 4.0, 200)
for ax, (what, z) in zip(axes, covered_z.items(), strict=True):
    ax.hist(z.clip(-4, 4), np.linspace(-4, 4, 33), density=True, color=plot.colour(0), alpha=0.6)
    ax.plot(grid, norm.pdf(grid), color="0.3", linewidth=1)
    ax.axvline(z.mean(), color=plot.colour(1))
    ax.set(xlabel="(true - imputed) / sd", title=what)
_ = axes[0].set_ylabel("density")

# %% [markdown]
# The vertical line is the mean. Lost by width, the lengths that remain are mostly those of narrow
# rows, and their mean is too low; the mixture knows the width of every row and corrects for it.
# Lost by length, the rows that would tell how long the missing ones were are missing too. The
# mixture does better than the observed mean, because other columns betray the cluster, but it is
# wrong, and it is sure: the imputed values are too short, and the stated standard deviations do not
# cover that. No figure computed from the observed table would show it: data missing at random and
# not at random can look the same. What one can do is to ask how the data were lost, to record what
# the loss may depend on as a further column, and to repeat the analysis with the imputed values
# moved by amounts that one thinks possible.

# %% [markdown]
# ## A row of which one column is known
#
# A new row may have nothing but a count. The other columns are NaN; the rest is as before.

# %%
counts = np.arange(0.0, 19.0)
unknown = np.full(len(counts), np.nan)
one_column = {name: counts if name == "visits" else unknown for name in kinds}
only = vx.Batch.of(one_column, missing=True)
belief = np.asarray(model.responsibilities(fit.q, only))[:, order]
exact = bayes_rule(one_column)
value, spread_of = model.impute(fit.q, only)
for i in (1, 5, 12):
    print(
        f"visits {counts[i]:.0f}: clusters {belief[i].round(2)},",
        f"width {value['width'][i]:.1f} ± {spread_of['width'][i]:.1f},",
        f"length {value['length'][i]:.1f} ± {spread_of['length'][i]:.1f},",
        f"member {value['member'][i]:.2f}",
    )
farthest = np.max(np.abs(belief - exact))
print(f"largest difference from Bayes' rule at the true parameters: {farthest:.3f}")

# %%
ax = plt.subplots(figsize=(7, 3.8), layout="constrained")[1]
for c in range(3):
    ax.plot(counts, belief[:, c], "o-", color=plot.colour(c), markersize=4, label=f"cluster {c}")
    ax.plot(counts, exact[:, c], "--", color=plot.colour(c), linewidth=1)
ax.set(xlabel="visits, all else unknown", ylabel="responsibility", ylim=(0.0, 1.0))
ax.set_xticks(range(0, 19, 3))
_ = ax.legend(frameon=False, loc="center right")

# %% [markdown]
# Dashed lines are Bayes' rule at the true parameters. The predictive density of such a row is that
# of its observed entries alone, so over all counts it sums to one:

# %%
every = np.arange(0.0, 60.0)
nothing = np.full(len(every), np.nan)
grid_rows = vx.Batch.of({n: every if n == "visits" else nothing for n in kinds}, missing=True)
total = float(np.sum(np.exp(np.asarray(model.log_predictive(fit.q, grid_rows), float))))
print(f"sum of the predictive probabilities of 0 .. 59 visits: {total:.4f}")

# %% [markdown]
# What can go wrong: values that are missing because of what they are (above: an error of half a
# unit, and only about three quarters of the truths within two stated standard deviations).
# Imputed means are not data: their variance is a third of the true one here. The stated standard
# deviations take the parameters as known, which is right for 1000 rows and too sure for 30. A wrong
# model of the columns makes wrong imputations even where holes are random; compare predictive
# densities. Within a component the columns of `kinds` are independent; measurements that
# correlate belong in one (n, d) column, "gaussian" with a full covariance. And a code is not a
# number: for unordered categories take the probabilities, not the imputed code.
#
# Sources: D. B. Rubin, *Inference and Missing Data*, Biometrika 63 (1976), 581-592; R. J. A. Little
# and D. B. Rubin, *Statistical Analysis with Missing Data*, Wiley (complete cases, imputation,
# ignorable and non-ignorable loss); Z. Ghahramani and M. I. Jordan, *Supervised learning from
# incomplete data via an EM approach*, NIPS 6 (1994) (mixtures with missing entries).

# %%
assert used == 3
assert right.mean() > ideal.mean() - 0.02
assert right[complete].mean() > right[~complete].mean()
assert all(by_mixture[name] < 0.9 * by_mean[name] for name in by_mean)
assert all(by_mixture[name] > 0.9 * by_cluster[name] for name in by_mean)
assert all(hits[name] > usual[name] + 0.1 for name in hits)
assert abs(within[0] - 0.683) < 0.07
assert abs(within[1] - 0.954) < 0.04
assert abs(np.mean(levels) - 0.5) < 0.06
assert 0.2 < spread["imputed"] / spread["true"] < 0.45
assert abs(spread["imputed, plus mean sd^2"] / spread["true"] - 1.0) < 0.2
assert 0.38 < complete.mean() < 0.5
costs = result["complete cases"]["error"] / result["holes left out"]["error"]
assert 1.25 < costs < 1.6
assert result["complete cases"]["used"] == result["full table"]["used"] == 3
pulled, whole = result["filled with means"], result["full table"]
assert (whole["mean"] - pulled["mean"]) / pulled["error"] > 4.0
assert abs(whole["mean"] - result["complete cases"]["mean"]) < whole["error"]
assert pulled["agreement"] < result["holes left out"]["agreement"]
(_, ok), (naive, mended), (raw, wrong) = off.values()
assert abs(ok) < 0.1
assert naive < -0.25
assert abs(mended) < 0.2
assert raw < wrong < -0.3
assert min(list(cover.values())[:2]) > 0.92
assert cover["not at random (by length)"] < 0.85
assert farthest < 0.12
assert abs(total - 1.0) < 1e-3
