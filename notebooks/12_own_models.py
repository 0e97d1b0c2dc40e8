# %% [markdown]
# # Models of your own
#
# What this shows: three models that are written as one function each, and fitted by exact updates
# that nobody derives. A linear regression that finds out which inputs matter is equal to updates
# that we derive by hand beside it. A mixture with a label for every row is equal to the library's
# own. A matrix of which half is missing is factorised in 12 lines, and its holes are filled with
# standard deviations that hold. At the end three typical mistakes, what is said to them, and one
# mistake that no check can see.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from scipy.special import digamma, gammaln
from scipy.stats import gamma, multivariate_normal, poisson

import vijax as vx
from vijax.extras import plot

LOG_2PI = float(np.log(2 * np.pi))

# %% [markdown]
# ## The idea
#
# Mean field takes $q(\theta) = \prod_i q_i(\theta_i)$. If $p$ is conjugate, the expected log joint
# density
#
# $$E(m) = \mathbb{E}_q[\log p(x, \theta)]$$
#
# is a function of the expected statistics $m_i = \mathbb{E}[T_i(\theta_i)]$ of the factors, and
# affine in each of them. The best $q_i$ given the others has the natural parameters
#
# $$\eta_i = \eta_i^{\text{prior}} + \frac{\partial E}{\partial m_i},$$
#
# so the update of every factor is a gradient (Winn and Bishop 2005), and JAX has gradients.
# An `Energy` is a dict of factors and the function $E$. The statistics have names:
#
# | factor | statistics |
# | --- | --- |
# | `normal` | `x` is $\mathbb{E}[x]$, `xx` is $\mathbb{E}[x^2]$ or $\mathbb{E}[x x^\top]$ |
# | `gamma` | `x` is $\mathbb{E}[x]$, `log` is $\mathbb{E}[\log x]$ |
# | `dirichlet` | `log` is $\mathbb{E}[\log x]$ |
# | `categorical` | `one` is the probability of each label |
# | `wishart` | `x` is $\mathbb{E}[\Lambda]$, `logdet` is $\mathbb{E}[\log \lvert\Lambda\rvert]$ |

# %% [markdown]
# ## Which inputs matter
#
# A linear regression with a precision for each coefficient, learned with the coefficients
# (automatic relevance determination; MacKay 1994):
#
# $$y_n \sim N(x_n^\top w, \tau^{-1}), \quad w_j \sim N(0, \alpha_j^{-1}), \quad
# \alpha_j \sim \mathrm{Gamma}(0.01, 0.01), \quad \tau \sim \mathrm{Gamma}(1, 1).$$
#
# Twelve inputs, of which three matter:

# %%
N, D = 60, 12
rng = np.random.default_rng(0)
w_true = np.zeros(D)
w_true[[1, 4, 8]] = [2.0, -1.5, 0.8]
x = rng.normal(size=(N, D))
y = x @ w_true + rng.normal(size=N)


def likelihood(m, rows):
    x, y, w, tau = rows["x"], rows["y"], m["w"], m["tau"]
    square = jnp.sum(y**2 - 2 * y * (x @ w["x"])) + jnp.sum((x.T @ x) * w["xx"])
    return 0.5 * len(y) * (tau["log"] - LOG_2PI) - 0.5 * tau["x"] * square


def relevance(m):
    alpha, square = m["alpha"], jnp.diagonal(m["w"]["xx"])
    return 0.5 * jnp.sum(alpha["log"] - LOG_2PI - alpha["x"] * square)


def energy(m, rows, weight):
    return likelihood(m, rows) + relevance(m)


factors = {
    "w": vx.factor.free(vx.factor.normal((), D)),
    "alpha": vx.factor.gamma(D, shape=0.01, rate=0.01),
    "tau": vx.factor.gamma(shape=1.0, rate=1.0),
}
regression = vx.Energy(factors, energy)
tight = vx.Stop(tol=1e-5)
fit = vx.fit(regression, {"x": x, "y": y}, key=jax.random.key(0), stop=tight).check()
print(fit.summary())

# %% [markdown]
# Factors with fixed priors carry them; the prior of $w$ has another factor in it, so $w$ is `free`
# and its prior is written in the energy. That is all: the posterior of $w$ has a full covariance,
# and the bound has every constant.
#
# By hand the same model is this. Completing squares gives
#
# $$q(w) = N(\mathbb{E}[\tau]\, V X^\top y,\; V), \qquad
# V^{-1} = \mathbb{E}[\tau]\, X^\top X + \operatorname{diag} \mathbb{E}[\alpha],$$
#
# $$q(\alpha_j) = \mathrm{Gamma}(0.01 + \tfrac12,\; 0.01 + \tfrac12 \mathbb{E}[w_j^2]), \qquad
# q(\tau) = \mathrm{Gamma}(1 + \tfrac N2,\; 1 + \tfrac12 \mathbb{E}\lVert y - Xw \rVert^2),$$
#
# and the bound needs the entropy of every factor and the expected logarithm of every density. It is
# in float64, and runs to the end:


# %%
def by_hand(x, y):
    e_alpha, e_tau = np.ones(D), 1.0
    for _ in range(2000):
        v = np.linalg.inv(e_tau * x.T @ x + np.diag(e_alpha))
        mean = e_tau * v @ x.T @ y
        square = v + np.outer(mean, mean)
        b_alpha = 0.01 + 0.5 * np.diag(square)
        e_alpha = 0.51 / b_alpha
        b_tau = 1 + 0.5 * (y @ y - 2 * mean @ x.T @ y + np.sum(x.T @ x * square))
        e_tau = (1 + N / 2) / b_tau
    log_tau, log_alpha = digamma(1 + N / 2) - np.log(b_tau), digamma(0.51) - np.log(b_alpha)
    elbo = 0.5 * N * (log_tau - LOG_2PI) - e_tau * (b_tau - 1)
    elbo += 0.5 * np.sum(log_alpha - LOG_2PI - e_alpha * np.diag(square))
    elbo += np.sum(0.01 * np.log(0.01) - gammaln(0.01) - 0.99 * log_alpha - 0.01 * e_alpha)
    elbo += -e_tau + multivariate_normal(mean, v).entropy()
    elbo += gamma(1 + N / 2, scale=1 / b_tau).entropy()
    elbo += np.sum(gamma(0.51, scale=1 / b_alpha).entropy())
    return mean, v, e_alpha, e_tau, elbo


mean, v, e_alpha, e_tau, elbo = by_hand(x, y)
off = {
    "means of w, in sds": np.max(np.abs(fit.q["w"].mean - mean) / np.sqrt(np.diag(v))),
    "covariance of w, relative": np.max(np.abs(fit.q["w"].covariance - v)) / np.max(v),
    "E[alpha], relative": np.max(np.abs(fit.q["alpha"].mean / e_alpha - 1)),
    "E[tau], relative": abs(float(fit.q["tau"].mean) / e_tau - 1),
    "ELBO, nats": abs(float(fit.elbo) - elbo),
}
for what, value in off.items():
    print(f"{what:26}{value:.1e}")

# %%
least_squares, *_ = np.linalg.lstsq(x, y)
sd = np.sqrt(np.diag(fit.q["w"].covariance))
figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4), layout="constrained")
place = np.arange(D)
left.axhline(0.0, color="0.8", linewidth=1)
left.plot(place, w_true, "_", color="0.2", markersize=18, label="true")
left.plot(place - 0.2, least_squares, "s", color=plot.colour(1), label="least squares")
left.errorbar(
    place + 0.2, fit.q["w"].mean, 2 * sd, fmt="o", color=plot.colour(0), label="posterior, ± 2 sd"
)
left.set(xlabel="input", ylabel="coefficient", xticks=place)
left.legend(frameon=False)
right.semilogy(place, fit.q["alpha"].mean, "o", color=plot.colour(0))
right.set(xlabel="input", ylabel="E[alpha], a prior precision", xticks=place)
error = {
    "least squares": np.sqrt(np.mean((least_squares - w_true) ** 2)),
    "relevance": np.sqrt(np.mean((np.asarray(fit.q["w"].mean) - w_true) ** 2)),
}
print({name: round(float(value), 3) for name, value in error.items()}, "rms error of w")

# %% [markdown]
# Three coefficients have a small prior precision and are nearly left as they are; the other nine
# are pulled towards zero.
#
# ## A label for every row
#
# Counts of three kinds of rows, $x_n \sim \mathrm{Poisson}(\lambda_{z_n})$ with $z_n$ unknown. A
# factor with one member per row is `local`. It is declared as that of one row, and in the energy
# its statistics have the rows in front. Rows are then independent given the other factors, and each
# of them counts by its weight:

# %%
counts = np.concatenate([rng.poisson(rate, n) for rate, n in ((2, 150), (9, 100), (25, 50))])
counts = counts.astype(float)


def log_factorial(x):
    return jax.scipy.special.gammaln(x + 1)


def poisson_mixture(m, x, weight):
    z, rate, pi = m["z"], m["rate"], m["pi"]
    log_p = x[:, None] * rate["log"] - rate["x"] - log_factorial(x)[:, None]
    return jnp.sum(weight[:, None] * z["one"] * (log_p + pi["log"]))


mixture = vx.Energy(
    {
        "pi": vx.factor.dirichlet((), 3, conc=2.0),
        "rate": vx.factor.gamma(3, shape=1.0, rate=0.1),
        "z": vx.factor.categorical((), 3),
    },
    poisson_mixture,
    local=("z",),
)
key = jax.random.key(1)
own = vx.fit(mixture, counts, key=key, num_restarts=4, stop=tight).check()
print(own.summary())

# %% [markdown]
# The library's mixture with the same prior, started from our labels:

# %%
library = vx.PoissonMixture.with_prior(3, conc=jnp.full(3, 2.0), shape=1.0, rate=0.1)
labels = np.asarray(mixture.row_posterior(own, counts)["z"].probs)
theirs = vx.fit(library, counts[:, None], init=labels, stop=tight).check()
up, up_theirs = np.argsort(own.q["rate"].mean), np.argsort(theirs.q.components.mean[:, 0])
resp = np.asarray(library.responsibilities(theirs, counts[:, None]))
same = {
    "ELBO, nats": abs(float(own.elbo - theirs.elbo)),
    "rates": np.max(
        np.abs(own.q["rate"].mean[up] - theirs.q.components.mean[up_theirs, 0])
        / np.asarray(own.q["rate"].sd)[up]
    ),
    "labels": np.max(np.abs(labels[:, up] - resp[:, up_theirs])),
}
print(f"ELBO {float(own.elbo):.4f} and {float(theirs.elbo):.4f} nats")
print({name: f"{float(value):.1e}" for name, value in same.items()}, "apart")

# %% [markdown]
# With `local` every driver works: `Chunks` from a disk, `SVI`, `fit_many`, several devices. A
# weight counts as so many equal rows, so the 300 rows may be given as their different values:

# %%
values, times = np.unique(counts, return_counts=True)
weighted = vx.fit(mixture, vx.Batch.of(values, times), init=own, key=key, stop=tight).check()
print(f"{len(values)} values with weights: ELBO {float(weighted.elbo):.4f} nats")

# %%
grid = np.arange(0, 45)
pi, rate = np.asarray(own.q["pi"].mean), np.asarray(own.q["rate"].mean)
ax = plt.subplots(figsize=(7, 3.8), layout="constrained")[1]
ax.bar(grid, np.bincount(counts.astype(int), minlength=45)[:45], color="0.85", label="rows")
for i, k in enumerate(up):
    ax.plot(
        grid,
        len(counts) * pi[k] * poisson.pmf(grid, rate[k]),
        "o-",
        color=plot.colour(i),
        markersize=3,
        label=f"rate {rate[k]:.1f} ± {float(own.q['rate'].sd[k]):.1f}",
    )
ax.set(xlabel="count", ylabel="rows")
_ = ax.legend(frameon=False)
planted = [counts[:150].mean(), counts[150:250].mean(), counts[250:].mean()]
print("means of the planted groups:", np.round(planted, 2))

# %% [markdown]
# The stated standard deviations are too small where labels are in doubt, as between the first two
# groups: mean field takes labels as independent of rates, here as in the library's mixture.
#
# ## A matrix with holes
#
# $R_{ij} \sim N(u_i^\top v_j, \tau^{-1})$, seen in half of the cells. No row or column is an
# independent row here, since every $v_j$ meets every $u_i$, so nothing is `local`: the data are one
# whole, a dict with the matrix and with what was seen. The library has no such model. These are the
# 12 lines:


# %%
def factorise(R, seen, rank, key):
    def energy(m, rows, weight):
        u, v, tau, R, seen = m["u"], m["v"], m["tau"], rows["R"], rows["seen"]
        square = jnp.sum(seen * R * (R - 2 * u["x"] @ v["x"].T))
        square += jnp.einsum("ij,iab,jab->", seen, u["xx"], v["xx"])
        log_tau = tau["log"] - jnp.log(2 * jnp.pi)
        return 0.5 * jnp.sum(seen) * log_tau - 0.5 * tau["x"] * square

    u, v = vx.factor.normal(len(R), rank), vx.factor.normal(R.shape[1], rank)
    model = vx.Energy({"u": u, "v": v, "tau": vx.factor.gamma(shape=1.0, rate=1.0)}, energy)
    return vx.fit(model, {"R": R, "seen": seen}, key=key, num_restarts=4).check()


# %%
ROWS, COLUMNS, RANK, NOISE = 60, 40, 3, 0.3
signal = rng.normal(size=(ROWS, RANK)) @ rng.normal(size=(RANK, COLUMNS))
R_full = signal + NOISE * rng.normal(size=signal.shape)
seen = (rng.random(R_full.shape) < 0.5).astype(float)
R = np.where(seen == 1, R_full, 0.0)  # what is in a hole is multiplied by 0
with jax.enable_x64(True):
    factorised = factorise(R, seen, RANK, key)
noise = float(factorised.q["tau"].mean) ** -0.5
print(f"{factorised!r}, noise {noise:.3f}")

# %% [markdown]
# This is in float64, for here large terms of the energy cancel: $\tau/2 \sum R_{ij}^2$ alone is
# some 20 000 nats in a bound of -1029, and in float32 some starts end as ELBO_DECREASED, by 0.01
# nats of rounding.
#
# The bound has every constant, so fits of other ranks can be compared by it, without cells held
# out. A cell of $q$ has
#
# $$\mathbb{E}[R_{ij}] = \mathbb{E}[u_i]^\top \mathbb{E}[v_j], \qquad
# \operatorname{Var}[R_{ij}] = \operatorname{tr}\!\left(\mathbb{E}[u_i u_i^\top]\,
# \mathbb{E}[v_j v_j^\top]\right) - \mathbb{E}[R_{ij}]^2 + \mathbb{E}[\tau^{-1}].$$


# %%
@jax.jit
def imputed(q):
    """Means and standard deviations of all cells."""
    m = q.statistics()
    mean = m["u"]["x"] @ m["v"]["x"].T
    spread = jnp.einsum("iab,jab->ij", m["u"]["xx"], m["v"]["xx"]) - mean**2
    noise = q["tau"].rate / (q["tau"].shape - 1.0)  # E[1 / tau] of a gamma
    return mean, jnp.sqrt(spread + noise)


hole = seen == 0
with jax.enable_x64(True):
    filled, filled_sd = map(np.asarray, imputed(factorised.q))
by_mean = (R.sum(0) / seen.sum(0))[None] + np.zeros_like(R)  # the mean of the column
rmse = {
    "column means": np.sqrt(np.mean((by_mean - R_full)[hole] ** 2)),
    "factorisation": np.sqrt(np.mean((filled - R_full)[hole] ** 2)),
    "the noise itself": np.sqrt(np.mean((signal - R_full)[hole] ** 2)),
}
z = ((filled - R_full) / filled_sd)[hole]
within = [np.mean(np.abs(z) < k) for k in (1, 2)]
for what, value in rmse.items():
    print(f"{what:18}{value:.3f} rms error in {hole.sum()} holes")
print(f"within 1 and 2 sd: {within[0]:.1%}, {within[1]:.1%} (normal: 68.3 %, 95.4 %)")

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
picture = left.imshow(np.where(hole, np.nan, R_full), cmap="RdBu", vmin=-5, vmax=5, aspect="auto")
left.set(title="what was seen (grey: holes)", xlabel="column", ylabel="row", facecolor="0.75")
figure.colorbar(picture, ax=left)
some = rng.choice(hole.sum(), 150, replace=False)
right.plot([-6, 6], [-6, 6], color="0.6", linewidth=1)
right.errorbar(
    R_full[hole][some],
    filled[hole][some],
    2 * filled_sd[hole][some],
    fmt="o",
    color=plot.colour(0),
    markersize=3,
    linewidth=0.7,
)
_ = right.set(
    title="150 holes", xlabel="true", ylabel="imputed, ± 2 sd", xlim=(-6, 6), ylim=(-6, 6)
)

# %% [markdown]
# ## What is said to mistakes
#
# Before its first fit an energy is looked at: whether it is affine in the statistics of each
# factor, and whether every update is a density. Here $\mathbb{E}[w]^2$ is written in the place of
# $\mathbb{E}[w^2]$:


# %%
def said(model, data):
    """What the check says, or that it is content."""
    try:
        vx.fit(model, data, key=jax.random.key(0))
    except ValueError as error:
        return str(error)
    return "nothing"


def square_of_a_mean(m, rows, weight):
    x, y, w, tau = rows["x"], rows["y"], m["w"], m["tau"]
    square = jnp.sum((y - x @ w["x"]) ** 2)  # the variance of w is missing
    return 0.5 * len(y) * (tau["log"] - LOG_2PI) - 0.5 * tau["x"] * square + relevance(m)


data = {"x": x, "y": y}
message_square = said(vx.Energy(factors, square_of_a_mean), data)
print(message_square)

# %% [markdown]
# A sign of the log density that is wrong:


# %%
def wrong_sign(m, rows, weight):
    return -likelihood(m, rows) + relevance(m)


message_sign = said(vx.Energy(factors, wrong_sign), data)
print(message_sign)

# %% [markdown]
# And rows that do not count by their weights, in a model with `local`:


# %%
def no_weights(m, x, weight):
    return poisson_mixture(m, x, jnp.ones_like(weight))


message_weight = said(vx.Energy(mixture.factors, no_weights, local=("z",)), counts)
print(message_weight)

# %% [markdown]
# A constant that is left out cannot be seen, for that is a model, too: $q$ is the same, and the
# bound is off by as much. It is wrong only beside another model that has its constants.


# %%
def without_a_constant(m, rows, weight):
    return energy(m, rows, weight) + 0.5 * len(rows["y"]) * LOG_2PI


shift = float(vx.elbo(vx.Energy(factors, without_a_constant), fit, data) - fit.elbo)
print(f"the bound is {shift:.3f} nats too high; N log(2 pi) / 2 = {0.5 * N * LOG_2PI:.3f}")

# %% [markdown]
# What can go wrong: an energy has the statistics of its factors and nothing else, so a logistic
# likelihood, a scale with a half-normal prior or a product of three weights of one factor is no
# `Energy`; take `LogDensity`, which fits any density with a gradient. Mean field drops what the
# posterior knows of factors together: where $u$ and $v$ are uncertain the stated standard
# deviations are too small, and one factor for what belongs together (`w` above, with its full
# covariance) is better than two. The signs of $u$ and $v$, and any rotation of both, are free:
# compare cells, not factors. Starts differ, so take several: `fit.agreeing` says how many found the
# best. In float32 an energy sees a variance as $\mathbb{E}[x^2] - \mathbb{E}[x]^2$; centre and
# scale the data. And the function is a part of the compiled program: one that is defined anew for
# every call is compiled anew.
#
# Sources: J. Winn and C. M. Bishop, *Variational message passing*, JMLR 6 (2005), 661-694;
# M. D. Hoffman, D. M. Blei, C. Wang and J. Paisley, *Stochastic variational inference*, JMLR 14
# (2013), 1303-1347; D. J. C. MacKay, *Bayesian nonlinear modelling for the prediction competition*,
# ASHRAE Transactions 100 (1994) (relevance); C. M. Bishop, *Pattern Recognition and Machine
# Learning*, Springer (2006), sections 7.2.1 and 10.3; R. Salakhutdinov and A. Mnih, *Bayesian
# probabilistic matrix factorization using Markov chain Monte Carlo*, ICML (2008).

# %%
assert max(off.values()) < 1e-3
assert error["relevance"] < 0.8 * error["least squares"]
assert set(np.argsort(fit.q["alpha"].mean)[:3]) == {1, 4, 8}
assert max(float(value) for value in same.values()) < 1e-3
assert abs(float(weighted.elbo - own.elbo)) < 1e-2
assert abs(noise / NOISE - 1.0) < 0.1
assert rmse["factorisation"] < 1.2 * NOISE < 0.5 * rmse["column means"]
assert abs(within[0] - 0.683) < 0.04
assert abs(within[1] - 0.954) < 0.03
assert "not affine in the statistics of 'w'" in message_square
assert "the update of 'tau' is no density" in message_sign
assert "not 0 if all weights are 0" in message_weight
assert abs(shift - 0.5 * N * LOG_2PI) < 1e-3
