# %% [markdown]
# # States that last
#
# What this shows: the daily returns of a share, which are calm for weeks and wild for weeks. A
# mixture sees two kinds of days; a hidden Markov model, which is the same mixture with labels that
# hang together, sees how long each kind lasts. Its bound is comparable with that of the mixture,
# and says by how many nats the order of the days matters. We check maximum likelihood against
# hmmlearn, and let both models forecast days that they have not seen.

# %%
import jax
import matplotlib.cbook
import matplotlib.pyplot as plt
import numpy as np
from hmmlearn.hmm import GaussianHMM

import vijax as vx
from vijax.extras import plot

# %% [markdown]
# ## The sequence
#
# Prices of Google from its first day in August 2004 to October 2008 come with matplotlib. We model
# the daily returns $x_t = 100 \log(p_t / p_{t-1})$, in percent.

# %%
prices = matplotlib.cbook.get_sample_data("goog.npz")["price_data"]
price, date = prices["adj_close"], prices["date"][1:]
x = 100.0 * np.diff(np.log(price))[:, None]
print(f"{len(x)} days from {date[0]} to {date[-1]}, sd {x.std():.2f} %")

# %% [markdown]
# ## The chain against the mixture
#
# Both models draw each day from one of $K$ normal distributions with the same prior. In the
# mixture the label of a day is drawn anew, $p(z_t = k) = \pi_k$; in the chain it depends on the
# day before, $p(z_t = k \mid z_{t-1} = j) = A_{jk}$, with a Dirichlet distribution over each row
# of $A$. The bounds have all constants, so that they are compared as they are. To each number of
# states we add $\log K!$, as the labels may be numbered in any order.

# %%
key = jax.random.key(0)
numbers = [1, 2, 3, 4, 5]
chains = vx.select_num_components(x, numbers, key=key, num_restarts=4, build=vx.HMM)
mixtures = vx.select_num_components(x, numbers, key=key, num_restarts=4)
print("  K    mixture      chain   (nats)")
for k, plain, chain in zip(numbers, mixtures.score, chains.score, strict=True):
    print(f"{k:3d} {plain:10.1f} {chain:10.1f}")

# %% [markdown]
# With one state the two are the same model. From two states on the chain is better, by more than
# twenty nats: calm and wild days do not come in any order.

# %%
model = vx.HMM.from_data(x, 2)
fit = vx.fit(model, x, key=key, num_restarts=4).check()
print(fit.summary())
sd = np.sqrt(np.asarray(fit.q.point().components.covariance)[:, 0, 0])
calm, wild = np.argsort(sd)
stay = np.asarray(fit.q.labels.stay)
print(f"calm days: sd {sd[calm]:.1f} %, {stay[calm]:.0f} in a row")
print(f"wild days: sd {sd[wild]:.1f} %, {stay[wild]:.0f} in a row")

# %%
resp = np.asarray(model.responsibilities(fit, x))
figure = plt.figure(figsize=(11, 4.5), layout="constrained")
axes = figure.subplot_mosaic([["returns", "matrix"], ["price", "matrix"]], width_ratios=[3, 1])
plot.plot_states(resp, x, time=date, ax=axes["returns"])
axes["returns"].set_ylabel("return (%)")
plot.plot_states(resp, price[1:], time=date, ax=axes["price"])
axes["price"].set_ylabel("price (US$)")
_ = plot.plot_transitions(fit, ax=axes["matrix"])

# %% [markdown]
# The colours are the smoothed probabilities $p(z_t \mid x_1, \dots, x_T)$. The last wild time is
# the autumn of 2008.
#
# The most probable path (Viterbi) is one sequence of states for all days, and not the most
# probable state of each day. It changes less often:

# %%
path = np.asarray(model.path(fit, x))
daily = np.asarray(model.predict(fit, x))
changes = [int(np.sum(np.diff(labels) != 0)) for labels in (path, daily)]
print(f"changes of state: {changes[0]} on the most probable path, {changes[1]} day by day")

# %% [markdown]
# ## The same by maximum likelihood, and by hmmlearn
#
# `HMM.flat` has no prior, and `EM` is then Baum and Welch's algorithm. hmmlearn's `GaussianHMM` is
# told to use no prior and starts from our estimate of the posterior.

# %%
flat = vx.HMM.flat(2, 1)
ours = vx.fit(flat, x, init=daily, method=vx.EM(), stop=vx.Stop(tol=1e-7)).check()
log_lik = float(flat.log_likelihood(ours, x)[0])
theirs = GaussianHMM(2, "full", n_iter=2000, tol=1e-4, init_params="", min_covar=0.0)
theirs.covars_prior, theirs.covars_weight = 0.0, 2.0  # 2 = d + 1: no term is left of the prior
point = fit.q.point()
theirs.startprob_ = np.exp(np.asarray(point.labels.initial.log_p, float))
theirs.startprob_ /= theirs.startprob_.sum()
theirs.transmat_ = np.exp(np.asarray(point.labels.transitions.log_p, float))
theirs.transmat_ /= theirs.transmat_.sum(1, keepdims=True)
theirs.means_ = np.asarray(point.components.mean, float)
theirs.covars_ = np.asarray(point.components.covariance, float)
theirs.fit(x)
print(f"log-likelihood: vijax {log_lik:.3f}, hmmlearn {theirs.score(x):.3f}")
print(f"bound on the evidence, with its price for the parameters: {float(fit.elbo):.3f}")

# %% [markdown]
# ## Days that were not seen
#
# Both models are fitted to the first 800 days. How probable are the other days, each given all
# days before it? For the chain that is the difference of two log-likelihoods, $\log p(x_{1:T}) -
# \log p(x_{1:800})$; for the mixture it is a sum, as the past says nothing.

# %%
cut = 800
seen, later = x[:cut], x[cut:]
chain = vx.HMM.from_data(seen, 2)
chain_fit = vx.fit(chain, seen, key=key, num_restarts=4).check()
plain = vx.GaussianMixture.from_data(seen, 2)
plain_fit = vx.fit(plain, seen, key=key, num_restarts=4).check()
both = [float(chain.log_likelihood(chain_fit, rows)[0]) for rows in (x, seen)]
scores = {
    "chain": (both[0] - both[1]) / len(later),
    "mixture": float(np.mean(plain.log_likelihood(plain_fit, later))),
    "one normal": float(
        np.mean(-0.5 * ((later - seen.mean()) / seen.std()) ** 2)
        - np.log(seen.std() * np.sqrt(2 * np.pi))
    ),
}
for name, score in scores.items():
    print(f"{name:11} {score:7.3f} nats per day")

# %% [markdown]
# The chain knows in which kind of time it is, and its next day is as wide as that:

# %%
until = np.asarray(chain.filtered(chain_fit, x))
after = until @ np.asarray(chain_fit.q.labels.transitions.mean)
parts = chain_fit.q.point().components
mean, variance = np.asarray(parts.mean)[:, 0], np.asarray(parts.covariance)[:, 0, 0]
centre = after @ mean
width = np.sqrt(after @ (variance + mean**2) - centre**2)  # of the day after each
ahead, forecast = x[cut:, 0], width[cut - 1 : -1]
order = np.argsort(forecast)
groups = {"narrow": order[: len(order) // 2], "wide": order[len(order) // 2 :]}
half = {name: float(np.median(np.abs(ahead[rows]))) for name, rows in groups.items()}
for name, rows in groups.items():
    print(f"{name:6} forecasts, sd {forecast[rows].mean():.1f} %:", end=" ")
    print(f"half of the returns are within {half[name]:.1f} %")

# %%
figure, ax = plt.subplots(figsize=(9, 3), layout="constrained")
ax.fill_between(date[cut:], -2 * forecast, 2 * forecast, color=plot.colour(0), alpha=0.25)
ax.plot(date[cut:], ahead, ".", color="0.2", markersize=3)
inside = np.mean(np.abs(ahead - centre[cut - 1 : -1]) < 2 * forecast)
_ = ax.set(ylabel="return (%)", title=f"forecast ± 2 sd, one day ahead: {inside:.0%} inside")

# %% [markdown]
# What can go wrong. States are a description and need not be causes: heavy tails of one state look
# like a state of their own (above, a third state of single days has a bound as high as two
# states). The bound compares models on these days under these priors, and the transitions of a
# state that was visited twice are mostly prior. `predict` and `responsibilities` know the whole
# sequence, so that they must not be used to judge forecasts; `filtered` is made for that. And the
# width of the returns may change gradually, where here it jumps from one state to the other.
#
# Sources: L. R. Rabiner, *A tutorial on hidden Markov models*, Proc. IEEE 77 (1989), 257-286; M.
# J. Beal, *Variational algorithms for approximate Bayesian inference*, thesis, University College
# London (2003), chapter 3.

# %%
scores_of = np.asarray(chains.score) - np.asarray(mixtures.score)
assert abs(scores_of[0]) < 0.01
assert (scores_of[1:3] > 15.0).all()
assert np.argmax(chains.score) in (1, 2)
assert sd[wild] > 1.8 * sd[calm]
assert stay[calm] > 15
assert stay[wild] > 5
assert changes[0] <= changes[1]
assert abs(log_lik - theirs.score(x)) < 0.05
assert float(fit.elbo) < log_lik
assert scores["chain"] > scores["mixture"] + 0.03
assert scores["mixture"] > scores["one normal"]
assert half["wide"] > 1.2 * half["narrow"]
assert 0.88 < inside < 0.97
