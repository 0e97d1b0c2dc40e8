# %% [markdown]
# # EM for Gaussian mixtures
#
# What this shows: maximum likelihood for a mixture of three Gaussians by expectation maximisation
# (EM). The responsibilities; the lower bound that touches the log-likelihood after every E-step;
# ten restarts in one call; a component that collapses onto a point, and how the fit says so; the
# maximised log-likelihood against the number of components; and what maximum likelihood cannot
# tell.

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np
from scipy.special import entr, logsumexp
from sklearn.mixture import GaussianMixture as SklearnMixture

import vijax as vx
from vijax.extras import plot

x, truth = vx.datasets.long_clusters()
n = len(x)
model = vx.GaussianMixture.flat(num_components=3, num_features=2)
fit = vx.fit(model, x, key=jax.random.key(0), method=vx.EM(), num_restarts=10).check()
print(fit.summary())

# %% [markdown]
# The data are 1000 points in the plane, from three clusters that are long in different directions.
# The model is
#
# $$p(x \mid \theta) = \sum_{c=1}^{C} \pi_c\, \mathcal N(x \mid \mu_c, \Sigma_c).$$
#
# `flat` means that there is no prior, so `EM()` maximises the log-likelihood
# $\sum_i \ln p(x_i \mid \theta)$, and the objective in the table is that log-likelihood in nats.
# The estimate is one point, `fit.q.point()`, and not a distribution: no number has a standard
# deviation.
#
# ## Responsibilities
#
# The E-step computes for every row how probable each component is, given the parameters:
#
# $$r_{ic} = \frac{\pi_c\, \mathcal N(x_i \mid \mu_c, \Sigma_c)}
# {\sum_j \pi_j\, \mathcal N(x_i \mid \mu_j, \Sigma_j)}.$$
#
# The M-step takes weights, means and covariances of the rows, each row counted $r_{ic}$ times.
# Rows between two clusters have a mixed colour on the left. On the right every row is one thin
# column, cut in proportion to its responsibilities.

# %%
estimate = fit.q.point()
resp = np.asarray(model.responsibilities(fit.q, x))
figure, axes = plt.subplots(1, 2, figsize=(12, 4.2), layout="constrained")
plot.plot_mixture(estimate, x, responsibilities=resp, ax=axes[0])
plot.plot_responsibilities(resp, ax=axes[1])
plt.show()

# %%
unsure = np.mean(resp.max(1) < 0.9)
labels = resp.argmax(1)
agree = np.mean([np.bincount(truth[labels == c]).max() / np.sum(labels == c) for c in range(3)])
print(f"rows whose likeliest component has less than 90 %: {unsure:.1%}")
print(f"rows of a component that come from one cluster, mean of the three: {agree:.1%}")

# %% [markdown]
# ## The bound and the log-likelihood
#
# For any responsibilities $r$ and any parameters $\theta$,
#
# $$\mathcal L(\theta, r) = \sum_{i,c} r_{ic}\, \ln \frac{\pi_c\, \mathcal N(x_i \mid \mu_c,
# \Sigma_c)}{r_{ic}} = \ln p(X \mid \theta) - \sum_i \mathrm{KL}\big(r_i \,\|\, p(t_i \mid x_i,
# \theta)\big).$$
#
# The E-step makes the divergence zero, so that right after it the bound *is* the log-likelihood.
# The M-step then raises the bound, and the log-likelihood by at least as much. Often the bound is
# shown after the M-step with the responsibilities from before it; but that is a smaller number than
# the log-likelihood of the new parameters, by the divergence between old and new responsibilities.
#
# `trajectory` returns every iterate. The start is the worst one, random labels, for which all three
# components begin alike.

# %%
states = vx.trajectory(model, x, num_iters=45, key=jax.random.key(0), method=vx.EM(), init="random")
rows = model.as_batch(x)
log_joint = jax.jit(jax.vmap(lambda q: model.log_joint(q.point(), rows)))(states.q)
log_joint = np.asarray(log_joint, np.float64)  # (45, 1000, 3): ln pi_c N(x_i | mu_c, Sigma_c)


def bound(log_joint, resp):
    return np.sum(resp * log_joint + entr(resp), axis=(-2, -1))


log_lik = logsumexp(log_joint, axis=-1)
each_resp = np.exp(log_joint - log_lik[..., None])
log_lik = log_lik.sum(-1)
after_e = bound(log_joint, each_resp)  # same parameters, their own responsibilities
after_m = bound(log_joint[1:], each_resp[:-1])  # new parameters, old responsibilities
gap = log_lik[1:] - after_m

off = np.abs(after_e - log_lik).max(), np.abs(np.asarray(states.elbo) - log_lik).max()
print(f"after E-steps, difference to the log-likelihood: at most {off[0]:.0e} nats")
print(f"objective of the fit (float32), the same:        at most {off[1]:.0e} nats")
print(f"after M-steps: up to {gap.max():.1f} nats, in iteration {gap.argmax() + 2}")

# %%
steps = np.arange(1, 46)
figure, axes = plt.subplots(1, 2, figsize=(12, 3.8), layout="constrained")
axes[0].plot(steps, log_lik, color=plot.colour(0), label="log-likelihood = bound after the E-step")
axes[0].plot(
    steps[1:], after_m, "--", color=plot.colour(1), label="bound after the M-step, old $r$"
)
axes[0].set(xlabel="iteration", ylabel="nats")
axes[0].legend(loc="lower right", frameon=False)
clear = gap > 1e-2  # below that, float32 has nothing to say
axes[1].semilogy(steps[1:][clear], gap[clear], "o-", markersize=3, color=plot.colour(1))
axes[1].set(xlabel="iteration", ylabel="log-likelihood - bound (nats)", xlim=axes[0].get_xlim())
plt.show()

# %% [markdown]
# Both climb, and both end at the same value, so either may be watched; only one of them is the
# log-likelihood. The curve rests twice before it climbs again. A rule that stops when the bound
# changes by less than a share of $10^{-3}$, often seen, takes the first rest for the end. The rule
# here forecasts from the last gains what is still to come, in nats, and waits while gains grow.

# %%
share = np.abs(np.diff(after_m) / after_m[:-1])
stopped = 2 + int(np.argmax(share < 1e-3))  # index of the parameters that the rule returns
start = jax.tree.map(lambda leaf: leaf[0], states.q)  # the first of these iterates
slow = vx.fit(model, x, init=start, method=vx.EM()).check()
lost_share = log_lik[-1] - log_lik[stopped]
lost_forecast = log_lik[-1] - float(slow.elbo)
print(f"share of 1e-3: stops after {stopped} M-steps, {lost_share:.1f} nats too low")
print(f"forecast:      stops in iteration {int(slow.n_iter)}, {abs(lost_forecast):.3f} nats away")

# %% [markdown]
# EM is often said to converge to a local maximum; but what is guaranteed is that the likelihood
# never falls, and the limit can be a saddle point. Equal responsibilities for all rows are one:
# three equal components get equal updates for ever, and the fit ends, converged, at the likelihood
# of a single Gaussian.

# %%
equal = vx.fit(model, x, init=np.full((n, 3), 1 / 3), method=vx.EM())
log_det = np.linalg.slogdet(2 * np.pi * np.cov(x.T, ddof=0))[1]
single = -0.5 * n * (log_det + 2)
print(f"{vx.Status(int(equal.status)).name} at {float(equal.elbo):.2f} nats")
print(f"one Gaussian, exactly: {single:.2f} nats")

# %% [markdown]
# ## Ten restarts
#
# All ten starts of the first fit ran at once, in one compiled program. Their seeds are drawn by
# k-means++. With three components all ten reach the same maximum; with two components they do not.

# %%
two_model = vx.GaussianMixture.flat(2, 2)
two = vx.fit(two_model, x, key=jax.random.key(0), method=vx.EM(), num_restarts=10)
figure, axes = plt.subplots(1, 3, figsize=(14, 3.8), layout="constrained")
plot.plot_elbo(fit, ax=axes[0])
plot.plot_restarts(fit, ax=axes[1])
axes[1].set_ylim(float(fit.elbo) - 1, float(fit.elbo) + 1)
plot.plot_restarts(two, ax=axes[2])
for ax, title in zip(axes, ["3 components", "3 components", "2 components"], strict=True):
    ax.set_title(title)
plt.show()

# %%
three_spread = np.ptp(np.asarray(fit.elbos))
two_ends = np.asarray(two.elbos)
print(f"3 components: all ten within {three_spread:.3f} nats")
print(f"2 components: best {two_ends.max():.1f}, worst {two_ends.min():.1f} nats")

# %% [markdown]
# ## The same in scikit-learn
#
# scikit-learn's `GaussianMixture` takes first parameters in place of responsibilities, so it is
# given those of the slow start above. Its `reg_covar`, a constant that is added to all variances,
# is set to zero. It computes in float64 here, vijax in float32.

# %%
first = start.point()
weights = np.asarray(first.weights.mean, np.float64)
theirs = SklearnMixture(
    3,
    weights_init=weights / weights.sum(),
    means_init=np.asarray(first.components.mean, np.float64),
    precisions_init=np.linalg.inv(np.asarray(first.components.covariance, np.float64)),
    reg_covar=0.0,
    tol=1e-9,
    max_iter=1000,
).fit(x)
their_log_lik = n * theirs.score(x)
resp_gap = np.abs(theirs.predict_proba(x) - model.responsibilities(slow.q, x)).max()
print(f"log-likelihood: vijax {float(slow.elbo):.4f}, scikit-learn {their_log_lik:.4f} nats")
print(f"largest difference of a responsibility: {resp_gap:.1e}")

default = SklearnMixture(3, n_init=10, random_state=0).fit(x)
behind = n * (default.score(x) - default.lower_bound_)
print(f"scikit-learn's defaults: n * score {n * default.score(x):.4f} nats")
print(f"n * lower_bound_ is {behind:.4f} nats less: it is from before the last M-step")

# %% [markdown]
# ## Collapse
#
# The likelihood of a Gaussian mixture has no maximum. Give a fourth component the weight $1 / n$,
# put its mean on the first row, and let its standard deviation $s$ go to zero: the density at that
# row grows as $s^{-2}$, the other rows hardly lose anything, and the log-likelihood gains
# $2 \ln 10 = 4.6$ nats with every power of ten, without end.

# %%
log_p = np.asarray(model.log_likelihood(fit.q, x), np.float64)
sd = 10.0 ** np.arange(0.5, -12.5, -0.5)
square = np.sum((x - x[0]) ** 2, axis=1)
log_spike = -square / (2 * sd[:, None] ** 2) - np.log(2 * np.pi * sd[:, None] ** 2)
spiked = np.logaddexp(log_p + np.log1p(-1 / n), log_spike - np.log(n)).sum(1)
per_decade = spiked[-1] - spiked[-3]
print(f"gain with the last power of ten: {per_decade:.3f} nats")
print(f"gain over the fit with three components: {spiked[-1] - float(fit.elbo):.1f} nats")

# %% [markdown]
# With many rows and few components EM seldom gets there: of the 70 runs on all 1000 rows below none
# does. With few rows and many components it is the rule: 30 rows, fitted with 4 and with 8
# components from 20 starts each. A run that is seen to collapse is stopped and marked COLLAPSED,
# and never returned while another one converged, however high it climbed. (Rounding can end such a
# run a step earlier, as ELBO_DECREASED; `check()` refuses that as well.)

# %%
few = x[:30]
small = vx.GaussianMixture.flat(4, 2)
large = vx.GaussianMixture.flat(8, 2)
four = vx.fit(small, few, key=jax.random.key(0), method=vx.EM(), num_restarts=20)
eight = vx.fit(large, few, key=jax.random.key(0), method=vx.EM(), num_restarts=20)
for name, result in {"4": four, "8": eight}.items():
    collapsed = int(np.sum(np.asarray(result.statuses) == vx.Status.COLLAPSED))
    print(
        f"{name} components: {collapsed} of 20 collapsed, so {vx.Status(int(result.status)).name}"
    )

try:
    eight.check()
except vx.FitError as error:
    print("check() says:", error)

# %% [markdown]
# A proper prior removes the singularity. The same method then finds a posterior mode (in the basis
# of the natural parameters) and no start collapses.

# %%
proper = vx.GaussianMixture.from_data(few, 8)
mode = vx.fit(proper, few, key=jax.random.key(0), method=vx.EM(), num_restarts=20)
gone = int(np.sum(np.asarray(mode.statuses) == vx.Status.COLLAPSED))
print(f"{vx.Status(int(mode.status)).name}; {gone} of 20 collapsed")

# %%
figure, axes = plt.subplots(1, 2, figsize=(12, 3.8), layout="constrained")
axes[0].semilogx(sd, spiked, "o-", markersize=3, color=plot.colour(1))
axes[0].axhline(float(fit.elbo), color="0.5", linewidth=1, label="three components")
axes[0].invert_xaxis()
axes[0].set(xlabel="standard deviation of the fourth component", ylabel="log-likelihood (nats)")
axes[0].legend(loc="upper left", frameon=False)
plot.plot_restarts(four, ax=axes[1])
axes[1].set_title("30 rows, 4 components")
plt.show()

# %% [markdown]
# ## The number of components
#
# A mixture of $C$ components is a mixture of $C + 1$ with one weight zero, so the maximised
# log-likelihood can never fall with $C$. It bends at the true number and goes on rising; the best
# value is not at the bend but at the end of the list. Where to stop must come from elsewhere. BIC
# takes $\frac{1}{2} \ln n$ nats for each of the $6 C - 1$ free parameters (weights, means,
# covariances), a large-sample approximation to the log evidence.

# %%
selection = vx.select_num_components(
    x, range(1, 8), key=jax.random.key(0), num_restarts=10, method=vx.EM()
)
print(selection.summary())

# %%
numbers = np.array(selection.num_components)
top = np.asarray(selection.results.elbo)
ends = np.asarray(selection.results.elbos)
figure, axes = plt.subplots(1, 3, figsize=(14, 3.8), layout="constrained")
axes[0].plot(np.repeat(numbers, 10), ends.ravel(), ".", color="0.7", label="restarts")
axes[0].plot(numbers, top, "o-", color=plot.colour(0), label="best of ten")
axes[0].set(xlabel="number of components", ylabel="log-likelihood (nats)")
axes[0].legend(loc="lower right", frameon=False)
axes[1].plot(np.repeat(numbers[2:], 10), ends[2:].ravel(), ".", color="0.7")
axes[1].plot(numbers[2:], top[2:], "o-", color=plot.colour(0))
axes[1].set(xlabel="number of components", ylabel="log-likelihood (nats)", xticks=numbers[2:])
plot.plot_num_components(selection, ax=axes[2])
plt.show()

# %%
rise = np.diff(top)
spread = np.ptp(ends, axis=1)
print("gained by one more component:", rise.round(1))
print("between the best and the worst restart:", spread.round(1))

# %% [markdown]
# ## What maximum likelihood cannot tell
#
# - *How many components.* The likelihood rises with every one, and is unbounded for two or more.
#   BIC gives an answer, three here, for a price that holds for many rows and for a regular maximum;
#   with a superfluous component the maximum is not regular.
# - *How sure the estimate is.* A point has no standard deviation. The Bayesian mixture in the next
#   notebook has one for every weight and mean, and a bound on the evidence that needs no price per
#   parameter.
#
# What can go wrong: a start at which components are alike is a fixed point, here 1176 nats below
# the maximum, with status CONVERGED; a stopping rule on the relative change can end on a plateau,
# here 1171 nats too low; with two components some of ten starts end 393 nats below the best; from
# four components on the restarts end at different values, so the right part of the curve is what
# ten starts found and need not be the maximum; and with few rows for each component many starts
# collapse, with 30 rows and 8 components all of them.
#
# Sources: Dempster, Laird & Rubin 1977, J. R. Stat. Soc. B 39:1-38 (EM); Bishop 2006, Pattern
# Recognition and Machine Learning, sections 9.2 (mixtures, singularities) and 9.4 (the bound,
# equations 9.70-9.72); Wu 1983, Annals of Statistics 11:95-103 (what EM converges to); Arthur &
# Vassilvitskii 2007, SODA (k-means++); Schwarz 1978, Annals of Statistics 6:461-464 (BIC).

# %%
assert agree > 0.9
assert off[0] < 1e-6
assert off[1] < 0.05
assert np.all(gap > -0.05)
assert gap.max() > 10
assert np.all(np.diff(log_lik) > -0.05)
assert abs(log_lik[-1] - float(fit.elbo)) < 0.05
assert abs(lost_share - 1171) < 2
assert abs(lost_forecast) < 0.05
assert equal.status == vx.Status.CONVERGED
assert abs(float(equal.elbo) - single) < 0.05
assert abs(float(fit.elbo - equal.elbo) - 1176) < 1
assert three_spread < 0.05
assert abs(np.ptp(two_ends) - 393) < 2
assert abs(np.ptp(ends[1]) - 393) < 2
assert abs(float(slow.elbo) - their_log_lik) < 0.05
assert resp_gap < 5e-3
assert behind > 0
assert abs(per_decade - 2 * np.log(10)) < 0.01
assert spiked.max() > top.max()
assert np.sum(np.asarray(four.statuses) == vx.Status.COLLAPSED) >= 3
assert four.status != vx.Status.COLLAPSED
assert eight.status == vx.Status.COLLAPSED
assert gone == 0
assert mode.status == vx.Status.CONVERGED
assert np.all(rise > 0)
assert np.all(np.asarray(selection.results.statuses) != vx.Status.COLLAPSED)
assert selection.best == 3
assert spread[3:].min() > 1
