# %% [markdown]
# # The Bayesian mixture
#
# What this shows: a mixture of Gaussians with a prior on every parameter, fitted by coordinate
# ascent (CAVI). The updates, checked against a few lines of NumPy; the evidence lower bound (ELBO)
# with every constant, which never falls; 3 and 20 components against maximum likelihood; pruning;
# and what the prior decides and what it does not.

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np
from scipy.special import digamma, gammaln, multigammaln

import vijax as vx
from vijax.extras import plot

y, truth = vx.datasets.three_clusters()
n, d = y.shape
prior = {"conc": 1.0, "mean": y.mean(0), "kappa": 1.0, "df": 2.0, "scatter": 10.0}
model = vx.GaussianMixture.with_prior(6, **prior)
fit = vx.fit(model, y, key=jax.random.key(0), num_restarts=16).check()
print(fit.summary())

# %% [markdown]
# ## Prior and updates
#
# The names of vijax are in brackets.
#
# $$p(\pi) = \mathrm{Dir}(\pi \mid \alpha_0), \qquad p(\mu_k \mid \Lambda_k) = \mathcal N(\mu_k
# \mid m_0, (\beta_0 \Lambda_k)^{-1}), \qquad p(\Lambda_k) = \mathcal W(\Lambda_k \mid W_0, \nu_0)$$
#
# with $\alpha_0$ (`conc`), $\beta_0$ (`kappa`), $m_0$ (`mean`), $\nu_0$ (`df`) and $W_0^{-1}$
# (`scatter`), so that $\mathbb E[\Lambda_k] = \nu_0 W_0$. The posterior is approximated by
# $q(Z)\, q(\pi) \prod_k q(\mu_k, \Lambda_k)$. Each factor at its best, given the others:
#
# **Responsibilities** (10.46, 10.49, 10.64-10.66), $r_{nk} \propto \rho_{nk}$ with
#
# $$\ln \rho_{nk} = \mathbb E[\ln \pi_k] + \tfrac12 \mathbb E[\ln |\Lambda_k|] - \tfrac d2 \ln 2\pi
# - \tfrac12 \Big( \frac{d}{\beta_k} + \nu_k (x_n - m_k)^\top W_k (x_n - m_k) \Big),$$
#
# $$\mathbb E[\ln \pi_k] = \psi(\alpha_k) - \psi\big(\textstyle\sum_j \alpha_j\big), \qquad
# \mathbb E[\ln |\Lambda_k|] = \sum_{i=1}^{d} \psi\Big(\frac{\nu_k + 1 - i}{2}\Big) + d \ln 2 +
# \ln |W_k|.$$
#
# **Parameters**, from $N_k = \sum_n r_{nk}$, $\bar x_k = \frac1{N_k} \sum_n r_{nk} x_n$ and
# $S_k = \frac1{N_k} \sum_n r_{nk} (x_n - \bar x_k)(x_n - \bar x_k)^\top$,
# with $T_k = \frac{\beta_0 N_k}{\beta_0 + N_k} (\bar x_k - m_0)(\bar x_k - m_0)^\top$
# (`c` is short for `q.components`):
#
# | | | |
# | --- | --- | --- |
# | (10.58) | $\alpha_k = \alpha_0 + N_k$ | `q.weights.conc` |
# | (10.60) | $\beta_k = \beta_0 + N_k$ | `c.kappa` |
# | (10.61) | $m_k = (\beta_0 m_0 + N_k \bar x_k) / \beta_k$ | `c.mean` |
# | (10.62) | $W_k^{-1} = W_0^{-1} + N_k S_k + T_k$ | `c.scatter` |
# | (10.63) | $\nu_k = \nu_0 + N_k$ | `c.df` |
#
# The next cell does that once in NumPy (float64) and compares with one iteration of vijax.

# %%
states = vx.trajectory(model, y, num_iters=100, key=jax.random.key(0), init="random")


def numbers(i):
    """Iterate i: alpha, beta, m, W^-1, nu."""
    q = jax.tree.map(lambda leaf: leaf[i], states.q)
    c = q.components
    return [np.asarray(a, np.float64) for a in (q.weights.conc, c.kappa, c.mean, c.scatter, c.df)]


def e_log_det(scatter, nu):
    each = digamma(0.5 * (nu[:, None] - np.arange(d))).sum(1)
    return each + d * np.log(2) - np.linalg.slogdet(scatter)[1]


def numpy_step(alpha, beta, m, scatter, nu):
    move = y[:, None] - m
    square = np.einsum("nki,kij,nkj->nk", move, np.linalg.inv(scatter), move)
    log_rho = digamma(alpha) - digamma(alpha.sum()) + 0.5 * e_log_det(scatter, nu)
    log_rho = log_rho - 0.5 * d * np.log(2 * np.pi) - 0.5 * (d / beta + nu * square)
    resp = np.exp(log_rho - np.logaddexp.reduce(log_rho, axis=1, keepdims=True))
    count = resp.sum(0)
    mean = resp.T @ y / count[:, None]
    within = np.einsum("nk,nki,nkj->kij", resp, y[:, None] - mean, y[:, None] - mean)
    off = mean - prior["mean"]
    pull = prior["kappa"] * count / (prior["kappa"] + count)
    return [
        prior["conc"] + count,
        prior["kappa"] + count,
        (prior["kappa"] * prior["mean"] + count[:, None] * mean)
        / (prior["kappa"] + count)[:, None],
        prior["scatter"] * np.eye(d)
        + within
        + pull[:, None, None] * off[:, :, None] * off[:, None],
        prior["df"] + count,
    ]


worst = 0.0
for i in (0, 10, 30):
    for mine, theirs in zip(numpy_step(*numbers(i)), numbers(i + 1), strict=True):
        worst = max(worst, np.max(np.abs(mine - theirs)) / np.max(np.abs(mine)))
print(f"largest relative difference: {worst:.1e}")

# %% [markdown]
# ## The bound
#
# The ELBO is $\mathbb E_q[\ln p(X, Z, \theta)] - \mathbb E_q[\ln q(Z, \theta)]$ (10.70-10.77), in
# nats, and never above the log evidence $\ln p(X)$. With one component $q$ is the exact posterior,
# and the bound must be the evidence itself, which has a closed form: the ratio of the
# normalisers of the posterior and the prior. That tests every constant.

# %%
one = vx.GaussianMixture.with_prior(1, **prior)
alone = vx.fit(one, y, key=jax.random.key(0)).check()


def log_wishart(nu, scatter):
    """Log normaliser of the Wishart."""
    return multigammaln(nu / 2, d) - nu / 2 * np.linalg.slogdet(scatter / 2)[1]


def log_normalizer(kappa, nu, scatter):
    """Of the Normal-Wishart."""
    return log_wishart(nu, scatter) + d / 2 * np.log(2 * np.pi / kappa)


scatter = prior["scatter"] * np.eye(d)
total = scatter + (y - y.mean(0)).T @ (y - y.mean(0))  # the prior mean is the data mean
evidence = log_normalizer(1.0 + n, 2.0 + n, total) - log_normalizer(1.0, 2.0, scatter)
evidence = evidence - n * d / 2 * np.log(2 * np.pi)
print(f"one component: ELBO {float(alone.elbo):.3f}, log evidence {evidence:.3f} nats")

# %% [markdown]
# Every update maximises the bound over one factor, so it cannot fall. Where a computed bound falls,
# the computation is wrong. A version often shown leaves out $\mathbb E[\ln p(\Lambda_k)]$, counts
# $d\beta_0/\beta_k$ and $d/2$ twice, and has the wrong sign at $\ln \Gamma$ and at $\nu_k d/2$ in
# the entropy of the Wishart, where $\ln \pi$ is missing too. Its updates are right,
# so the fit is too, but its bound is not. Here are both, at the same iterates.

# %%
before = jax.tree.map(lambda leaf: leaf[:60], states.q)
after = jax.tree.map(lambda leaf: leaf[1:61], states.q)


@jax.jit
@jax.vmap
def after_update(before, after):
    return model.elbo(after, y, model.responsibilities(before, y))


exact = np.asarray(after_update(before, after), np.float64)
wrong = []
for i in range(1, 61):
    _, beta, _, inverse, nu = numbers(i)
    shape = 0.5 * (nu[:, None] - np.arange(d))
    trace = prior["scatter"] * np.trace(np.linalg.inv(inverse), axis1=1, axis2=2)
    left_out = 0.5 * (prior["df"] - d - 1) * e_log_det(inverse, nu) - 0.5 * nu * trace
    left_out = left_out - log_wishart(prior["df"], scatter)
    twice = d / 2 - 0.5 * d * prior["kappa"] / beta
    signs = -nu * d - 2 * gammaln(shape).sum(1) - 0.25 * d * (d - 1) * np.log(np.pi)
    wrong.append(np.sum(twice + signs - left_out))
flawed = exact + np.array(wrong)
falls = int(np.sum(np.diff(flawed) < -0.01))
never = np.diff(exact).min()
error = np.abs(flawed - exact).max()
print(f"exact bound: largest fall {max(0.0, -never):.4f} nats (rounding of float32)")
print(f"the other one falls in {falls} of 59 iterations and is up to {error:.0f} nats off")

# %%
figure, axes = plt.subplots(1, 3, figsize=(14, 3.8), layout="constrained")
plot.plot_mixture(fit.q, y, ax=axes[0])
plot.plot_elbo(fit, ax=axes[1])
steps = np.arange(2, 62)
axes[2].plot(steps, exact - exact[0], color=plot.colour(0), label="exact")
axes[2].plot(steps, flawed - flawed[0], "--", color=plot.colour(1), label="flawed")
axes[2].set(xlabel="iteration", ylabel="bound, less its first value (nats)")
axes[2].legend(loc="best", frameon=False)
plt.show()

# %% [markdown]
# The same figures can be drawn with Plotly, to zoom and to hover over rows:
# `plot.plot_mixture(fit.q, y, backend="plotly").show()`.
#
# The bound is often compared with the log-likelihood at the posterior means, as if the two should
# meet. They should not: the ELBO bounds the log *evidence*, the likelihood averaged over the prior,
# and lies below that log-likelihood by what the parameters cost.

# %%
at_means = float(np.sum(np.asarray(model.log_likelihood(fit.q, y), np.float64)))
print(f"log-likelihood at the posterior means {at_means:.1f}, ELBO {float(fit.elbo):.1f} nats")

# %% [markdown]
# ## Three and twenty components, EM and Bayes
#
# 500 points from three round clusters with standard deviation 3, two of them close. We fit 3 and 20
# components, by maximum likelihood (`flat` and `EM()`, at most 200 iterations) and with the default
# prior, each from 8 starts. What counts is the density of rows that were not seen: 9833 of the same
# clusters.

# %%
x, _ = vx.datasets.wide_clusters()
more, cluster = vx.datasets.wide_clusters(10_000)
new = ~np.isin(more[:, 0], x[:, 0])  # the generator repeats some rows of x
fresh, cluster = more[new], cluster[new]
key = jax.random.key(0)
fits, scores = {}, {}
for k in (3, 20):
    likely = vx.GaussianMixture.flat(k, 2)
    bayes = vx.GaussianMixture.from_data(x, k)
    stop = vx.Stop(max_iter=200)
    fits["EM", k] = vx.fit(likely, x, key=key, num_restarts=8, method=vx.EM(), stop=stop)
    fits["Bayes", k] = vx.fit(bayes, x, key=key, num_restarts=8).check()
    for name, made in {"EM": likely, "Bayes": bayes}.items():
        q = fits[name, k].q
        scores[name, k] = [float(made.log_predictive(q, rows).mean()) for rows in (x, fresh)]

centres = np.stack([fresh[cluster == k].mean(0) for k in range(3)])
square = np.sum((fresh[:, None] - centres) ** 2, axis=2) / 9
ideal = np.mean(np.logaddexp.reduce(-square / 2, axis=1)) - np.log(3 * 2 * np.pi * 9)
ended = {k: vx.Status(int(fits["EM", k].status)).name for k in (3, 20)}
print("EM ended as", ended, "(MAX_ITER: after 200 iterations)")
print("log-density per row (nats)    of x   of fresh rows")
for (name, k), (own, other) in scores.items():
    print(f"{name:>6}, {k:2} components       {own:.3f}   {other:.3f}")
print(f"the clusters themselves                {ideal:.3f}")

# %%
em, vb = fits["EM", 20], fits["Bayes", 20]
em_weights = np.sort(np.asarray(em.q.weights.mean))[::-1]
used = np.asarray(vb.q.weights.mean) >= 0.01
sd = np.asarray(vb.q.weights.sd)[used]
print("EM, weights:   ", em_weights.round(3))
print("Bayes, weights:", np.asarray(vb.q.weights.mean)[used].round(3), "with sd", sd.round(3))

figure, axes = plt.subplots(2, 2, figsize=(11, 7.5), layout="constrained")
plot.plot_mixture(em.q.point(), x, ax=axes[0, 0], sigmas=[1.0])
plot.plot_weights(em.q.point(), ax=axes[0, 1])
plot.plot_mixture(vb.q, x, ax=axes[1, 0], sigmas=[1.0])
plot.plot_weights(vb.q, ax=axes[1, 1])
axes[0, 1].set(ylabel="weight", ylim=(0, 0.4))
axes[1, 1].set(ylim=(0, 0.4))
axes[0, 0].set_title("EM, 20 components")
axes[1, 0].set_title("Bayes, 20 components")
plt.show()

# %% [markdown]
# Twenty components by EM describe the 500 points better and all others worse. The Bayesian fit
# keeps three, and predicts as well as with three from the start. Its bound for 20 components is
# lower than that for 3. Each bound is that of one order of the components; the three in use can
# stand in $3!$ and in $20!/17!$ orders, and with these counted about 3 nats remain in favour of
# three.

# %%
lead = float(fits["Bayes", 3].elbo - fits["Bayes", 20].elbo)
orders = np.log(20 * 19 * 18) - np.log(6)
print(f"ELBO with 3 less ELBO with 20: {lead:.1f} nats; orders counted, {lead - orders:.1f} nats")

# %% [markdown]
# ## Pruning
#
# Unused components stay in $q$ at their prior, with next to no weight. `prune` leaves them out, for
# reading and for predicting; the bound remains that of the whole fit.

# %%
pruned = vx.prune(vb)
print(pruned.summary())
small = vx.GaussianMixture.from_data(x, 3)
change = float(small.log_predictive(pruned.q, fresh).mean()) - scores["Bayes", 20][1]
print(f"log-density of fresh rows changes by {change:+.4f} nats per row")

# %% [markdown]
# ## What the prior decides
#
# Six components on the three clusters, with every combination of a concentration $\alpha_0$ from
# 0.001 to 10 and a $\beta_0$ from 0.01 to 10, each from 8 starts: 160 fits in one call.

# %%
concs, kappas = [0.001, 0.01, 0.1, 1.0, 10.0], [0.01, 0.1, 1.0, 10.0]
models = [vx.GaussianMixture.from_data(y, 6, conc=c, kappa=b) for c in concs for b in kappas]
copies = np.broadcast_to(y, (len(models), n, d))
many = vx.fit_many(models, copies, key=jax.random.key(0), num_restarts=8)
num_used = np.sum(np.asarray(many.q.weights.mean) >= 0.01, axis=1).reshape(5, 4)
elbo = np.asarray(many.elbo).reshape(5, 4)

figure, axes = plt.subplots(1, 3, figsize=(14, 3.9), layout="constrained")
for ax, values, form, title in [
    (axes[0], num_used, "{:.0f}", "components with weight >= 0.01"),
    (axes[1], elbo - elbo.max(), "{:.0f}", "ELBO less the best (nats)"),
]:
    ax.imshow(values, cmap="Blues", alpha=0.5, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        ax.text(j, i, form.format(value + 0.0), ha="center", va="center")
    ax.set_xticks(range(4), kappas)
    ax.set_yticks(range(5), concs)
    ax.set(xlabel=r"$\beta_0$ (kappa)", ylabel=r"$\alpha_0$ (conc)", title=title)
ordered = jax.vmap(vx.relabel)(many)
mean_sd = np.asarray(ordered.q.components.mean_sd).reshape(5, 4, 6, d)[1, :, :3]
means = np.asarray(ordered.q.components.mean).reshape(5, 4, 6, d)[1, :, :3]
for k in range(3):
    axes[2].semilogx(kappas, mean_sd[:, k, 0], "o-", color=plot.colour(k), label=f"{k}, x0")
    axes[2].semilogx(kappas, mean_sd[:, k, 1], "s--", color=plot.colour(k), label=f"{k}, x1")
axes[2].set(xlabel=r"$\beta_0$ (kappa)", ylabel=r"sd of a mean", title=r"$\alpha_0 = 0.01$")
axes[2].legend(ncols=3, fontsize=8, frameon=False)
plt.show()

# %% [markdown]
# - $\alpha_0$ decides how many components are used. Up to 0.1 it is three, at 1 three or four, at
#   10 all six. With $\alpha_0 = 1$ an unused component keeps a weight of $1 / (n + 6)$, one
#   pseudo-row of 506.
# - $\beta_0$ is not a price for more components but for means far from $m_0$. At 10 rows it draws
#   the means toward the middle by a few per cent; and as the distance is charged to the covariance
#   (10.62), a tighter prior makes most means *less* certain here: of the six standard deviations
#   five grow, one by 23 %, and one stays. The bound falls by 93 nats and says so.

# %%
centre = y.mean(0)
shrink = np.linalg.norm(means[3] - centre, axis=1) / np.linalg.norm(means[1] - centre, axis=1)
grow = mean_sd[3] / mean_sd[1]
cost = elbo[1, 1] - elbo[1, 3]
print("kappa from 0.1 to 10:")
print("distances of the means to the middle, times", shrink.round(3))
print("sd of the means, times", ", ".join(f"{value:.2f}" for value in grow.ravel()))
print(f"ELBO lower by {cost:.1f} nats")

# %% [markdown]
# What can go wrong: a start may end with two clusters in one component. None of the 16 of the first
# fit does, but in other data some do, so there are several (`fit.agreeing` counts those that found
# the best); a large concentration (10 here) uses all components, so
# the number found is an answer under the prior; a large $\beta_0$ pulls the means (at 10
# by 3 to 9 per cent of their distance) and inflates covariances; the standard deviations tend to
# be too small, since $q$ treats assignments and parameters as independent; and bounds of different
# numbers of components compare only with relabellings counted, as `select_num_components` does.
#
# Sources: Bishop 2006, Pattern Recognition and Machine Learning, section 10.2 (equations 10.46,
# 10.49, 10.58-10.66, 10.70-10.77; the predictive density 10.81; relabellings in 10.2.4); Attias
# 1999, UAI (variational Bayes for mixtures); Rousseau & Mengersen 2011, J. R. Stat. Soc. B
# 73:689-710 (which concentrations empty superfluous components).

# %%
assert worst < 1e-4
assert abs(float(alone.elbo) - evidence) < 0.02
assert never > -0.01
assert falls >= 10
assert error > 1000
assert np.sum(np.asarray(fit.q.weights.mean) >= 0.01) == 3
assert np.all(np.asarray(many.status) == vx.Status.CONVERGED)
ends = np.sort(np.asarray(fit.elbos))
assert np.ptp(ends) < 0.01
assert at_means - float(fit.elbo) > 20
assert len(fresh) == 9833
assert scores["EM", 20][0] > scores["EM", 3][0] + 0.1
assert scores["EM", 20][1] < scores["EM", 3][1] - 0.2
assert abs(scores["Bayes", 20][1] - scores["Bayes", 3][1]) < 0.01
assert scores["Bayes", 20][1] > scores["EM", 3][1] - 0.01
assert ideal > max(other for _, other in scores.values())
assert used.sum() == 3
assert np.sum(em_weights >= 0.01) > 10
assert 2 < lead - orders < 5
assert len(pruned.q.weights.mean) == 3
assert abs(change) < 0.01
assert np.all(num_used[:3] == 3)
assert sorted(set(num_used[3])) == [3, 4]
assert np.all(num_used[4] == 6)
assert shrink.min() > 0.9
assert shrink.max() < 0.98
assert np.sum(grow > 1.03) == 5
assert abs(grow.min() - 1) < 0.01
assert abs(grow.max() - 1.23) < 0.02
assert abs(cost - 92.6) < 1.5
